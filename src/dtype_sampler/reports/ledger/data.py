"""The ledger's report as plain data: what every format shows, and the JSON format itself.

Format 1, described by `report.schema.json`. Times are ISO 8601 in UTC.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from dtype_sampler.ledger.costs import UNMEASURED, Costs
from dtype_sampler.ledger.coverage import NEVER, CellState, Coverage, TestState
from dtype_sampler.ledger.outcomes import SKIPPED, SUSPECT, UNSUPPORTED, Cell
from dtype_sampler.ledger.outlook import (
    Hidden,
    foresee_all,
    lanes_of,
    newest_in_series,
    next_sample,
    seed_following,
)
from dtype_sampler.ledger.records import KnownFailure, Mark, Observed, RunRecord
from dtype_sampler.reports.ledger.costs import every_cell, figures, name_of, rounded
from dtype_sampler.reports.ledger.known import Comparison, worst_first

FORMAT = 1


def iso(at: float | None) -> str | None:
    """A moment as ISO 8601 in UTC, to the second."""
    return None if at is None else _iso(int(at))


@lru_cache(maxsize=65536)  # the cells of one test share their moments
def _iso(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def summary(
    coverage: Coverage,
    runs: Sequence[RunRecord],
    costs: Costs = UNMEASURED,
    hidden: Hidden = MappingProxyType({}),
    comparison: Comparison | None = None,
) -> dict[str, Any]:
    """What every report begins with. runs: oldest first. hidden: as `History` has it. comparison:
    with the baseline; None if there is none.
    """
    # Of the selection that ran last; each goes through the seeds by itself.
    last = newest_in_series(runs)
    ahead = foresee_all(coverage, runs)
    covered, there = coverage.values
    singles = {"covered": covered, "all": there, "runs_needed": ahead.values}
    return {
        "cells": coverage.cells,
        "covered": coverage.covered,
        "percent": round(coverage.percent, 2),
        "never_ran": coverage.count(NEVER),
        "failing": coverage.failing,
        "suspect": coverage.count(SUSPECT),
        "unsupported": coverage.count(UNSUPPORTED),
        "skipped": coverage.count(SKIPPED),
        "runs": len(runs),
        "selections": len(lanes_of(runs)[0]),
        "next_seed": None if last is None else seed_following(last, runs),
        "runs_needed": ahead.runs if last is not None else None,
        "left_out": ahead.outside,
        **figures(coverage, costs, next_sample(coverage, runs, hidden)),
        **({"single_dtypes": singles} if there else {}),
        **({} if comparison is None else {"baseline": comparison.counts()}),
    }


def report(
    coverage: Coverage,
    runs: Sequence[RunRecord],
    activity: Mapping[Cell, tuple[int, float]],
    recent: Mapping[str, Iterable[Observed]],
    *,
    now: float,
    costs: Costs = UNMEASURED,
    hidden: Hidden = MappingProxyType({}),
    comparison: Comparison | None = None,
) -> dict[str, Any]:
    """Everything that a report shows, the tests that want attention first.

    runs: oldest first. activity: as `Store.activity` gives it. recent: the observations of the runs
    whose outcomes are to be shown one by one, by the run's uid; may be empty. hidden: as `History`
    has it. comparison: with the baseline, of whose failures each cell then says if it is one.
    """
    known = list(runs)
    by_uid = {run.uid: run for run in known}
    histories: dict[Cell, list[tuple[int, str]]] = {}
    for run in reversed(known):
        for one in recent.get(run.uid, ()):
            histories.setdefault(one.cell, []).append((run.number, one.outcome))
    return {
        "format": FORMAT,
        "generated": iso(now),
        "summary": summary(coverage, known, costs, hidden, comparison),
        "tests": [
            {
                "key": state.test.key,
                "device": state.test.device,
                "seconds": rounded(costs.total(every_cell([state])).seconds),
                "rest_seconds": rounded(costs.rests.get(name_of(state))),
                "cells": [
                    _cell(
                        cell,
                        costs,
                        by_uid,
                        activity.get(cell.cell, (0, 0.0))[0],
                        histories.get(cell.cell, []),
                        one_of.get(cell.cell, []),
                    )
                    | _known(cell, comparison)
                    for cell in state.cells
                ],
                **_arguments(state),
            }
            for state in worst_first(coverage, comparison)
            for one_of in (_one_of(state),)
        ],
        "runs": _runs(coverage, known, activity),
    }


def _known(cell: CellState, comparison: Comparison | None) -> dict[str, Any]:
    """What a cell has besides where there is a baseline."""
    if comparison is None:
        return {}
    known = comparison.known.get(cell.cell)
    return {"known": None if known is None else known_since(known)}


def known_since(known: KnownFailure) -> dict[str, Any]:
    """Since when a cell is known to fail."""
    run = known.since
    return {
        "run": run.number,
        "uid": run.uid,
        "at": iso(run.started),
        "commit": run.commit or None,
        "exact": known.exact,
    }


def _arguments(state: TestState) -> dict[str, Any]:
    """The single dtypes of a test with several arguments, whose cells are combinations of them."""
    arguments = [
        [
            {
                "value": value,
                "covered": any(one.covered for one in cells),
                "combinations": len(cells),
                "combinations_covered": sum(one.covered for one in cells),
            }
            for value, cells in of_argument.items()
        ]
        for of_argument in state.values
    ]
    return {"arguments": arguments} if arguments else {}


def _one_of(state: TestState) -> dict[Cell, list[str]]:
    """Each suspect cell -> the labels of which one did not pass."""
    found: dict[Cell, list[str]] = {}
    for group in state.suspects:
        labels = [one.cell.label for one in group]
        found.update((one.cell, labels) for one in group)
    return found


def _cell(
    state: CellState,
    costs: Costs,
    runs: Mapping[str, RunRecord],
    times: int,
    history: list[tuple[int, str]],
    one_of: list[str],
) -> dict[str, Any]:
    record = state.record
    verdict = record.verdict if record is not None else None
    run = runs.get(verdict.run) if verdict is not None else None
    if record is not None and record.suspect:
        verdict = None
    return {
        "label": state.cell.label,
        "device": state.cell.device,
        "state": state.state,
        "last_outcome": record.last.outcome if record is not None else None,
        "last_verdict": verdict.outcome if verdict is not None else None,
        "last_verdict_at": iso(verdict.at if verdict is not None else None),
        "last_passed_at": iso(_at(record.passed if record is not None else None)),
        "last_failed_at": iso(_at(record.failed if record is not None else None)),
        "failure": None
        if state.failure is None
        else {"types": list(state.failure.types), "message": state.failure.message},
        "seed": run.seed if run is not None else None,
        "commit": (run.commit or None) if run is not None else None,
        "runs": times,
        "covered": state.covered,
        "counts": state.counts,
        "seconds": rounded(costs.measured(state.cell)),
        "expected_seconds": rounded(costs.of(state.cell)),
        "one_of": one_of,
        "nodeid": (record.nodeid or None) if record is not None else None,
        "history": [list(one) for one in history],
    }


def _at(mark: Mark | None) -> float | None:
    return None if mark is None else mark.at


def _runs(
    coverage: Coverage, runs: Sequence[RunRecord], activity: Mapping[Cell, tuple[int, float]]
) -> list[dict[str, Any]]:
    """The runs, with the share of today's cells that had a verdict by then, as far as is known."""
    cells = (one.cell for state in coverage.tests for one in state.cells)
    firsts = sorted(activity[cell][1] for cell in cells if cell in activity)
    return [
        {
            "number": run.number,
            "uid": run.uid,
            "started": iso(run.started),
            "ended": iso(run.ended),
            "seed": run.seed,
            "strategy": run.strategy,
            "commit": run.commit or None,
            "host": run.host,
            "counts": dict(run.counts),
            "percent": round(100 * bisect_right(firsts, run.started) / coverage.cells, 2)
            if coverage.cells
            else 0,
        }
        for run in runs
    ]
