"""What the ledger keeps, and how two records of one thing become one.

Pure. Every `merged` below is a maximum in some total order, so merging is idempotent, commutative
and associative: files may be combined in any order, and again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from dtype_sampler.ledger.outcomes import CRASHED, FAILED, PASSED, VERDICTS, Cell

FAILURES = frozenset({FAILED, CRASHED})


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


@dataclass(frozen=True, slots=True)
class CellRecord:
    """What is known of one cell for ever.

    nodeid: what ran it last. last: its last outcome, whatever it was. verdict: the last one that
    says something about the code. passed, failed: the last of these; a crash is a failure.
    """

    cell: Cell
    nodeid: str
    last: Mark
    verdict: Mark | None = None
    passed: Mark | None = None
    failed: Mark | None = None

    @classmethod
    def of(cls, cell: Cell, nodeid: str, mark: Mark) -> CellRecord:
        """The record of one outcome."""
        return cls(
            cell,
            nodeid,
            mark,
            verdict=mark if mark.outcome in VERDICTS else None,
            passed=mark if mark.outcome == PASSED else None,
            failed=mark if mark.outcome in FAILURES else None,
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
        )

    @property
    def failing(self) -> bool:
        """Whether the last verdict was a failure."""
        return self.verdict is not None and self.verdict.outcome in FAILURES

    def runs(self) -> set[str]:
        """The runs that this record speaks of."""
        marks = (self.last, self.verdict, self.passed, self.failed)
        return {mark.run for mark in marks if mark is not None}


@dataclass(frozen=True, slots=True)
class TestRecord:
    """What a test declared when it was seen last, on one type of device.

    seen_at: seconds since 1970, UTC. k: how many it takes at a time. always: those always taken.
    met_at: when a run last met it but was not told what it declares: it was skipped or deselected.
    """

    __test__ = False  # pytest would collect it where a test imports it

    key: str
    device: str
    declared: tuple[str, ...]
    seen_at: float
    k: int
    always: tuple[str, ...] = ()
    met_at: float = 0.0

    @property
    def there_at(self) -> float:
        """When there last was such a test."""
        return max(self.seen_at, self.met_at)

    def merged(self, other: TestRecord) -> TestRecord:
        """One record of both: what was declared last, and when there last was such a test."""
        newer = max(self, other, key=lambda one: (one.seen_at, one.declared, one.k, one.always))
        return replace(newer, met_at=max(self.met_at, other.met_at))


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One pytest session that used a sample.

    uid: unique on earth. number: counts the runs of the ledger it was written to, for people.
    started, ended: seconds since 1970, UTC; ended is None while it goes on and after it was killed.
    commit: of git, with a `+` if the tree was dirty. counts: cells by outcome, once it has ended.
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


@dataclass(frozen=True, slots=True)
class Observed:
    """The outcome of one cell in one run. duration: seconds, where known."""

    cell: Cell
    nodeid: str
    outcome: str
    at: float
    duration: float | None = None
