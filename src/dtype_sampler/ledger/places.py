"""Where a ledger is: in a file, or on a server. Pure until one is opened.

Options, the books and the commands hold a place, and know neither how a store is reached nor what
of its name is a secret. `str` of a place is fit for a terminal: it never holds a password.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.ledger.secrets import check_url, has_login, is_url, redacted_word
from dtype_sampler.ledger.store import LedgerError, Store
from dtype_sampler.paths import stat_of

if TYPE_CHECKING:
    from dtype_sampler.ledger.postgres import PostgresStore
    from dtype_sampler.ledger.sqlite import SqliteStore

# How a URL begins, of whatever kind. One letter before the colon is a drive.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
# What is meant for a URL and is none: as Python's paths would write it, with quotes or another word
# before it, or without its beginning.
_ALMOST = re.compile(r"\W*postgres(ql)?:|(?![A-Za-z]://).*://", re.IGNORECASE | re.DOTALL)
# One of libpq's own connection strings.
_PAIRS = re.compile(r"(?:^|\s)(host|hostaddr|port|user|password|passfile|dbname|service)\s*=")
# What says which database a URL means, and the variables that libpq asks where it says nothing.
_WHICH = {
    "host": "PGHOST",
    "port": "PGPORT",
    "dbname": "PGDATABASE",
    "service": "PGSERVICE",
    "hostaddr": "PGHOSTADDR",
}
_USUAL_PORT = "5432"
# One of the hosts of a URL, in brackets where it is an address with colons, and its port.
_HOST = re.compile(r"(\[[^]]*\]|[^:]*)(?::(.*))?")
# Characters of a server's name in the name of a file.
_LONGEST = 40
# How the names of a ledger's files go on: its own, and those that SQLite keeps beside it.
SQLITE_ENDS = ("", "-wal", "-shm", "-journal")
# The journals of runs that wait for servers; of others, the name goes on with `sqlite`.
_SPOOL = re.compile(r"\.dtype-ledger\..+-[0-9a-f]{8}\.[0-9a-f]+\.journal")


@dataclass(frozen=True, slots=True)
class FilePlace:
    """A ledger in a file."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def open(self, *, create: bool = False, wait: float = 5.0) -> SqliteStore:
        """The store. Raises LedgerError."""
        from dtype_sampler.ledger.sqlite import SqliteStore

        return SqliteStore.open(self.path, create=create, wait=wait)

    def exists(self) -> bool:
        """Whether there is one. Raises LedgerError if that can't be told."""
        with self._told():
            return stat_of(self.path) is not None

    def is_same(self, other: Place) -> bool:
        """Whether both are one ledger."""
        if not isinstance(other, FilePlace):
            return False
        try:
            return self.path.samefile(other.path)
        except OSError:
            return self.path == other.path

    def copied(self, folder: Path) -> FilePlace:
        """A copy in that folder, if there is one to be copied. Raises OSError."""
        for end in ("", "-wal"):
            source = self.path.with_name(self.path.name + end)
            if source.is_file():
                shutil.copyfile(source, folder / source.name)
        return FilePlace(folder / self.path.name)

    @contextmanager
    def reading(self, hint: str, *, wait: float = 5.0) -> Iterator[SqliteStore]:
        """The store to be read alone: a copy, as an older file is migrated, and nobody's ledger is
        to change by being read. hint: what to do where there is none. Raises LedgerError.
        """
        with self._told(), tempfile.TemporaryDirectory() as folder:
            self._check(hint)
            copy = self.copied(Path(folder))
            try:
                with closing(copy.open(wait=wait)) as store:
                    store.check()
                    yield store
            except LedgerError as error:
                told = str(error).replace(str(copy), str(self))
                raise type(error)(told) from None

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except LedgerError:
            raise
        except (OSError, ValueError) as error:
            said = getattr(error, "strerror", None) or error
            raise LedgerError(f"{self}: can't be read: {said}") from None

    def _check(self, hint: str) -> None:
        from dtype_sampler.ledger.opening import check_header

        if self.path.is_dir():
            raise LedgerError(f"{self}: is a folder: {hint}")
        if stat_of(self.path) is None:
            raise LedgerError(f"{self}: there is no such file: {hint}")
        check_header(self.path)
        if not self.path.stat().st_size:
            raise LedgerError(f"{self}: is an empty file: {hint}")


