"""What a regular expression demands, found without compiling it, and the one place that compiles.

A rule of a mapping matches few of a checkpoint's keys. Most keys lack a piece of text that the
pattern requires, and `text in key` is many times cheaper than a search: so patterns are read here
for such a text, and are compiled when a key has it for the first time. Where `syntax` does not
understand a pattern there is no required text, and every key is searched.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from math import gamma, log2
from threading import Lock
from typing import NamedTuple

from dtype_sampler.weights.syntax import Atom, parse

# A repeat that may go on for longer than this counts as open.
_OPEN = 10
# What most patterns are: text, classes and plain groups. Their text is found at once.
_PLAIN = re.compile(r"\^?(?:[A-Za-z0-9_/-]|\\[._/-]|\\[dw]\+?|\.\+?|\((?!\?)|\))*\$?")
_PIECES = re.compile(r"((?:[A-Za-z0-9_/-]|\\[._/-])+)|\\[dw]|[.^$()+]")
_TEXT = re.compile(r"(?:[A-Za-z0-9_/-]|\\[._/-])+")
# So many steps of the engine, as a power of two, take a second or two.
_MAX_CHOICES = 25
_MAX_POWER = 32
_UNTOLD = 1 << 30
_MAX_LENGTH = 2**16

_compiled: dict[str, re.Pattern[str]] = {}
_compiling = Lock()


def compiled(pattern: str) -> re.Pattern[str]:
    """The pattern, compiled once per process; `re` itself forgets all but the last 512.

    Raises re.error for what is no pattern.
    """
    found = _compiled.get(pattern)
    if found is None:
        with _compiling:
            found = _compiled.get(pattern)
            if found is None:
                found = _compiled[pattern] = re.compile(pattern)
    return found


def is_compiled(pattern: str) -> bool:
    """Whether this process has needed the pattern yet."""
    return pattern in _compiled


@cache
def required(pattern: str) -> str:
    """A text that is in every string the pattern matches; empty if none is known.

    Read once per process, and never compiled for it. What is no pattern requires nothing.
    """
    if _PLAIN.fullmatch(pattern):
        pieces = [piece.replace("\\", "") for piece in _PIECES.findall(pattern)]
        return max(pieces, key=len, default="")
    parsed = parse(pattern)
    return _required(parsed.branches) if parsed is not None and parsed.literal else ""


@cache
def longest(pattern: str) -> int:
    r"""How long a string may be for a search to end within seconds, whatever the string.

    0 if that can't be told, as of `(\w+)*`, where the time may double with every character, or of
    what is not understood.
    """
    return _bound(*_cost(pattern))


def steps(pattern: str, length: int) -> int:
    """How many steps a search of a string of that length may take, whatever the string.

    For a pattern whose steps can be told: see `longest`.
    """
    power, choices = _cost(pattern)
    # Repeats share the string's length, which makes the steps fewer by the factorial.
    return int(2**choices * max(length, 1) ** power / gamma(power + 1)) + length


@cache
def _cost(pattern: str) -> tuple[int, float]:
    """Power and choices of the steps that a search takes; a power of `_UNTOLD` if any number."""
    if pattern.count("+") < 2 and _PLAIN.fullmatch(pattern):
        # From where its text is found, one repeat: reading it would take longer than compiling it.
        return (1 if _starts_with_text(pattern) else 2), 0.0
    parsed = parse(pattern)
    if parsed is None:
        return _UNTOLD, 0.0
    counted = _growth(parsed.branches, ()).steps
    power, choices = counted.power, counted.choices
    first = next((atom.text for branch in parsed.branches for atom in branch), "")
    if len(parsed.branches) > 1 or parsed.flags or first not in ("^", "\\A"):
        # It may begin anywhere.
        power += 1
    return power, choices


def _starts_with_text(pattern: str) -> bool:
    """Whether a plain pattern starts with a text that what it repeats can't go past.

    Then no place of a string is gone over twice, however often the text is in it.
    """
    text = (found[0] if (found := _TEXT.match(pattern)) else "").replace("\\", "")
    if "\\d+" in pattern:
        return any(not one.isdecimal() for one in text)
    if "\\w+" in pattern:
        return any(not (one.isalnum() or one == "_") for one in text)
    return bool(text) and "+" not in pattern


def _bound(power: int, choices: float) -> int:
    if power > _MAX_POWER or choices > _MAX_CHOICES:
        return 0
    if not power:
        return _MAX_LENGTH
    most = 2 ** (_MAX_CHOICES - choices) * gamma(power + 1)
    return int(min(_MAX_LENGTH, most ** (1 / power)))


class _Count(NamedTuple):
    """At most `2**choices * n**power`, for a string of n characters."""

    power: int = 0
    choices: float = 0.0

    def times(self, other: _Count, exponent: float = 1) -> _Count:
        return _Count(
            self.power + int(exponent) * other.power, self.choices + exponent * other.choices
        )

    def most(self, other: _Count) -> _Count:
        return _Count(max(self.power, other.power), max(self.choices, other.choices))


class _Growth(NamedTuple):
    """How much there is to try: the ways to match from one place on, and the steps to try all."""

    ways: _Count = _Count()
    steps: _Count = _Count()


_FOREVER = _Count(_UNTOLD)


def _growth(branches: Sequence[Sequence[Atom]], after: Sequence[Atom] | None) -> _Growth:
    """after: what the match goes on with; None if that can't be told."""
    ways = steps = _Count()
    for branch in branches:
        ways_here = steps_here = _Count()
        for at, atom in enumerate(branch, 1):
            of = _growth_of(atom, _next(branch[at:], after))
            steps_here = steps_here.most(ways_here.times(of.steps))
            ways_here = ways_here.times(of.ways)
        ways, steps = ways.most(ways_here), steps.most(steps_here)
    choices = _Count(choices=log2(len(branches) or 1))
    return _Growth(ways.times(choices), steps.times(choices))


