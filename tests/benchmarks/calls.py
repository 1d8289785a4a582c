"""The cost of one `random_dtypes(k=3)`, and of one step of iterating over what it gives."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

from tests.benchmarks.measure import interleave, pytest_process
from tests.benchmarks.report import Result, Section

AIM = 20.0
# Of the clock at each step of a loop, in microseconds.
MEASURING = 1.0
REPETITIONS, QUICK = 9, 2
K = 3
POOLS = ("default pool", "seven mixed", 'pool "all"')
UNSEEDED = "default pool, no reseeding"

Times = dict[str, list[float]]


def run(folder: Path, repetitions: int, tell: Callable[[str], None]) -> Section:
    """Measure each pool in processes of its own, in turn, as only one call is a process's first."""
    folder.mkdir(parents=True)
    (folder / "pytest.ini").write_text("[pytest]\n")
    sides = {pool: partial(_time, folder, pool, True) for pool in POOLS}
    sides[UNSEEDED] = partial(_time, folder, POOLS[0], False)
    given = interleave(sides, repetitions, tell)
    results = []
    for pool in POOLS:
        results += [
            _result(f"{pool}: first in process", given[pool], "first in process", ", once"),
            _result(f"{pool}: first in a test", given[pool], "first in test", ", once", AIM),
            _result(f"{pool}: again in a test", given[pool], "repeated", "", AIM),
        ]
    results += [
        _step("a step without reseeding", given[UNSEEDED], "loop"),
        _step("a step, reseeding", given[POOLS[0]], "loop", "seeding"),
        _measuring(given[UNSEEDED]),
    ]
    return Section(
        f"calls: random_dtypes(k={K})",
        "Time of one call inside a running test, after `import torch`, and as a multiple of"
        " torch.empty(1), random.sample(range(7), 3), and bare seeding (random, numpy"
        " and torch) in the same process. In a process: the median of 300 tests, or of 21 blocks of"
        " 300 calls (20 of steps), in turn with what it is compared to."
        f" {repetitions} processes of each kind, in turn.",
        results,
    )


def _time(folder: Path, pool: str, reseed: bool, round_number: int) -> Times:
    out = folder / "times.json"
    os.environ.update(CALLS_POOL=pool, CALLS_JSON=str(out))
    suite = Path(__file__).with_name("timed_calls.py")
    configuration = ["-c", str(folder / "pytest.ini"), f"-odtype_sampler_reseed={reseed}"]
    pytest_process(["-q", *configuration, str(suite)], round_number=round_number)
    times: Times = json.loads(out.read_text())
    return times


def _result(
    name: str, given: list[Times], what: str, kind: str, aim: float | None = None
) -> Result:
    samples = [median(times[what]) for times in given]
    beside = {
        f"x {short}": median(median(t[what]) / median(t[full + kind]) for t in given)
        for short, full in (("empty", "torch.empty"), ("sample", "random.sample"))
    }
    return Result(name, "us", samples, aim, beside)


def _measuring(given: list[Times]) -> Result:
    pairs = [(median(times["measured"]), median(times["unmeasured"])) for times in given]
    return Result(
        "measuring a step, without reseeding",
        "us",
        [(measured - unmeasured) / K for measured, unmeasured in pairs],
        MEASURING,
        {"x a step": median(measured / unmeasured for measured, unmeasured in pairs)},
    )


def _step(name: str, given: list[Times], what: str, seeding: str | None = None) -> Result:
    steps = [median(times[what]) / K for times in given]
    beside = {
        f"x {short}": median(s / median(t[full]) for s, t in zip(steps, given, strict=True))
        for short, full in (("empty", "torch.empty"), ("sample", "random.sample"))
    }
    if seeding is not None:
        ratios = (s / median(t[seeding]) for s, t in zip(steps, given, strict=True))
        beside["x seeding"] = median(ratios)
    return Result(name, "us", steps, beside=beside)
