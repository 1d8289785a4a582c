"""Runs that take what an earlier run took."""

from __future__ import annotations

import pytest
from steered import LEDGER, Ledger

from dtype_sampler.commands.main import main


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
