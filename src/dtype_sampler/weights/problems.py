"""What can be wrong with a load, and how it is told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

_SHOWN = 80


class Unexpected(NamedTuple):
    """A key of the checkpoint for which the model has no place; name: what the rules made of it."""

    key: str
    name: str

    def __str__(self) -> str:
        renamed = f" (renamed {excerpt(self.name)})" if self.name != self.key else ""
        return f"{excerpt(self.key)}{renamed}"


class Mismatch(NamedTuple):
    """A tensor whose shape is another in the model than in the checkpoint."""

    target: str
    checkpoint: tuple[int, ...]
    model: tuple[int, ...]

    def __str__(self) -> str:
        here, there = list(self.checkpoint), list(self.model)
        return f"{self.target}: {here} in the checkpoint, {there} in the model"


class Collision(NamedTuple):
    """Several sources for one target. target: several, with commas, if a group is for them all."""

    target: str
    keys: tuple[str, ...]

    def __str__(self) -> str:
        return f"{excerpt(self.target)}: from {' and '.join(map(excerpt, self.keys))}"


class Incomplete(NamedTuple):
    """A group of which tensors are missing. keys: those that are there."""

    targets: tuple[str, ...]
    gaps: tuple[str, ...]
    keys: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{', '.join(map(excerpt, self.targets))}: {'; '.join(self.gaps)}"


class Problem(NamedTuple):
    """Anything else, and where."""

    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


def excerpt(text: str) -> str:
    """A key as it can be shown: what a file holds may be long, and may hold control characters."""
    shown = text if len(text) <= _SHOWN else f"{text[: _SHOWN - 20]}...{text[-17:]}"
    return shown if shown.isprintable() else ascii(shown)[1:-1]


def table(head: Sequence[str], rows: Sequence[Sequence[str]], width: int | None = None) -> str:
    """Rows of text under a head, in columns; two lines a row if they don't fit into *width*."""
    shown = [[one if one.isprintable() else ascii(one)[1:-1] for one in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(head, *shown, strict=True)]
    if width is not None and sum(widths) + 2 * len(widths) - 2 > width:
        return "".join(
            f"{row[0]}\n  -> {row[2]}{f'  (rule {row[1]})' if row[1] else ''}\n" for row in shown
        )
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in (head, *shown)]
    return "\n".join(lines) + "\n"
