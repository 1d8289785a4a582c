"""The SQL of the pages, run on what it is for."""

from __future__ import annotations

from contextlib import closing

import pytest
from pages import PAGES, blocks

from dtype_sampler.commands.main import main
from dtype_sampler.ledger.failures import Failure
from dtype_sampler.ledger.outcomes import Cell
from dtype_sampler.ledger.records import Observed, RunRecord, TestRecord
from dtype_sampler.ledger.sqlite import SqliteStore
from dtype_sampler.reports.export import table

QUERIES = [block for page in PAGES for block in blocks(page) if block.language == "sql"]
DAY = 86400
# A year is 2025, a run a day from noon on.
NOON = 1_750_075_200
# For each run: key, label -> outcome.
RUNS = [
    {("t", "float16"): "failed", ("t", "float32"): "passed", ("u", "float16"): "passed"},
    {("t", "float16"): "failed", ("t", "float32"): "skipped", ("u", "float16"): "crashed"},
]
WAYS = {"failed": Failure(("OSError",), "gone"), "crashed": Failure(("crashed",))}


def fill(store):
    for number, outcomes in enumerate(RUNS):
        started = NOON + number * DAY
        run = store.open_run(RunRecord(f"{number}" * 32, started, number, "given", "rotate"))
        tests = [
            TestRecord(key, "cpu", ("float16", "float32"), started, 2)
            for key in dict.fromkeys(key for key, _ in outcomes)
        ]
        seen = [
            Observed(Cell(*cell, "cpu"), cell[0], outcome, started + 1, 0.5, WAYS.get(outcome))
            for cell, outcome in outcomes.items()
        ]
        store.append(run.uid, tests, seen)
        store.close_run(run.finished(started + 60, {}), 100)


def as_grafana(query):
    """With the macro as Grafana fills it in."""
    assert "$__timeFilter(observed_at)" in query.text
    between = "observed_at BETWEEN '2025-06-01T00:00:00Z' AND '2025-06-30T23:59:59Z'"
    return query.text.replace("$__timeFilter(observed_at)", between)


def check(answers):
    """What both queries say of these runs. answers: of each, rows of column -> value."""
    shares, worst = answers
    assert [
        (row["time"].date().day, row["metric"], float(row["failing (%)"])) for row in shares
    ] == [
        (16, "float16", 50.0),
        (16, "float32", 0.0),
        (17, "float16", 100.0),
    ]
    assert [
        (row["key"], row["label"], row["failed"], row["runs"], row["how"]) for row in worst
    ] == [
        ("t", "float16", 2, 2, "OSError"),
        ("u", "float16", 1, 2, "crashed"),
    ]


def test_they_run_on_an_exported_file(tmp_path):
    duckdb = pytest.importorskip("duckdb", reason="needs duckdb")
    ledger, cells = tmp_path / "ledger.sqlite", tmp_path / "cells.jsonl"
    with closing(SqliteStore.open(ledger, create=True)) as store:
        fill(store)
    assert main(["export", "--ledger", str(ledger), "-o", str(cells)]) == 0
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("CREATE SCHEMA dtype_sampler")
        connection.execute(f"CREATE VIEW dtype_sampler.observed AS FROM '{cells}'")
        answers = []
        for query in QUERIES:
            answer = connection.execute(as_grafana(query))
            names = [column[0] for column in answer.description]
            answers.append([dict(zip(names, row, strict=True)) for row in answer.fetchall()])
    check(answers)


def test_they_run_on_a_server_as_one_who_may_only_read(server, database):
    from psycopg import connect
    from psycopg.rows import dict_row

    from dtype_sampler.ledger.postgres import PostgresStore
    from dtype_sampler.ledger.server_schema import READER

    # Of one project nothing is seen in the other.
    for project in ("you/others", "you/models"):
        with closing(PostgresStore.open(database, project=project, wait=60)) as store:
            fill(store)
            exported = list(table.rows(store, store.runs()))
    server.roles(database)
    url = server.login(database, READER)
    with connect(url, autocommit=True, row_factory=dict_row) as connection:
        user = connection.info.user
        names = connection.execute("SELECT * FROM dtype_sampler.projects").fetchall()
        (number,) = [row["id"] for row in names if row["name"] == "you/models"]
    server.execute(f"ALTER ROLE {user} SET dtype_sampler.project = '{number}'")
    with connect(url, autocommit=True, row_factory=dict_row) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        check([connection.execute(as_grafana(query)).fetchall() for query in QUERIES])
        seen = connection.execute("SELECT * FROM dtype_sampler.observed").fetchall()
    # The view is the exported table, name by name and value by value, but for the table's version.
    kinds = {column.name: column.type for column in table.COLUMNS}
    shown = [dict(zip(kinds, row, strict=True)) for row in exported]
    for row in shown:
        del row["version"]
    for row in seen:
        assert list(row) == list(shown[0])
        for name, value in row.items():
            if kinds[name] == table.TIME and value is not None:
                row[name] = round(1000 * value.timestamp())

    def by_cell(row):
        return row["run"], row["key"], row["label"]

    assert sorted(seen, key=by_cell) == sorted(shown, key=by_cell)
