"""What is known to fail, and what of a run's failures is: pure, without pytest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from dtype_sampler.ledger.failures import Failure
from dtype_sampler.ledger.outcomes import (
    CRASHED,
    FAILED,
    PASSED,
    SUSPECT,
    XPASSED,
    Cell,
    Observation,
    blamed_cells,
)
from dtype_sampler.ledger.records import KnownFailure
from dtype_sampler.ledger.tally import Tally
from dtype_sampler.reports.words import compared, since
from dtype_sampler.sampling.plan import RunPlan

# Device type -> test key -> labels.
Labels = Mapping[str, Mapping[str, Sequence[str]]]


@dataclass(frozen=True, slots=True)
class Known:
    """The cells that are known to fail, as `RunPlan.known` and `RunPlan.known_as` have them.

    same: those of them that the run's own ledger knows to fail too, in no other way. vague: how
    many failed before it was kept in which way: those are not known. unread: whether the baseline
    is on a server that can't be read, so that nothing is known.
    """

    cells: Mapping[str, Mapping[str, Mapping[str, int]]] = field(default_factory=dict)
    ways: Sequence[tuple[Sequence[str], str]] = ()
    same: frozenset[Cell] = frozenset()
    vague: int = 0
    unread: bool = False

    def without(self, failing: Labels) -> Labels:
        """What failed last, without what is known to: that is not run again in every run."""
        if not self.same:
            return failing
        return {
            device: {
                key: left
                for key, labels in tests.items()
                if (left := [one for one in labels if Cell(key, one, device) not in self.same])
            }
            for device, tests in failing.items()
        }


def known_from(
    baseline: Iterable[KnownFailure], own: Iterable[KnownFailure], failing: Labels, *, now: float
) -> Known:
    """What a run is to know of its baseline.

    baseline: its cells, those of one test with the oldest verdict first. own: those of the run's
    own ledger. failing: what the own ledger says that failed last, the oldest verdict first: what
    is not among it was not seen to fail for longer still, and is the first that a loop is handed of
    what is known to fail.
    """
    types = {one.cell: one.failure for one in own}
    places: dict[tuple[tuple[str, ...], str], int] = {}
    found: dict[str, dict[str, dict[str, int]]] = {}
    same, vague = set(), 0
    for one in baseline:
        if one.failure is None:
            vague += 1
            continue
        way = one.failure.types, since(one, now)
        place = places.setdefault(way, len(places))
        cell = one.cell
        found.setdefault(cell.device, {}).setdefault(cell.key, {})[cell.label] = place
        last = types.get(cell)
        if last is not None and last.like(one.failure):
            same.add(cell)
    for device, tests in found.items():
        for key, labels in tests.items():
            order = {one: at for at, one in enumerate(failing.get(device, {}).get(key, ()))}
            tests[key] = dict(sorted(labels.items(), key=lambda item: order.get(item[0], -1)))
    return Known(found, tuple(places), frozenset(same), vague)


def reason(plan: RunPlan, observation: Observation) -> str | None:
    """Since when a failure is known; None for one that is new.

    It is known if all of the cells that it is put down to are, in the same way. What one of several
    cells has failed with is nobody's.
    """
    failure = observation.failure
    if not plan.known or failure is None or observation.samples is None:
        return None
    sure, doubtful = blamed_cells(observation)
    if doubtful:
        return None
    words: dict[str, None] = {}
    for cell in sure:
        known = plan.known_failure(cell.device, cell.key, cell.label)
        if known is None or not _is_known(known, failure):
            return None
        words[known[1]] = None
    return "; ".join(words) or None


def _is_known(known: tuple[Sequence[str], str] | None, failure: Failure | None) -> bool:
    if known is None or failure is None:
        return False
    return failure.like(Failure(tuple(known[0])))


@dataclass(frozen=True, slots=True)
class Compared:
    """What a run comes to against its baseline: cells that failed as is known, those that failed
    otherwise, tests of which one of several dtypes failed, and cells that pass.
    """

    known: Sequence[Cell] = ()
    new: Sequence[Cell] = ()
    suspect: Sequence[tuple[str, str]] = ()
    mended: Sequence[Cell] = ()

    @property
    def line(self) -> str:
        """The numbers, for people."""
        return compared(len(self.known), len(self.new) + len(self.suspect), len(self.mended))


def compare(plan: RunPlan, tally: Tally) -> Compared:
    """What came of a run's cells, against what is known."""
    known: list[Cell] = []
    new: list[Cell] = []
    mended: list[Cell] = []
    suspects: dict[tuple[str, str], None] = {}
    for cell, outcome in tally.cells().items():
        before = plan.known_failure(cell.device, cell.key, cell.label)
        if outcome == SUSPECT:
            # One of several that were expected to fail is no failure.
            if cell in tally.failures:
                suspects[cell.key, cell.device] = None
        elif outcome in (FAILED, CRASHED):
            expected = outcome == FAILED and _is_known(before, tally.failures.get(cell))
            (known if expected else new).append(cell)
        elif outcome in (PASSED, XPASSED) and before is not None:
            mended.append(cell)
    return Compared(known, new, tuple(suspects), mended)
