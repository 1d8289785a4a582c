"""The ledger in one SQLite file."""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dtype_sampler.ledger.damage import find_damage
from dtype_sampler.ledger.engine import Dialect, Engine, Given
from dtype_sampler.ledger.guard import Steps, authorize
from dtype_sampler.ledger.opening import (
    check_header,
    connect,
    damaged,
    identity_of,
    prepare,
    told,
)
from dtype_sampler.ledger.rows import readable
from dtype_sampler.ledger.sql import SqlStore
from dtype_sampler.ledger.store import LedgerError, StoreBusyError

_TYPES = {"text": "TEXT", "integer": "INTEGER", "real": "REAL"}
# The files, by device and inode, that this process has open. What opens and closes such a file by
# other means than SQLite's lets go of all of SQLite's locks on it (POSIX).
_held: Counter[tuple[int, int]] = Counter()


class SqliteEngine(Engine):
    """One connection to a file."""

    def __init__(self, path: Path, connection: sqlite3.Connection, steps: Steps) -> None:
        self.name = str(path)
        self.dialect = Dialect()
        self._path = path
        self._sqlite = connection
        self._steps = steps
        self._held = identity_of(path)
        if self._held is not None:
            _held[self._held] += 1

    def rows(self, sql: str, *values: object) -> list[Any]:
        """Run one statement; returns its rows."""
        self._steps.begin()
        with self._told():
            try:
                return self._sqlite.execute(sql, values).fetchall()
            except UnicodeEncodeError:
                # A command line or a file name that is no text, as Python hands it on.
                return self._sqlite.execute(sql, _readable(values)).fetchall()

    def each(self, sql: str, *values: object) -> Generator[Any, None, None]:
        """The same rows one after another."""
        self._steps.begin()
        with self._told():
            try:
                rows = self._sqlite.execute(sql, values)
            except UnicodeEncodeError:
                rows = self._sqlite.execute(sql, _readable(values))
            yield from rows

    def many(self, sql: str, rows: Iterable[Sequence[object]]) -> None:
        """Run one statement for each of *rows*, within a transaction."""
        self._steps.begin()
        rows = list(rows)
        with self._told():
            try:
                self._sqlite.executemany(sql, rows)
            except UnicodeEncodeError:
                # Those before it are written again: statements of ours come to the same then.
                self._sqlite.executemany(sql, map(_readable, rows))

    def give(self, table: Given, rows: Iterable[Sequence[object]]) -> None:
        """Until the end of the transaction, or the next call, *table* holds these rows alone."""
        columns = ", ".join(f"{name} {_TYPES[kind]}" for name, kind in table.columns.items())
        # Again each time, as who rolls back takes it along.
        self.rows(f"CREATE TEMP TABLE IF NOT EXISTS {table.name} ({columns})")
        self.rows(f"DELETE FROM {table.name}")
        places = ", ".join("?" * len(table.columns))
        self.many(f"INSERT INTO {table.name} VALUES ({places})", rows)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of it or nothing."""
        with told(self._path):
            self._sqlite.execute("BEGIN IMMEDIATE")
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
        """Within it, all that is read is of one moment."""
        if self._sqlite.in_transaction:
            yield
            return
        with told(self._path):
            self._sqlite.execute("BEGIN")
        try:
            yield
        finally:
            with suppress(sqlite3.Error):
                self._sqlite.execute("ROLLBACK")

    def expect_writes(self) -> None:
        """Commits then cost microseconds, and a killed process leaves the file whole."""
        ((wait,),) = self.rows("PRAGMA busy_timeout")
        until = time.monotonic() + wait / 1000
        while True:
            try:
                self.rows("PRAGMA journal_mode = WAL")
            except StoreBusyError:
                # SQLite does not wait by itself where the mode changes.
                if time.monotonic() >= until:
                    raise
                time.sleep(0.01)
            else:
                break
        self.rows("PRAGMA synchronous = NORMAL")
        # Moving pages into the file waits for the disk: rather once, at the end, than many times.
        self.rows("PRAGMA wal_autocheckpoint = 20000")

    def set_wait(self, seconds: float) -> None:
        """How long to wait for other processes from now on."""
        with told(self._path):
            self._sqlite.execute(f"PRAGMA busy_timeout = {int(1000 * seconds)}")

    def damaged(self, what: str) -> LedgerError:
        """The error for a file that holds what no ledger can."""
        return damaged(self._path, what)

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

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            with told(self._path):
                yield
        except OverflowError:
            # Such as a seed of more than 64 bits.
            raise LedgerError(f"{self._path}: can't hold so large a number") from None


class SqliteStore(SqlStore):
    """A ledger in a file. Not for file systems on a network, where SQLite's locks can't be trusted:
    give each job a file of its own, and combine them.
    """

    def __init__(self, path: Path, engine: SqliteEngine) -> None:
        """Use `open`."""
        super().__init__(engine)
        self.path = path

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
        return cls(path, SqliteEngine(path, connection, steps))

    def changes(self) -> int:
        """Another number after another connection has written to the file."""
        ((number,),) = self.engine.rows("PRAGMA data_version")
        return int(number)

    def check(self) -> None:
        """Raise LedgerError if there is anything that no ledger can hold: who reads only a part of
        the file is to say the same of it as who reads all.
        """
        super().check()
        find_damage(self.engine)


def fingerprint(path: Path) -> str:
    """What tells a file from what anybody makes of it later; empty if somebody has it open, or
    there is none.
    """
    try:
        if any(path.with_name(f"{path.name}{end}").exists() for end in ("-wal", "-journal")):
            return ""
        identity = identity_of(path)
        if identity is None or _held[identity]:
            return ""
        found = path.stat()
        with path.open("rb") as file:
            header = file.read(100)
    except (OSError, LedgerError):
        return ""
    # Of two changes within one tick of the clock SQLite's own count of them tells.
    counted = header[24:28].hex()
    times = found.st_mtime_ns, found.st_ctime_ns
    return ".".join(map(str, (*identity, found.st_size, *times, counted)))


def _readable(values: Sequence[object]) -> list[object]:
    return [readable(value) if isinstance(value, str) else value for value in values]
