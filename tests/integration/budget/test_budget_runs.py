"""Runs that the ledger steers by a budget of time: which cells fit, and when the rest comes.

Durations are put into ledgers: nothing here waits, or asks what time it is.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from contextlib import closing

import pytest
from steered import LEDGER, LOOPS, Ledger, cells, strategies


class TestBudget:
    def test_the_header_says_what_fits_and_what_is_promised(self, project, items):
        items.run({"one": "abcdef", "two": "abcdef"})
        result = project.run("--dtype-budget=6s")
        # T / (B - c) = 12 / 5.
        result.stdout.fnmatch_lines(
            ["dtype-sampler: budget=6s: 6 of 12 cells, about 6s; every cell within 3 runs"]
        )
        assert cells(project) == 6
        result.assert_outcomes(passed=6, deselected=6)
        result.stdout.fnmatch_lines(
            ["dtype-sampler: budget=6s: predicted 6s, took *; --dtype-run=2 runs the same cells"]
        )

    def test_what_never_ran_comes_first_then_the_longest_unrun(self, project, items):
        items.run({"one": "ab", "two": "abc"})
        items.run({"one": "cd", "two": "def"})
        project.run("--dtype-budget=4s")
        # Never: two of `one`; then two of the first run.
        first = project.taken()
        assert set("ef") <= first["one"]
        older = {("one", x) for x in "ab"} | {("two", x) for x in "abc"}
        rest = {(name, x) for name, some in first.items() for x in some} - {
            ("one", "e"),
            ("one", "f"),
        }
        assert len(rest) == 2
        assert rest <= older
        project.run("--dtype-budget=3s")
        second = project.taken()
        assert {(name, x) for name, some in second.items() for x in some} == older - rest

    def test_everything_comes_within_what_is_promised(self, project, items):
        items.run({"one": "abcdef", "two": "abcdef"})
        met = defaultdict(set)
        for _ in range(3):
            project.run("--dtype-budget=6s")
            for name, some in project.taken().items():
                met[name] |= some
            # What was measured now is nearly nothing: as it was before, then.
            with closing(sqlite3.connect(items.path)) as ledger, ledger:
                ledger.execute("UPDATE cells SET costs = '[[1, 1000000]]'")
                ledger.execute("UPDATE tests SET rests = '[[1, 0]]'")
        assert met == {"one": set("abcdef"), "two": set("abcdef")}

    def test_the_dear_ones_count_for_what_they_cost(self, project, items):
        cost = dict.fromkeys("abcde", 0.5) | {"f": 100.0}
        items.run({"one": "abcdef", "two": "abcdef"}, cost=cost)
        result = project.run("--dtype-budget=2m")
        result.stdout.fnmatch_lines(
            ["*budget=2m: * of 12 cells, about *; every cell within * runs"]
        )
        assert sum("f" in some for some in project.taken().values()) <= 1

    def test_a_loop_keeps_one_and_items_may_all_be_left_out(self, project, loops):
        loops.run({"one": "abcdef", "two": "abcdef"})
        result = project.run("--dtype-budget=1s")
        first = project.taken()
        assert {name: len(some) for name, some in first.items()} == {"one": 1, "two": 1}
        result.stdout.fnmatch_lines(
            [
                (
                    "*budget=1s: 2 of 12 cells, about 2s, which is 1s more than that, as 2 loops"
                    " keep one dtype each; a budget of 3s would do; every cell within 6 runs"
                ),
            ]
        )

    def test_of_items_the_first_has_its_turn_even_if_it_does_not_fit(self, project, items):
        items.run({"one": "abcdef", "two": "abcdef"}, cost=60.0)
        result = project.run("--dtype-budget=10s")
        assert cells(project) == 1
        result.stdout.fnmatch_lines(
            [
                (
                    "*budget=10s: 1 of 12 cells, about 1m, which is 50s more than that, as what"
                    " has waited longest has its turn; a budget of 1m would do; every cell"
                    " within 12 runs"
                ),
            ]
        )

    def test_of_a_test_without_any_turn_nothing_is_shown(self, project, items):
        items.run({"one": "abcdef"})
        items.run({"two": "abcdef"})
        project.run("--dtype-budget=6s").assert_outcomes(passed=6, deselected=6)
        assert project.taken() == {"one": set("abcdef")}

    def test_what_failed_runs_again_on_top_and_before_all(self, project, items):
        items.run({"one": "abcdef", "two": "abcdef"})
        items.run({"two": "ab"}, outcome="failed")
        project.run("--dtype-budget=3s")
        found = project.taken()
        assert {"a", "b"} <= found["two"]
        assert sum(map(len, found.values())) == 3

    def test_failures_that_do_not_fit_run_and_the_header_says_by_how_much(self, project, items):
        items.run({"one": "abcdef", "two": "abcdef"}, outcome="failed", cost=10.0)
        result = project.run("--dtype-budget=1m")
        assert cells(project) == 12
        result.stdout.fnmatch_lines(
            [
                (
                    "*budget=1m: 12 of 12 cells, about 2m, which is 1m more than that, as 12 cells"
                    " must run (failed last, hidden, or always taken); a budget of 2m would do;"
                    " every cell within 1 run"
                ),
            ]
        )

    def test_what_a_test_needs_besides_is_paid_by_each_item_and_once_by_a_loop(
        self, project, items
    ):
        items.run({"one": "abcdef", "two": "abcdef"}, rest=2.0)
        result = project.run("--dtype-budget=9s")
        result.stdout.fnmatch_lines(["*budget=9s: 3 of 12 cells, about 9s; *"])

    def test_once_by_a_loop(self, project, loops):
        loops.run({"one": "abcdef", "two": "abcdef"}, rest=2.0)
        result = project.run("--dtype-budget=9s")
        result.stdout.fnmatch_lines(["*budget=9s: 5 of 12 cells, about 9s; *"])
        assert cells(project) == 5

    def test_the_first_run_takes_k_and_says_so(self, project, items):
        result = project.run("--dtype-budget=10m")
        result.stdout.fnmatch_lines(
            ["*budget=10m: the ledger knows no durations yet, so each test takes k=3; the next*"]
        )
        assert cells(project) == 6
        assert strategies(project) == ["rotate"]
        result = project.run("--dtype-budget=10m")
        result.stdout.fnmatch_lines(
            ["*budget=10m: 12 of 12 cells, about *; every cell within 1 run"]
        )
        assert strategies(project) == ["rotate", "budget"]

    def test_a_ledger_without_durations_is_none_that_knows_any(self, project, items):
        items.run({"one": "abc"}, cost=None)
        result = project.run("--dtype-budget=10m")
        result.stdout.fnmatch_lines(["*budget=10m: the ledger knows no durations yet*"])

    def test_a_test_that_the_ledger_does_not_know_takes_k(self, project, items):
        items.run({"one": "abcdef"})
        result = project.run("--dtype-budget=2s")
        assert len(project.taken()["two"]) == 3
        result.stdout.fnmatch_lines(
            ["*budget=2s: * of 6 cells*; k of each of 1 test that the ledger does not know; every*"]
        )

    def test_a_dtype_that_is_new_is_one_that_never_ran(self, project, items, loops):
        loops.run({"one": "ab", "two": "ab"}, declared="ab")
        project.run("--dtype-budget=2s", "--dtype-k=1")
        assert all(some & set("cdef") for some in project.taken().values())

    def test_tests_that_are_gone_do_not_stand_in_the_way(self, project, items):
        items.run({"test_gone.py::test": "ab", "one": "abcdef", "two": "abcdef"})
        items.run({"one": "abcdef", "two": "abcdef"})
        result = project.run("--dtype-budget=6s")
        assert cells(project) == 6
        result.stdout.fnmatch_lines(
            ["*budget=6s: 6 of 12 cells, about 6s; every cell within 3 runs"]
        )

    @pytest.mark.parametrize(
        "args", [("-k", "one"), ("test_it.py::test_one",), ("--deselect", "test_it.py::test_two")]
    )
    def test_a_selection_has_all_of_the_budget(self, project, items, args):
        items.run({"one": "abcdef", "two": "abcdef"})
        items.run({"one": "abcdef"})
        result = project.run("--dtype-budget=3s", *args)
        assert project.taken().keys() == {"one"}
        result.stdout.fnmatch_lines(
            ["*budget=3s: 3 of 6 cells, about 3s; every cell within 3 runs"]
        )

    def test_an_item_that_is_named_runs(self, project, items):
        items.run({"one": "abcdef", "two": "abcdef"})
        project.run("--dtype-budget=1s", "test_it.py::test_one[f]", "test_it.py::test_one[a]")
        assert project.taken() == {"one": {"a", "f"}}

    def test_always_and_exclude(self, project):
        project.file(
            "test_it",
            """
            import pytest
            @pytest.mark.random_dtypes("x", [*"abcdef"], always=["c"], exclude=["a"])
            def test_one(x, took): took("one", x)
            """,
        )
        ledger = Ledger(project.pytester.path / LEDGER, loops=False)
        ledger.run({"one": "abcdef"})
        project.run("--dtype-budget=2s")
        found = project.taken()["one"]
        assert "c" in found
        assert "a" not in found
        assert len(found) == 2

    def test_what_marks_skip_takes_no_part(self, project):
        project.file(
            "test_it",
            """
            import pytest
            skip = pytest.mark.skip(reason="not yet")
            dtypes = [pytest.param(x, marks=skip if x == "a" else ()) for x in "abcdef"]
            @pytest.mark.random_dtypes("x", dtypes)
            def test_one(x, took): took("one", x)
            """,
        )
        Ledger(project.pytester.path / LEDGER, loops=False).run({"one": "bcdef"})
        result = project.run("--dtype-budget=2s")
        assert len(project.taken()["one"]) == 2
        result.stdout.fnmatch_lines(["*budget=2s: 2 of 5 cells*"])

    def test_all_dtypes_of_one_test(self, project, loops):
        project.file(
            "test_it",
            LOOPS.replace("def test_one", "@pytest.mark.all_dtypes\ndef test_one").replace(
                "from", "import pytest\nfrom", 1
            ),
        )
        loops.run({"one": "abcdef", "two": "abcdef"})
        result = project.run("--dtype-budget=8s")
        found = project.taken()
        assert (len(found["one"]), len(found["two"])) == (6, 2)
        result.stdout.fnmatch_lines(["*budget=8s: 8 of 12 cells, about 8s; *"])

    def test_items_that_share_a_fixture_take_the_same(self, project):
        project.file(
            "test_it",
            """
            import pytest
            @pytest.mark.random_dtypes("x", [*"abcdef"], scope="module")
            class TestIt:
                def test_one(self, x, took): took("one", x)
                def test_two(self, x, took): took("two", x)
            """,
        )
        ledger = Ledger(project.pytester.path / LEDGER, loops=False)
        keys = [f"test_it.py::TestIt::test_{name}" for name in ("one", "two")]
        ledger.run({keys[0]: "abcdef", keys[1]: "abcdef"})
        result = project.run("--dtype-budget=5s")
        found = project.taken()
        assert found["one"] == found["two"]
        assert len(found["one"]) == 2
        result.stdout.fnmatch_lines(
            ["*budget=5s: 4 of 12 cells, about 4s; every cell within 4 runs"]
        )

    def test_a_sample_of_a_wide_fixture_hands_each_test_its_own(self, project):
        project.file(
            "test_it",
            """
            import pytest
            from dtype_sampler import random_dtypes
            @pytest.fixture(scope="module")
            def xs(): return random_dtypes(k=3, dtypes=[*"abcdef"])
            def test_one(xs, took):
                for x in xs: took("one", x)
            def test_two(xs, took):
                for x in xs: took("two", x)
            """,
        )
        ledger = Ledger(project.pytester.path / LEDGER, loops=True)
        ledger.run({"one": "abcdef", "two": "cdef"})
        ledger.run({"one": "abc"})
        result = project.run("--dtype-budget=4s")
        # Of `two` what never ran, and of `one` its longest unrun.
        first = project.taken()
        assert sum(map(len, first.values())) == 4
        assert first["two"] >= set("ab")
        assert first["one"] <= set("def")
        result.stdout.fnmatch_lines(["*budget=4s: 4 of 12 cells, about 4s; *"])
        project.run("--dtype-run=last")
        assert project.taken() == first

    def test_a_loop_in_a_loop_still_meets_all_pairs(self, project):
        project.file(
            "test_it",
            """
            from dtype_sampler import random_dtypes as ask
            def test_one(took):
                for x in ask(k=1, dtypes=[*"abc"]):
                    for y in ask(k=1, dtypes=[*"abc"]): took("one", x + y)
            """,
        )
        Ledger(project.pytester.path / LEDGER, loops=True).run({"one": "abc"}, declared="abc")
        result = project.run("--dtype-budget=1s")
        assert result.ret == 0
        assert len(project.taken()["one"]) == 1
