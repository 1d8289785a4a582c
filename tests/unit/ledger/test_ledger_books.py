from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing, contextmanager
from dataclasses import asdict

import pytest

from dtype_sampler.ledger import opening, schema
from dtype_sampler.ledger.books import Books
from dtype_sampler.ledger.outcomes import Cell
from dtype_sampler.ledger.records import Mark, Observed, RunRecord, TestRecord
from dtype_sampler.ledger.sqlite import SqliteStore
from dtype_sampler.ledger.store import LedgerError, StoreBusyError
from dtype_sampler.sampling.plan import History

UID = "0123456789abcdef"
LABELS = ("a", "b", "c", "d")


class Clock:
    """Says what it is set to."""

    def __init__(self, now=1000.0):
        self.now = now

    def __call__(self):
        return self.now


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The folder for temporary files: where a run is recorded if not beside the ledger."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def files(folder):
    return sorted(file.name for file in folder.iterdir())


def side_of(path):
    return path.with_name(f"{path.name}.side")


def own_side_of(path):
    """The file of one run alone, where all of them can't share one."""
    return path.with_name(f"{path.name}.{UID[:8]}.side")


def the_books(path, *, named=False, keep=200, clock=None):
    return Books(path, named=named, keep=keep, clock=clock or Clock())


def a_run(uid=UID, started=1000.0, seed=1):
    return RunRecord(uid, started, seed, "given", "rotate")


def record(books, label, outcome="passed"):
    """One test's report."""
    at = books.now()
    seen = Observed(Cell("t", label, "cpu"), f"t[{label}]", outcome, at)
    books.record([TestRecord("t", "cpu", LABELS, at, 2)], [seen])


def whole_run(books, uid=UID, outcomes=None, started=1000.0, seed=1):
    """What a session does with its books."""
    books.read(verdicts=False)
    books.begin(a_run(uid, started, seed))
    for label, outcome in (outcomes or dict.fromkeys(LABELS, "passed")).items():
        record(books, label, outcome)
    books.end()
    return books


@contextmanager
def opened(path, **kwargs):
    with closing(SqliteStore.open(path, **kwargs)) as store:
        yield store


def runs_in(path):
    with opened(path) as store:
        return sorted(store.runs(), key=lambda run: run.uid)


def outcomes_in(path, uid=UID):
    """What a file says of a run: label -> outcome."""
    with opened(path) as store:
        return {one.cell.label: one.outcome for one in store.observations(uid)}


# A run that nothing disturbs.


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


# A ledger that can't be read.


def damaged(path):
    whole_run(the_books(path), "lost")
    path.write_bytes(path.read_bytes()[:6000])


def garbled(path):
    whole_run(the_books(path), "lost")
    path.write_bytes(path.read_bytes()[:4096] + b"\xa5" * (path.stat().st_size - 4096))


def foreign(path):
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE t (a)")


def newer(path):
    whole_run(the_books(path), "lost")
    with closing(sqlite3.connect(path)) as other:
        other.execute(f"PRAGMA user_version = {schema.VERSION + 1}")


def text(path):
    path.write_text("not a ledger\n")


bad_files = pytest.mark.parametrize(
    ("make", "told"),
    [
        (damaged, "is damaged"),
        (garbled, "is damaged"),
        (foreign, "another program's"),
        (newer, "newer dtype-sampler"),
        (text, "no SQLite file"),
    ],
)


@bad_files
def test_a_bad_file_at_a_named_path_is_an_error_before_any_test(path, make, told):
    make(path)
    before = path.read_bytes()
    with pytest.raises(LedgerError, match=told) as caught:
        the_books(path, named=True).read(verdicts=False)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before
    assert files(path.parent) == [path.name]


