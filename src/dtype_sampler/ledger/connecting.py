"""Connections to a PostgreSQL server, by psycopg and libpq, and their errors in plain words.

Nothing of psycopg is imported before a URL is given: most ledgers are files.
"""

from __future__ import annotations

import os
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from dtype_sampler.ledger.rows import shown
from dtype_sampler.ledger.secrets import check_url, redacted, redacted_word, secrets_of
from dtype_sampler.ledger.store import LedgerError, RefusedError, StoreBusyError

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[tuple[Any, ...]]

# Seconds, where neither the URL nor PGCONNECT_TIMEOUT says how long.
_CONNECT = 5
# Of libpq, unless the URL says otherwise: a peer that is gone is found out, instead of waited for.
_KEEPALIVE = {"keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3}
# Seconds that a server has for saying that it has stopped a statement, before we hang up.
_GRACE = 3.0
# The first letters of SQLSTATE, or all of them -> what to tell; {text} is the server's own.
_REFUSED = "42501"
_WORDS = {
    _REFUSED: "the role may not do this ({text}): `dtype-sampler ledger roles` has the SQL that"
    " gives rights",
    "25006": "is read-only, such as a standby is: name the primary ({text})",
    "53100": "its disk is full ({text})",
    "53200": "it has no memory left ({text})",
    "53300": "it has no connection left ({text})",
    "57014": "took too long, and was stopped ({text})",
    "57P01": "it was shut down ({text})",
    "57P02": "it crashed ({text})",
    "57P03": "it is starting, or shutting down ({text})",
    "3D000": "there is no such database ({text})",
    "28": "it let us not in ({text})",
}
# What another process is in the way of: a moment later there may be nothing.
_BUSY = frozenset({"55P03", "40001", "40P01"})
# That there is no table, function or schema of this name.
_NO_LEDGER = frozenset({"42P01", "42883", "3F000"})


def driver() -> Any:
    """The package psycopg. Raises LedgerError where there is none, and says how to get it."""
    try:
        import psycopg
    except ImportError as error:
        raise LedgerError(
            "a ledger on a server needs psycopg, which can't be imported"
            f' ({shown(str(error).splitlines()[0])}): pip install "pytest-dtype-sampler[postgres]"'
        ) from None
    return psycopg


class Place:
    """A URL of a server, and all that may be told of it. name: as messages have it."""

    def __init__(self, url: str) -> None:
        """Raises LedgerError for a URL that libpq does not understand."""
        check_url(url)
        self._url = url
        self.name = redacted_word(url)
        self._secrets = secrets_of(url) | {os.environ.get("PGPASSWORD", "")} - {""}
        driver()
        from psycopg.conninfo import conninfo_to_dict

        try:
            # libpq takes no other spelling.
            scheme, _, rest = url.partition("://")
            self.given = conninfo_to_dict(f"{scheme.lower()}://{rest}")
        except driver().Error as error:
            raise LedgerError(
                f"{self.name}: is no URL of PostgreSQL's: {self._quoted(error)}"
            ) from None
        except UnicodeError:
            # It would quote what may be a secret.
            raise LedgerError(
                f"{self.name}: is no URL of PostgreSQL's: it holds bytes that are no UTF-8"
            ) from None

    def __repr__(self) -> str:
        return f"Place({self.name!r})"

    def connect(self) -> Connection:
        """A new connection, in which each statement is a transaction unless one is begun."""
        # What the URL says wins.
        parameters: dict[str, Any] = {
            "application_name": "dtype-sampler",
            **_KEEPALIVE,
            **({} if os.environ.get("PGCONNECT_TIMEOUT") else {"connect_timeout": _CONNECT}),
            **self.given,
            # Whatever role, service or environment say: texts are read and written as such.
            "client_encoding": "UTF8",
        }
        if "application_name" not in self.given and os.environ.get("PGAPPNAME"):
            del parameters["application_name"]
        with self.told():
            # Prepared statements would not outlive a pooler's next transaction.
            connection: Connection = driver().connect(
                autocommit=True, prepare_threshold=None, **parameters
            )
        return connection

    @contextmanager
    def told(self) -> Iterator[None]:
        """Say psycopg's errors in words that name the server and what to do."""
        try:
            yield
        except driver().Error as error:
            raise self.in_words(error) from None
        except (UnicodeError, OverflowError) as error:
            raise LedgerError(f"{self.name}: can't hold it: {self._text(error)}") from None
        except OSError as error:
            raise LedgerError(f"{self.name}: can't be reached: {self._text(error)}") from None

    def in_words(self, error: psycopg.Error) -> LedgerError:
        """The error of ours for one of psycopg's."""
        state, text = error.sqlstate or "", self._text(error)
        if state in _BUSY:
            return StoreBusyError(f"{self.name}: other processes hold it: try again later ({text})")
        if state in _NO_LEDGER:
            return self.no_ledger()
        for begin, words in _WORDS.items():
            if state.startswith(begin):
                kind = RefusedError if state == _REFUSED else LedgerError
                return kind(f"{self.name}: {words.format(text=text)}")
        if state[:2] in {"08", ""} and isinstance(error, driver().OperationalError):
            return LedgerError(f"{self.name}: can't be reached: {text}")
        return LedgerError(f"{self.name}: {text}")

    def no_ledger(self) -> LedgerError:
        """The error for a database without a ledger, or with none that this role may see."""
        return LedgerError(f"{self.name}: holds no ledger: run: dtype-sampler ledger init URL")

    def _text(self, error: BaseException) -> str:
        """What an error says, on one line and without secrets."""
        said = " ".join(redacted(str(error), self._secrets).split())
        # What libpq asks back is no reason, and the line is long enough.
        said = re.sub(r" Is the server running [^?]*\?", "", said).removeprefix(
            "connection failed: "
        )
        return "".join(one if one.isprintable() else " " for one in said[:300]) or "no reason given"

    def _quoted(self, error: BaseException) -> str:
        """The same of one that quotes what it did not understand, be it a part of a secret."""
        text = str(error)
        for part in re.findall(r'"([^"]+)"', text):
            if any(part in secret or secret in part for secret in self._secrets):
                text = text.replace(part, "***")
        return " ".join(redacted(text, self._secrets).split())


@contextmanager
def within(connection: Connection, seconds: float) -> Iterator[None]:
    """Hang up on a server that has not answered by then: one that is cut off answers never.

    A server that can be reached stops a statement by itself, in less time.
    """
    timer = threading.Timer(seconds + _GRACE, _hang_up, [connection])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        # Who forks is warned of every thread that is alive.
        timer.join()


def _hang_up(connection: Connection) -> None:
    with suppress(OSError, driver().Error):
        end = socket.socket(fileno=connection.fileno())
        try:
            end.shutdown(socket.SHUT_RDWR)
        finally:
            # It stays psycopg's to close.
            end.detach()
