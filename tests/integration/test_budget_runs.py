"""Runs that the ledger steers: by a budget of time, or by what an earlier run took.

Durations are put into ledgers: nothing here waits, or asks what time it is.
"""

from __future__ import annotations

import re
import shlex
import sqlite3
from collections import defaultdict
from contextlib import closing
from itertools import count

import pytest

from dtype_sampler.commands.main import main
from dtype_sampler.ledger.outcomes import Cell
from dtype_sampler.ledger.records import Observed, RunRecord, TestRecord
from dtype_sampler.ledger.sqlite import SqliteStore
from dtype_sampler.session.budgeting import Meter

LEDGER = ".dtype-ledger.sqlite"
ITEMS = """
import pytest
@pytest.mark.random_dtypes("x", [*"abcdef"])
def test_one(x, took): took("one", x)
@pytest.mark.random_dtypes("x", [*"abcdef"])
def test_two(x, took): took("two", x)
"""
LOOPS = """
from dtype_sampler import random_dtypes as ask
def test_one(took):
    for x in ask(k=2, dtypes=[*"abcdef"]): took("one", x)
def test_two(took):
    for x in ask(k=2, dtypes=[*"abcdef"]): took("two", x)
"""
NAMES = {"one": "test_it.py::test_one", "two": "test_it.py::test_two"}
# Of the runs that the ledgers of these tests know, an hour apart.
HOUR = 3600.0
FIRST = 1_700_000_000.0


class Ledger:
    """A ledger in the making: runs one after another, each with what it took and how long."""

    def __init__(self, path, *, loops):
        self.path = path
        self.loops = loops
        self.runs = 0

    def run(self, labels, *, cost=1.0, rest=0.0, outcome="passed", declared="abcdef", **fields):
        """labels: of each test, by its short name. cost: seconds of a cell, or of each label."""
        self.runs += 1
        started = FIRST + self.runs * HOUR
        run = RunRecord(f"{self.runs:032x}", started, 100 + self.runs, "next", "rotate", **fields)
        tests, seen = [], []
        for name, some in labels.items():
            key, at = NAMES.get(name, name), started + 1
            rests = ((round(1000 * started), round(1_000_000 * rest)),)
            tests.append(TestRecord(key, "cpu", tuple(declared), at, 2, rests=rests))
            for label in some:
                nodeid = key if self.loops else f"{key}[{label}]"
                seconds = cost.get(label) if isinstance(cost, dict) else cost
                seen.append(Observed(Cell(key, label, "cpu"), nodeid, outcome, at, seconds))
        store = SqliteStore.open(self.path, create=True)
        run = store.open_run(run)
        store.append(run.uid, tests, seen)
        store.close_run(run.finished(started + 10, {}), 200)
        store.close()
        return run


@pytest.fixture
def items(project):
    project.file("test_it", ITEMS)
    return Ledger(project.pytester.path / LEDGER, loops=False)


@pytest.fixture
def loops(project):
    project.file("test_it", LOOPS)
    return Ledger(project.pytester.path / LEDGER, loops=True)


def cells(project) -> int:
    return sum(map(len, project.taken().values()))


