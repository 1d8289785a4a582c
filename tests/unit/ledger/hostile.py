"""Ledgers as somebody else may hand them on: what is in them, and what must come of it."""

from __future__ import annotations

import json
import random
import sqlite3
from contextlib import closing
from pathlib import Path

from dtype_sampler.commands.main import main
from dtype_sampler.ledger import schema
from dtype_sampler.ledger.books import Books
from dtype_sampler.ledger.failures import Failure
from dtype_sampler.ledger.outcomes import OUTCOMES, Cell
from dtype_sampler.ledger.records import Observed, RunRecord, TestRecord
from dtype_sampler.ledger.samples import sample_of
from dtype_sampler.ledger.sqlite import SqliteStore
from dtype_sampler.ledger.store import LedgerError

KEYS = ("t.py::test_a", "t.py::test_b[x]")
LABELS = ("torch.float16", "torch.float32", "int8", "ä")


def make(path):
    """A ledger of three runs, in which each outcome is there."""
    outcomes = sorted(OUTCOMES) * 3
    with closing(SqliteStore.open(path, create=True)) as store:
        for number in range(3):
            at = 1000.0 + 100 * number
            run = store.open_run(RunRecord(f"run{number}", at, 40 + number, "given", "rotate"))
            tests = [TestRecord(key, "cpu", LABELS, at, 2, LABELS[:1]) for key in KEYS]
            tests.append(TestRecord(KEYS[0], "cuda", LABELS[:2], at, 1, whole_at=0.0))
            seen = [
                Observed(
                    *(Cell(key, label, "cpu"), key, outcomes.pop(), at + place, 0.5),
                    failure=Failure(("ValueError",), f"no {label}") if number % 2 == 0 else None,
                )
                for key in KEYS
                for place, label in enumerate(LABELS)
            ]
            store.append(run.uid, tests, seen)
            store.close_run(run.finished(at + 50, {"passed": 8}), 200)


