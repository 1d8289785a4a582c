"""Beside the plugins that model repositories use."""

from __future__ import annotations

import pytest

LOOP = """
import torch
SEVEN = ["float16", "bfloat16", "float32", "auto", torch.float16, torch.bfloat16, torch.float32]
"""


class TestHypothesis:
    def test_given_with_the_fixture_and_the_function(self, project):
        project.file(
            "test_it",
            """
            import pytest, unittest
            from hypothesis import given, strategies as st
            from dtype_sampler import random_dtypes as ask
            seen = set()
            @given(st.integers())
            def test_fixture(random_dtypes, n): seen.add(("fixture", *random_dtypes(k=2)))
            @given(st.integers())
            def test_function(n): seen.add(("function", *ask(k=2)))
            @pytest.mark.random_dtypes(k=1)
            @given(n=st.integers())
            def test_items(dtype, n): pass
            class Test(unittest.TestCase):
                @given(st.integers())
                def test(self, n): assert len(ask(k=2)) == 2
            def test_every_example_saw_one_sample(): assert len(seen) == 2
            """,
        )
        result = project.run("hypothesispytest", "--dtype-seed=3")
        result.assert_outcomes(passed=5, deselected=3)
        result.stdout.fnmatch_lines(["dtype-sampler: 4 tests sampled, * cells ran*"])

    def test_a_failing_example(self, project):
        project.file(
            "test_it",
            """
            from hypothesis import given, strategies as st
            @given(n=st.integers(0, 50))
            def test(random_dtypes, n):
                for dtype in random_dtypes(k=4): assert n < 10 or "b" not in str(dtype)
            """,
        )
        result = project.run("hypothesispytest")
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["dtype under test: torch.bfloat16"])


class TestRerunfailures:
    @pytest.mark.parametrize("xdist", [[], ["-n1"]])
    def test_a_retry_keeps_its_dtypes(self, project, xdist):
        pytest.importorskip("pytest_rerunfailures")
        project.file(
            "test_it",
            LOOP
            + """
import pytest
from pathlib import Path
def attempt(name):
    with open(f"{name}-attempts", "a") as file: file.write("x")
    return len(Path(f"{name}-attempts").read_text())
def test_loop(random_dtypes, took):
    number = attempt("loop")
    for dtype in random_dtypes(k=3, dtypes=SEVEN):
        took(f"attempt {number}", repr(dtype))
        assert number == 3
@pytest.mark.random_dtypes("dtype", SEVEN, k=1)
def test_items(dtype): assert attempt("items") == 2
""",
        )
        result = project.run("rerunfailures", "--reruns=2", "--dtype-seed=5", *xdist)
        outcomes = result.parseoutcomes()
        assert (outcomes["passed"], outcomes["rerun"]) == (2, 3)
        taken = project.took()
        first, second, third = (
            [dtype for name, dtype in taken if name == f"attempt {n}"] for n in (1, 2, 3)
        )
        assert first == second == third[:1]
        assert len(third) == 3
        # The last attempt counts.
        result.stdout.fnmatch_lines(["dtype-sampler: 2 tests sampled, 4 of 14 cells ran*"])


class TestRandomly:
    def test_the_sample_does_not_depend_on_the_order(self, project):
        pytest.importorskip("pytest_randomly")
        tests = "\n".join(
            f"def test_{n}(random_dtypes, took): took({n}, list(random_dtypes(k=2)))"
            for n in range(6)
        )
        project.file("test_it", tests)
        project.run("--dtype-seed=5")
        expected = sorted(project.took())
        orders = set()
        for seed in ("1", "2"):
            project.run("randomly", "--dtype-seed=5", f"--randomly-seed={seed}")
            taken = project.took()
            assert sorted(taken) == expected
            orders.add(tuple(taken))
        assert len(orders) == 2
