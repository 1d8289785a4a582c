"""Writes a run down while it goes on, and never lets that disturb the tests.

Long, as each step of a run can fail in its own way, and all share what is still to be written.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from dtype_sampler.ledger.apart import apart, as_trouble
from dtype_sampler.ledger.costs import UNMEASURED, Costs
from dtype_sampler.ledger.elsewhere import Elsewhere, ElsewhereError, left_by
from dtype_sampler.ledger.journal import Journal, recover
from dtype_sampler.ledger.outcomes import VERDICTS, Cell
from dtype_sampler.ledger.places import FilePlace, Place
from dtype_sampler.ledger.records import (
    CellRecord,
    KnownFailure,
    Observed,
    RunRecord,
    TestRecord,
)
from dtype_sampler.ledger.store import LedgerError, Store, StoreBusyError
from dtype_sampler.sampling.plan import History

if TYPE_CHECKING:
    from dtype_sampler.ledger.coverage import Coverage
    from dtype_sampler.ledger.sqlite import SqliteStore

# Clocks that are off by more than this are wrong, not just another machine's; a day, in seconds.
_SKEW = 86400.0
# How long what has finished stays in the journal alone, in seconds.
_BETWEEN = 5.0
# So many runs of a test show in which steps its seeds go.
_RECENT = 10
# How long a test run waits for another process that writes, in seconds; and at its end.
_WAIT, _LAST_WAIT = 0.2, 10.0


# By how much one outcome of a cell is later than the one before it, in seconds: the store keeps
# milliseconds.
_APART = 0.002
T = TypeVar("T")


def _seeds_of(tests: Iterable[TestRecord], store: Store) -> list[list[tuple[int, bool]]]:
    with store.snapshot():
        return [store.seeds(test.key, test.device, _RECENT) for test in tests]


class Books:
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
        self.path = path
        self.place: Place = FilePlace(path)
        self.source = None if source is None else Elsewhere(source)
        self.keep = keep
        self.problems: list[str] = []
        self.run: RunRecord | None = None
        self.outcomes: dict[Cell, str] = {}
        # What failed at its last verdict, as the ledger was before this run; only if asked for.
        self.failing: list[KnownFailure] = []
        self._said_at: dict[Cell, float] = {}
        self._named = named
        self._clock = clock
        self._ahead = 0.0
        self._usable = True
        self._store: SqliteStore | None = None
        self._known: Mapping[str, RunRecord] = {}
        self._before: Mapping[str, Mapping[str, Mapping[str, float]]] = {}
        self._journal: Journal | None = None
        self._written = 0.0
        self._waiting: tuple[list[TestRecord], list[Observed]] = ([], [])

    @property
    def name(self) -> str:
        """What messages call the ledger."""
        return str(self.place)

    @property
    def read_from(self) -> Place:
        """Where the history is that the run goes by."""
        return self.place if self.source is None else self.source.place

    @property
    def is_far(self) -> bool:
        """Whether what is asked of it may take long: it is on a server."""
        return False

    @property
    def read_from_afar(self) -> bool:
        """Whether the history is on a server."""
        return self.is_far if self.source is None else self.source.is_far

    @property
    def tells_late(self) -> bool:
        """Whether it is not to be asked for the past of a cell before the run has ended."""
        return self.source is not None and self.source.is_far

    def read(
        self,
        *,
        verdicts: bool,
        failing: bool = False,
        also: Callable[[Store], object] | None = None,
        claim: Callable[[Any], int] | None = None,
    ) -> History:
        """What the runs before this one leave to it. Raises LedgerError if the path was named.

        failing: also in which way cells failed (`self.failing`). also: asks the ledger what else is
        needed, if there is one. claim: asks a server for the seed that is this run's alone.
        """
        del claim  # runs on one machine come one after another, or are told which seed to take
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return self._read(verdicts=verdicts, failing=failing, also=also)
        except Exception as error:  # noqa: BLE001  # whatever it is, the session goes on
            trouble = as_trouble(self.name, error)
        if self._named or isinstance(trouble, ElsewhereError):
            raise trouble
        self._usable = isinstance(trouble, StoreBusyError)
        self.problems.append(str(trouble))
        return History()

    def _read(
        self, *, verdicts: bool, failing: bool, also: Callable[[Store], object] | None
    ) -> History:
        if self._named:
            self._check_place()
        if not self._exists():
            return self._read_elsewhere(verdicts=verdicts, failing=failing, also=also)
        store = self._open(wait=2.0)
        try:
            if self._named:
                store.check()
            self.problems += recover(self.path, store, remove=True)
            if self.source is not None:
                return self._read_elsewhere(verdicts=verdicts, failing=failing, also=also)
            history, self.failing = left_by(store, verdicts=verdicts, failing=failing, also=also)
            return history
        finally:
            store.close()

    def _read_elsewhere(
        self, *, verdicts: bool, failing: bool, also: Callable[[Store], object] | None
    ) -> History:
        """What the ledger leaves to this run that it reads instead of its own; nothing if it reads
        its own, where there is none yet.
        """
        if self.source is None:
            return History()
        try:
            history, known = self.source.read(verdicts=verdicts, failing=failing, also=also)
        except LedgerError as error:
            if isinstance(error, ElsewhereError):
                raise
            self.problems.append(f"{error}: this run began without what it knows")
            return History(unread=str(error))
        self.failing = known
        return history

    def peek(
        self,
        *,
        verdicts: bool,
        failing: bool = False,
        also: Callable[[Store], object] | None = None,
    ) -> History:
        """As `read`, from a copy: nothing is touched, and what is wrong is left for a run to tell.

        What a killed run has left beside the ledger is not looked at.
        """
        if self.source is not None:
            with suppress(LedgerError):
                return self._read_elsewhere(verdicts=verdicts, failing=failing, also=also)
            return History()
        try:
            with tempfile.TemporaryDirectory() as folder:
                for end in ("", "-wal"):
                    source = self.path.with_name(self.path.name + end)
                    if source.is_file():
                        shutil.copyfile(source, Path(folder) / source.name)
                copy = Books(Path(folder) / self.path.name, named=False, keep=self.keep)
                history = copy.read(verdicts=verdicts, failing=failing, also=also)
                self.failing = copy.failing
                return history
        except OSError:
            return History()

    def _check_place(self) -> None:
        """Raise LedgerError if the path can't become a file."""
        try:
            if self.path.is_dir():
                raise LedgerError(f"{self.path}: is a folder: name a file in it")
            if not self.path.parent.is_dir():
                raise LedgerError(
                    f"{self.path}: there is no folder {self.path.parent}: make it first"
                )
            # Where the rights say nothing, as for root or on a read-only disk, trying does.
            with tempfile.TemporaryFile(dir=self.path.parent):
                pass
            if self.path.exists():
                self.path.open("r+b").close()
        except (OSError, ValueError) as error:
            if isinstance(error, LedgerError):
                raise
            said = getattr(error, "strerror", None) or error
            raise LedgerError(f"{self.path}: can't be written: {said}") from None

    def _exists(self) -> bool:
        try:
            return self.path.exists()
        except OSError as error:
            raise LedgerError(f"{self.path}: can't be read: {error.strerror}") from None

    @apart(list)
    def past(self, cells: Sequence[Cell]) -> list[tuple[Cell, CellRecord | None, RunRecord | None]]:
        """What the ledger knows of cells: the record, and the run in which each passed last.

        Of one that never passed, that in which it failed last. Empty if the ledger can't tell.
        """
        if self.source is not None:
            return self.source.past(cells)
        if not self._usable or self._store is None:
            return []
        found = []
        for cell in cells:
            try:
                known = self._store.cells(cell.key)
            except LedgerError:
                # Whoever writes next will tell.
                return []
            record = next((one for one in known if one.cell == cell), None)
            mark = (record.passed or record.failed) if record is not None else None
            found.append((cell, record, self._known.get(mark.run) if mark else None))
        return found

    @apart(lambda: (None, []))
    def state(self, devices: Iterable[str] | None) -> tuple[Coverage | None, Sequence[RunRecord]]:
        """What is covered on these types of device by now, and the runs that are known.

        The former is None if the ledger can't tell. devices: None means all.
        """
        if not self._can_tell:
            return None, []
        from dtype_sampler.ledger.coverage import assess

        def known(store: Store) -> tuple[Coverage, Sequence[RunRecord]]:
            with store.snapshot():
                alone = store.history(verdicts=False).alone
                coverage = assess(store.tests(), store.cells(), device=devices, alone=alone)
                return coverage, store.runs()

        return self._ask(known)

    @apart(lambda: UNMEASURED)
    def costs(self) -> Costs:
        """What is to be expected of each cell and test; of none, if the ledger can't tell."""
        if not self._can_tell or not self._exists():
            return UNMEASURED
        return self._ask(lambda store: store.costs())

    def seeds(self, tests: Iterable[TestRecord]) -> list[list[tuple[int, bool]]]:
        """The seeds of the last runs of each of these tests, as `Store.seeds` gives them.

        Empty if the ledger can't tell.
        """
        if not self._can_tell:
            return []
        try:
            return self._ask(partial(_seeds_of, tests))
        except LedgerError as error:
            self.problems.append(str(error))
            return []

    @property
    def added(self) -> int:
        """How many cells had their first verdict in this run."""
        return sum(
            outcome in VERDICTS
            and cell.label not in self._before.get(cell.device, {}).get(cell.key, {})
            for cell, outcome in self.outcomes.items()
        )

    @property
    def _can_tell(self) -> bool:
        return self._usable

    def _ask(self, work: Callable[[Store], T]) -> T:
        """What the ledger says once the run has ended. Raises LedgerError."""
        store = self._open(wait=_LAST_WAIT)
        try:
            return work(store)
        finally:
            store.close()

    def _open(self, *, wait: float, create: bool = False) -> SqliteStore:
        # Not before there is something to read or to write: a run without dtypes pays nothing.
        from dtype_sampler.ledger.sqlite import SqliteStore

        return SqliteStore.open(self.path, create=create, wait=wait)

    @apart(lambda: None)
    def begin(self, run: RunRecord) -> None:
        """The first test of the run uses a sample: from here on the run is in the ledger."""
        self.run = run
        if not self._usable:
            self._go_aside()
            return
        try:
            store = self._store = self._open(create=True, wait=_LAST_WAIT)
            store.check()
            self._before = store.history(verdicts=True).verdicts
            known = store.runs()
            self._follow(store.newest())
            # By the same clock: the newest run is the one whose seed the next run counts on from.
            self.run = store.open_run(replace(run, started=run.started + self._ahead))
            self._known = {one.uid: one for one in (*known, self.run)}
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
        for place, one in enumerate(seen):
            before = self._said_at.get(one.cell)
            if before is not None and one.at < before + _APART:
                one = replace(one, at=before + _APART)
                seen = [*seen[:place], one, *seen[place + 1 :]]
            self._said_at[one.cell] = one.at
        self.outcomes.update((one.cell, one.outcome) for one in seen)
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

    def _write(self) -> None:
        if self._store is None or self.run is None:
            return
        try:
            self._store.append(self.run.uid, *self._waiting)
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
            self._store.set_wait(_LAST_WAIT)
            if any(self._waiting):
                self._store.append(run.uid, *self._waiting)
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
            self._store.close()
            self._store = None

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
