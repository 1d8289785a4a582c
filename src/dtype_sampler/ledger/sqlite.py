"""The store in one SQLite file."""

from __future__ import annotations

import json
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from dtype_sampler.ledger.costs import Costs, Lasted, Name, estimate, lasted, newest
from dtype_sampler.ledger.failures import Failure
from dtype_sampler.ledger.guard import Steps, authorize, shown
from dtype_sampler.ledger.opening import (
    check_header,
    connect,
    damaged,
    identity_of,
    in_words,
    no_text,
    prepare,
    told,
)
from dtype_sampler.ledger.outcomes import (
    CRASHED,
    FAILED,
    NOT_REACHED,
    PASSED,
    SKIPPED,
    SUSPECT,
    UNSUPPORTED,
    VERDICTS,
    XFAILED,
    XPASSED,
    Cell,
)
from dtype_sampler.ledger.records import (
    FAILURES,
    CellRecord,
    FailureRecord,
    KnownFailure,
    Mark,
    Observed,
    RunRecord,
    TestRecord,
)
from dtype_sampler.ledger.rows import (
    LATEST,
    MARKS_MEAN,
    MOST,
    MOST_LABELS,
    cell_of,
    failed_of,
    failure_of,
    lasted_of,
    moment,
    number,
    observed_of,
    run_of,
    test_of,
    text,
)
from dtype_sampler.ledger.store import LedgerError, Store, StoreBusyError
from dtype_sampler.sampling.lanes import Lane
from dtype_sampler.sampling.plan import History
from dtype_sampler.sampling.rule import MAX_SEED

