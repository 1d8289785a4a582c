"""Subtests: pytest's own, or where pytest has none those of pytest-subtests."""

from __future__ import annotations

import pytest

PACKAGES = () if pytest.version_tuple >= (9,) else ("pytest-subtests",)
SUITE = """
import unittest
from dtype_sampler import random_dtypes

def test_fixture(random_dtypes, subtests):
    for dtype in random_dtypes(dtypes=[*"abcd"], k=4):
        with subtests.test(dtype=dtype):
            if dtype == "c":
                import pytest
                pytest.skip("not here")
            assert dtype != "b"

class TestIt(unittest.TestCase):
    def test_unittest(self):
        for dtype in random_dtypes(dtypes=[*"abcd"], k=4):
            with self.subTest(dtype=dtype):
                if dtype == "c": self.skipTest("not here")
                assert dtype != "b"
"""


@pytest.mark.parametrize("workers", [[], ["-n2"]])
def test_each_speaks_for_its_dtype(neighbourhood, workers):
    neighbourhood.file("test_it", SUITE)
    packages = (*PACKAGES, "pytest-xdist")
    result = neighbourhood.run("--dtype-seed=1", *workers, packages=packages)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    for key in ("test_it.py::test_fixture", "test_it.py::TestIt::test_unittest"):
        assert neighbourhood.books()[key] == {
            "a": "passed",
            "b": "failed",
            "c": "skipped",
            "d": "passed",
        }
