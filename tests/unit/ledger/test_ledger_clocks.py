"""Clocks that are behind what a ledger says, or were ahead of it."""

from __future__ import annotations

from bookkeeping import UID, Clock, a_run, opened, record, the_books, whole_run


def test_a_clock_that_is_behind_follows_the_ledger(path):
    whole_run(the_books(path, clock=Clock(5000.0)), "ahead", {"a": "failed"}, started=5000.0)
    behind = the_books(path, clock=Clock(4000.0))
    whole_run(behind, outcomes={"a": "passed"}, started=4000.0, seed=2)

    assert behind.now() > 5000.0
    with opened(path) as store:
        (cell,) = store.cells()
        assert (cell.verdict.outcome, cell.verdict.run) == ("passed", UID)
        assert [run.uid for run in store.runs()] == ["ahead", UID]
        assert store.history(verdicts=False).last_seed == 2
        assert all(run.started <= run.ended for run in store.runs())


def test_a_clock_that_is_behind_follows_a_run_that_never_ended(path):
    clock = Clock(1000.0)
    killed = the_books(path, clock=clock)
    killed.begin(a_run("killed"))
    clock.now = 5000.0
    record(killed, "a", "failed")

    whole_run(the_books(path, clock=Clock(4000.0)), outcomes={"a": "passed"}, started=4000.0)
    with opened(path) as store:
        (cell,) = store.cells()
    assert cell.verdict.run == UID
    killed.end()


def test_a_clock_that_was_far_ahead_undoes_nothing_that_this_run_finds_out(path):
    far = 5000.0 + 40 * 86400
    whole_run(the_books(path, clock=Clock(far)), "far", {"a": "passed"}, started=far)
    books = whole_run(
        the_books(path, clock=Clock(4000.0)), outcomes={"a": "failed"}, started=4000.0
    )
    (problem,) = books.problems
    assert "knows of times that are 40 days ahead of this clock" in problem
    with opened(path) as store:
        (cell,) = store.cells()
        assert (cell.verdict.outcome, cell.verdict.run) == ("failed", UID)
        assert store.newest() > far


def test_a_clock_that_is_right_is_left_alone(path):
    whole_run(the_books(path, clock=Clock(1000.0)), "first", started=1000.0)
    books = whole_run(the_books(path, clock=Clock(2000.0)), started=2000.0)
    assert books.now() == 2000.0
    assert books.run.started == 2000.0