@bad_files
def test_a_bad_file_at_the_default_path_is_told_and_the_run_is_recorded_beside_it(path, make, told):
    make(path)
    before = path.read_bytes()
    books = the_books(path)
    assert books.read(verdicts=False) == History()
    assert files(path.parent) == [path.name]

    whole = whole_run(the_books(path), outcomes={"a": "passed", "b": "failed"})
    side = side_of(path)
    problem, aside = whole.problems
    assert problem.startswith(f"{path}: ")
    assert told in problem
    assert f'dtype-sampler combine "{side}"' in aside
    assert not any("\n" in problem for problem in whole.problems)
    assert whole.past([Cell("t", "a", "cpu")]) == []
    assert path.read_bytes() == before
    assert files(path.parent) == [path.name, side.name]

    # The ledger is mended; here, by beginning another.
    path.unlink()
    whole_run(the_books(path, clock=Clock(500.0)), "before", {"a": "failed"}, started=500.0)
    with opened(path) as store, opened(side) as source:
        store.merge(source, 200)
        assert [(run.uid, run.counts) for run in store.runs()] == [
            ("before", {"failed": 1}),
            (UID, {"passed": 1, "failed": 1}),
        ]
        assert {one.cell.label: one.failing for one in store.cells()} == {"a": False, "b": True}
    assert outcomes_in(path) == {"a": "passed", "b": "failed"}


def test_a_folder_at_the_default_path_is_told_and_the_run_is_recorded_beside_it(path):
    path.mkdir()
    books = whole_run(the_books(path))
    assert books.problems[0] == f"{path}: is no file: name another, {opening.BY}"
    assert outcomes_in(side_of(path)) == dict.fromkeys(LABELS, "passed")


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("", "is a folder: name a file in it"),
        ("missing/ledger", "there is no folder .*missing: make it first"),
        ("x" * 300, "can't be written: File name too long"),
    ],
    ids=["a folder", "no folder", "too long a name"],
)
def test_a_named_path_that_can_be_no_file_is_an_error(path, place, told):
    with pytest.raises(LedgerError, match=told):
        the_books(path.parent / place, named=True).read(verdicts=False)
    assert files(path.parent) == []


def test_a_default_path_with_too_long_a_name_is_told_and_the_run_is_lost(path, temporary):
    books = whole_run(the_books(path.with_name("x" * 300)))
    assert "File name too long" in books.problems[0]
    assert "are lost" in books.problems[-1]
    assert files(path.parent) == files(temporary) == []


def test_a_ledger_that_another_process_holds_at_the_start_is_read_later(path, monkeypatch):
    whole_run(the_books(path), "first")
    books = the_books(path)

    def busy(*_, **__):
        raise StoreBusyError(f"{path}: another process holds it")

    with monkeypatch.context() as patch:
        patch.setattr(SqliteStore, "history", busy)
        assert books.read(verdicts=False) == History()
    whole_run(books)
    assert outcomes_in(path) == dict.fromkeys(LABELS, "passed")
    assert files(path.parent) == [path.name]


# A ledger that can't be written any more.


@pytest.fixture
def failing(path, monkeypatch):
    """fails(method, error): from here on the method of the ledger, and of no other file, fails."""

    def fails(method, error=LedgerError, *, sides=False):
        whole = getattr(SqliteStore, method)

        def failed(store, *args, **kwargs):
            if store.path == path or sides:
                raise error(f"{store.path}: disk I/O error")
            return whole(store, *args, **kwargs)

        monkeypatch.setattr(SqliteStore, method, failed)

    return fails


def test_a_ledger_that_fails_in_the_middle_loses_nothing(path, failing, monkeypatch):
    books = the_books(path)
    books.begin(a_run())
    record(books, "a")
    with monkeypatch.context():
        failing("append")
        record(books, "b", "failed")
        record(books, "c")
        books.end()
    monkeypatch.undo()

    side = side_of(path)
    assert books.problems[0] == f"{path}: disk I/O error"
    assert [str(side) in problem for problem in books.problems] == [False, True]
    assert files(path.parent) == [path.name, side.name]
    assert outcomes_in(path) == {"a": "passed"}
    assert outcomes_in(side) == {"b": "failed", "c": "passed"}
    with opened(path) as store, opened(side) as source:
        store.merge(source, 200)
        (run,) = store.runs()
    assert (run.number, run.counts) == (1, {"passed": 2, "failed": 1})
    assert outcomes_in(path) == {"a": "passed", "b": "failed", "c": "passed"}


