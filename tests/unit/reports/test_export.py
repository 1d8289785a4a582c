"""The ledger as a table: its columns, its rows, and what other programs make of them."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import UTC

import pytest
from exported import RUNS, STARTED, by_cell, expected, run, seen

from dtype_sampler.ledger.records import RunRecord
from dtype_sampler.ledger.sqlite import SqliteStore
from dtype_sampler.ledger.store import LedgerError
from dtype_sampler.reports.export import jsonl, table

# What is here is a promise: it may grow at its end, and nothing else.
GOLDEN = [
    ("version", "integer", False),
    ("run", "text", False),
    ("run_number", "integer", False),
    ("run_started", "time", False),
    ("run_ended", "time", True),
    ("seed", "integer", False),
    ("seed_origin", "text", False),
    ("strategy", "text", False),
    ("commit", "text", True),
    ("host", "text", True),
    ("python", "text", True),
    ("torch", "text", True),
    ("plugin", "text", True),
    ("workers", "integer", True),
    ("lane", "text", True),
    ("part", "text", True),
    ("key", "text", False),
    ("label", "text", False),
    ("device", "text", False),
    ("nodeid", "text", True),
    ("outcome", "text", False),
    ("verdict", "true or false", False),
    ("observed_at", "time", False),
    ("duration", "number", True),
    ("failure_kind", "text", True),
    ("failure_message", "text", True),
]


def test_the_columns_are_what_they_were():
    assert [(one.name, one.type, one.nullable) for one in table.COLUMNS][: len(GOLDEN)] == GOLDEN
    # Whoever adds one writes it down here too.
    assert len(table.COLUMNS) == len(GOLDEN)
    assert all(one.what for one in table.COLUMNS)


class TestDuckDB:
    """The table as other programs read it."""

    def query(self, sql):
        duckdb = pytest.importorskip("duckdb", reason="needs duckdb")
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            answer = connection.execute(sql)
            names = [column[0] for column in answer.description]
            return [dict(zip(names, row, strict=True)) for row in answer.fetchall()]

    def rows(self, path):
        rows = self.query(f"SELECT * FROM '{path}'")
        assert list(rows[0]) == [one[0] for one in GOLDEN]
        for row in rows:
            for name in ("run_started", "run_ended", "observed_at"):
                if row[name] is not None:
                    row[name] = row[name].astimezone(UTC).isoformat(timespec="milliseconds")
        return by_cell(rows)

    def test_both_formats_say_what_the_ledger_says(self, ledger, tmp_path, capsys):
        pytest.importorskip("pyarrow", reason="needs pyarrow")
        for name in ("cells.jsonl", "cells.parquet"):
            path = tmp_path / name
            arguments = ("--format", path.suffix[1:], "-o", path)
            assert run(capsys, *arguments) == (0, "", "")
            assert self.rows(path) == expected()

    def test_a_query_of_the_kind_that_it_is_for(self, ledger, tmp_path, capsys):
        path = tmp_path / "cells.jsonl"
        run(capsys, "-o", path)
        assert self.query(
            f"""
            SELECT label, count(*) AS runs, count(*) FILTER (outcome = 'failed') AS failed
            FROM '{path}' WHERE verdict GROUP BY label ORDER BY label
            """
        ) == [
            {"label": "a", "runs": 1, "failed": 0},
            {"label": "float16", "runs": 1, "failed": 1},
            {"label": "float32", "runs": 1, "failed": 0},
        ]


def test_parquet_has_the_types_and_the_version(ledger, tmp_path, capsys):
    pq = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow")
    path = tmp_path / "cells.parquet"
    run(capsys, "--format=parquet", "-o", path)
    schema = pq.read_schema(path)
    assert schema.metadata == {b"dtype_sampler.version": b"1"}
    types = {
        "text": "string",
        "integer": "int64",
        "number": "double",
        "true or false": "bool",
        "time": "timestamp[ms, tz=UTC]",
    }
    assert [(one.name, str(one.type), one.nullable) for one in schema] == [
        (name, types[kind], nullable) for name, kind, nullable in GOLDEN
    ]


def test_lines_are_ascii_and_whole(ledger, capsys):
    code, out, _ = run(capsys)
    assert code == 0
    assert out.isascii()
    rows = [json.loads(line) for line in out.splitlines()]
    assert by_cell(rows).keys() == expected().keys()
    assert rows[0]["observed_at"] == "2025-06-15T15:06:41.250Z"
    # The runs one after another.
    assert [row["run"] for row in rows] == ["aaaaaa11"] * 3 + ["bbbbbb22"] * 2


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        (["--since", "last"], 2),
        (["--since", "2"], 2),
        (["--since", "1"], 5),
        (["--since", "bbbbbb"], 2),
        (["--device", "cuda"], 1),
        (["--device", "cuda", "--device", "cpu"], 5),
        (["--tests", "*test_x*"], 2),
        (["--tests", "*test_x*", "--since", "last"], 0),
    ],
)
def test_a_part_of_it(ledger, capsys, arguments, count):
    code, out, err = run(capsys, *arguments)
    assert (code, len(out.splitlines())) == (0, count)
    told = "dtype-sampler: there are no such rows in the runs that are whole\n"
    assert err == ("" if count else told)


def test_a_file_of_no_rows_can_be_read(ledger, tmp_path, capsys):
    pq = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow")
    path = tmp_path / "none.parquet"
    assert run(capsys, "--format=parquet", "--tests=none", "-o", path)[0] == 0
    assert pq.read_table(path).column_names == [one[0] for one in GOLDEN]


class TestPages:
    @pytest.mark.parametrize("most", [1, 2, 3, 4, 100])
    def test_they_are_the_run_whatever_their_size(self, ledger, most):
        with closing(SqliteStore.open(ledger)) as store:
            for one in RUNS:
                pages = list(store.pages(one.uid, most))
                assert all(0 < len(page) <= most for page in pages)
                found = [told for page in pages for told in page]
                assert {told.cell for told in found} == {
                    told.cell for told in store.observations(one.uid)
                }
                assert len(found) == len(store.observations(one.uid))

    def test_a_run_that_is_not_there_has_none(self, ledger):
        with closing(SqliteStore.open(ledger)) as store:
            assert list(store.pages("cccccc33", 10)) == []
            store.fold(0)
            assert list(store.pages(RUNS[0].uid, 10)) == []

    def test_one_that_is_folded_away_in_between_is_told(self, ledger):
        with closing(SqliteStore.open(ledger)) as store:
            pages = store.pages(RUNS[0].uid, 1)
            next(pages)
            store.fold(0)
            with pytest.raises(LedgerError, match="folded away while it was read"):
                next(pages)

    def test_who_reads_slowly_keeps_nobody_waiting(self, ledger):
        with (
            closing(SqliteStore.open(ledger)) as store,
            closing(SqliteStore.open(ledger, wait=0.0)) as other,
        ):
            pages = store.pages(RUNS[0].uid, 1)
            next(pages)
            other.open_run(RunRecord("dddddd44", STARTED, 1, "given", "rotate"))


def test_no_more_than_a_page_is_in_memory():
    """A line comes out as soon as its page is read, and the page before is gone."""
    read = []

    class Endless:
        def pages(self, uid, most):
            for number in range(1000):
                read.append(number)
                yield [seen("t", f"{number}-{place}", "passed") for place in range(most)]

    lines = jsonl.lines(table.rows(Endless(), RUNS[:1]))
    for _ in range(2 * table.PAGE):
        next(lines)
    assert read == [0, 1]
