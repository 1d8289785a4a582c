"""What the owner of a ledger on a server does to it: make it, migrate it, drop what is old.

All of it is asked for by a person. No run of tests makes or alters a table, and none deletes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from dtype_sampler.ledger import server_schema as schema
from dtype_sampler.ledger import server_session
from dtype_sampler.ledger.records import RunRecord
from dtype_sampler.ledger.rows import MARKS, RUN_COLUMNS, run_of, shown
from dtype_sampler.ledger.server_schema import MAJOR, SCHEMA
from dtype_sampler.ledger.server_session import Session, Version
from dtype_sampler.ledger.store import LedgerError, NewerLedgerError, StoreBusyError

T = TypeVar("T")
# Months for which there are partitions before anything is observed in them.
AHEAD = 12
_PARTITIONS = (
    "SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid"
    f" WHERE inhparent = '{SCHEMA}.all_observations'::regclass"
)


@dataclass(frozen=True)
class Changed:
    """What was done. before: the version that was found; None for none. rights: the roles that were
    given theirs.
    """

    name: str
    before: Version | None
    after: Version
    rights: tuple[str, ...] = ()


@dataclass(frozen=True)
class Retained:
    """What was dropped and made: months, such as 2026-11, and how many runs, which no cell speaks
    of. since: the oldest month that stays.
    """

    name: str
    since: str
    dropped: tuple[str, ...]
    made: tuple[str, ...]
    runs: int


@dataclass(frozen=True)
class Project:
    """One project on the server. cells: with an outcome. last: its newest run."""

    name: str
    runs: int
    tests: int
    cells: int
    last: RunRecord | None


@dataclass(frozen=True)
class State:
    """What there is on a server.

    server: its version. size, observations: bytes of all tables, and of that one. months: of the
    partitions, oldest first; astray: whether anything is in the partition for all other months.
    user: who asks. rights: may `read`, `write`, `own`. roles: whether there is each of ours.
    """

    name: str
    server: str
    version: Version
    size: int
    observations: int
    months: tuple[str, ...]
    astray: bool
    user: str
    rights: tuple[str, ...]
    roles: dict[str, bool]
    projects: tuple[Project, ...]


def _patiently(work: Callable[[], T]) -> T:
    """What *work* returns, tried again for a while as long as others hold what it needs."""
    until = time.monotonic() + server_session.WAIT
    while True:
        try:
            return work()
        except StoreBusyError:
            if time.monotonic() >= until:
                raise
            time.sleep(0.5)


def initialise(url: str) -> Changed:
    """Make the ledger's schema and tables, unless there are such. Raises LedgerError."""
    with Session(url) as session, session.alone():
        before = session.version()
        if before is not None:
            _refuse_newer(session.name, before)
            return Changed(session.name, before, before)
        owner = session.value(
            "SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = %s", SCHEMA
        )
        if owner is not None:
            session.act_as(owner)
        elif session.value(
            "SELECT CASE WHEN to_regrole(%s) IS NULL THEN false"
            " ELSE has_database_privilege(%s, current_database(), 'CREATE') END",
            *(schema.OWNER, schema.OWNER),
        ):
            # Else it may be there for another database of this server.
            session.act_as(schema.OWNER)
        session.check_server()
        if owner is None:
            session.execute(f"CREATE SCHEMA {SCHEMA}")
        for statement in schema.TABLES:
            session.execute(statement)
        return _bring_up(session, None)


def upgrade(url: str) -> Changed:
    """Bring the schema up to this program's version. Raises LedgerError."""
    return _patiently(lambda: _upgrade(url))


def _upgrade(url: str) -> Changed:
    with Session(url) as session, session.alone():
        before = session.found()
        _refuse_newer(session.name, before)
        if before.minor > schema.newest_minor():
            return Changed(session.name, before, before)
        session.act_as_owner()
        for minor in range(before.minor, schema.newest_minor()):
            for statement in schema.MIGRATIONS[minor]:
                session.execute(statement)
        return _bring_up(session, before)


