"""Searches for patterns in keys that come from files: behind a text, and within a time."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable
from functools import cache
from time import thread_time as _processor_time
from typing import NoReturn

from dtype_sampler.weights.patterns import compiled, is_compiled, longest, required, steps
from dtype_sampler.weights.problems import excerpt
from dtype_sampler.weights.rules import Rule, RuleError

MAX_KEY = 4096
# Processor time that all searches of a plan may take, in seconds, and for each key. No single one
# takes longer than a second or two: see `patterns.longest`.
_SECONDS = 5.0
_SECONDS_A_KEY = 0.0005
# Searches of so few steps are bounded by the number of keys and rules alone.
_FEW_STEPS = 2**12
_FASTER = r"Make what is inside possessive, `(?:\w++)*`, or atomic, `(?>a|b)+`"


class RefusedKeyError(Exception):
    """A key that can't be planned for."""


@cache
def _short(pattern: str) -> int:
    """How long a key may be for a search of few steps."""
    return bisect_right(range(MAX_KEY), _FEW_STEPS, key=lambda length: steps(pattern, length)) - 1


class Gate:
    """A pattern behind the text that it requires."""

    __slots__ = (
        *("active", "literal", "longest", "number", "pattern", "rule", "scope", "search", "short"),
        *("source", "taken"),
    )

    def __init__(self, rule: Rule, pattern: str, number: int, source: int = 0) -> None:
        self.rule = rule
        self.pattern = pattern
        # Which of all rules, and which of its sources.
        self.number = number
        self.source = source
        # Without one it is empty, which is in every key.
        self.literal = required(pattern)
        # Of which submodel's names alone, and whether its condition holds.
        self.scope = rule.scope
        self.active = True
        self.longest = 0
        # How long a key may be for few steps, and how many seconds all others took.
        self.short = 0
        self.taken = 0.0
        self.search: Callable[[str], re.Match[str] | None] | None = None


class Searches:
    """All searches of one plan. keys: how many there were so far."""

    def __init__(self) -> None:
        self.compile_count = 0
        self.keys = 0
        self.taken = 0.0
        self._timed: set[Gate] = set()

    def search(self, gate: Gate, name: str) -> re.Match[str] | None:
        """The first match. Raises RefusedKeyError and RuleError for what would take too long."""
        if gate.search is None:
            gate.search = self._compile(gate, name)
        if len(name) > gate.longest:
            raise RefusedKeyError(
                f"the key has {len(name)} characters: a search for {gate.pattern!r} of"
                f" {gate.rule!r} may take too long beyond {gate.longest}. {_FASTER}"
            )
        if len(name) <= gate.short:
            return gate.search(name)
        start = _processor_time()
        match = gate.search(name)
        taken = _processor_time() - start
        self._timed.add(gate)
        gate.taken += taken
        self.taken += taken
        if self.taken > _SECONDS + _SECONDS_A_KEY * self.keys:
            self._too_long(name)
        return match

    def _too_long(self, name: str) -> NoReturn:
        slowest = max(self._timed, key=lambda one: one.taken)
        raise RuleError(
            f"{slowest.rule!r}: {excerpt(name)}: searches for the pattern {slowest.pattern!r} have"
            f" taken {slowest.taken:.1f} s for {self.keys} keys, and that is too long. Say more of"
            " what it repeats, such as `[^.]+` for `.+`, or let it begin with `^`"
        )

    def _compile(self, gate: Gate, name: str) -> Callable[[str], re.Match[str] | None]:
        self.compile_count += not is_compiled(gate.pattern)
        try:
            search = compiled(gate.pattern).search
        except (re.error, OverflowError, RecursionError) as error:
            raise RuleError(f"{gate.rule!r}: the pattern {gate.pattern!r}: {error}") from None
        # Keys come from files that nobody vouches for.
        gate.longest = longest(gate.pattern)
        gate.short = _short(gate.pattern) if gate.longest else 0
        if not gate.longest:
            raise RuleError(
                f"{gate.rule!r}: {excerpt(name)}: the pattern {gate.pattern!r} repeats what repeats"
                f" or has a choice, for which some keys take for ever. {_FASTER}"
            )
        return search
