"""The ledger as a table: its columns, its rows, and what other programs make of them."""

from __future__ import annotations

import io
import json
import os
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dtype_sampler.commands.main import main
from dtype_sampler.ledger.failures import Failure
from dtype_sampler.ledger.outcomes import Cell
from dtype_sampler.ledger.records import Observed, RunRecord, TestRecord
from dtype_sampler.ledger.sqlite import SqliteStore
from dtype_sampler.ledger.store import LedgerError
from dtype_sampler.reports.export import jsonl, parquet, table

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
STARTED = 1_750_000_000.25
OSERROR = Failure(("OSError",), 'no "such" disk')
# A name that is hard to write: quotes, a line's end, beyond ASCII.
KEY = 'tests/test_x.py::test_é["a\nb"]'


def seen(key, label, outcome, *, device="cpu", after=1.0, run=0, **more):
    cell = Cell(key, label, device)
    return Observed(cell, f"{key}-{label}", outcome, STARTED + 1000 * run + after, **more)


RUNS = [
    RunRecord(
        *("aaaaaa11", STARTED, 2**63 - 1, "given", "rotate"),
        commit="0123456+",
        workers=2,
        lane="tests",
        device="cpu",
    ),
    RunRecord("bbbbbb22", STARTED + 1000, 5, "next after the ledger's last", "all"),
]
SEEN = [
    [
        seen(KEY, "float16", "failed", duration=0.25, failure=OSERROR),
        seen(KEY, "float32", "passed", duration=1.5),
        seen("tests/test_y.py::test_y", "a", "unsupported", device="cuda"),
    ],
    [
        seen("tests/test_y.py::test_y", "b", "not-reached", run=1),
        # It failed first, and passed when it was said again: the failure is none of the pass.
        seen("tests/test_y.py::test_y", "a", "failed", run=1, failure=OSERROR),
        seen("tests/test_y.py::test_y", "a", "passed", run=1, after=2.0),
    ],
]


@pytest.fixture
def ledger(tmp_path, monkeypatch):
    """Two runs; the second one was killed."""
    path = tmp_path / "ledger.sqlite"
    monkeypatch.setenv("DTYPE_SAMPLER_LEDGER", str(path))
    with closing(SqliteStore.open(path, create=True)) as store:
        for run, told in zip(RUNS, SEEN, strict=True):
            opened = store.open_run(run)
            names = dict.fromkeys((one.cell.key, one.cell.device) for one in told)
            tests = [TestRecord(*name, ("a", "b"), run.started, 2) for name in names]
            for one in told:
                store.append(run.uid, tests, [one])
            if run is RUNS[0]:
                store.close_run(opened.finished(run.started + 60, {}), 100)
    return path


def iso(at):
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")


def expected():
    """(run, key, label) -> what a row says of it."""
    rows = {}
    for number, (run, told) in enumerate(zip(RUNS, SEEN, strict=True), 1):
        for one in told:
            failure = one.failure or Failure((), "")
            rows[run.uid, one.cell.key, one.cell.label] = {
                "version": 1,
                "run": run.uid,
                "run_number": number,
                "run_started": iso(run.started),
                "run_ended": iso(run.started + 60) if number == 1 else None,
                "seed": run.seed,
                "seed_origin": run.seed_origin,
                "strategy": run.strategy,
                "commit": run.commit or None,
                "host": None,
                "python": None,
                "torch": None,
                "plugin": None,
                "workers": run.workers or None,
                "lane": run.lane,
                "part": None,
                "key": one.cell.key,
                "label": one.cell.label,
                "device": one.cell.device,
                "nodeid": one.nodeid,
                "outcome": one.outcome,
                "verdict": one.outcome in ("passed", "failed"),
                "observed_at": iso(one.at),
                "duration": one.duration,
                "failure_kind": failure.kind or None,
                "failure_message": failure.message or None,
            }
    return rows


def by_cell(rows):
    found = {(row["run"], row["key"], row["label"]): row for row in rows}
    assert len(found) == len(rows)
    return found