def strategies(project) -> list[str]:
    return [run.strategy for run in project.runs()]


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

    def test_workers_have_as_much_time_each(self, project, items):
        items.run({"one": "abcdef", "two": "abcdef"})
        result = project.run("--dtype-budget=3s", "-n2")
        assert cells(project) == 6
        result.stdout.fnmatch_lines(
            ["*budget=3s: 6 of 12 cells, about 3s; every cell within 3 runs"]
        )
        assert project.runs()[-1].workers == 2

    def test_workers_are_as_fast_as_the_last_time(self, project, items):
        # 12 s of work in 10 s by two: 60 % of their time.
        items.run({"one": "abcdef", "two": "abcdef"}, workers=2, took=10.0)
        # Of another number of workers, and of none at all: they say nothing.
        items.run({"one": "abcdef", "two": "abcdef"}, workers=3, took=1000.0)
        items.run({"one": "abcdef", "two": "abcdef"}, took=1000.0)
        result = project.run("--dtype-budget=5s", "-n2")
        result.stdout.fnmatch_lines(
            ["*budget=5s: 6 of 12 cells, about 5s; every cell within 3 runs"]
        )
        assert cells(project) == 6

    def test_workers_that_are_told_by_other_words(self, project, items):
        items.run({"one": "abcdef", "two": "abcdef"})
        result = project.run("--dtype-budget=2s", "--dist=load", "--tx=2*popen")
        result.stdout.fnmatch_lines(["*budget=2s: 4 of 12 cells, about 2s; *"])

    def test_what_tests_without_dtypes_take_is_taken_from_it(self, project, items):
        lane = ". --dtype-budget"
        items.run({"one": "abcdef", "two": "abcdef"}, others=4.0, lane=lane)
        result = project.run("--dtype-budget=10s")
        result.stdout.fnmatch_lines(["*budget=10s: 6 of 12 cells, about 10s; *"])

    def test_the_first_run_with_a_budget_knows_it_from_those_without_one(self, project, items):
        items.run({"one": "abcdef", "two": "abcdef"}, others=4.0, lane=". --all-dtypes")
        result = project.run("--dtype-budget=10s")
        result.stdout.fnmatch_lines(["*budget=10s: 6 of 12 cells, about 10s; *"])

    @pytest.mark.parametrize(("workers", "number"), [((), 1), (("-n2",), 2)])
    def test_what_was_predicted_and_what_it_took_is_told_and_kept(
        self, project, items, workers, number
    ):
        items.run({"one": "abcdef", "two": "abcdef"})

        class Clock:
            """Each phase of each test takes five minutes by it."""

            def pytest_sessionstart(self, session):
                controller = session.config.pluginmanager.get_plugin("dtype-sampler-controller")
                moments = count()
                controller._meter = Meter(lambda: 300.0 * next(moments))

        result = project.run("--dtype-budget=3s", *workers, plugins=[Clock()])
        cells = 3 * number
        took = {1: "45m", 2: "1h30m"}[number]
        result.stdout.fnmatch_lines([f"*budget=3s: predicted 3s, took {took}; --dtype-run=2 *"])
        run = project.runs()[-1]
        assert (run.workers, run.predicted, run.took) == (number, 3.0, cells * 3 * 300.0)

    def test_a_worker_that_knows_better_is_heard_at_the_end(self, project, items):
        items.run({"one": "abcdef", "two": "abcdef"})
        result = project.run("--dtype-budget=1s", "-n2", "-k", "one")
        result.stdout.fnmatch_lines(
            [
                "*budget=1s: 2 of 12 cells, about 1s; *",
                "*budget=1s: 2 of 6 cells, about 1s; every cell within 6 runs",
                "*budget=1s: predicted 1s, took *",
            ]
        )

    def test_a_failure_is_replayed_by_name(self, project):
        project.file(
            "test_it",
            """
            from dtype_sampler import random_dtypes as ask
            def test_one(took):
                for x in ask(k=2, dtypes=[*"abcdef"]):
                    took("one", x)
                    assert x != "f"
            """,
        )
        Ledger(project.pytester.path / LEDGER, loops=True).run({"one": "abcde"})
        result = project.run("--dtype-budget=3s")
        first = project.took()
        assert len(first) == 3
        (line,) = [line for line in result.outlines if line.startswith("same sample:")]
        words = shlex.split(line.partition("pytest ")[2])
        assert not any("budget" in word for word in words)
        project.run(*words)
        assert project.took() == first

    def test_a_failure_of_a_test_that_was_new_is_replayed_by_its_seed(self, project):
        project.file(
            "test_it",
            """
            from dtype_sampler import random_dtypes as ask
            def test_one(): pass
            def test_two(took):
                for x in ask(k=2, dtypes=[*"abcdef"]): took("two", x)
                assert False
            """,
        )
        Ledger(project.pytester.path / LEDGER, loops=True).run({"one": "abcdef"})
        project.ini(dtype_sampler_budget="1m")
        result = project.run()
        first = project.taken()
        assert len(first["two"]) == 2
        line = next(line for line in result.outlines if line.startswith("same sample:"))
        options = re.findall(r"--dtype-\S+", line)
        result = project.run("test_it.py::test_two", *options)
        assert project.taken() == first
        assert "budget=" not in result.stdout.str()

    @pytest.mark.parametrize("args", [("-q",), ("-q", "-n2")])
    def test_quietly(self, project, items, args):
        items.run({"one": "abcdef", "two": "abcdef"})
        result = project.run("--dtype-budget=1s", *args)
        result.stdout.fnmatch_lines(["dtype-sampler: budget=1s: *"])

    def test_a_list_of_tests_takes_no_part(self, project, items):
        items.run({"one": "abcdef", "two": "abcdef"})
        before = items.path.read_bytes()
        result = project.run("--dtype-budget=1s", "--collect-only", "-q")
        assert len([line for line in result.outlines if "::" in line]) == 12
        result = project.run("--dtype-budget=1s", "--setup-plan")
        assert sum("::" in line for line in result.outlines) == 1
        assert items.path.read_bytes() == before

    def test_the_report_knows_such_runs(self, project, items, capsys):
        items.run({"one": "abc", "two": "abc"})
        project.run("--dtype-budget=1s")
        project.run("--dtype-run=last")
        assert strategies(project)[1:] == ["budget", "run"]
        for form in ("text", "markdown", "json", "html"):
            assert main(["report", "--ledger", str(items.path), "--format", form]) == 0
        assert main(["plan", "--ledger", str(items.path)]) == 0

    def test_it_is_a_selection_of_its_own(self, project, items):
        items.run({"one": "abcdef", "two": "abcdef"}, lane=".", in_series=True)
        project.run("--dtype-budget=2s")
        project.run("--dtype-budget=1m")
        lanes = [run.lane for run in project.runs()[1:]]
        assert lanes == [". --dtype-budget", ". --dtype-budget"]