def _bring_up(session: Session, before: Version | None) -> Changed:
    """What follows the tables: views, version, partitions, rights."""
    after = Version(MAJOR, schema.newest_minor())
    for statement in (*schema.views(), schema.version_function(after.minor)):
        session.execute(statement)
    now = session.month()
    _make_partitions(session, range(now - 1, now + AHEAD + 1))
    given: dict[str, None] = {}
    for role, statement in schema.rights():
        if session.value("SELECT to_regrole(%s) IS NOT NULL", role):
            session.execute(statement)
            given[role] = None
    return Changed(session.name, before, after, tuple(given))


def retain(url: str, months: int) -> Retained:
    """Drop what was observed before the newest *months* months, besides the current one, and make
    partitions for those that come. Cells stay, and so do the runs that they speak of.

    Raises LedgerError.
    """
    return _patiently(lambda: _retain(url, months))


def _retain(url: str, months: int) -> Retained:
    with Session(url) as session:
        with session.alone():
            _refuse_newer(session.name, session.found())
            session.act_as_owner()
            now = session.month()
            first = now - months
            old = sorted(month for month in _months(session) if month < first)
            for month in old:
                session.execute(f"DROP TABLE {SCHEMA}.{schema.partition_name(month)}")
            made = _make_partitions(session, range(now - 1, now + AHEAD + 1), first=first)
            projects = [row[0] for row in session.execute(f"SELECT id FROM {SCHEMA}.projects")]
        gone = 0
        for project in projects:
            # Apart, so that no project's writers wait for the others to be done.
            with session.alone(project):
                session.act_as_owner()
                gone += _forget_runs(session, schema.bounds(first)[0])
    return Retained(
        session.name,
        schema.month_name(first),
        tuple(map(schema.month_name, old)),
        tuple(map(schema.month_name, made)),
        gone,
    )


def _forget_runs(session: Session, first: int) -> int:
    """Forget a project's runs with ids below *first* that nothing speaks of any more."""
    spoken = " UNION ALL ".join(
        f"SELECT {mark}_run FROM {SCHEMA}.cells WHERE {mark}_run IS NOT NULL" for mark in MARKS
    )
    session.execute(
        f"DELETE FROM {SCHEMA}.failures WHERE run < %s AND NOT EXISTS (SELECT 1 FROM"
        f" {SCHEMA}.cells WHERE cells.id = failures.cell AND failed_run = failures.run)",
        first,
    )
    session.execute(
        f"DELETE FROM {SCHEMA}.kinds WHERE NOT EXISTS"
        f" (SELECT 1 FROM {SCHEMA}.failures WHERE failures.kind = kinds.id)"
    )
    gone = session.execute(
        f"DELETE FROM {SCHEMA}.runs WHERE id < %s AND NOT EXISTS"
        f" (SELECT 1 FROM ({spoken}) AS spoken (run) WHERE spoken.run = runs.id)"
        # Nor the newest of its lane, which the lane goes on from.
        " AND NOT (in_series = 1 AND lane IS NOT NULL AND NOT EXISTS (SELECT 1 FROM"
        f" {SCHEMA}.runs AS later WHERE later.in_series = 1 AND later.lane = runs.lane"
        " AND later.part = runs.part AND (later.started, later.uid) > (runs.started, runs.uid)))"
        " RETURNING 1",
        first,
    )
    return len(gone)