def _growth_of(atom: Atom, after: Sequence[Atom] | None) -> _Growth:
    inner = after
    if atom.kind == "look" or atom.atomic:
        inner = ()
    elif atom.most > 1:
        again = _next(atom.branches[0], None) if len(atom.branches) == 1 else None
        inner = None if again is None or after is None else (*again, *after)
    ways, steps = _growth(atom.branches, inner)
    # What ends a match, or a part of it that counts as a whole, is not come back to.
    if inner == ():
        ways = _Count()
    if atom.most > _OPEN:
        steps = steps.times(_Count(1))
        if atom.possessive:
            return _Growth(_Count(), steps)
        if ways != _Count():
            return _Growth(_FOREVER, _FOREVER)
        return _Growth(_Count(0 if _ends_before(atom, after) else 1), steps)
    lengths = _Count(choices=log2(max(atom.most - atom.least, 0) + 1))
    steps = lengths.times(steps).times(ways, max(atom.most - 1, 0))
    return _Growth(_Count() if atom.possessive else lengths.times(ways, atom.most), steps)


def _next(atoms: Sequence[Atom], after: Sequence[Atom] | None) -> Sequence[Atom] | None:
    """The atoms of which one must match next; none at the end; None if that can't be told."""
    if not atoms:
        return after
    first = atoms[0]
    if first.least and first.kind == "literal":
        return (first,)
    if first.least and first.kind == "group":
        found = [_next(branch, None) for branch in first.branches]
        return None if None in found else [atom for atoms in found for atom in atoms or ()]
    return None


def _ends_before(atom: Atom, after: Sequence[Atom] | None) -> bool:
    r"""Whether a repeat has one end only, as that of `\d+\.` has, because no digit is a dot."""
    if after is None or atom.branches:
        return after == ()
    texts = [one.text for one in after]
    if atom.text in (r"\d", "[0-9]"):
        return not any(text.isdecimal() for text in texts)
    if atom.text == r"\w":
        return not any(text.isalnum() or text == "_" for text in texts)
    return all(atom.text in (f"[^{text}]", rf"[^\{text}]") for text in texts)


def _required(branches: Sequence[Sequence[Atom]]) -> str:
    if len(branches) != 1:
        return ""
    found, run = "", ""
    for atom in branches[0]:
        if atom.kind == "literal" and atom.least >= 1:
            run += atom.text
            found = max(found, run, key=len)
            # `ab+c` requires `ab` and `bc`, but not `abc`.
            if atom.most > 1:
                run = atom.text
            continue
        if atom.kind == "group" and atom.least >= 1:
            found = max(found, _required(atom.branches), key=len)
        run = ""
    return found