T = TypeVar("T")
# Numbers in the file: to be added to, never to be changed.
_OUTCOMES = (
    *(PASSED, FAILED, XFAILED, XPASSED, SKIPPED, UNSUPPORTED, CRASHED, NOT_REACHED),
    SUSPECT,
)
_NUMBERS = {outcome: number for number, outcome in enumerate(_OUTCOMES)}
_RUN_COLUMNS = (
    *("uid", "number", "started", "ended", "seed", "seed_origin", "strategy", "command"),
    *('"commit"', "host", "python", "torch", "plugin", "device", "counts"),
    *("lane", "part", "in_series"),
    *("workers", "took", "others", "predicted"),
)
_MARKS = ("last", "verdict", "passed", "failed")
_MARK_COLUMNS = tuple(f"{mark}{part}" for mark in _MARKS for part in ("_at", "_run", ""))
_TEST_COLUMNS = (
    *("key", "device", "declared", "seen_at", "k", "always", "met_at"),
    *("whole_at", "times", "rests", "arguments", "circle"),
)
_RESTS = _TEST_COLUMNS.index("rests")
_NEWEST = "SELECT id FROM runs ORDER BY started DESC, uid DESC LIMIT ?"
# The newest run of each lane.
_LANES = (
    "SELECT id, lane, part, seed FROM (SELECT *, row_number() OVER"
    " (PARTITION BY lane, part ORDER BY started DESC, uid DESC) AS place FROM runs WHERE in_series"
    " AND lane IS NOT NULL) WHERE place = 1 ORDER BY started DESC, uid DESC LIMIT 1000"
)
# What ended the test of a cell that it did not come to: none where it left its loop by itself.
_STOPPED = (
    "SELECT 1 FROM cells AS other JOIN observations ON run = cells.last_run AND cell = other.id"
    " WHERE other.test = cells.test AND outcome IN"
    f" ({', '.join(str(_NUMBERS[one]) for one in (FAILED, XFAILED, SKIPPED, CRASHED, SUSPECT))})"
)
_HIDDEN = (
    "SELECT device, key, label FROM cells JOIN tests ON tests.id = test"
    f" WHERE last = ? AND EXISTS ({_STOPPED}) ORDER BY key, verdict_at, label"
)
_CELLS_OF_TEST = (
    f"SELECT id, label, costs, {', '.join(f'{mark}_at' for mark in _MARKS)} FROM cells"
    " WHERE test = ?"
)
# Whether a run, which the text is to name, took another cell of the test.
_BESIDE = (
    "EXISTS (SELECT 1 FROM cells AS others JOIN observations ON cell = others.id AND run = {}"
    " WHERE others.test = cells.test AND others.id != cells.id"
    f" AND outcome != {_NUMBERS[UNSUPPORTED]})"
)
# What did not pass last, and suspects; whether it was tried since; whether that was alone, in a run
# that took no other cell of its test, after it had been a suspect. When the run that says so is
# folded away, it is told from a loop that takes several and has had this one alone ever since.
_WORRYING = (
    "SELECT device, key, label, verdict, last_at > verdict_at,"
    f" CASE WHEN tests.k > 1 AND NOT {_BESIDE.format('cells.verdict_run')}"
    " THEN EXISTS (SELECT 1 FROM runs JOIN observations ON run = runs.id AND cell = cells.id"
    f" WHERE outcome = {_NUMBERS[SUSPECT]})"
    " OR EXISTS (SELECT 1 FROM cells AS others WHERE test = cells.test AND id != cells.id"
    " AND nodeid = cells.nodeid)"
    " AND NOT EXISTS (SELECT 1 FROM runs JOIN observations AS own ON own.run = runs.id"
    " AND own.cell = cells.id WHERE lane IS NULL OR instr(lane, '--dtype-only')"
    f" OR {_BESIDE.format('runs.id')}) END"
    " FROM cells JOIN tests ON tests.id = test WHERE verdict IN"
    f" ({', '.join(repr(outcome) for outcome in (*sorted(FAILURES), XFAILED, SUSPECT))})"
    " ORDER BY key, verdict_at, label"
)
# The kind of a cell's last failure, and the first run since its last pass in which it failed.
# CROSS: else SQLite looks at all observations for each cell.
_FAILING = (
    "SELECT key, label, device, nodeid, kinds.kind, kinds.message, passed_at, coalesce((SELECT"
    " runs.id FROM runs CROSS JOIN observations ON run = runs.id AND cell = cells.id"
    f" WHERE outcome IN ({_NUMBERS[FAILED]}, {_NUMBERS[CRASHED]})"
    " AND started + at / 1000.0 > coalesce(passed_at, 0) ORDER BY started, uid LIMIT 1),"
    " failed_run) FROM cells JOIN tests ON tests.id = test"
    " LEFT JOIN failures ON failures.cell = cells.id AND failures.run = failed_run"
    " LEFT JOIN kinds ON kinds.id = failures.kind WHERE verdict = ? ORDER BY key, verdict_at, label"
)
_MARKS_MEAN = dict(zip(_MARKS, MARKS_MEAN, strict=True))
# SQLite's names of a value's types, and what none of a cell's marks can be.
_WRONG_CELLS = "SELECT cells.id FROM cells WHERE {} LIMIT 1".format(
    " OR ".join(
        [
            *(f"typeof({name}) <> 'text'" for name in ("label", "nodeid", "costs")),
            "last_at IS NULL",
            "test NOT IN (SELECT id FROM tests)",
            *(
                f"({mark}_at IS NOT NULL AND (typeof({mark}_at) NOT IN ('real', 'integer')"
                f" OR {mark}_at NOT BETWEEN 0 AND {LATEST!r}"
                f" OR {mark} IS NULL OR {mark} NOT IN"
                f" ({', '.join(repr(outcome) for outcome in sorted(_MARKS_MEAN[mark]))})"
                f" OR {mark}_run IS NULL OR {mark}_run NOT IN (SELECT id FROM runs)))"
                for mark in _MARKS
            ),
        ]
    )
)
_WRONG_OBSERVATIONS = (
    "SELECT run, cell FROM observations LEFT JOIN runs ON runs.id = run"
    " WHERE typeof(outcome) <> 'integer'"
    f" OR outcome NOT BETWEEN 0 AND {len(_OUTCOMES) - 1}"
    f" OR typeof(at) <> 'integer' OR at NOT BETWEEN -{MOST} AND {MOST}"
    f" OR started + at / 1000.0 NOT BETWEEN 0 AND {LATEST!r}"
    f" OR duration < 0 OR duration > {MOST} OR typeof(duration) NOT IN ('integer', 'null') LIMIT 1"
)
_WRONG_FAILURES = (
    "SELECT failures.cell FROM failures LEFT JOIN kinds ON kinds.id = failures.kind"
    " LEFT JOIN cells ON cells.id = cell LEFT JOIN runs ON runs.id = run"
    " WHERE typeof(at) <> 'integer' OR typeof(kinds.kind) <> 'text'"
    " OR typeof(message) <> 'text' OR cells.id IS NULL OR runs.id IS NULL LIMIT 1"
)
# The files, by device and inode, that this process has open. What opens and closes such a file by
# other means than SQLite's lets go of all of SQLite's locks on it (POSIX).
_held: Counter[tuple[int, int]] = Counter()