def test_records_wait_while_another_process_writes(path, failing, monkeypatch):
    clock, asked = Clock(), []

    def busy(message):
        asked.append(clock.now)
        return StoreBusyError(message)

    books = the_books(path, clock=clock)
    books.begin(a_run())
    failing("append", busy)
    record(books, "a")
    record(books, "b")
    clock.now += 3.0
    record(books, "c")
    # Each try waits for the other process, so not every test is one.
    assert asked == [1000.0]
    assert outcomes_in(path) == {}
    monkeypatch.undo()
    clock.now += 3.0
    record(books, "d")
    assert outcomes_in(path) == dict.fromkeys("abcd", "passed")
    books.end()
    assert books.problems == []


def test_what_waits_for_another_process_outlives_this_one(path, failing, monkeypatch, tmp_path):
    books = the_books(path)
    books.begin(a_run())
    failing("append", StoreBusyError)
    record(books, "a", "failed")
    monkeypatch.undo()
    copy = tmp_path / "copy" / path.name
    shutil.copytree(path.parent, copy.parent, ignore=shutil.ignore_patterns("*-shm"))
    assert the_books(copy).read(verdicts=False).failing == {"cpu": {"t": ["a"]}}
    books.end()


def test_a_journal_that_can_not_be_written_any_more_keeps_what_it_has(path, tmp_path):
    clock = Clock()
    books = the_books(path, clock=clock)
    books.begin(a_run())
    record(books, "a")
    record(books, "b")  # in the journal alone
    file = books._journal._file
    with closing(file), closing(books._journal.path.open("rb")) as readable:
        # What can't be written to refuses as a full disk does.
        books._journal._file = readable
        record(books, "c")
        assert books._journal is None
        assert readable.closed
    (journal,) = [name for name in files(path.parent) if name.endswith(".journal")]
    assert outcomes_in(path) == dict.fromkeys("abc", "passed")
    books.end()
    assert books.problems == []
    # The next one takes over what it holds, which changes nothing, and removes it.
    assert journal in files(path.parent)
    again = the_books(path)
    again.read(verdicts=False)
    assert (again.problems, files(path.parent)) == ([], [path.name])
    assert outcomes_in(path) == dict.fromkeys("abc", "passed")


def test_records_that_wait_at_the_end_are_written_then(path, failing, monkeypatch):
    books = the_books(path)
    books.begin(a_run())
    failing("append", StoreBusyError)
    record(books, "a")
    monkeypatch.undo()
    books.end()
    assert books.problems == []
    assert outcomes_in(path) == {"a": "passed"}


def test_records_go_aside_if_another_process_never_lets_go(path, failing, monkeypatch):
    books = the_books(path)
    books.begin(a_run())
    failing("append", StoreBusyError)
    record(books, "a")
    books.end()
    monkeypatch.undo()
    assert len(books.problems) == 2
    assert outcomes_in(side_of(path)) == {"a": "passed"}


def test_an_end_that_can_not_be_written_goes_aside(path, failing, monkeypatch):
    books = the_books(path)
    books.begin(a_run())
    record(books, "a")
    failing("close_run")
    books.end()
    monkeypatch.undo()
    with opened(path) as store, opened(side_of(path)) as source:
        assert [run.ended for run in store.runs()] == [None]
        store.merge(source, 200)
        assert [(run.ended, run.counts) for run in store.runs()] == [(1000.0, {"passed": 1})]


def test_where_nothing_beside_the_ledger_can_be_written_the_run_goes_to_a_temporary_file(
    path, temporary, monkeypatch
):
    text(path)
    whole = SqliteStore.open_run

    def failed(store, run):
        if store.path.parent == path.parent:
            raise LedgerError(f"{store.path}: disk I/O error")
        return whole(store, run)

    monkeypatch.setattr(SqliteStore, "open_run", failed)
    books = whole_run(the_books(path))
    side = temporary / own_side_of(path).name
    assert str(side) in books.problems[-1]
    assert files(path.parent) == [path.name]
    assert outcomes_in(side) == dict.fromkeys(LABELS, "passed")