class TestAge:
    def test_what_is_due_goes_before_what_never_ran(self, project, items):
        items.run({"one": "abc"})
        items.run({"one": "abc", "two": "abc"})
        # Everything that ran is older than a day by any clock.
        result = project.run("--dtype-budget=7s", "--dtype-max-age=1d")
        found = project.taken()
        assert found["one"] >= set("abc")
        assert found["two"] >= set("abc")
        assert "younger" not in result.stdout.str()

    def test_a_budget_that_can_not_hold_it_says_which_one_could(self, project, items):
        for _ in range(3):
            items.run({"one": "abcdef", "two": "abcdef"})
        # Runs are an hour apart: within two, then. 12 / 2 + 1.
        result = project.run("--dtype-budget=3s", "--dtype-max-age=2h")
        result.stdout.fnmatch_lines(
            [
                "*budget=3s: 3 of 12 cells, about 3s; every cell within 6 runs",
                (
                    "*--dtype-max-age=2h: runs are about 1h apart, so cells may be 6h old before"
                    " they run again; a budget of 7s would hold that"
                ),
            ]
        )
        result = project.run("--dtype-budget=7s", "--dtype-max-age=2h")
        assert "apart" not in result.stdout.str()

    def test_no_budget_can_hold_what_is_less_than_runs_are_apart(self, project, items):
        for _ in range(3):
            items.run({"one": "abcdef", "two": "abcdef"})
        result = project.run("--dtype-budget=3s", "--dtype-max-age=10m")
        result.stdout.fnmatch_lines(
            ["*--dtype-max-age=10m: runs are about 1h apart, *; no budget*"]
        )


