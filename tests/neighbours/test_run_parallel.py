"""pytest-run-parallel: one thread's failure is that of the dtype it had in hand."""

from __future__ import annotations

PACKAGE = "pytest-run-parallel"
SUITE = """
import threading
import pytest
from dtype_sampler import random_dtypes as ask

def test_loop():
    for dtype in ask(dtypes=[*"abc"], k=3):
        assert dtype != "b"

@pytest.mark.random_dtypes("dtype", [*"abc"], k=3)
def test_items(dtype):
    assert dtype != "b"
"""


def test_the_books(neighbourhood):
    neighbourhood.file("test_it", SUITE)
    neighbourhood.run("--parallel-threads=4", "--all-dtypes", packages=(PACKAGE,))
    books = neighbourhood.books()
    assert books["test_it.py::test_items"] == {"a": "passed", "b": "failed", "c": "passed"}
    loop = books["test_it.py::test_loop"]
    assert loop["b"] == "failed"
    assert loop["a"] == "passed"
    assert loop["c"] == "not-reached"
