from __future__ import annotations

from collections.abc import Iterator

import pytest

from postgres_host import Server, shared_server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A PostgreSQL server; the databases that are asked of it are gone at the end."""
    found = shared_server(tmp_path_factory)
    yield found
    found.drop()


@pytest.fixture
def database(server: Server) -> str:
    """The URL of a database of the test's own, with an empty ledger."""
    return server.initialised()
