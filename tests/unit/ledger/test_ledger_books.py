"""A run that nothing disturbs, in the books."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing

import pytest
from bookkeeping import (
    LABELS,
    UID,
    Clock,
    a_run,
    files,
    opened,
    outcomes_in,
    record,
    the_books,
    whole_run,
)

from dtype_sampler.ledger.outcomes import Cell
from dtype_sampler.ledger.records import Mark, Observed, TestRecord
from dtype_sampler.ledger.sqlite import SqliteStore
from dtype_sampler.sampling.plan import History


@pytest.mark.parametrize("named", [False, True])
def test_nothing_is_made_before_the_first_test_with_a_sample(path, named):
    books = the_books(path, named=named)
    assert books.read(verdicts=True) == History()
    assert books.past([Cell("t", "a", "cpu")]) == []
    books.end({"t"})
    assert files(path.parent) == []
    assert books.problems == []


def test_a_run_is_written_down(path):
    clock = Clock(1000.0)
    books = the_books(path, clock=clock)
    assert books.read(verdicts=False) == History()
    books.begin(a_run(seed=7))
    record(books, "a", "passed")
    clock.now = 1001.0
    record(books, "b", "failed")
    record(books, "c", "passed")
    clock.now = 1002.0
    books.end()

    assert books.problems == []
    assert files(path.parent) == [path.name]
    with opened(path) as store:
        (run,) = store.runs()
        (test,) = store.tests()
    assert (run.uid, run.number, run.started, run.ended) == (UID, 1, 1000.0, 1002.0)
    assert run.counts == {"passed": 2, "failed": 1}
    assert test.declared == LABELS
    assert outcomes_in(path) == {"a": "passed", "b": "failed", "c": "passed"}
    assert the_books(path).read(verdicts=True) == History(
        7, {"cpu": {"t": ["b"]}}, {"cpu": {"t": {"a": 1000.0, "b": 1001.0, "c": 1001.0}}}
    )


def test_whatever_has_ended_outlives_the_process(path, tmp_path):
    clock = Clock()
    books = the_books(path, clock=clock)
    books.begin(a_run())
    for number, label in enumerate(LABELS):
        clock.now += 3.0  # some of it is in the journal alone, some is in the ledger
        record(books, label)
        # As a killed process would leave it.
        copy = tmp_path / label / path.name
        shutil.copytree(path.parent, copy.parent, ignore=shutil.ignore_patterns("*-shm"))
        assert the_books(copy).read(verdicts=False).last_seed == 1
        assert outcomes_in(copy) == dict.fromkeys(LABELS[: number + 1], "passed")
        assert files(copy.parent) == [copy.name]
    books.end()
    assert files(path.parent) == [path.name]


def test_what_a_living_process_keeps_in_its_journal_is_left_to_it(path):
    books = the_books(path)
    books.begin(a_run())
    record(books, "a")
    record(books, "b")
    before = files(path.parent)
    assert [name for name in before if name.endswith(".journal")]
    the_books(path).read(verdicts=True)
    assert files(path.parent) == before
    books.end()
    assert outcomes_in(path) == {"a": "passed", "b": "passed"}
    assert files(path.parent) == [path.name]


def test_as_many_runs_are_kept_as_was_asked_for(path):
    for number in range(4):
        started = 1000.0 + number
        whole_run(the_books(path, keep=2, clock=Clock(started)), f"r{number}", started=started)
    with opened(path) as store:
        assert [run.uid for run in store.runs()] == ["r2", "r3"]


def test_the_past_of_cells_is_what_runs_before_wrote(path):
    whole_run(the_books(path), "first", {"a": "passed", "b": "skipped"})
    books = the_books(path, clock=Clock(2000.0))
    books.begin(a_run(started=2000.0))
    a, b, c = (Cell("t", label, "cpu") for label in "abc")
    (_, of_a, run_of_a), (_, of_b, run_of_b), (_, of_c, run_of_c) = books.past([a, b, c])
    assert of_a.passed == Mark(1000.0, "first", "passed")
    assert run_of_a.uid == "first"
    assert (of_b.passed, run_of_b) == (None, None)
    assert (of_c, run_of_c) == (None, None)
    # Two that share a cell: what the first one found out is known when the second one fails.
    record(books, "c")
    ((_, _, run_of_c),) = books.past([c])
    assert run_of_c == books.run
    books.end()
    assert books.past([a]) == []


def test_the_past_can_not_be_told_by_a_ledger_that_fails(path, failing):
    books = the_books(path)
    books.begin(a_run())
    failing("cells")
    assert books.past([Cell("t", "a", "cpu")]) == []
    books.end()
    assert books.problems == []


def test_what_is_covered_is_told_with_the_runs_that_are_known(path, failing):
    whole_run(the_books(path), "first", {"a": "passed"})
    books = whole_run(the_books(path, clock=Clock(2000.0)), "second", {"b": "passed"}, 2000.0)
    coverage, runs = books.state(None)
    assert (coverage.covered, coverage.cells) == (2, 4)
    assert [run.uid for run in runs] == ["first", "second"]
    assert books.state(["cuda"])[0].cells == 0
    assert books.state(None, whole=True)[0].covered == 2
    failing("briefs")
    assert books.state(None) == (None, [])
    assert books.problems == [f"{path}: disk I/O error"]


def test_a_test_that_was_met_is_there_though_it_was_not_sampled(path):
    whole_run(the_books(path), "first")
    books = the_books(path, clock=Clock(2000.0))
    books.begin(a_run(started=2000.0))
    seen = Observed(Cell("other", "a", "cpu"), "other[a]", "passed", 2000.0)
    books.record([TestRecord("other", "cpu", ("a",), 2000.0, 1)], [seen])
    books.end({"other[a]", "t[b]"})
    with opened(path) as store:
        assert {test.key: (test.seen_at, test.there_at) for test in store.tests()} == {
            "other": (2000.0, 2000.0),
            "t": (1000.0, 2000.0),
        }


def test_first_verdicts_are_counted(path):
    whole_run(the_books(path), "first", {"a": "passed", "b": "skipped"})
    outcomes = {"a": "failed", "b": "passed", "c": "failed", "d": "skipped"}
    books = whole_run(the_books(path, clock=Clock(2000.0)), outcomes=outcomes, started=2000.0)
    assert books.added == 2


@pytest.mark.parametrize("named", [False, True])
def test_a_file_that_nobody_has_changed_is_not_looked_at_again(path, monkeypatch, named):
    checks = []
    monkeypatch.setattr(SqliteStore, "check", lambda store: checks.append(store))

    def books(sound):
        made = the_books(path, named=named, clock=Clock(2000.0))
        made.sound = sound
        made.read(verdicts=False)
        return made

    first = whole_run(the_books(path), "first")
    assert (len(checks), bool(first.sound)) == (1, True)
    second = whole_run(books(first.sound), "second", started=2000.0)
    assert (len(checks), second.sound in ("", first.sound)) == (1, False)
    # What is known of an older state of it is worth nothing; but one look is enough.
    third = whole_run(books(first.sound), "third", started=2000.0)
    assert (len(checks), third.problems) == (2, [])
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("UPDATE cells SET last = 'skipped'")
    fourth = books(third.sound)
    fourth.begin(a_run("fourth", 2000.0))
    assert len(checks) == 3
    # Nor is anything known of what others have written meanwhile.
    with opened(path) as store:
        store.append("first", [], [])
        store.forget(store.tests())
    fourth.end()
    assert (fourth.problems, fourth.sound) == ([], "")


def test_files_are_let_go_of_though_the_run_never_ended(path):
    books = the_books(path)
    books.begin(a_run())
    record(books, "a", "failed")
    books.close()
    assert whole_run(the_books(path), "next", {"b": "passed"}).problems == []
    with opened(path) as store:
        assert {one.cell.label: one.last.outcome for one in store.cells()} == {
            "a": "failed",
            "b": "passed",
        }


@pytest.mark.parametrize("clock", [1000.0, 1000.0004, 900.0])
def test_what_is_said_again_of_a_cell_replaces_what_was_said(path, clock):
    """Within one millisecond, and though the clock was set back."""
    books = the_books(path, clock=Clock())
    books.read(verdicts=False)
    books.begin(a_run())
    said = ("not-reached", "passed", "crashed", "failed", "suspect")
    for outcome in said:
        record(books, "a", outcome)
        books._clock.now = clock
    books.end()
    assert outcomes_in(path) == {"a": said[-1]}
    with opened(path) as store:
        (cell,) = store.cells()
        assert (cell.last.outcome, cell.verdict.outcome) == ("suspect", "suspect")
        assert store.runs()[0].counts == {"suspect": 1}
