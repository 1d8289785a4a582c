"""pytest-timeout: the dtype that takes too long has failed, and no other."""

from __future__ import annotations

import signal

import pytest

PACKAGE = "pytest-timeout"
SUITE = """
import time
import pytest

def test_loop(random_dtypes):
    for dtype in random_dtypes(dtypes=[*"abc"], k=3):
        while dtype == "b": time.sleep(0.1)

@pytest.mark.random_dtypes("dtype", [*"abc"], k=3)
def test_items(dtype):
    while dtype == "b": time.sleep(0.1)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="its other way ends the process")
def test_one_that_never_ends(neighbourhood):
    neighbourhood.file("test_it", SUITE)
    # The others do nothing at all: only the one that never ends can take this long.
    result = neighbourhood.run("--timeout=5", "--all-dtypes", packages=(PACKAGE,))
    result.assert_outcomes(failed=2, passed=2)
    loop = neighbourhood.books()["test_it.py::test_loop"]
    assert loop["b"] == "failed"
    assert set(loop.values()) <= {"failed", "passed", "not-reached"}
    assert neighbourhood.books()["test_it.py::test_items"] == {
        "a": "passed",
        "b": "failed",
        "c": "passed",
    }
    assert result.stdout.str().count("dtype under test: b") == 2


def test_a_worker_that_it_ends(neighbourhood):
    """The thread method ends the process, which is a crash to pytest-xdist and to the books."""
    neighbourhood.file("test_it", SUITE)
    args = ("--timeout=5", "--timeout-method=thread", "--all-dtypes", "-n1", "-k", "items")
    neighbourhood.run(*args, packages=(PACKAGE, "pytest-xdist"))
    assert neighbourhood.books() == {
        "test_it.py::test_items": {"a": "passed", "b": "crashed", "c": "passed"}
    }
