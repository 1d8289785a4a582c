"""A thread that ships what came together while tests run, and that no test notices.

It sleeps nearly always, and ends where nothing waits. A test may fork its process: a thread in it
then is what Python warns of, and what may leave a lock in the child that nobody opens. So the
thread ends before a fork, and goes on after it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from threading import Event, Lock, Thread
from weakref import WeakSet

from dtype_sampler.ledger.link import THREAD

# So many jobs at once, that together ship for this share of the time, leave two thirds of the
# server's to those who begin and end: these wait.
_WRITERS, _SHARE = 30, 1 / 3
# Seconds that a fork waits for a thread that is speaking to a server.
_BEFORE_FORK = 1.0


class Shipper:
    """Calls *ship* every so often in a thread of its own, as long as there is something to ship."""

    def __init__(
        self,
        ship: Callable[[], bool],
        waits: Callable[[], bool],
        *,
        every: float,
        at_most: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """ship: ships what waits, and says whether that went well; it raises nothing.

        waits: whether anything does. every: seconds between two shippings; they become more where
        one takes long, and, up to at_most, as long as it goes wrong. clock: seconds that only go
        on.
        """
        self._ship = ship
        self._waits = waits
        self._every = every
        self._at_most = at_most
        self._clock = clock
        self._pause = every
        # When the next one is, by this clock; None if that is not known yet.
        self._due: float | None = None
        self._guard = Lock()
        self._thread: Thread | None = None
        self._stop = Event()
        self._ended = False
        _alive.add(self)

    def wake(self) -> None:
        """Something waits: ship it in a while. Raises nothing."""
        with self._guard:
            if self._thread is not None or self._ended:
                return
            self._stop = Event()
            thread = Thread(target=self._run, args=(self._stop,), name=THREAD, daemon=True)
            # Where no thread can be started, all is shipped at the end.
            with suppress(RuntimeError):
                thread.start()
                self._thread = thread

    def pause(self, seconds: float) -> bool:
        """End the thread for now; returns whether it has ended within so many seconds."""
        with self._guard:
            thread, self._thread = self._thread, None
            self._stop.set()
        if thread is None:
            return True
        thread.join(seconds)
        return not thread.is_alive()

    def end(self, seconds: float) -> bool:
        """End the thread for good; returns whether it has ended within so many seconds."""
        self._ended = True
        _alive.discard(self)
        return self.pause(seconds)

    def go_on(self) -> None:
        """After a pause."""
        if self._waits():
            self.wake()

    def _run(self, stop: Event) -> None:
        while True:
            if self._due is None:
                self._due = self._clock() + self._pause
            # Where tests fork all the time, its turn comes nonetheless.
            if stop.wait(max(self._due - self._clock(), 0.0)):
                return
            began, self._due = self._clock(), None
            well = self._ship()
            least = self._every if well else min(2 * self._pause, self._at_most)
            # Those who write take turns: so many can, however slow the server is.
            self._pause = max(least, _WRITERS / _SHARE * (self._clock() - began))
            with self._guard:
                if stop.is_set():
                    return
                if well and not self._waits():
                    self._thread = None
                    return


# Python lets go of no hook of `os.register_at_fork`: there is one, for all that are alive.
_alive: WeakSet[Shipper] = WeakSet()


def _before_fork() -> None:
    for one in list(_alive):
        one.pause(_BEFORE_FORK)


def _after_fork() -> None:
    for one in list(_alive):
        one.go_on()


# A child ships nothing: that is its parent's business.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork, after_in_child=_alive.clear
    )
