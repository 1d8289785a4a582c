from __future__ import annotations

import pytest
from failing_server import Clock, Server

from dtype_sampler.ledger import spooling
from dtype_sampler.ledger.spooling import ServerBooks


@pytest.fixture(autouse=True)
def rarely(monkeypatch):
    """Nothing is shipped before the end, unless a test wants it."""
    monkeypatch.setattr(spooling, "EVERY", 3600.0)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture
def server(tmp_path):
    return Server(tmp_path / "server.sqlite")


@pytest.fixture
def the_books(folder, server):
    made = []

    def make(place=server, **options):
        made.append(ServerBooks(place, folder, keep=200, clock=Clock(), **options))
        return made[-1]

    yield make
    for books in made:
        books.close()
