"""Suites whose tests the package `parameterized` has made of others, before pytest saw them."""

from __future__ import annotations

from collections import Counter

import pytest
from replays import replay_lines
from test_existing_suites import collect_keys

pytest.importorskip("parameterized")

# No torch: a string is a candidate as well as a dtype is.
SUITE = """
import unittest
from unittest import mock
from parameterized import parameterized, parameterized_class

FOUR = ["float16", "bfloat16", "float32", "float64"]
ROWS = [(f"{d}_{n}", d, n) for d in FOUR for n in (1, 2)]

class Mixin:
    @parameterized.expand(ROWS)
    def test_named(self, name, dtype, n): assert name == f"{dtype}_{n}"

    @parameterized.expand([(d,) for d in FOUR])
    @mock.patch("os.sep")
    @unittest.skipIf(False, "")
    def test_patched(self, dtype, sep): assert isinstance(sep, mock.Mock)

class TestA(Mixin, unittest.TestCase):
    @parameterized.expand(FOUR, name_func=lambda f, n, p: f"test_odd{'_' * int(n)}")
    def test_own(self, torch_dtype): assert torch_dtype != "float32"

    @parameterized.expand([(1, "float16"), (2, "float16")])
    def test_one_each(self, n, dtype): pass

    @parameterized.expand(["a", "b"])
    def test_other(self, word): pass

class TestB(Mixin, unittest.TestCase):
    # Of what was made, one is replaced by hand.
    def test_patched_1_bfloat16(self): pass

@mock.patch("os.sep")
class TestPlain:
    @parameterized.expand([(d,) for d in FOUR])
    def test_plain(self, sep, dtype="float64"): assert isinstance(sep, mock.Mock)

@parameterized.expand([(d,) for d in FOUR], namespace=globals())
def test_module(dtype): pass

@parameterized_class(("name", "dtype", "size"), [(f"x{d}", d, 1) for d in FOUR])
class TestByClass(unittest.TestCase):
    def test_one(self): assert self.name == f"x{self.dtype}"
    def test_two(self): pass
    def helper(self): pass

@parameterized_class([{"torch_dtype": d} for d in ("float16", "float32")])
class TestBoth(unittest.TestCase):
    @parameterized.expand(["float16", "bfloat16"])
    def test_both(self, dtype): pass
"""

KEYS = {
    **{f"{cls}::test_named[{n}]": 4 for cls in ("TestA", "TestB") for n in (1, 2)},
    "TestA::test_own": 4,
    "TestA::test_one_each[1]": 1,
    "TestA::test_one_each[2]": 1,
    "TestA::test_patched": 4,
    "TestB::test_patched": 3,
    "TestPlain::test_plain": 4,
    "test_module": 4,
    "TestByClass::test_one[1]": 4,
    "TestByClass::test_two[1]": 4,
    "TestBoth::test_both": 4,
}


@pytest.fixture
def suite(project):
    project.ini(dtype_sampler_argnames="dtype torch_dtype", dtype_sampler_k="2")
    project.file("test_it", SUITE)
    return project


def dtypes(ids: list[str]) -> Counter[str]:
    return Counter(one.removeprefix("test_it.py::") for one in ids)


def of(found: list[str], start: str) -> list[str]:
    return [one for one in found if one.startswith(f"test_it.py::{start}")]


def test_each_test_keeps_a_sample(suite, ids):
    full = ids("--all-dtypes")
    seeds = [ids(f"--dtype-seed={seed}") for seed in (3, 4)]
    for found in seeds:
        # Of each of the other parameters, two of four.
        for cls in ("TestA", "TestB"):
            for n in (1, 2):
                assert sum(one.endswith(f"_{n}") for one in of(found, f"{cls}::test_named")) == 2
        assert len(of(found, "TestA::test_patched")) == 2
        # With the one that is none of these.
        assert len(of(found, "TestB::test_patched")) == 3
        assert len(of(found, "TestA::test_odd")) == 2
        assert len(of(found, "TestA::test_one_each")) == 2
        assert len(of(found, "TestA::test_other")) == 2
        assert len(of(found, "TestPlain")) == 2
        assert len(of(found, "test_module")) == 2
        # The tests of a class agree, so that just two of them are set up.
        classes = {one.rpartition("::")[0] for one in of(found, "TestByClass_")}
        assert len(of(found, "TestByClass_")) == 4
        assert len(classes) == 2
        assert len(of(found, "TestBoth_")) == 2
    assert set(seeds[0]) | set(seeds[1]) == set(full)


