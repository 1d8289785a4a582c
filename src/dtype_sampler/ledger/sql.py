"""A ledger in tables: the statements that write it, said once for both engines.

What is read is `reading`'s. Writers of one ledger take turns (`Engine.transaction`), so that what
is known can be read, merged as `records` merges, and written.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

from dtype_sampler.ledger.costs import Lasted, lasted, newest
from dtype_sampler.ledger.engine import Engine
from dtype_sampler.ledger.failures import Failure
from dtype_sampler.ledger.outcomes import Cell
from dtype_sampler.ledger.reading import NEWEST_OF_LANES, NEWEST_RUNS, SqlReader
from dtype_sampler.ledger.records import CellRecord, Mark, Observed, RunRecord, TestRecord
from dtype_sampler.ledger.rows import (
    MARK_COLUMNS,
    MARKS,
    MOST_LABELS,
    NUMBERS,
    RUN_COLUMNS,
    TEST_COLUMNS,
    cell_of,
    json_of,
    lasted_of,
    moment,
    number,
    run_of,
    shown,
    test_of,
    text,
    values_of_run,
    values_of_test,
)
from dtype_sampler.ledger.store import LedgerError, Store

_MET_AT, _RESTS = TEST_COLUMNS.index("met_at"), TEST_COLUMNS.index("rests")
_CELLS_OF_TEST = (
    f"SELECT id, label, costs, {', '.join(f'{mark}_at' for mark in MARKS)} FROM cells"
    " WHERE test = ?"
)


class SqlStore(SqlReader, Store):
    """Keeps a ledger by what an engine brings."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self._run_ids: dict[str, int] = {}
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

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self.engine.transaction():
            # Another process may have folded runs away, and SQLite may give their ids again.
            self._run_ids.clear()
            yield

    def open_run(self, run: RunRecord) -> RunRecord:
        """Write down that a run begins; returns it with its number."""
        self.engine.expect_writes()
        with self._transaction():
            ((last,),) = self._rows("SELECT coalesce(max(number), 0) FROM runs")
            last = self._checked(number, last, "runs.number")
            run = replace(run, number=run.number or last + 1)
            self._put_run(run)
        self._opened[run.uid] = run
        return run

    def append(self, uid: str, tests: Sequence[TestRecord], seen: Sequence[Observed]) -> None:
        """Add to a run what tests declared and what came of their cells."""
        with self._transaction():
            known = "SELECT id, started FROM runs WHERE uid = ?"
            if not self._rows(known, uid):
                if uid not in self._opened:
                    raise LedgerError(f"{self.engine.name}: knows no run {shown(uid)}")
                # Another process, with newer runs, has folded this one away while it goes on.
                self._put_run(self._opened[uid])
            ((run_id, started),) = self._rows(known, uid)
            started = self._checked(moment, started, "runs.started")
            self._run_ids[uid] = run_id
            test_ids = {(test.key, test.device): self._put_test(test) for test in tests}
            of_test: dict[int, list[Observed]] = {}
            for one in seen:
                where = (one.cell.key, one.cell.device)
                test_id = test_ids.get(where) or self._test_id(*where)
                of_test.setdefault(test_id, []).append(one)
            for test_id, some in of_test.items():
                cell_ids = self._put_newer_cells(test_id, uid, started, some)
                for one, cell_id in zip(some, cell_ids, strict=True):
                    self._put_observation(run_id, cell_id, started, one)
                    if one.failure is not None:
                        self._put_failure(run_id, cell_id, started, one.at, one.failure)

    def close_run(self, run: RunRecord, keep: int) -> None:
        """Write down that a run has ended, and fold away all but the newest *keep* runs."""
        with self._transaction():
            self._put_run(run)
            self._fold(keep)

    def merge(self, other: Store, keep: int) -> None:
        """Take over all that *other* knows, and fold away all but the newest *keep* runs."""
        with self._transaction():
            with other.snapshot():
                self._take(other)
            self._fold(keep)

    def _take(self, other: Store) -> None:
        runs = other.runs()
        for run in runs:
            self._put_run(run)
        test_ids = {(test.key, test.device): self._put_test(test) for test in other.tests()}
        cell_ids: dict[Cell, int] = {}
        for record in other.cells():
            test_id = test_ids.get((record.cell.key, record.cell.device))
            if test_id is None:
                # A damaged file may say one thing by one way, and another by another.
                raise self._damaged_source(other, "cells speaks of a test that is not there")
            cell_ids[record.cell] = self._put_cell(test_id, record)
        for run in runs:
            run_id = self._run_id(run.uid)
            for one in other.observations(run.uid):
                self._put_observation(run_id, cell_ids[one.cell], run.started, one)
        started = {run.uid: run.started for run in runs}
        for failed in other.failures():
            if failed.cell not in cell_ids or failed.run not in started:
                raise self._damaged_source(other, "failures speaks of what is not there")
            run_id, cell_id = self._run_id(failed.run), cell_ids[failed.cell]
            self._put_failure(run_id, cell_id, started[failed.run], failed.at, failed.failure)

    def _damaged_source(self, other: Store, what: str) -> LedgerError:
        engine = other.engine if isinstance(other, SqlStore) else self.engine
        return engine.damaged(what)

    def forget(self, tests: Sequence[TestRecord]) -> None:
        """Forget these tests and their cells."""
        with self._transaction():
            for test in tests:
                of_test = "(SELECT id FROM tests WHERE key = ? AND device = ?)"
                of_cell = f"(SELECT id FROM cells WHERE test = {of_test})"
                names = (test.key, test.device)
                self._rows(f"DELETE FROM observations WHERE cell IN {of_cell}", *names)
                self._rows(f"DELETE FROM failures WHERE cell IN {of_cell}", *names)
                self._rows(f"DELETE FROM cells WHERE test = {of_test}", *names)
                self._rows("DELETE FROM tests WHERE key = ? AND device = ?", *names)
            self._forget_kinds()

    def still_there(self, nodeids: Container[str], at: float) -> None:
        """At that moment there are those tests whose key, or whose items, are among *nodeids*."""
        with self._transaction():
            older = self._rows(
                "SELECT tests.id, key, nodeid FROM tests LEFT JOIN cells ON test = tests.id"
                " WHERE seen_at < ? AND met_at < ? ORDER BY tests.id",
                *(at, at),
            )
            met = (test_id for test_id, *names in older if any(name in nodeids for name in names))
            for test_id in dict.fromkeys(met):
                self._rows("UPDATE tests SET met_at = ? WHERE id = ?", at, test_id)

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
        with self._transaction():
            self._fold(keep)

    def _fold(self, keep: int) -> None:
        # A run that some cell speaks of stays by name, so that its seed and commit can be told.
        used = " UNION ".join(
            f"SELECT {mark}_run FROM cells WHERE {mark}_run IS NOT NULL" for mark in MARKS
        )
        # So does the newest run of a lane, so that the lane goes on where it ended.
        used += f" UNION SELECT id FROM ({NEWEST_OF_LANES}) AS lanes"
        self._rows(
            "DELETE FROM observations WHERE run IN"
            f" (SELECT id FROM runs WHERE id NOT IN ({NEWEST_RUNS}))",
            keep,
        )
        self._rows(
            f"DELETE FROM failures WHERE run NOT IN ({NEWEST_RUNS}) AND NOT EXISTS"
            " (SELECT 1 FROM cells WHERE cells.id = cell AND failed_run = run)",
            keep,
        )
        self._forget_kinds()
        self._rows(f"DELETE FROM runs WHERE id NOT IN ({NEWEST_RUNS}) AND id NOT IN ({used})", keep)
        self._run_ids.clear()

    def _forget_kinds(self) -> None:
        self._rows("DELETE FROM kinds WHERE id NOT IN (SELECT kind FROM failures)")

    def _run_id(self, uid: str) -> int:
        if uid not in self._run_ids:
            rows = self._rows("SELECT id FROM runs WHERE uid = ?", uid)
            if not rows:
                raise LedgerError(f"{self.engine.name}: knows no run {shown(uid)}")
            ((self._run_ids[uid],),) = rows
        return self._run_ids[uid]

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

    def _test_id(self, key: str, device: str) -> int:
        rows = self._rows("SELECT id FROM tests WHERE key = ? AND device = ?", key, device)
        if not rows:
            raise LedgerError(f"{self.engine.name}: knows no test {shown(key)} on {shown(device)}")
        return int(rows[0][0])

    def _put_test(self, test: TestRecord) -> int:
        if len(test.declared) > MOST_LABELS:
            raise LedgerError(
                f"{self.engine.name}: can't hold {shown(test.key)}, which declares"
                f" {len(test.declared)} dtypes; {MOST_LABELS} is the most"
            )
        known = self._rows(
            f"SELECT {', '.join(TEST_COLUMNS)}, id FROM tests WHERE key = ? AND device = ?",
            test.key,
            test.device,
        )
        if known:
            *fields, test_id = known[0]
            # Most are whole and newer than what is known: then there is little to compare.
            if not test.is_whole or test.seen_at <= self._checked(
                moment, fields[3], "tests.seen_at"
            ):
                test = test.merged(self._checked(test_of, *fields))
            else:
                before = self._checked(lasted_of, fields[_RESTS], "tests.rests")
                met_at = self._checked(moment, fields[_MET_AT], "tests.met_at")
                test = replace(
                    test, rests=newest(test.rests, before), met_at=max(test.met_at, met_at)
                )
            self._rows(
                "UPDATE tests SET declared = ?, seen_at = ?, k = ?, always = ?,"
                " met_at = ?, whole_at = ?, times = ?, rests = ?, arguments = ?,"
                " circle = ? WHERE id = ?",
                *values_of_test(test)[2:],
                test_id,
            )
            return int(test_id)
        self._rows(
            f"INSERT INTO tests ({', '.join(TEST_COLUMNS)})"
            f" VALUES ({', '.join('?' * len(TEST_COLUMNS))})",
            *values_of_test(test),
        )
        return self._test_id(test.key, test.device)

    def _put_newer_cells(
        self, test_id: int, uid: str, started: float, seen: Sequence[Observed]
    ) -> list[int]:
        """As `_put_cell` for cells of one test, fast where they are newer than what is known.

        That is the rule while tests run, and 5,000 tests may end in five seconds. uid, started: of
        the run.
        """
        rows = self._rows(_CELLS_OF_TEST, test_id)
        known = {one.label: one for one in self._all(_times_of, rows)}
        cell_ids = []
        for one in seen:
            costs = lasted(started, one.duration)
            record = CellRecord.of(one.cell, one.nodeid, Mark(one.at, uid, one.outcome), costs)
            # Once: of two outcomes of one cell, the second is compared with the first.
            before = known.pop(one.cell.label, None)
            if before is None or any(at is not None and at >= one.at for at in before.ats):
                cell_ids.append(self._put_cell(test_id, record))
                continue
            marks = [name for name in MARKS if getattr(record, name) is not None]
            columns = ", ".join(f"{name}_at = ?, {name}_run = ?, {name} = ?" for name in marks)
            self._rows(
                f"UPDATE cells SET nodeid = ?, costs = ?, {columns} WHERE id = ?",
                one.nodeid,
                json_of(newest(costs, before.costs)),
                # Not by numbered placeholders: Python 3.12 warns of these, bound in sequence.
                *len(marks) * (one.at, self._run_id(uid), one.outcome),
                before.cell_id,
            )
            cell_ids.append(before.cell_id)
        return cell_ids

    def _put_cell(self, test_id: int, record: CellRecord) -> int:
        columns = ("nodeid", "costs", *MARK_COLUMNS)
        known = self._rows(
            f"SELECT id, {', '.join(columns)} FROM cells WHERE test = ? AND label = ?",
            test_id,
            record.cell.label,
        )
        if not known:
            values = self._cell_values(record)
            self._rows(
                f"INSERT INTO cells (test, label, {', '.join(columns)})"
                f" VALUES ({', '.join('?' * (2 + len(values)))})",
                test_id,
                record.cell.label,
                *values,
            )
            ((cell_id,),) = self._rows(
                "SELECT id FROM cells WHERE test = ? AND label = ?", test_id, record.cell.label
            )
            return int(cell_id)
        cell_id, *fields = known[0]
        uids = {run_id: self._uid(run_id) for run_id in fields[3::3] if run_id is not None}
        old = self._checked(cell_of, (*record.cell, *fields), uids)
        merged = record.merged(old)
        if merged != old:
            self._rows(
                f"UPDATE cells SET {', '.join(f'{name} = ?' for name in columns)} WHERE id = ?",
                *self._cell_values(merged),
                cell_id,
            )
        return int(cell_id)

    def _uid(self, run_id: int) -> str:
        for uid, known in self._run_ids.items():
            if known == run_id:
                return uid
        rows = self._rows("SELECT uid FROM runs WHERE id = ?", run_id)
        if not rows:
            raise self.engine.damaged("cells speaks of a run that is not there")
        uid = self._checked(text, rows[0][0], "runs.uid")
        self._run_ids[uid] = run_id
        return uid

    def _cell_values(self, record: CellRecord) -> list[object]:
        values: list[object] = [record.nodeid, json_of(record.costs)]
        for name in MARKS:
            mark: Mark | None = getattr(record, name)
            if mark is None:
                values += (None, None, None)
            else:
                values += (mark.at, self._run_id(mark.run), mark.outcome)
        return values

    def _put_observation(self, run_id: int, cell_id: int, started: float, one: Observed) -> None:
        at = round(1000 * (one.at - started))
        self._rows(
            "INSERT INTO observations (run, cell, outcome, at, duration) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (run, cell) DO UPDATE SET"
            " outcome = excluded.outcome, at = excluded.at, duration = excluded.duration"
            # Of two at one millisecond always the same one, whichever came first.
            " WHERE (excluded.at, excluded.outcome, coalesce(excluded.duration, -1))"
            " > (observations.at, observations.outcome, coalesce(observations.duration, -1))",
            run_id,
            cell_id,
            NUMBERS[one.outcome],
            at,
            None if one.duration is None else round(1000 * one.duration),
        )

    def _put_failure(
        self, run_id: int, cell_id: int, started: float, at: float, failure: Failure
    ) -> None:
        words = (failure.kind, failure.message)
        self._rows("INSERT INTO kinds (kind, message) VALUES (?, ?) ON CONFLICT DO NOTHING", *words)
        self._rows(
            "INSERT INTO failures (cell, run, at, kind) SELECT ?, ?, ?, id FROM kinds"
            " WHERE kinds.kind = ? AND message = ? ON CONFLICT (cell, run) DO UPDATE SET"
            " at = excluded.at, kind = excluded.kind WHERE excluded.at > failures.at"
            # Of two at one millisecond always the same one, whichever came first.
            " OR (excluded.at = failures.at AND (SELECT kinds.kind || kinds.message FROM kinds"
            " WHERE id = excluded.kind) > (SELECT kinds.kind || kinds.message FROM kinds"
            " WHERE id = failures.kind))",
            *(cell_id, run_id, round(1000 * (at - started)), *words),
        )


class _Times(NamedTuple):
    label: str
    cell_id: int
    costs: Lasted
    ats: Sequence[float | None]


def _times_of(row: Sequence[Any]) -> _Times:
    # Of every test that ends.
    cell_id, label, costs, *ats = row
    for at in ats:
        if at is not None:
            moment(at, "cells")
    return _Times(text(label, "cells.label"), cell_id, lasted_of(costs, "cells.costs"), ats)
