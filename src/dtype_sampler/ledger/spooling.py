"""The books of a run whose ledger is on a server: its journal is the spool.

A server may be away, slow, full, read-only, restarted, or refuse us; the run goes on, and no test
waits. So while tests run, the journal is written and nothing else; a thread ships what came
together every few seconds, and at the end there is one try to ship the rest, with a limit. What a
server has not taken stays in the journal, which the next run here takes over. Shipping twice
changes nothing.
"""

from __future__ import annotations

import os
import tempfile
import time
import warnings
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

from dtype_sampler.ledger.apart import apart, as_trouble
from dtype_sampler.ledger.books import Books
from dtype_sampler.ledger.elsewhere import (
    AT_END,
    AT_START,
    Past,
    left_by,
    passed_in,
    records_in,
    standing_in,
)
from dtype_sampler.ledger.journal import Journal, take_over
from dtype_sampler.ledger.link import Link
from dtype_sampler.ledger.outcomes import CRASHED, FAILED, SUSPECT, Cell
from dtype_sampler.ledger.places import Place, ServerPlace
from dtype_sampler.ledger.records import CellRecord, Observed, RunRecord, TestRecord
from dtype_sampler.ledger.shipper import Shipper
from dtype_sampler.ledger.store import LedgerError, Store
from dtype_sampler.ledger.untaken import kept, strays
from dtype_sampler.sampling.plan import History

if TYPE_CHECKING:
    from dtype_sampler.ledger.coverage import Coverage

T = TypeVar("T")
# Seconds between two shippings while tests run; more, up to the latter, while the server is away.
EVERY, AT_MOST = 5.0, 60.0
# Seconds that each answer may take that nobody waits for.
_MEANWHILE = 30.0
# Seconds, of those that the session waits for, in which earlier runs are taken over.
_FOR_OTHERS = 1.5
# So many runs are enough to tell which seed comes next: this one is the newest of its lane.
_NEWEST = 1000
# So many tests make one transaction.
_AT_ONCE = 2000
_DID_NOT_PASS = frozenset({FAILED, CRASHED, SUSPECT})

# What a test declared, and what came of it.
Ended = tuple[Sequence[TestRecord], Sequence[Observed]]