def _make_partitions(session: Session, months: range, *, first: int | None = None) -> list[int]:
    """Make those of *months* that are not there; returns them.

    What strayed into the partition for all others goes to its own, and what is of before *first*
    to nowhere.
    """
    there = set(_months(session))
    strayed = {
        schema.month_of(run)
        for (run,) in session.execute(f"SELECT DISTINCT run FROM {SCHEMA}.observations_default")
    }
    # A clock may have said any year: no partition for each of these.
    known = {month for month in strayed if months.start - 120 <= month < months.stop}
    if first is not None:
        known = {month for month in known if month >= first}
    wanted = sorted(({*months} | known) - there)
    moves = bool(strayed & {*wanted}) or (
        first is not None and any(month < first for month in strayed)
    )
    if moves:
        session.execute(
            f"ALTER TABLE {SCHEMA}.all_observations DETACH PARTITION {SCHEMA}.observations_default"
        )
        session.execute(f"ALTER TABLE {SCHEMA}.observations_default RENAME TO strayed")
        session.execute(schema.DEFAULT_PARTITION)
    for month in wanted:
        for statement in schema.attach(month):
            session.execute(statement)
    if moves:
        least = 0 if first is None else schema.bounds(first)[0]
        columns = "run, cell, at, duration, project, outcome"
        session.execute(
            f"INSERT INTO {SCHEMA}.all_observations ({columns})"
            f" SELECT {columns} FROM {SCHEMA}.strayed WHERE run >= %s",
            least,
        )
        session.execute(f"DROP TABLE {SCHEMA}.strayed")
    return wanted


def _months(session: Session) -> list[int]:
    """The months that have a partition."""
    names = {row[0] for row in session.execute(_PARTITIONS)}
    found = []
    for name in names:
        _, _, told = name.partition("observations_")
        year, _, month = told.partition("_")
        if year.isdecimal() and month.isdecimal():
            found.append(int(year) * 12 + int(month) - 1)
    return sorted(found)


def look(url: str) -> State:
    """What there is on a server, as far as the one who asks may see it. Raises LedgerError."""
    with Session(url) as session, session.reading():
        version = session.found()
        _refuse_newer(session.name, version)
        user, server = session.execute("SELECT current_user, current_setting('server_version')")[0]
        ((size, observations),) = session.execute(
            "SELECT coalesce(sum(pg_total_relation_size(pg_class.oid)), 0)::bigint,"
            " coalesce(sum(pg_total_relation_size(pg_class.oid))"
            " FILTER (WHERE relispartition), 0)::bigint FROM pg_class"
            " JOIN pg_namespace ON pg_namespace.oid = relnamespace"
            " WHERE nspname = %s AND relkind = 'r'",
            SCHEMA,
        )
        rights = session.rights()
        months = _months(session)
        projects = _projects(session) if "read" in rights else ()
        return State(
            session.name,
            server,
            version,
            size,
            observations,
            tuple(map(schema.month_name, months)),
            bool(
                session.value(
                    "SELECT pg_relation_size(%s::regclass) > 0", f"{SCHEMA}.observations_default"
                )
            ),
            user,
            rights,
            {
                role: bool(session.value("SELECT to_regrole(%s) IS NOT NULL", role))
                for role in (schema.OWNER, schema.WRITER, schema.READER)
            },
            tuple(projects),
        )


def _projects(session: Session) -> list[Project]:
    found = []
    for project, name in session.execute(f"SELECT id, name FROM {SCHEMA}.projects ORDER BY name"):
        session.execute(f"SET LOCAL dtype_sampler.project = '{int(project)}'")
        runs, tests, cells = (
            int(session.value(f"SELECT count(*) FROM {SCHEMA}.{table}"))
            for table in ("runs", "tests", "cells")
        )
        newest = session.execute(
            f"SELECT {', '.join(RUN_COLUMNS)} FROM {SCHEMA}.runs"
            " ORDER BY started DESC, uid DESC LIMIT 1"
        )
        try:
            last = run_of(newest[0]) if newest else None
        except ValueError as error:
            raise LedgerError(f"{session.name}: project {shown(name)}: {error}") from None
        found.append(Project(name, runs, tests, cells, last))
    return found


def _refuse_newer(name: str, found: Version) -> None:
    if found.major > MAJOR:
        raise NewerLedgerError(
            f"{name}: is of a newer dtype-sampler (schema {found}, this one knows"
            f" {MAJOR}.{schema.newest_minor()}): upgrade pytest-dtype-sampler here"
        )
