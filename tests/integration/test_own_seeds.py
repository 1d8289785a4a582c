"""What a suite seeds itself stays its own; what it doesn't seed is ours, and replays."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

# What a test finds right after each way of seeding, in each of the ways to ask for dtypes.
HEAD = """
import random, unittest
import numpy, pytest, torch
from dtype_sampler import random_dtypes as ask

def data(): return [random.random(), numpy.random.random(), torch.rand(1).item()]
def seed():
    random.seed(42); numpy.random.seed(42); torch.manual_seed(42)
"""
FIXTURE = """
@pytest.fixture(autouse=True)
def seeded(): seed()
"""
LOOP = """
def test_loop(took):
    for dtype in ask(k=2, dtypes=[*"abcd"]): took(f"loop {dtype}", data())
def test_fixture(took, random_dtypes):
    for dtype in random_dtypes(k=2, dtypes=[*"abcd"]): took(f"fixture {dtype}", data())
def helper(took):
    for dtype in ask(k=2, dtypes=[*"abcd"]): took(f"helper {dtype}", data())
def test_helper(took): helper(took)
@pytest.mark.random_dtypes("dtype", [*"abcd"], k=2)
def test_items(dtype, took): took(f"items {dtype}", data())
"""
METHODS = """
class TestPlain:
    def setup_method(self): seed()
    def test_loop(self, took):
        for dtype in ask(k=2, dtypes=[*"abcd"]): took(f"loop {dtype}", data())
    def check(self, took):
        for dtype in ask(k=2, dtypes=[*"abcd"]): took(f"helper {dtype}", data())
    def test_helper(self, took): self.check(took)
    @pytest.mark.random_dtypes("dtype", [*"abcd"], k=2)
    def test_items(self, dtype, took): took(f"items {dtype}", data())
"""
UNITTEST = """
@pytest.fixture(scope="session", autouse=True)
def give(took):
    global TOOK
    TOOK = took
class Mixin:
    def setUp(self): seed()
    def check(self):
        for dtype in ask(k=2, dtypes=[*"abcd"]): TOOK(f"helper {dtype}", data())
    def test_helper(self): self.check()
    def test_loop(self):
        for dtype in ask(k=2, dtypes=[*"abcd"]): TOOK(f"loop {dtype}", data())
    def test_subtests(self):
        for dtype in ask(k=2, dtypes=[*"abcd"]):
            with self.subTest(dtype=dtype): TOOK(f"subtests {dtype}", data())
class Test(Mixin, unittest.TestCase): pass
"""
BODY = """
def test_body(took):
    seed()
    for dtype in ask(k=2, dtypes=[*"abcd"]): took(f"loop {dtype}", data())
"""
HOOK = """
def pytest_runtest_setup(item): item.module.seed()
"""


def after_42() -> list[float]:
    torch.manual_seed(42)
    return [
        random.Random(42).random(),
        np.random.RandomState(42).random(),
        torch.rand(1).item(),
    ]


@pytest.mark.parametrize(
    "source",
    [FIXTURE + LOOP, METHODS, UNITTEST, BODY],
    ids=["fixture", "setup_method", "setUp", "body"],
)
@pytest.mark.parametrize("randomly", [False, True])
def test_every_dtype_starts_from_the_suites_own_seed(project, source, randomly):
    project.file("test_it", HEAD + source)
    plugins = ["randomly"] if randomly else []
    for args in (["--dtype-seed=1"], ["--dtype-seed=2"], ["--all-dtypes"], ["--dtype-only=c"]):
        project.run(*plugins, *args)
        taken = project.took()
        assert taken
        assert {value for _, value in taken} == {str(after_42())}


def test_a_seed_in_a_hook_of_the_conftest_is_the_suites_own_too(project):
    conftest = project.pytester.path / "conftest.py"
    conftest.write_text(conftest.read_text() + HOOK)
    project.file("test_it", HEAD + LOOP)
    for seed in (1, 2):
        project.run(f"--dtype-seed={seed}")
        assert {value for _, value in project.took()} == {str(after_42())}


@pytest.mark.parametrize(
    ("place", "seeds"),
    [
        (0, "random.seed(7)"),
        (1, "numpy.random.seed(7)"),
        (2, "torch.manual_seed(7)"),
        (2, "torch.random.manual_seed(7)"),
    ],
)
def test_one_generator_alone(project, place, seeds):
    head = HEAD.replace("random.seed(42); numpy.random.seed(42); torch.manual_seed(42)", seeds)
    project.file("test_it", head + FIXTURE + LOOP)
    found = []
    for seed in (1, 2):
        project.run(f"--dtype-seed={seed}", "--all-dtypes")
        found += [eval(value) for _, value in project.took()]
    for number, values in enumerate(zip(*found, strict=True)):
        # The suite's is one and the same; the others are each dtype's own, in each run.
        assert len(set(values)) == (1 if number == place else 2 * 16)


def test_what_was_drawn_after_the_own_seed_is_behind_every_dtype(project):
    project.file(
        "test_it",
        HEAD
        + FIXTURE
        + """