class TestAgain:
    """`--dtype-run`."""

    @pytest.mark.parametrize("workers", [(), ("-n2",)])
    def test_takes_what_that_run_took(self, project, items, workers):
        items.run({"one": "abcdef", "two": "abcdef"})
        project.run("--dtype-budget=5s", *workers)
        first = project.taken()
        project.run("--dtype-budget=5s", *workers)
        assert project.taken() != first
        result = project.run("--dtype-run=2", *workers)
        assert project.taken() == first
        result.stdout.fnmatch_lines(
            ["dtype-sampler: --dtype-seed=102 (of run 2), --dtype-run=2, *"]
        )

    def test_last_and_the_id(self, project, loops):
        loops.run({"one": "abcdef", "two": "abcdef"})
        project.run("--dtype-budget=5s")
        first = project.taken()
        uid = project.runs()[-1].uid
        for word in ("last", uid, uid[:6], "2"):
            project.run(f"--dtype-run={word}")
            assert project.taken() == first

    def test_with_the_same_random_data(self, project):
        project.file(
            "test_it",
            """
            import random
            from dtype_sampler import random_dtypes as ask
            def test_one(took):
                for x in ask(k=2, dtypes=[*"abcdef"]): took(x, random.random())
            """,
        )
        Ledger(project.pytester.path / LEDGER, loops=True).run({"one": "abcdef"})
        project.run("--dtype-budget=3s")
        first = project.took()
        assert len(first) == 3
        project.run("--dtype-run=last")
        assert project.took() == first

    def test_tests_that_it_did_not_run_stay_out(self, project, loops):
        loops.run({"one": "abcdef", "two": "abcdef"})
        project.run("--dtype-budget=2s", "-k", "one")
        first = project.taken()
        project.run("--dtype-run=last").assert_outcomes(passed=1, deselected=1)
        assert project.taken() == first

    def test_any_run_can_be_taken_again(self, project, items):
        project.run("--dtype-seed=7")
        first = project.taken()
        project.run()
        assert project.taken() != first
        project.run("--dtype-run=1")
        assert project.taken() == first

    def test_a_failing_loop_is_left_where_it_was(self, project):
        project.file(
            "test_it",
            """
            from dtype_sampler import random_dtypes as ask
            def test_one(took):
                for x in ask(k=3, dtypes=[*"abc"]):
                    took("one", x)
                    assert x != "b"
            """,
        )
        project.run()
        assert [label for _, label in project.took()] == ["a", "b"]
        project.run()
        # What was hidden came first then.
        assert [label for _, label in project.took()] == ["c", "a", "b"]
        project.run("--dtype-run=1")
        assert [label for _, label in project.took()] == ["a", "b"]

    def test_a_run_that_is_folded_away(self, project, items):
        project.ini(dtype_sampler_ledger_runs="1")
        project.run("--dtype-seed=7")
        project.run("--dtype-k=1")
        project.took()
        result = project.run("--dtype-run=1")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(
            [
                (
                    "ERROR: --dtype-run=1: run 1 of * (seed 7, rotate*) is folded away: its cells"
                    " are not known any more; its seed takes the same samples again: --dtype-seed=7"
                ),
            ]
        )
        assert project.took() == []

    def test_runs_of_one_number(self, project, items, tmp_path):
        other = Ledger(tmp_path / "other.sqlite", loops=False)
        other.runs = 8
        other.run({"one": "ab"})
        items.run({"one": "cd"})
        assert main(["combine", str(other.path), "--into", str(items.path)]) == 0
        result = project.run("--dtype-run=1")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(
            ["ERROR: --dtype-run=1: the ledger knows 2 such runs, name one*"]
        )
        project.run(f"--dtype-run={9:032x}")
        assert project.taken() == {"one": {"a", "b"}}

    @pytest.mark.parametrize(
        ("word", "message"),
        [
            ("41", "the ledger knows no such run: it has runs 1 to 1"),
            ("abcdef", "the ledger knows no such run"),
            ("lst", "no run, did you mean 'last'?"),
            ("0", "no run (a run is a number"),
            ("", "no run (a run is a number"),
        ],
    )
    def test_no_such_run(self, project, items, word, message):
        items.run({"one": "ab"})
        result = project.run(f"--dtype-run={word}")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        assert f"ERROR: --dtype-run={word}: {message}" in result.stderr.str()

    def test_without_a_ledger(self, project, items):
        result = project.run("--dtype-run=last")
        assert "--dtype-run=last: there is no ledger here" in result.stderr.str()


