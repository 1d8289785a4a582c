"""A ledger may be a cache's, or an artifact of somebody's pull request."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from contextlib import closing, suppress
from dataclasses import asdict

import hostile
import pytest

from dtype_sampler.ledger import schema
from dtype_sampler.ledger.journal import recover
from dtype_sampler.ledger.records import RunRecord
from dtype_sampler.ledger.sqlite import SqliteStore
from dtype_sampler.ledger.store import LedgerError

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT"
INSTEAD = {
    table: f"ALTER TABLE {table} RENAME TO hidden_{table}"
    for table in ("runs", "tests", "cells", "observations")
}


def column_of(table, text, instead):
    """Change what a table's own statement says."""
    return (
        "UPDATE sqlite_master SET sql = replace(sql, ?, ?) WHERE name = ?",
        (text, instead, table),
    )


SCHEMAS = {
    **{
        f"a view in place of {table}": [
            statement,
            f"CREATE VIEW {table} AS SELECT * FROM hidden_{table}",
        ]
        for table, statement in INSTEAD.items()
    },
    "an endless view": [
        INSTEAD["tests"],
        (
            "CREATE VIEW tests AS"
            f" {ENDLESS} i AS id, 'k' AS key, 'cpu' AS device, '[]' AS declared, 1.0 AS seen_at,"
            " 1 AS k, '[]' AS always, 0.0 AS met_at, 0.0 AS whole_at, '[]' AS times FROM n"
        ),
    ],
    "one more view": ["CREATE VIEW more AS SELECT 1"],
    "a trigger": [
        "CREATE TRIGGER t AFTER INSERT ON runs BEGIN DELETE FROM cells; END",
    ],
    "one more table": ["CREATE TABLE more (a)"],
    "an index": ["CREATE INDEX more ON cells (label)"],
    "an index on an expression": ["CREATE INDEX more ON cells (abs(label))"],
    "no table": ["DROP TABLE observations"],
    "no tables": [f"DROP TABLE {table}" for table in INSTEAD],
    "a column less": ["ALTER TABLE cells DROP COLUMN nodeid"],
    "a column more": ["ALTER TABLE cells ADD COLUMN more TEXT"],
    "a generated column": ["ALTER TABLE cells ADD COLUMN more AS (abs(label))"],
    "a check": [column_of("runs", "seed INTEGER NOT NULL", "seed INTEGER CHECK (abs(seed))")],
    "a default": [column_of("tests", "DEFAULT '[]'", "DEFAULT (randomblob(1000000000))")],
    "another type": [column_of("tests", "key TEXT NOT NULL", "key BLOB")],
    "no UNIQUE": [column_of("cells", "UNIQUE (test, label)", "CHECK (1)")],
    "a virtual table": [
        (
            "INSERT INTO sqlite_master (type, name, tbl_name, rootpage, sql) VALUES"
            " ('table', 'more', 'more', 0, 'CREATE VIRTUAL TABLE more USING fts5(a)')"
        )
    ],
    "garbage": ["UPDATE sqlite_master SET sql = 'CREATE TABLE runs (' WHERE name = 'runs'"],
    "blobs": ["UPDATE sqlite_master SET sql = x'ff00ff' WHERE name = 'tests'"],
    "version 0": ["PRAGMA user_version = 0"],
    "a version below 0": ["PRAGMA user_version = -5"],
    "an older version": [f"PRAGMA user_version = {schema.VERSION - 1}"],
}
VALUES = {
    "a time without end": "UPDATE tests SET seen_at = 9e999",
    "a time long after all": "UPDATE runs SET started = 1e15",
    "a time before all": "UPDATE cells SET verdict_at = -1e300 WHERE verdict IS NOT NULL",
    "text for a time": "UPDATE runs SET started = 'soon'",
    "text for the end": "UPDATE runs SET ended = 'later'",
    "text for a seed": "UPDATE runs SET seed = 'seed'",
    "a seed below 0": "UPDATE runs SET seed = -1",
    "text for k": "UPDATE tests SET k = 'many'",
    "bytes for a key": "UPDATE tests SET key = x'ff' WHERE id = 2",
    "no UTF-8": "UPDATE tests SET key = CAST(x'ff0a1b' AS TEXT) WHERE id = 1",
    "no JSON": "UPDATE tests SET declared = '[\"a'",
    "a number for JSON": "UPDATE tests SET declared = 7",
    "JSON of another kind": "UPDATE tests SET declared = '{\"a\": 1}'",
    "JSON of numbers": "UPDATE tests SET always = '[1]'",
    "a deep bomb": ("UPDATE tests SET declared = ?", ("[" * 100_000 + "]" * 100_000,)),
    "a wide bomb": ("UPDATE tests SET declared = ?", (f"[{'[],' * 1_000_000}[]]",)),
    "a long bomb": (
        "UPDATE tests SET declared = ?",
        (json.dumps([f"{number}" for number in range(400_000)]),),
    ),
    "a label twice": 'UPDATE tests SET declared = \'["a", "a"]\'',
    "counts of another kind": "UPDATE runs SET counts = '[1]'",
    "counts that are none": 'UPDATE runs SET counts = \'{"passed": "x"}\'',
    "an outcome that is none": "UPDATE cells SET verdict = 'fine' WHERE verdict IS NOT NULL",
    "a verdict that is none": "UPDATE cells SET verdict = 'skipped' WHERE verdict IS NOT NULL",
    "a run that is not there": "UPDATE cells SET last_run = 99",
    "an outcome below 0": "UPDATE observations SET outcome = -1",
    "an outcome of the future": "UPDATE observations SET outcome = 99",
    "text for a moment": "UPDATE observations SET at = 'at'",
    "a duration below 0": "UPDATE observations SET duration = -5",
    "a duration of text": "UPDATE observations SET duration = 'long'",
    "a moment before all": "UPDATE observations SET at = -9007199254740992",
    "a strategy that is none": "UPDATE runs SET strategy = 'ro\x1btate'",
    "a lane without end": ("UPDATE runs SET lane = ?", ("x" * ((1 << 22) + 1),)),
    "a command without end": ("UPDATE runs SET command = ?", ("x" * ((1 << 22) + 1),)),
    "a kind of failure that is not there": "DELETE FROM kinds",
    "bytes for a kind": "UPDATE kinds SET kind = x'ff'",
    "a message without end": ("UPDATE kinds SET message = ? WHERE id = 1", ("x" * 100_000,)),
    "a failure of no cell": "UPDATE failures SET cell = cell + 1000",
    "a failure at no time": "UPDATE failures SET at = 'at'",
    "costs of another kind": "UPDATE cells SET costs = '{\"a\": 1}'",
    "costs that are numbers": "UPDATE cells SET costs = '[1]'",
    "costs below 0": "UPDATE cells SET costs = '[[1000, -5]]'",
    "bytes for costs": "UPDATE cells SET costs = x'ff'",
    "more costs than there can be": ("UPDATE cells SET costs = ?", (f"[{'[1, 1], ' * 5}[0, 1]]",)),
    "one run's cost twice": "UPDATE cells SET costs = '[[1000, 5], [1000, 6]]'",
    "rests that are none": "UPDATE tests SET rests = '[[1000, \"long\"]]'",
    "a number of a run that is too large": "UPDATE runs SET number = 9223372036854775807",
}
# What a session need not read to do its work.
UNSEEN = {"a message without end"}


