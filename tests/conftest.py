from __future__ import annotations

import gc
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from postgres_host import Server, shared_server

MEMORY = Path("/dev/shm")


def pytest_configure(config: pytest.Config) -> None:
    """Have temporary files in memory where there is room: a ledger waits for the disk otherwise,
    a dozen times a run, and there are thousands of runs.
    """
    if "PYTEST_DEBUG_TEMPROOT" in os.environ or not os.access(MEMORY, os.W_OK):
        return
    # Tests start programs that they write.
    may_not_run = os.statvfs(MEMORY).f_flag & os.ST_NOEXEC
    if not may_not_run and shutil.disk_usage(MEMORY).free > 4 * 2**30:
        os.environ["PYTEST_DEBUG_TEMPROOT"] = str(MEMORY)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Take torch and the tests out of what Python searches for garbage: they stay to the end, and
    a fifth of the time of pytest's runs inside this process went into that.
    """
    gc.freeze()


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
