"""In which way a cell failed: the type of the exception, and the first line of its message. Pure.

Nothing else of a failure is kept: no traceback, and no values beyond that line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

# Characters of a message, and of the name of a type.
LONGEST = 200
# Of one group of exceptions; more say nothing more.
_MOST = 20
_BETWEEN = " + "


class Failure(NamedTuple):
    """How something failed.

    types: the qualified names of the exceptions, sorted; several where a test failed in several
    ways, such as in its call and in its teardown. Of setup and teardown the name says so:
    `OSError in teardown`. message: the first line of the first one's message.
    """

    types: tuple[str, ...]
    message: str = ""

    @property
    def kind(self) -> str:
        """The types as one text; two failures of one kind are of the same types."""
        return _BETWEEN.join(self.types)

    @classmethod
    def of(cls, kind: str, message: str) -> Failure:
        """The failure that `kind` and `message` are of."""
        return cls(tuple(kind.split(_BETWEEN)), message)

    def beside(self, other: Failure | None) -> Failure:
        """This one and another, later one of the same cell."""
        if other is None:
            return self
        types = tuple(sorted({*self.types, *other.types}))
        return Failure(types, self.message or other.message)

    def like(self, known: Failure) -> bool:
        """Whether it is of no other type than one that is known."""
        return bool(self.types) and set(self.types) <= set(known.types)

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}" if self.message else self.kind


# xdist and pytest-forked tell of a process that died.
CRASH = Failure(("crashed",))


def failure_of(error: BaseException, when: str = "call") -> Failure:
    """The failure that an exception is; of a group of exceptions, those in it.

    when: `setup`, `call` or `teardown`.
    """
    leaves = list(_leaves(error))
    types = sorted({_name_of(type(one)) for one in leaves})
    return _in_phase(types[:_MOST], _message_of(leaves[0]), when)


def failure_without(words: str, when: str = "call") -> Failure:
    """The failure of a test that raised nothing, such as an xfail that is strict and passed.

    words: what pytest says of it; what it is called stands in brackets at the beginning.
    """
    match = re.match(r"\[([A-Za-z()]+)\]\s*", words)
    name, message = (match[1], words[match.end() :]) if match else ("failed", words)
    return _in_phase([name], _first_line(message), when)


def _in_phase(names: Iterable[str], message: str, when: str) -> Failure:
    behind = "" if when == "call" else f" in {when}"
    return Failure(tuple(f"{name}{behind}" for name in names), message)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _leaves(one)
    else:
        yield error


def _name_of(kind: type[BaseException]) -> str:
    """The qualified name, as Python's own tracebacks have it."""
    module, name = str(kind.__module__), kind.__qualname__
    full = name if module in ("builtins", "__main__") else f"{module}.{name}"
    # A class may be called anything: no space, so that the texts around it can be told from it.
    return "".join(_plain(full).split())[:LONGEST] or "?"


def _message_of(error: BaseException) -> str:
    try:
        return _first_line(str(error))
    except Exception:  # noqa: BLE001  # of the exception's own __str__: any may come
        return ""


def _first_line(words: str) -> str:
    lines = (_plain(line).strip() for line in words.splitlines())
    return next((line for line in lines if line), "")[:LONGEST].rstrip()


def _plain(words: str) -> str:
    """Text that can be written, and in which nothing steers a terminal."""
    words = words[: 10 * LONGEST].encode(errors="backslashreplace").decode()
    return "".join(one if one.isprintable() else " " for one in words)
