"""A regular expression, read as a tree.

Python's own parser of patterns is private, so this one is our own, and it may not understand
everything: then there is no tree.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

# The digits of ASCII alone, as Python reads it: `x{٣}` is text.
_COUNTS = re.compile(r"\{([0-9]*)(,?)([0-9]*)\}")
_FLAGS = re.compile(r"\?([aiLmsux]*)(?:-([imsx]+))?([:)])")
_NAMED = re.compile(r"\?P<([^>]*)>")
_LOOK = ("?=", "?!", "?<=", "?<!")
_COMMENT = re.compile(r"\(\?#[^)]*\)")
_SPACE = re.compile(r"(?:[ \t\n\r\v\f]|#[^\n]*)+")


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
