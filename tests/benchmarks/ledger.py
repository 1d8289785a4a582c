"""What the ledger costs: a run that writes it, reading it at the start, and a report."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from timeit import timeit

from tests.benchmarks.measure import Usage, interleave, pytest_process
from tests.benchmarks.report import Result, Section

from dtype_sampler.ledger.coverage import assess
from dtype_sampler.ledger.outcomes import Cell
from dtype_sampler.ledger.records import Observed, RunRecord, TestRecord
from dtype_sampler.ledger.sqlite import SqliteStore
from dtype_sampler.reports.ledger import data, text
from dtype_sampler.sampling.plan import RunPlan

RUN_AIM, REPORT_AIM, START_AIM = 1.05, 1e6, 50e3
REPETITIONS, QUICK = 7, 2
TESTS, RUNS, QUICK_RUNS = 5000, 210, 20
KEYS, LABELS = 3000, tuple("abcdefghij")
TAKEN = 13_000

SUITE = """
import pytest
from dtype_sampler import random_dtypes


@pytest.mark.parametrize("n", range({count}))
def test(n):
    for _ in random_dtypes(k=3, dtypes=[*"abcdefg"]):
        pass
"""


def run(folder: Path, repetitions: int, tell: Callable[[str], None]) -> Section:
    """Measure whole runs with the ledger and without, in turn; then a ledger of many runs."""
    suite = folder / "suite"
    suite.mkdir(parents=True)
    (suite / "pytest.ini").write_text("[pytest]\n")
    (suite / "test_it.py").write_text(SUITE.format(count=TESTS))
    sides = {
        "on": partial(_run, suite, ()),
        "off": partial(_run, suite, ("--no-dtype-ledger",)),
        "off again": partial(_run, suite, ("--no-dtype-ledger",)),
    }
    given = interleave(sides, repetitions, tell)
    results = []
    for clock in ("cpu", "wall"):
        on, off, again = ([getattr(usage, clock) for usage in given[side]] for side in sides)
        ratios = [a / b for a, b in zip(on, off, strict=True)]
        extra = {"ms/test": 1000 * (median(on) - median(off)) / TESTS}
        results.append(
            Result(f"{TESTS:,} trivial sampled tests, {clock}", "x", ratios, RUN_AIM, extra)
        )
        noise = [a / b for a, b in zip(again, off, strict=True)]
        results.append(Result("  off/off: the noise", "x", noise))
    runs = QUICK_RUNS if repetitions <= QUICK else RUNS
    path = folder / "many.sqlite"
    commits, size = _fill(path, runs, tell)
    results.append(Result(f"a transaction of {TAKEN // 100} outcomes", "us", commits))
    size_mb = {"MB": size / 1e6}
    for name, call, aim in (
        ("read at the start", partial(_start, path, verdicts=False), START_AIM),
        ("read at the start for oldest", partial(_start, path, verdicts=True), START_AIM),
        ("report as text", partial(_report, path, whole=False), REPORT_AIM),
        ("report as JSON", partial(_report, path, whole=True), REPORT_AIM),
    ):
        times = [1e6 * timeit(call, number=1) for _ in range(max(repetitions, 3))]
        results.append(Result(name, "us", times, aim, size_mb))
    wire = len(repr(_start(path, verdicts=True)))
    results.append(Result("the history on the wire, bytes/1000", "x", [wire / 1000]))
    return Section(
        f"ledger: {KEYS * len(LABELS):,} cells, {runs} runs of {TAKEN:,} outcomes",
        f"A run of {TESTS:,} trivial sampled tests with the ledger / one with --no-dtype-ledger:"
        f" whole processes, {repetitions} interleaved pairs. Then a ledger of {runs} runs, of which"
        " 200 are kept whole: times of single calls in one process.",
        results,
    )


def _run(suite: Path, arguments: tuple[str, ...], round_number: int) -> Usage:
    os.environ.pop("DTYPE_SAMPLER_LEDGER", None)
    return pytest_process(
        ["-q", *arguments, f"--rootdir={suite}", str(suite)], round_number=round_number
    )


def _fill(path: Path, runs: int, tell: Callable[[str], None]) -> tuple[list[float], int]:
    """Write *runs* runs; returns what single transactions took in us, and the file's size."""
    store = SqliteStore.open(path, create=True)
    times = []
    for number in range(runs):
        tell(f"run {number + 1} of {runs}")
        uid = f"run-{number:04}"
        started = 1e9 + 3600.0 * number
        record = store.open_run(RunRecord(uid, started, number, "given", "rotate"))
        places = [(number * TAKEN + i) % (KEYS * len(LABELS)) for i in range(TAKEN)]
        for begin in range(0, TAKEN, TAKEN // 100):
            some = places[begin : begin + TAKEN // 100]
            keys = dict.fromkeys(_key(place) for place in some)
            tests = [TestRecord(key, "cpu", LABELS, started, 3) for key in keys]
            seen = [
                Observed(
                    Cell(_key(place), LABELS[place % len(LABELS)], "cpu"),
                    _key(place),
                    "failed" if place % 997 == 0 else "passed",
                    started + 1.0,
                )
                for place in some
            ]
            start = perf_counter()
            store.append(uid, tests, seen)
            times.append(1e6 * (perf_counter() - start))
        store.close_run(record.finished(started + 60, {"passed": TAKEN}), 200)
    store.close()
    return times, path.stat().st_size


def _key(place: int) -> str:
    return f"tests/models/test_modeling_{place // len(LABELS):04}.py::ModelTest::test_dtype"


def _start(path: Path, *, verdicts: bool) -> dict[str, object]:
    store = SqliteStore.open(path)
    history = store.history(verdicts=verdicts)
    store.close()
    plan = RunPlan(1, "given", recheck=history.failing, verdicts=history.verdicts)
    return plan.to_wire()


def _report(path: Path, *, whole: bool) -> int:
    store = SqliteStore.open(path)
    coverage = assess(store.tests(), store.cells())
    runs = store.runs()
    activity = store.activity() if whole else {}
    store.close()
    if whole:
        return len(json.dumps(data.report(coverage, runs, activity, {}, now=2e9)))
    return len(text.text(coverage, data.summary(coverage, runs), now=2e9, width=80))
