"""Thousands of sessions of the state machine, and every mend taken back."""

from __future__ import annotations

import pytest
from books.machine import drive
from books.machine import machine as make
from books.mutations import MUTATIONS
from books.suites import BEHAVIOURS, IN_WORKERS
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

BOUNDED = settings(
    deadline=None, database=None, suppress_health_check=list(HealthCheck), print_blob=False
)


@pytest.fixture
def machine(pytester, monkeypatch):
    def of(**given):
        return make(pytester, monkeypatch, **given)

    return of


def test_sessions_in_one_process(machine):
    run_state_machine_as_test(
        machine(), settings=settings(BOUNDED, max_examples=400, stateful_step_count=12)
    )


def test_sessions_with_workers_and_kills(machine):
    run_state_machine_as_test(
        machine(workers=True, kills=True, kinds=(*BEHAVIOURS, *IN_WORKERS)),
        settings=settings(BOUNDED, max_examples=60, stateful_step_count=8),
    )


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda one: one.name)
def test_a_mend_that_is_taken_back_is_found(pytester, monkeypatch, mutation):
    mutation.take_back(monkeypatch)
    with pytest.raises(AssertionError):
        drive(pytester, monkeypatch, range(60), steps=6, **mutation.given)
