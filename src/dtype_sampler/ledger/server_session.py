"""A connection to a server for what its owner does: see `server`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from dtype_sampler.ledger.connecting import Place, within
from dtype_sampler.ledger.server_schema import LOCK, SCHEMA
from dtype_sampler.ledger.store import LedgerError

if TYPE_CHECKING:
    from dtype_sampler.ledger.connecting import Connection

# Seconds to wait for other processes, and for one statement.
WAIT, STATEMENT = 60.0, 3600.0
# Seconds to wait for a table at a time: whoever comes later, if only to read, waits behind us.
AT_A_TIME = 2.0
# What the tables need; and what they were tried on is newer.
_OLDEST = 120000
_NOW = "now() AT TIME ZONE 'UTC'"


@dataclass(frozen=True)
class Version:
    """Of the schema. Within one `major`, tables and columns were only added."""

    major: int
    minor: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"


class Session:
    """A connection for these."""

    def __init__(self, url: str) -> None:
        self._place = Place(url)
        self.name = self._place.name

    def __enter__(self) -> Self:
        self._connection: Connection = self._place.connect()
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def execute(self, sql: str, *values: object) -> list[Any]:
        """Run SQL, with psycopg's placeholders for values; returns the rows."""
        with self._place.told(), within(self._connection, WAIT + STATEMENT):
            cursor = self._connection.execute(sql, values or None)
            return cursor.fetchall() if cursor.description else []

    def value(self, sql: str, *values: object) -> Any:
        """The first value of the first row; None without any."""
        rows = self.execute(sql, *values)
        return rows[0][0] if rows else None

    @contextmanager
    def alone(self, project: int = 0) -> Iterator[None]:
        """A transaction that no other one of these stands beside. project: nor a writer of it."""
        with self._transaction("READ COMMITTED"):
            self.execute(f"SET LOCAL dtype_sampler.project = '{project or ''}'")
            self.execute(f"SELECT pg_advisory_xact_lock({LOCK}, {project})")
            self.execute(f"SET LOCAL lock_timeout = {max(1, int(1000 * AT_A_TIME))}")
            yield

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Within it, all that is read is of one moment."""
        with self._transaction("REPEATABLE READ, READ ONLY"):
            yield

    @contextmanager
    def _transaction(self, how: str) -> Iterator[None]:
        self.execute(
            f"BEGIN ISOLATION LEVEL {how}; SET LOCAL search_path = {SCHEMA}, pg_temp;"
            f" SET LOCAL lock_timeout = {max(1, int(1000 * WAIT))};"
            f" SET LOCAL statement_timeout = {int(1000 * STATEMENT)};"
            " SET LOCAL extra_float_digits = 1"
        )
        try:
            yield
            self.execute("COMMIT")
        except BaseException:
            with suppress(LedgerError):
                self.execute("ROLLBACK")
            raise

    def check_server(self) -> None:
        """Raise LedgerError where the tables would not do what they are for."""
        if int(self.value("SELECT current_setting('server_version_num')")) < _OLDEST:
            raise LedgerError(f"{self.name}: needs PostgreSQL {_OLDEST // 10000} or newer")
        encoding = self.value("SELECT current_setting('server_encoding')")
        if encoding != "UTF8":
            raise LedgerError(
                f"{self.name}: the database's encoding is {encoding}: make one with ENCODING 'UTF8'"
            )

    def version(self) -> Version | None:
        """Of the schema that is there."""
        if self.value("SELECT to_regnamespace(%s) IS NULL", SCHEMA):
            return None
        if self.value("SELECT to_regprocedure(%s) IS NULL", f"{SCHEMA}.version()"):
            return None
        return Version(*self.execute(f"SELECT major, minor FROM {SCHEMA}.version()")[0])

    def found(self) -> Version:
        """The same, where there must be one."""
        version = self.version()
        if version is None:
            raise self._place.no_ledger()
        return version

    def month(self) -> int:
        """The current one, as the server's clock has it."""
        year, month = self.execute(
            f"SELECT extract(year FROM {_NOW})::int, extract(month FROM {_NOW})::int"
        )[0]
        return int(year) * 12 + int(month) - 1

    def act_as_owner(self) -> None:
        """As the role that owns the schema, so that what is made belongs to one."""
        self.act_as(
            self.value(
                "SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = %s", SCHEMA
            )
        )

    def act_as(self, role: str) -> None:
        """For the rest of the transaction, where one is a member of that role."""
        if self.value(
            "SELECT to_regrole(quote_ident(%s)) IS NOT NULL AND current_user <> %s"
            " AND CASE WHEN to_regrole(quote_ident(%s)) IS NULL THEN false"
            " ELSE pg_has_role(current_user, %s, 'MEMBER') END",
            *(role, role, role, role),
        ):
            self.execute(self.value("SELECT format('SET LOCAL ROLE %%I', %s::text)", role))

    def rights(self) -> tuple[str, ...]:
        """What the one who asks may do."""
        if not self.value("SELECT has_schema_privilege(%s, 'USAGE')", SCHEMA):
            return ()
        asked = {
            "read": "SELECT has_table_privilege('{s}.observations', 'SELECT')",
            "write": "SELECT has_table_privilege('{s}.observations', 'INSERT')"
            " AND has_table_privilege('{s}.observations', 'UPDATE')",
            "own": "SELECT pg_has_role(nspowner, 'USAGE') FROM pg_namespace WHERE nspname = '{s}'",
        }
        return tuple(what for what, sql in asked.items() if self.value(sql.format(s=SCHEMA)))
