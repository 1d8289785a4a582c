"""The ledger's report as plain data: what every format shows, and the JSON format itself.

Format 1, described by `report.schema.json`. Times are ISO 8601 in UTC.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
# A run's number and an outcome; and the run's place, where several have that number.
Seen = tuple[int, str] | tuple[int, str, int]
# In how many runs a cell had a verdict, and when the first of these began.
_NEVER = (0, 0.0)
# What a cell has that never had an outcome, and nothing to say of it.
_OF_RECORD = (
    *("last_outcome", "last_verdict", "last_verdict_at", "last_passed_at", "last_failed_at"),
    *("failure", "seed", "commit"),
)


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
    lazily: bool = False,
) -> dict[str, Any]:
    """Everything that a report shows, the tests that want attention first.

    runs: oldest first. activity: as `Store.activity` gives it. recent: the observations of the runs
    whose outcomes are to be shown one by one, by the run's uid; may be empty. hidden: as `History`
    has it. comparison: with the baseline, of whose failures each cell then says if it is one.
    lazily: the tests are to be iterated over once, and are made as they are asked for.
    """
    known = list(runs)
    histories: dict[Cell, list[Seen]] = {}
    times = Counter(run.number for run in known)
    for place in reversed(range(len(known))):
        run = known[place]
        # Ledgers that are combined have counted each for itself.
        which = (place,) if times[run.number] > 1 else ()
        for one in recent.get(run.uid, ()):
            histories.setdefault(one.cell, []).append((run.number, one.outcome, *which))
    tests = _tests(coverage, known, activity, histories, costs, comparison)
    return {
        "format": FORMAT,
        "generated": iso(now),
        "summary": summary(coverage, known, costs, hidden, comparison),
        "tests": tests if lazily else list(tests),
        "runs": _runs(coverage, known, activity),
    }


def _tests(
    coverage: Coverage,
    runs: Sequence[RunRecord],
    activity: Mapping[Cell, tuple[int, float]],
    histories: Mapping[Cell, Sequence[Seen]],
    costs: Costs,
    comparison: Comparison | None,
) -> Iterator[dict[str, Any]]:
    by_uid = {run.uid: run for run in runs}
    for state in worst_first(coverage, comparison):
        one_of = _one_of(state)
        own, usual = costs.of_test(*name_of(state))
        yield {
            "key": state.test.key,
            "device": state.test.device,
            "seconds": rounded(costs.total(every_cell([state])).seconds),
            "rest_seconds": rounded(costs.rests.get(name_of(state))),
            "cells": [
                {
                    **_cell(cell, by_uid),
                    "runs": activity.get(cell.cell, _NEVER)[0],
                    "covered": cell.covered,
                    "counts": cell.counts,
                    "seconds": rounded(own.get(cell.cell.label)),
                    "expected_seconds": rounded(own.get(cell.cell.label, usual)),
                    "one_of": one_of.get(cell.cell, []),
                    "nodeid": (cell.record and cell.record.nodeid) or None,
                    "history": [list(one) for one in histories.get(cell.cell, ())],
                    **_known(cell, comparison),
                }
                for cell in state.cells
            ],
            **_arguments(state),
        }


def pieces(report: Mapping[str, Any]) -> Iterator[str]:
    """The JSON of a report, in ASCII and one line, piece by piece: it may be of 100 MB.

    Any of its lists may be an iterator.
    """
    before = "{"
    for key, value in report.items():
        yield f"{before}{json.dumps(key)}: "
        if isinstance(value, list | Iterator):
            yield "["
            for place, one in enumerate(value):
                yield f"{', ' if place else ''}{_visible_json(one)}"
            yield "]"
        else:
            yield _visible_json(value)
        before = ", "
    yield "}\n"


def _visible_json(value: object) -> str:
    # The one control character that JSON takes as it is.
    return json.dumps(value).replace("\x7f", "\\u007f")


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


def _cell(state: CellState, runs: Mapping[str, RunRecord]) -> dict[str, Any]:
    """What the states of cells say of one, and the run of its last verdict."""
    record = state.record
    if record is None:
        return {"label": state.cell.label, "device": state.cell.device, "state": state.state} | (
            dict.fromkeys(_OF_RECORD)
        )
    verdict = record.verdict
    run = runs.get(verdict.run) if verdict is not None else None
    if verdict is not None and verdict.outcome == SUSPECT:
        verdict = None
    failure = state.failure
    return {
        "label": state.cell.label,
        "device": state.cell.device,
        "state": state.state,
        "last_outcome": record.last.outcome,
        "last_verdict": verdict.outcome if verdict is not None else None,
        "last_verdict_at": iso(_at(verdict)),
        "last_passed_at": iso(_at(record.passed)),
        "last_failed_at": iso(_at(record.failed)),
        "failure": None
        if failure is None
        else {"types": list(failure.types), "message": failure.message},
        "seed": run.seed if run is not None else None,
        "commit": (run.commit or None) if run is not None else None,
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
