"""A connection to a PostgreSQL server, and what `engine.Engine` asks of one."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from dtype_sampler.ledger.connecting import Place, driver, within
from dtype_sampler.ledger.engine import Dialect, Engine, Given
from dtype_sampler.ledger.rows import readable, shown
from dtype_sampler.ledger.server_schema import KEYS, LOCK, LOCK_OF_SEEDS, MAJOR, SCHEMA
from dtype_sampler.ledger.store import LedgerError, NewerLedgerError, StoreBusyError

if TYPE_CHECKING:
    from dtype_sampler.ledger.connecting import Connection

_TYPES = {"text": "text", "integer": "bigint", "real": "double precision"}
# Seconds that one who writes may do something else before the others need not wait any longer.
_IDLE = 300.0


class PostgresEngine(Engine):
    """A connection to a server, made when it is needed, and again after it was lost.

    project: the name of the one whose rows are seen. wait: seconds to wait for other processes.
    statement: seconds for one statement.
    """

    def __init__(self, url: str, project: str, *, wait: float, statement: float) -> None:
        self._place = Place(url)
        self.name = self._place.name
        self.dialect = Dialect(keys=KEYS)
        self._project = project
        self._project_id: int | None = None
        self._wait = wait
        self._statement = statement
        self._connection: Connection | None = None
        self._begun: str | None = None
        # Whether what has begun is a turn of one who writes.
        self._writes = False
        self._given: dict[str, tuple[Given, list[list[object]]]] = {}
        # Statements, and names of what is given -> what is sent, and which columns along with it.
        self._sent: dict[tuple[str, str], tuple[str, list[int]]] = {}

    def rows(self, sql: str, *values: object) -> list[Any]:
        """Run one statement; returns its rows."""
        if self._begun is None:
            # Alone, it is a transaction of its own, as what it needs to know is set for one.
            with self._transaction("READ COMMITTED"):
                return self.rows(sql, *values)
        before: list[object] = []
        for name, (table, columns) in self._given.items():
            if name in sql:
                if (sql, name) not in self._sent:
                    self._sent[sql, name] = _with(sql, table)
                sql, used = self._sent[sql, name]
                before += [columns[place] for place in used]
        return self._execute(_translated(sql), [*before, *map(_plain, values)])

    def each(self, sql: str, *values: object) -> Generator[Any, None, None]:
        """The same rows one after another."""
        # They come over the network at once: what waits for them there would block others.
        yield from self.rows(sql, *values)

    def many(self, sql: str, rows: Iterable[Sequence[object]]) -> None:
        """Run one statement for each of *rows*, within a transaction."""
        connection = self._connected()
        with self._place.told(), within(connection, self._longest), connection.cursor() as cursor:
            cursor.executemany(_translated(sql), ([*map(_plain, row)] for row in rows))

    def give(self, table: Given, rows: Iterable[Sequence[object]]) -> None:
        """Until the end of the transaction, or the next call, *table* holds these rows alone.

        A temporary table would need a right, and leave its traces in the catalogue with each run:
        they go along with the statements instead, as one array for each column.
        """
        kinds = [_OF[kind] for kind in table.columns.values()]
        columns: list[list[object]] = [[] for _ in kinds]
        for row in rows:
            for column, of, value in zip(columns, kinds, row, strict=True):
                column.append(None if value is None else of(value))
        self._given[table.name] = (table, columns)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of it or nothing. Writers of one project take turns. Within another: a part of it."""
        if self._writes:
            yield
            return
        with self._turn(LOCK):
            self._writes = True
            try:
                yield
            finally:
                self._writes = False

    @contextmanager
    def claim(self) -> Iterator[None]:
        """The same for `seeds` alone: who claims a seed waits for others who do, and not for those
        who write, which may take long.
        """
        with self._turn(LOCK_OF_SEEDS):
            yield

    @contextmanager
    def _turn(self, lock: int) -> Iterator[None]:
        if self._project_id is None:
            # One that is new here; another process may be as quick.
            with self._transaction("READ COMMITTED"):
                self._execute(
                    f"INSERT INTO {SCHEMA}.projects (name) VALUES (%s) ON CONFLICT DO NOTHING",
                    [_plain(self._project)],
                )
        with self._transaction("READ COMMITTED", lock=lock):
            yield

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Within it, all that is read is of one moment."""
        if self._begun is not None:
            yield
            return
        with self._transaction("REPEATABLE READ, READ ONLY"):
            yield

    def expect_writes(self) -> None:
        """A run begins: nothing needs to be done for that."""

    def set_wait(self, seconds: float) -> None:
        """How long to wait for other processes from now on."""
        self._wait = seconds

    def damaged(self, what: str) -> LedgerError:
        """The error for a project that holds what none can."""
        return LedgerError(
            f"{self.name}: project {shown(self._project)} is damaged ({shown(what)}): restore it"
        )

    def release(self) -> None:
        """Let go of the connection; the next statement makes another one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(driver().Error, OSError):
                connection.close()

    def close(self) -> None:
        """Let go of the server."""
        self.release()

    def open(self) -> None:
        """See that there is a ledger that this program can speak to, and which one of its projects.

        Raises LedgerError if there is none.
        """
        connection = self._connected()
        self._check_version(connection)

    @property
    def _longest(self) -> float:
        return self._wait + self._statement

    def _connected(self) -> Connection:
        # In a transaction there is no other one than that in which it was begun.
        if self._begun and self._connection is not None:
            return self._connection
        if self._connection is None or self._connection.closed or self._connection.broken:
            self._connection = self._place.connect()
        return self._connection

    def _execute(self, sql: str, values: Sequence[object] | None = None) -> list[Any]:
        connection = self._connected()
        with self._place.told(), within(connection, self._longest):
            cursor = connection.execute(sql, values)
            return _read(cursor.fetchall(), cursor.description) if cursor.description else []

    def _check_version(self, connection: Connection) -> None:
        sql = (
            f"SELECT major, (SELECT id FROM {SCHEMA}.projects WHERE name = %s)"
            f" FROM {SCHEMA}.version()"
        )
        with self._place.told(), within(connection, self._longest):
            (found,) = connection.execute(sql, [_plain(self._project)]).fetchall()
        major, self._project_id = found
        if major > MAJOR:
            raise NewerLedgerError(
                f"{self.name}: is of a newer dtype-sampler (schema {major}, this one knows"
                f" {MAJOR}): upgrade pytest-dtype-sampler here"
            )
        if major < MAJOR:
            raise LedgerError(
                f"{self.name}: is of an older dtype-sampler (schema {major}, this one needs"
                f" {MAJOR}): run: dtype-sampler ledger upgrade URL"
            )

    @contextmanager
    def _transaction(self, how: str, *, lock: int = 0) -> Iterator[None]:
        if self._begun is not None:
            raise AssertionError("a transaction has begun already")
        if self._project_id is None:
            # Another process may have made it since.
            sql = f"SELECT id FROM {SCHEMA}.projects WHERE name = %s"
            found = self._execute(sql, [_plain(self._project)])
            self._project_id = found[0][0] if found else None
        # All at once: it is one way to the server and back. For this transaction alone, as behind a
        # pooler the next one may be another connection's.
        begin = (
            f"BEGIN ISOLATION LEVEL {how};"
            f" SET LOCAL search_path = {SCHEMA}, pg_temp;"
            f" SET LOCAL statement_timeout = {_milliseconds(self._longest)};"
            f" SET LOCAL lock_timeout = {_milliseconds(self._wait)};"
            f" SET LOCAL idle_in_transaction_session_timeout = {_milliseconds(_IDLE)};"
            # What is asked for is little of much, and found by indexes, on a disk that can seek.
            f" SET LOCAL random_page_cost = 1.1; SET LOCAL jit = off;"
            # A moment is to be read as it was written, whatever the role was set to.
            " SET LOCAL extra_float_digits = 1;"
            f" SET LOCAL dtype_sampler.project = '{self._project_id or ''}'"
        )
        if lock:
            begin += f"; SELECT pg_advisory_xact_lock({lock}, {self._project_id})"
        kept = self._connection is not None
        self._connected()
        self._begun = how
        try:
            try:
                self._begin(begin, again=kept)
                yield
            except BaseException:
                with suppress(LedgerError):
                    self._execute("ROLLBACK")
                raise
            self._commit()
        except BaseException:
            if self._connection is not None and self._is_lost(self._connection):
                self.release()
            raise
        finally:
            self._begun = None
            self._given.clear()

    def _begin(self, sql: str, *, again: bool) -> None:
        """again: whether to try it once more, as the connection may have been lost since it was
        used last: while nothing is begun, nothing can be done twice.
        """
        try:
            self._execute(sql)
        except StoreBusyError:
            raise
        except LedgerError:
            if not again or self._connection is None or not self._connection.broken:
                raise
            self._connection = self._place.connect()
            self._execute(sql)

    def _commit(self) -> None:
        # Of a transaction in which something failed, the server makes a rollback, and says no word.
        failed = driver().pq.TransactionStatus.INERROR
        if self._connected().info.transaction_status == failed:
            self._execute("ROLLBACK")
            raise LedgerError(f"{self.name}: nothing was written, as a part of it failed")
        self._execute("COMMIT")

    @staticmethod
    def _is_lost(connection: Connection) -> bool:
        status = driver().pq.TransactionStatus
        return connection.closed or connection.info.transaction_status != status.IDLE


