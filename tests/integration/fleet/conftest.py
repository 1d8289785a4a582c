from __future__ import annotations

import pytest
from on_server import TESTS


@pytest.fixture
def proxy(server, database):
    # Needs psycopg, without which every test of this room is skipped.
    from proxy import PASSWORD, Proxy

    made = Proxy(server.asking(database, PASSWORD))
    yield made
    made.stop()


@pytest.fixture
def fleet(project, proxy, monkeypatch):
    """A project whose ledger is on a server, behind a proxy."""
    monkeypatch.setenv("DTYPE_SAMPLER_LEDGER", proxy.url)
    monkeypatch.delenv("DTYPE_SAMPLER_PROJECT", raising=False)
    project.file("test_it", TESTS)
    return project
