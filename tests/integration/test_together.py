"""`--dtype-together`: tests with the same candidates take the same ones in a run."""

from __future__ import annotations

import re
import shlex
from collections import defaultdict

import pytest

from dtype_sampler.commands.main import main

SUITE = """
import pytest, unittest
from dtype_sampler import random_dtypes as ask
FOUR = ["float16", "bfloat16", "float32", "float64"]
def test_loop(took):
    for dtype in ask(k=2, dtypes=FOUR): took("loop", dtype)
def test_other_order(took):
    for dtype in ask(k=2, dtypes=FOUR[::-1]): took("reversed", dtype)
def test_fixture(took, random_dtypes):
    for dtype in random_dtypes(k=2, dtypes=FOUR): took("fixture", dtype)
@pytest.mark.random_dtypes("dtype", FOUR, k=2)
def test_marker(took, dtype): took("marker", dtype)
@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("argument", FOUR)
def test_items(took, argument, n): took(f"items {n}", argument)
class TestClass(unittest.TestCase):
    def test_method(self):
        for dtype in ask(k=2, dtypes=FOUR):
            with self.subTest(dtype=dtype): self.took("method", dtype)
    @pytest.fixture(autouse=True)
    def _took(self, took): self.took = took
def test_three(took):
    for dtype in ask(k=3, dtypes=FOUR): took("three", dtype)
def test_another_pool(took):
    for dtype in ask(k=2, dtypes=FOUR[:3]): took("another", dtype)
"""
ALIKE = {"loop", "reversed", "fixture", "marker", "items 1", "items 2", "method"}


@pytest.fixture
def suite(project):
    project.ini(dtype_sampler_argnames="argument", dtype_sampler_k="2")
    project.file("test_it", SUITE)
    return project


def samples(project) -> dict[str, frozenset[str]]:
    found = defaultdict(set)
    for name, dtype in project.took():
        found[name].add(dtype)
    return {name: frozenset(dtypes) for name, dtypes in found.items()}


def together(taken: dict[str, frozenset[str]], names: set[str] = ALIKE) -> frozenset[str]:
    """What all of them took."""
    (one,) = {taken[name] for name in names}
    return one


@pytest.mark.parametrize("strategy", ["rotate", "random"])
def test_the_same_candidates_take_the_same(suite, strategy):
    met: dict[str, set[str]] = defaultdict(set)
    for seed in range(5, 7):
        args = ("--dtype-together", f"--dtype-strategy={strategy}", f"--dtype-seed={seed}")
        result = suite.run(*args, "--no-dtype-ledger")
        assert result.ret == 0
        assert f"strategy={strategy}, k=2, together" in result.stdout.str()
        taken = samples(suite)
        assert len(together(taken)) == 2
        for name, dtypes in taken.items():
            met[name] |= dtypes
    if strategy == "rotate":
        # As many runs as ever cover everything, whatever k and the pool are.
        assert all(len(dtypes) == (3 if name == "another" else 4) for name, dtypes in met.items())


def test_workers_agree(suite):
    suite.run("--dtype-together", "--dtype-seed=3", "--no-dtype-ledger")
    alone = samples(suite)
    suite.run("--dtype-together", "--dtype-seed=3", "--no-dtype-ledger", "-n", "2")
    assert samples(suite) == alone


def test_without_it_tests_take_different_ones(suite):
    suite.run("--dtype-seed=3", "--no-dtype-ledger")
    taken = samples(suite)
    assert len({taken[name] for name in ALIKE}) > 1


@pytest.mark.parametrize("how", ["ini", "environment"])
def test_other_ways_to_say_it(suite, monkeypatch, how):
    if how == "ini":
        suite.ini(
            dtype_sampler_argnames="argument", dtype_sampler_k="2", dtype_sampler_together="true"
        )
    else:
        monkeypatch.setenv("DTYPE_SAMPLER_TOGETHER", "1")
    suite.run("--no-dtype-ledger", "--junitxml=report.xml")
    together(samples(suite))
    report = (suite.pytester.path / "report.xml").read_text()
    assert 'name="dtype_sampler_together" value="true"' in report


