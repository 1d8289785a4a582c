"""Fixtures that many tests share: what they draw must not depend on the test that comes first."""

from __future__ import annotations

import pytest

SHARED = """
import pytest, unittest
from dtype_sampler import random_dtypes as ask

@pytest.fixture(scope="module")
def dtypes(): return ask(k=2, dtypes=[*"abcde"])

def test_1(dtypes, took): took("1", list(dtypes))

def test_2(dtypes, took):
    took("2", [])
    for dtype in dtypes: assert dtype in seen_first(took, dtype)

def seen_first(took, dtype):
    took("2", dtype)
    return ()

class Test(unittest.TestCase):
    @classmethod
    def setUpClass(cls): cls.dtypes = ask(k=2, dtypes=[*"abcde"])
    def test_a(self): print("A", list(self.dtypes))
    def test_b(self): print("B", list(self.dtypes))
"""


def test_a_sample_drawn_by_a_shared_fixture_is_each_tests_own(project):
    project.file("test_it", SHARED)
    result = project.run("--dtype-seed=1", "-k", "test_1 or test_2")
    result.assert_outcomes(passed=1, failed=1, deselected=2)
    (_, first), _, (_, failed) = project.took()
    assert failed == eval(first)[0]
    # Cells of both tests are told, and the failure's lines replay it without the other test.
    result.stdout.fnmatch_lines(
        [
            f"dtype under test: {failed}",
            'same sample: *pytest "test_it.py::test_2" --dtype-seed=1',
            f'this dtype only: pytest "test_it.py::test_2" --dtype-seed=1 --dtype-only={failed}',
            "dtype-sampler: 2 tests sampled, 3 of 10 cells ran on cpu (--dtype-seed=1)",
        ]
    )
    project.run("test_it.py::test_2", "--dtype-seed=1").assert_outcomes(failed=1)
    assert project.took()[-1] == ("2", failed)


def test_setupclass(project):
    project.file("test_it", SHARED)
    both = project.run("--dtype-seed=3", "-s", "-k", "test_a or test_b").outlines
    alone = project.run("--dtype-seed=3", "-s", "test_it.py::Test::test_b").outlines
    a, b = (line[line.index("[") :] for line in both if "A [" in line or "B [" in line)
    assert a == b
    assert any(line.endswith(f"B {b}") for line in alone)


def test_a_loop_in_a_shared_fixture(project):
    project.file(
        "test_it",
        """
        import pytest
        @pytest.fixture(scope="module")
        def models(random_dtypes):
            for dtype in random_dtypes(dtypes=[*"ab"]): assert dtype != "b"
        def test_1(models): pass
        """,
    )
    result = project.run("--dtype-seed=1")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            "dtype under test: b",
            'same sample: *pytest "test_it.py::test_1" --dtype-seed=1',
            "dtype-sampler: 1 test sampled, * of 2 cells ran on cpu (--dtype-seed=1)",
        ]
    )


@pytest.mark.parametrize("scope", ["class", "module", "session"])
def test_random_data_of_a_fixture_parametrized_over_dtypes(project, scope):
    project.ini(dtype_sampler_argnames="model")
    project.file(
        "test_it",
        f"""
        import pytest, random
        @pytest.fixture(params=["float16", "float32", "bfloat16"], scope="{scope}")
        def model(request): return random.random()
        @pytest.fixture(scope="{scope}")
        def head(model): return random.random()
        def test_1(request, took, head, model): took(request, [head, model, random.random()])
        def test_2(request, took, model): took(request, model)
        """,
    )
    project.run("--dtype-seed=1", "--all-dtypes").assert_outcomes(passed=6)
    together = dict(project.took())
    assert len(set(together.values())) == 6
    project.run("--dtype-seed=1", "--dtype-only=bfloat16").assert_outcomes(passed=2, deselected=4)
    assert set(project.took()) == {item for item in together.items() if "bfloat16" in item[0]}