class SqliteStore(Store):
    """A ledger in a file. Not for file systems on a network, where SQLite's locks can't be trusted:
    give each job a file of its own, and combine them.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, steps: Steps) -> None:
        """Use `open`."""
        self.path = path
        self._sqlite = connection
        self._steps = steps
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
        steps = Steps(path)
        with told(path):
            connection = connect(path, wait, steps)
        try:
            with told(path):
                prepare(path, connection)
                authorize(connection)
        except BaseException:
            connection.close()
            raise
        return cls(path, connection, steps)

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
        self._steps.begin()
        try:
            try:
                return self._sqlite.execute(sql, values).fetchall()
            except UnicodeEncodeError:
                # A command line or a file name that is no text, as Python hands it on.
                return self._sqlite.execute(sql, [_text(value) for value in values]).fetchall()
        # `told` would cost as much as the shortest of these statements.
        except sqlite3.Error as error:
            raise in_words(self.path, error) from None
        except UnicodeDecodeError:
            raise no_text(self.path) from None
        except OverflowError:
            # Such as a seed of more than 64 bits.
            raise LedgerError(f"{self.path}: can't hold so large a number") from None

    def _checked(self, make: Callable[..., T], *values: object) -> T:
        """What *make* makes of values from the file. Raises LedgerError if they can't be there."""
        try:
            return make(*values)
        except ValueError as error:
            raise damaged(self.path, str(error)) from None

    def _all(self, make: Callable[[Any], T], rows: Iterable[Any]) -> list[T]:
        return self._checked(lambda: [make(row) for row in rows])

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
                    raise LedgerError(f"{self.path}: knows no run {shown(uid)}")
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

    def history(self, *, verdicts: bool) -> History:
        """What the next run wants to know."""
        # A seed that was given is what a new lane goes on from only where nothing better is known.
        last = self._rows(
            "SELECT seed FROM runs ORDER BY in_series DESC, started DESC, uid DESC LIMIT 1"
        )
        seed = self._checked(number, last[0][0], "runs.seed", MAX_SEED) if last else None
        lanes = dict(self._all(_lane_of, self._rows(_LANES)))
        failing: dict[str, dict[str, list[str]]] = {}
        hidden: dict[str, dict[str, list[str]]] = {}
        alone: dict[str, dict[str, list[str]]] = {}
        suspect: dict[str, dict[str, list[str]]] = {}
        ages: dict[str, dict[str, dict[str, float]]] = {}
        rows = self._rows(_WORRYING)
        for device, key, label, verdict, tried, lone in self._all(_worrying_of, rows):
            if verdict in FAILURES:
                failing.setdefault(device, {}).setdefault(key, []).append(label)
            if lone and verdict != SUSPECT:
                alone.setdefault(device, {}).setdefault(key, []).append(label)
            if verdict == SUSPECT and not tried:
                suspect.setdefault(device, {}).setdefault(key, []).append(label)
            # Else it has been tried in vain, and takes its chance among the others again.
        for device, key, label in self._all(_names_of, self._rows(_HIDDEN, NOT_REACHED)):
            hidden.setdefault(device, {}).setdefault(key, []).append(label)
        if verdicts:
            sql = (
                "SELECT device, key, label, verdict_at FROM cells JOIN tests ON tests.id = test"
                " WHERE verdict != ?"
            )
            for device, key, label, at in self._all(_verdict_of, self._rows(sql, SUSPECT)):
                ages.setdefault(device, {}).setdefault(key, {})[label] = at
        return History(seed, failing, ages, suspect, alone, hidden, lanes)

    def check(self) -> None:
        """Raise LedgerError if there is anything that no ledger can hold: who reads only a part of
        the file is to say the same of it as who reads all.
        """
        self.runs()
        self.tests()
        # There are many of these, and SQLite looks at them faster.
        for (cell_id,) in self._rows(_WRONG_CELLS):
            raise damaged(self.path, f"cells holds in row {cell_id} what none can")
        for run_id, cell_id in self._rows(_WRONG_OBSERVATIONS):
            what = f"observations holds of run {run_id} and cell {cell_id} what none can"
            raise damaged(self.path, what)
        for _ in self._rows(_WRONG_FAILURES):
            raise damaged(self.path, "failures holds what none can")

    def newest(self) -> float:
        """The latest moment that anything here speaks of; 0 if there is nothing."""
        moments = " UNION ALL ".join(
            f"SELECT max({column}) AS at FROM {table}"
            for table, columns in (
                ("runs", ("started", "ended")),
                ("tests", ("seen_at", "met_at", "whole_at")),
                ("cells", ("last_at", "verdict_at")),
            )
            for column in columns
        )
        ((at,),) = self._rows(f"SELECT max(at) FROM ({moments})")
        return 0.0 if at is None else self._checked(moment, at, "the newest time")

    def runs(self) -> list[RunRecord]:
        """The runs that are known, oldest first."""
        rows = self._rows(f"SELECT {', '.join(_RUN_COLUMNS)} FROM runs ORDER BY started, uid")
        return self._all(lambda row: run_of(_RUN_COLUMNS, row), rows)

    def tests(self) -> list[TestRecord]:
        """The tests that are known, by key and device."""
        rows = self._rows(f"SELECT {', '.join(_TEST_COLUMNS)} FROM tests ORDER BY key, device")
        return self._all(lambda row: test_of(*row), rows)

    def cells(self, key: str | None = None) -> list[CellRecord]:
        """The cells that have an outcome, of one test or of all."""
        where, values = ("", ()) if key is None else (" WHERE key = ?", (key,))
        with self.snapshot():
            rows = self._rows(
                f"SELECT key, label, device, nodeid, costs, {', '.join(_MARK_COLUMNS)} FROM cells"
                f" JOIN tests ON tests.id = test{where} ORDER BY key, device, cells.id",
                *values,
            )
            known = self._rows("SELECT id, uid FROM runs")
        uids = dict(self._all(lambda row: (row[0], text(row[1], "runs.uid")), known))
        return self._all(lambda row: cell_of(row, uids), rows)

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
        return self._all(lambda row: observed_of(row, _OUTCOMES), rows)

    def failures(self, key: str | None = None, *, last: bool = False) -> list[FailureRecord]:
        """How cells failed, of one test or of all: in the whole runs, and in each one's last.

        last: each cell's last failure alone.
        """
        where, values = ("", ()) if key is None else (" AND key = ?", (key,))
        where = f" WHERE (run = failed_run OR ?){where}"
        values = (not last, *values)
        rows = self._rows(
            "SELECT key, label, tests.device, uid, started, at, kinds.kind, message FROM failures"
            # What is not there is found out, instead of being passed over.
            " LEFT JOIN kinds ON kinds.id = failures.kind LEFT JOIN runs ON runs.id = run"
            " LEFT JOIN cells ON cells.id = cell LEFT JOIN tests ON tests.id = test"
            f"{where} ORDER BY cell, started, uid",
            *values,
        )
        return self._all(failed_of, rows)

    def known_failures(self) -> list[KnownFailure]:
        """The cells whose last verdict was a failure, by test, the oldest such verdict first."""
        with self.snapshot():
            rows = self._rows(_FAILING, FAILED)
            runs = {
                row[0]: self._checked(run_of, _RUN_COLUMNS, row[1:])
                for row in self._rows(f"SELECT id, {', '.join(_RUN_COLUMNS)} FROM runs")
            }
            whole = self._rows(
                "SELECT started, number FROM runs WHERE EXISTS"
                " (SELECT 1 FROM observations WHERE run = runs.id) ORDER BY started, uid LIMIT 1"
            )
        # From the oldest run that is whole on, nothing is missing; before it, runs may be.
        first, oldest = (whole[0][0], whole[0][1]) if whole else (LATEST, 0)

        def known(row: Sequence[Any]) -> KnownFailure:
            key, label, device, nodeid, kind, message, passed_at, run_id = row
            if run_id not in runs:
                raise ValueError("cells speaks of a run that is not there")
            passed = 0.0 if passed_at is None else moment(passed_at, "cells.passed_at")
            return KnownFailure(
                Cell(*_names_of((device, key, label))[1:], text(device, "tests.device")),
                text(nodeid, "cells.nodeid"),
                None if kind is None else failure_of(kind, message),
                runs[run_id],
                exact=oldest == 1 or passed >= first,
            )

        return self._all(known, rows)

    def activity(self) -> dict[Cell, tuple[int, float]]:
        """In how many whole runs each cell had a verdict, and when the first of these began."""
        numbers = ", ".join(str(_NUMBERS[outcome]) for outcome in sorted(VERDICTS))
        rows = self._rows(
            "SELECT key, label, tests.device, often, first FROM"
            " (SELECT cell, count(*) AS often, min(started) AS first FROM observations"
            f" JOIN runs ON runs.id = run WHERE outcome IN ({numbers}) GROUP BY cell)"
            " JOIN cells ON cells.id = cell JOIN tests ON tests.id = test"
        )
        return dict(self._all(_activity_of, rows))

    def costs(self) -> Costs:
        """What is to be expected of each cell, and of each test besides its cells."""
        with self.snapshot():
            tests = self._rows("SELECT id, key, device, rests FROM tests")
            rows = self._rows("SELECT test, label, costs FROM cells WHERE costs <> '[]'")
        names: dict[object, Name] = {}
        rests: dict[Name, float] = {}
        for test_id, name, seconds in self._all(_rest_of, tests):
            names[test_id] = name
            if seconds is not None:
                rests[name] = seconds
        cells: dict[Name, dict[str, float]] = {}
        for test_id, label, seconds in self._all(_cost_of, rows):
            if test_id in names and seconds is not None:
                cells.setdefault(names[test_id], {})[label] = seconds
        return Costs(cells, rests)

    def seeds(self, key: str, device: str, newest: int) -> list[tuple[int, bool]]:
        """The seeds of the newest whole runs of `rotate` that took a sample of this test, and
        whether each was the next one of its lane; the newest last. Without runs that named dtypes.
        """
        rows = self._rows(
            "SELECT seed, in_series FROM runs WHERE strategy = 'rotate' AND lane IS NOT NULL"
            " AND instr(lane, '--dtype-only') = 0 AND EXISTS (SELECT 1 FROM cells"
            " JOIN observations ON observations.run = runs.id AND observations.cell = cells.id"
            " WHERE test = (SELECT id FROM tests WHERE key = ? AND device = ?))"
            " ORDER BY started DESC, uid DESC LIMIT ?",
            *(key, device, newest),
        )
        return self._all(_seed_of, reversed(rows))

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
        return damaged(getattr(other, "path", self.path), what)

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
        # So does the newest run of a lane, so that the lane goes on where it ended.
        used += f" UNION SELECT id FROM ({_LANES})"
        self._rows(
            "DELETE FROM observations WHERE run IN"
            f" (SELECT id FROM runs WHERE id NOT IN ({_NEWEST}))",
            keep,
        )
        self._rows(
            f"DELETE FROM failures WHERE run NOT IN ({_NEWEST}) AND NOT EXISTS"
            " (SELECT 1 FROM cells WHERE cells.id = cell AND failed_run = run)",
            keep,
        )
        self._forget_kinds()
        self._rows(f"DELETE FROM runs WHERE id NOT IN ({_NEWEST}) AND id NOT IN ({used})", keep)
        self._run_ids.clear()

    def _forget_kinds(self) -> None:
        self._rows("DELETE FROM kinds WHERE id NOT IN (SELECT kind FROM failures)")

    def _run_id(self, uid: str) -> int:
        if uid not in self._run_ids:
            rows = self._rows("SELECT id FROM runs WHERE uid = ?", uid)
            if not rows:
                raise LedgerError(f"{self.path}: knows no run {shown(uid)}")
            ((self._run_ids[uid],),) = rows
        return self._run_ids[uid]

    def _put_run(self, run: RunRecord) -> None:
        columns = ", ".join(_RUN_COLUMNS)
        known = self._rows(f"SELECT {columns} FROM runs WHERE uid = ?", run.uid)
        if known:
            run = run.merged(self._checked(run_of, _RUN_COLUMNS, known[0]))
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
            raise LedgerError(f"{self.path}: knows no test {shown(key)} on {shown(device)}")
        return int(rows[0][0])

    def _put_test(self, test: TestRecord) -> int:
        if len(test.declared) > MOST_LABELS:
            raise LedgerError(
                f"{self.path}: can't hold {shown(test.key)}, which declares"
                f" {len(test.declared)} dtypes; {MOST_LABELS} is the most"
            )
        known = self._rows(
            f"SELECT {', '.join(_TEST_COLUMNS)}, id FROM tests WHERE key = ? AND device = ?",
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
                test = replace(test, rests=newest(test.rests, before))
            self._rows(
                "UPDATE tests SET declared = ?, seen_at = ?, k = ?, always = ?,"
                " met_at = max(met_at, ?), whole_at = ?, times = ?, rests = ?, arguments = ?,"
                " circle = ? WHERE id = ?",
                *_test_values(test)[2:],
                test_id,
            )
            return int(test_id)
        self._rows(
            f"INSERT INTO tests ({', '.join(_TEST_COLUMNS)})"
            f" VALUES ({', '.join('?' * len(_TEST_COLUMNS))})",
            *_test_values(test),
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
            marks = [name for name in _MARKS if getattr(record, name) is not None]
            columns = ", ".join(f"{name}_at = ?, {name}_run = ?, {name} = ?" for name in marks)
            self._rows(
                f"UPDATE cells SET nodeid = ?, costs = ?, {columns} WHERE id = ?",
                one.nodeid,
                _json_of(newest(costs, before.costs)),
                # Not by numbered placeholders: Python 3.12 warns of these, bound in sequence.
                *len(marks) * (one.at, self._run_id(uid), one.outcome),
                before.cell_id,
            )
            cell_ids.append(before.cell_id)
        return cell_ids

    def _put_cell(self, test_id: int, record: CellRecord) -> int:
        columns = ("nodeid", "costs", *_MARK_COLUMNS)
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
            raise damaged(self.path, "cells speaks of a run that is not there")
        uid = self._checked(text, rows[0][0], "runs.uid")
        self._run_ids[uid] = run_id
        return uid

    def _cell_values(self, record: CellRecord) -> list[object]:
        values: list[object] = [record.nodeid, _json_of(record.costs)]
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

    def _put_failure(
        self, run_id: int, cell_id: int, started: float, at: float, failure: Failure
    ) -> None:
        words = (failure.kind, failure.message)
        self._rows("INSERT INTO kinds (kind, message) VALUES (?, ?) ON CONFLICT DO NOTHING", *words)
        self._rows(
            "INSERT INTO failures (cell, run, at, kind) SELECT ?, ?, ?, id FROM kinds"
            " WHERE kinds.kind = ? AND message = ? ON CONFLICT (cell, run) DO UPDATE SET"
            " at = excluded.at, kind = excluded.kind WHERE excluded.at > at"
            # Of two at one millisecond always the same one, whichever came first.
            " OR (excluded.at = at AND (SELECT kinds.kind || kinds.message FROM kinds"
            " WHERE id = excluded.kind) > (SELECT kinds.kind || kinds.message FROM kinds"
            " WHERE id = failures.kind))",
            *(cell_id, run_id, round(1000 * (at - started)), *words),
        )


def _text(value: object) -> object:
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value


def _names_of(row: Sequence[Any]) -> tuple[str, str, str]:
    device, key, label = row
    return text(device, "tests.device"), text(key, "tests.key"), text(label, "cells.label")


def _seed_of(row: Sequence[Any]) -> tuple[int, bool]:
    seed, in_series = row
    return number(seed, "runs.seed", MAX_SEED), bool(in_series)


def _lane_of(row: Sequence[Any]) -> tuple[Lane, int]:
    _, lane, part, seed = row
    told = Lane(text(lane, "runs.lane"), text(part, "runs.part"))
    return told, number(seed, "runs.seed", MAX_SEED)


def _verdict_of(row: Sequence[Any]) -> tuple[str, str, str, float]:
    device, key, label, at = row
    return (
        text(device, "tests.device"),
        text(key, "tests.key"),
        text(label, "cells.label"),
        moment(at, "cells.verdict_at"),
    )


def _worrying_of(row: Sequence[Any]) -> tuple[str, str, str, str, bool, bool]:
    device, key, label, verdict, tried, lone = row
    # The verdict is one of those that were asked for, and the others are SQLite's own.
    names = text(device, "tests.device"), text(key, "tests.key"), text(label, "cells.label")
    return *names, str(verdict), bool(tried), bool(lone)


def _activity_of(row: Sequence[Any]) -> tuple[Cell, tuple[int, float]]:
    key, label, device, often, at = row
    cell = Cell(text(key, "tests.key"), text(label, "cells.label"), text(device, "tests.device"))
    return cell, (often, moment(at, "runs.started"))


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


def _rest_of(row: Sequence[Any]) -> tuple[object, Name, float | None]:
    test_id, key, device, rests = row
    name = text(key, "tests.key"), text(device, "tests.device")
    return test_id, name, estimate(lasted_of(rests, "tests.rests"))


def _cost_of(row: Sequence[Any]) -> tuple[object, str, float | None]:
    test_id, label, costs = row
    return test_id, text(label, "cells.label"), estimate(lasted_of(costs, "cells.costs"))


def _json_of(some: Lasted) -> str:
    return json.dumps(some, separators=(",", ":")) if some else "[]"


def _test_values(test: TestRecord) -> tuple[object, ...]:
    declared, always = (json.dumps([*map(_text, some)]) for some in (test.declared, test.always))
    since = (test.met_at, test.whole_at, json.dumps(test.times))
    later = (_json_of(test.rests), test.arguments, _text(test.circle))
    return test.key, test.device, declared, test.seen_at, test.k, always, *since, *later
