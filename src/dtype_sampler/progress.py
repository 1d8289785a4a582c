"""A progress bar for work that takes a while: on a terminal only, and gone afterwards."""

from __future__ import annotations

import shutil
import sys
import time
from types import TracebackType
from typing import Self

_REDRAW = 0.1


class Progress:
    """Shows on standard error how far some work is.

    what: a word or two before the bar. shown: False shows nothing; True shows it where standard
    error is a terminal.
    """

    def __init__(self, what: str, *, shown: bool = True) -> None:
        self._what = what
        self._shown = shown and sys.stderr.isatty()
        self._drawn = 0.0

    def at(self, done: int, total: int, now_at: str = "") -> None:
        """Say that *done* of *total* are done. now_at: what is being worked on."""
        if not self._shown:
            return
        now = time.monotonic()
        if now - self._drawn < _REDRAW and done < total:
            return
        self._drawn = now
        width = shutil.get_terminal_size().columns - 1
        counts = f" {done}/{total} "
        room = max(min(40, width - len(self._what) - len(counts) - 2), 0)
        full = room * done // max(total, 1)
        line = f"{self._what}{counts}[{'#' * full}{'.' * (room - full)}] {now_at}"
        sys.stderr.write(f"\r{line[:width].ljust(width)}")
        sys.stderr.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._drawn:
            width = shutil.get_terminal_size().columns - 1
            sys.stderr.write(f"\r{' ' * width}\r")
            sys.stderr.flush()
