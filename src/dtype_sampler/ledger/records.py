"""What the ledger keeps, and how two records of one thing become one.

Pure. Every `merged` below is a maximum in some total order, so merging is idempotent, commutative
and associative: files may be combined in any order, and again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from dtype_sampler.ledger.costs import Lasted, newest
from dtype_sampler.ledger.failures import Failure
from dtype_sampler.ledger.outcomes import CRASHED, FAILED, PASSED, SUSPECT, VERDICTS, Cell

FAILURES = frozenset({FAILED, CRASHED})
# What takes the place of a cell's last verdict. A suspicion is none, but makes an older one void:
# a pass of last week must not hide it, nor a skip of today.
DECISIVE = VERDICTS | {SUSPECT}


class Mark(NamedTuple):
    """That a cell had an outcome. at: seconds since 1970, UTC. run: the run's id."""

    at: float
    run: str
    outcome: str


def later(one: Mark | None, other: Mark | None) -> Mark | None:
    """The later of two marks; of two at one moment, always the same one."""
    if one is None or other is None:
        return one or other
    return max(one, other)


class CellRecord(NamedTuple):
    """What is known of one cell for ever.

    nodeid: what ran it last; empty if its mark says that it is not to run. last: its last outcome,
    whatever it was. verdict: the last one that says something about the code, or a suspicion that
    came later. passed, failed: the last of these; a crash is a failure. costs: its newest
    durations.
    """

    cell: Cell
    nodeid: str
    last: Mark
    verdict: Mark | None = None
    passed: Mark | None = None
    failed: Mark | None = None
    costs: Lasted = ()

    # A tuple, as a report makes one for each of 200,000 cells, and those of a dataclass that is
    # frozen take three times as long.

    @classmethod
    def of(cls, cell: Cell, nodeid: str, mark: Mark, costs: Lasted = ()) -> CellRecord:
        """The record of one outcome."""
        return cls(
            cell,
            nodeid,
            mark,
            verdict=mark if mark.outcome in DECISIVE else None,
            passed=mark if mark.outcome == PASSED else None,
            failed=mark if mark.outcome in FAILURES else None,
            costs=costs,
        )

    def merged(self, other: CellRecord) -> CellRecord:
        """One record of both."""
        newer = max(self, other, key=lambda record: (record.last, record.nodeid))
        return CellRecord(
            self.cell,
            newer.nodeid,
            newer.last,
            later(self.verdict, other.verdict),
            later(self.passed, other.passed),
            later(self.failed, other.failed),
            newest(self.costs, other.costs),
        )

    @property
    def failing(self) -> bool:
        """Whether the last verdict was a failure."""
        return self.verdict is not None and self.verdict.outcome in FAILURES

    @property
    def suspect(self) -> bool:
        """Whether it is one of several of which one did not pass, and has had no verdict since."""
        return self.verdict is not None and self.verdict.outcome == SUSPECT

    def runs(self) -> set[str]:
        """The runs that this record speaks of."""
        marks = (self.last, self.verdict, self.passed, self.failed)
        return {mark.run for mark in marks if mark is not None}


class Brief(NamedTuple):
    """What is known of a cell, in so few words that 200,000 of them are read in a moment.

    last, verdict: as `CellRecord` has them. named: whether it has a node id. own: of one that was
    always skipped, whether that is another than its test's, as items have it and loops have not.
    """

    last: Mark
    verdict: Mark | None
    named: bool
    own: bool


# Stands for `seen_at` where a record is made: a view of the whole.
_AS_SEEN = -1.0


