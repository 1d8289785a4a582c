"""A ledger in tables: the statements that write it, said once for both engines.

What is read is `reading`'s. Writers of one ledger take turns (`Engine.transaction`), so that what
is known can be read, merged as `records` merges, and written.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from itertools import chain

from dtype_sampler.ledger.engine import Engine
from dtype_sampler.ledger.outcomes import Cell
from dtype_sampler.ledger.reading import NEWEST_OF_LANES, NEWEST_RUNS
from dtype_sampler.ledger.records import Observed, RunRecord, TestRecord
from dtype_sampler.ledger.rows import (
    MARKS,
    RUN_COLUMNS,
    moment,
    number,
    run_of,
    shown,
    values_of_run,
)
from dtype_sampler.ledger.store import LedgerError, Store
from dtype_sampler.ledger.upserts import TEST_IDS
from dtype_sampler.ledger.writing import SqlWriter

_OLDER_RUNS = f"SELECT id FROM runs WHERE id NOT IN ({NEWEST_RUNS})"
# Few, as cells of one run are spoken of alike; and one look at each cell instead of four.
_SPOKEN_OF = f"SELECT DISTINCT {', '.join(f'{mark}_run' for mark in MARKS)} FROM cells"


class SqlStore(SqlWriter, Store):
    """Keeps a ledger by what an engine brings."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self._opened: dict[str, RunRecord] = {}

    def close(self) -> None:
        """Let go of the database."""
        self.engine.close()

    def set_wait(self, seconds: float) -> None:
        """How long to wait for other processes from now on."""
        self.engine.set_wait(seconds)

    def check(self) -> None:
        """Raise LedgerError if there is anything that no ledger can hold: who reads only a part of
        it is to say the same of it as who reads all.
        """
        self.runs()
        self.tests()

    def open_run(self, run: RunRecord) -> RunRecord:
        """Write down that a run begins; returns it with its number."""
        self.engine.expect_writes()
        with self.engine.transaction():
            ((last,),) = self._rows("SELECT coalesce(max(number), 0) FROM runs")
            last = self._checked(number, last, "runs.number")
            # One that a spool tells of once more keeps the number it has.
            for (own,) in self._rows("SELECT number FROM runs WHERE uid = ?", run.uid):
                run = replace(run, number=run.number or own)
            run = replace(run, number=run.number or last + 1)
            self._put_run(run)
        self._opened[run.uid] = run
        return run

    def append(self, uid: str, tests: Sequence[TestRecord], seen: Sequence[Observed]) -> set[Cell]:
        """Add to a run what tests declared and what came of their cells; returns those of the cells
        that had a verdict before, none that a suspicion has made void.
        """
        with self.engine.transaction():
            known = "SELECT id, started FROM runs WHERE uid = ?"
            if not self._rows(known, uid):
                if uid not in self._opened:
                    raise LedgerError(f"{self.engine.name}: knows no run {shown(uid)}")
                # Another process, with newer runs, has folded this one away while it goes on.
                self._put_run(self._opened[uid])
            ((run_id, started),) = self._rows(known, uid)
            started = self._checked(moment, started, "runs.started")
            ids, new = self._put_tests(tests)
            names = ((one.cell.key, one.cell.device) for one in seen)
            ids |= self._ids(name for name in names if name not in ids)
            judged = self._put_seen(run_id, started, ids, seen, new)
        if not judged:
            return set()
        cells = (one.cell for one in seen)
        return {cell for cell in cells if (ids[cell.key, cell.device], cell.label) in judged}

    def close_run(self, run: RunRecord, keep: int) -> None:
        """Write down that a run has ended, and fold away all but the newest *keep* runs."""
        with self.engine.transaction():
            self._put_run(run)
            self._fold(keep)

    def merge(self, other: Store, keep: int) -> None:
        """Take over all that *other* knows, and fold away all but the newest *keep* runs."""
        with self.engine.transaction():
            with other.snapshot():
                self._take(other)
            self._fold(keep)

    def _take(self, other: Store) -> None:
        runs = other.runs()
        for run in runs:
            self._put_run(run)
        run_ids = self._run_ids()
        tests = other.tests()
        ids, new = self._put_tests(tests)
        cells = other.cells()
        if any((record.cell.key, record.cell.device) not in ids for record in cells):
            # A damaged file may say one thing by one way, and another by another.
            raise self._damaged_source(other, "cells speaks of a test that is not there")
        self._put_known(cells, ids, run_ids, new)
        here = self._cells_by_name()
        same = {
            cell_id: here[ids[cell.key, cell.device], cell.label]
            for cell_id, cell in other.cell_ids().items()
        }
        for run in runs:
            self._put_numbers(run_ids[run.uid], same, other.numbers(run))
        started = {run.uid: run.started for run in runs}
        known = {record.cell for record in cells}
        failed = []
        for one in other.failures():
            if one.cell not in known or one.run not in started:
                raise self._damaged_source(other, "failures speaks of what is not there")
            test = ids[one.cell.key, one.cell.device]
            at = round(1000 * (one.at - started[one.run]))
            failed.append((test, one.cell.label, run_ids[one.run], at, one.failure))
        self._put_failures(failed)

    def _run_ids(self) -> dict[str, int]:
        """The ids of runs, by uid."""
        return dict(self._rows("SELECT uid, id FROM runs"))

    def _damaged_source(self, other: Store, what: str) -> LedgerError:
        engine = other.engine if isinstance(other, SqlStore) else self.engine
        return engine.damaged(what)

    def forget(self, tests: Sequence[TestRecord]) -> None:
        """Forget these tests and their cells."""
        with self.engine.transaction():
            self._give_names((test.key, test.device) for test in tests)
            of_test = f"(SELECT id FROM ({TEST_IDS}) AS found)"
            of_cell = f"(SELECT id FROM cells WHERE test IN {of_test})"
            self._rows(f"DELETE FROM observations WHERE cell IN {of_cell}")
            self._rows(f"DELETE FROM failures WHERE cell IN {of_cell}")
            self._rows(f"DELETE FROM cells WHERE test IN {of_test}")
            self._rows(f"DELETE FROM tests WHERE id IN {of_test}")
            self._forget_kinds()

    def together(self) -> AbstractContextManager[None]:
        """Within it, what is written is as few transactions as can be: here, each is its own."""
        return nullcontext()

    def still_there(self, nodeids: Collection[str], at: float) -> None:
        """At that moment there are those tests whose key, or whose items, are among *nodeids*."""
        older = "seen_at < ? AND met_at < ?"
        with self.engine.transaction():
            # Most runs have seen all tests that are known.
            if not self._rows(f"SELECT 1 FROM tests WHERE {older} LIMIT 1", at, at):
                return
            self._give_names((name, "") for name in nodeids)
            self._rows(
                f"UPDATE tests SET met_at = ? WHERE {older}"
                " AND (key IN (SELECT key FROM given_names)"
                " OR id IN (SELECT test FROM cells WHERE nodeid IN (SELECT key FROM given_names)))",
                *(at, at, at),
            )

    def foldable(self, keep: int) -> int:
        """How many whole runs there are besides the newest *keep*."""
        ((count,),) = self._rows(
            f"SELECT count(*) FROM runs WHERE id NOT IN ({NEWEST_RUNS})"
            " AND EXISTS (SELECT 1 FROM observations WHERE run = runs.id)",
            keep,
        )
        return int(count)

    def fold(self, keep: int) -> None:
        """Fold away all but the newest *keep* runs."""
        with self.engine.transaction():
            self._fold(keep)

    def _fold(self, keep: int) -> None:
        older = [row[0] for row in self._rows(_OLDER_RUNS, keep)]
        self._rows(f"DELETE FROM observations WHERE run IN ({_OLDER_RUNS})", keep)
        self._rows(
            f"DELETE FROM failures WHERE run NOT IN ({NEWEST_RUNS}) AND NOT EXISTS"
            " (SELECT 1 FROM cells WHERE cells.id = cell AND failed_run = run)",
            keep,
        )
        self._forget_kinds()
        if older:
            # A run that some cell speaks of stays by name, so that its seed and commit can be told;
            # so does the newest run of a lane, so that the lane goes on where it ended.
            used = {row[0] for row in self._rows(NEWEST_OF_LANES)}
            used.update(chain.from_iterable(self._rows(_SPOKEN_OF)))
            self._give_ids(run_id for run_id in older if run_id not in used)
            self._rows("DELETE FROM runs WHERE id IN (SELECT test FROM given_keys)")

    def _forget_kinds(self) -> None:
        self._rows("DELETE FROM kinds WHERE id NOT IN (SELECT kind FROM failures)")

    def _put_run(self, run: RunRecord) -> None:
        columns = ", ".join(RUN_COLUMNS)
        known = self._rows(f"SELECT {columns} FROM runs WHERE uid = ?", run.uid)
        if known:
            run = run.merged(self._checked(run_of, known[0]))
        values = values_of_run(run)
        updates = ", ".join(f"{name} = excluded.{name}" for name in RUN_COLUMNS[1:])
        self._rows(
            f"INSERT INTO runs ({columns}) VALUES ({', '.join('?' * len(values))})"
            f" ON CONFLICT {self.engine.dialect.key('runs', 'uid')} DO UPDATE SET {updates}",
            *values,
        )
