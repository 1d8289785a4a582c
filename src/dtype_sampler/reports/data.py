"""The ledger's report as plain data: what every format shows, and the JSON format itself.

Format 1, described by `report.schema.json`. Times are ISO 8601 in UTC.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from dtype_sampler.ledger.coverage import NEVER, CellState, Coverage
from dtype_sampler.ledger.records import Mark, Observed, RunRecord
from dtype_sampler.outcomes import SKIPPED, UNSUPPORTED, VERDICTS, Cell
from dtype_sampler.settings import MAX_SEED

FORMAT = 1


def iso(at: float | None) -> str | None:
    """A moment as ISO 8601 in UTC, to the second."""
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def report(
    coverage: Coverage,
    runs: Iterable[RunRecord],
    observations: Mapping[str, Iterable[Observed]],
    *,
    now: float,
) -> dict[str, Any]:
    """Everything that a report shows, the tests that want attention first.

    runs: oldest first. observations: of the whole runs, by the run's uid.
    """
    known = list(runs)
    by_uid = {run.uid: run for run in known}
    histories: dict[Cell, list[tuple[int, str]]] = {}
    for run in reversed(known):
        for one in observations.get(run.uid, ()):
            histories.setdefault(one.cell, []).append((run.number, one.outcome))
    last = known[-1].seed if known else None
    return {
        "format": FORMAT,
        "generated": iso(now),
        "summary": {
            "cells": coverage.cells,
            "covered": coverage.covered,
            "percent": round(coverage.percent, 2),
            "never_ran": coverage.count(NEVER),
            "failing": coverage.failing,
            "unsupported": coverage.count(UNSUPPORTED),
            "skipped": coverage.count(SKIPPED),
            "runs": len(known),
            "next_seed": None if last is None else (last + 1) % (MAX_SEED + 1),
        },
        "tests": [
            {
                "key": state.test.key,
                "device": state.test.device,
                "cells": [
                    _cell(cell, by_uid, histories.get(cell.cell, [])) for cell in state.cells
                ],
            }
            for state in coverage.worst_first()
        ],
        "runs": _runs(coverage, known, observations),
    }


def _cell(
    state: CellState, runs: Mapping[str, RunRecord], history: list[tuple[int, str]]
) -> dict[str, Any]:
    record = state.record
    verdict = record.verdict if record is not None else None
    run = runs.get(verdict.run) if verdict is not None else None
    return {
        "label": state.cell.label,
        "device": state.cell.device,
        "state": state.state,
        "last_outcome": record.last.outcome if record is not None else None,
        "last_verdict": verdict.outcome if verdict is not None else None,
        "last_verdict_at": iso(verdict.at if verdict is not None else None),
        "last_passed_at": iso(_at(record.passed if record is not None else None)),
        "last_failed_at": iso(_at(record.failed if record is not None else None)),
        "seed": run.seed if run is not None else None,
        "commit": (run.commit or None) if run is not None else None,
        "runs": sum(outcome in VERDICTS for _, outcome in history),
        "covered": state.covered,
        "nodeid": record.nodeid if record is not None else None,
        "history": [list(one) for one in history],
    }


def _at(mark: Mark | None) -> float | None:
    return None if mark is None else mark.at


def _runs(
    coverage: Coverage, runs: list[RunRecord], observations: Mapping[str, Iterable[Observed]]
) -> list[dict[str, Any]]:
    """The runs, with the share of today's cells that had a verdict by then, as far as is known."""
    cells = {cell.cell: cell for state in coverage.tests for cell in state.cells if cell.state}
    reached: set[Cell] = set()
    rows = []
    for run in runs:
        reached |= {
            one.cell
            for one in observations.get(run.uid, ())
            if one.outcome in VERDICTS and one.cell in cells
        }
        rows.append(
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
                "percent": round(100 * len(reached) / coverage.cells, 2) if coverage.cells else 0,
            }
        )
    return rows
