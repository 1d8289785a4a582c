"""Ledgers that can't be read or written, and what the run beside them comes to."""

from __future__ import annotations

import json
import sqlite3
import sys

import pytest
from one_loop import LEDGER, LOOP

from dtype_sampler.ledger.sqlite import SqliteStore, fingerprint


def test_a_journal_that_can_not_be_read_is_told(project):
    project.file("test_it", LOOP)
    project.run("--dtype-seed=1")
    journal = project.pytester.path / f"{LEDGER}.0.journal"
    journal.write_text("no json\n")
    result = project.run("--dtype-seed=2")
    assert result.ret == 0
    result.stdout.fnmatch_lines([f"dtype-sampler: ledger: {journal}: is damaged, or of a newer *"])
    assert journal.read_text() == "no json\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"some text, and more of it than a header holds", "is no ledger"),
        (b"SQLite format 3\0" + 84 * b"\0", "is no ledger but another program's SQLite file"),
        (None, "is a folder"),
    ],
)
def test_a_file_that_is_no_ledger_is_left_alone(project, content, message):
    project.file("test_it", LOOP)
    path = project.pytester.path / LEDGER
    path.mkdir() if content is None else path.write_bytes(content)
    if content is not None:
        # The default path: it is said, and the run is written down beside it.
        result = project.run("-W", "error")
        assert result.ret == 0
        text = result.stdout.str()
        assert text.count(message) == 1
        assert "dtype-sampler combine" in text
        (side,) = project.pytester.path.glob(f"{LEDGER}*.side")
        assert path.read_bytes() == content
        store = SqliteStore.open(side)
        assert len(store.cells()) == 3
        store.close()
    # Named: an error before any test runs.
    project.took()
    result = project.run(f"--dtype-ledger={LEDGER}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert message in result.stderr.str()
    assert project.took() == []


def test_a_full_disk_does_not_turn_the_run_red(project, monkeypatch):
    # Coverage would want to write on the full disk, too.
    for name in ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    project.file(
        "test_it",
        LOOP.replace("def test(", "@pytest.mark.parametrize('n', range(300))\ndef test(n, "),
    )
    limit = (
        "import resource, signal, sys, pytest;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536));"
        "sys.exit(pytest.main(sys.argv[1:]))"
    )
    pytest.importorskip("resource")
    # Named in vain: the space runs out while the tests run.
    result = project.pytester.run(
        sys.executable, "-c", limit, "-q", "-p", "no:randomly", "-p", "no:cacheprovider"
    )
    assert result.ret == 0, result.stdout.str()
    result.stdout.fnmatch_lines(["*dtype-sampler: ledger: *", "*300 passed*"])
    result.stdout.no_fnmatch_line("*Traceback*")


def change(path, *statements: str) -> None:
    """Change a ledger past all of its checks, as somebody else might."""
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()


HOSTILE = {
    "an endless view": (
        [
            "DROP TABLE tests",
            """CREATE VIEW tests AS
                WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)
                SELECT i AS id, 'k' AS key, 'cpu' AS device, '[]' AS declared, 1.0 AS seen_at,
                1 AS k, '[]' AS always, 0.0 AS met_at, 0.0 AS whole_at, '[]' AS times FROM n
            """,
        ],
        "holds the view tests, which no ledger has: restore or remove it",
    ),
    "a trigger": (
        ["CREATE TRIGGER t AFTER INSERT ON runs BEGIN DELETE FROM cells; END"],
        "holds the trigger t, which no ledger has: restore or remove it",
    ),
    "a time without end": (
        ["UPDATE tests SET seen_at = 9e999"],
        "is damaged (tests.seen_at is no time): restore or remove it",
    ),
    "text for a seed": (
        ["UPDATE runs SET seed = 'seed'"],
        "is damaged (runs.seed is no number that can be there): restore or remove it",
    ),
    "text for the time of a cell": (
        ["UPDATE cells SET last_at = 'now'"],
        "is damaged (cells holds in row 1 what none can): restore or remove it",
    ),
    "a bomb": (
        [f"UPDATE tests SET declared = '{'[' * 100_000}'"],
        "is damaged (tests.declared is no JSON of a ledger's): restore or remove it",
    ),
}


@pytest.mark.parametrize("xdist", [(), ("-n2",)], ids=["one process", "xdist"])
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_ledger_of_somebody_else_does_not_disturb_the_run(project, kind, xdist):
    statements, message = HOSTILE[kind]
    project.file("test_it", LOOP)
    project.run("--dtype-seed=1")
    path = project.pytester.path / LEDGER
    # As it is now, the next run need not look at all of it; changed, it must.
    sound = project.pytester.path / ".pytest_cache" / "v" / "dtype_sampler" / "sound"
    assert json.loads(sound.read_text()) == fingerprint(path) != ""
    change(path, *statements)
    before = path.read_bytes()

    result = project.run("--dtype-seed=2", "--dtype-strategy=oldest", *xdist)
    result.assert_outcomes(passed=1)
    assert result.ret == 0
    result.stdout.no_fnmatch_line("*INTERNALERROR*")
    result.stdout.fnmatch_lines(
        [
            f"dtype-sampler: ledger: {path}: {message}",
            "dtype-sampler: ledger: this run is recorded*",
        ]
    )
    (side,) = project.pytester.path.glob(f"{LEDGER}*.side")
    store = SqliteStore.open(side)
    assert len(store.cells()) == 3
    store.close()
    assert path.read_bytes() == before

    # Whoever named it, or asked for a gate, is told by the exit code.
    result = project.run(f"--dtype-ledger={LEDGER}", *xdist)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {path}: {message}"])
    assert project.run("--dtype-fail-under=1", *xdist).ret == pytest.ExitCode.TESTS_FAILED
    assert path.read_bytes() == before


WARNING = """
import functools, warnings
from dtype_sampler.ledger.journal import Journal
from dtype_sampler.ledger.sqlite import SqliteStore

def warning(method):
    @functools.wraps(method)
    def warning(*args, **kwargs):
        warnings.warn("of the bookkeeping", DeprecationWarning, stacklevel=2)
        return method(*args, **kwargs)
    return warning

for owner, names in {
    SqliteStore: ["open_run", "append", "close_run", "history", "runs", "tests", "cells", "close"],
    Journal: ["append", "clear", "close"],
}.items():
    for name in names:
        setattr(owner, name, warning(getattr(owner, name)))
"""


@pytest.mark.parametrize("xdist", [(), ("-n2",)], ids=["one process", "xdist"])
def test_a_warning_in_the_bookkeeping_is_no_error_of_the_suite(project, xdist):
    """As Python 3.12 has them for what other versions take in silence."""
    project.ini(filterwarnings="error")
    project.file("test_it", LOOP)
    project.pytester.makeconftest((project.pytester.path / "conftest.py").read_text() + WARNING)
    for seed in (1, 2, 3):
        result = project.run_process(f"--dtype-seed={seed}", "--dtype-strategy=oldest", *xdist)
        result.assert_outcomes(passed=1)
        assert result.ret == 0
        assert "of the bookkeeping" not in result.stdout.str() + result.stderr.str()
    result.stdout.fnmatch_lines(["dtype-sampler: ledger: 7 of 7 cells covered on cpu*"])
