"""Signals that wait until what must not be cut short is done, and processes that end with us."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import IO, Any, Self

# How long a process has to end by itself once it was interrupted, in seconds.
_PATIENCE = 10.0


class Terminated(KeyboardInterrupt):
    """Somebody else wants this process to end. number: of the signal."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Interrupts:
    """Within it, the signals that end a process raise KeyboardInterrupt or Terminated, once.

    While they are held, which they are at the beginning and after the first one, they wait.
    Elsewhere than in the main thread, where Python allows no handlers, nothing changes.
    """

    def __init__(self) -> None:
        self._held = True
        self._pending: int | None = None
        self._before: dict[int, Any] = {}

    def hold(self) -> None:
        """From here on they wait."""
        self._held = True

    def release(self) -> None:
        """From here on they raise; what has waited does now."""
        self._held = False
        if self._pending is not None:
            self._raise(self._pending)

    def _raise(self, number: int) -> None:
        self._held, self._pending = True, None
        raise KeyboardInterrupt if number == signal.SIGINT else Terminated(number)

    def _on(self, number: int, _: FrameType | None) -> None:
        if self._held:
            self._pending = number
        else:
            self._raise(number)

    def run(
        self,
        command: Sequence[str] | str,
        *,
        folder: Path,
        environment: Mapping[str, str],
        tail: int,
    ) -> tuple[int, str]:
        """Run a command in a group of its own: its exit code, and the end of what it said.

        A command that is one string is for the shell. The code is negative where a signal has ended
        it. If this process is interrupted, the whole group is ended first. tail: at most so many
        bytes of what it said. Raises OSError for a program that can't be run.
        """
        own: dict[str, Any] = {"process_group": 0}
        if sys.platform == "win32":
            own = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
        # A file, as a pipe may be kept open by what the command leaves running.
        with tempfile.TemporaryFile() as said:
            held, self._held = self._held, True
            try:
                process = subprocess.Popen(  # noqa: S603  # git, pytest, or the user's own command
                    command,
                    shell=isinstance(command, str),
                    cwd=folder,
                    env=dict(environment),
                    stdin=subprocess.DEVNULL,
                    stdout=said,
                    stderr=subprocess.STDOUT,
                    **own,
                )
            except OSError:
                self._held = held
                raise
            try:
                if not held:
                    self.release()
                code = process.wait()
            except BaseException:
                _end(process)
                raise
            return code, _tail(said, tail)

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for name in ("SIGINT", "SIGTERM", "SIGHUP"):
                number = getattr(signal, name, None)
                # As `nohup` has it: who ignores one wants to go on.
                if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._on)
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        for number, handler in self._before.items():
            # None: a handler that is not Python's, which Python can't put back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        if self._pending is not None and kind is None:
            self._raise(self._pending)


def _tail(said: IO[bytes], size: int) -> str:
    length = said.seek(0, os.SEEK_END)
    said.seek(max(length - size, 0))
    return said.read().decode(errors="replace")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and all of its group: politely, then not."""
    for number in (signal.SIGINT, signal.SIGKILL) if sys.platform != "win32" else ():
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_PATIENCE)
    if sys.platform == "win32":
        process.kill()
        process.wait()
