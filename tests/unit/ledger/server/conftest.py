from __future__ import annotations

import pytest
from shared_database import numbers, prefixes


@pytest.fixture(scope="module")
def shared(server):
    return server.initialised()


@pytest.fixture
def database(shared):
    """A database in which nothing of another test is seen."""
    prefixes[shared] = f"{next(numbers)}/"
    return shared
