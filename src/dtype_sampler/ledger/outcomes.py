"""Reports -> one outcome per cell. Pure: knows neither pytest nor torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

PASSED = "passed"
FAILED = "failed"
XFAILED = "xfailed"
XPASSED = "xpassed"
SKIPPED = "skipped"
UNSUPPORTED = "unsupported"
CRASHED = "crashed"
NOT_REACHED = "not-reached"

VERDICTS = frozenset({PASSED, FAILED, XFAILED, XPASSED, CRASHED})

# Of two things said about one cell, the heavier one stands.
_WEIGHT = {
    NOT_REACHED: 0,
    SKIPPED: 1,
    UNSUPPORTED: 2,
    PASSED: 3,
    XFAILED: 4,
    XPASSED: 5,
    FAILED: 6,
    CRASHED: 7,
}
OUTCOMES = frozenset(_WEIGHT)


@dataclass(frozen=True, slots=True)
class Observation:
    """What one report says.

    when: `setup`, `call`, `teardown`, or `crash` for a worker that died. outcome: passed, failed,
    skipped, or rerun for a failure that is to be retried. xfail: the report speaks of an expected
    failure. subtest: it is about a part of the test only, and the test goes on. samples: the
    payload of the report, as `RunningTest.to_wire` makes it; None if no dtype was involved so far.
    """

    when: str
    outcome: str
    xfail: bool = False
    subtest: bool = False
    samples: Mapping[str, Any] | None = None


class Cell(NamedTuple):
    """test key x label x device type."""

    # A tuple, as a suite has tens of thousands and all are looked up by their hash.

    key: str
    label: str
    device: str


def fold(observations: Sequence[Observation]) -> dict[Cell, str]:
    """The outcome of each cell that a test's sample holds; of a retried test, the last attempt's.

    - What fails while a dtype is under test is that dtype's failure; dtypes handed out before it
      have passed, those after it are not reached.
    - What fails when no dtype is under test any more, after the loop or in teardown, could be the
      fault of each dtype handed out: none of them is credited with a pass.
    - A subtest speaks for the dtype under test at that moment alone.
    """
    attempt = _last_attempt(observations)
    final = next((o.samples for o in reversed(attempt) if o.samples is not None), None)
    if final is None:
        return {}
    cells: dict[Cell, str] = {}

    def say(sample: Mapping[str, Any], labels: Iterable[str], outcome: str) -> None:
        for label in labels:
            cell = Cell(sample["key"], label, sample["device"])
            before = cells.get(cell)
            if before is None or _WEIGHT[before] < _WEIGHT[outcome]:
                cells[cell] = outcome

    called = any(o.when == "call" and not o.subtest for o in attempt)
    for sample in final["samples"]:
        say(sample, sample["unsupported"], UNSUPPORTED)
        say(sample, sample["chosen"], NOT_REACHED)
        blamed: set[str] = set()
        for observation in attempt:
            outcome = _said(observation)
            if outcome is None:
                continue
            # A crash comes without a payload: what was known last counts.
            known = observation.samples or final
            labels = _meant(observation, known, sample)
            say(sample, labels, outcome)
            blamed.update(labels)
        if called:
            say(sample, (label for label in sample["entered"] if label not in blamed), PASSED)
    return cells


def _last_attempt(observations: Sequence[Observation]) -> Sequence[Observation]:
    starts = [i for i, o in enumerate(observations) if o.when == "setup"]
    return observations[starts[-1] :] if starts else observations


def _said(observation: Observation) -> str | None:
    """What an observation says of the dtypes it means; None if it says nothing against them."""
    if observation.when == "crash":
        return CRASHED
    if observation.outcome in ("failed", "rerun"):
        return FAILED
    if observation.outcome == "skipped":
        return XFAILED if observation.xfail else SKIPPED
    return XPASSED if observation.xfail else None


def _meant(
    observation: Observation, known: Mapping[str, Any], sample: Mapping[str, Any]
) -> list[str]:
    """The labels of a sample that an observation speaks of."""
    entered = list(sample["entered"])
    if observation.when == "teardown" or _said(observation) == XPASSED:
        return entered
    under_test = [label for label in entered if label in known["under_test"]]
    return under_test or (entered if not known["under_test"] else [])


@dataclass(frozen=True, slots=True)
class Finished:
    """A test that has ended. cells: the outcome of each. samples: as on its reports."""

    cells: Mapping[Cell, str]
    samples: Sequence[Mapping[str, Any]]


@dataclass(slots=True)
class Tally:
    """The cells of a run, test by test. `add` takes reports in the order in which they arrive."""

    _open: dict[str, list[Observation]] = field(default_factory=dict)
    _cells: dict[str, dict[Cell, str]] = field(default_factory=dict)
    _declared: dict[Cell, None] = field(default_factory=dict)
    _unsupported: dict[tuple[str, str], str] = field(default_factory=dict)
    _crashed: dict[str, None] = field(default_factory=dict)

    def add(self, nodeid: str, observation: Observation) -> Finished | None:
        """Take one report of the test *nodeid*; returns the test if this is its end.

        An attempt that will be repeated is no end.
        """
        if observation.when == "crash":
            self._crashed[nodeid] = None
        elif observation.samples is None and nodeid not in self._open:
            # Most reports of most runs end here: a test without dtypes, or not yet with any. Its
            # setup matters only as the start of an attempt, which the first payload marks as well.
            return None
        if observation.samples is not None:
            self._declare(observation.samples)
        observations = self._open.setdefault(nodeid, [])
        if observation.when == "setup":
            observations.clear()
        observations.append(observation)
        if observation.when not in ("teardown", "crash"):
            return None
        # A later attempt, in another worker, replaces this one.
        cells = self._cells[nodeid] = fold(self._open.pop(nodeid))
        if any(one.outcome == "rerun" for one in observations):
            return None
        known = [one.samples for one in observations if one.samples is not None]
        return Finished(cells, known[-1]["samples"] if known else ())

    def _declare(self, samples: Mapping[str, Any]) -> None:
        for sample in samples["samples"]:
            for label in sample["declared"]:
                self._declared[Cell(sample["key"], label, sample["device"])] = None
            for label, reason in sample["unsupported"].items():
                self._unsupported[label, sample["device"]] = reason

    def cells(self) -> dict[Cell, str | None]:
        """Every declared cell with its outcome; None for those that were not in the sample."""
        outcomes: dict[Cell, str | None] = dict.fromkeys(self._declared)
        unfinished = [fold(observations) for observations in self._open.values()]
        for folded in (*self._cells.values(), *unfinished):
            for cell, outcome in folded.items():
                before = outcomes.get(cell)
                if before is None or _WEIGHT[before] < _WEIGHT[outcome]:
                    outcomes[cell] = outcome
        return outcomes

    @property
    def used(self) -> bool:
        """Whether any test used a sample."""
        return bool(self._declared)

    @property
    def labels(self) -> tuple[str, ...]:
        """Every label that a test declared."""
        return tuple(dict.fromkeys(cell.label for cell in self._declared))

    @property
    def unsupported(self) -> Mapping[tuple[str, str], str]:
        """(label, device type) -> the refusal."""
        return self._unsupported

    @property
    def crashed(self) -> Mapping[str, tuple[str, ...]]:
        """Node id of each test that took a worker process with it -> the labels it was running.

        Those are known only where a dtype is an item of its own.
        """
        return {
            nodeid: tuple(
                cell.label for cell, said in self._cells[nodeid].items() if said == CRASHED
            )
            for nodeid in self._crashed
        }
