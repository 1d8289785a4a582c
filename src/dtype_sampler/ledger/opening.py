"""Opening a ledger's file: refuse what is none, make a new one, bring an older one up to date."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from itertools import count
from pathlib import Path

from dtype_sampler.ledger import schema
from dtype_sampler.ledger.guard import Steps, check_tables, harden
from dtype_sampler.ledger.rows import shown
from dtype_sampler.ledger.store import LedgerError, StoreBusyError

_MAGIC = b"SQLite format 3\0"
# How pytest and the commands are told which file.
BY = "by --dtype-ledger of pytest, or --ledger or --into of a command"


def connect(path: Path, wait: float, steps: Steps) -> sqlite3.Connection:
    """Connect to the file, which may not exist yet.

    wait: seconds to wait for other processes. steps: counts those of each statement.
    """
    # Autocommit: transactions are begun where they are meant. The thread that tests run in may be
    # another one than the one that pytest was configured in; two at once never use it.
    connection = sqlite3.connect(path, timeout=wait, isolation_level=None, check_same_thread=False)
    try:
        harden(connection, steps)
        # The first thing that really reads; a file may be there and refuse.
        connection.execute("PRAGMA user_version").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def identity_of(path: Path) -> tuple[int, int] | None:
    """Device and inode; None if there is no such file."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise LedgerError(f"{path}: can't be read: {error.strerror}") from None
    return found.st_dev, found.st_ino


def check_header(path: Path) -> None:
    """Refuse what is no ledger, without touching it: SQLite would take up another's journal."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise LedgerError(f"{path}: is no file: name another, {BY}")
        with path.open("rb") as file:
            header = file.read(100)
    except OSError as error:
        raise LedgerError(f"{path}: can't be read: {error.strerror}") from None
    if not header:
        return  # new, or about to be written by another process
    if header[:16] != _MAGIC:
        raise LedgerError(f"{path}: is no ledger (no SQLite file): name another, {BY}")
    version, application = (
        int.from_bytes(header[at : at + 4], "big", signed=True) for at in (60, 68)
    )
    _check_stamp(path, application, version)


def _check_stamp(path: Path, application: int, version: int) -> None:
    if application != schema.APPLICATION_ID:
        raise LedgerError(
            f"{path}: is no ledger but another program's SQLite file: name another, {BY}"
        )
    if version > schema.VERSION:
        raise LedgerError(
            f"{path}: was written by a newer dtype-sampler (schema {version}, this one knows"
            f" {schema.VERSION}): upgrade, or name another file, {BY}"
        )
    if version < 1:
        raise damaged(path, f"says that its schema is {version}")


def _stamp(connection: sqlite3.Connection) -> tuple[int, int]:
    ((application,),) = connection.execute("PRAGMA application_id").fetchall()
    ((version,),) = connection.execute("PRAGMA user_version").fetchall()
    return application, version


def prepare(path: Path, connection: sqlite3.Connection) -> None:
    """Make the tables of a new file, and migrate one of an older version.

    Raises LedgerError for one that is newer, or no ledger.
    """
    application, version = _stamp(connection)
    if application != schema.APPLICATION_ID:
        connection.execute("BEGIN IMMEDIATE")
        # Another process may have been first.
        if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            for statement in schema.TABLES:
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {schema.VERSION}")
        connection.execute("COMMIT")
        application, version = _stamp(connection)
    _check_stamp(path, application, version)
    check_tables(path, connection, version)
    if version < schema.VERSION:
        _migrate(path, connection)


def _free(path: Path, version: int) -> Path:
    """Where a copy goes that takes no older one's place."""
    for number in count(1):
        again = f".{number}" if number > 1 else ""
        aside = path.with_name(f"{path.name}.schema-{version}{again}.bak")
        if not aside.exists():
            return aside
    raise AssertionError  # there is always another number


def _migrate(path: Path, connection: sqlite3.Connection) -> None:
    """Bring a file of an older version up to date, after a copy was put aside."""
    connection.execute("BEGIN IMMEDIATE")
    aside: Path | None = None
    try:
        ((version,),) = connection.execute("PRAGMA user_version").fetchall()
        if version < schema.VERSION:
            check_tables(path, connection, version)
            aside = _free(path, version)
            # By SQLite itself, as a part of the file may be in its write-ahead log.
            with (
                closing(sqlite3.connect(path)) as source,
                closing(sqlite3.connect(aside)) as copy,
            ):
                source.backup(copy)
        for number in range(version, schema.VERSION):
            for statement in schema.MIGRATIONS[number]:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {schema.VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        if aside is not None:
            # Of a file that is as it was: every try would leave one more.
            with suppress(OSError):
                aside.unlink()
        raise


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Say SQLite's errors in words that name the file and what to do."""
    try:
        yield
    except sqlite3.Error as error:
        raise in_words(path, error) from None
    except UnicodeDecodeError:
        raise no_text(path) from None


def damaged(path: Path, what: str) -> LedgerError:
    """The error for a file that holds what no ledger can."""
    return LedgerError(f"{path}: is damaged ({shown(what)}): restore or remove it")


def no_text(path: Path) -> LedgerError:
    """The error for text that is none: a value, or what SQLite's own error quotes."""
    return damaged(path, "holds text that is none")


def in_words(path: Path, error: sqlite3.Error) -> LedgerError:
    """The error of ours for one of SQLite's."""
    # It may quote the file.
    text = shown(error)
    if text.startswith("Could not decode"):
        return no_text(path)
    if text == "interrupted":
        text = "has rows without end"
    elif isinstance(error, sqlite3.OperationalError):
        if "locked" in text or "busy" in text:
            return StoreBusyError(f"{path}: another process holds it: try again later")
        return LedgerError(f"{path}: {text}")
    return damaged(path, text)
