"""What the ledger's records come to: which cells are covered, and what is missing. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from typing import NamedTuple

from dtype_sampler.ledger.failures import Failure
from dtype_sampler.ledger.outcomes import CRASHED, SKIPPED, SUSPECT, UNSUPPORTED, Cell
from dtype_sampler.ledger.records import FAILURES, Brief, CellRecord, FailureRecord, TestRecord
from dtype_sampler.paths import in_module
from dtype_sampler.sampling.axes import by_value

COVERED = "covered"
STALE = "stale"
NEVER = "never ran"

# What becomes of cells that every run so far has skipped: see `assess`.
APART, MISSING = "apart", "missing"


class CellState(NamedTuple):
    """A declared cell. state: covered, stale (its last verdict is too old), suspect (one of several
    of which one did not pass, it is not known which), skipped, unsupported, or never ran. record:
    None if it has no outcome at all. counts: whether it is one of those that can be covered.
    failure: in which way it failed, if it did at its last verdict and that is known.
    """

    cell: Cell
    state: str
    record: CellRecord | None
    counts: bool = True
    failure: Failure | None = None

    # A tuple, for the same reason as `CellRecord`.

    @property
    def covered(self) -> bool:
        """Whether it has a verdict within the window."""
        return self.state == COVERED

    @property
    def failing(self) -> bool:
        """Whether its last verdict was a failure; a crash is one."""
        # Here and below not by the record's properties: each is asked of 200,000 cells.
        verdict = None if self.record is None else self.record.verdict
        return verdict is not None and verdict.outcome in FAILURES

    @property
    def crashed(self) -> bool:
        """Whether its last verdict was a crash."""
        verdict = self.record.verdict if self.record is not None and self.record.failing else None
        return verdict is not None and verdict.outcome == CRASHED

    @property
    def fails(self) -> bool:
        """Whether its last verdict was a failure, and no crash."""
        return self.failing and not self.crashed

    @property
    def untried(self) -> bool:
        """Whether it is a suspect that has not been tried since: the next run takes it alone."""
        record = self.record
        if record is None or record.verdict is None or not record.suspect:
            return False
        return record.last.at <= record.verdict.at

    @property
    def verdict_at(self) -> float | None:
        """When its last verdict was; None if a suspicion has come since."""
        verdict = None if self.record is None else self.record.verdict
        return None if verdict is None or verdict.outcome == SUSPECT else verdict.at


@dataclass(frozen=True, slots=True)
class TestState:
    """A test and all the cells that it declares on one type of device."""

    __test__ = False  # pytest would collect it where a test imports it

    test: TestRecord
    cells: tuple[CellState, ...]
    # The labels that run alone, as they did not pass alone after they had been suspects.
    alone: tuple[str, ...] = ()

    @property
    def missing(self) -> list[CellState]:
        """The cells that should be covered and are not; those kept apart can't be."""
        return [one for one in self.cells if one.counts and not one.covered]

    @property
    def never_ran(self) -> bool:
        """Whether any of its cells never ran."""
        return any(one.state == NEVER for one in self.cells)

    @property
    def failing(self) -> list[CellState]:
        """The cells whose last verdict was a failure."""
        return [one for one in self.cells if one.failing]

    @property
    def suspects(self) -> list[list[CellState]]:
        """The cells of which one did not pass in some run: each run's together."""
        runs: dict[str, list[CellState]] = {}
        for one in self.cells:
            if one.state == SUSPECT and one.record is not None and one.record.verdict is not None:
                runs.setdefault(one.record.verdict.run, []).append(one)
        return list(runs.values())

    @property
    def percent(self) -> float:
        """Covered cells, of those that can be covered; 0 to 100."""
        return _percent(
            sum(one.covered for one in self.cells),
            sum(one.counts for one in self.cells),
        )

    @property
    def values(self) -> tuple[dict[str, list[CellState]], ...]:
        """Of each argument, value -> the cells that combine it with others; empty for a test with
        one argument, whose cells are its dtypes.
        """
        cells = {one.cell.label: one for one in self.cells}
        return tuple(
            {value: [cells[label] for label in labels] for value, labels in of_argument.items()}
            for of_argument in by_value(cells, self.test.arguments)
        )

    @property
    def oldest(self) -> float | None:
        """When the oldest of its last verdicts was."""
        return min((one.verdict_at for one in self.cells if one.verdict_at), default=None)