class ServerBooks(Books):
    """The ledger of one pytest session, on a server.

    place: where. folder: the root directory, in which the spool lies. keep, source: as for `Books`.
    """

    def __init__(
        self,
        place: ServerPlace,
        folder: Path,
        *,
        keep: int,
        clock: Callable[[], float] = time.time,
        source: Place | None = None,
    ) -> None:
        super().__init__(place.spool(folder), named=True, keep=keep, clock=clock, source=source)
        self.place = self._server = place
        self._link = Link(place)
        self._shipper = Shipper(self._ship, self._waits, every=EVERY, at_most=AT_MOST)
        # What both the session and the thread that ships have in hand.
        self._guard = Lock()
        self._queue: deque[Ended] = deque()
        self._was: dict[Cell, CellRecord | None] = {}
        self._opened: RunRecord | None = None
        self._newest = 0.0
        self._looked: History | None = None
        self._at_start = ""
        self._untaken = ""
        self._spooled = False
        self._gone = False
        self._pid = os.getpid()

    @property
    def is_far(self) -> bool:
        """Whether what is asked of it may take long: it is on a server."""
        return True

    @property
    def tells_late(self) -> bool:
        """Whether it is not to be asked for the past of a cell before the run has ended."""
        return self.source is None or self.source.is_far

    def read(
        self,
        *,
        verdicts: bool,
        failing: bool = False,
        also: Callable[[Store], object] | None = None,
        claim: Callable[[Any], int] | None = None,
    ) -> History:
        """What the runs before this one leave to it.

        Raises LedgerError for a file that the run is to go by and that can't be read. A server that
        can't be asked ends no session.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            history = None
            if self.source is not None:
                history = self._read_elsewhere(verdicts=verdicts, failing=failing, also=also)
                claim = None
            try:
                return self._link.ask(
                    partial(
                        self._look,
                        history,
                        verdicts=verdicts,
                        failing=failing,
                        also=also,
                        claim=claim,
                    ),
                    seconds=AT_START,
                )
            except Exception as error:  # noqa: BLE001  # whatever it is, the session goes on
                # What it said before that holds.
                history = self._looked if history is None else history
                if self._looked is None:
                    self._at_start = str(as_trouble(self.name, error))
            finally:
                # Tests are collected now, which may take long.
                self._link.close(seconds=1.0)
        return History(unread=self._at_start) if history is None else history

    def _look(
        self,
        history: History | None,
        store: Store,
        *,
        verdicts: bool,
        failing: bool,
        also: Callable[[Store], object] | None,
        claim: Callable[[Any], int] | None,
    ) -> History:
        """What is asked at the start. history: what the run goes by, if it is not from here."""
        store.set_wait(_FOR_OTHERS)
        self._take_over(store)
        # One transaction, as each is several ways to the server and back.
        with store.snapshot():
            self._newest = store.newest()
            if history is None:
                history, self.failing = left_by(
                    store, verdicts=verdicts, failing=failing, also=also
                )
        self._looked = history
        store.set_wait(AT_START)
        if claim is not None:
            # A role that may only read has a history, and no seed of its own.
            with suppress(LedgerError):
                history = replace(history, claimed=claim(store))
        return history

    def peek(
        self,
        *,
        verdicts: bool,
        failing: bool = False,
        also: Callable[[Store], object] | None = None,
    ) -> History:
        """As `read`, and nothing is written."""
        if self.source is not None:
            return super().peek(verdicts=verdicts, failing=failing, also=also)

        def look(store: Store) -> History:
            with store.snapshot():
                history, self.failing = left_by(
                    store, verdicts=verdicts, failing=failing, also=also
                )
                return history

        try:
            return self._link.ask(look, seconds=AT_START)
        except Exception:  # noqa: BLE001  # what is wrong is left for a run to tell
            return History()
        finally:
            self._link.close(seconds=1.0)

    def _take_over(self, store: Store) -> None:
        """Ship what runs before this one have left here, as far as there is time for it."""
        until = time.monotonic() + _FOR_OTHERS
        self._untaken = take_over(self.path, store, self.keep, lambda: time.monotonic() > until)

    @apart(lambda: None)
    def begin(self, run: RunRecord) -> None:
        """The first test of the run uses a sample: from here on the run is kept here."""
        self._follow(self._newest)
        self.run = replace(run, started=run.started + self._ahead)
        for path in (self.path, Path(tempfile.gettempdir()) / self.path.name):
            # As others look for what was left, they may hold the lock of a new one for a moment.
            for _ in range(3):
                with suppress(OSError):
                    self._journal = Journal(path, self.run)
                    self._spooled = True
                    return

    def _take(self, tests: Sequence[TestRecord], seen: Sequence[Observed]) -> None:
        if self.run is None:
            return
        if self._journal is not None:
            try:
                self._journal.append(tests, seen)
            except (OSError, ValueError):
                # What it holds stays, if the server does not take it all.
                self._journal.close(keep=True)
                self._spooled = False
        with self._guard:
            self._queue.append((list(tests), list(seen)))
        self._shipper.wake()

    def _waits(self) -> bool:
        return bool(self._queue)

    def _ship(self) -> bool:
        """Ship what waits, in the thread that calls; returns whether that went well."""
        try:
            while self._queue:
                self._link.talk(self._deliver, wait=_MEANWHILE)
        except BaseException:  # noqa: BLE001  # it is tried again, and at the end it is told
            return False
        finally:
            # A server has few connections, and many jobs ask for one.
            self._link.rest()
        return True

    def _deliver(self, store: Store) -> None:
        """One transaction's worth of what waits."""
        assert self.run is not None
        with self._guard:
            some = list(islice(self._queue, _AT_ONCE))
        tests = [test for declared, _ in some for test in declared]
        seen = [one for _, found in some for one in found]
        self._note(store, seen)
        if self._opened is None:
            self._opened = store.open_run(self.run)
        self._written_in(store.append(self.run.uid, tests, seen), seen)
        with self._guard:
            for _ in some:
                self._queue.popleft()

    def _note(self, store: Store, seen: Sequence[Observed]) -> None:
        """Note what the ledger knew before this run of what it will say something of."""
        cells = [
            one.cell
            for one in seen
            if one.outcome in _DID_NOT_PASS and one.cell not in self._was and self.source is None
        ]
        if not cells:
            return
        with store.snapshot():
            known = records_in(store, cells)
        self._was |= {cell: known.get(cell) for cell in cells}

    @apart(list)
    def past(self, cells: Sequence[Cell]) -> Past:
        """What the ledger knew of cells before this run; of none that it can't tell of."""
        if self.source is not None:
            return self.source.past(cells)
        told = [cell for cell in cells if cell in self._was]
        if not told or self._gone:
            return []
        known = (self._was[cell] for cell in told)
        uids = [one.passed.run for one in known if one is not None and one.passed is not None]
        runs = self._ask(lambda store: store.runs_of(uids))
        return [(cell, self._was[cell], passed_in(self._was[cell], runs)) for cell in told]

    @apart(lambda: (None, []))
    def state(
        self, devices: Iterable[str] | None, *, whole: bool = False
    ) -> tuple[Coverage | None, Sequence[RunRecord]]:
        """As a file's; but unless the whole is wanted, only the newest runs: a server has those of
        a year, and the session waits.
        """
        if not self._can_tell:
            return None, []
        newest = None if whole else _NEWEST
        return self._ask(partial(standing_in, devices=devices, whole=whole, newest=newest))

    @property
    def number(self) -> int | None:
        """The number of this run in the ledger; None if it has none."""
        return None if self._opened is None else self._opened.number

    @apart(lambda: None)
    def end(self, there: Collection[str] = ()) -> None:
        """The run has ended, however it did. there: the node ids of all tests that it met."""
        if self.run is None:
            self._tell_start()
            return
        until = time.monotonic() + AT_END
        self._shipper.end(AT_END)
        run = self.run = self.run.finished(self.now(), Counter(self.outcomes.values()))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                left = max(until - time.monotonic(), 1.0)
                self._link.ask(partial(self._finish, run=run, there=there), seconds=left)
        except Exception as error:  # noqa: BLE001  # whatever it is, the session goes on
            self._gone = True
            self._keep(run, there, as_trouble(self.name, error))
            return
        self._tell_start()
        if self._journal is not None:
            self._journal.close()
            self._journal = None
        if stray := strays(self.path, self._server):
            self.problems.append(stray)

    def _finish(self, store: Store, *, run: RunRecord, there: Collection[str]) -> None:
        while len(self._queue) > _AT_ONCE:
            self._deliver(store)
        with store.together():
            if self._queue:
                self._deliver(store)
            if self._opened is None:
                self._opened = store.open_run(run)
            store.still_there(there, run.started)
            store.close_run(replace(run, number=self._opened.number), self.keep)
        self._take_over(store)

    def _tell_start(self) -> None:
        if self._at_start:
            self.problems.append(f"{self._at_start}: this run began without what it knows")
        if self._untaken:
            self.problems.append(self._untaken)

    def _keep(self, run: RunRecord, there: Collection[str], why: LedgerError) -> None:
        """The server does not take the run: leave it in the spool, and say so once."""
        journal, self._journal = self._journal, None
        if journal is None or not self._spooled:
            some = f", but for what {journal.path} holds" if journal is not None else ""
            self.problems.append(
                f"{why}: this run's records are lost{some}, as no file can be written"
            )
            return
        try:
            journal.finish(run, there)
            told = "this run is kept in"
        except OSError:
            told = "how this run ended is lost, and all else is kept in"
        journal.close(keep=True)
        where = kept(journal.path, self.path, self._server, why)
        self.problems.append(f"{why}: {told} {where}")

    @property
    def _can_tell(self) -> bool:
        return not self._gone

    def _exists(self) -> bool:
        return True

    def _ask(self, work: Callable[[Store], T]) -> T:
        return self._link.ask(work, seconds=AT_END)

    @apart(lambda: None)
    def close(self) -> None:
        """Let go of all, also after a session that never came to its end."""
        if os.getpid() != self._pid:
            # A child of the session's process: all of it is the parent's.
            return
        if self.source is not None:
            self.source.close()
        self._shipper.end(1.0)
        if self._journal is not None:
            self._journal.close(keep=True)
            self._journal = None
        self._link.close(seconds=1.0)
