"""A part of scipy.ndimage's own tests, unedited, through `dtype_sampler_argnames`."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from math import ceil

import installed
import pytest
import runs

pytest.importorskip("scipy", reason="tox run -e realworld brings it")

PART = ("--pyargs", f"{installed.PACKAGE}.tests.test_filters", "-k", "correlate")

# A library that is wrong for one type of input.
FAULT = """
import scipy.ndimage

real = scipy.ndimage.correlate

def correlate(input, *args, **kwargs):
    result = real(input, *args, **kwargs)
    return result + 1 if str(getattr(input, "dtype", "")) == "uint16" else result

def pytest_collection_finish():
    # scipy looks its own function up in a table while its tests are collected.
    scipy.ndimage.correlate = correlate
"""


@pytest.fixture
def suite(tmp_path):
    installed.make_project(tmp_path)
    return tmp_path


def cells(folder, ledger):
    """(test key, label) -> its state, of every cell that the ledger knows."""
    command = [sys.executable, "-m", "dtype_sampler", "report", "--format=json", "--ledger", ledger]
    report = json.loads(subprocess.check_output(command, cwd=folder))
    return {
        (test["key"], cell["label"]): cell["state"]
        for test in report["tests"]
        for cell in test["cells"]
    }


def test_consecutive_runs_cover_every_cell(suite):
    full = runs.run_pytest(suite, *PART, "--all-dtypes", "--dtype-ledger=full.sqlite")
    assert full.exit_code == 0, full.output
    wanted = cells(suite, "full.sqlite")
    assert set(wanted.values()) == {"covered"}
    sizes = {}
    for key, _ in wanted:
        sizes[key] = sizes.get(key, 0) + 1
    assert len(sizes) > 50
    # Among them pairs of each type with each.
    assert max(sizes.values()) == 100
    for seed, workers in ((11, ()), (12, ("-n", "2")), (13, ())):
        run = runs.run_pytest(suite, *PART, f"--dtype-seed={seed}", *workers)
        assert run.exit_code == 0, run.output
        assert sum(bool(ran.entered) for ran in run.tests.values()) == sum(
            ceil(size / 3) for size in sizes.values()
        )
    assert cells(suite, ".dtype-ledger.sqlite") == wanted


def test_workers_take_the_same(suite):
    alone, shared = (
        runs.run_pytest(suite, *PART, "--dtype-seed=3", *workers) for workers in ((), ("-n", "2"))
    )
    assert alone.tests.keys() == shared.tests.keys()
    assert len(alone.tests) > 100


def test_keywords_act_first(suite):
    run = runs.run_pytest(suite, *PART[:2], "-k", "correlate13 and float64", "--dtype-seed=3")
    assert run.exit_code == 0, run.output
    # 19 of 100 pairs hold it: fewer than the 34 of a third.
    assert len(run.tests) == 19


def test_a_fault_is_found_and_replayed(suite):
    conftest = suite / "conftest.py"
    conftest.write_text(FAULT)
    run = runs.run_pytest(suite, *PART[:2], "-k", "test_correlate13", "--dtype-seed=1")
    assert run.exit_code == 1
    lines = re.findall(r"this dtype only: pytest (.*)", run.output)
    assert len(lines) == run.count("failed") > 0, run.output
    again = runs.run_pytest(suite, *PART[:2], "--lf", "--dtype-seed=2")
    assert again.count("failed") == run.count("failed")
    assert again.count("passed") == 0
    replayed = runs.run_pytest(suite, *shlex.split(lines[0]))
    assert (replayed.count("failed"), replayed.count("passed")) == (1, 0)
    conftest.unlink()
    fixed = runs.run_pytest(suite, *shlex.split(lines[0]))
    assert (fixed.exit_code, len(fixed.tests)) == (0, 1)
