from __future__ import annotations

import pytest
from steered import ITEMS, LEDGER, LOOPS, Ledger


@pytest.fixture
def items(project):
    project.file("test_it", ITEMS)
    return Ledger(project.pytester.path / LEDGER, loops=False)


@pytest.fixture
def loops(project):
    project.file("test_it", LOOPS)
    return Ledger(project.pytester.path / LEDGER, loops=True)
