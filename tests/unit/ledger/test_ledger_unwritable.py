"""A ledger that can't be written any more: what waits, goes aside, or is lost."""

from __future__ import annotations

import shutil
from contextlib import closing

import pytest
from bookkeeping import (
    LABELS,
    Clock,
    a_run,
    files,
    opened,
    outcomes_in,
    own_side_of,
    record,
    side_of,
    text,
    the_books,
    whole_run,
)

from dtype_sampler.ledger.outcomes import Cell
from dtype_sampler.ledger.sqlite import SqliteStore
from dtype_sampler.ledger.store import LedgerError, StoreBusyError


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
