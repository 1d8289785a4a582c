"""The store in one SQLite file."""

from __future__ import annotations

import json
import sqlite3
import time
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from dtype_sampler.ledger.opening import (
    check_header,
    connect,
    identity_of,
    in_words,
    prepare,
    told,
)
from dtype_sampler.ledger.outcomes import (
    CRASHED,
    FAILED,
    NOT_REACHED,
    PASSED,
    SKIPPED,
    UNSUPPORTED,
    VERDICTS,
    XFAILED,
    XPASSED,
    Cell,
)
from dtype_sampler.ledger.records import FAILURES, CellRecord, Mark, Observed, RunRecord, TestRecord
from dtype_sampler.ledger.store import LedgerError, Store, StoreBusyError
from dtype_sampler.sampling.plan import History

# Numbers in the file: to be added to, never to be changed.
_OUTCOMES = (PASSED, FAILED, XFAILED, XPASSED, SKIPPED, UNSUPPORTED, CRASHED, NOT_REACHED)
_NUMBERS = {outcome: number for number, outcome in enumerate(_OUTCOMES)}
_RUN_COLUMNS = (
    *("uid", "number", "started", "ended", "seed", "seed_origin", "strategy", "command"),
    *('"commit"', "host", "python", "torch", "plugin", "device", "counts"),
)
_MARKS = ("last", "verdict", "passed", "failed")
_MARK_COLUMNS = tuple(f"{mark}{part}" for mark in _MARKS for part in ("_at", "_run", ""))
_TEST_COLUMNS = ("key", "device", "declared", "seen_at", "k", "always", "met_at")
_NEWEST = "SELECT id FROM runs ORDER BY started DESC, uid DESC LIMIT ?"
_CELLS_OF_TEST = (
    f"SELECT id, label, {', '.join(f'{mark}_at' for mark in _MARKS)} FROM cells WHERE test = ?"
)
# The files, by device and inode, that this process has open. What opens and closes such a file by
# other means than SQLite's lets go of all of SQLite's locks on it (POSIX).
_held: Counter[tuple[int, int]] = Counter()