def _milliseconds(seconds: float) -> int:
    # 0 would mean: without end.
    return max(1, int(1000 * seconds))


def _plain(value: object) -> object:
    """A value as the server can hold it."""
    return _text(value) if isinstance(value, str) else value


def _text(value: str) -> str:
    told = readable(value)
    return told.translate(_ESCAPES) if _ESCAPE in told or "\0" in told else told


def _read(rows: list[Any], columns: Sequence[Any]) -> list[Any]:
    """The rows of an answer, with each text as it was before it was written."""
    texts = [place for place, column in enumerate(columns) if column.type_code == _TEXT]
    for number, row in enumerate(rows):
        for place in texts:
            value = row[place]
            if value is not None and _ESCAPE in value:
                changed = [*rows[number]]
                changed[place] = _ESCAPED.sub(_meant, value)
                rows[number] = tuple(changed)
    return rows


def _meant(escaped: re.Match[str]) -> str:
    return "\0" if escaped[1] == _ESCAPE else _ESCAPE


# No text of PostgreSQL's has a NUL. It is written as two of the character behind it, and that one
# as itself and the next: so all texts are told apart, and come in the order that they had.
_ESCAPE = "\x01"
_ESCAPES = {0: "\x01\x01", 1: "\x01\x02"}
_ESCAPED = re.compile("\x01([\x01\x02])")
# The number of the type `text`, which is the same everywhere.
_TEXT = 25
_OF: Mapping[str, Any] = {"text": _text, "integer": int, "real": float}


@lru_cache(maxsize=256)
def _translated(sql: str) -> str:
    """With psycopg's placeholders."""
    return sql.replace("%", "%%").replace("?", "%s")


def _with(sql: str, table: Given) -> tuple[str, list[int]]:
    """The statement, with the rows of a table that goes along with it, and the places of those of
    its columns that the statement speaks of.
    """
    spoken = set(re.findall(r"\w+", sql))
    used = [place for place, name in enumerate(table.columns) if name in spoken]
    names = list(table.columns)
    kinds = list(table.columns.values())
    arrays = ", ".join(f"?::{_TYPES[kinds[place]]}[]" for place in used)
    columns = ", ".join(names[place] for place in used)
    given = f"{table.name} ({columns}) AS (SELECT * FROM unnest({arrays}))"
    sql = f"WITH {given}, {sql[5:]}" if sql.startswith("WITH ") else f"WITH {given} {sql}"
    return sql, used
