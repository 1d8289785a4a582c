"""Reports -> one outcome per cell. Pure: knows neither pytest nor torch."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from dtype_sampler.ledger.failures import CRASH, Failure

PASSED = "passed"
FAILED = "failed"
XFAILED = "xfailed"
XPASSED = "xpassed"
SKIPPED = "skipped"
UNSUPPORTED = "unsupported"
CRASHED = "crashed"
NOT_REACHED = "not-reached"
# One of several dtypes did not pass, and which one can't be told. No verdict, as it says of no
# dtype what came of it, nor that it ran at all; never to be lost sight of, as one did not pass.
SUSPECT = "suspect"

VERDICTS = frozenset({PASSED, FAILED, XFAILED, XPASSED, CRASHED})

# Of two things said about one cell, the heavier one stands.
_WEIGHT = {
    NOT_REACHED: 0,
    SKIPPED: 1,
    UNSUPPORTED: 2,
    PASSED: 3,
    XFAILED: 4,
    XPASSED: 5,
    SUSPECT: 6,
    FAILED: 7,
    CRASHED: 8,
}
OUTCOMES = frozenset(_WEIGHT)
# Said of one of several, these make suspects of all.
_DOUBTS = frozenset({FAILED, CRASHED, XFAILED})
# With these a test ends before its loop does.
_ENDINGS = frozenset({FAILED, XFAILED, SKIPPED, CRASHED, SUSPECT})


@dataclass(frozen=True, slots=True)
class Observation:
    """What one report says.

    when: `setup`, `call`, `teardown`, or `crash` for a process that died. outcome: passed, failed,
    skipped, or rerun for a failure that is to be retried. xfail: the report speaks of an expected
    failure. subtest: it is about a part of the test only, and the test goes on. samples: the
    payload of the report, as `RunningTest.to_wire` makes it; None if no dtype was involved so far,
    or if the process died and left none. rerun: the attempt is to be retried, whatever this report
    itself says. worker: the process that ran the test, where there are several. failure: in which
    way it failed, where that is known.
    """

    when: str
    outcome: str
    xfail: bool = False
    subtest: bool = False
    samples: Mapping[str, Any] | None = None
    rerun: bool = False
    worker: str = ""
    failure: Failure | None = None


class Cell(NamedTuple):
    """test key x label x device type."""

    # A tuple, as a suite has tens of thousands and all are looked up by their hash.

    key: str
    label: str
    device: str


def heavier(one: str, other: str) -> str:
    """Of two outcomes of one cell the one that stands."""
    return max(one, other, key=_WEIGHT.__getitem__)


def fold(observations: Sequence[Observation]) -> dict[Cell, str]:
    """The outcome of each cell that the sample of one attempt at a test holds.

    - What fails while a dtype is under test is that dtype's failure; dtypes handed out before it
      have passed, those after it are not reached.
    - What fails when no dtype is under test any more, after the loop or in teardown, could be the
      fault of each dtype handed out: if there are several, each is a suspect, and none is credited
      with a pass. So it is with an expected failure: which of them did not come to its end, and
      which never had its turn, can't be told.
    - A subtest speaks for the dtype that its parameters name, else for the one under test.
    """
    known = [one.samples for one in observations if one.samples is not None]
    if not known:
        return {}
    # Snapshots of one thing that only grows; rerun plugins hand on the older ones later.
    final = max(reversed(known), key=_size)
    cells: dict[Cell, str] = {}
    for sample in final["samples"]:
        _say(cells, _cells(sample, sample["unsupported"]), UNSUPPORTED)
        _say(cells, _cells(sample, sample.get("skipped", ())), SKIPPED)
        _say(cells, _cells(sample, sample["chosen"]), NOT_REACHED)
    blamed: set[Cell] = set()
    for observation in _with_lost(observations, final):
        outcome = _said(observation)
        if outcome is None:
            continue
        sure, doubtful = _meant(observation, known[-1])
        _say(cells, sure, outcome)
        _say(cells, doubtful, SUSPECT if outcome in _DOUBTS else outcome)
        blamed.update(sure, doubtful)
    if any(map(_ran, observations)):
        entered = (
            cell for sample in final["samples"] for cell in _cells(sample, sample["entered"])
        )
        _say(cells, (cell for cell in entered if cell not in blamed), PASSED)
    return cells


def failures(observations: Sequence[Observation]) -> dict[Cell, Failure | None]:
    """In which way each cell failed, suspects too; None where that is not known of all it did."""
    known = [one.samples for one in observations if one.samples is not None]
    if not known:
        return {}
    found: dict[Cell, Failure | None] = {}
    for observation in _with_lost(observations, max(reversed(known), key=_size)):
        outcome = _said(observation)
        if outcome not in (FAILED, CRASHED):
            continue
        failure = CRASH if outcome == CRASHED else observation.failure
        for some in _meant(observation, known[-1]):
            for cell in some:
                found[cell] = _both(found.get(cell, failure), failure)
    return found


def _both(one: Failure | None, other: Failure | None) -> Failure | None:
    return None if one is None or other is None else one.beside(other)


def _with_lost(
    observations: Sequence[Observation], final: Mapping[str, Any]
) -> Sequence[Observation]:
    """Also what subtests said whose reports did not arrive, as the test's own payload has it."""
    if any(one.subtest for one in observations):
        return observations
    return [
        *observations,
        *(
            Observation(
                "call",
                told["outcome"],
                told["xfail"],
                subtest=True,
                samples={**final, "under_test": told["under_test"], "named": told["named"]},
                failure=failure_on_wire(told.get("failure")),
            )
            for told in final.get("subtests", ())
        ),
    ]


