"""Reports -> one outcome per cell. Pure: knows neither pytest nor torch."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
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
ENDINGS = frozenset({FAILED, XFAILED, SKIPPED, CRASHED, SUSPECT})


class Observation(NamedTuple):
    """What one report says.

    when: `setup`, `call`, `teardown`, or `crash` for a process that died. outcome: passed, failed,
    skipped, or rerun for a failure that is to be retried. xfail: the report speaks of an expected
    failure. subtest: it is about a part of the test only, and the test goes on. samples: the
    payload of the report, as `RunningTest.to_wire` makes it; None if no dtype was involved so far,
    or if the process died and left none. rerun: the attempt is to be retried, whatever this report
    itself says. worker: the process that ran the test, where there are several. failure: in which
    way it failed, where that is known.
    """

    # A tuple, as every test of a run makes three, sampled or not.

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
    return fold_told(told_by(observations))[0]


def failures(observations: Sequence[Observation]) -> dict[Cell, Failure | None]:
    """In which way each cell failed, suspects too; None where that is not known of all it did."""
    return fold_told(told_by(observations))[1]


class Told(NamedTuple):
    """What the reports of one attempt tell. observations: those of subtests too whose own reports
    did not arrive. last: the newest payload. final: the one that tells most.
    """

    observations: Sequence[Observation]
    last: Mapping[str, Any]
    final: Mapping[str, Any]


def told_by(observations: Sequence[Observation]) -> Told | None:
    """What these tell; None if no dtype was involved."""
    known = [one.samples for one in observations if one.samples is not None]
    if not known:
        return None
    # Snapshots of one thing that only grows; rerun plugins hand on the older ones later.
    final = max(reversed(known), key=size_of)
    return Told(_with_lost(observations, final), known[-1], final)


def fold_told(told: Told | None) -> tuple[dict[Cell, str], dict[Cell, Failure | None]]:
    """As `fold` and `failures` say."""
    cells: dict[Cell, str] = {}
    failed: dict[Cell, Failure | None] = {}
    if told is None:
        return cells, failed
    samples = told.final["samples"]
    chosen = [_cells(sample, sample["chosen"]) for sample in samples]
    # Every sampled test of a run comes by here, and most of them pass: nothing is made of what
    # there is none of.
    for sample, some in zip(samples, chosen, strict=True):
        if sample["unsupported"]:
            say(cells, _cells(sample, sample["unsupported"]), UNSUPPORTED)
        if sample.get("skipped"):
            say(cells, _cells(sample, sample["skipped"]), SKIPPED)
        say(cells, some, NOT_REACHED)
    blamed: set[Cell] = set()
    ran, passed = False, PASSED
    for observation in told.observations:
        ran = ran or _ran(observation)
        outcome = _said(observation)
        if outcome is None:
            continue
        if outcome == XPASSED and not observation.subtest:
            # As where it says that the test passed, a subtest may say otherwise of its dtype.
            passed = XPASSED
            continue
        sure, doubtful = _meant(observation, told.last)
        say(cells, sure, outcome)
        say(cells, doubtful, SUSPECT if outcome in _DOUBTS else outcome)
        blamed.update(sure, doubtful)
        if outcome in (FAILED, CRASHED):
            failure = CRASH if outcome == CRASHED else observation.failure
            for cell in (*sure, *doubtful):
                failed[cell] = both(failed.get(cell, failure), failure)
    if ran:
        for sample, some in zip(samples, chosen, strict=True):
            all_of_it = sample["entered"] == sample["chosen"]
            entered = some if all_of_it else _cells(sample, sample["entered"])
            say(cells, [cell for cell in entered if cell not in blamed], passed)
    return cells, failed


def both(one: Failure | None, other: Failure | None) -> Failure | None:
    """Two failures of one cell as one; None if one of them is not known."""
    return None if one is None or other is None else one.beside(other)


def _with_lost(
    observations: Sequence[Observation], final: Mapping[str, Any]
) -> Sequence[Observation]:
    """Also what subtests said whose reports did not arrive, as the test's own payload has it."""
    if not final.get("subtests") or any(one.subtest for one in observations):
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
            for told in final["subtests"]
        ),
    ]


def failure_on_wire(wire: Sequence[Any] | None) -> Failure | None:
    """The failure that a payload tells of, if it tells of one."""
    return None if wire is None else Failure(tuple(wire[0]), wire[1])


def say(cells: dict[Cell, str], some: Iterable[Cell], outcome: str) -> None:
    """Say an outcome of some cells, where nothing heavier was said before."""
    for cell in some:
        before = cells.get(cell)
        if before is None or _WEIGHT[before] < _WEIGHT[outcome]:
            cells[cell] = outcome


def _cells(sample: Mapping[str, Any], labels: Iterable[str]) -> list[Cell]:
    key, device = sample["key"], sample["device"]
    return [Cell(key, label, device) for label in labels]


def size_of(samples: Mapping[str, Any]) -> tuple[int, int, float]:
    """How much a payload tells: of two, the larger one came later."""
    some = samples["samples"]
    entered = sum([len(sample["entered"]) for sample in some])
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
    elif "teardown" in (observation.when, known.get("phase")):
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