def test_keys_cells_and_what_does_not_exist(suite):
    keys = collect_keys(suite, "--all-dtypes", "-p", "no:terminal")
    assert keys == {f"test_it.py::{key}" for key in KEYS}
    result = suite.run("--dtype-seed=3")
    result.stdout.fnmatch_lines(["*: 14 tests sampled, * of 49 cells ran on cpu *"])
    assert sum(KEYS.values()) == 49


def test_replay_lines_and_names_that_always_run(suite, ids):
    ran = ids("--dtype-seed=3")
    result = suite.run("--dtype-seed=3", "--no-dtype-ledger")
    result.assert_outcomes(passed=len(ran) - 1, failed=1, deselected=23)
    same, alone = replay_lines(result)
    failed = "test_it.py::TestA::test_odd__"
    assert same == [*of(ran, "TestA::test_odd"), "--dtype-seed=3"]
    assert alone == [failed, "--dtype-seed=3"]
    assert ids(*same) == of(ran, "TestA::test_odd")
    suite.run(*alone).assert_outcomes(failed=1)
    # Somebody asks for it by name: whatever the sample is, and as the key says.
    for number, dtype in enumerate(("float16", "bfloat16", "float32", "float64")):
        name = f"test_it.py::TestByClass_{number}_x{dtype}::test_one"
        assert ids(name) == [name]
    # With others the sample is taken from what -k leaves.
    assert len(ids("-k", "test_module and not float16")) == 2
    assert ids("-k", "test_patched_0 and TestA") == ["test_it.py::TestA::test_patched_0_float16"]
    assert of(ids("--dtype-only=float64"), "TestA::test_patched") == [
        "test_it.py::TestA::test_patched_3_float64"
    ]


def test_last_failed_and_workers(suite, ids):
    suite.run("--all-dtypes", "-n1").assert_outcomes(passed=51, failed=1)
    suite.ini(
        dtype_sampler_argnames="*dtype", dtype_sampler_k="1", dtype_sampler_recheck_failed="false"
    )
    failed = "test_it.py::TestA::test_odd__"
    for seed in range(3):
        assert ids("--lf", f"--dtype-seed={seed}") == [failed]


def test_what_can_not_be_told_runs_whole(project, ids):
    project.ini(dtype_sampler_argnames="dtype", dtype_sampler_k="1")
    project.file(
        "test_it",
        """
        import functools, unittest
        from unittest import mock
        from parameterized import parameterized, parameterized_class

        TWO = [("float16",), ("float32",)]

        def handing_in(function):
            @functools.wraps(function)
            def wrapper(self, *args): return function(self, "first", *args)
            return wrapper

        def hiding(function):
            def wrapper(*args): return function(*args)
            wrapper.__name__ = function.__name__
            return wrapper

        class Base:
            @parameterized.expand([*TWO, ("float64",)])
            def test_again(self, dtype): pass

        class TestIt(Base, unittest.TestCase):
            @parameterized.expand(TWO)
            @handing_in
            def test_handed(self, dtype, more): pass

            @parameterized.expand(TWO)
            @mock.patch.multiple("os", sep=mock.DEFAULT)
            def test_multiple(self, dtype, sep): pass

            @parameterized.expand(TWO)
            @hiding
            def test_hidden(self, dtype): pass

            # It takes the place of two of the three that are inherited.
            @parameterized.expand(TWO)
            def test_again(self, dtype): pass

            @parameterized.expand([("float16", "float16"), ("float32", "float32")])
            def test_rest(self, *dtype): pass

        class Helper:
            dtype = "float16"
            def check(self): pass

        class TestByHand(Helper):
            dtype = "float32"
            test_it = Helper.check
        """,
    )
    assert len(ids()) == 2 + 2 + 2 + 3 + 2 + 1
