"""pytest-cov: it measures a sampled run, and the books are those of a run without it."""

from __future__ import annotations

import pytest

PACKAGE = "pytest-cov"
SUITE = """
import pytest
import code_of_ours

@pytest.mark.random_dtypes("dtype", [*"abcd"], k=2)
def test_items(dtype):
    assert code_of_ours.works(dtype) == "x" + dtype
"""


@pytest.mark.parametrize("workers", [[], ["-n2"]])
def test_the_books_are_the_same(neighbourhood, workers):
    neighbourhood.file("code_of_ours", "def works(dtype): return 'x' + dtype")
    neighbourhood.file("test_it", SUITE)
    args = ("--dtype-seed=1", *workers)
    packages = (PACKAGE, "pytest-xdist")
    neighbourhood.run(*args, packages=("pytest-xdist",))
    without = neighbourhood.books()
    result = neighbourhood.run(*args, "--cov=code_of_ours", packages=packages)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["code_of_ours.py * 100%"])
    assert neighbourhood.books() == without


def test_its_options_are_not_in_a_replay(neighbourhood):
    neighbourhood.file("test_it", "def test(random_dtypes):\n  for d in random_dtypes(): assert 0")
    args = ("--dtype-seed=1", "--cov", ".", "--cov-report", "term-missing", "--no-cov-on-fail")
    result = neighbourhood.run(*args, packages=(PACKAGE,))
    (line,) = [one for one in result.outlines if one.startswith("same sample")]
    assert "cov" not in line.replace("-p no:pytest_cov", "")
    assert set(neighbourhood.books()) == {"test_it.py::test"}
