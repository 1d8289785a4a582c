"""Where commands write to."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Self

from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.reports.words import visible


class Coloured(str):
    """Text with colours for a terminal, in which nothing else steers it."""

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        """Everything but colours is made visible."""
        parts = re.split("(\033\\[[0-9;]*m)", text)
        return super().__new__(
            cls, "".join(one if place % 2 else visible(one) for place, one in enumerate(parts))
        )


def write(shown: str, output: Path | None) -> None:
    """Write what a command shows to a file, or to standard output. Raises DtypeSamplerError."""
    if output is None:
        try:
            say(shown)
            sys.stdout.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            drop_output()
            raise DtypeSamplerError(f"the output can't be written: {error.strerror}") from None
        return
    try:
        output.write_text(shown, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise DtypeSamplerError(f"{output}: can't be written: {error.strerror}") from None


def can_write(output: Path | None, characters: str) -> bool:
    """Whether these can be written there: a file is UTF-8, standard output may be anything."""
    if output is not None:
        return True
    try:
        characters.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def say(shown: str) -> None:
    """Write to standard output, whatever test keys hold."""
    # Such as what a narrow encoding, as of a pipe on Windows, does not.
    encoding = sys.stdout.encoding or "utf-8"
    plain = shown if isinstance(shown, Coloured) else visible(shown)
    sys.stdout.write(plain.encode(encoding, "backslashreplace").decode(encoding))


def drop_output() -> None:
    """Write to nowhere from here on: whoever read the output has seen enough."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