@pytest.mark.parametrize("method", ["open_run", "append", "close_run"])
def test_a_run_that_can_be_written_nowhere_is_said_to_be_lost(path, temporary, failing, method):
    failing(method, sides=True)
    books = whole_run(the_books(path))
    assert books.problems[0] == f"{path}: disk I/O error"
    assert [problem for problem in books.problems if "are lost" in problem] == books.problems[-1:]
    assert books.outcomes == {Cell("t", label, "cpu"): "passed" for label in LABELS}


def test_a_run_is_lost_where_there_is_not_even_a_temporary_folder(path, failing, monkeypatch):
    def none():
        raise FileNotFoundError("no usable temporary directory found")

    monkeypatch.setattr("tempfile.gettempdir", none)
    failing("open_run", sides=True)
    books = whole_run(the_books(path))
    assert "are lost" in books.problems[-1]


# Clocks.


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


def test_a_clock_that_is_right_is_left_alone(path):
    whole_run(the_books(path, clock=Clock(1000.0)), "first", started=1000.0)
    books = whole_run(the_books(path, clock=Clock(2000.0)), started=2000.0)
    assert books.now() == 2000.0
    assert books.run.started == 2000.0


# Real processes.

SESSION = """
import itertools, sys
from pathlib import Path
from dtype_sampler.ledger.books import Books
from dtype_sampler.ledger import sqlite
from dtype_sampler.ledger.records import Observed, RunRecord, TestRecord
from dtype_sampler.ledger.store import LedgerError
from dtype_sampler.ledger.outcomes import Cell

def session(path, count, *, named=False, step=10.0):
    # A clock that goes on whenever it is read. By ten seconds: each test is a transaction.
    clock = itertools.count(1000.0, step).__next__
    books = Books(Path(path), named=named, keep=200, clock=clock)
    try:
        books.read(verdicts=False)
    except LedgerError as error:
        print(f"error: {error}")
        return
    books.begin(RunRecord("0123456789abcdef", 1000.0, 1, "given", "rotate"))
    for number in range(count):
        seen = Observed(Cell(f"t{number}", "a", "cpu"), "n", "passed", books.now())
        books.record([TestRecord(f"t{number}", "cpu", ("a",), books.now(), 1)], [seen])
        print(number, flush=True)
    books.end()
    print(*books.problems, sep="\\n")
"""


def numbers_in(path):
    """The tests that a file knows outcomes of in the run of `SESSION`."""
    with opened(path) as store:
        return {int(one.cell.key[1:]) for one in store.observations(UID)}


def integrity(path):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA integrity_check").fetchall()


@pytest.mark.parametrize("step", [10.0, 0.1], ids=["each_test_at_once", "many_tests_at_once"])
@pytest.mark.parametrize("after", [1, 90])
def test_a_killed_session_loses_at_most_the_test_it_was_writing_down(path, after, step):
    process = subprocess.Popen(
        [sys.executable, "-c", f"{SESSION}\nsession(sys.argv[1], 10**6, step={step})", path],
        stdout=subprocess.PIPE,
        text=True,
    )
    told = [int(process.stdout.readline()) for _ in range(after)]
    process.kill()
    # The last line may be cut.
    told += [
        int(line) for line in process.communicate()[0].splitlines(keepends=True) if "\n" in line
    ]
    assert process.returncode

    books = the_books(path, clock=Clock(9e9))
    assert books.read(verdicts=False).last_seed == 1
    assert integrity(path) == [("ok",)]
    assert numbers_in(path) - {len(told)} == set(told)
    with opened(path) as store:
        (run,) = store.runs()
    assert (run.uid, run.ended, run.counts) == (UID, None, {})

    whole_run(books, "next", started=9e9)
    with opened(path) as store:
        assert [(run.uid, run.ended) for run in store.runs()] == [(UID, None), ("next", 9e9)]
    assert books.problems == []


FULL = """
import resource, signal
# As on a full disk: writes beyond the limit fail.
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
session(sys.argv[1], int(sys.argv[3]))
"""


