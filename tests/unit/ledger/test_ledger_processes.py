"""Real processes: killed, on a full disk, and without the right to write."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest
from bookkeeping import (
    SESSION,
    UID,
    Clock,
    files,
    numbers_in,
    opened,
    own_side_of,
    session,
    side_of,
    the_books,
    whole_run,
)


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
