"""No question takes more for each cell where there are more cells, whatever came of them."""

from __future__ import annotations

from contextlib import closing

import pytest

from dtype_sampler.ledger.connecting import Place
from dtype_sampler.ledger.damage import find_damage
from dtype_sampler.ledger.failures import Failure
from dtype_sampler.ledger.outcomes import FAILED, NOT_REACHED, OUTCOMES, SUSPECT, Cell
from dtype_sampler.ledger.postgres import PostgresStore
from dtype_sampler.ledger.questions import FAILING, HIDDEN, WORRYING
from dtype_sampler.ledger.records import Observed, RunRecord, TestRecord
from dtype_sampler.ledger.sqlite import SqliteStore

LABELS = ("a", "b", "c", "d")
FEW, MANY = 60, 240
# SQLite's machine looks at its steps so often.
BETWEEN = 50


def add(store, number, tests, outcomes, lane="", keep=1000):
    """One run. outcomes: by label, what came of it in each test."""
    started = 1000.0 * number
    run = store.open_run(
        RunRecord(
            f"{number:032x}",
            started=started,
            seed=number,
            seed_origin="next",
            strategy="rotate",
            device="cpu",
            lane=lane,
        )
    )
    seen = [
        Observed(
            Cell(test.key, label, "cpu"),
            test.key,
            outcome,
            started + 1,
            0.001,
            Failure("ValueError", test.key) if outcome == FAILED else None,
        )
        for test in tests
        for label, outcome in outcomes.items()
    ]
    store.append(run.uid, tests, seen)
    store.close_run(run.finished(started + 60, {}), keep)


def some_tests(count):
    return [TestRecord(f"test_{n:04}", "cpu", LABELS, 1000.0, k=3) for n in range(count)]


def one(outcome):
    return lambda store, tests: add(store, 1, tests, dict.fromkeys(LABELS, outcome))


def after(outcome):
    """Each run but the last stopped before its end, by what is told."""

    def runs(store, tests):
        for number in range(1, 4):
            add(store, number, tests, {"a": outcome, "b": "not-reached", "c": "not-reached"})

    return runs


def folded(store, tests):
    """What failed is told by a run that is folded away: all that follow took something else."""
    add(store, 1, tests, dict.fromkeys(LABELS, SUSPECT))
    add(store, 2, tests, {"a": FAILED}, lane="--dtype-only=a")
    for number in range(3, 6):
        add(store, number, tests, {"b": "passed", "c": "passed"}, keep=2)


def alone(store, tests):
    """Suspects that were tried alone."""
    add(store, 1, tests, dict.fromkeys(LABELS, SUSPECT))
    for number in range(2, 5):
        add(store, number, tests, {"a": FAILED}, lane="--dtype-only=a")


HISTORIES = {
    **{f"one-{outcome}": one(outcome) for outcome in sorted(OUTCOMES)},
    **{f"after-{outcome}": after(outcome) for outcome in sorted(OUTCOMES)},
    "folded": folded,
    "alone": alone,
}
ASKED = {
    "history": lambda store: store.history(verdicts=True),
    "check": lambda store: store.check(),
    "damage": lambda store: find_damage(store.engine),
    "newest": lambda store: store.newest(),
    "cells": lambda store: store.cells(),
    "briefs": lambda store: list(store.briefs()),
    "observations": lambda store: [store.observations(run.uid) for run in store.runs()],
    "pages": lambda store: [list(store.pages(run.uid, 10_000)) for run in store.runs()],
    "failures": lambda store: store.failures(),
    "last failures": lambda store: store.failures(last=True),
    "known failures": lambda store: store.known_failures(),
    "activity": lambda store: store.activity(),
    "costs": lambda store: store.costs(),
    # Of each test by itself.
    "seeds": lambda store: [store.seeds(test.key, "cpu", 8) for test in store.tests()],
    "cells of tests": lambda store: [store.cells(test.key) for test in store.tests()],
    "failures of tests": lambda store: [
        store.failures(test.key, last=True) for test in store.tests()
    ],
    "still there": lambda store: store.still_there([test.key for test in store.tests()], 9e9),
    "one more run": lambda store: add(
        store, 9, [TestRecord("test_0000", "cpu", LABELS, 9000.0, k=3)], {"a": "passed"}
    ),
    "fold": lambda store: store.fold(1),
    "forget": lambda store: store.forget(store.tests()),
}


# What each run asks at its start, and what a baseline is made of.
QUESTIONS = {
    "worrying": (WORRYING,),
    "hidden": (HIDDEN, NOT_REACHED),
    "failing": (FAILING, FAILED),
}


def steps(store):
    """How many steps each question takes of SQLite's machine, in the order of `ASKED`."""
    taken = {}
    for name, ask in ASKED.items():
        count = 0

        def look():
            nonlocal count
            count += BETWEEN
            return 0

        store.engine._sqlite.set_progress_handler(look, BETWEEN)
        ask(store)
        taken[name] = count
    return taken


def blocks(store, question, *values):
    """How many blocks a server looks at to answer a question."""
    (((plan,),),) = store.engine.rows(
        f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {question}", *values
    )
    return plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"]


@pytest.mark.parametrize("history", HISTORIES)
def test_no_question_takes_more_for_each_cell_where_there_are_more(tmp_path, history):
    taken = []
    for count in (FEW, MANY):
        with closing(SqliteStore.open(tmp_path / f"{count}.sqlite", create=True)) as store:
            HISTORIES[history](store, some_tests(count))
            taken.append(steps(store))

    # What grows with the square takes sixteen times as much of four times as many.
    few, many = taken
    assert [name for name in ASKED if many[name] > 6 * few[name] + 5_000] == []


@pytest.mark.parametrize("history", ["one-failed", "after-failed", "folded"])
def test_nor_does_it_on_a_server(server, history):
    taken = []
    for count in (FEW, MANY):
        url = server.initialised()
        with closing(PostgresStore.open(url, project="p")) as store:
            HISTORIES[history](store, some_tests(count))
            # As a server does by itself, a minute after so many rows have come.
            server.execute("ANALYZE", database=str(Place(url).given["dbname"]))
            taken.append(
                {
                    name: blocks(store, question, *values)
                    for name, (question, *values) in QUESTIONS.items()
                }
            )

    few, many = taken
    assert [name for name in QUESTIONS if many[name] > 6 * few[name] + 500] == []
