"""Where commands write to."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Self

from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.ledger.secrets import redacted_word
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
        say(shown)
        finish()
        return
    try:
        output.write_text(shown, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise _unwritten(output, error) from None


def write_lines(lines: Iterable[str], output: Path | None) -> None:
    """Write lines of ASCII as they come, with their ends. Raises DtypeSamplerError."""
    if output is None:
        with _standard_output():
            sys.stdout.writelines(lines)
            sys.stdout.flush()
        return
    with binary(output) as file:
        file.writelines(line.encode() for line in lines)


@contextmanager
def binary(output: Path | None) -> Iterator[IO[bytes]]:
    """A place to write to: a file, or standard output. Raises DtypeSamplerError.

    A file is there whole or not at all: until all is written, what was there before stays.
    """
    if output is None:
        with _standard_output():
            yield sys.stdout.buffer
            sys.stdout.flush()
        return
    try:
        # A pipe or a device is what it is, and stays. What `/dev/stdout` leads to then has no name.
        if output.exists() and not output.is_file():
            with output.open("wb") as file:
                yield file
            return
        # What a link leads to.
        place = output.resolve()
        part = place.with_name(f"{place.name}.{os.getpid()}.part")
        try:
            with part.open("wb") as file:
                yield file
            part.replace(place)
        finally:
            with suppress(OSError):
                part.unlink()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _unwritten(output, error) from None


def _unwritten(output: Path, error: OSError) -> DtypeSamplerError:
    # It may be a URL that was meant for another option.
    name = redacted_word(str(output))
    return DtypeSamplerError(f"{name}: can't be written: {error.strerror or type(error).__name__}")


@contextmanager
def _standard_output() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        drop_output()
        raise DtypeSamplerError(f"the output can't be written: {error.strerror}") from None


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
    with _standard_output():
        sys.stdout.write(plain.encode(encoding, "backslashreplace").decode(encoding))


def finish() -> None:
    """See that all has been written. Raises DtypeSamplerError."""
    with _standard_output():
        sys.stdout.flush()


def open_what_is_closed() -> None:
    """Where somebody has closed what we write to, write to nowhere: Python has nothing there then,
    and the next file that is opened, as a ledger, would take its place.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            nowhere = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  # to the end
            setattr(sys, name, nowhere)


def drop_output() -> None:
    """Write to nowhere from here on: whoever read the output has seen enough."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
