"""What pytest's terminal shows: as much, and in the colours, as pytest was asked for."""

from __future__ import annotations

import pytest

SUITE = """
import pytest
def test_loop(random_dtypes):
    for dtype in random_dtypes(k=2, dtypes=["a", "b"]): assert dtype == "c"
def test_alone(random_dtypes):
    for dtype in random_dtypes(k=1, dtypes=["a", "b"]): assert dtype == "c"
"""
HIDDEN = "dtype-sampler: test_it.py::test_loop: hidden behind "


@pytest.fixture
def suite(project):
    project.file("test_it", SUITE)
    return project


def line_of(result: pytest.RunResult, start: str) -> str:
    (line,) = [one for one in result.outlines if start in one]
    return line


def test_colours_are_pytests(suite):
    red, green, yellow, end = "\033[31m", "\033[32m", "\033[33m", "\033[0m"
    result = suite.run("--color=yes", "--dtype-seed=1", "--dtype-fail-under=100")
    assert line_of(result, HIDDEN).startswith(yellow)
    assert line_of(result, HIDDEN).endswith(end)
    assert line_of(result, "--dtype-fail-under=100:").startswith(red)
    assert line_of(result, "2 tests sampled").startswith("dtype-sampler")
    result = suite.run("--color=yes", "--all-dtypes", "--dtype-baseline=ledger")
    assert line_of(result, "known failures, ").startswith(yellow)
    suite.file("test_it", SUITE.replace('== "c"', 'in "ab"'))
    result = suite.run("--color=yes", "--all-dtypes", "--dtype-baseline=ledger")
    assert line_of(result, "0 known failures, 0 new, 4 mended").startswith(green)
    assert sum(f"{green}dtype-sampler: mended: " in one for one in result.outlines) == 4
    # Piped, or without colours.
    for option in ("--color=no", "--color=auto"):
        assert "\033" not in suite.run(option, "--dtype-seed=1").stdout.str()


def test_what_is_one_stands_once(suite):
    suite.run("--dtype-seed=1")
    # What failed is rechecked by name: alone, it is the same sample.
    text = suite.run("-k", "alone", "--dtype-only=a").stdout.str()
    assert text.count("same sample: ") == 1
    assert text.count("this dtype only: ") == 0
    text = suite.run("-k", "alone", "--all-dtypes").stdout.str()
    assert "1 test not sampled, 1 of 2 cells ran" in text


def test_a_label_of_several_lines_is_told_in_one(project, cli):
    """As the text of a configuration that is a candidate."""
    project.file(
        "test_it",
        """
        class Config:
            def __init__(self, name): self.name = name
            def __str__(self): return f"Config {{\\n  {self.name}\\n}}"
        def test_loop(random_dtypes):
            for one in random_dtypes(k=2, dtypes=[Config("a"), Config("b")]): assert 0
        """,
    )
    result = project.run("--dtype-seed=1")
    for told in (
        "dtype under test: ?",
        "hidden behind ?: ?",
        "history: ? never ran before: *",
        "dtype-sampler: test_it.py::test_loop: hidden behind ?: ?",
    ):
        result.stdout.fnmatch_lines([told.replace("?", "Config {   ? }")])
    for command in (["report"], ["history", "test_it.py::test_loop"], ["plan"], ["known-failures"]):
        _, out, _ = cli(*command)
        assert "Config {   " in out
        assert "\n}" not in out


def test_without_a_terminal(suite):
    result = suite.run("-p", "no:terminal", "--dtype-seed=1")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert "dtype-sampler" not in result.stdout.str()
    assert result.stderr.str() == ""
    # The books were kept all the same.
    assert "(next after the ledger's last)" in suite.run().stdout.str()


def test_what_is_of_concern_is_told_without_a_terminal_too(suite):
    """Why a run is red, and where its books are."""
    suite.file("test_it", SUITE.replace('== "c"', 'in "ab"'))
    result = suite.run("-p", "no:terminal", "--dtype-only=a,d", "--dtype-fail-under=100")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [
            "ERROR: --dtype-fail-under=100: *",
            "ERROR: --dtype-only: unknown candidate 'd'*",
        ]
    )
    pytest.importorskip("psycopg")
    away = "postgresql://me:s3cret@127.0.0.1:1/x"
    result = suite.run("-p", "no:terminal", f"--dtype-ledger={away}", "--dtype-seed=1")
    assert result.ret == pytest.ExitCode.OK
    result.stderr.fnmatch_lines(["dtype-sampler: ledger: *can't be reached: *this run is kept in*"])
    assert "s3cret" not in result.stderr.str()