@pytest.fixture
def path(tmp_path):
    (tmp_path / "here").mkdir()
    path = tmp_path / "here" / "ledger.sqlite"
    hostile.make(path)
    assert hostile.read_all(path) == []
    return path


@pytest.mark.parametrize("kind", [*SCHEMAS, *VALUES])
def test_what_somebody_else_has_written_is_told_in_one_line(path, capsys, kind):
    hostile.change(path, *(SCHEMAS[kind] if kind in SCHEMAS else [VALUES[kind]]))
    before = path.read_bytes()

    refused = hostile.read_all(path)
    assert refused
    assert all(said.startswith(f"{path}: ") for said in refused)
    assert all("remove it" in said or "malformed" in said for said in refused)
    assert hostile.commands(path, capsys)
    assert path.read_bytes() == before
    assert [one.name for one in path.parent.iterdir()] == [path.name]

    problems = hostile.session(path)
    assert hostile.kept(path) == 8
    # The session says the same of it.
    if kind not in UNSEEN:
        assert problems[0].startswith(f"{path}: ")
        assert ".side" in problems[1]
        assert path.exists()
    if kind in SCHEMAS:
        assert path.read_bytes() == before


@pytest.mark.parametrize("kind", ["an endless view", "a time without end", "a deep bomb"])
def test_a_ledger_that_somebody_has_named_is_refused_before_the_run(path, kind):
    hostile.change(path, *(SCHEMAS[kind] if kind in SCHEMAS else [VALUES[kind]]))
    books = hostile.Books(path, named=True, keep=200)
    if kind in SCHEMAS:
        with pytest.raises(LedgerError, match="which no ledger has"):
            books.read(verdicts=False)


