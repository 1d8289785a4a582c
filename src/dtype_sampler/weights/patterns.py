"""What a regular expression demands, found without compiling it, and the one place that compiles.

A rule of a mapping matches few of a checkpoint's keys. Most keys lack a piece of text that the
pattern requires, and `text in key` is many times cheaper than a search: so patterns are read here
for such a text, and are compiled when a key has it for the first time. Python's own parser of
patterns is private, so this one is our own, and it may not understand everything: then there is
no required text, and every key is searched.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from math import gamma, log2
from threading import Lock
from typing import NamedTuple

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
# The digits of ASCII alone, as Python reads it: `x{٣}` is text.
_COUNTS = re.compile(r"\{([0-9]*)(,?)([0-9]*)\}")
_FLAGS = re.compile(r"\?([aiLmsux]*)(?:-([imsx]+))?([:)])")
_NAMED = re.compile(r"\?P<([^>]*)>")
_LOOK = ("?=", "?!", "?<=", "?<!")
_COMMENT = re.compile(r"\(\?#[^)]*\)")
_SPACE = re.compile(r"(?:[ \t\n\r\v\f]|#[^\n]*)+")

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


@dataclass(frozen=True, slots=True)
class Atom:
    """One element of a pattern, with its quantifier.

    kind: `literal`, `group`, `look` (around), `anchor` or `other`. text: the character that a
    literal stands for; the pattern's own text of anything else, of a group without its brackets.
    negative, behind: of a look around.
    """

    kind: str
    text: str
    branches: tuple[tuple[Atom, ...], ...] = ()
    captures: bool = False
    name: str | None = None
    atomic: bool = False
    negative: bool = False
    behind: bool = False
    least: int = 1
    most: float = 1
    possessive: bool = False


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


@dataclass(slots=True)
class _Parsed:
    branches: tuple[tuple[Atom, ...], ...] = ()
    # Whether what looks like a literal is one, to the letter.
    literal: bool = True
    # Whether flags say how it is to be read.
    flags: bool = False


class _NotUnderstoodError(Exception):
    pass


def parse(pattern: str) -> _Parsed | None:
    """The pattern as a tree; None if it is not understood to the end."""
    reader = _Reader(pattern)
    try:
        reader.parsed.branches = reader.alternation(depth=0)
    except (_NotUnderstoodError, IndexError, ValueError, RecursionError):
        return None
    return reader.parsed if reader.at == len(pattern) else None


@dataclass(slots=True)
class _Reader:
    pattern: str
    at: int = 0
    verbose: bool = False
    parsed: _Parsed = field(default_factory=_Parsed)

    def alternation(self, depth: int) -> tuple[tuple[Atom, ...], ...]:
        branches: list[list[Atom]] = [[]]
        while self._skip() < len(self.pattern):
            character = self.pattern[self.at]
            if character == ")":
                if not depth:
                    raise _NotUnderstoodError
                break
            if character == "|":
                self.at += 1
                branches.append([])
                continue
            atom = self._atom(depth)
            if atom is not None:
                branches[-1].append(self._quantified(atom))
        return tuple(map(tuple, branches))

    def _skip(self) -> int:
        """Go past comments, which may stand between an atom and its quantifier."""
        while (found := _COMMENT.match(self.pattern, self.at)) or (
            self.verbose and (found := _SPACE.match(self.pattern, self.at))
        ):
            self.at = found.end()
        return self.at

    def _atom(self, depth: int) -> Atom | None:
        start, character = self.at, self.pattern[self.at]
        self.at += 1
        if character == "\\":
            return self._escape()
        if character == "[":
            self._skip_class()
            return Atom("other", self.pattern[start : self.at])
        if character == "(":
            return self._group(depth)
        if character in "^$":
            return Atom("anchor", character)
        if character == ".":
            return Atom("other", character)
        if character in "*+?":
            raise _NotUnderstoodError
        return Atom("literal", character)

    def _escape(self) -> Atom:
        start, character = self.at - 1, self.pattern[self.at]
        self.at += 1
        if not character.isalnum():
            return Atom("literal", character)
        if character in "AZbB":
            return Atom("anchor", "\\" + character)
        if character.isdigit():
            while self.at - start < 4 and self.pattern[self.at : self.at + 1].isdigit():
                self.at += 1
        elif character not in "dDsSwWnrtfva":
            # A character by its number or name, of which more follows.
            self.parsed.literal = False
        return Atom("other", self.pattern[start : self.at])

    def _skip_class(self) -> None:
        if self.pattern[self.at] == "^":
            self.at += 1
        # As the first one, a bracket is a member.
        first = self.at
        while self.pattern[self.at] != "]" or self.at == first:
            self.at += 2 if self.pattern[self.at] == "\\" else 1
        self.at += 1

    def _group(self, depth: int) -> Atom | None:
        verbose = self.verbose
        kind, captures, name, atomic, around = "group", True, None, False, ""
        if self.pattern[self.at] == "?":
            captures = False
            if flags := _FLAGS.match(self.pattern, self.at):
                self.parsed.flags |= flags[0] != "?:"
                self.verbose = ("x" in flags[1] or verbose) and "x" not in (flags[2] or "")
                if "i" in flags[1] or "i" in (flags[2] or ""):
                    self.parsed.literal = False
                self.at = flags.end()
                if flags[3] == ")":
                    return None
            elif named := _NAMED.match(self.pattern, self.at):
                captures, name = True, named[1]
                self.at = named.end()
            elif self.pattern.startswith("?>", self.at):
                atomic = True
                self.at += 2
            elif look := next((s for s in _LOOK if self.pattern.startswith(s, self.at)), None):
                kind, around = "look", look
                self.at += len(look)
            elif self.pattern.startswith("?P=", self.at):
                kind = "other"
                self.at = self.pattern.index(")", self.at)
            elif self.pattern.startswith("?(", self.at):
                # A condition, of which one case or the other must match: no text is required.
                kind = "other"
                self.at = self.pattern.index(")", self.at) + 1
            else:
                raise _NotUnderstoodError
        start = self.at
        branches = self.alternation(depth + 1)
        body = self.pattern[start : self.at]
        if self.at == len(self.pattern):
            raise _NotUnderstoodError
        self.at += 1
        self.verbose = verbose
        return Atom(kind, body, branches, captures, name, atomic, "!" in around, "<" in around)

    def _quantified(self, atom: Atom) -> Atom:
        least, most, after = 1, 1.0, self._skip()
        character = self.pattern[self.at : self.at + 1]
        if character and character in "*+?":
            least, most = int(character == "+"), 1.0 if character == "?" else float("inf")
            after += 1
        elif (counts := _COUNTS.match(self.pattern, self.at)) and counts[0] != "{}":
            least = int(counts[1] or 0)
            most = float(counts[3] or "inf") if counts[2] else float(least)
            after = counts.end()
        if after == self.at:
            return atom
        self.at = after
        mode = self.pattern[self.at : self.at + 1]
        if mode and mode in "?+":
            self.at += 1
        return replace(atom, least=least, most=most, possessive=mode == "+")
