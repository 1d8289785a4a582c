"""Options, environment and ini keys; what is wrong with them is said in one line."""

from __future__ import annotations

from collections import Counter

import pytest

LOOP = "def test(random_dtypes, took): took('t', list(random_dtypes()))"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--dtype-seed=abc"], "--dtype-seed=abc: no seed"),
        (["--dtype-seed=-1"], "--dtype-seed=-1: a seed can't be negative"),
        (["--dtype-seed=last"], "--dtype-seed=last: pytest's cache holds no seed"),
        (["--dtype-seed=last", "-p", "no:cacheprovider"], "--dtype-seed=last: pytest's cache"),
        (["--dtype-k=0"], "--dtype-k=0: k is how many"),
        (["--dtype-k=x"], "--dtype-k=x: k is how many"),
        (["--dtype-only=bflaot16"], "unknown dtype 'bflaot16': did you mean 'bfloat16'?"),
        (["--dtype-strategy=rotat"], "unknown strategy 'rotat': did you mean 'rotate'?"),
        (["--dtype-device=cuda:x"], "--dtype-device=cuda:x: no device"),
        (["--dtype-device=nonsense"], "can't use the device 'nonsense' here"),
        (["-o", "dtype_sampler_k=two"], "dtype_sampler_k = two (in the pytest configuration)"),
        (["-o", "dtype_sampler_pool=floatin"], "unknown pool or dtype 'floatin'"),
        (["-o", "dtype_sampler_reseed=perhaps"], "dtype_sampler_reseed (in the pytest config"),
        (["-o", "dtype_sampler_together=perhaps"], "'perhaps': write true or false"),
        (["-o", "dtype_sampler_seed=x", "-n2"], "dtype_sampler_seed = x"),
        (["-o", "dtype_sampler_seed=last"], "dtype_sampler_seed = last (in the pytest config"),
    ],
)
def test_usage_errors(project, args, message):
    project.file("test_it", LOOP)
    result = project.run(*args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    lines = [line for line in result.errlines if line.strip()]
    assert lines[0].startswith("ERROR: ")
    assert message in lines[0]
    assert len(lines) <= 2
    assert project.took() == []


def test_wrong_environment(project, monkeypatch):
    project.file("test_it", LOOP)
    monkeypatch.setenv("DTYPE_SAMPLER_ALL", "maybe")
    result = project.run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: DTYPE_SAMPLER_ALL=maybe: write 1 to switch it on*"])


def test_where_the_seed_comes_from(project, monkeypatch):
    project.file("test_it", LOOP)
    project.run().stdout.fnmatch_lines(["dtype-sampler: --dtype-seed=* (random), *"])
    project.ini(dtype_sampler_seed="1")
    # No k: nobody has asked for the run's, and the test has its own.
    header = "dtype-sampler: --dtype-seed={} ({}), strategy=rotate, device=auto"
    for args, env, seed, words in (
        ([], None, 1, "from the pytest configuration"),
        ([], "2", 2, "from DTYPE_SAMPLER_SEED"),
        (["--dtype-seed=3"], "2", 3, "from the command line"),
    ):
        if env:
            monkeypatch.setenv("DTYPE_SAMPLER_SEED", env)
        lines = project.run(*args).outlines
        assert header.format(seed, words) in lines


def test_the_header_with_q_too(project):
    project.file("test_it", LOOP)
    options = ["--dtype-seed=4", "--dtype-k=2", "--dtype-strategy=random", "--dtype-device=cpu"]
    line = "dtype-sampler: --dtype-seed=4 (from the command line), strategy=random, k=2, device=cpu"
    for args in ([], ["-q"], ["-qq"], ["-v"]):
        assert project.run(*options, *args).outlines.count(line) == 1
    assert line not in project.run(*options, "-q", "--no-header").outlines
    # A list of node ids is read by programs.
    assert line not in project.run(*options, "-q", "--collect-only").outlines
    full = project.run("--all-dtypes", "--dtype-seed=4", "--dtype-only=auto")
    assert (
        "dtype-sampler: --dtype-seed=4 (from the command line), all dtypes, only=auto, device=auto"
        in full.outlines
    )


def test_no_terminal_no_header(project):
    project.file("test_it", LOOP)
    assert project.run("-p", "no:terminal").ret == 0


def test_the_last_seed(project):
    project.file("test_it", LOOP)
    project.run("--dtype-seed=77")
    first = project.took()
    result = project.run("--dtype-seed=last")
    result.stdout.fnmatch_lines(["dtype-sampler: --dtype-seed=77 (the last run's), *"])
    assert project.took() == first


def test_a_run_without_samples_leaves_the_last_seed_alone(project):
    project.file("test_it", LOOP + "\ndef test_plain(): pass")
    project.run("--dtype-seed=77")
    project.run("--dtype-seed=78", "-k", "plain")
    project.run("--dtype-seed=79", "--collect-only")
    project.run("--dtype-seed=last").stdout.fnmatch_lines(["*--dtype-seed=77 (the last run's)*"])


def test_without_a_cache(project):
    project.file("test_it", LOOP)
    project.run("-p", "no:cacheprovider").assert_outcomes(passed=1)


def test_a_cache_that_cannot_be_written(project):
    project.file("test_it", LOOP)
    (project.pytester.path / ".pytest_cache").touch()
    result = project.run("-W", "default::pytest.PytestCacheWarning")
    result.assert_outcomes(passed=1)
    text = result.stdout.str()
    assert "cells covered on cpu" in text
    # pytest warns of its own files, which is enough.
    assert "PytestCacheWarning" in text
    assert "dtype_sampler/seed" not in text
    assert "dtype_sampler/sound" not in text


def test_all_dtypes_by_environment(project, monkeypatch):
    project.file("test_it", LOOP)
    monkeypatch.setenv("DTYPE_SAMPLER_ALL", "1")
    project.run().stdout.fnmatch_lines(["*4 of 4 cells ran*"])
    monkeypatch.setenv("DTYPE_SAMPLER_ALL", "0")
    project.run().stdout.fnmatch_lines(["*3 of 4 cells ran*"])


class TestOnly:
    SOURCE = """
        import pytest, torch
        def test_loop(random_dtypes, took):
            took("loop", list(random_dtypes(dtypes=["bfloat16", "auto", torch.bfloat16])))
        def test_strings(random_dtypes): random_dtypes(dtypes=["auto", "float16"])
        @pytest.mark.random_dtypes
        def test_items(dtype, took): took("item", dtype)
        @pytest.mark.random_dtypes("dtype", "integer")
        def test_integers(dtype): pass
        def test_plain(): pass
    """

    def test_the_dtype_and_the_string(self, project):
        project.file("test_it", self.SOURCE)
        result = project.run("--dtype-only=bfloat16", "-rs")
        result.assert_outcomes(passed=3, skipped=1, deselected=7)
        assert project.took() == [
            ("loop", "['bfloat16', torch.bfloat16]"),
            ("item", "torch.bfloat16"),
        ]
        result.stdout.fnmatch_lines(
            ["SKIPPED [[]1] test_it.py:4: --dtype-only=bfloat16: this test declares auto, float16"]
        )

    def test_the_dtype_alone_or_the_string_alone(self, project):
        project.file("test_it", self.SOURCE)
        project.run("--dtype-only=torch.bfloat16", "-k", "loop or items")
        assert project.took() == [("loop", "[torch.bfloat16]"), ("item", "torch.bfloat16")]
        project.run("--dtype-only='bfloat16'", "-k", "loop")
        assert project.took() == [("loop", "['bfloat16']")]

    @pytest.mark.parametrize("xdist", [[], ["-n2"]])
    def test_a_name_that_no_test_declares(self, project, xdist):
        project.file("test_it", self.SOURCE)
        result = project.run("--dtype-only=autoo", *xdist)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stdout.fnmatch_lines(
            ["ERROR: --dtype-only: unknown candidate 'autoo': did you mean 'auto'?"]
        )

    def test_items_alone_tell_as_well(self, project):
        project.file("test_it", self.SOURCE)
        result = project.run("--dtype-only=zzz", "-k", "integers")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stdout.fnmatch_lines(
            ["ERROR: --dtype-only: unknown candidate 'zzz': known: torch.*"]
        )

    def test_a_dtype_that_no_test_declares_is_no_error(self, project):
        project.file("test_it", self.SOURCE)
        result = project.run("--dtype-only=complex64")
        assert result.ret == 0
        result.assert_outcomes(passed=1, skipped=2, deselected=8)


def test_k_as_a_share(project, ids):
    project.ini(dtype_sampler_argnames="dtype", dtype_sampler_k="1/3")
    project.file(
        "test_it",
        """
        import pytest
        from dtype_sampler import random_dtypes as ask
        TEN = list("abcdefghij")

        @pytest.mark.parametrize("dtype", TEN)
        def test_ten(dtype): pass
        @pytest.mark.parametrize("dtype", TEN[:2])
        def test_two(dtype): pass
        @pytest.mark.random_dtypes("a", TEN)
        @pytest.mark.random_dtypes("b", TEN)
        def test_pairs(a, b): pass
        @pytest.mark.random_dtypes("a", TEN, k=1)
        def test_own(a): pass
        def test_loop(took):
            for one in ask(dtypes=TEN[:7]): took("loop", one)
        def test_fails():
            for one in ask(dtypes=TEN[:7]): assert False
        """,
    )
    runs = [ids(f"--dtype-seed={seed}") for seed in (1, 2, 3)]
    for run in runs:
        counts = Counter(one.partition("[")[0].partition("::")[2] for one in run)
        assert counts == {
            "test_ten": 4,
            "test_two": 1,
            "test_pairs": 34,
            "test_own": 1,
            "test_loop": 1,
            "test_fails": 1,
        }
    covered = {one for run in runs for one in run if "test_own" not in one}
    assert covered == {one for one in ids("--all-dtypes") if "test_own" not in one}

    result = project.run("-k", "loop or fails", "--dtype-seed=1", "--dtype-k=1/2")
    assert len(project.took()) == 4
    result.stdout.fnmatch_lines(
        ["dtype-sampler: *, strategy=rotate, k=1/2, *", "same sample: * --dtype-k=1/2"]
    )