@dataclass(frozen=True, slots=True)
class TestRecord:
    """What a test declares on one type of device, as far as it was seen. Times as above.

    A run sees either all that a test declares or, where it can't know of the rest, a part: a test
    that fails may have had more to ask for. A part adds to what is known, and only a view of the
    whole takes away.

    declared: labels. seen_at: when any were seen last. k: how many it takes at a time. always:
    those always taken. met_at: when a run last met it but was not told what it declares: it was
    skipped or deselected. whole_at: when it was last seen whole; 0: never. times: for each label
    when it was seen last, and at which place; empty if all were at `seen_at`, in this order.
    arguments: how many its candidates combine; 1 for single ones. circle: the key that their order
    is made from; empty for the test key. rests: the newest durations of what it needs besides its
    dtypes.
    """

    __test__ = False  # pytest would collect it where a test imports it

    key: str
    device: str
    declared: tuple[str, ...]
    seen_at: float
    k: int
    always: tuple[str, ...] = ()
    met_at: float = 0.0
    whole_at: float = _AS_SEEN
    times: tuple[tuple[float, int], ...] = ()
    rests: Lasted = ()
    arguments: int = 1
    circle: str = ""

    def __post_init__(self) -> None:
        if len(set(self.declared)) < len(self.declared):
            object.__setattr__(self, "declared", tuple(dict.fromkeys(self.declared)))
        if self.whole_at == _AS_SEEN:
            object.__setattr__(self, "whole_at", self.seen_at)

    @property
    def there_at(self) -> float:
        """When there last was such a test."""
        return max(self.seen_at, self.met_at)

    @property
    def is_whole(self) -> bool:
        """Whether all of it is of one view of the whole: it needs nothing of what was before."""
        return self.whole_at == self.seen_at and not self.times

    def merged(self, other: TestRecord) -> TestRecord:
        """One record of both.

        Of each label the last time it was seen, where that is not before the test was seen whole:
        all of it is maxima, and what one merge leaves out, no later one could have kept.
        """
        whole_at = max(self.whole_at, other.whole_at)
        seen: dict[str, tuple[float, int]] = {}
        for one in (self, other):
            times = one.times or [(one.seen_at, place) for place in range(len(one.declared))]
            for label, time in zip(one.declared, times, strict=True):
                if time[0] >= whole_at:
                    seen[label] = max(seen.get(label, time), time)
        seen_at = max(self.seen_at, other.seen_at)
        declared = sorted(seen, key=lambda label: (seen[label][1], seen[label][0], label))
        times = tuple(seen[label] for label in declared)
        alike = all(time == (seen_at, place) for place, time in enumerate(times))
        # How it is sampled, a view of the whole knows best.
        newer = max(
            self,
            other,
            key=lambda one: (
                one.whole_at,
                one.whole_at or one.seen_at,
                one.k,
                one.always,
                one.arguments,
                one.circle,
            ),
        )
        return TestRecord(
            self.key,
            self.device,
            tuple(declared),
            seen_at,
            newer.k,
            newer.always,
            max(self.met_at, other.met_at),
            whole_at,
            () if alike else times,
            newest(self.rests, other.rests),
            newer.arguments,
            newer.circle,
        )


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One pytest session that used a sample.

    uid: unique on earth. number: counts the runs of the ledger it was written to, for people.
    strategy: of its samples; "all" for all dtypes, "budget" where time decided, "run" for what an
    earlier run took.
    started, ended: seconds since 1970, UTC; ended is None while it goes on and after it was killed.
    commit: of git, with a `+` if the tree was dirty. counts: cells by outcome, once it has ended.
    lane, part: what it was told to run, as `sampling.lanes.Lane` has it; None for runs of before
    lanes were kept. in_series: whether its seed was the lane's next one, not one that was given.
    workers: how many processes ran its tests, 0 if that is not known. took: from its first test to
    the end of its last, in seconds. others: what tests without dtypes took, in seconds of one
    process. predicted: what it was to take, if it had a budget.
    """

    uid: str
    started: float
    seed: int
    seed_origin: str
    strategy: str
    number: int = 0
    ended: float | None = None
    command: str = ""
    commit: str = ""
    host: str = ""
    python: str = ""
    torch: str = ""
    plugin: str = ""
    device: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    lane: str | None = None
    part: str = ""
    in_series: bool = True
    workers: int = 0
    took: float | None = None
    others: float = 0.0
    predicted: float | None = None

    def merged(self, other: RunRecord) -> RunRecord:
        """One record of two copies of one run: the one that knows its end."""
        return max(
            self,
            other,
            key=lambda one: (
                one.ended is not None,
                one.ended or 0.0,
                sorted(one.counts.items()),
                # Copies have the rest in common. Where they don't, always the same one.
                repr(one),
            ),
        )

    def finished(self, at: float, counts: Mapping[str, int]) -> RunRecord:
        """The record of this run once it has ended."""
        return replace(self, ended=at, counts=dict(counts))


class Observed(NamedTuple):
    """The outcome of one cell in one run. duration: seconds, None where that can't be told.

    failure: in which way it failed, where that is known; the store gives it by `failures`.
    """

    # A tuple for the reason that `CellRecord` has.

    cell: Cell
    nodeid: str
    outcome: str
    at: float
    duration: float | None = None
    failure: Failure | None = None


# The same in the numbers that a ledger keeps: the id of the cell, the number of the outcome, and in
# milliseconds when, since the run began, and how long, or None.
Numbers = tuple[int, int, int, int | None]


@dataclass(frozen=True, slots=True)
class FailureRecord:
    """How a cell failed in one run. run: its uid. at: seconds since 1970."""

    cell: Cell
    run: str
    at: float
    failure: Failure


@dataclass(frozen=True, slots=True)
class KnownFailure:
    """A cell whose last verdict was a failure, not a crash.

    nodeid: what ran it last. failure: in which way; None if that was not kept. since: the first run
    in which it failed after it had passed last, as far as runs are kept; exact: whether there can't
    have been one before.
    """

    cell: Cell
    nodeid: str
    failure: Failure | None
    since: RunRecord
    exact: bool