@dataclass(frozen=True, slots=True)
class ServerPlace:
    """A project's ledger on a PostgreSQL server.

    url: as libpq takes it; it may hold a password. project: one database holds many.
    """

    url: str = field(repr=False)
    project: str

    def __str__(self) -> str:
        return redacted_word(self.url)

    def check(self) -> None:
        """Raise LedgerError for what no server has to be asked for: it was mistyped, or what speaks
        to servers is not installed.
        """
        from dtype_sampler.ledger.connecting import Place as Address

        Address(self.url)

    def open(self, *, create: bool = False, wait: float = 5.0) -> PostgresStore:
        """The store. Raises LedgerError. create: has no meaning here, as what is on a server is
        made when a person asks for it.
        """
        del create
        from dtype_sampler.ledger.postgres import PostgresStore

        return PostgresStore.open(self.url, project=self.project, wait=wait)

    def exists(self) -> bool:
        """Whether there is one, as far as can be told without asking."""
        return True

    def is_same(self, other: Place) -> bool:
        """Whether both are one ledger, as far as their URLs tell."""
        return (
            isinstance(other, ServerPlace)
            and self.project == other.project
            and _which(self.url, os.environ) == _which(other.url, os.environ)
        )

    @contextmanager
    def reading(self, hint: str, *, wait: float = 5.0) -> Iterator[Store]:
        """The store to be read alone. Raises LedgerError."""
        del hint
        with closing(self.open(wait=wait)) as store:
            yield store

    def spool(self, folder: Path) -> Path:
        """What the journals of runs are named after that wait for this server.

        Its name tells people which one, and tells two of them apart, without user or secret.
        """
        which = _which(self.url, os.environ)
        text = "\0".join([*(which.get(name, "") for name in _WHICH), self.project])
        digest = blake2b(text.encode(errors="backslashreplace"), digest_size=4).hexdigest()
        name = which.get("host") or which.get("hostaddr") or which.get("service") or "server"
        name = re.sub(r"[^A-Za-z0-9.-]+", "-", name).strip("-.") or "server"
        return folder / f".dtype-ledger.{name[:_LONGEST]}-{digest}"


Place = FilePlace | ServerPlace


def spools_in(folder: Path) -> list[Path]:
    """The journals there of runs that wait, or waited, for a server, whichever it is."""
    found = folder.glob(".dtype-ledger.*.journal")
    return sorted(path for path in found if _SPOOL.fullmatch(path.name))


def check_place(text: str) -> None:
    """Raise DtypeSamplerError if the text is meant for a URL, and is none of a ledger's.

    As a path it would be shown, password and all, and be a file that somebody finds.
    """
    text = _meant(text)
    if is_url(text):
        scheme = text.partition("://")[0]
        if scheme not in ("postgresql", "postgres"):
            raise DtypeSamplerError(f"write {scheme.lower()}:// in lower case")
        check_url(text)
    elif match := _SCHEME.match(text):
        raise DtypeSamplerError(
            f"{match[1]}:// is nowhere that a ledger can be: name a file, or a URL that begins with"
            " postgresql://"
        )
    elif _ALMOST.match(text) or has_login(text):
        raise DtypeSamplerError(
            "is nearly a URL: write postgresql://USER@HOST/DATABASE, with two slashes and no quotes"
        )
    elif len(_PAIRS.findall(text)) > 1 or re.search(r"(^|\s)password\s*=", text):
        raise DtypeSamplerError("is a connection string: write postgresql://USER@HOST/DATABASE")


def _meant(text: str) -> str:
    """A URL without what came along when it was pasted; a path may begin with a space."""
    bare = text.strip("\ufeff \t\r\n")
    return bare if is_url(bare) else text


def place_of(text: str, folder: Path, project: Callable[[], str]) -> Place:
    """The place that a text names. Raises DtypeSamplerError.

    folder: what a path is relative to. project: whose ledger it is on a server; not asked for a
    file.
    """
    check_place(text)
    text = _meant(text)
    return ServerPlace(text, project()) if is_url(text) else FilePlace(folder / text)


def _which(url: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Which database a URL means: the parts of it that are no secret, by libpq's names.

    As libpq reads it: what stands behind `?` goes before what stands before it.
    """
    authority, slash, rest = url.partition("://")[2].partition("/")
    login, at, hosts = authority.rpartition("@")
    found, _, query = f"{hosts}{slash}{rest}".partition("?")
    hosts, _, name = found.partition("/")
    parts = [match.groups() for one in hosts.split(",") if (match := _HOST.fullmatch(one))]
    said = {
        "host": ",".join(unquote(host).strip("[]") for host, _ in parts),
        "port": ",".join(port or "" for _, port in parts),
        "dbname": unquote(name),
        "user": unquote(login.partition(":")[0]) if at else "",
    }
    for one in query.split("&"):
        key, _, value = one.partition("=")
        said[unquote(key)] = unquote(value)
    said = {one: said[one] for one in (*_WHICH, "user") if said.get(one, "").strip(",")}
    if "service" in said:
        # Where that is, a file of libpq's says.
        return {one: said[one] for one in _WHICH if one in said}
    asked = {"user": "PGUSER", **_WHICH}
    known = {one: environment[name] for one, name in asked.items() if environment.get(name)} | said
    user = known.pop("user", "")
    if user:
        # Where no database is named, it is the one that is called as the user is.
        known.setdefault("dbname", user)
    if known.get("port") == _USUAL_PORT:
        del known["port"]
    return known