def failure_on_wire(wire: Sequence[Any] | None) -> Failure | None:
    """The failure that a payload tells of, if it tells of one."""
    return None if wire is None else Failure(tuple(wire[0]), wire[1])


def _say(cells: dict[Cell, str], some: Iterable[Cell], outcome: str) -> None:
    for cell in some:
        before = cells.get(cell)
        if before is None or _WEIGHT[before] < _WEIGHT[outcome]:
            cells[cell] = outcome


def _cells(sample: Mapping[str, Any], labels: Iterable[str]) -> list[Cell]:
    return [Cell(sample["key"], label, sample["device"]) for label in labels]


def _size(samples: Mapping[str, Any]) -> tuple[int, int, float]:
    some = samples["samples"]
    entered = sum(len(sample["entered"]) for sample in some)
    return len(some), entered, samples.get("lasted", 0.0)


def _ran(observation: Observation) -> bool:
    """Whether this shows that the test itself ran, not just its fixtures."""
    if observation.when == "crash":
        phase = (observation.samples or {}).get("phase")
        return phase in ("call", "teardown")
    return observation.when == "call" and not observation.subtest


def _said(observation: Observation) -> str | None:
    """What an observation says of the dtypes it means; None if it says nothing against them."""
    if observation.when == "crash" and not observation.xfail:
        return CRASHED
    if observation.outcome in ("failed", "rerun"):
        return FAILED
    if observation.outcome == "skipped":
        return XFAILED if observation.xfail else SKIPPED
    return XPASSED if observation.xfail else None


def blamed(observation: Observation) -> tuple[list[str], list[str]]:
    """The labels that a failure is put down to, and those of which it is at least one's."""
    sure, doubtful = blamed_cells(observation)
    return [cell.label for cell in sure], [cell.label for cell in doubtful]


def blamed_cells(observation: Observation) -> tuple[Collection[Cell], Collection[Cell]]:
    """As `blamed`, with all of the cells."""
    assert observation.samples is not None
    return _meant(observation, observation.samples)


def _meant(
    observation: Observation, last: Mapping[str, Any]
) -> tuple[Collection[Cell], Collection[Cell]]:
    """The cells that an observation speaks of for sure, and those of which it means at least one.

    last: the newest payload of the attempt, for an observation that has none of its own.
    """
    known = last if observation.samples is None else observation.samples
    samples = known["samples"]
    entered = {cell for sample in samples for cell in _cells(sample, sample["entered"])}
    # Sets are asked, never walked through: an order of their own is no order.
    order = [cell for sample in samples for cell in _cells(sample, sample["chosen"])]
    in_hand = {cell for cell in entered if cell.label in known["under_test"]}
    # An item for one dtype has that dtype in hand as long as it lasts.
    own = known["under_test"][:1] if known["function"] is not None else ()
    item = {cell for cell in entered if cell.label in own}
    loops = in_hand - item
    named = [
        {cell for cell in _cells(sample, sample["entered"]) if cell.label in known.get("named", ())}
        for sample in samples
    ]
    sure, doubtful = set(item), set[Cell]()
    if observation.samples is None and observation.when == "crash":
        # It went on after what it said last, nobody knows how far.
        doubtful = loops | {cell for cell in order if cell not in entered}
        doubtful = doubtful or entered - item
    elif observation.when == "crash" and known.get("apart"):
        # Which of its threads took the process along?
        doubtful = loops
    elif "teardown" in (observation.when, known.get("phase")) or _said(observation) == XPASSED:
        doubtful = entered - item
    elif observation.subtest and any(named):
        told = set[Cell]().union(*named)
        if told & loops:
            sure |= told & loops
        elif loops:
            # Handed out ahead of its turn, or a parameter that has another dtype's name by chance.
            doubtful = told | loops
        elif all(len(some) < 2 for some in named):  # one of each sample
            sure |= told
        else:
            doubtful = told
    elif loops:
        sure |= loops
    elif not item:
        doubtful = set(entered)
    doubtful -= sure
    if not sure and len(doubtful) == 1:
        sure, doubtful = doubtful, sure
    order = list(dict.fromkeys(order))
    return [c for c in order if c in sure], [c for c in order if c in doubtful]


