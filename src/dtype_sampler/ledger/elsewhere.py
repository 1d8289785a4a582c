"""A ledger that a run goes by and leaves as it is: what the run finds out goes to its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from dtype_sampler.ledger.link import Link
from dtype_sampler.ledger.outcomes import Cell
from dtype_sampler.ledger.places import FilePlace, Place
from dtype_sampler.ledger.records import CellRecord, KnownFailure, RunRecord
from dtype_sampler.ledger.store import LedgerError, Store
from dtype_sampler.sampling.plan import History

if TYPE_CHECKING:
    from dtype_sampler.ledger.coverage import Coverage
    from dtype_sampler.ledger.sqlite import SqliteStore

# Seconds that a session waits for a server, at its start and once its tests have run.
AT_START, AT_END = 5.0, 10.0
# So many tests are asked for one by one; of more, all cells are read at once.
_ONE_BY_ONE = 20
_HINT = "name a ledger, or leave it out"

Past = list[tuple[Cell, CellRecord | None, RunRecord | None]]


def left_by(
    store: Store, *, verdicts: bool, failing: bool, also: Callable[[Store], object] | None
) -> tuple[History, list[KnownFailure]]:
    """What a ledger leaves to the next run, and, if asked for, in which way cells failed last.

    also: asks the ledger what else is needed. Raises LedgerError.
    """
    if also is not None:
        also(store)
    return store.history(verdicts=verdicts), store.known_failures() if failing else []


class ElsewhereError(LedgerError):
    """There is nothing that can be read where a person has said that it is."""


class Elsewhere:
    """What a run reads of the ledger that it was told to go by."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._link = None if isinstance(place, FilePlace) else Link(place)
        self._store: SqliteStore | None = None
        self._away = False
        self._stack = ExitStack()

    @property
    def is_far(self) -> bool:
        """Whether it is on a server, which may be away."""
        return self._link is not None

    def read(
        self, *, verdicts: bool, failing: bool, also: Callable[[Store], object] | None
    ) -> tuple[History, list[KnownFailure]]:
        """As `Books.read`, and in which way cells failed, if that is asked for.

        Raises ElsewhereError if there is no such file, or none of a ledger, and LedgerError if a
        server can't be asked.
        """

        def look(store: Store) -> tuple[History, list[KnownFailure]]:
            with store.snapshot():
                return left_by(store, verdicts=verdicts, failing=failing, also=also)

        if self._link is not None:
            self._away = True
            try:
                found = self._link.ask(look, seconds=AT_START)
            finally:
                # Until the tests have run, nothing more is asked.
                self._link.close(seconds=1.0)
            self._away = False
            return found
        try:
            if self._store is None and isinstance(self.place, FilePlace):
                self._store = self._stack.enter_context(self.place.reading(_HINT))
            assert self._store is not None
            return look(self._store)
        except LedgerError as error:
            from dtype_sampler.ledger.opening import BY

            raise ElsewhereError(str(error).replace(BY, "by --dtype-ledger-read")) from None

    def past(self, cells: Sequence[Cell]) -> Past:
        """As `Books.past`."""
        if self._away:
            # It was said at the start.
            return []
        if self._link is not None:
            return self._link.ask(lambda store: past_in(store, cells), seconds=AT_END)
        return [] if self._store is None else past_in(self._store, cells)

    def close(self) -> None:
        """Let go of it."""
        self._store = None
        self._stack.close()
        if self._link is not None:
            self._link.close(seconds=1.0)


def standing_in(
    store: Store, *, devices: Iterable[str] | None, whole: bool, newest: int | None = None
) -> tuple[Coverage, list[RunRecord]]:
    """What is covered, as `ConsultedLedger.state` has it, and the runs that are known.

    newest: only so many of these.
    """
    from dtype_sampler.ledger.coverage import assess
    from dtype_sampler.ledger.standing import stand

    with store.snapshot():
        alone = store.history(verdicts=False).alone
        if whole:
            cells = store.cells(costs=False)
            coverage = assess(store.tests(), cells, device=devices, alone=alone)
        else:
            coverage = stand(store.briefs(), device=devices, alone=alone)
        return coverage, store.runs(newest)


def past_in(store: Store, cells: Sequence[Cell]) -> Past:
    """What a store knows of cells: the record, and the run in which each passed last."""
    with store.snapshot():
        known = records_in(store, cells)
        runs = store.runs_of(one.passed.run for one in known.values() if one.passed is not None)
    return [(cell, known.get(cell), passed_in(known.get(cell), runs)) for cell in cells]


def records_in(store: Store, cells: Sequence[Cell]) -> dict[Cell, CellRecord]:
    """The records of those of the cells that a store knows."""
    keys = dict.fromkeys(cell.key for cell in cells)
    if len(keys) > _ONE_BY_ONE:
        records = store.cells(costs=False)
    else:
        records = [one for key in keys for one in store.cells(key, costs=False)]
    asked = set(cells)
    return {one.cell: one for one in records if one.cell in asked}


def passed_in(record: CellRecord | None, runs: Mapping[str, RunRecord]) -> RunRecord | None:
    """The run in which a cell passed last, if it is one of these."""
    passed = None if record is None else record.passed
    return None if passed is None else runs.get(passed.run)
