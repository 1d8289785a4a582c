"""The one connection of a run to a server, for which a session never waits longer than it says.

What a server does not answer, nothing here can end: neither a time-out on its side nor a signal. So
whatever the session itself wants to know is asked in a thread of its own, and the session waits for
that thread as long as it said. A thread that is still waiting then is left to itself.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from threading import Lock, Thread
from typing import TypeVar

from dtype_sampler.ledger.places import Place
from dtype_sampler.ledger.store import Store, StoreBusyError

T = TypeVar("T")
# What people see where a program lists its threads.
THREAD = "dtype-sampler-ledger"


class Link:
    """At most one connection at a time, opened when something is to be said."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._store: Store | None = None
        # Held while somebody speaks to the server.
        self._line = Lock()
        self._asking: Thread | None = None

    def talk(self, work: Callable[[Store], T], *, wait: float) -> T:
        """What *work* comes to, in the thread that calls. Raises what *work* does, and LedgerError.

        wait: seconds that each answer of the server may take, as far as it keeps to that.
        """
        with self._line:
            try:
                if self._store is None:
                    self._store = self.place.open(wait=wait)
                else:
                    self._store.set_wait(wait)
                return work(self._store)
            except BaseException:
                # What is broken is opened again by the next one who wants something.
                self._drop()
                raise

    def ask(self, work: Callable[[Store], T], *, seconds: float) -> T:
        """As `talk`, in a thread for which the caller waits for so long. Raises LedgerError if that
        was too short.
        """
        if self._asking is not None and self._asking.is_alive():
            raise StoreBusyError(f"{self.place}: still does not answer")
        answers: list[T] = []
        errors: list[BaseException] = []

        def asked() -> None:
            try:
                answers.append(self.talk(work, wait=seconds))
            except BaseException as error:  # noqa: BLE001  # the caller's to judge
                errors.append(error)

        thread = self._asking = Thread(target=asked, name=THREAD, daemon=True)
        thread.start()
        thread.join(seconds)
        if thread.is_alive():
            raise StoreBusyError(f"{self.place}: did not answer within {round(seconds, 1):g} s")
        self._asking = None
        if errors:
            raise errors[0]
        return answers[0]

    def rest(self) -> None:
        """Let go of the connection, in the thread that calls, until something is to be said."""
        with self._line:
            self._drop()

    def close(self, *, seconds: float) -> None:
        """Let go of the connection, however long that takes: the caller waits for so long."""
        if self._store is None or (self._asking is not None and self._asking.is_alive()):
            return
        thread = Thread(target=self.rest, name=THREAD, daemon=True)
        # Where no thread can be started, the end of the process closes it.
        with suppress(RuntimeError):
            thread.start()
            thread.join(seconds)

    def _drop(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            with suppress(Exception):
                store.close()
