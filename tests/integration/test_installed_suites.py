"""Suites outside of the root directory: those of an installed package, and a folder elsewhere."""

from __future__ import annotations

import pytest
from replays import replay_lines
from test_existing_suites import collect_keys

TESTS = """
import pytest
from dtype_sampler import random_dtypes as ask
FOUR = ["float16", "bfloat16", "float32", "float64"]

@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("dtype", FOUR)
def test_items(dtype, n): assert dtype != "float64"

class TestLoops:
    def test_loop(self):
        for dtype in ask(k=2, dtypes=FOUR):
            assert dtype != "float64"
"""


@pytest.fixture
def installed(project, monkeypatch):
    """Two packages that ship tests of the same names, outside of the root directory."""
    project.ini(dtype_sampler_argnames="dtype", dtype_sampler_k="2")
    packages = project.pytester.path.parent / f"{project.pytester.path.name}-site-packages"
    for package in ("one", "two"):
        folder = packages / package / "tests"
        folder.mkdir(parents=True)
        for name in ("__init__.py", "tests/__init__.py"):
            (packages / package / name).touch()
        (folder / "test_it.py").write_text(TESTS)
    monkeypatch.setenv("PYTHONPATH", str(packages), prepend=":")
    monkeypatch.syspath_prepend(str(packages))
    return project


KEYS = {
    "one/tests/test_it.py::test_items[1]",
    "one/tests/test_it.py::test_items[2]",
    "one/tests/test_it.py::TestLoops::test_loop",
}


@pytest.mark.parametrize("arg", ["one", "one.tests", "one.tests.test_it"])
def test_keys_do_not_depend_on_the_argument(installed, arg):
    assert collect_keys(installed, "--pyargs", arg) == KEYS


def test_two_packages_are_told_apart(installed):
    two = {key.replace("one/", "two/") for key in KEYS}
    assert collect_keys(installed, "--pyargs", "one.tests", "two.tests") == KEYS | two


@pytest.mark.parametrize("workers", [(), ("-n", "2")])
def test_replay_lines(installed, workers):
    result = installed.run_process("--pyargs", "one.tests", "--dtype-seed=5", *workers)
    failures = result.parseoutcomes()["failed"]
    assert failures
    replays = replay_lines(result)
    assert len(replays) == 2 * failures
    for replay in replays:
        replayed = installed.run_process(*replay).parseoutcomes()
        # The whole sample is that of every n; one of them may have been green.
        assert replayed.get("failed", 0) >= 1


def test_a_named_node_always_runs(installed):
    node = "one.tests.test_it::test_items[{}-1]"
    for dtype in ("float16", "bfloat16", "float32"):
        result = installed.run_process("--pyargs", node.format(dtype), "--dtype-only=float64")
        result.assert_outcomes(passed=1)


def test_last_failed_is_never_lost(installed):
    installed.ini(
        dtype_sampler_argnames="dtype", dtype_sampler_k="2", dtype_sampler_recheck_failed="false"
    )
    installed.run_process("--pyargs", "one.tests", "--all-dtypes").assert_outcomes(
        passed=6, failed=3
    )
    for seed in range(2):
        result = installed.run_process("--pyargs", "one.tests", "--lf", f"--dtype-seed={seed}")
        assert result.parseoutcomes()["failed"] >= 2


def test_a_folder_elsewhere(installed):
    elsewhere = installed.pytester.path.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "test_it.py").write_text(TESTS)
    options = ("-c", "tox.ini", "--rootdir=.")
    assert collect_keys(installed, *options, str(elsewhere)) == {
        key.replace("one/tests/", "../elsewhere/") for key in KEYS
    }
    result = installed.run_process(*options, str(elsewhere), "--dtype-only=float64")
    result.assert_outcomes(failed=3)
    for replay in replay_lines(result):
        assert installed.run_process(*replay).parseoutcomes()["failed"] >= 1