def test_a_wrong_value(suite, monkeypatch):
    monkeypatch.setenv("DTYPE_SAMPLER_TOGETHER", "maybe")
    result = suite.run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: DTYPE_SAMPLER_TOGETHER=maybe: write 1 *"])


def test_oldest_takes_turns(suite):
    met: dict[str, set[str]] = defaultdict(set)
    for number in range(2):
        if number:
            # New since the last run: it takes what the others take.
            suite.file("test_new", "def test(took, random_dtypes):\n" + NEW)
        result = suite.run("--dtype-together", "--dtype-strategy=oldest")
        assert "strategy=rotate instead of oldest, k=2, together" in result.stdout.str()
        taken = samples(suite)
        together(taken, ALIKE | ({"new"} if number else set()))
        for name, dtypes in taken.items():
            met[name] |= dtypes
    assert all(len(met[name]) == 4 for name in ALIKE)


NEW = """
    dtypes = ["float64", "float32", "float16", "bfloat16"]
    for dtype in random_dtypes(k=2, dtypes=dtypes): took("new", dtype)
"""

FAILING = """
from dtype_sampler import random_dtypes as ask
def test_a(took):
    for dtype in ask(k=2, dtypes=[*"abcdef"]):
        took("a", dtype)
        assert dtype != "c"
def test_b(took):
    for dtype in ask(k=2, dtypes=[*"abcdef"]): took("b", dtype)
"""


def replayed(result) -> list[str]:
    """The words of the line that replays the sample."""
    line = next(one for one in result.outlines if one.startswith("same sample:"))
    return shlex.split(line.partition(":")[2])[1:]


@pytest.mark.parametrize("how", ["option", "environment", "switched off"])
def test_a_replay_takes_the_same(project, monkeypatch, how):
    project.file("test_it", FAILING)
    options: tuple[str, ...] = ()
    if how == "option":
        options = ("--dtype-together",)
    else:
        monkeypatch.setenv("DTYPE_SAMPLER_TOGETHER", str(int(how == "environment")))
        project.ini(dtype_sampler_together="true")
    for seed in range(6):
        result = project.run(f"--dtype-seed={seed}", "--no-dtype-ledger", *options)
        taken = [one for one in project.took() if one[0] == "a"]
        if result.ret:
            break
    monkeypatch.delenv("DTYPE_SAMPLER_TOGETHER", raising=False)
    words = replayed(result)
    if how == "environment":
        assert "--dtype-together" in words
        project.ini()
    project.run(*words, "--no-dtype-ledger").assert_outcomes(failed=1)
    assert project.took() == taken


def test_what_failed_and_what_was_hidden_comes_on_top(project):
    project.ini(dtype_sampler_together="true")
    project.file("test_it", FAILING.replace("k=2", "k=3"))
    first = next(
        seed for seed in range(2) if project.run(f"--dtype-seed={seed}", "--no-dtype-ledger").ret
    )
    project.took()
    project.run(f"--dtype-seed={first}")
    before = samples(project)
    project.run(f"--dtype-seed={first + 1}")
    after = samples(project)
    # The other test takes its share as ever; this one takes that, and what it owes.
    assert after["b"] | before["b"] == set("abcdef")
    assert after["a"] >= after["b"] | {"c"}
    assert after["a"] == after["b"] | {"c"} | (before["b"] - before["a"])


def test_selections_go_on_by_themselves(project):
    for name in "ab":
        project.file(f"test_{name}", FAILING.replace('assert dtype != "c"', "pass"))
    met: dict[str, set[str]] = defaultdict(set)
    # Three runs of each in turn, and others without the option between them.
    for _ in range(3):
        for name in "ab":
            project.run("--dtype-together", f"test_{name}.py").assert_outcomes(passed=2)
            taken = samples(project)
            met[name] |= together(taken, {"a", "b"})
            project.run(f"test_{name}.py")
            project.took()
    assert met == {"a": set("abcdef"), "b": set("abcdef")}


