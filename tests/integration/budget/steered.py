"""Tests whose runs the ledger steers, and ledgers that say what earlier runs took."""

from __future__ import annotations

from dtype_sampler.ledger.outcomes import Cell
from dtype_sampler.ledger.records import Observed, RunRecord, TestRecord
from dtype_sampler.ledger.sqlite import SqliteStore

LEDGER = ".dtype-ledger.sqlite"
ITEMS = """
import pytest
@pytest.mark.random_dtypes("x", [*"abcdef"])
def test_one(x, took): took("one", x)
@pytest.mark.random_dtypes("x", [*"abcdef"])
def test_two(x, took): took("two", x)
"""
LOOPS = """
from dtype_sampler import random_dtypes as ask
def test_one(took):
    for x in ask(k=2, dtypes=[*"abcdef"]): took("one", x)
def test_two(took):
    for x in ask(k=2, dtypes=[*"abcdef"]): took("two", x)
"""
NAMES = {"one": "test_it.py::test_one", "two": "test_it.py::test_two"}
# Of the runs that the ledgers of these tests know, an hour apart.
HOUR = 3600.0
FIRST = 1_700_000_000.0


class Ledger:
    """A ledger in the making: runs one after another, each with what it took and how long."""

    def __init__(self, path, *, loops):
        self.path = path
        self.loops = loops
        self.runs = 0

    def run(self, labels, *, cost=1.0, rest=0.0, outcome="passed", declared="abcdef", **fields):
        """labels: of each test, by its short name. cost: seconds of a cell, or of each label."""
        self.runs += 1
        started = FIRST + self.runs * HOUR
        run = RunRecord(f"{self.runs:032x}", started, 100 + self.runs, "next", "rotate", **fields)
        tests, seen = [], []
        for name, some in labels.items():
            key, at = NAMES.get(name, name), started + 1
            rests = ((round(1000 * started), round(1_000_000 * rest)),)
            tests.append(TestRecord(key, "cpu", tuple(declared), at, 2, rests=rests))
            for label in some:
                nodeid = key if self.loops else f"{key}[{label}]"
                seconds = cost.get(label) if isinstance(cost, dict) else cost
                seen.append(Observed(Cell(key, label, "cpu"), nodeid, outcome, at, seconds))
        store = SqliteStore.open(self.path, create=True)
        run = store.open_run(run)
        store.append(run.uid, tests, seen)
        store.close_run(run.finished(started + 10, {}), 200)
        store.close()
        return run


def cells(project) -> int:
    return sum(map(len, project.taken().values()))


def strategies(project) -> list[str]:
    return [run.strategy for run in project.runs()]
