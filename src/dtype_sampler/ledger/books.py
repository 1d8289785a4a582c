"""Writes a run down while it goes on, and never lets that disturb the tests."""

from __future__ import annotations

import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from dtype_sampler.ledger.apart import apart, as_trouble
from dtype_sampler.ledger.consulting import LAST_WAIT, ConsultedLedger
from dtype_sampler.ledger.garbage import uncollected
from dtype_sampler.ledger.journal import Journal
from dtype_sampler.ledger.outcomes import VERDICTS, Cell
from dtype_sampler.ledger.places import Place
from dtype_sampler.ledger.records import Observed, RunRecord, TestRecord
from dtype_sampler.ledger.store import LedgerError, Store, StoreBusyError

# Clocks that are off by more than this are wrong, not just another machine's; a day, in seconds.
_SKEW = 86400.0
# How long what has finished stays in the journal alone, in seconds.
_BETWEEN = 5.0
# How long a test run waits for another process that writes, in seconds.
_WAIT = 0.2
# By how much one outcome of a cell is later than the one before it, in seconds: the store keeps
# milliseconds.
_APART = 0.002


class Books(ConsultedLedger):
    """The ledger of one pytest session, in a file.

    No method but `read` raises an exception.

    path: of the ledger. named: whether a person named it; then what is wrong with it is an error
    before any test runs, and else it is told (`problems`) while the tests run on. keep: how many
    whole runs the ledger keeps. source: the ledger whose history the run goes by, if not its own.
    """

    def __init__(
        self,
        path: Path,
        *,
        named: bool,
        keep: int,
        clock: Callable[[], float] = time.time,
        source: Place | None = None,
    ) -> None:
        super().__init__(path, named=named, clock=clock, source=source)
        self.keep = keep
        self.run: RunRecord | None = None
        self.outcomes: dict[Cell, str] = {}
        self._said_at: dict[Cell, float] = {}
        self._ahead = 0.0
        # Of each cell that was written: whether it had a verdict before this run.
        self._before: dict[Cell, bool] = {}
        # As `SqliteStore.changes` has it, once the ledger was found sound.
        self._changes = 0
        self._journal: Journal | None = None
        self._written = 0.0
        self._waiting: tuple[list[TestRecord], list[Observed]] = ([], [])

    @property
    def added(self) -> int:
        """How many cells had their first verdict in this run."""
        return sum(
            outcome in VERDICTS and not self._before.get(cell, False)
            for cell, outcome in self.outcomes.items()
        )

    @apart(lambda: None)
    def begin(self, run: RunRecord) -> None:
        """The first test of the run uses a sample: from here on the run is in the ledger."""
        self.run = run
        if not self._usable:
            self._go_aside()
            return
        try:
            found = self._fingerprint()
            store = self._store = self._open(create=True, wait=LAST_WAIT)
            self._check(store, found)
            self._follow(store.newest())
            # By the same clock: the newest run is the one whose seed the next run counts on from.
            self.run = store.open_run(replace(run, started=run.started + self._ahead))
            self._changes = store.changes()
            store.set_wait(_WAIT)
            with suppress(OSError):
                self._journal = Journal(self.path, self.run)
        except Exception as error:  # noqa: BLE001  # whatever it is, the session goes on
            self._trouble(error)

    def _follow(self, newest: float) -> None:
        """Go by the clock that is furthest ahead, as what this run finds out is newer than all that
        the ledger knows, whatever another machine's clock said.
        """
        ahead = newest - self._clock()
        if ahead <= 0:
            return
        self._ahead = ahead + 0.001
        if ahead > _SKEW:
            self.problems.append(
                f"{self.name}: knows of times that are {ahead / _SKEW:.0f} days ahead of this"
                " clock, so one of the clocks was wrong: this run counts as later than those, and"
                " ages may be told wrongly"
            )

    def now(self) -> float:
        """Seconds since 1970, never before what the ledger knows of other machines."""
        return self._clock() + self._ahead

    @apart(lambda: None)
    def record(self, tests: Sequence[TestRecord], seen: Sequence[Observed]) -> None:
        """Write down what a test declared and what came of it.

        What is said of a cell again in one run replaces what was said before, whatever the clock.
        """
        outcomes, said_at = self.outcomes, self._said_at
        for place, one in enumerate(seen):
            before = said_at.get(one.cell)
            if before is not None and one.at < before + _APART:
                one = one._replace(at=before + _APART)
                seen = [*seen[:place], one, *seen[place + 1 :]]
            said_at[one.cell] = one.at
            outcomes[one.cell] = one.outcome
        self._take(tests, seen)

    def _take(self, tests: Sequence[TestRecord], seen: Sequence[Observed]) -> None:
        """Keep what a test declared and what came of it, and write it when it is time."""
        self._waiting[0].extend(tests)
        self._waiting[1].extend(seen)
        if self._journal is not None:
            try:
                self._journal.append(tests, seen)
            except (OSError, ValueError):
                # Then each test costs a transaction.
                self._journal.close(keep=True)
                self._journal = None
            else:
                # A clock that was set back does not stop the transactions.
                if 0 <= self._clock() - self._written < _BETWEEN:
                    return
        self._write()

    def _append(self, store: Store, run: RunRecord) -> None:
        """Write what a run has waiting."""
        tests, seen = self._waiting
        with uncollected():
            self._written_in(store.append(run.uid, tests, seen), seen)

    def _written_in(self, judged: Collection[Cell], seen: Iterable[Observed]) -> None:
        """Note which cells had a verdict before this run. judged: as `Store.append` says it."""
        for one in seen:
            self._before.setdefault(one.cell, one.cell in judged)

    def _write(self) -> None:
        if self._store is None or self.run is None:
            return
        try:
            self._append(self._store, self.run)
        except StoreBusyError:
            # Another process writes: later, as each try waits. What waits is in the journal.
            self._written = self._clock()
            return
        except Exception as error:  # noqa: BLE001  # whatever it is, the session goes on
            self._trouble(error)
            return
        self._waiting = ([], [])
        self._written = self._clock()
        if self._journal is not None:
            self._journal.clear()

    @property
    def number(self) -> int | None:
        """The number of this run in the ledger; None if it has none, or is kept aside."""
        return self.run.number if self.run is not None and self._usable else None

    def measure(self, *, took: float, others: float, predicted: float | None) -> None:
        """How long the run took: as `RunRecord` has it."""
        if self.run is not None:
            self.run = replace(self.run, took=took, others=others, predicted=predicted)

    @apart(lambda: None)
    def end(self, there: Collection[str] = ()) -> None:
        """The run has ended, however it did. there: the node ids of all tests that it met."""
        if self.run is None or self._store is None:
            return
        run = self.run.finished(self.now(), Counter(self.outcomes.values()))
        try:
            self._store.set_wait(LAST_WAIT)
            if any(self._waiting):
                self._append(self._store, run)
                self._waiting = ([], [])
            self._store.still_there(there, self.run.started)
            self._store.close_run(run, self.keep)
            if self._journal is not None:
                self._journal.close()
        except Exception as error:  # noqa: BLE001  # whatever it is, the session goes on
            self._trouble(error)
            if self._store is not None:
                try:
                    self._store.close_run(run, self.keep)
                except Exception as again:  # noqa: BLE001  # whatever it is, the session goes on
                    self._trouble(again)
        if self._store is not None:
            # What this run has written is sound. If others have written too, who knows.
            alone = False
            with suppress(LedgerError):
                alone = self._usable and self._store.changes() == self._changes
            self._store.close()
            self._store = None
            self.sound = self._fingerprint() if alone else ""

    @apart(lambda: None)
    def close(self) -> None:
        """Let go of all files, also after a session that never came to its end.

        What is in the journal alone stays there: whoever opens the ledger next takes it over.
        """
        if self.source is not None:
            self.source.close()
        if self._journal is not None:
            self._journal.close(keep=True)
        if self._store is not None:
            self._store.close()
        self._journal = self._store = None

    def _trouble(self, error: Exception) -> None:
        """The ledger can't be written: tell it once, and go on in a file beside it."""
        self.problems.append(str(as_trouble(self.name, error)))
        if self._store is not None:
            self._store.close()
        self._store = None
        journal, self._journal = self._journal, None
        first, self._usable = self._usable, False
        if not first:
            self._lost()
        aside = first and self._go_aside()
        if journal is not None:
            # What it holds has gone aside with the rest. If not, it is the only copy, and stays.
            journal.close(keep=not aside)

    def _go_aside(self) -> bool:
        """Go on in a file beside the ledger; returns whether all that waits is in it."""
        assert self.run is not None
        from dtype_sampler.ledger.sqlite import SqliteStore

        name = f"{self.path.name}.{self.run.uid[:8]}.side"
        # Runs share one file as long as it can be written: nobody wants to combine a hundred.
        places = [self.path.with_name(f"{self.path.name}.side"), self.path.with_name(name)]
        with suppress(OSError):  # on a full disk there may be none
            places.append(Path(tempfile.gettempdir()) / name)
        for side in places:
            there = os.path.lexists(side)
            try:
                self._store = SqliteStore.open(side, create=True)
                self.run = self._store.open_run(self.run)
            except Exception:  # noqa: BLE001  # whatever it is, the session goes on
                if self._store is not None:
                    self._store.close()
                self._store = None
                if not there:
                    with suppress(OSError):
                        side.unlink()
                continue
            self.problems.append(
                f"this run is recorded in {side}: take it over with"
                f' dtype-sampler combine "{side}" once the ledger is mended'
            )
            self._write()
            return not any(self._waiting)
        self._lost()
        return False

    def _lost(self) -> None:
        self.problems.append("this run's records are lost, as no file beside it can be written")
