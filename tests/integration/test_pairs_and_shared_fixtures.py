"""Which dtypes meet: in nested loops, and in fixtures that many tests share."""

from __future__ import annotations

import pytest

NESTED = """
from dtype_sampler import random_dtypes as ask
def test(took):
    for outer in ask(k={k}, dtypes=[*"{labels}"]{always}):
        for inner in ask(k={inner}, dtypes=[*"{labels}"]): took(outer, inner)
"""


@pytest.mark.parametrize(
    ("labels", "k", "inner", "always", "seeds"),
    [
        ("abcd", 2, 2, "", 4),
        ("abcd", 1, 2, "", 8),
        ("abcde", 2, 1, "", 13),
        ("abcd", 2, 2, ", always=['a']", 6),
        ("abc", 3, 1, "", 3),
        ("abc", 9, 1, "", 3),
    ],
)
def test_every_pair_of_nested_loops_meets(project, labels, k, inner, always, seeds):
    project.file("test_it", NESTED.format(labels=labels, k=k, inner=inner, always=always))
    pairs, each = set(), []
    for seed in range(7, 7 + seeds):
        project.run(f"--dtype-seed={seed}", "--no-dtype-ledger").assert_outcomes(passed=1)
        taken = project.took()
        pairs |= set(taken)
        each.append({outer for outer, _ in taken})
    assert pairs == {(a, b) for a in labels for b in labels}
    # The outer loop is as it was: k at a time, once round the circle.
    assert all(len(one) == min(k, len(labels)) for one in each)
    assert set().union(*each[: -(-len(labels) // k) + bool(always)]) == set(labels)


@pytest.mark.parametrize("strategy", ["random", "oldest"])
def test_other_strategies_draw_pairs_too(project, strategy):
    project.file("test_it", NESTED.format(labels="abcd", k=2, inner=2, always=""))
    pairs = set()
    for seed in range(16 if strategy == "random" else 6):
        project.run(f"--dtype-seed={seed}", f"--dtype-strategy={strategy}")
        pairs |= set(project.took())
    # Half of them, were both loops to take the same.
    assert len(pairs) > 8


def test_cells_are_those_of_one_test_and_loops_beside_each_other_agree(project):
    project.file(
        "test_it",
        """
        from dtype_sampler import random_dtypes as ask
        def test(took):
            first = list(ask(k=2, dtypes=[*"abcd"]))
            for a in ask(k=2, dtypes=[*"abcd"]):
                for b in ask(k=1, dtypes=[*"abcd"]):
                    for c in ask(k=1, dtypes=[*"abcd"]): took("three", a + b + c)
                for n in ask(k=1, dtypes=[*"xy"]): took("others", a + n)
            assert list(ask(k=2, dtypes=[*"abcd"])) == first
        """,
    )
    result = project.run("--dtype-seed=3")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["dtype-sampler: 1 test sampled, * of 6 cells ran on cpu *"])
    taken = project.took()
    # The same again.
    project.run("--dtype-seed=3", "--no-dtype-ledger")
    assert project.took() == taken
    project.run("--dtype-seed=3", "--all-dtypes")
    every = project.took()
    assert len([value for name, value in every if name == "three"]) == 4**3
    assert set(taken) <= set(every)


WIDE = """
import pytest
made = []
@pytest.fixture(scope="{scope}", params=["float16", "bfloat16", "float32", "float64"])
def dtype(request, took):
    took("made", request.param)
    return request.param
@pytest.fixture(scope="{scope}")
def model(dtype): return dtype
class TestModel:
    @pytest.mark.parametrize("n", [1, 2, 3])
    def test_n(self, model, n, took): took(f"n{{n}}", model)
    def test_other(self, dtype, took): took("other", dtype)
class TestSecond:
    def test_a(self, dtype, took): took("a", dtype)
    def test_b(self, model, took): took("b", model)
"""


@pytest.mark.parametrize("scope", ["class", "module", "package", "session", "function"])
def test_tests_that_share_a_fixture_take_the_same_dtypes(project, scope):
    project.ini(dtype_sampler_argnames="dtype", dtype_sampler_k="1")
    project.file("test_it", WIDE.format(scope=scope))
    met: dict[str, set[str]] = {}
    for seed in range(4):
        project.run(f"--dtype-seed={seed}").assert_outcomes(passed=6, deselected=18)
        taken = project.took()
        made = [value for name, value in taken if name == "made"]
        ran = [(name, value) for name, value in taken if name != "made"]
        for name, value in ran:
            met.setdefault(name, set()).add(value)
        assert len(ran) == 6
        if scope == "function":
            assert len(made) == 6
        else:
            # One for each class, or one for all.
            assert len(made) == (2 if scope == "class" else 1)
    # What is promised of each test is as it was.
    assert all(len(values) == 4 for values in met.values())


def test_oldest_goes_by_the_test_that_has_waited_longest(project):
    project.ini(
        dtype_sampler_argnames="dtype", dtype_sampler_k="1", dtype_sampler_strategy="oldest"
    )
    project.file("test_it", WIDE.format(scope="class"))
    project.run("-k", "test_other")
    for _ in range(4):
        project.run()
        assert len([one for one in project.took() if one[0] == "made"]) in (2, 3)
    report = project.run("--collect-only", "--dtype-fail-under=100")
    assert report.ret == 0


@pytest.mark.parametrize("scope", ["class", "module", "session"])
def test_the_marker_takes_a_scope(project, scope):
    project.file(
        "test_it",
        f"""
        import pytest
        @pytest.fixture(scope="{scope}")
        def model(dtype, took): took("made", dtype)
        @pytest.mark.random_dtypes("dtype", [*"abcd"], k=1, scope="{scope}")
        class TestModel:
            def test_1(self, dtype, model): pass
            def test_2(self, dtype, model): pass
            def test_3(self, dtype, model): pass
        """,
    )
    for seed in range(3):
        project.run(f"--dtype-seed={seed}").assert_outcomes(passed=3, deselected=9)
        assert len(project.took()) == 1


def test_a_scope_that_does_not_exist(project):
    project.file(
        "test_it",
        """
        import pytest
        @pytest.mark.random_dtypes(scope="modul")
        def test(dtype): pass
        """,
    )
    result = project.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*unknown scope 'modul': did you mean 'module'?*"])


def test_a_loop_in_an_item_meets_all_of_its_dtypes(project):
    project.file(
        "test_it",
        """
        import pytest
        from dtype_sampler import random_dtypes as ask
        @pytest.mark.random_dtypes("dtype", [*"abcd"], k=2)
        def test(dtype, took):
            for inner in ask(k=2, dtypes=[*"abcd"]): took(dtype, inner)
            for other in ask(k=1, dtypes=[*"xy"]): took(dtype, other)
        """,
    )
    met = set()
    for seed in range(3, 7):
        project.run(f"--dtype-seed={seed}")
        taken = project.took()
        met |= set(taken)
        # An item alone has what it had beside others.
        dtype = taken[0][0]
        project.run(f"--dtype-seed={seed}", f"test_it.py::test[{dtype}]")
        assert project.took() == [one for one in taken if one[0] == dtype]
    assert met == {(a, b) for a in "abcd" for b in "abcdxy"}