def run(capsys, *arguments):
    """Exit code, output and errors of `dtype-sampler export`."""
    code = main(["export", *map(str, arguments)])
    said = capsys.readouterr()
    return code, said.out, said.err


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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--since", "7"], "--since 7: the ledger knows no such run: it has runs 1 to 2"),
        (["--since", "x"], "--since x: the ledger knows no such run"),
        (["--ledger", "none.sqlite"], "none.sqlite: there is no ledger"),
        (["-o", "no/such/folder/x"], "no/such/folder/x: can't be written: No such file"),
        (["-o", "."], ".: can't be written: Is a directory"),
    ],
)
def test_one_clear_message(ledger, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (1, "")
    assert err.startswith(f"dtype-sampler: {message}")
    assert err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["ledger.sqlite"]


def test_the_ledger_is_not_written_over(ledger, tmp_path, capsys):
    before = ledger.read_bytes()
    other = tmp_path / "other.sqlite"
    SqliteStore.open(other, create=True).close()
    link = tmp_path / "link"
    link.symlink_to(ledger)
    # Beside it SQLite may put such a file.
    for output in (ledger, link, ledger.with_name(f"{ledger.name}-wal")):
        code, _, err = run(capsys, "-o", output)
        assert (code, err) == (
            1,
            f"dtype-sampler: -o {output}: is the ledger itself: write to another file\n",
        )
    for command in ("report", "known-failures"):
        assert main([command, "--ledger", str(ledger), "-o", str(ledger)]) == 1
        assert "is the ledger itself" in capsys.readouterr().err
    listed = ["--baseline", str(link), "-o", str(ledger)]
    assert main(["known-failures", "--ledger", str(other), *listed]) == 1
    assert ledger.read_bytes() == before
    assert main(["export", "--ledger", str(ledger), "--since", "²"]) == 1
    assert "the ledger knows no such run" in capsys.readouterr().err
    url = "postgresql://ci:s3cret@h/x"
    assert main(["report", "--ledger", str(ledger), "-o", url]) == 1
    assert "s3cret" not in capsys.readouterr().err


class TestWithoutPyarrow:
    def test_parquet_says_how_to_get_it(self, ledger, tmp_path, monkeypatch, capsys):
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        path = tmp_path / "cells.parquet"
        code, _, err = run(capsys, "--format=parquet", "-o", path)
        assert code == 1
        assert err == (
            "dtype-sampler: Parquet needs pyarrow: pip install"
            ' "pytest-dtype-sampler[parquet]", or take --format=jsonl\n'
        )
        assert not path.exists()

    def test_lines_need_none(self, ledger, monkeypatch, capsys):
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        assert run(capsys)[0] == 0

    def test_a_part_of_it_that_is_missing_is_another_matter(self, monkeypatch):
        def gone(name):
            raise ModuleNotFoundError("No module named 'numpy'", name="numpy")

        monkeypatch.setattr(parquet, "import_module", gone)
        with pytest.raises(ModuleNotFoundError, match="numpy"):
            parquet.load()


def test_parquet_through_a_pipe_and_not_on_a_terminal(ledger, capsysbinary, monkeypatch):
    pq = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow")
    assert main(["export", "--format=parquet"]) == 0
    assert pq.read_table(io.BytesIO(capsysbinary.readouterr().out)).num_rows == 5
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert main(["export", "--format=parquet"]) == 1
    said = capsysbinary.readouterr()
    assert said.out == b""
    assert b"nothing for a terminal: give -o PATH" in said.err


def test_a_file_of_no_rows_can_be_read(ledger, tmp_path, capsys):
    pq = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow")
    path = tmp_path / "none.parquet"
    assert run(capsys, "--format=parquet", "--tests=none", "-o", path)[0] == 0
    assert pq.read_table(path).column_names == [one[0] for one in GOLDEN]


@pytest.mark.parametrize("name", ["jsonl", "parquet"])
def test_what_was_there_stays_until_all_is_written(ledger, tmp_path, monkeypatch, capsys, name):
    """A run is folded away while it is read, after the first page."""
    if name == "parquet":
        pytest.importorskip("pyarrow", reason="needs pyarrow")
    monkeypatch.setattr(table, "PAGE", 1)
    monkeypatch.setattr(parquet, "GROUP", 1)
    pages = SqliteStore.pages

    def folded(self, uid, most):
        for number, page in enumerate(pages(self, uid, most)):
            yield page
            if number == 0:
                self.fold(0)

    monkeypatch.setattr(SqliteStore, "pages", folded)
    path = tmp_path / "cells"
    path.write_text("as it was")
    code, _, err = run(capsys, "--format", name, "-o", path)
    assert code == 1
    assert err.endswith("run aaaaaa11 was folded away while it was read: try again\n")
    assert path.read_text() == "as it was"
    assert {one.name for one in tmp_path.iterdir()} == {"cells", "ledger.sqlite"}


@pytest.mark.skipif(not Path("/dev/null").is_char_device(), reason="there is no such device")
def test_a_device_stays_one(ledger, capsys):
    assert run(capsys, "-o", os.devnull)[0] == 0
    assert Path(os.devnull).is_char_device()


@pytest.mark.skipif(not os.path.exists("/dev/fd"), reason="pipes have no path here")  # noqa: PTH110
def test_a_pipe_that_has_a_path_alone(ledger):
    """As `-o /dev/stdout |` and `-o >(gzip)` are in a shell."""
    outlet, inlet = os.pipe()
    try:
        assert main(["export", "--ledger", str(ledger), "-o", f"/dev/fd/{inlet}"]) == 0
    finally:
        os.close(inlet)
    with os.fdopen(outlet) as pipe:
        assert json.loads(pipe.readline())["version"] == 1


def test_a_link_stays_one(ledger, tmp_path, capsys):
    link = tmp_path / "newest.jsonl"
    link.symlink_to(tmp_path / "cells.jsonl")
    assert run(capsys, "-o", link)[0] == 0
    assert link.is_symlink()
    assert len(link.read_text().splitlines()) == 5


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
