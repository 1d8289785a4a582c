"""Many processes: one seed, one plan, and what came back."""

from __future__ import annotations

import pytest

pytest.importorskip("xdist")

SUITE = """
import pytest, torch, unittest
from dtype_sampler import random_dtypes as ask
SEVEN = ["float16", "bfloat16", "float32", "auto", torch.float16, torch.bfloat16, torch.float32]

@pytest.mark.random_dtypes("dtype", SEVEN)
@pytest.mark.parametrize("n", range(4))
def test_items(dtype, n, request, took): took(request, repr(dtype))

@pytest.mark.parametrize("n", range(6))
@pytest.mark.xdist_group("some")
def test_loop(n, request, took):
    for dtype in ask(k=3, dtypes=SEVEN): took(f"loop {n}", repr(dtype))

@pytest.mark.xdist_group("mail@example.org")
def test_group(took):
    for dtype in ask(k=3, dtypes=SEVEN): took("group", repr(dtype))

class Test(unittest.TestCase):
    def test(self):
        for dtype in ask(k=3, dtypes=SEVEN):
            with self.subTest(dtype=dtype): assert "b" not in str(dtype)
"""


def run(project, *args):
    result = project.run("--dtype-seed=6", *args)
    # Older xdist appends the group to node ids; that is no other test.
    taken = sorted((name.partition("@")[0], value) for name, value in project.took())
    summary = [line for line in result.outlines if "cells ran" in line]
    return taken, summary


def test_every_way_to_distribute_runs_the_same(project):
    project.file("test_it", SUITE)
    expected = run(project)
    assert len(expected[0]) == 4 * 3 + 6 * 3 + 3
    assert len(expected[1]) == 1
    ways = [["-n4"], ["-n0"]]
    ways += [["-n2", "--dist", way] for way in ("loadscope", "loadfile", "loadgroup", "worksteal")]
    for args in ways:
        assert run(project, *args) == expected, args


def test_workers_in_a_folder_of_their_own(project):
    project.file("test_it", SUITE)
    # Without a configuration file there, pytest would take another root directory.
    project.ini()
    expected = run(project)
    elsewhere = project.pytester.path.parent / f"{project.pytester.path.name}-elsewhere"
    elsewhere.mkdir()
    source = project.pytester.path
    for args in (
        ["--tx", f"popen//chdir={elsewhere}", "--dist", "load", f"--rsyncdir={source}"],
        ["--tx", f"2*popen//chdir={elsewhere}", "--dist", "load", "-o", f"rsyncdirs={source}"],
    ):
        assert run(project, *args, str(source)) == expected, args


def test_the_environment_of_a_worker_does_not_matter(project):
    project.file(
        "test_it",
        "def test(dtype_seed, took): took('seed', dtype_seed)",
    )
    conftest = project.pytester.path / "conftest.py"
    # It reaches the workers' processes and not the plan that is made by now.
    late = "\ndef pytest_sessionstart(): os.environ['DTYPE_SAMPLER_SEED'] = '9'\n"
    conftest.write_text(conftest.read_text() + late)
    project.run("-n1", "--dtype-seed=6")
    assert project.took() == [("seed", "6")]


CRASH = """
import os, pytest, torch

@pytest.mark.random_dtypes("dtype", [torch.int8, torch.int16])
def test_items(dtype):
    if dtype is torch.int8: os._exit(3)

def test_loop(random_dtypes):
    for dtype in random_dtypes(k=2):
        os._exit(3)

@pytest.mark.parametrize("n", range(4))
def test_fine(n, random_dtypes): list(random_dtypes(k=2))
"""


def test_a_crashed_worker_costs_only_its_test(project):
    project.file("test_it", CRASH)
    result = project.run_process("-n2", "--dtype-seed=6")
    result.assert_outcomes(passed=5, failed=2)
    result.stdout.fnmatch_lines(
        [
            # 2 x 1 item, of which one crashed, 4 x 2 of 4, and the first of 2 of 4, which crashed.
            "dtype-sampler: 6 tests sampled, 11 of 22 cells ran on cpu (--dtype-seed=6)",
            "dtype-sampler: test_it.py::test_* crashed its worker*; what all others ran counts",
            "dtype-sampler: test_it.py::test_* crashed its worker*; what all others ran counts",
        ]
    )
    assert "test_it.py::test_items[int8] crashed its worker with torch.int8;" in result.stdout.str()
    assert "test_it.py::test_loop crashed its worker with torch." in result.stdout.str()


def test_a_crash_without_any_dtypes_is_not_our_business(project):
    project.file("test_it", "import os\ndef test(): os._exit(3)")
    result = project.run_process("-n1")
    result.stdout.no_fnmatch_line("dtype-sampler: *crashed*")


def test_a_dtype_whose_subtest_passed_is_not_blamed(project):
    """A worker's pytest turns a test with failed subtests into a failure of its own."""
    project.file(
        "test_it",
        """
        import unittest
        from dtype_sampler import random_dtypes
        def test(subtests):
            for d in random_dtypes(dtypes=[*"abc"]):
                with subtests.test(d=d): assert d == "a"
        """,
    )
    for xdist in ((), ("-n1",)):
        result = project.run(*xdist)
        sections = [line for line in result.outlines if line.startswith("dtype under test: ")]
        assert sections == ["dtype under test: b", "dtype under test: c"]


def test_stopping_at_the_first_failure(project):
    project.file("test_it", SUITE)
    result = project.run("--dtype-seed=7", "-x", "-n2", "-k", "Test")
    assert result.ret != 0
    result.stdout.fnmatch_lines(["dtype under test: *b*"])


def test_reports_carry_plain_builtins(project):
    project.file("test_it", SUITE)
    seen = []

    class Spy:
        def pytest_runtest_logreport(self, report):
            seen.append(getattr(report, "dtype_sampler", None))

    project.pytester.inline_run(
        "-n1", "-p", "no:randomly", "--dtype-seed=6", "-k", "items", plugins=[Spy()]
    )

    def check(value):
        assert type(value) in (dict, tuple, list, str, int, float, bool, type(None))
        for one in (
            value.items()
            if isinstance(value, dict)
            else value
            if isinstance(value, tuple | list)
            else ()
        ):
            check(one)

    assert len(seen) == 36
    for payload in seen:
        check(payload)
        assert payload["samples"][0]["entered"] == payload["under_test"]


def test_a_wrong_plan_is_no_workers_to_mend(project):
    project.file("test_it", "def test(random_dtypes): list(random_dtypes())")
    result = project.run("-n2", "--dtype-seed=abc")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert len([line for line in result.errlines if "ERROR" in line]) == 1
