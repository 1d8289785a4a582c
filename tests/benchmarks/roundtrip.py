"""What the round-trip checks cost: the engine, a pytest run of all of them, and single trips."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from tests.benchmarks.measure import ROOT, Usage, interleave, pytest_process
from tests.benchmarks.report import Result, Section

# 1.3 times what the trips of the first survey took when there were no others.
ENGINE_AIM, OVER_TORCH_AIM = 650e3, 2e6
REPETITIONS, QUICK = 7, 2
# Of these, all 65,536 patterns go on every trip.
SIXTEEN = ("float16", "bfloat16", "int16", "uint16")

# In a process of its own, as tests leave things behind that take time; the second survey is the
# one that counts, as the first one pays for what torch loads late.
ENGINE = """
import json, time, torch
from dtype_sampler.roundtrip import survey
from dtype_sampler.roundtrip.catalogue import KINDS
FIRST = ["transport", "embedding", "narrowing", "names", "claims", "independence"]
FURTHER = [kind for kind in KINDS if kind not in FIRST]
survey("cpu")
start = time.process_time()
made = survey("cpu", kinds=FIRST)
cpu = time.process_time() - start
start = time.process_time()
further = survey("cpu", kinds=FURTHER)
further_cpu = time.process_time() - start
trips = {}
for one in made.outcomes:
    if one.verdict != "unsupported" and one.tried:
        trips.setdefault(one.dtype, []).append(one.micros)
print(json.dumps({
    "wall": made.micros,
    "cpu": 1e6 * cpu,
    "further wall": further.micros,
    "further cpu": 1e6 * further_cpu,
    "further cells": len(further.outcomes),
    "dtypes": len(made.dtypes),
    "cells": len(made.outcomes),
    "trips": trips,
}))
"""


def run(folder: Path, repetitions: int, tell: Callable[[str], None]) -> Section:
    """Measure surveys, whole runs against an import of torch, and trips, in turn."""
    folder.mkdir(parents=True)
    (folder / "pytest.ini").write_text("[pytest]\n")
    sides: dict[str, Callable[[int], Any]] = {
        "engine": _engine,
        "checks": lambda number: _checks(folder, number),
        "torch": _torch,
    }
    given = interleave(sides, repetitions, tell)
    surveys = given["engine"]
    beside = {"dtypes": float(surveys[0]["dtypes"]), "cells": float(surveys[0]["cells"])}
    results = [
        Result(f"survey, {clock}", "us", [one[clock] for one in surveys], ENGINE_AIM, beside)
        for clock in ("wall", "cpu")
    ]
    more = {"cells": float(surveys[0]["further cells"])}
    results += [
        Result(
            f"survey, further trips, {clock}",
            "us",
            [one[f"further {clock}"] for one in surveys],
            beside=more,
        )
        for clock in ("wall", "cpu")
    ]
    for clock in ("wall", "cpu"):
        whole = [getattr(usage, clock) for usage in given["checks"]]
        alone = [getattr(usage, clock) for usage in given["torch"]]
        over = [1e6 * (a - b) for a, b in zip(whole, alone, strict=True)]
        extra = {"torch, s": median(alone), "whole, s": median(whole)}
        results.append(Result(f"checks over torch, {clock}", "us", over, OVER_TORCH_AIM, extra))
    for dtype in SIXTEEN:
        trips = [median(one["trips"][dtype]) for one in surveys]
        longest = median(max(one["trips"][dtype]) for one in surveys)
        count = len(surveys[0]["trips"][dtype])
        results.append(
            Result(f"a trip of {dtype}", "us", trips, beside={"max us": longest, "cells": count})
        )
    return Section(
        "roundtrip: the checks on the CPU",
        "survey: of the CPU, the second one in a process, one thread; further trips: conversions,"
        " copies that cast, layouts, views, sizes, exchange. checks over torch:"
        " `pytest --pyargs dtype_sampler.checks --all-dtypes` less `import torch`, whole processes."
        " a trip: of all 65,536 patterns, the median over trips, and the longest."
        f" {repetitions} interleaved rounds after one to warm up.",
        results,
    )


def _engine(_: int) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", ENGINE], cwd=ROOT, capture_output=True, text=True, check=True
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def _checks(folder: Path, round_number: int) -> Usage:
    return pytest_process(
        [
            "-q",
            "--all-dtypes",
            "--no-dtype-ledger",
            f"--rootdir={folder}",
            "-c",
            str(folder / "pytest.ini"),
            "--pyargs",
            "dtype_sampler.checks",
        ],
        round_number=round_number,
    )


def _torch(_: int) -> Usage:
    import resource

    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-c", "import torch"], cwd=ROOT, check=True)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return Usage(wall, cpu, "")