class TestUsage:
    @pytest.mark.parametrize(
        ("args", "message"),
        [
            (
                ["--dtype-budget=10"],
                "--dtype-budget=10: a span of time has a unit: 10h, 10m or 10s?",
            ),
            (["--dtype-budget=ten"], "--dtype-budget=ten: no span of time: write, say, 90s, 10m"),
            (["--dtype-budget=0m"], "--dtype-budget=0m: it is no time at all"),
            (["-o", "dtype_sampler_budget=10"], "dtype_sampler_budget = 10 (in the pytest config"),
            (
                ["--dtype-budget=9s", "--dtype-max-age=7"],
                "--dtype-max-age=7: a span of time has a un",
            ),
            (["--dtype-max-age=7d"], "--dtype-max-age=7d: an age needs a budget"),
            (["--dtype-budget=9s", "--all-dtypes"], "--dtype-budget=9s: --all-dtypes runs all"),
            (["--dtype-budget=9s", "--dtype-only=a"], "--dtype-budget=9s: --dtype-only runs all"),
            (
                ["--dtype-budget=9s", "--no-dtype-ledger"],
                "--dtype-budget=9s: a budget needs the ledg",
            ),
            (["--dtype-budget=9s", "--dtype-run=1"], "--dtype-run=1 takes what that run took, and"),
            (["--dtype-run=1", "--all-dtypes"], "--dtype-run=1 takes what that run took, and"),
            (["--dtype-run=1", "--dtype-only=a"], "--dtype-run=1 takes what that run took, and"),
            (["--dtype-run=1", "--dtype-seed=1"], "--dtype-run=1 takes what that run took, and"),
            (["--dtype-run=1", "--no-dtype-ledger"], "--dtype-run=1 needs the ledger"),
        ],
    )
    def test_errors(self, project, items, args, message):
        items.run({"one": "abcdef", "two": "abcdef"})
        result = project.run(*args)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        lines = [line for line in result.errlines if line.strip()]
        assert lines[0].startswith(f"ERROR: {message}")
        assert len(lines) <= 2
        assert project.took() == []

    def test_the_environment_and_the_ini_file(self, project, items, monkeypatch):
        items.run({"one": "abcdef", "two": "abcdef"})
        project.ini(dtype_sampler_budget="3s", dtype_sampler_max_age="9d")
        project.run()
        assert cells(project) == 3
        monkeypatch.setenv("DTYPE_SAMPLER_BUDGET", "5")
        assert "DTYPE_SAMPLER_BUDGET=5: a span of time" in project.run().stderr.str()

    @pytest.mark.parametrize(
        ("args", "number"),
        [
            (("--all-dtypes",), 12),
            (("--dtype-only=a",), 2),
            (("--dtype-run=1",), 2),
            (("--dtype-budget=none", "--no-dtype-ledger"), 6),
        ],
    )
    def test_what_is_asked_for_puts_the_configuration_s_aside(self, project, items, args, number):
        items.run({"one": "a", "two": "a"})
        project.ini(dtype_sampler_budget="3s", dtype_sampler_max_age="9d")
        result = project.run(*args)
        assert cells(project) == number
        assert "budget=" not in result.stdout.str()