def change(path, *statements):
    """Change a ledger by SQL, past all of its checks."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("PRAGMA ignore_check_constraints = ON")
        for statement in statements:
            connection.execute(*((statement,) if isinstance(statement, str) else statement))


def set_back(path, version):
    """Make of a ledger what a program of an older version of the schema has written."""
    for number in sorted(schema.MIGRATIONS, reverse=True):
        for statement in reversed(schema.MIGRATIONS[number] if number >= version else ()):
            verb, _, table, *rest = statement.split()
            drop = f"DROP COLUMN {rest[2]}" if verb == "ALTER" else ""
            change(path, f"ALTER TABLE {table} {drop}" if drop else f"DROP TABLE {table}")
    change(path, f"PRAGMA user_version = {version}")


def one_line(error):
    said = str(error)
    assert said == " ".join(said.split(" "))
    assert "\n" not in said
    assert said.isprintable()
    return said


def read_all(path):
    """Read all that a ledger can tell; returns what was refused."""
    refused = []
    try:
        store = SqliteStore.open(path)
    except LedgerError as error:
        return [one_line(error)]
    with closing(store):
        reads = [
            *(store.runs, store.tests, store.cells, store.activity, store.costs),
            *(store.failures, store.known_failures),
            *(lambda key=key: store.cells(key) for key in KEYS),
            lambda: store.history(verdicts=True),
            *(lambda uid=f"run{number}": store.observations(uid) for number in range(3)),
            lambda: store.foldable(1),
        ]
        for read in reads:
            try:
                read()
            except LedgerError as error:
                refused.append(one_line(error))
    return refused


def session(path):
    """What a pytest session does with the ledger of its project; returns what is told."""
    books = Books(path, named=False, keep=200, clock=lambda: 2000.0)
    books.read(verdicts=True)
    books.begin(RunRecord("ours", 2000.0, 7, "given", "rotate"))
    cells = [Cell(key, label, "cpu") for key in KEYS for label in LABELS]
    for number, cell in enumerate(cells):
        outcome = ("passed", "failed")[number % 2]
        test = TestRecord(cell.key, "cpu", LABELS, 2000.0 + number, 2)
        books.record([test], [Observed(cell, cell.key, outcome, 2000.0 + number)])
        books.past([cell])
    books.end({KEYS[0]})
    coverage, _ = books.state(None)
    if coverage is not None:
        assert all(sample_of(state, 8) for state in coverage.tests if state.test.declared)
    else:
        assert books.problems
    for problem in books.problems:
        assert one_line(problem)
    return books.problems


def kept(path):
    """The cells of our own run, wherever it was written down."""
    for place in (path, *path.parent.glob(f"{path.name}*.side")):
        try:
            with closing(SqliteStore.open(place)) as store:
                if found := store.observations("ours"):
                    return len(found)
        except LedgerError:
            continue
    return 0


COMMANDS = ("report", "report --format json", "report --format html", "plan", f"history {KEYS[0]}")


def commands(path, capsys):
    """Each command either does what it is for, or says one line why not."""
    said = []
    for command in COMMANDS:
        code = main([*command.split(), "--ledger", str(path)])
        out, err = capsys.readouterr()
        assert code in (0, 1), command
        assert "\x1b" not in out + err
        assert "\x00" not in out + err
        if code:
            assert out == ""
            assert err.count("\n") == 1
            # A key that was changed is one that is not known.
            unknown = f"dtype-sampler: {KEYS[0]}: the ledger knows no such test"
            assert err.startswith((f"dtype-sampler: {path}: ", unknown))
            said.append(err)
    into = path.with_name("into")
    code = main(["combine", str(path), "--into", str(into)])
    out, err = capsys.readouterr()
    assert bool(code) is bool(err)
    assert all(line.startswith("dtype-sampler: skipped: ") for line in err.splitlines())
    # What was refused has left nothing.
    if into.exists():
        assert read_all(into) == []
        into.unlink()
    else:
        assert code
    return said


def stands(path, capsys):
    """Whatever the file holds, all who read it say so in a line, and a run is written down."""
    read_all(path)
    commands(path, capsys)
    session(path)
    assert path.exists()
    assert kept(path) == 8


# Values that may stand anywhere, and statements' worth of them.
VALUES = (
    *(None, "", "x", b"\xff\xfe", "\x00", "\x1b[31m", -1, 0, 1, 2**53, 2**63 - 1, -(2**63)),
    *(float("inf"), float("-inf"), 1e300, -1.0, 0.5, 9e99, "1", "[]", "{}", "[1]", '["a", "a"]'),
    *('{"passed": "x"}', "[" * 5000, '{"a":' * 3000, '"\\ud800"', "9" * 5000, "x" * 100_000),
    json.dumps([str(number) for number in range(10_001)]),
)
COLUMNS = {
    "runs": (
        *("uid", "number", "started", "ended", "seed", "seed_origin", "strategy", "command"),
        *('"commit"', "host", "python", "torch", "plugin", "device", "counts"),
    ),
    "tests": (
        *("key", "device", "declared", "seen_at", "k", "always", "met_at", "whole_at", "times"),
        "rests",
    ),
    "cells": (
        *("test", "label", "nodeid", "last_at", "last_run", "last", "verdict_at", "verdict_run"),
        *("verdict", "passed_at", "passed_run", "passed", "failed_at", "failed_run", "failed"),
        "costs",
    ),
    "observations": ("run", "cell", "outcome", "at", "duration"),
    "kinds": ("kind", "message"),
    "failures": ("cell", "run", "at", "kind"),
}


def fuzzed(path: Path, whole: bytes, seed: int) -> None:
    """Write the ledger *whole* with some bytes, or some values, changed."""
    draw = random.Random(seed)
    path.write_bytes(whole)
    if draw.random() < 0.5:
        content = bytearray(whole)
        for _ in range(draw.choice((1, 1, 2, 5, 50))):
            place = draw.randrange(len(content))
            # The header and the roots of tables matter most.
            place = draw.choice(
                (place, place % 100, place % 4096, place // 4096 * 4096 + place % 16)
            )
            content[place] = draw.choice((0, 1, 0x7F, 0x80, 0xFF, draw.randrange(256)))
        if draw.random() < 0.1:
            del content[draw.randrange(len(content)) :]
        path.write_bytes(content)
        return
    for _ in range(draw.choice((1, 1, 2, 5))):
        table = draw.choice(sorted(COLUMNS))
        column = draw.choice(COLUMNS[table])
        where = draw.choice(("", " LIMIT 1"))
        row = {"observations": "cell"}.get(table, "id")
        rows = f"SELECT {row} FROM {table}{where}"
        sql = f"UPDATE OR IGNORE {table} SET {column} = ? WHERE {row} IN ({rows})"
        try:
            change(path, (sql, (draw.choice(VALUES),)))
        except sqlite3.Error:
            continue
