"""Books as a session keeps them, and what is found of its run in files."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing, contextmanager

from dtype_sampler.ledger.books import Books
from dtype_sampler.ledger.outcomes import Cell
from dtype_sampler.ledger.records import Observed, RunRecord, TestRecord
from dtype_sampler.ledger.sqlite import SqliteStore

UID = "0123456789abcdef"
LABELS = ("a", "b", "c", "d")


class Clock:
    """Says what it is set to."""

    def __init__(self, now=1000.0):
        self.now = now

    def __call__(self):
        return self.now


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


def outcomes_in(path, uid=UID):
    """What a file says of a run: label -> outcome."""
    with opened(path) as store:
        return {one.cell.label: one.outcome for one in store.observations(uid)}


def text(path):
    path.write_text("not a ledger\n")


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
