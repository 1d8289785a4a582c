"""Which failures of a report are known, and which are new: a ledger against its baseline. Pure.

It says of each cell what its last run said of it, or would have said if it had been given that
baseline: `session.known` compares a run's failures by the same rule.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dtype_sampler.ledger.coverage import CellState, Coverage, TestState
from dtype_sampler.ledger.outcomes import PASSED, XPASSED, Cell
from dtype_sampler.ledger.records import FailureRecord, KnownFailure
from dtype_sampler.reports.words import compared, count_of


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a report comes to against a baseline.

    baseline: its name. known: the cells that fail as the baseline knows. new: how many fail
    otherwise, or may do so. mended: how many pass that are known to fail; None if the baseline is
    the ledger itself, where what passes is known no more. vague: how many fail of which the
    baseline does not say in which way. elsewhere: the types of device that the baseline knows
    failures on, if the report has none of these.
    """

    baseline: str
    known: Mapping[Cell, KnownFailure]
    new: int
    mended: int | None
    vague: int
    elsewhere: tuple[str, ...] = ()

    def news(self, state: TestState) -> int:
        """How many cells of a test fail in a way that is not known."""
        return sum(one.cell not in self.known for one in state.failing)

    def counts(self) -> dict[str, Any]:
        """The numbers, as the summary of a report has them."""
        return {
            "name": self.baseline,
            "known": len(self.known),
            "new": self.new,
            "mended": self.mended,
            "vague": self.vague,
        }

    def notes(self) -> Iterable[str]:
        """The same for people."""
        yield f"baseline {self.baseline}: {compared(len(self.known), self.new, self.mended)}"
        if self.elsewhere:
            elsewhere = ", ".join(self.elsewhere)
            yield f"the baseline knows no failure on these devices, only on {elsewhere}"
        if self.vague:
            yield (
                f"of {count_of(self.vague, 'failing cell')} the baseline does not say in which way"
                " it fails: each is new until a run has written that down there"
            )


def against(
    coverage: Coverage, baseline: Sequence[KnownFailure], name: str, *, own: bool = False
) -> Comparison:
    """Compare a report with its baseline.

    coverage: as `assess` made it, with the ways in which cells failed. name: what the baseline is
    called. own: whether it is the ledger itself, as `before_the_last` has it.
    """
    listed = {one.cell: one for one in baseline}
    known: dict[Cell, KnownFailure] = {}
    new = mended = vague = 0
    for state in coverage.tests:
        new += len(state.suspects)
        for one in state.cells:
            before = listed.get(one.cell)
            if one.failing:
                vague += before is not None and before.failure is None
                if before is not None and _is_known(one, before):
                    known[one.cell] = before
                else:
                    new += 1
            elif before is not None and _passes(one):
                mended += 1
    devices = {one.device for one in listed}
    here = {state.test.device for state in coverage.tests}
    elsewhere = () if here & devices else tuple(sorted(devices))
    return Comparison(name, known, new, None if own else mended, vague, elsewhere)


def _is_known(state: CellState, before: KnownFailure) -> bool:
    # A crash never is: nobody can say that it was the same one.
    if not state.fails or state.failure is None or before.failure is None:
        return False
    return state.failure.like(before.failure)


def _passes(state: CellState) -> bool:
    verdict = state.record.verdict if state.record is not None else None
    return verdict is not None and verdict.outcome in (PASSED, XPASSED)


def worst_first(coverage: Coverage, comparison: Comparison | None) -> list[TestState]:
    """The tests in the order in which they want attention: what is known can wait."""
    worst = coverage.worst_first()
    return worst if comparison is None else sorted(worst, key=lambda one: -comparison.news(one))


def before_the_last(
    coverage: Coverage, own: Iterable[KnownFailure], failures: Iterable[FailureRecord]
) -> list[KnownFailure]:
    """What a ledger knew to fail before the run in which each cell failed last.

    That is what the run was compared with where its baseline was its own ledger. own: what the
    ledger knows to fail by now. failures: in which ways cells failed, in all runs, the oldest
    first.
    """
    last = {
        one.cell: one.record
        for state in coverage.tests
        for one in state.cells
        if one.failing and one.record is not None
    }
    ways: dict[Cell, FailureRecord] = {}
    for one in failures:
        record = last.get(one.cell)
        if record is None or record.failed is None or one.run == record.failed.run:
            continue
        if record.passed is None or one.at > record.passed.at:
            ways[one.cell] = one
    known = []
    for each in own:
        record = last.get(each.cell)
        if record is None or record.failed is None:
            continue
        if (way := ways.get(each.cell)) is not None:
            known.append(replace(each, failure=way.failure))
        elif each.since.uid != record.failed.run:
            # It failed before, and it was not kept in which way.
            known.append(replace(each, failure=None))
    return known
