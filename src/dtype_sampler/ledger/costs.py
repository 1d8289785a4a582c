"""What cells cost, and what tests need besides: the newest durations, and what to expect. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from types import MappingProxyType
from typing import NamedTuple

from dtype_sampler.ledger.outcomes import CRASHED, SUSPECT, Cell
from dtype_sampler.ledger.tally import Finished

# So many runs are looked at, the newest: enough that one slow run says nothing.
NEWEST = 5
# For each of some runs, the newest first: its start, in milliseconds since 1970, and how long
# something took in it, in microseconds.
Lasted = tuple[tuple[int, int], ...]
# Test key and type of device.
Name = tuple[str, str]


def lasted(started: float, seconds: float | None) -> Lasted:
    """What one run says. started: of the run, in seconds since 1970. seconds: None if unknown."""
    return () if seconds is None else ((round(1000 * started), round(1_000_000 * seconds)),)


def newest(one: Lasted, other: Lasted) -> Lasted:
    """The newest of both, of each run the longest.

    A maximum in a total order: whatever is left out here, no later merge could have kept.
    """
    if not other or one == other:
        return one
    if not one:
        return other
    longest: dict[int, int] = {}
    for run, micros in (*one, *other):
        longest[run] = max(micros, longest.get(run, 0))
    return tuple(sorted(longest.items(), reverse=True)[:NEWEST])


def estimate(some: Lasted) -> float | None:
    """What to expect, in seconds: the median; None if nothing is known."""
    if not some:
        return None
    # Not `statistics.median`, which costs twice as much, and a suite has 200,000 cells.
    micros = sorted([micros for _, micros in some])
    middle = len(micros) // 2
    odd = len(micros) % 2
    return (micros[middle] if odd else (micros[middle - 1] + micros[middle]) / 2) / 1_000_000


def durations(finished: Finished) -> tuple[dict[Cell, float], dict[Name, float]]:
    """How long each cell of a test took, and the test besides its cells, in seconds.

    The cells that a test had in hand when its process died, or when it was left, took nobody knows
    how long, and so did the rest.
    """
    payload = finished.payload
    in_hand = () if finished.whole else payload.get("under_test", ())
    cells: dict[Cell, float] = {}
    rests: dict[Name, float] = {}
    for sample in finished.samples:
        key, device = sample["key"], sample["device"]
        entered = frozenset(sample["entered"])
        for label, seconds in sample.get("took", {}).items():
            cell = Cell(key, label, device)
            if label not in entered or label in in_hand or cell not in finished.cells:
                continue
            if finished.whole or finished.cells[cell] not in (CRASHED, SUSPECT):
                cells[cell] = cells.get(cell, 0.0) + seconds
        # What the test itself needs is told once: of what else it takes samples in the name of, be
        # it a fixture's or for another device, that is a part.
        own = payload.get("function") is not None or key == finished.nodeid
        first = own and not any(rests.values())
        rests.setdefault((key, device), payload.get("rest", 0.0) if first else 0.0)
    known = finished.whole and "rest" in payload
    return cells, rests if known else {}


_NOTHING: Mapping[str, float] = MappingProxyType({})


class Total(NamedTuple):
    """What some cells and their tests will take.

    seconds: None if nothing at all is known. cells: how many. measured: how many of these have
    durations of their own; those of the others are guessed from what is like them.
    """

    seconds: float | None
    cells: int
    measured: int


@dataclass(frozen=True)
class Costs:
    """What is to be expected of each cell, and of each test besides its cells, in seconds.

    cells: of the cells that have been measured, by test and label. rests: of the tests that have.
    Where something is not known, the median of what is like it stands: of the test, and of all.
    """

    cells: Mapping[Name, Mapping[str, float]]
    rests: Mapping[Name, float]

    @cached_property
    def _of_tests(self) -> dict[Name, float]:
        """Of a cell of each test."""
        return {name: median(some.values()) for name, some in self.cells.items() if some}

    @cached_property
    def _of_all(self) -> float | None:
        """Of a cell of any test."""
        known = [seconds for some in self.cells.values() for seconds in some.values()]
        return median(known) if known else None

    @cached_property
    def _rest_of_all(self) -> float | None:
        return median(self.rests.values()) if self.rests else None

    def measured(self, cell: Cell) -> float | None:
        """What the cell's own durations say; None if it has none."""
        return self.cells.get((cell.key, cell.device), {}).get(cell.label)

    def of(self, cell: Cell) -> float | None:
        """What the cell will take, in seconds; None if no cell of any test was ever measured."""
        own, usual = self.of_test(cell.key, cell.device)
        return own.get(cell.label, usual)

    def of_test(self, key: str, device: str) -> tuple[Mapping[str, float], float | None]:
        """What those cells of a test will take that were measured, in seconds; and any other one,
        None if no cell of any test ever was.
        """
        name = (key, device)
        return self.cells.get(name, _NOTHING), self._of_tests.get(name, self._of_all)

    def rest(self, key: str, device: str) -> float | None:
        """What the test needs besides its cells, in seconds; None if that was never measured of any
        test.
        """
        return self.rests.get((key, device), self._rest_of_all)

    def total(self, taken: Iterable[tuple[str, str, Iterable[str]]]) -> Total:
        """What a run takes on one process.

        taken: key and device of each test, and the labels that it runs with. A test without any
        takes nothing.
        """
        seconds, cells, measured = 0.0, 0, 0
        for key, device, labels in taken:
            own, otherwise = self.of_test(key, device)
            before = cells
            for label in labels:
                cells += 1
                measured += label in own
                seconds += own.get(label, otherwise or 0.0)
            if cells > before:
                seconds += self.rest(key, device) or 0.0
        return Total(None if cells and self._of_all is None else seconds, cells, measured)


UNMEASURED = Costs({}, {})
