"""What a ledger's file may do to us: a file may come from a cache, or from somebody else.

SQLite runs what a file says: views in place of tables, triggers, expressions in defaults, checks
and indexes. So nothing of a file is read before it is known to hold the tables of a ledger and
nothing else, and whatever it becomes afterwards, no statement of ours may reach more than these.
"""

from __future__ import annotations

import re
import sqlite3
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from dtype_sampler.ledger import schema
from dtype_sampler.ledger.rows import shown
from dtype_sampler.ledger.store import LedgerError
from dtype_sampler.ledger.upserts import GIVEN

# Bytes of one value, and of one row; command lines are the longest.
_LONGEST = 1 << 24
# Steps of SQLite's machine between two looks, and how many one statement may take: in any file, and
# for each byte of it. The most thorough of ours takes 5 for each byte.
BETWEEN = 100_000
_STEPS, _STEPS_PER_BYTE = 20_000_000, 100
_FUNCTIONS = frozenset(
    {
        *("coalesce", "count", "max", "min", "replace", "row_number", "typeof"),
    }
)
# What a statement is given, and where SQLite writes down that there is such a table.
_TEMPORARY = frozenset({*(given.name for given in GIVEN), "sqlite_temp_master"})
_PRAGMAS = frozenset(
    {"busy_timeout", "data_version", "journal_mode", "synchronous", "wal_autocheckpoint"}
)
# Table -> its columns and constraints, as its statement says them.
Tables = dict[str, frozenset[str]]
_ACTIONS = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_TRANSACTION})
_ON_TABLES = frozenset(
    {sqlite3.SQLITE_READ, sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE}
)


class Steps:
    """Stops a statement that takes more steps than an honest file of this size can ask for.

    Pages may point to each other so that a small file has rows without end. No clock: a slow
    machine takes as many steps as a fast one.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._taken = 0

    def begin(self) -> None:
        """Another statement begins."""
        self._taken = 0

    def look(self) -> bool:
        """Called every `BETWEEN` steps; returns whether these are too many."""
        self._taken += BETWEEN
        return self._taken > _STEPS and self._taken > _STEPS + _STEPS_PER_BYTE * self._size()

    def _size(self) -> int:
        size = 0
        for suffix in ("", "-wal"):
            with suppress(OSError):
                size += Path(f"{self._path}{suffix}").stat().st_size
        return size


def harden(connection: sqlite3.Connection, steps: Steps) -> None:
    """Use SQLite's own defences; before anything is read."""
    # Python has this from 3.12 on, and SQLite may be older than a setting. Where they are missing,
    # `check_tables` and `authorize` come to the same.
    configure = getattr(connection, "setconfig", None)
    for name, value in (
        ("DEFENSIVE", True),
        ("ENABLE_TRIGGER", False),
        ("ENABLE_VIEW", False),
        ("TRUSTED_SCHEMA", False),
    ):
        setting = getattr(sqlite3, f"SQLITE_DBCONFIG_{name}", None)
        if configure is not None and setting is not None:
            configure(setting, value)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST)
    connection.setlimit(sqlite3.SQLITE_LIMIT_SQL_LENGTH, 1 << 16)
    connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    connection.setlimit(sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH, 1)
    connection.set_progress_handler(steps.look, BETWEEN)
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA cell_size_check = ON")
    # What statements are given is little, and not to fail where a folder can't be written.
    connection.execute("PRAGMA temp_store = MEMORY")
    # A file that is cut while it is mapped kills the process.
    connection.execute("PRAGMA mmap_size = 0")


def check_tables(path: Path, connection: sqlite3.Connection, version: int) -> None:
    """Raise LedgerError if the file holds anything but the tables of a ledger of this version."""
    required, allowed = _tables_of(version)
    found = set()
    for kind, name, table, sql in connection.execute(
        "SELECT type, name, tbl_name, sql FROM sqlite_master"
    ):
        if kind == "index" and sql is None and table in allowed:
            continue  # SQLite's own, for a UNIQUE of the table
        if kind != "table" or name not in allowed or name not in required:
            raise LedgerError(
                f"{path}: holds the {shown(kind)} {shown(name)}, which no ledger has:"
                " restore or remove it"
            )
        parts = _parts(sql) if isinstance(sql, str) else frozenset()
        if not required[name] <= parts <= allowed[name]:
            raise LedgerError(
                f"{path}: its table {name} is not that of a ledger: restore or remove it"
            )
        found.add(name)
    lacking = sorted(required.keys() - found)
    if lacking:
        raise LedgerError(f"{path}: lacks the table {lacking[0]}: restore or remove it")


def authorize(connection: sqlite3.Connection) -> None:
    """From now on nothing but what the store needs: a file may change while it is open."""
    connection.set_authorizer(_authorized)


def _authorized(
    action: int, first: str | None, second: str | None, database: str | None, source: str | None
) -> int:
    # source: the view or trigger that asks for it.
    if source is None and (
        action in _ACTIONS
        or (action in _ON_TABLES and first in _tables(schema.TABLES, ()))
        or (action in _ON_TABLES and database == "temp" and first in _TEMPORARY)
        or (action == sqlite3.SQLITE_CREATE_TEMP_TABLE and first in _TEMPORARY)
        or (action == sqlite3.SQLITE_FUNCTION and str(second).lower() in _FUNCTIONS)
        or (action == sqlite3.SQLITE_PRAGMA and first in _PRAGMAS)
    ):
        return sqlite3.SQLITE_OK
    return sqlite3.SQLITE_DENY


def _tables_of(version: int) -> tuple[Tables, Tables]:
    """What the tables of files of a version say at least and at most."""
    now, earlier, later = _tables(schema.TABLES, ()), _added(1, version), _added(version, None)
    least = {name: parts - later.get(name, frozenset()) for name, parts in now.items()}
    most = {
        name: least.get(name, frozenset()) | earlier.get(name, frozenset())
        for name in (*least, *earlier)
    }
    # A table that is all of a later version is not there yet.
    return (
        {name: parts for name, parts in least.items() if parts},
        {name: parts for name, parts in most.items() if parts},
    )


def _added(first: int, behind: int | None) -> Tables:
    """What the migrations of versions from *first* on, before *behind*, have added."""
    statements = [
        statement
        for number in sorted(schema.MIGRATIONS)
        if number >= first and (behind is None or number < behind)
        for statement in schema.MIGRATIONS[number]
    ]
    return _tables((), tuple(statements))


@lru_cache(maxsize=64)
def _tables(creating: tuple[str, ...], altering: tuple[str, ...]) -> Tables:
    tables: Tables = {}
    for statement in (*creating, *altering):
        if match := re.match(r"CREATE TABLE (\w+)", statement):
            parts = _parts(statement)
        elif match := re.match(r"ALTER TABLE (\w+) ADD COLUMN (.*)", statement, re.DOTALL):
            parts = frozenset({_plain(match[2])})
        else:
            continue
        tables[match[1]] = tables.get(match[1], frozenset()) | parts
    return tables


def _parts(statement: str) -> frozenset[str]:
    """The columns and constraints of a statement that makes a table, and what follows them."""
    text = _plain(statement)
    inner, _, behind = text.partition("(")[2].rpartition(")")
    parts, depth, start = {f") {behind}".strip()}, 0, 0
    for place, one in enumerate(inner):
        depth += (one == "(") - (one == ")")
        if one == "," and not depth:
            parts.add(inner[start:place].strip())
            start = place + 1
    return frozenset({*parts, inner[start:].strip()})


def _plain(text: str) -> str:
    """Without comments, and with single spaces."""
    return " ".join(re.sub(r"--[^\n]*", " ", text).split())