@dataclass(frozen=True, slots=True)
class Counted:
    """Tests of which it is enough to know how many cells are in which state.

    devices: types of device that they are on. states: how many of their cells are in each state,
    and whether these can be covered. failing, crashed: how many are. oldest: as `Coverage.oldest`.
    """

    devices: frozenset[str] = frozenset()
    states: Mapping[tuple[str, bool], int] = field(default_factory=dict)
    failing: int = 0
    crashed: int = 0
    oldest: CellState | None = None


@dataclass(frozen=True)
class Coverage:
    """The state of every test. Cells that can't be covered are counted apart.

    counted: what there is besides `tests`.
    """

    tests: tuple[TestState, ...]
    counted: Counted = Counted()

    def _cells(self) -> Iterator[CellState]:
        return (one for test in self.tests for one in test.cells)

    # Asked for again and again, and a suite has 200,000 cells.
    @cached_property
    def _states(self) -> Counter[tuple[str, bool]]:
        """How many cells are in each state, and whether these can be covered."""
        found = Counter((one.state, one.counts) for one in self._cells())
        found.update(self.counted.states)
        return found

    @property
    def devices(self) -> frozenset[str]:
        """The types of device that there are tests on."""
        return self.counted.devices.union(state.test.device for state in self.tests)

    def count(self, state: str) -> int:
        """How many cells are in this state."""
        return self._states[state, True] + self._states[state, False]

    @property
    def cells(self) -> int:
        """How many cells can be covered: all but those kept apart."""
        return sum(number for (_, counts), number in self._states.items() if counts)

    def apart(self, state: str) -> int:
        """How many cells in this state are not among those that can be covered."""
        return self._states[state, False]

    @property
    def covered(self) -> int:
        """How many cells have a verdict within the window."""
        return self.count(COVERED)

    @property
    def values(self) -> tuple[int, int]:
        """Of the tests with several arguments, how many single dtypes of each are in a combination
        that is covered, and how many could be.
        """
        covered = there = 0
        for state in self.tests:
            for of_argument in state.values:
                for cells in of_argument.values():
                    there += any(one.counts for one in cells)
                    covered += any(one.covered for one in cells)
        return covered, there

    @property
    def failing(self) -> int:
        """How many cells failed at their last verdict, those that crashed among them."""
        return self.counted.failing + sum(one.failing for one in self._cells())

    @property
    def crashed(self) -> int:
        """How many of these crashed."""
        return self.counted.crashed + sum(one.crashed for one in self._cells())

    @property
    def percent(self) -> float:
        """Covered cells, of those that can be covered; 0 to 100, and 0 where there are none."""
        return _percent(self.covered, self.cells)

    def nothing_to_judge(
        self,
        devices: Iterable[str] | None = None,
        pattern: str | None = None,
        modules: Iterable[str] = (),
    ) -> str | None:
        """Why a gate must not pass, whatever it asks for; None if there is something to judge.

        A gate that finds less than it was asked about is a mistake in the asking. devices, pattern,
        modules: as `assess` was given them.
        """
        missing = sorted(set(devices or ()) - self.devices)
        matching = f" that matches {pattern}" if pattern is not None else ""
        for module in modules or ():
            if not any(in_module(test.test.key, module) for test in self.tests):
                return f"the ledger knows no test{matching} in a module {module}"
        if missing:
            return f"the ledger knows no test{matching} on {', '.join(missing)}"
        if not self.devices:
            return f"the ledger knows no test{matching}"
        if not self.cells:
            if self.apart(SKIPPED):
                return "every cell was skipped: nothing has run"
            return "the device refuses every dtype of every test"
        if not self.covered:
            skipped, stale = self.count(SKIPPED), self.count(STALE)
            if skipped == self.cells:
                return "every cell was skipped: nothing has run"
            return "every verdict is too old" if stale else "no cell has a verdict"
        return None

    @property
    def oldest(self) -> CellState | None:
        """The covered cell whose last verdict is oldest."""
        covered = (one for one in self._cells() if one.covered)
        found = min(covered, key=_verdict_at, default=None)
        if found is None or self.counted.oldest is None:
            return found or self.counted.oldest
        # Of two at one moment that of the test that comes first, wherever it is.
        return min(found, self.counted.oldest, key=lambda one: (_verdict_at(one), *_name(one.cell)))

    def worst_first(self) -> list[TestState]:
        """The tests in the order in which they want attention."""
        return sorted(
            self.tests,
            key=lambda test: (
                -len(test.failing),
                -len(test.suspects),
                test.percent,
                test.oldest or 0.0,
                test.test.key,
                test.test.device,
            ),
        )


