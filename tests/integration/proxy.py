"""A small proxy before a PostgreSQL server, which goes away, comes back, and cuts connections."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import quote

from psycopg.conninfo import conninfo_to_dict

PASSWORD = "t0p-s3cret"


class Proxy:
    """Listens on a port of its own, which stays its own also while nobody is let in.

    cut: looks at what a client sends, and says whether its connection is cut then: "before" the
    server has it, or "after", when the client never hears what came of it; else None. silent: keeps
    connections open and passes nothing on. came: how many connections were made.
    """

    def __init__(self, url: str) -> None:
        self._parts = conninfo_to_dict(url)
        self.cut: Callable[[bytes], str | None] = lambda _: None
        self.silent = threading.Event()
        self.came = 0
        self._listening: socket.socket | None = None
        self._open: set[socket.socket] = set()
        # Servers whose next answer nobody hears.
        self._unheard: set[socket.socket] = set()
        self._guard = threading.Lock()
        self._port = 0
        self.start()

    @property
    def url(self) -> str:
        """The URL of the same database by way of this proxy, with a password."""
        user, name = (quote(str(self._parts.get(key, "")), safe="") for key in ("user", "dbname"))
        return f"postgresql://{user}:{PASSWORD}@127.0.0.1:{self._port}/{name}?sslmode=disable"

    def start(self) -> None:
        """Let clients in."""
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", self._port))
        listening.listen(100)
        self._port = listening.getsockname()[1]
        self._listening = listening
        threading.Thread(target=self._serve, args=(listening,), daemon=True).start()

    def stop(self) -> None:
        """Be away: cut all connections, and refuse new ones."""
        listening, self._listening = self._listening, None
        if listening is not None:
            with suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)
            listening.close()
        with self._guard:
            for one in self._open:
                _shut(one)
            self._open.clear()

    def _serve(self, listening: socket.socket) -> None:
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            self.came += 1
            server = self._connected()
            with self._guard:
                self._open |= {client, server}
            pairs = (client, server, self._sent), (server, client, self._passed)
            for source, target, pass_on in pairs:
                threading.Thread(
                    target=self._pump, args=(source, target, pass_on), daemon=True
                ).start()

    def _connected(self) -> socket.socket:
        host, port = str(self._parts.get("host", "")), int(self._parts.get("port") or 5432)
        if not host.startswith("/"):
            return socket.create_connection((host, port))
        server = socket.socket(socket.AF_UNIX)
        server.connect(f"{host}/.s.PGSQL.{port}")
        return server

    def _pump(
        self,
        source: socket.socket,
        target: socket.socket,
        pass_on: Callable[[socket.socket, socket.socket, bytes], bool],
    ) -> None:
        with suppress(OSError):
            while (data := source.recv(1 << 16)) and pass_on(source, target, data):
                pass
        for one in (source, target):
            _shut(one)

    def _sent(self, client: socket.socket, server: socket.socket, data: bytes) -> bool:
        if self.silent.is_set():
            return True
        when = self.cut(data)
        if when == "before":
            return False
        if when == "after":
            self._unheard.add(server)
        server.sendall(data)
        return True

    def _passed(self, server: socket.socket, client: socket.socket, data: bytes) -> bool:
        if server in self._unheard:
            # It answers, so it is done; the client only sees that the connection is gone.
            return False
        if not self.silent.is_set():
            client.sendall(data)
        return True


def _shut(one: socket.socket) -> None:
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
