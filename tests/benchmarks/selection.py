"""Selecting k of n over 100,800 parametrized items, against what pytest needs to collect them."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tests.benchmarks import suites
from tests.benchmarks.measure import interleave, pytest_process
from tests.benchmarks.report import Result, Section

AIM = 0.10
REPETITIONS, QUICK = 7, 1
K = 3


def run(folder: Path, repetitions: int, tell: Callable[[str], None]) -> Section:
    """Measure with torch dtypes and with strings, with the ini key and without it, in turn."""
    sides: dict[str, Callable[[int], dict[str, Any]]] = {}
    for name in ("torch dtypes", "strings"):
        suite = folder / name.replace(" ", "-")
        count = suites.with_dtypes(suite, strings=name == "strings")
        sides[name] = partial(_collect, suite, count, "dtype")
        sides[f"{name}, no key"] = partial(_collect, suite, count, "")
        sides[f"{name}, by position"] = partial(_collect, suite, count, "", dropping=True)
    given = interleave(sides, repetitions, tell)
    results = []
    for name in ("torch dtypes", "strings"):
        on, off = given[name], given[f"{name}, no key"]
        share = [one["own"] / (one["cpu"] - one["own"]) for one in on]
        own = sorted(one["own"] for one in on)[len(on) // 2]
        us = {"us/item": own / on[0]["collected"] * 1e6}
        results.append(Result(f"{name}: choosing / the rest", "%", share, AIM, us))
        for clock in ("cpu", "wall"):
            ratios = [a[clock] / b[clock] for a, b in zip(on, off, strict=True)]
            results.append(Result(f"{name}: with / without it, {clock}", "x", ratios, 1 + AIM))
        # The floor: what pytest itself takes to drop as many.
        by_position = given[f"{name}, by position"]
        for over, what in ((off, "by position / without"), (by_position, "with it / by position")):
            top = by_position if over is off else on
            ratios = [a["cpu"] / b["cpu"] for a, b in zip(top, over, strict=True)]
            results.append(Result(f"{name}: {what}, cpu", "x", ratios, None))
    return Section(
        f"selection: k = {K} of {len(suites.SEVEN)} over {count:,} parametrized items",
        "choosing / the rest: in one process, the processor time inside the plugin's hooks / that"
        " of the rest of the collection, without start-up, import of torch, and printing. with /"
        " without it: the same"
        " collection in processes with and without dtype_sampler_argnames. by position: without it,"
        " and a hook of three lines drops as many items by their place in the list."
        f" {repetitions} interleaved rounds after one to warm up.",
        results,
    )


def _collect(
    suite: Path, count: int, argnames: str, round_number: int, *, dropping: bool = False
) -> dict[str, Any]:
    out = suite / "probe.json"
    options = ["-ptests.benchmarks.probe", f"--probe-json={out}", "-qq"]
    if "torch" in suite.name:
        options.append("--probe-torch")
    if argnames:
        options += [f"-odtype_sampler_argnames={argnames}", f"--dtype-k={K}"]
    if dropping:
        options += ["--probe-keep", str(K), str(len(suites.SEVEN))]
    pytest_process(
        [*options, f"--dtype-seed={round_number + 1}", f"--rootdir={suite}", str(suite)],
        round_number=round_number,
    )
    result: dict[str, Any] = json.loads(out.read_text())
    sampled = bool(argnames) or dropping
    wanted = (count, count * K // len(suites.SEVEN) if sampled else count)
    if (result["collected"], result["kept"]) != wanted:
        raise RuntimeError(f"not {wanted} items collected and kept: {result}")
    return result