def test_loops_within_loops_and_within_items(project):
    project.file(
        "test_it",
        """
        import pytest
        from dtype_sampler import random_dtypes as ask
        def nested(took, name):
            for outer in ask(k=2, dtypes=[*"abcd"]):
                for inner in ask(k=2, dtypes=[*"abcd"]): took(name, outer + inner)
        def test_1(took): nested(took, "one")
        def test_2(took): nested(took, "two")
        @pytest.mark.random_dtypes("outer", [*"abcd"], k=2)
        @pytest.mark.parametrize("name", ["three", "four"])
        def test_items(took, outer, name):
            for inner in ask(k=2, dtypes=[*"xyz"]): took(name, outer + inner)
        """,
    )
    met = set()
    for seed in range(4):
        project.run("--dtype-together", f"--dtype-seed={seed}", "--no-dtype-ledger")
        taken = samples(project)
        met |= together(taken, {"one", "two"})
        together(taken, {"three", "four"})
    # All pairs meet, as without it.
    assert len(met) == 16


def test_pairs_are_taken_together_too(project):
    project.ini(dtype_sampler_argnames="first second", dtype_sampler_together="true")
    project.file(
        "test_it",
        """
        import itertools, pytest
        PAIRS = [*itertools.product("abcd", "abcd")]
        @pytest.mark.parametrize("first, second", PAIRS)
        def test_1(took, first, second): took("one", first + second)
        @pytest.mark.parametrize("second", [*"abcd"])
        @pytest.mark.parametrize("first", [*"abcd"])
        def test_2(took, first, second): took("two", first + second)
        """,
    )
    taken = []
    for seed in range(2, 8):
        project.run(f"--dtype-seed={seed}", "--no-dtype-ledger")
        taken.append(together(samples(project), {"one", "two"}))
    assert len(frozenset().union(*taken)) == 16
    assert all({pair[i] for pair in a | b} == set("abcd") for a, b in [taken[:2]] for i in (0, 1))


def test_what_the_books_foretell_comes_true(project, capsys):
    project.ini(dtype_sampler_together="true")
    project.file("test_it", FAILING.replace('assert dtype != "c"', "pass"))
    result = project.run("--dtype-seed=4")
    assert "2 more runs of this selection" in result.stdout.str()
    project.took()
    capsys.readouterr()
    assert main(["plan", "--seed=5", "--runs=2"]) == 0
    planned = re.findall(r"^  (\d+): (.*)$", capsys.readouterr().out, re.MULTILINE)
    assert len(planned) == 4
    assert len(set(planned)) == 2
    for seed, sample in planned[:2]:
        project.run(f"--dtype-seed={seed}")
        assert together(samples(project), {"a", "b"}) == frozenset(sample.split(", "))


def test_what_the_device_lacks_is_passed_over_by_all(project):
    project.file(
        "test_it",
        """
        import torch
        from dtype_sampler import random_dtypes as ask
        DTYPES = [torch.float16, torch.float32, torch.float64, torch.bfloat16]
        def test_1(took):
            for dtype in ask(k=2, dtypes=DTYPES, device="meta"): took("one", dtype)
        def test_2(took):
            for dtype in ask(k=2, dtypes=DTYPES): took("two", dtype)
        """,
    )
    project.run("--dtype-together", "--dtype-seed=1", "--no-dtype-ledger").assert_outcomes(passed=2)
    together(samples(project), {"one", "two"})


def test_a_test_alone_takes_what_it_takes_beside_others(project):
    project.file("test_it", FAILING.replace('assert dtype != "c"', "pass"))
    taken = {}
    for name in "ab":
        project.run(
            "--dtype-together", "--dtype-seed=9", "--no-dtype-ledger", f"test_it.py::test_{name}"
        )
        taken |= samples(project)
    together(taken, {"a", "b"})
