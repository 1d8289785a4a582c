"""A server that is a file and fails as it is told to, and runs whose ledger is there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, nullcontext

from dtype_sampler.ledger.outcomes import Cell
from dtype_sampler.ledger.places import ServerPlace
from dtype_sampler.ledger.records import Observed, RunRecord, TestRecord
from dtype_sampler.ledger.sqlite import SqliteStore

LABELS = ("a", "b", "c", "d")
UIDS = ("0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210")
URL = "postgresql://ci:s3cret@db.example.org/ledger"


class Server(ServerPlace):
    """A server that is a file, and that fails as it is told to."""

    def __init__(self, path):
        super().__init__(URL, "org/repo")
        self.path = path
        # Method -> what to do before it, and after it.
        self.before = {}
        self.after = {}
        self.calls = []

    __setattr__ = object.__setattr__

    def open(self, *, create=False, wait=5.0):
        self.called("open", self.before)
        return Connection(self)

    def called(self, name, what):
        self.calls.append(name)
        if name in what:
            what[name]()


class Connection:
    """Has a store of its own for each call: SQLite's belong to the thread that opened them."""

    def __init__(self, server):
        self._server = server

    def __getattr__(self, name):
        def call(*args, **kwargs):
            self._server.called(name, self._server.before)
            with closing(SqliteStore.open(self._server.path, create=True)) as store:
                result = getattr(store, name)(*args, **kwargs)
                if isinstance(result, Iterator):
                    result = iter(list(result))
            self._server.called(name, self._server.after)
            return result

        return call

    def snapshot(self):
        self._server.called("snapshot", self._server.before)
        return nullcontext()

    def claim_seed(self, lane, fresh):
        self._server.called("claim_seed", self._server.before)
        return 77

    def set_wait(self, seconds):
        pass

    def close(self):
        self._server.called("close", self._server.before)


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        self.now += 1
        return self.now


def record(books, label, outcome="passed"):
    at = books.now()
    seen = Observed(Cell("t", label, "cpu"), f"t[{label}]", outcome, at)
    books.record([TestRecord("t", "cpu", LABELS, at, 2)], [seen])


def whole_run(books, uid=UIDS[0], outcomes=("passed", "failed", "passed")):
    books.read(verdicts=False)
    books.begin(RunRecord(uid, books.now(), 1, "given", "rotate"))
    for label, outcome in zip(LABELS, outcomes, strict=False):
        record(books, label, outcome)
    books.end({"t", "t[a]"})
    return books


def known(server):
    """All that a server knows, but for the order in which it came."""
    with closing(SqliteStore.open(server.path)) as store:
        runs = store.runs()
        seen = {run.uid: store.observations(run.uid) for run in runs}
        return runs, store.tests(), store.cells(), seen


def failing(error, times=1):
    """What raises this so many times."""
    left = [times]

    def fail():
        if left[0] > 0:
            left[0] -= 1
            raise error

    return fail


ALWAYS = 1 << 30
