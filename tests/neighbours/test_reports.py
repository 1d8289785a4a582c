"""Plugins that only tell: the books are those of a run without them, and nothing is lost."""

from __future__ import annotations

import json

import pytest

SUITE = """
import unittest
import pytest
from dtype_sampler import random_dtypes

@pytest.mark.random_dtypes("dtype", [*"abcd"], k=2)
def test_items(dtype):
    assert dtype != "b"

class TestIt(unittest.TestCase):
    def test_sub(self):
        for dtype in random_dtypes(dtypes=[*"abc"], k=3):
            with self.subTest(dtype):
                assert dtype != "c"
"""
EXPECTED = {
    "test_it.py::test_items": {"a": "passed", "b": "failed", "c": "passed", "d": "passed"},
    "test_it.py::TestIt::test_sub": {"a": "passed", "b": "passed", "c": "failed"},
}


@pytest.mark.parametrize(
    ("package", "args"),
    [
        ("pytest-html", ["--html=report.html", "--self-contained-html"]),
        ("pytest-json-report", ["--json-report", "--json-report-file=report.json"]),
        ("pytest-sugar", ["--force-sugar"]),
        ("pytest-instafail", ["--instafail"]),
    ],
)
@pytest.mark.parametrize("workers", [[], ["-n2"]], ids=["one", "workers"])
def test_the_books_are_the_same(neighbourhood, package, args, workers):
    neighbourhood.file("test_it", SUITE)
    # The two that write a file need this one.
    packages = (package, "pytest-xdist", "pytest-metadata")
    result = neighbourhood.run("--all-dtypes", *args, *workers, packages=packages)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert neighbourhood.books() == EXPECTED
    text = result.stdout.str()
    assert "fault in" not in text
    assert "dtype under test: b" in text
    assert "2 tests ran with all their dtypes, 7 of 7 cells ran on cpu" in text


def test_the_replay_lines_in_html(neighbourhood):
    neighbourhood.file("test_it", SUITE)
    args = ("--all-dtypes", "--html=report.html", "--self-contained-html")
    neighbourhood.run(*args, packages=("pytest-html", "pytest-metadata"))
    page = (neighbourhood.path / "report.html").read_text(encoding="utf-8")
    assert page.count("dtype under test: b") == 1
    assert page.count("this dtype only") == 2


def test_the_outcomes_in_json(neighbourhood):
    neighbourhood.file("test_it", SUITE)
    args = ("--all-dtypes", "--json-report", "--json-report-file=report.json")
    neighbourhood.run(*args, packages=("pytest-json-report", "pytest-metadata"))
    report = json.loads((neighbourhood.path / "report.json").read_text(encoding="utf-8"))
    failed = {one["nodeid"] for one in report["tests"] if one["outcome"] == "failed"}
    assert failed == {"test_it.py::test_items[b]", "test_it.py::TestIt::test_sub"}
