"""pytest-rerunfailures: the last attempt counts, whatever the attempts before it came to."""

from __future__ import annotations

PACKAGE = "pytest-rerunfailures"
ITEMS = """
from pathlib import Path

import pytest


def attempt(name):
    with open(f"{name}-attempts", "a") as file:
        file.write("x")
    return len(Path(f"{name}-attempts").read_text())


@pytest.mark.random_dtypes("dtype", [*"abc"], k=2)
def test_flaky(dtype):
    assert attempt(dtype) == 2


@pytest.mark.random_dtypes("dtype", [*"abc"], k=2)
def test_broken(dtype):
    assert dtype == "a"


def test_loop(random_dtypes):
    number = attempt("loop")
    for dtype in random_dtypes(dtypes=[*"abc"], k=3):
        assert number == 2 or dtype != "b"
"""


def test_the_last_attempt_is_written_down(neighbourhood):
    neighbourhood.file("test_it", ITEMS)
    result = neighbourhood.run("--reruns=1", "--all-dtypes", packages=(PACKAGE,))
    outcomes = result.parseoutcomes()
    assert (outcomes["passed"], outcomes["failed"], outcomes["rerun"]) == (5, 2, 6)
    assert neighbourhood.books() == {
        "test_it.py::test_flaky": dict.fromkeys("abc", "passed"),
        "test_it.py::test_broken": {"a": "passed", "b": "failed", "c": "failed"},
        "test_it.py::test_loop": dict.fromkeys("abc", "passed"),
    }


def test_in_workers(neighbourhood):
    neighbourhood.file("test_it", ITEMS)
    packages = (PACKAGE, "pytest-xdist")
    neighbourhood.run("--reruns=1", "--all-dtypes", "-n2", "--dist=loadfile", packages=packages)
    assert neighbourhood.books()["test_it.py::test_broken"] == {
        "a": "passed",
        "b": "failed",
        "c": "failed",
    }


def test_a_retry_takes_the_same_dtypes(neighbourhood):
    neighbourhood.file("test_it", ITEMS)
    neighbourhood.run("--reruns=1", "-k", "broken", packages=(PACKAGE,))
    assert len(neighbourhood.books()["test_it.py::test_broken"]) == 2