@pytest.fixture
def drawn(): return torch.rand(2000), [random.random() for _ in range(700)], numpy.random.rand(999)
def test_loop(took, drawn):
    torch.rand(3)
    for dtype in ask(k=2, dtypes=[*"abcd"]):
        took(dtype, data())
        if dtype == "b": torch.rand(5)
""",
    )
    project.run("--all-dtypes")
    ((_, everything), *others) = project.took()
    assert {value for _, value in others} == {everything} != {str(after_42())}
    for dtype in "abcd":
        project.run(f"--dtype-only={dtype}", "--dtype-seed=3")
        assert project.took() == [(dtype, everything)]


@pytest.mark.parametrize("randomly", [False, True])
def test_what_nobody_seeds_replays_whatever_fixtures_draw(project, randomly):
    project.file(
        "test_it",
        HEAD
        + """
@pytest.fixture(scope="module")
def wide(): return torch.rand(10), random.random(), numpy.random.rand(9999)
@pytest.fixture
def drawn(wide): return torch.rand(2000), random.random(), numpy.random.rand(9999)
def test_other(wide): pass
def test_before(took, drawn):
    for dtype in ask(k=3, dtypes=[*"abcd"]): took(f"before {dtype}", data())
def test_again(took):
    for dtype in ask(k=3, dtypes=[*"abcd"]): took(f"first {dtype}", data())
    numpy.random.rand(3)
    for dtype in ask(k=3, dtypes=[*"abcd"]): took(f"second {dtype}", data())
def test_lazy(took, request):
    request.getfixturevalue("wide")
    for dtype in ask(k=3, dtypes=[*"abcd"]): took(f"lazy {dtype}", data())
@pytest.mark.random_dtypes("dtype", [*"abcd"], k=3)
def test_items(dtype, took, drawn): took(f"items {dtype}", data())
@pytest.mark.random_dtypes("dtype", [*"abcd"], k=3)
def test_items_lazily(dtype, took, request):
    request.getfixturevalue("wide")
    took(f"lazy items {dtype}", data())
""",
    )
    plugins = ["randomly"] if randomly else []
    project.run("--all-dtypes", "--dtype-seed=3", *plugins)
    everything = dict(project.took())
    assert len(everything) == 24
    for args in (["--dtype-only=c"], ["--dtype-only=a"], ["-k", "lazy"], ["-k", "before or again"]):
        project.run("--dtype-seed=3", *args, *plugins)
        taken = dict(project.took())
        assert taken
        assert taken.items() <= everything.items()
    project.run("--all-dtypes", "--dtype-seed=4", *plugins)
    assert not {str(v) for v in dict(project.took()).values()} & set(everything.values())


def test_tests_without_dtypes_are_left_alone(project):
    """Though their module and their class have tests that ask for some."""
    project.file(
        "test_it",
        HEAD
        + """
seed()
class TestIt:
    def test_loop(self): list(ask())
class TestOther:
    def test_1(self, took): took("1", data())
    def test_2(self, took): took("2", data())
""",
    )
    found = []
    for seed in (1, 2):
        project.run(f"--dtype-seed={seed}", "-k", "TestOther")
        found.append(project.took())
    assert found[0] == found[1]
    assert found[0][0] == ("1", str(after_42()))


def test_hypothesis_sees_the_same_data_in_every_example(project):
    project.file(
        "test_it",
        HEAD
        + """
from hypothesis import given, settings, strategies as st
@settings(max_examples=5, derandomize=True, deadline=None)
@given(n=st.integers())
def test(took, n):
    for dtype in ask(k=2, dtypes=[*"ab"]): took(dtype, data())
""",
    )
    project.run("hypothesispytest", "--dtype-seed=1").assert_outcomes(passed=1)
    taken = project.took()
    assert len(taken) > 4
    assert len(set(taken)) == 2