def test_a_ledger_of_ours_holds_what_is_asked_of_it(path):
    """As made at once, and as it comes from each older version."""
    for version in schema.MIGRATIONS:
        hostile.set_back(path, version)
        assert hostile.read_all(path) == []
        # Once more, as the file says now what the migration has made of it.
        assert hostile.read_all(path) == []


@pytest.mark.parametrize(
    "kind", ["a trigger", "an endless view", "one more view", "a generated column"]
)
def test_what_a_file_becomes_while_it_is_open_is_not_run(path, kind):
    with closing(SqliteStore.open(path)) as store:
        store.open_run(RunRecord("ours", 2000.0, 7, "given", "rotate"))
        hostile.change(path, *SCHEMAS[kind])
        test = hostile.TestRecord("new", "cpu", ("a",), 2000.0, 1)
        # Refused, or done without what the file would do beside it.
        with suppress(LedgerError):
            store.append("ours", [test], [])
        with suppress(LedgerError):
            assert len(store.tests()) in (3, 4)
        with suppress(LedgerError):
            assert len(store.cells()) == 8
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM cells").fetchone() == (8,)


def test_pages_that_point_to_each_other_do_not_make_it_read_for_ever(path):
    """An inner page of the table whose children are all one leaf, floor upon floor."""
    with closing(SqliteStore.open(path)) as store:
        store.append(
            "run0",
            [hostile.TestRecord(f"{i:05}" * 40, "cpu", ("a",), 1.0, 1) for i in range(400)],
            [],
        )
    with closing(sqlite3.connect(path)) as connection:
        ((root,),) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'tests'")
        ((size,),) = connection.execute("PRAGMA page_size")
    content = bytearray(path.read_bytes())

    def page(number):
        return memoryview(content)[(number - 1) * size : number * size]

    assert page(root)[0] == 5
    leaf = int.from_bytes(page(root)[8:12], "big")
    # A copy of the root below itself, some floors deep: each floor multiplies what is there.
    count = int.from_bytes(page(root)[3:5], "big")
    assert count > 4
    spare = [page(root)[12 + 2 * i : 14 + 2 * i] for i in range(count)]
    children = [
        int.from_bytes(page(root)[(at := int.from_bytes(one, "big")) : at + 4], "big")
        for one in spare
    ]
    floors = [child for child in children if child != leaf][:8]
    whole = bytes(page(root))
    for above, below in zip([root, *floors], [*floors, leaf], strict=True):
        page(above)[:] = whole
        for one in spare:
            at = int.from_bytes(one, "big")
            page(above)[at : at + 4] = below.to_bytes(4, "big")
        page(above)[8:12] = below.to_bytes(4, "big")
    path.write_bytes(content)
    refused = hostile.read_all(path)
    assert refused
    assert hostile.session(path)
    assert hostile.kept(path) == 8


