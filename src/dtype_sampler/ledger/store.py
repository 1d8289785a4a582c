"""The protocol of a store. The ledger speaks to it and to nothing below it.

A store in tables is `sql.SqlStore`; one file per machine is what there is (`sqlite.SqliteStore`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.ledger.costs import Costs
from dtype_sampler.ledger.outcomes import Cell
from dtype_sampler.ledger.records import (
    Brief,
    CellRecord,
    FailureRecord,
    KnownFailure,
    Numbers,
    Observed,
    RunRecord,
    TestRecord,
)
from dtype_sampler.sampling.plan import History


class LedgerError(DtypeSamplerError):
    """A store that can't be read or written; the message names it, and what to do."""


class StoreBusyError(LedgerError):
    """Another process holds the store: the same call may work a moment later."""


class RefusedError(LedgerError):
    """The store is there, and whoever asks may not do this to it, now or later."""


class NewerLedgerError(LedgerError):
    """A newer program keeps this store: what this one has to add waits until it is upgraded."""


class Store(Protocol):
    """Keeps runs, tests, cells and observations. Every method raises LedgerError if it can't.

    Each call that writes is one transaction: it is done whole or not at all.
    """

    def open_run(self, run: RunRecord) -> RunRecord:
        """Write down that a run begins; returns it with its number."""

    def append(
        self, uid: str, tests: Sequence[TestRecord], seen: Sequence[Observed]
    ) -> Collection[Cell]:
        """Add to a run what tests declared and what came of their cells; returns those of the cells
        that had a verdict before, none that a suspicion has made void.
        """

    def close_run(self, run: RunRecord, keep: int) -> None:
        """Write down that a run has ended, and fold away all but the newest *keep* runs."""

    def history(self, *, verdicts: bool) -> History:
        """What the next run wants to know."""

    def check(self) -> None:
        """Raise LedgerError if runs, tests or cells hold what none can."""

    def newest(self) -> float:
        """The latest moment that anything here speaks of, in seconds since 1970; 0 for none."""

    def runs(self, newest: int | None = None) -> list[RunRecord]:
        """The runs that are known, oldest first. newest: only so many, those that began last."""

    def runs_of(self, uids: Iterable[str]) -> dict[str, RunRecord]:
        """Those of these runs that are known, by uid."""

    def tests(self) -> list[TestRecord]:
        """The tests that are known, by key and device."""

    def cells(self, key: str | None = None, *, costs: bool = True) -> list[CellRecord]:
        """The cells that have an outcome, of one test or of all. costs: with their durations."""

    def briefs(self) -> Iterator[tuple[TestRecord, Mapping[str, Brief]]]:
        """The tests that are known, each with what came last of its cells, by label.

        In no order that means anything. All of them are to be taken.
        """

    def observations(self, uid: str, key: str | None = None) -> list[Observed]:
        """What came of a run's cells, of one test or of all, if the run is not folded away."""

    def cell_ids(self) -> Mapping[int, Cell]:
        """The cells that have an outcome, by their ids."""

    def numbers(self, run: RunRecord) -> Sequence[Numbers]:
        """As `observations`, in the numbers that the ledger keeps: there may be millions."""

    def pages(self, uid: str, most: int) -> Iterator[Sequence[Observed]]:
        """What came of a run's cells, and in which way they failed, at most *most* at a time.

        Each page is read by itself: who takes long over it keeps no writer waiting. Raises
        LedgerError if the run is folded away in between.
        """

    def failures(self, key: str | None = None, *, last: bool = False) -> list[FailureRecord]:
        """How cells failed, of one test or of all: in the whole runs, and in each one's last.

        last: each cell's last failure alone.
        """

    def known_failures(self) -> list[KnownFailure]:
        """The cells whose last verdict was a failure, by test, the oldest such verdict first."""

    def snapshot(self) -> AbstractContextManager[None]:
        """Within it, all that is read is of one moment, whatever other processes write."""

    def activity(self) -> Mapping[Cell, tuple[int, float]]:
        """In how many whole runs each cell had a verdict, and when the first of these began."""

    def costs(self) -> Costs:
        """What is to be expected of each cell, and of each test besides its cells."""

    def seeds(self, key: str, device: str, newest: int) -> list[tuple[int, bool]]:
        """The seeds of the newest whole runs of `rotate` that took a sample of this test, and
        whether each was the next one of its lane; the newest last. Without runs that named dtypes.
        """

    def merge(self, other: Store, keep: int) -> None:
        """Take over all that *other* knows, and fold away all but the newest *keep* runs."""

    def together(self) -> AbstractContextManager[None]:
        """Within it, what is written is as few transactions as can be."""

    def still_there(self, nodeids: Collection[str], at: float) -> None:
        """At that moment there are those tests whose key, or whose items, are among *nodeids*."""

    def foldable(self, keep: int) -> int:
        """How many whole runs there are besides the newest *keep*."""

    def fold(self, keep: int) -> None:
        """Fold away all but the newest *keep* runs."""

    def forget(self, tests: Sequence[TestRecord]) -> None:
        """Forget these tests and their cells."""

    def set_wait(self, seconds: float) -> None:
        """How long to wait for other processes, or for an answer, from now on."""

    def close(self) -> None:
        """Let go of the store."""
