"""Tests with several dtype arguments: each dtype of each comes soon, and all combinations do."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from itertools import product

import pytest

from dtype_sampler.commands.main import main
from dtype_sampler.sampling.axes import runs_for_values
from dtype_sampler.sampling.rule import runs_to_cover

# With a common factor, where a circle has to be laid with care.
FIRST = ["float16", "bfloat16", "float32", "float64", "int8", "int16"]
SECOND = ["float32", "complex64", "int8", "bool"]

STACKED = f"""
import pytest
@pytest.mark.parametrize("second", {SECOND})
@pytest.mark.parametrize("first", {FIRST})
def test(took, first, second): took(first, second)
"""
ROWS = f"""
import itertools, pytest
@pytest.mark.parametrize("second, first", [*itertools.product({SECOND}, {FIRST})])
def test(took, first, second): took(first, second)
"""
MARKERS = f"""
import pytest
@pytest.mark.random_dtypes("first", {FIRST})
@pytest.mark.random_dtypes("second", {SECOND})
def test(took, first, second): took(first, second)
"""
LOOP = f"""
import itertools
def test(took, random_dtypes):
    for first, second in random_dtypes(dtypes=itertools.product({FIRST}, {SECOND})):
        took(first, second)
"""
TUPLES = f"""
import itertools, pytest
@pytest.mark.random_dtypes("pair", itertools.product({FIRST}, {SECOND}))
def test(took, pair): took(*pair)
"""
FIXTURES = f"""
import pytest
@pytest.fixture(params={FIRST})
def first(request): return request.param
@pytest.fixture(params={SECOND})
def second(request): return request.param
def test(took, first, second): took(first, second)
"""
FORMS = [STACKED, ROWS, MARKERS, LOOP, TUPLES, FIXTURES]
NAMES = ["stacked", "rows", "markers", "loop", "tuples", "fixtures"]


@pytest.fixture
def pairs(project) -> Callable[[int], list[tuple[str, str]]]:
    project.ini(dtype_sampler_argnames="first second", dtype_sampler_k="3")

    def pairs(seed: int, *args: str) -> list[tuple[str, str]]:
        result = project.run("-q", f"--dtype-seed={seed}", "--no-dtype-ledger", *args)
        assert result.ret == 0
        return project.took()

    return pairs


def met(runs: Iterable[list[tuple[str, str]]], place: int) -> set[str]:
    return {pair[place] for taken in runs for pair in taken}


@pytest.mark.parametrize("form", FORMS, ids=NAMES)
def test_every_dtype_of_every_argument_comes_soon(project, pairs, form):
    project.file("test_it", form)
    taken = [pairs(seed) for seed in range(11, 11 + 8)]
    assert all(len(one) == 3 for one in taken)
    # 6 dtypes with 3 a run: two runs, from any one on. 4 dtypes, one of which may come late: two.
    for begin in range(7):
        assert met(taken[begin : begin + 2], 0) == set(FIRST)
        assert met(taken[begin : begin + 2], 1) == set(SECOND)
    assert {pair for one in taken for pair in one} == set(product(FIRST, SECOND))


def test_all_ways_to_write_items_take_the_same(project, pairs):
    found = []
    for form in (STACKED, ROWS, MARKERS, FIXTURES):
        project.file("test_it", form)
        found.append(sorted(pairs(5)))
    assert all(one == found[0] for one in found)


def test_workers_agree(project, pairs):
    project.file("test_it", STACKED)
    alone = sorted(pairs(5))
    assert sorted(pairs(5, "-n", "2")) == alone


def test_three_arguments(project, pairs):
    project.file(
        "test_it",
        """
        import pytest
        @pytest.mark.parametrize("c", [1, 2])
        @pytest.mark.random_dtypes("second", [*"abcd"])
        @pytest.mark.random_dtypes("first", [*"abcd"])
        @pytest.mark.random_dtypes("third", [*"ab"])
        def test(took, first, second, third, c): took(str(c), first + second + third)
        """,
    )
    labels = [",".join(one) for one in product("abcd", "abcd", "ab")]
    limits = runs_for_values(labels, 3, 3)
    assert limits == (2, 2, 1)
    taken = [pairs(seed) for seed in range(4, 4 + runs_to_cover(32, 3))]
    for other in "12":
        own = [[value for name, value in one if name == other] for one in taken]
        assert {value for one in own for value in one} == {
            *map("".join, product(*["abcd", "abcd", "ab"]))
        }
        for place, limit in enumerate(limits):
            for begin in range(len(own) - limit):
                there = {value[place] for one in own[begin : begin + limit] for value in one}
                assert there == set("ab" if place == 2 else "abcd")


def test_rows_that_a_suite_leaves_out(project, pairs):
    project.file(
        "test_it",
        """
        import itertools, pytest
        ROWS = [(a, b) for a, b in itertools.product("abcd", "abcd") if a <= b]
        @pytest.mark.parametrize("first, second", ROWS)
        def test(took, first, second): took(first, second)
        """,
    )
    rows = [pair for pair in product("abcd", repeat=2) if pair[0] <= pair[1]]
    taken = [pairs(seed) for seed in range(3, 3 + 4)]
    # All that there is within as many runs as there are: 10 rows, 3 a run.
    assert {pair for one in taken for pair in one} == set(rows)
    assert all(len(one) == 3 for one in taken)


def test_rows_that_marks_skip_take_no_place(project, pairs):
    project.file(
        "test_it",
        """
        import itertools, pytest
        def row(a, b):
            return pytest.param(a, b, marks=pytest.mark.skip("no") if a == b else ())
        @pytest.mark.parametrize("first, second", [row(a, b) for a in "abcd" for b in "abcd"])
        def test(took, first, second): took(first, second)
        """,
    )
    rows = {pair for pair in product("abcd", repeat=2) if pair[0] != pair[1]}
    taken = [pairs(seed) for seed in range(3, 3 + 6)]
    assert {pair for one in taken for pair in one} == rows
    assert all(len(one) == 3 for one in taken)
    # Each dtype lacks one of its pairs: within twice the runs, at most.
    for begin in range(3):
        assert met(taken[begin : begin + 4], 0) == met(taken[begin : begin + 4], 1) == set("abcd")


@pytest.mark.parametrize("strategy", ["random", "oldest"])
def test_other_strategies(project, strategy):
    project.file("test_it", LOOP)
    pairs = set()
    for seed in range(8):
        result = project.run(f"--dtype-strategy={strategy}", f"--dtype-seed={seed}")
        result.assert_outcomes(passed=1)
        taken = project.took()
        assert len(taken) == 3
        pairs |= set(taken)
    # `oldest` takes what never ran, so 8 runs take all 24.
    assert len(pairs) == 24 if strategy == "oldest" else len(pairs) > 8


def test_always_exclude_and_only(project):
    project.file(
        "test_it",
        f"""
        import itertools
        def test(took, random_dtypes):
            for first, second in random_dtypes(
                k=3, dtypes=itertools.product({FIRST}, {SECOND}),
                always=[("float16", "bool")], exclude=[("int8", "int8"), ("int16", "int8")],
            ):
                took(first, second)
        """,
    )
    taken = []
    for seed in range(11):
        project.run(f"--dtype-seed={seed}", "--no-dtype-ledger").assert_outcomes(passed=1)
        taken.append(project.took())
    assert all(len(one) == 3 and ("float16", "bool") in one for one in taken)
    whole = {*product(FIRST, SECOND)} - {("int8", "int8"), ("int16", "int8")}
    assert {pair for one in taken for pair in one} == whole
    project.run("--dtype-only=int8,float32").assert_outcomes(passed=1)
    assert project.took() == [("float32", "float32"), ("float32", "int8"), ("int8", "float32")]


def test_a_failing_pair_is_replayed_and_run_again(project):
    project.file(
        "test_it",
        """
        import itertools
        def test(took, random_dtypes):
            for pair in random_dtypes(k=2, dtypes=itertools.product("abc", "xy")):
                took(*pair)
                assert pair != ("b", "y")
        """,
    )
    failed = next(
        seed for seed in range(3) if project.run(f"--dtype-seed={seed}", "--no-dtype-ledger").ret
    )
    project.took()
    result = project.run(f"--dtype-seed={failed}")
    result.stdout.fnmatch_lines(["dtype under test: ('b', 'y')"])
    line = next(one for one in result.outlines if one.startswith("this dtype only:"))
    project.took()
    import shlex

    words = shlex.split(line.partition(": ")[2])[1:]
    project.run(*words).assert_outcomes(failed=1)
    assert project.took() == [("b", "y")]
    # On top of every sample until it passes, and last, as it would hide others.
    for seed in (failed + 1, failed + 2):
        project.run(f"--dtype-seed={seed}")
        assert project.took()[-1] == ("b", "y")


@pytest.fixture
def cli(capsys) -> Callable[..., str]:
    def cli(*args: str) -> str:
        capsys.readouterr()
        assert main(list(args)) == 0
        return capsys.readouterr().out

    return cli


def test_singles_and_combinations_are_told_apart(project, cli):
    project.ini(dtype_sampler_argnames="first second", dtype_sampler_k="3")
    project.file("test_it", STACKED)
    result = project.run("--dtype-seed=7")
    told = [line for line in result.outlines if line.startswith("dtype-sampler: ")][1:]
    assert told == [
        "dtype-sampler: 1 test sampled, 3 of 24 cells ran on cpu (--dtype-seed=7)",
        (
            "dtype-sampler: 1 test with several dtype arguments: 3 of 24 combinations ran, 6 of 10"
            " single dtypes in one of them"
        ),
        "dtype-sampler: ledger: 3 of 24 cells covered on cpu, 3 for the first time in this run",
        (
            "dtype-sampler: ledger: 6 of 10 single dtypes covered in a combination, of tests with"
            " several dtype arguments"
        ),
        (
            "dtype-sampler: ledger: 1 test has cells that never ran; 7 more runs of this selection,"
            " from --dtype-seed=8 on, cover them"
        ),
        (
            "dtype-sampler: ledger: 1 test has single dtypes that never ran in any combination; 1"
            " more run reaches them"
        ),
    ]
    lines = cli("plan", "--seed=7", "--runs=2").splitlines()
    assert lines[:2] == [
        "test_it.py::test (cpu)",
        (
            "  2 arguments of 6 and 4 dtypes: every single one within 2 and 2 runs, each of 24"
            " combinations within 8"
        ),
    ]
    text = cli("report").replace("\n", " ")
    assert "6 of 10 single dtypes covered in one" in text
    assert "(until all single dtypes are: 1)" in text
    project.took()
    project.run("--dtype-seed=8")
    assert set(lines[3].removeprefix("  8: ").split(", ")) == set(map(",".join, project.took()))
    text = cli("report").replace("\n", " ")
    assert "10 of 10 single dtypes covered in one" in text
    assert "until all single dtypes" not in text
    report = json.loads(cli("report", "--format=json"))
    assert report["summary"]["single_dtypes"] == {"covered": 10, "all": 10, "runs_needed": 0}
    first, second = report["tests"][0]["arguments"]
    assert {one["value"] for one in first} == set(FIRST)
    assert {one["value"] for one in second} == set(SECOND)
    assert sum(one["combinations_covered"] for one in first) == 6
    page = cli("report", "--format=html")
    assert "10 of 10" in page
    assert "single dtypes of several arguments" in page


def test_nothing_is_said_of_combinations_where_there_are_none(project, cli):
    project.file("test_it", "def test(random_dtypes): assert [*random_dtypes()]")
    assert "single dtype" not in project.run().stdout.str()
    assert "single dtype" not in cli("report") + cli("plan")
    assert "single_dtypes" not in cli("report", "--format=json")
