"""pytest-forked: the books are the parent's; a child that dies took the dtype it had in hand."""

from __future__ import annotations

import pytest

PACKAGE = "pytest-forked"
SUITE = """
import os
import pytest

def test_loop(random_dtypes):
    for dtype in random_dtypes(dtypes=[*"abc"], k=3):
        if dtype == "b": os._exit(3)

@pytest.mark.random_dtypes("dtype", [*"abc"], k=3)
def test_items(dtype):
    assert dtype != "b"
"""


@pytest.fixture
def forked(neighbourhood):
    neighbourhood.file("test_plain", "def test(): pass")
    result = neighbourhood.run("--forked", "-p", "no:dtype_sampler", packages=(PACKAGE,))
    if result.ret:
        pytest.skip("this pytest-forked does not work with this pytest, nor without this plugin")
    return neighbourhood


def test_the_books(forked):
    forked.file("test_it", SUITE)
    forked.run("--forked", "--all-dtypes", packages=(PACKAGE,))
    books = forked.books()
    assert books["test_it.py::test_items"] == {"a": "passed", "b": "failed", "c": "passed"}
    assert books["test_it.py::test_loop"] == {"a": "passed", "b": "crashed", "c": "not-reached"}