@dataclass(frozen=True, slots=True)
class Finished:
    """A test that has ended. cells: what this run says of each by now. samples: as on its reports.
    nodeid: what replays it. payload: its last one. whole: it came to the end of its teardown.
    failures: in which way those that failed did; None where that is not known.
    """

    cells: Mapping[Cell, str]
    samples: Sequence[Mapping[str, Any]]
    nodeid: str
    payload: Mapping[str, Any] = field(default_factory=dict)
    whole: bool = True
    failures: Mapping[Cell, Failure | None] = field(default_factory=dict)


# One execution of a test: its node id, the process, and the number of the execution there. With
# `--dist each` or `--keep-duplicates`, and after a crash, a node id has several.
_Execution = tuple[str, str, int]


@dataclass(slots=True)
class Tally:
    """The cells of a run, test by test.

    `add` takes reports in any order that keeps each attempt's own. An attempt that a rerun plugin
    repeats is replaced by the next attempt of the same execution; apart from that the heaviest of
    all that is said of a cell stands, whichever process or item says it.
    """

    # By node id and process, then by execution and attempt.
    _open: dict[tuple[str, str], dict[tuple[int, int], list[Observation]]] = field(
        default_factory=dict
    )
    _cells: dict[Cell, str] = field(default_factory=dict)
    # Node id -> the labels that ended the test, and the cells that it did not come to.
    _missed: dict[str, tuple[tuple[str, ...], tuple[Cell, ...]]] = field(default_factory=dict)
    # Attempts to be repeated, until a later one has ended; and the latest that has, from 2 on.
    _retried: dict[_Execution, dict[int, Finished]] = field(default_factory=dict)
    _latest: dict[_Execution, int] = field(default_factory=dict)
    _declared: dict[Cell, None] = field(default_factory=dict)
    _unsupported: dict[tuple[str, str], str] = field(default_factory=dict)
    _crashed: dict[str, tuple[str, ...]] = field(default_factory=dict)
    _skipped: dict[Cell, None] = field(default_factory=dict)
    # Test key and type of device -> how many arguments its cells combine, from 2 on.
    _arguments: dict[tuple[str, str], int] = field(default_factory=dict)
    _failures: dict[Cell, Failure | None] = field(default_factory=dict)

    def add(self, nodeid: str, observation: Observation) -> Finished | None:
        """Take one report of the test *nodeid*; returns the test if this is its end.

        An attempt that will be repeated is no end.
        """
        crash = observation.when == "crash"
        if crash:
            self._crashed.setdefault(nodeid, ())
        where = (nodeid, observation.worker)
        samples = observation.samples
        if samples is not None:
            self._declare(samples)
            place = samples.get("execution", 0), samples.get("attempt", 1)
        elif where in self._open and (crash or observation.outcome != "passed"):
            place = list(self._open[where])[-1]
        else:
            # Most reports of most runs end here: a test without dtypes, or not yet with any.
            return None
        self._open.setdefault(where, {}).setdefault(place, []).append(observation)
        if observation.when not in ("teardown", "crash"):
            return None
        observations = self._open[where].pop(place)
        if not self._open[where]:
            del self._open[where]
        finished = _finished(observations)
        if crash:
            said = finished.cells.items()
            died = [cell.label for cell, outcome in said if outcome == CRASHED]
            died = died or [cell.label for cell, outcome in said if outcome == SUSPECT]
            self._crashed[nodeid] = tuple(dict.fromkeys(died))
        # A process that died can't try again: what it did stands.
        retried = not crash and any(one.rerun or one.outcome == "rerun" for one in observations)
        return self._ended((*where, place[0]), place[1], finished, retried=retried)

    def _ended(
        self, execution: _Execution, attempt: int, finished: Finished, *, retried: bool
    ) -> Finished | None:
        latest = max(attempt, self._latest.get(execution, 0))
        if latest > 1:
            self._latest[execution] = latest
        if retried:
            self._retried.setdefault(execution, {})[attempt] = finished
        waiting = self._retried.get(execution, {})
        for number in [number for number in waiting if number < latest]:
            del waiting[number]
        if not waiting:
            self._retried.pop(execution, None)
        return None if retried else self._settle(finished)

    def _settle(self, finished: Finished) -> Finished:
        for cell, outcome in finished.cells.items():
            _say(self._cells, (cell,), outcome)
        said = finished.cells.items()
        if missed := tuple(cell for cell, outcome in said if outcome == NOT_REACHED):
            ended = (cell.label for cell, outcome in said if outcome in _ENDINGS)
            self._missed[finished.nodeid] = tuple(dict.fromkeys(ended)), missed
        for cell, failure in finished.failures.items():
            self._failures[cell] = _both(self._failures.get(cell, failure), failure)
        return replace(
            finished,
            cells={cell: self._cells[cell] for cell in finished.cells},
            failures={cell: self._failures[cell] for cell in finished.failures},
        )

    def close(self) -> list[Finished]:
        """No more reports will come: what has not ended, or was to be repeated and never was."""
        left = list(self._unsettled())
        self._open.clear()
        self._retried.clear()
        return [self._settle(one) for one in left]

    def _unsettled(self) -> Iterator[Finished]:
        for attempts in self._retried.values():
            yield from attempts.values()
        for places in self._open.values():
            yield from map(_finished, places.values())

    def drop(self, nodeid: str) -> None:
        """Forget what is known of a test that has not ended, as a part of it is lost."""
        for where in [where for where in self._open if where[0] == nodeid]:
            del self._open[where]
        for execution in [one for one in self._retried if one[0] == nodeid]:
            del self._retried[execution]
        self._crashed.pop(nodeid, None)

    def _declare(self, samples: Mapping[str, Any]) -> None:
        for sample in samples["samples"]:
            if (arguments := sample.get("arguments", 1)) > 1:
                self._arguments[sample["key"], sample["device"]] = arguments
            for label in sample["declared"]:
                self._declared[Cell(sample["key"], label, sample["device"])] = None
            for label in set(sample.get("skipped", ())).difference(sample["together"]):
                self._skipped[Cell(sample["key"], label, sample["device"])] = None
            for label, reason in sample["unsupported"].items():
                self._unsupported[label, sample["device"]] = reason

    def cells(self) -> dict[Cell, str | None]:
        """Every declared cell with its outcome; None for those that were not in the sample."""
        said = dict(self._cells)
        for finished in self._unsettled():
            for cell, outcome in finished.cells.items():
                _say(said, (cell,), outcome)
        return {cell: said.get(cell) for cell in self._declared}

    @property
    def failures(self) -> Mapping[Cell, Failure | None]:
        """In which way each cell failed that did, or that is one of several of which one did."""
        return self._failures

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
    def hidden(self) -> Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]:
        """Node id of each test that did not come to all of its sample -> the labels that it could
        not get past, none where it left its loop by itself, and those that it did not come to.
        """
        found = {}
        for nodeid, (ended, missed) in self._missed.items():
            left = [cell.label for cell in missed if self._cells[cell] == NOT_REACHED]
            if left:
                found[nodeid] = ended, tuple(dict.fromkeys(left))
        return found

    @property
    def arguments(self) -> Mapping[tuple[str, str], int]:
        """Test key and type of device -> how many arguments its cells combine, where several."""
        return self._arguments

    @property
    def skipped_by_marks(self) -> int:
        """How many cells took no place in a sample, as marks of the suite's own skip them."""
        return len(self._skipped)

    @property
    def crashed(self) -> Mapping[str, tuple[str, ...]]:
        """Node id of each test that took its process with it -> the labels it was running.

        Several where loops are nested, and where it can't be told which it was; none if none is
        known.
        """
        return self._crashed


def _finished(observations: Sequence[Observation]) -> Finished:
    known = [one.samples for one in observations if one.samples is not None]
    final = max(reversed(known), key=_size)
    whole = any(one.when == "teardown" for one in observations)
    return Finished(
        fold(observations),
        final["samples"],
        final["nodeid"],
        final,
        whole,
        failures(observations),
    )
