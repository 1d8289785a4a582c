"""Random suites, run in random ways, against what their tests saw happen."""

from __future__ import annotations

from pathlib import Path

import pytest
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
    monkeypatch.syspath_prepend(Path(__file__).parents[2])
    from tests.books.machine import machine

    def of(**given):
        return machine(pytester, monkeypatch, **given)

    return of


def test_sessions_in_one_process(machine):
    run_state_machine_as_test(
        machine(),
        settings=settings(
            BOUNDED,
            max_examples=int(__import__("os").environ.get("NEX", "15")),
            stateful_step_count=12,
        ),
    )