class SqliteStore(Store):
    """A ledger in a file. Not for file systems on a network, where SQLite's locks can't be trusted:
    give each job a file of its own, and combine them.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        """Use `open`."""
        self.path = path
        self._sqlite = connection
        self._run_ids: dict[str, int] = {}
        self._opened: dict[str, RunRecord] = {}
        self._held = identity_of(path)
        if self._held is not None:
            _held[self._held] += 1

    @classmethod
    def open(cls, path: Path, *, create: bool = False, wait: float = 5.0) -> SqliteStore:
        """Open the file, and migrate it if it is of an older version.

        create: make it if it does not exist. wait: seconds to wait for other processes.
        Raises LedgerError for a file that is not there, is damaged, is newer than this program, or
        is something else; such a file is not touched.
        """
        identity = identity_of(path)
        if identity is None:
            if not create:
                raise LedgerError(f"{path}: there is no such file")
        elif not _held[identity]:
            check_header(path)
        with told(path):
            connection = connect(path, wait)
        try:
            with told(path):
                prepare(path, connection)
        except BaseException:
            connection.close()
            raise
        return cls(path, connection)

    def close(self) -> None:
        """Let go of the file; the last to do so leaves one file, which can be copied as it is."""
        with suppress(sqlite3.Error):
            # Refused while others have it open: then they will.
            self._sqlite.execute("PRAGMA busy_timeout = 0")
            self._sqlite.execute("PRAGMA journal_mode = DELETE")
        with suppress(sqlite3.Error):
            self._sqlite.close()
        if self._held is not None:
            _held[self._held] -= 1
            self._held = None

    def set_wait(self, seconds: float) -> None:
        """How long to wait for other processes from now on."""
        with told(self.path):
            self._sqlite.execute(f"PRAGMA busy_timeout = {int(1000 * seconds)}")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with told(self.path):
            self._sqlite.execute("BEGIN IMMEDIATE")
            # Another process may have folded runs away, and SQLite may give their ids again.
            self._run_ids.clear()
            try:
                yield
                self._sqlite.execute("COMMIT")
            except BaseException:
                # Some errors have rolled back already.
                with suppress(sqlite3.Error):
                    self._sqlite.execute("ROLLBACK")
                raise

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Within it, all that is read is of one moment, whatever other processes write."""
        if self._sqlite.in_transaction:
            yield
            return
        with told(self.path):
            self._sqlite.execute("BEGIN")
        try:
            yield
        finally:
            with suppress(sqlite3.Error):
                self._sqlite.execute("ROLLBACK")

    def _rows(self, sql: str, *values: object) -> list[Any]:
        try:
            try:
                return self._sqlite.execute(sql, values).fetchall()
            except UnicodeEncodeError:
                # A command line or a file name that is no text, as Python hands it on.
                return self._sqlite.execute(sql, [_text(value) for value in values]).fetchall()
        except sqlite3.Error as error:
            raise in_words(self.path, error) from None

    def _write_ahead(self) -> None:
        """Commits then cost microseconds, and a killed process leaves the file whole."""
        ((wait,),) = self._rows("PRAGMA busy_timeout")
        until = time.monotonic() + wait / 1000
        while True:
            try:
                self._rows("PRAGMA journal_mode = WAL")
            except StoreBusyError:
                # SQLite does not wait by itself where the mode changes.
                if time.monotonic() >= until:
                    raise
                time.sleep(0.01)
            else:
                break
        self._rows("PRAGMA synchronous = NORMAL")
        # Moving pages into the file waits for the disk: rather once, at the end, than many times.
        self._rows("PRAGMA wal_autocheckpoint = 20000")

    def open_run(self, run: RunRecord) -> RunRecord:
        """Write down that a run begins; returns it with its number."""
        self._write_ahead()
        with self._transaction():
            ((last,),) = self._rows("SELECT coalesce(max(number), 0) FROM runs")
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
                    raise LedgerError(f"{self.path}: knows no run {uid}")
                # Another process, with newer runs, has folded this one away while it goes on.
                self._put_run(self._opened[uid])
            ((run_id, started),) = self._rows(known, uid)
            self._run_ids[uid] = run_id
            test_ids = {(test.key, test.device): self._put_test(test) for test in tests}
            of_test: dict[int, list[Observed]] = {}
            for one in seen:
                where = (one.cell.key, one.cell.device)
                test_id = test_ids.get(where) or self._test_id(*where)
                of_test.setdefault(test_id, []).append(one)
            for test_id, some in of_test.items():
                cell_ids = self._put_newer_cells(test_id, uid, some)
                for one, cell_id in zip(some, cell_ids, strict=True):
                    self._put_observation(run_id, cell_id, started, one)

    def close_run(self, run: RunRecord, keep: int) -> None:
        """Write down that a run has ended, and fold away all but the newest *keep* runs."""
        with self._transaction():
            self._put_run(run)
            self._fold(keep)

    def history(self, *, verdicts: bool) -> History:
        """What the next run wants to know."""
        last = self._rows("SELECT seed FROM runs ORDER BY started DESC, uid DESC LIMIT 1")
        failing: dict[str, dict[str, list[str]]] = {}
        ages: dict[str, dict[str, dict[str, float]]] = {}
        sql = (
            "SELECT device, key, label, verdict_at FROM cells JOIN tests ON tests.id = test"
            " WHERE verdict"
        )
        names = ", ".join(f"'{outcome}'" for outcome in sorted(FAILURES))
        for device, key, label, _ in self._rows(f"{sql} IN ({names}) ORDER BY key, label"):
            failing.setdefault(device, {}).setdefault(key, []).append(label)
        if verdicts:
            for device, key, label, at in self._rows(f"{sql} IS NOT NULL"):
                ages.setdefault(device, {}).setdefault(key, {})[label] = at
        return History(last[0][0] if last else None, failing, ages)

    def runs(self) -> list[RunRecord]:
        """The runs that are known, oldest first."""
        rows = self._rows(f"SELECT {', '.join(_RUN_COLUMNS)} FROM runs ORDER BY started, uid")
        return [RunRecord(**_run_fields(row)) for row in rows]

    def tests(self) -> list[TestRecord]:
        """The tests that are known, by key and device."""
        rows = self._rows(f"SELECT {', '.join(_TEST_COLUMNS)} FROM tests ORDER BY key, device")
        return [_test_of(*row) for row in rows]

    def cells(self, key: str | None = None) -> list[CellRecord]:
        """The cells that have an outcome, of one test or of all."""
        where, values = ("", ()) if key is None else (" WHERE key = ?", (key,))
        with self.snapshot():
            rows = self._rows(
                f"SELECT key, label, device, nodeid, {', '.join(_MARK_COLUMNS)} FROM cells"
                f" JOIN tests ON tests.id = test{where} ORDER BY key, device, cells.id",
                *values,
            )
            uids = dict(self._rows("SELECT id, uid FROM runs"))
        return [_cell_of(row, uids) for row in rows]

    def observations(self, uid: str, key: str | None = None) -> list[Observed]:
        """What came of a run's cells, of one test or of all, if the run is not folded away."""
        where, values = ("", ()) if key is None else (" AND key = ?", (key,))
        rows = self._rows(
            "SELECT key, label, tests.device, nodeid, outcome, started, at, duration"
            " FROM observations JOIN runs ON runs.id = run JOIN cells ON cells.id = cell"
            f" JOIN tests ON tests.id = test WHERE uid = ?{where} ORDER BY cell",
            uid,
            *values,
        )
        return [
            Observed(
                Cell(key, label, device),
                nodeid,
                _OUTCOMES[outcome],
                started + at / 1000,
                None if duration is None else duration / 1000,
            )
            for key, label, device, nodeid, outcome, started, at, duration in rows
        ]

    def activity(self) -> dict[Cell, tuple[int, float]]:
        """In how many whole runs each cell had a verdict, and when the first of these began."""
        numbers = ", ".join(str(_NUMBERS[outcome]) for outcome in sorted(VERDICTS))
        rows = self._rows(
            "SELECT key, label, tests.device, times, first FROM"
            " (SELECT cell, count(*) AS times, min(started) AS first FROM observations"
            f" JOIN runs ON runs.id = run WHERE outcome IN ({numbers}) GROUP BY cell)"
            " JOIN cells ON cells.id = cell JOIN tests ON tests.id = test"
        )
        return {Cell(key, label, device): (times, at) for key, label, device, times, at in rows}

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
            test_id = test_ids[record.cell.key, record.cell.device]
            cell_ids[record.cell] = self._put_cell(test_id, record)
        for run in runs:
            run_id = self._run_id(run.uid)
            for one in other.observations(run.uid):
                self._put_observation(run_id, cell_ids[one.cell], run.started, one)

    def forget(self, tests: Sequence[TestRecord]) -> None:
        """Forget these tests and their cells."""
        with self._transaction():
            for test in tests:
                of_test = "(SELECT id FROM tests WHERE key = ? AND device = ?)"
                of_cell = f"(SELECT id FROM cells WHERE test = {of_test})"
                names = (test.key, test.device)
                self._rows(f"DELETE FROM observations WHERE cell IN {of_cell}", *names)
                self._rows(f"DELETE FROM cells WHERE test = {of_test}", *names)
                self._rows("DELETE FROM tests WHERE key = ? AND device = ?", *names)

    def still_there(self, nodeids: Container[str], at: float) -> None:
        """At that moment there are those tests whose key, or whose items, are among *nodeids*."""
        with self._transaction():
            older = self._rows(
                "SELECT tests.id, key, nodeid FROM tests LEFT JOIN cells ON test = tests.id"
                " WHERE max(seen_at, met_at) < ? ORDER BY tests.id",
                at,
            )
            met = (test_id for test_id, *names in older if any(name in nodeids for name in names))
            for test_id in dict.fromkeys(met):
                self._rows("UPDATE tests SET met_at = ? WHERE id = ?", at, test_id)

    def foldable(self, keep: int) -> int:
        """How many whole runs there are besides the newest *keep*."""
        ((count,),) = self._rows(
            f"SELECT count(*) FROM runs WHERE id NOT IN ({_NEWEST})"
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
            f"SELECT {mark}_run FROM cells WHERE {mark}_run IS NOT NULL" for mark in _MARKS
        )
        self._rows(
            "DELETE FROM observations WHERE run IN"
            f" (SELECT id FROM runs WHERE id NOT IN ({_NEWEST}))",
            keep,
        )
        self._rows(f"DELETE FROM runs WHERE id NOT IN ({_NEWEST}) AND id NOT IN ({used})", keep)
        self._run_ids.clear()

    def _run_id(self, uid: str) -> int:
        if uid not in self._run_ids:
            ((self._run_ids[uid],),) = self._rows("SELECT id FROM runs WHERE uid = ?", uid)
        return self._run_ids[uid]

    def _put_run(self, run: RunRecord) -> None:
        columns = ", ".join(_RUN_COLUMNS)
        known = self._rows(f"SELECT {columns} FROM runs WHERE uid = ?", run.uid)
        if known:
            run = run.merged(RunRecord(**_run_fields(known[0])))
        values = [
            json.dumps(dict(run.counts)) if name == "counts" else getattr(run, name.strip('"'))
            for name in _RUN_COLUMNS
        ]
        updates = ", ".join(f"{name} = excluded.{name}" for name in _RUN_COLUMNS[1:])
        self._rows(
            f"INSERT INTO runs ({columns}) VALUES ({', '.join('?' * len(values))})"
            f" ON CONFLICT (uid) DO UPDATE SET {updates}",
            *values,
        )

    def _test_id(self, key: str, device: str) -> int:
        rows = self._rows("SELECT id FROM tests WHERE key = ? AND device = ?", key, device)
        if not rows:
            raise LedgerError(f"{self.path}: knows no test {key} on {device}")
        return int(rows[0][0])

    def _put_test(self, test: TestRecord) -> int:
        known = self._rows(
            f"SELECT {', '.join(_TEST_COLUMNS)}, id FROM tests WHERE key = ? AND device = ?",
            test.key,
            test.device,
        )
        if known:
            *fields, test_id = known[0]
            # Most are newer than what is known: then there is nothing to compare.
            if test.seen_at <= fields[3]:
                test = test.merged(_test_of(*fields))
            self._rows(
                "UPDATE tests SET declared = ?, seen_at = ?, k = ?, always = ?,"
                " met_at = max(met_at, ?) WHERE id = ?",
                *_test_values(test)[2:],
                test_id,
            )
            return int(test_id)
        self._rows(
            f"INSERT INTO tests ({', '.join(_TEST_COLUMNS)}) VALUES (?, ?, ?, ?, ?, ?, ?)",
            *_test_values(test),
        )
        return self._test_id(test.key, test.device)

    def _put_newer_cells(self, test_id: int, uid: str, seen: Sequence[Observed]) -> list[int]:
        """As `_put_cell` for cells of one test, fast where they are newer than what is known.

        That is the rule while tests run, and 5,000 tests may end in five seconds.
        """
        rows = self._rows(_CELLS_OF_TEST, test_id)
        known = {label: (cell_id, ats) for cell_id, label, *ats in rows}
        cell_ids = []
        for one in seen:
            record = CellRecord.of(one.cell, one.nodeid, Mark(one.at, uid, one.outcome))
            # Once: of two outcomes of one cell, the second is compared with the first.
            cell_id, ats = known.pop(one.cell.label, (None, ()))
            if cell_id is None or any(at is not None and at >= one.at for at in ats):
                cell_ids.append(self._put_cell(test_id, record))
                continue
            marks = [name for name in _MARKS if getattr(record, name) is not None]
            columns = ", ".join(f"{name}_at = ?1, {name}_run = ?2, {name} = ?3" for name in marks)
            self._rows(
                f"UPDATE cells SET nodeid = ?4, {columns} WHERE id = ?5",
                *(one.at, self._run_id(uid), one.outcome, one.nodeid, cell_id),
            )
            cell_ids.append(cell_id)
        return cell_ids

    def _put_cell(self, test_id: int, record: CellRecord) -> int:
        columns = ("nodeid", *_MARK_COLUMNS)
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
            ((cell_id,),) = self._rows("SELECT last_insert_rowid()")
            return int(cell_id)
        cell_id, *fields = known[0]
        uids = {number: self._uid(number) for number in fields[2::3] if number is not None}
        old = _cell_of((*record.cell, *fields), uids)
        merged = record.merged(old)
        if merged != old:
            self._rows(
                f"UPDATE cells SET {', '.join(f'{name} = ?' for name in columns)} WHERE id = ?",
                *self._cell_values(merged),
                cell_id,
            )
        return int(cell_id)

    def _uid(self, run_id: int) -> str:
        for uid, number in self._run_ids.items():
            if number == run_id:
                return uid
        ((uid,),) = self._rows("SELECT uid FROM runs WHERE id = ?", run_id)
        self._run_ids[uid] = run_id
        return str(uid)

    def _cell_values(self, record: CellRecord) -> list[object]:
        values: list[object] = [record.nodeid]
        for name in _MARKS:
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
            " > (at, outcome, coalesce(duration, -1))",
            run_id,
            cell_id,
            _NUMBERS[one.outcome],
            at,
            None if one.duration is None else round(1000 * one.duration),
        )


def _text(value: object) -> object:
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value


def _cell_of(row: Sequence[Any], uids: Mapping[int, str]) -> CellRecord:
    key, label, device, nodeid, *fields = row
    marks = [
        None if at is None else Mark(at, uids[run], outcome)
        for at, run, outcome in zip(fields[::3], fields[1::3], fields[2::3], strict=True)
    ]
    last, verdict, passed, failed = marks
    assert last is not None
    return CellRecord(Cell(key, label, device), nodeid, last, verdict, passed, failed)


def _test_of(
    key: str, device: str, declared: str, seen_at: float, k: int, always: str, met_at: float
) -> TestRecord:
    return TestRecord(
        key, device, tuple(json.loads(declared)), seen_at, k, tuple(json.loads(always)), met_at
    )


def _test_values(test: TestRecord) -> tuple[object, ...]:
    declared, always = (json.dumps([*map(_text, some)]) for some in (test.declared, test.always))
    return test.key, test.device, declared, test.seen_at, test.k, always, test.met_at


def _run_fields(row: Iterable[Any]) -> dict[str, Any]:
    fields = dict(zip((name.strip('"') for name in _RUN_COLUMNS), row, strict=True))
    return fields | {"counts": json.loads(fields["counts"])}
