"""A run's ledger, as far as it is asked: before its tests, when one of them fails, and at its end.

What is wrong with it never disturbs the tests.
"""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from dtype_sampler.ledger.apart import apart, as_trouble
from dtype_sampler.ledger.costs import UNMEASURED, Costs
from dtype_sampler.ledger.elsewhere import Elsewhere, ElsewhereError, left_by, standing_in
from dtype_sampler.ledger.journal import recover
from dtype_sampler.ledger.outcomes import Cell
from dtype_sampler.ledger.places import FilePlace, Place
from dtype_sampler.ledger.records import CellRecord, KnownFailure, RunRecord, TestRecord
from dtype_sampler.ledger.store import LedgerError, Store, StoreBusyError
from dtype_sampler.paths import stat_of
from dtype_sampler.sampling.plan import History

if TYPE_CHECKING:
    from dtype_sampler.ledger.coverage import Coverage
    from dtype_sampler.ledger.sqlite import SqliteStore

# So many runs of a test show in which steps its seeds go.
_RECENT = 10
# How long the end of a run waits for another process that writes, in seconds.
LAST_WAIT = 10.0
T = TypeVar("T")


class ConsultedLedger:
    """The ledger that one pytest session goes by, in a file.

    No method but `read` raises an exception.

    path: of the ledger. named: whether a person named it; then what is wrong with it is an error
    before any test runs, and else it is told (`problems`) while the tests run on. source: the
    ledger whose history the run goes by, if not its own.
    """

    def __init__(
        self,
        path: Path,
        *,
        named: bool,
        clock: Callable[[], float] = time.time,
        source: Place | None = None,
    ) -> None:
        self.path = path
        self.place: Place = FilePlace(path)
        self.source = None if source is None else Elsewhere(source)
        self.problems: list[str] = []
        # What failed at its last verdict, as the ledger was before this run; only if asked for.
        self.failing: list[KnownFailure] = []
        self._named = named
        self._clock = clock
        self._usable = True
        # What the file was like, as `sqlite.fingerprint` says it, when it was known to be sound.
        self.sound = ""
        # Open while the run writes.
        self._store: SqliteStore | None = None

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
        found = self._fingerprint()
        store = self._open(wait=2.0)
        try:
            if self._named:
                self._check(store, found)
            self.problems += recover(self.path, store, remove=True)
            if self.source is not None:
                return self._read_elsewhere(verdicts=verdicts, failing=failing, also=also)
            history, self.failing = left_by(store, verdicts=verdicts, failing=failing, also=also)
            return history
        finally:
            store.close()

    def _fingerprint(self) -> str:
        from dtype_sampler.ledger.sqlite import fingerprint

        return fingerprint(self.path)

    def _check(self, store: Store, found: str) -> None:
        """Raise LedgerError if the ledger holds what none can. That looks at millions of rows: so
        not at those of a file that nobody has changed since it was found sound.

        found: its fingerprint before it was opened.
        """
        if not found or found != self.sound:
            store.check()
            self.sound = found

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
                copied = FilePlace(self.path).copied(Path(folder))
                copy = ConsultedLedger(copied.path, named=False)
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
            if stat_of(self.path) is not None:
                self.path.open("r+b").close()
        except (OSError, ValueError) as error:
            if isinstance(error, LedgerError):
                raise
            said = getattr(error, "strerror", None) or error
            raise LedgerError(f"{self.path}: can't be written: {said}") from None

    def _exists(self) -> bool:
        try:
            return stat_of(self.path) is not None
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
                known = self._store.cells(cell.key, costs=False)
                record = next((one for one in known if one.cell == cell), None)
                mark = (record.passed or record.failed) if record is not None else None
                runs = {} if mark is None else self._store.runs_of([mark.run])
            except LedgerError:
                # Whoever writes next will tell.
                return []
            found.append((cell, record, runs.get(mark.run) if mark else None))
        return found

    @apart(lambda: (None, []))
    def state(
        self, devices: Iterable[str] | None, *, whole: bool = False
    ) -> tuple[Coverage | None, Sequence[RunRecord]]:
        """What is covered on these types of device by now, and the runs that are known.

        The former is None if the ledger can't tell. devices: None means all. whole: all tests are
        to be listed; else as `standing.stand` says.
        """
        if not self._can_tell:
            return None, []
        return self._ask(partial(standing_in, devices=devices, whole=whole))

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
    def _can_tell(self) -> bool:
        return self._usable

    def _ask(self, work: Callable[[Store], T]) -> T:
        """What the ledger says once the run has ended. Raises LedgerError."""
        store = self._open(wait=LAST_WAIT)
        try:
            return work(store)
        finally:
            store.close()

    def _open(self, *, wait: float, create: bool = False) -> SqliteStore:
        # Not before there is something to read or to write: a run without dtypes pays nothing.
        from dtype_sampler.ledger.sqlite import SqliteStore

        return SqliteStore.open(self.path, create=create, wait=wait)


def _seeds_of(tests: Iterable[TestRecord], store: Store) -> list[list[tuple[int, bool]]]:
    with store.snapshot():
        return [store.seeds(test.key, test.device, _RECENT) for test in tests]
