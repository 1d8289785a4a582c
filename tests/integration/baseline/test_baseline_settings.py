"""Where a baseline is, what can be none, and what a run is told of it."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from failing_suites import GREEN, LEDGER, RED, told

from dtype_sampler.ledger import schema
from dtype_sampler.ledger.sqlite import SqliteStore


def git(pytester, *words):
    pytester.run("git", "-c", "user.name=x", "-c", "user.email=x@x", *words)


def test_since_the_first_failure_after_the_last_pass(suite):
    suite.shape("marker")
    git(suite.project.pytester, "init", "-q")
    git(suite.project.pytester, "commit", "-q", "--allow-empty", "-m", "x")
    for how in ({"b": "V"}, {}, {"b": "V"}, {"b": "T"}):
        suite.run("--tb=no", **how)
    head = suite.project.pytester.run("git", "rev-parse", "HEAD").outlines[0][:7]
    result = suite.run("--dtype-baseline=ledger", "-rx", b="T")
    words = f"known to fail: since run 3, * second*, commit {head}*"
    result.stdout.fnmatch_lines([f"XFAIL test_it.py::test_it?b? - {words}"])
    # Once runs are folded away, nobody knows of those before.
    suite.project.ini(dtype_sampler_ledger_runs="2")
    suite.run("--tb=no", b="T")
    result = suite.run("--dtype-baseline=ledger", "-rx", b="T")
    result.stdout.fnmatch_lines(["XFAIL *: since run 5 or before, *"])


@pytest.mark.parametrize(
    ("name", "how"),
    [
        *(("missing", "environment"), ("missing", "ini")),
        *((one, "line") for one in ("no ledger", "missing", "folder", "newer", "empty", "no file")),
    ],
)
def test_a_baseline_that_is_none_is_told_before_any_test_runs(suite, monkeypatch, name, how):
    suite.shape("marker")
    path = suite.path / "base.sqlite"
    expected = {
        "no ledger": "is no ledger (no SQLite file): name another, by --dtype-baseline of *",
        "missing": "there is no such file: name a ledger, or write ledger for the run's own",
        "folder": "is a folder: name a ledger, or write ledger for the run's own",
        "newer": f"was written by a newer dtype-sampler (schema {schema.VERSION + 1},*",
        "empty": "is empty, as no run has written to it: name a ledger, or write*",
        "no file": "is an empty file: name a ledger, or write ledger for the run's own",
    }[name]
    if name == "no ledger":
        path.write_text("known failures: none\n" * 20)
    elif name == "folder":
        path.mkdir()
    elif name == "no file":
        path.write_text("")
    elif name != "missing":
        SqliteStore.open(path, create=True).close()
    if name == "newer":
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    args, where = ["--dtype-baseline=base.sqlite"], "--dtype-baseline=base.sqlite"
    if how == "environment":
        args, where = [], "DTYPE_SAMPLER_BASELINE=base.sqlite"
        monkeypatch.setenv("DTYPE_SAMPLER_BASELINE", "base.sqlite")
    elif how == "ini":
        args, where = [], "dtype_sampler_baseline = base.sqlite (in the pytest configuration)"
        suite.project.ini(dtype_sampler_baseline="base.sqlite")
    before = path.read_bytes() if path.is_file() else None
    result = suite.run(*args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {where}: {path}: {expected}"])
    assert "Traceback" not in result.stderr.str() + result.stdout.str()
    assert (path.read_bytes() if path.is_file() else None) == before
    assert not (suite.path / LEDGER).exists()


@pytest.mark.parametrize("args", [["--collect-only"], ["--help"], ["--setup-plan"]])
def test_who_runs_no_test_is_not_told_of_it(suite, args):
    suite.shape("marker")
    result = suite.run("--dtype-baseline=missing.sqlite", *args)
    assert result.ret == GREEN
    assert "no such file" not in result.stdout.str() + result.stderr.str()


def test_wrong_settings(suite):
    suite.shape("marker")
    for args, message in (
        (["--dtype-baseline="], "--dtype-baseline=: it is empty: name a ledger,*"),
        (
            ["--dtype-baseline=ledger", "--no-dtype-ledger"],
            "--dtype-baseline=ledger: the run's own needs the ledger: leave out --no-dtype-ledger",
        ),
        (["--dtype-fail-on-mended"], "--dtype-fail-on-mended needs the list of what is known*"),
    ):
        result = suite.run(*args)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines([f"ERROR: {message}"])


def test_a_run_without_a_ledger_of_its_own_is_compared_too(suite):
    suite.shape("loop")
    suite.baseline(b="V")
    result = suite.run("--dtype-baseline=base.sqlite", "--no-dtype-ledger", b="V")
    assert result.ret == GREEN
    told(result, known=1)
    assert not (suite.path / LEDGER).exists()


def test_the_baseline_stays_as_it_is(suite):
    suite.shape("marker")
    suite.baseline(b="V")
    path = suite.path / "base.sqlite"
    before = path.read_bytes()
    path.chmod(0o400)
    suite.run("--dtype-baseline=base.sqlite", b="V")
    assert path.read_bytes() == before
    assert not list(suite.path.glob("base.sqlite?*"))


def test_of_an_older_ledger_nobody_knows_in_which_way_it_fails(suite):
    suite.shape("marker")
    suite.baseline(b="V")
    with closing(sqlite3.connect(suite.path / "base.sqlite")) as connection:
        connection.execute("DELETE FROM failures")
        connection.execute("DELETE FROM kinds")
        connection.commit()
    result = suite.run("--dtype-baseline=base.sqlite", b="V")
    assert result.ret == RED
    told(result, new=1)
    result.stdout.fnmatch_lines(
        ["dtype-sampler: of 1 failing cell the baseline does not say in which way it fails: *"]
    )


def test_a_baseline_of_another_device_is_told(suite):
    suite.shape("marker")
    suite.baseline(b="V")
    with closing(sqlite3.connect(suite.path / "base.sqlite")) as connection:
        connection.execute("UPDATE tests SET device = 'cuda'")
        connection.commit()
    result = suite.run("--dtype-baseline=base.sqlite", b="V")
    assert result.ret == RED
    told(result, new=1)
    line = "dtype-sampler: the baseline knows no failure on cpu, only on cuda"
    assert line in result.outlines


def test_the_header_says_what_is_compared(suite):
    suite.shape("marker")
    result = suite.run("--dtype-baseline=ledger")
    assert result.ret == GREEN
    result.stdout.fnmatch_lines(["dtype-sampler: *, baseline=ledger (nothing is known to fail)"])
    suite.baseline(b="V", c="V")
    result = suite.run("-q", "--dtype-baseline=base.sqlite")
    result.stdout.fnmatch_lines(["dtype-sampler: *, baseline=base.sqlite (2 known to fail)"])
    assert "baseline" not in suite.run("--dtype-baseline=none").stdout.str()


def test_a_path_that_is_the_runs_own_ledger_means_that(suite):
    suite.shape("marker")
    suite.run("--tb=no", b="V")
    assert suite.run(f"--dtype-baseline={LEDGER}", b="V").ret == GREEN
    assert suite.run(f"--dtype-baseline={LEDGER}").ret == GREEN
    assert suite.run(f"--dtype-baseline={LEDGER}", b="V").ret == RED