HEAD = asdict(RunRecord("killed", 1000.0, 1, "given", "rotate"))
TEST = ["t", "cpu", ["a", "b"], 1000.0, 1, [], 0.0, 1000.0, [], [[1000, 5]], 1, ""]
SEEN = ["t", "a", "cpu", "t", "passed", 1000.0, 0.5]


def lines(head=None, test=None, seen=None):
    body = [[TEST if test is None else test], [SEEN if seen is None else seen]]
    return "".join(json.dumps(one) + "\n" for one in (HEAD | (head or {}), body))


JOURNALS = {
    "a time without end": lines(head={"started": float("inf")}),
    "text for a time": lines(head={"started": "soon"}),
    "text for a seed": lines(head={"seed": "x"}),
    "a seed of many digits": lines(head={"seed": 10**400}),
    "a truth for a seed": lines(head={"seed": True}),
    "a number for a text": lines(head={"uid": 7}),
    "no counts": lines(head={"counts": []}),
    "one field more": lines(head={"of": "the future"}),
    "a time that is none": lines(seen=[*SEEN[:5], float("nan"), None]),
    "a duration that is none": lines(seen=[*SEEN[:5], 1000.0, "long"]),
    "a label that is none": lines(seen=["t", 1, *SEEN[2:]]),
    "labels that are none": lines(test=["t", "cpu", "ab", *TEST[3:]]),
    "too many labels": lines(test=["t", "cpu", [str(i) for i in range(10_001)], *TEST[3:]]),
    "times that are none": lines(test=[*TEST[:8], [[1.0, 0]], []]),
    "rests that are none": lines(test=[*TEST[:9], [[1000, "long"]]]),
    "rests that are too many": lines(test=[*TEST[:9], [[i, 1] for i in range(6, 0, -1)]]),
    "arguments that are none": lines(test=[*TEST[:10], "two", ""]),
    "an order that is none": lines(test=[*TEST[:11], 7]),
    "a field more": lines(test=[*TEST, 1]),
    "a bomb": json.dumps(HEAD) + "\n" + "[" * 100_000 + "\n",
    "no lines": "x" * 1000 + "\n",
}


@pytest.mark.parametrize("kind", JOURNALS)
def test_a_journal_of_somebody_else_is_told_and_left_alone(path, capsys, kind):
    journal = path.with_name(f"{path.name}.0.journal")
    journal.write_text(JOURNALS[kind])
    with closing(SqliteStore.open(path)) as store:
        (problem,) = recover(path, store, remove=True)
    assert hostile.one_line(problem).startswith(f"{journal}: ")
    assert journal.read_text() == JOURNALS[kind]
    assert hostile.session(path) == [problem]
    assert hostile.kept(path) == 8


def test_a_journal_of_ours_is_taken_over(path):
    """The same lines, with nothing wrong in them; also as older versions wrote them."""
    for number, test in enumerate((TEST, TEST[:6], TEST[:9])):
        journal = path.with_name(f"{path.name}.{number}.journal")
        journal.write_text(lines(head={"uid": f"killed{number}"}, test=test))
        with closing(SqliteStore.open(path)) as store:
            assert recover(path, store, remove=True) == []
            (found,) = [one for one in store.tests() if one.key == "t"]
            assert len(store.observations(f"killed{number}")) == 1
        assert found.declared == ("a", "b")
        assert not journal.exists()


def test_a_journal_of_names_that_are_no_text_is_taken_over(path):
    journal = path.with_name(f"{path.name}.0.journal")
    journal.write_text(lines(head={"command": "pytest \udcff"}, seen=["t", "a\udcff", *SEEN[2:]]))
    with closing(SqliteStore.open(path)) as store:
        assert recover(path, store, remove=True) == []
        assert store.observations("killed")[0].cell.label == r"a\udcff"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has none")