def session(code, *arguments, prefix=(), **env):
    """Runs to its end, without an error; returns the tests it told of, and its other lines."""
    done = subprocess.run(
        [*prefix, sys.executable, "-c", f"{SESSION}\n{code}", *map(str, arguments)],
        capture_output=True,
        text=True,
        # Coverage would want to write on the full disk, too.
        env={n: v for n, v in os.environ.items() if not n.startswith("COVERAGE_PROCESS")} | env,
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    numbers = {int(line) for line in lines if line.isdigit()}
    return numbers, [line for line in lines if line and not line.isdigit()]


full_disk = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on files")


@full_disk
@pytest.mark.parametrize("limit", [0, 4096, 30_000, 300_000])
def test_on_a_full_disk_the_session_goes_on_and_says_what_is_lost(path, temporary, limit):
    numbers, problems = session(FULL, path, limit, 200, TMPDIR=str(temporary))

    assert numbers == set(range(200))
    assert problems[0].startswith(f"{path}: ")
    assert problems[-1] == "this run's records are lost, as no file beside it can be written"
    # What was written before is there: the beginning of the run, in this file and the next.
    kept = []
    for file in (path, side_of(path), temporary / own_side_of(path).name):
        if file.exists() and file.stat().st_size:
            assert integrity(file) == [("ok",)]
            kept += sorted(numbers_in(file))
    assert kept == list(range(len(kept)))
    assert bool(kept) == (limit >= 300_000)


@full_disk
def test_on_a_disk_that_becomes_full_the_rest_of_the_run_goes_aside(path, temporary):
    # Each file may grow to hold two thirds of the run.
    numbers, problems = session(FULL, path, 300_000, 20, TMPDIR=str(temporary))

    side = side_of(path)
    assert len(problems) == 2
    assert str(side) in problems[1]
    assert numbers_in(path) | numbers_in(side) == numbers == set(range(20))
    assert numbers_in(path)
    assert numbers_in(side)
    with opened(path) as store, opened(side) as source:
        store.merge(source, 200)
    assert integrity(path) == [("ok",)]
    assert numbers_in(path) == numbers


@pytest.fixture
def bound():
    """What to run Python with, that rights of files may bind it, as root they do not."""
    if sys.platform == "win32":
        pytest.skip("Windows has other rights")
    if os.geteuid():
        return ()
    prefix = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
    if not shutil.which("setpriv") or subprocess.run([*prefix, "true"]).returncode:
        pytest.skip("root can write everything here")
    return prefix


@pytest.fixture
def locked_folder(path):
    path.parent.chmod(0o555)
    yield path.parent
    path.parent.chmod(0o755)


def test_a_named_path_in_a_folder_that_may_not_be_written_is_an_error(path, locked_folder, bound):
    _, lines = session("session(sys.argv[1], 3, named=True)", path, prefix=bound)
    assert lines == [f"error: {path}: can't be written: Permission denied"]


def test_a_named_file_that_may_not_be_written_is_an_error(path, bound):
    whole_run(the_books(path))
    path.chmod(0o444)
    _, lines = session("session(sys.argv[1], 3, named=True)", path, prefix=bound)
    assert lines == [f"error: {path}: can't be written: Permission denied"]


def test_a_run_in_a_folder_that_may_not_be_written_goes_to_a_temporary_file(
    path, temporary, locked_folder, bound
):
    code = "session(sys.argv[1], 3)"
    _, problems = session(code, path, prefix=bound, TMPDIR=str(temporary))
    side = temporary / own_side_of(path).name
    assert problems[0].startswith(f"{path}: ")
    assert str(side) in problems[1]
    assert files(path.parent) == []
    assert numbers_in(side) == {0, 1, 2}


def test_a_default_ledger_that_may_only_be_read_is_left_and_the_run_goes_aside(path, bound):
    whole_run(the_books(path), "first")
    path.chmod(0o444)
    before = path.read_bytes()
    _, problems = session("session(sys.argv[1], 3)", path, prefix=bound)
    assert problems[0].startswith(f"{path}: ")
    assert len(problems) == 2
    assert path.read_bytes() == before
    assert numbers_in(side_of(path)) == {0, 1, 2}


HEAD = json.dumps(asdict(a_run("killed"))).encode() + b"\n"
NEWER = b'[[["t", "cpu", ["a"], 1.0, 1, []]], [["t", "a", "cpu", "n", "postponed", 1.0, null]]]\n'


@pytest.mark.parametrize(
    "content",
    [
        *(b"no json\n", b"[1]\n", b"1\n", b'{"of": "a newer version"}\n', b"\xff\n"),
        *(HEAD + b"[]\n", HEAD + b"{}\n", HEAD + b"[[1], []]\n", HEAD + NEWER),
    ],
)
def test_a_journal_that_can_not_be_read_is_told_and_left_alone(path, content):
    whole_run(the_books(path))
    journal = path.with_name(f"{path.name}.0.journal")
    journal.write_bytes(content)
    books = the_books(path)
    assert books.read(verdicts=False).last_seed == 1
    assert books.problems == [
        f"{journal}: is damaged, or of a newer dtype-sampler: upgrade or remove it"
    ]
    assert journal.read_bytes() == content
    # The run goes on in the ledger all the same.
    whole_run(books, "next", started=2000.0)
    assert [run.uid for run in runs_in(path)] == [UID, "next"]


def test_a_journal_that_may_not_be_read_is_told_and_left_alone(path, bound):
    whole_run(the_books(path), "first")
    journal = path.with_name(f"{path.name}.0.journal")
    journal.write_bytes(HEAD)
    journal.chmod(0)
    _, problems = session("session(sys.argv[1], 3)", path, prefix=bound)
    assert problems == [f"{journal}: can't be read: Permission denied"]
    assert numbers_in(path) == {0, 1, 2}
    assert journal.exists()


@pytest.mark.parametrize("content", [b"", HEAD[:-1]])
def test_a_journal_that_is_just_being_begun_is_left_to_its_process(path, content):
    whole_run(the_books(path))
    journal = path.with_name(f"{path.name}.0.journal")
    journal.write_bytes(content)
    books = the_books(path)
    assert books.read(verdicts=False).last_seed == 1
    assert books.problems == []
    assert journal.read_bytes() == content


@pytest.mark.skipif(sys.platform == "win32", reason="what is read-only can't be removed there")
def test_a_journal_may_be_one_that_is_read_only(path):
    whole_run(the_books(path))
    journal = path.with_name(f"{path.name}.0.journal")
    journal.write_bytes(HEAD)
    journal.chmod(0o444)
    the_books(path).read(verdicts=False)
    assert [run.uid for run in runs_in(path)] == [UID, "killed"]
    assert not journal.exists()


def test_a_ledger_whose_name_is_a_pattern(tmp_path):
    path = tmp_path / "l[1]*.sqlite"
    for content in (HEAD, b"no json\n"):
        whole_run(the_books(path))
        path.with_name(f"{path.name}.0.journal").write_bytes(content)
        # Of another ledger, whose name the pattern would match.
        (tmp_path / "l1x.sqlite.0.journal").write_bytes(b"no json\n")
        books = the_books(path)
        books.read(verdicts=False)
        assert len(books.problems) == (content != HEAD)
    assert [run.uid for run in runs_in(path)] == [UID, "killed"]


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


def test_runs_beside_a_damaged_ledger_share_one_file(path):
    path.write_bytes(b"no ledger")
    for number in range(3):
        whole_run(the_books(path), uid=f"{number}" * 16, started=1000.0 + number)
    assert files(path.parent) == [path.name, side_of(path).name]
    with opened(side_of(path)) as store:
        assert [run.number for run in store.runs()] == [1, 2, 3]
    # One that is damaged itself stays, too.
    side_of(path).write_bytes(b"neither")
    whole_run(the_books(path))
    assert files(path.parent) == sorted([path.name, side_of(path).name, own_side_of(path).name])
    assert side_of(path).read_bytes() == b"neither"