def assess(
    tests: Iterable[TestRecord],
    cells: Iterable[CellRecord],
    *,
    device: Iterable[str] | None = None,
    pattern: str | None = None,
    modules: Collection[str] = (),
    since: float | None = None,
    alone: Mapping[str, Mapping[str, Collection[str]]] | None = None,
    skipped: str | None = None,
    failures: Iterable[FailureRecord] = (),
) -> Coverage:
    """The state of every declared cell.

    device: just these types of device. pattern: just test keys that match it, as a shell would.
    modules: just tests in one of these, as `in_module` has it; none means all.
    since: verdicts before that moment are too old to count; in seconds since 1970. skipped: whether
    cells that every run so far has skipped are `missing`, or kept `apart` from what can be covered,
    as those are that the device refuses; by default apart, but for those that a loop skips while it
    runs others: pytest shows no test as skipped then. failures: in which ways cells failed; empty
    where that is not to be told. alone: as `History` has it.
    """
    known: dict[tuple[str, str], dict[str, CellRecord]] = {}
    for record in cells:
        key, label, type_of_device = record.cell
        known.setdefault((key, type_of_device), {})[label] = record
    ways: dict[Cell, dict[str, FailureRecord]] = {}
    for one in failures:
        ways.setdefault(one.cell, {})[one.run] = one
    devices = None if device is None else frozenset(device)
    states = []
    for test in tests:
        if devices is not None and test.device not in devices:
            continue
        if pattern is not None and not fnmatchcase(test.key, pattern):
            continue
        if modules and not any(in_module(test.key, module) for module in modules):
            continue
        of_test = known.get((test.key, test.device), {})
        how = skipped if skipped is not None else apart_of(of_test.values())
        found = tuple(
            [cell_state(test, label, of_test.get(label), since, how) for label in test.declared]
        )
        if ways and not ways.keys().isdisjoint(one.cell for one in found):
            found = tuple([one._replace(failure=_last(one, ways)) for one in found])
        lone = (alone or {}).get(test.device, {}).get(test.key, ())
        states.append(TestState(test, found, tuple(one for one in test.declared if one in lone)))
    return Coverage(tuple(states))


def _last(state: CellState, ways: Mapping[Cell, Mapping[str, FailureRecord]]) -> Failure | None:
    """In which way a cell fails."""
    failed = state.record.failed if state.record is not None and state.failing else None
    way = ways.get(state.cell, {}).get(failed.run) if failed is not None else None
    return None if way is None else way.failure


def apart_of(cells: Iterable[CellRecord | Brief]) -> str | None:
    """APART, where no cell of a test has ever had a verdict; None if each has to be looked at.

    cells: all that is known of those of one test.
    """
    return None if any(one.verdict is not None for one in cells) else APART


def cell_state(
    test: TestRecord,
    label: str,
    record: CellRecord | None,
    since: float | None = None,
    skipped: str | None = None,
) -> CellState:
    """The state of one cell that a test declares. since, skipped: as for `assess`; by default, of a
    test that has run.
    """
    if record is None:
        return CellState(Cell(test.key, label, test.device), NEVER, None)
    verdict = record.verdict
    old = verdict is not None and since is not None and verdict.at < since
    outcome = None if verdict is None else verdict.outcome
    how = skipped or (MISSING if record.nodeid == test.key else APART)
    state, counts = state_of(record.last.outcome, outcome, old=old, skipped=how)
    return CellState(record.cell, state, record, counts)


def state_of(
    last: str, verdict: str | None, *, old: bool = False, skipped: str = MISSING
) -> tuple[str, bool]:
    """The state of a cell that has an outcome, and whether it is one of those that can be covered.

    last, verdict: its last outcome, and its last verdict, if it has any. old: whether that is too
    old to count. skipped: whether it is `missing` or `apart` if it was always skipped.
    """
    if verdict == SUSPECT:
        # Whatever came since, a skip for one, has not cleared it.
        return SUSPECT, True
    if verdict is not None and not old:
        return COVERED, True
    if last in (SKIPPED, UNSUPPORTED):
        # What has had a verdict once can have one again.
        always = verdict is None and skipped == APART
        return last, last == SKIPPED and not always
    return NEVER if verdict is None else STALE, True


def _verdict_at(state: CellState) -> float:
    return state.verdict_at or 0.0


def _name(cell: Cell) -> tuple[str, str]:
    return cell.key, cell.device


def _percent(part: int, whole: int) -> float:
    # Nothing to cover is no success: a gate must not pass because no test was found.
    return 100 * part / whole if whole else 0.0
