"""What cells, tests and runs take, for every format of the ledger's report. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from dtype_sampler.ledger.costs import Costs
from dtype_sampler.ledger.coverage import Coverage, TestState
from dtype_sampler.ledger.outlook import Taken
from dtype_sampler.ledger.samples import can_run
from dtype_sampler.reports.words import count_of, lasting

# So many of the dearest tests are named, and so many cells of each.
_TESTS, _CELLS = 5, 3
# In seconds: what a test needs besides is not worth a word then.
_LITTLE = 0.0001


def every_cell(tests: Iterable[TestState]) -> Iterator[Taken]:
    """The full matrix: all that can run of each test."""
    for state in tests:
        yield state.test.key, state.test.device, tuple(can_run(state))


def figures(coverage: Coverage, costs: Costs, following: Iterable[Taken]) -> dict[str, Any]:
    """What the full matrix and the next sample take, in seconds; None where nothing is known.

    following: what the next run takes of each test.
    """
    whole = costs.total(every_cell(coverage.tests))
    sample = costs.total(following)
    return {
        "matrix_seconds": rounded(whole.seconds if whole.cells else None),
        "next_seconds": rounded(sample.seconds if sample.cells else None),
        "measured": whole.measured,
        "unmeasured": whole.cells - whole.measured,
    }


def rounded(seconds: float | None) -> float | None:
    """To the microsecond, which is what the ledger keeps."""
    return None if seconds is None else round(seconds, 6)


def note(summary: Mapping[str, Any]) -> str | None:
    """What a summary says of it, on one process; None if there is nothing to say it of."""
    if not summary.get("cells") or "matrix_seconds" not in summary:
        return None
    if summary["matrix_seconds"] is None:
        return "what the next sample and the full matrix take is unknown: no cell was measured yet"
    following = summary["next_seconds"]
    # Each selection of tests goes through the seeds by itself.
    whose = " of the selection that ran last" if summary.get("selections", 1) > 1 else ""
    known = (
        "" if following is None else f"the next sample{whose} takes about {lasting(following)}, "
    )
    left = summary["unmeasured"]
    how = f" ({count_of(left, 'cell')} of it never measured)" if left else ""
    return f"{known}the full matrix about {lasting(summary['matrix_seconds'])}{how}"


def dearest(coverage: Coverage, costs: Costs) -> list[tuple[TestState, float, str]]:
    """The tests that take longest with all their dtypes, how long, and what of it is whose."""
    known = [
        state
        for state in coverage.tests
        # What marks skip wholly was measured too, and takes nothing.
        if costs.cells.get(name_of(state)) and can_run(state)
    ]
    took = [(costs.total(every_cell([state])).seconds or 0.0, state) for state in known]
    took.sort(key=lambda one: (-one[0], *name_of(one[1])))
    return [(state, seconds, _parts(state, costs)) for seconds, state in took[:_TESTS]]


def name_of(state: TestState) -> tuple[str, str]:
    """What the ledger knows a test by."""
    return state.test.key, state.test.device


def _parts(state: TestState, costs: Costs) -> str:
    able = set(can_run(state))
    cells = [one.cell for one in state.cells if one.cell.label in able]
    seconds = {cell.label: costs.measured(cell) for cell in cells}
    known = {label: one for label, one in seconds.items() if one is not None}
    order = sorted(known, key=lambda label: (-known[label], label))
    told = [f"{label} {lasting(known[label])}" for label in order[:_CELLS]]
    if len(order) > _CELLS:
        others = sum(known[label] for label in order[_CELLS:])
        told.append(f"{count_of(len(order) - _CELLS, 'other')} {lasting(others)}")
    if len(known) < len(seconds):
        told.append(f"{len(seconds) - len(known)} not measured")
    rest = costs.rests.get(name_of(state))
    if rest is not None and rest >= _LITTLE:
        told.append(f"{lasting(rest)} besides")
    return ", ".join(told)


def of_test(state: TestState, costs: Costs, following: Iterable[str]) -> str:
    """All that is known of what one test takes, in a line. following: its next sample."""
    cells = {one.cell.label: costs.measured(one.cell) for one in state.cells}
    able = [label for label in cells if label in set(can_run(state))]
    told = [f"{label} {lasting(cells[label])}" for label in able]
    told.append(f"{lasting(costs.rests.get(name_of(state)))} besides")
    key, device = name_of(state)
    whole = costs.total([(key, device, able)]).seconds
    sample = costs.total([(key, device, tuple(following))])
    line = f"takes: {', '.join(told)}; with every dtype about {lasting(whole)}"
    return line + (f", the next sample about {lasting(sample.seconds)}" if sample.cells else "")