def test_a_journal_that_is_a_pipe_does_not_make_it_wait(path):
    journal = path.with_name(f"{path.name}.0.journal")
    os.mkfifo(journal)
    assert hostile.session(path) == [f"{journal}: is no file: remove it"]


def test_a_journal_that_is_too_long_is_left_alone(path, monkeypatch):
    monkeypatch.setattr("dtype_sampler.ledger.journal._LONGEST", 100)
    journal = path.with_name(f"{path.name}.0.journal")
    journal.write_text(lines())
    assert hostile.session(path) == [f"{journal}: is too long for a journal: remove it"]
    assert journal.exists()


GOING = {
    "cut": lambda path: os.truncate(path, 5000),
    "emptied": lambda path: os.truncate(path, 0),
    "gone": lambda path: path.unlink(),
    "text": lambda path: path.write_text("no ledger any more\n" * 500),
    "a view": lambda path: hostile.change(path, *SCHEMAS["an endless view"]),
    "a value": lambda path: hostile.change(path, VALUES["a time without end"]),
}


@pytest.mark.skipif(sys.platform == "win32", reason="what is open stays as it is there")
@pytest.mark.parametrize("kind", GOING)
def test_a_file_that_changes_while_the_run_goes_on_does_not_end_it(path, kind):
    books = hostile.Books(path, named=False, keep=200, clock=lambda: 2000.0)
    books.read(verdicts=True)
    books.begin(RunRecord("ours", 2000.0, 7, "given", "rotate"))
    for number, label in enumerate(hostile.LABELS):
        if number == 1:
            GOING[kind](path)
        books._written = -1000.0  # each test is a transaction
        cell = hostile.Cell("t", label, "cpu")
        test = hostile.TestRecord("t", "cpu", hostile.LABELS, 2000.0, 2)
        books.record([test], [hostile.Observed(cell, "t", "passed", 2000.0)])
        books.past([cell])
    books.end({"t"})
    books.state(None)
    for problem in books.problems:
        assert hostile.one_line(problem)


@pytest.mark.parametrize(
    "fault", [ValueError, OSError, sqlite3.DatabaseError, MemoryError, KeyError]
)
@pytest.mark.parametrize(
    "method",
    ["open_run", "append", "close_run", "history", "runs", "cells", "tests", "still_there"],
)
def test_no_fault_of_a_store_reaches_the_session(path, monkeypatch, method, fault):
    def failing(*args, **kwargs):
        raise fault("of\nours")

    monkeypatch.setattr(SqliteStore, method, failing)
    problems = hostile.session(path)
    if method not in ("cells", "tests", "still_there"):
        assert problems


@pytest.mark.parametrize("seed", range(60))
def test_whatever_bytes_or_values_are_changed(path, capsys, seed):
    """Thousands more of these are in tests/nightly."""
    hostile.fuzzed(path, path.read_bytes(), seed)
    hostile.stands(path, capsys)


def test_an_outcome_of_a_test_that_a_journal_does_not_declare(path):
    """It is the journal that is wrong: the ledger is used, and nothing of it is written."""
    before = hostile.read_all(path)
    run = {**asdict(RunRecord("stranger", 1.0, 1, "given", "rotate"))}
    line = [[], [["nokey", "a", "cpu", "x", "passed", 1.0, None]]]
    journal = path.with_name(f"{path.name}.stranger.journal")
    journal.write_text(f"{json.dumps(run)}\n{json.dumps(line)}\n")
    with closing(SqliteStore.open(path)) as store:
        (problem,) = recover(path, store, remove=True)
        assert problem.startswith(f"{journal}: is damaged")
        assert "stranger" not in {one.uid for one in store.runs()}
    assert journal.exists()
    assert before == hostile.read_all(path) == []


def test_cells_of_no_test_are_nobodys(path):
    hostile.change(path, "DELETE FROM tests")
    with closing(SqliteStore.open(path)) as store, pytest.raises(LedgerError, match="is damaged"):
        store.check()
