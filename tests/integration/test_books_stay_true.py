"""Random suites, run in random ways, against what their tests saw happen.

What is run here hangs on seeds alone: it is the same on every machine. `tests/nightly` has
thousands more, which Hypothesis draws.
"""

from __future__ import annotations

import pytest
from books.machine import drive
from books.mutations import MUTATIONS
from books.suites import BEHAVIOURS, IN_WORKERS


def test_sessions_in_one_process(pytester, monkeypatch):
    """Some hundred sessions."""
    drive(pytester, monkeypatch, range(16), steps=8)


@pytest.mark.usefixtures("unmeasured")
def test_sessions_with_workers(pytester, monkeypatch):
    pytest.importorskip("xdist", reason="needs pytest-xdist")
    kinds = (*BEHAVIOURS, *IN_WORKERS)
    drive(pytester, monkeypatch, range(4), steps=3, workers=True, kinds=kinds, only=["in_workers"])


@pytest.mark.parametrize(
    "mutation", [one for one in MUTATIONS if not one.slow], ids=lambda one: one.name
)
def test_a_mend_that_is_taken_back_is_found(pytester, monkeypatch, mutation):
    mutation.take_back(monkeypatch)
    with pytest.raises(AssertionError):
        drive(pytester, monkeypatch, range(30), steps=5, **mutation.given)
