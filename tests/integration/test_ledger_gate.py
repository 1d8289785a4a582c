"""The gate on what is covered, and the summary of a step."""

from __future__ import annotations

import pytest
from one_loop import LOOP


class TestGate:
    def test_in_a_run(self, project):
        project.file("test_it", LOOP)
        result = project.run("--dtype-fail-under=100", "--dtype-seed=1")
        assert result.ret == pytest.ExitCode.TESTS_FAILED
        result.stdout.fnmatch_lines(
            ["ERROR: --dtype-fail-under=100: 42.86 % of the cells are cov*"]
        )
        assert project.run("--dtype-fail-under=80", "--dtype-seed=2").ret == 0
        # A run that samples nothing passes no gate by that.
        assert project.run("--dtype-fail-under=100", "-k", "no such").ret != 0
        project.file("test_plain", "def test(): pass")
        result = project.run("--dtype-fail-under=100", "test_plain.py")
        assert result.ret == pytest.ExitCode.TESTS_FAILED
        result.stdout.fnmatch_lines(["ERROR: --dtype-fail-under=100: 85.71 % of the cells are *"])
        result = project.run("--dtype-fail-under=5", "--dtype-ledger=new.sqlite", "test_plain.py")
        assert result.ret == pytest.ExitCode.TESTS_FAILED
        result.stdout.fnmatch_lines(["ERROR: --dtype-fail-under=5: the ledger can't tell *"])
        assert project.run("--dtype-fail-under=101").ret == pytest.ExitCode.USAGE_ERROR

    def test_it_does_not_pass_on_nothing(self, project):
        project.file("test_plain", "def test(): pass")
        options = ["--dtype-fail-under=0", "--dtype-ledger=new.sqlite"]
        assert project.run(*options).ret == 1
        project.file(
            "test_plain", LOOP.replace("took(", "pytest.skip() or took(") + "def test_2(): pass"
        )
        result = project.run(*options)
        assert result.ret == 1
        result.stdout.fnmatch_lines(["ERROR: --dtype-fail-under=0: no cell has a verdict"])

    def test_the_step_summary(self, project, monkeypatch, tmp_path):
        summary = tmp_path / "summary.md"
        summary.write_text("before\n")
        monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
        project.file("test_it", LOOP)
        project.run("--dtype-seed=1")
        assert summary.read_text() == "before\n"
        project.run("--dtype-seed=1", "-o", "dtype_sampler_step_summary=true").assert_outcomes(
            passed=1
        )
        text = summary.read_text()
        assert text.startswith("before\n## Dtypes covered")
        assert "test\\_it.py::test" in text
        # Of all runs, not of this one alone.
        assert "- 2 runs known, the next seed is 2" in text

    def test_what_is_in_the_step_summary_already_counts(self, project, monkeypatch, tmp_path):
        summary = tmp_path / "summary.md"
        monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
        project.file(
            "test_it",
            """
            import pytest
            from dtype_sampler import random_dtypes as ask
            @pytest.mark.parametrize("n", range(100))
            def test(n): list(ask(k=1, dtypes=["ä", "\\udc80"]))
            """,
        )
        option = ("--dtype-seed=1", "-o", "dtype_sampler_step_summary=true")
        summary.write_bytes(b"x" * 996_000)
        project.run(*option).assert_outcomes(passed=100)
        written = summary.read_bytes()[996_000:].decode()
        assert written.startswith("## Dtypes covered")
        assert 3_500 < len(written.encode()) <= 4_000
        head, _, more = written.rstrip().rpartition("... and ")
        assert int(more.removesuffix(" more tests.")) + head.count("| 50 % |") == 100
        # Nothing is left of the room, but what all came to is still said.
        project.run(*option)
        last = summary.read_bytes()[996_000:].decode().removeprefix(written)
        assert "100 of 200 cells covered" in last
        assert last.rstrip().endswith("... and 100 more tests.")
