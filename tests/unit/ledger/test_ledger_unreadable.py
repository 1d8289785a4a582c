"""A ledger that can't be read: an error where it was named, else told, and the run goes aside."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from bookkeeping import (
    LABELS,
    UID,
    Clock,
    files,
    opened,
    outcomes_in,
    own_side_of,
    side_of,
    text,
    the_books,
    whole_run,
)

from dtype_sampler.ledger import opening, schema
from dtype_sampler.ledger.outcomes import Cell
from dtype_sampler.ledger.sqlite import SqliteStore
from dtype_sampler.ledger.store import LedgerError, StoreBusyError
from dtype_sampler.sampling.plan import History


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
