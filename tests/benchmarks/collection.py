"""The plugin, loaded but unused, against `-p no:dtype_sampler`, on a 10,000-item collection."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

from tests.benchmarks import suites
from tests.benchmarks.measure import PLUGIN_OFF, Usage, check_sides, interleave, pytest_process
from tests.benchmarks.report import Result, Section

AIM = 1.01
REPETITIONS, QUICK = 20, 3


def run(folder: Path, repetitions: int, tell: Callable[[str], None]) -> Section:
    """Measure both suites: whole processes, three sides in turn.

    The third side is a second `-p no:dtype_sampler`: its ratio to the first shows the noise.
    """
    check_sides()
    results = []
    for name, make in (
        ("functions", suites.functions),
        ("parametrized", suites.parametrized),
    ):
        count = make(folder / name)
        sides = {
            "on": partial(_collect, folder / name, count, ()),
            "off": partial(_collect, folder / name, count, (PLUGIN_OFF,)),
            "off again": partial(_collect, folder / name, count, (PLUGIN_OFF,)),
        }
        given = interleave(sides, repetitions, lambda text, name=name: tell(f"{name}: {text}"))
        for measure in ("cpu", "wall"):
            on, off, again = ([getattr(u, measure) for u in given[side]] for side in sides)
            results.append(_result(f"{name}, {measure}", on, off, aim=AIM))
            results.append(_result("  off/off: the noise", again, off))
    return Section(
        "collection: 10,000 items, the plugin loaded but unused",
        f"A `pytest --collect-only -q` with the plugin / one with -p no:dtype_sampler: whole"
        f" processes, {repetitions} interleaved pairs after one to warm up; other plugins off in"
        " both. best: the ratio of the fastest of each side. ms: the difference of the medians.",
        results,
    )


def _collect(suite: Path, count: int, arguments: tuple[str, ...], round_number: int) -> Usage:
    usage = pytest_process(
        [*arguments, "--collect-only", "-q", f"--rootdir={suite}", str(suite)],
        round_number=round_number,
    )
    if f"{count} tests collected" not in usage.output:
        raise RuntimeError(f"not {count} tests: {usage.output[-200:]}")
    return usage


def _result(name: str, a: list[float], b: list[float], aim: float | None = None) -> Result:
    ratios = [one / other for one, other in zip(a, b, strict=True)]
    beside = {"best": min(a) / min(b), "ms": 1000 * (median(a) - median(b))}
    return Result(name, "x", ratios, aim, beside)
