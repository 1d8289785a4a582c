"""An age besides a budget, and what is no budget."""

from __future__ import annotations

import pytest
from steered import cells


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
