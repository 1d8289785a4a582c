"""Random suites, run in random ways, against what their tests saw happen."""

from __future__ import annotations

import pytest
from books.machine import machine as make
from books.mutations import MUTATIONS
from books.suites import BEHAVIOURS, IN_WORKERS
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

BOUNDED = settings(
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    # Shrinking takes minutes; the nightly run does it.
    phases=(Phase.generate,),
    print_blob=False,
)


@pytest.fixture
def machine(pytester, monkeypatch):
    def of(**given):
        return make(pytester, monkeypatch, **given)

    return of


def test_sessions_in_one_process(machine):
    """Some hundred sessions."""
    run_state_machine_as_test(
        machine(),
        settings=settings(
            BOUNDED,
            max_examples=16,
            stateful_step_count=8,
        ),
    )


def test_sessions_with_workers(machine):
    pytest.importorskip("xdist", reason="needs pytest-xdist")
    run_state_machine_as_test(
        machine(workers=True, kinds=(*BEHAVIOURS, *IN_WORKERS), only=("in_workers",)),
        settings=settings(BOUNDED, max_examples=4, stateful_step_count=3),
    )


@pytest.mark.parametrize(
    "mutation", [one for one in MUTATIONS if not one.slow], ids=lambda one: one.name
)
def test_a_mend_that_is_taken_back_is_found(machine, monkeypatch, mutation):
    mutation.take_back(monkeypatch)
    bounds = settings(BOUNDED, max_examples=30, stateful_step_count=5)
    with pytest.raises(AssertionError):
        run_state_machine_as_test(machine(**mutation.given), settings=bounds)
