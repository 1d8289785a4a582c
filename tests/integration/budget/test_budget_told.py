"""What a run with a budget takes on several workers, and what it tells and keeps of itself."""

from __future__ import annotations

import re
import shlex
from itertools import count

import pytest
from steered import LEDGER, Ledger, cells, strategies

from dtype_sampler.commands.main import main
from dtype_sampler.session.budgeting import Meter


class TestBudget:
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
