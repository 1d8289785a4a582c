"""What a database has to bring so that `sql.SqlStore` can keep a ledger in it.

The statements are said once, in the SQL that SQLite (from 3.26 on) and PostgreSQL share. That
leaves out `RETURNING`, which SQLite has had only since 3.35, `NULLS FIRST`, numbers where truth is
meant, functions that one of them has alone, and names that are ambiguous where a row is updated
instead of inserted. An engine connects, translates placeholders, says errors in words, and knows
how its writers take turns.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from dtype_sampler.ledger.store import LedgerError


@dataclass(frozen=True, slots=True)
class Dialect:
    """The few words that differ.

    keys: of each table, the columns that a row is known by, where that is not what the statement
    says: a database of many projects knows a test by its project too. also: of each table, columns
    that a new row has besides, and the expression that gives each. For `observations` it may speak
    of the row of `runs` that they are of.
    """

    keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    also: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def key(self, table: str, *columns: str) -> str:
        """What a row of *table* conflicts by: `columns`, in parentheses."""
        return f"({', '.join(self.keys.get(table, columns))})"

    def columns(self, table: str) -> str:
        """The names of what a new row of *table* has besides, each with a comma before it."""
        return "".join(f", {name}" for name in self.also.get(table, {}))

    def values(self, table: str) -> str:
        """The expressions of what a new row of *table* has besides, likewise."""
        return "".join(f", {one}" for one in self.also.get(table, {}).values())


@dataclass(frozen=True, slots=True)
class Given:
    """A table of one connection alone, for rows that a statement works on.

    columns: name -> `text`, `integer` (64 bits) or `real` (a double). Each may be NULL.
    """

    name: str
    columns: Mapping[str, str]


class Engine(Protocol):
    """A connection to a database that holds the tables of a ledger.

    Every method raises LedgerError if it can't, in one line without a password, and StoreBusyError
    if the same call may work a moment later.
    """

    # What messages call the database: a path, or a URL without its password.
    name: str
    dialect: Dialect

    def rows(self, sql: str, *values: object) -> list[Any]:
        """Run one statement; returns its rows as tuples, none if it gives none.

        sql: with `?` for each of *values*, and no other question mark. values: str, int, float and
        None; text that can't be written is written as `errors="backslashreplace"` has it.
        """

    def each(self, sql: str, *values: object) -> Generator[Any, None, None]:
        """The same rows one after another, where they are too many to be held at once. To be closed
        by who does not take them all.
        """

    def many(self, sql: str, rows: Iterable[Sequence[object]]) -> None:
        """Run one statement for each of *rows*, within a transaction."""

    def give(self, table: Given, rows: Iterable[Sequence[object]]) -> None:
        """Until the end of the transaction, or the next call, *table* holds these rows alone."""

    def transaction(self) -> AbstractContextManager[None]:
        """All of it or nothing. Those who write to one ledger do so one after another."""

    def snapshot(self) -> AbstractContextManager[None]:
        """Within it, all that is read is of one moment. In a transaction: the transaction's."""

    def expect_writes(self) -> None:
        """A run begins: many transactions will follow, as short as can be."""

    def set_wait(self, seconds: float) -> None:
        """How long to wait for other processes from now on."""

    def damaged(self, what: str) -> LedgerError:
        """The error for a database that holds what no ledger can. what: of its own, perhaps."""

    def close(self) -> None:
        """Let go of the database."""
