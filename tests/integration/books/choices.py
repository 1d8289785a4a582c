"""What decides where there is a choice: Hypothesis, which shrinks what it finds, or a seed alone.

What Hypothesis draws for a seed differs from one of its versions to the next, and with constants
that it meets in the code. So what the suite itself runs hangs on nothing but a number, and is the
same on every machine.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

from hypothesis import strategies as st

T = TypeVar("T")


class Choices:
    """All choices come from one: of an integer."""

    def integer(self, least: int, most: int) -> int:
        """One of these, both ends included."""
        raise NotImplementedError

    def pick(self, some: Sequence[T]) -> T:
        """One of them."""
        return some[self.integer(0, len(some) - 1)]

    def several(self, some: Sequence[T], least: int, most: int) -> list[T]:
        """So many of them, which may be alike."""
        return [self.pick(some) for _ in range(self.integer(least, most))]

    def shuffled(self, some: Sequence[T]) -> list[T]:
        """All of them, in some order."""
        left = list(some)
        return [left.pop(self.integer(0, len(left) - 1)) for _ in some]


class Drawn(Choices):
    """By Hypothesis."""

    def __init__(self, data: st.DataObject) -> None:
        self._data = data

    def integer(self, least: int, most: int) -> int:
        return self._data.draw(st.integers(least, most))


class Seeded(Choices):
    """By a seed: `random()` of one seed is a promise of Python's, for all versions."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)

    def integer(self, least: int, most: int) -> int:
        return least + int(self._random.random() * (most - least + 1))
