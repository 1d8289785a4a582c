"""What a regular expression demands, found without compiling it, and the one place that compiles.

A rule of a mapping matches few of a checkpoint's keys. Most keys lack a piece of text that the
pattern requires, and `text in key` is many times cheaper than a search: so patterns are read here
for such a text, and are compiled when a key has it for the first time. Python's own parser of
patterns is private, so this one is our own, and it may not understand everything: then there is
no required text, and every key is searched.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from threading import Lock

# A repeat that may go on for longer than this counts as open.
_OPEN = 10
_COUNTS = re.compile(r"\{(\d*)(,?)(\d*)\}")
_FLAGS = re.compile(r"\?([aiLmsux]*)(?:-([imsx]+))?([:)])")
_SPECIAL = re.compile(r"[\\\[\](){}*+?|^$]")
_NAMED = re.compile(r"\?P<([^>]*)>")
_LOOK = ("?=", "?!", "?<=", "?<!")
_VERBOSE_NESTED = re.compile(r"\)\s*[*+{]")

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
    """

    kind: str
    text: str
    branches: tuple[tuple[Atom, ...], ...] = ()
    captures: bool = False
    name: str | None = None
    atomic: bool = False
    least: int = 1
    most: float = 1
    possessive: bool = False

    @property
    def open(self) -> bool:
        """Whether it repeats as often as it likes, and gives back what it took."""
        return self.most > _OPEN and not self.possessive

    @property
    def has_choice(self) -> bool:
        """Whether the engine can come back to it and try another way."""
        if self.least != self.most and not self.possessive:
            return True
        if self.atomic or self.kind == "look" or self.possessive:
            return False
        return len(self.branches) > 1 or any(
            atom.has_choice for branch in self.branches for atom in branch
        )


@dataclass(frozen=True, slots=True)
class Traits:
    r"""What is known of a pattern before it is compiled.

    literal: a text that is in every string the pattern matches; empty if none is known. nested:
    whether an open repeat holds something with a choice of its own, as in `(\w+)*`, so that a
    search may take time that doubles with every character. opens: how many open repeats there are.
    """

    literal: str
    nested: bool
    opens: int


@lru_cache(maxsize=4096)
def traits(pattern: str) -> Traits:
    """Read a pattern's traits, once per process. What is no pattern has none."""
    if not _SPECIAL.search(pattern):
        # A name as it is, whose dots stand for any character: many rules have no more than that.
        return Traits(max(pattern.split("."), key=len), nested=False, opens=0)
    parsed = parse(pattern)
    if parsed is None:
        return Traits("", _VERBOSE_NESTED.search(pattern) is not None, pattern.count("*"))
    atoms = [atom for branch in parsed.branches for atom in _walk(branch)]
    return Traits(
        literal=_required(parsed.branches) if parsed.literal else "",
        # Of the group alone: that it repeats is what makes its choices matter.
        nested=any(atom.open and replace(atom, least=1, most=1).has_choice for atom in atoms),
        opens=sum(atom.open for atom in atoms),
    )


def _walk(branch: Sequence[Atom]) -> Iterator[Atom]:
    for atom in branch:
        yield atom
        for inner in atom.branches:
            yield from _walk(inner)


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
    parsed: _Parsed = field(default_factory=_Parsed)

    def alternation(self, depth: int) -> tuple[tuple[Atom, ...], ...]:
        branches: list[list[Atom]] = [[]]
        while self.at < len(self.pattern):
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
        if self.pattern.startswith("?#", self.at):
            self.at = self.pattern.index(")", self.at) + 1
            return None
        kind, captures, name, atomic = "group", True, None, False
        if self.pattern[self.at] == "?":
            captures = False
            if flags := _FLAGS.match(self.pattern, self.at):
                if "x" in flags[1]:
                    raise _NotUnderstoodError
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
                kind = "look"
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
        # Past the end if the bracket is not closed.
        if self.pattern[self.at] != ")":
            raise _NotUnderstoodError
        self.at += 1
        return Atom(kind, body, branches, captures, name, atomic)

    def _quantified(self, atom: Atom) -> Atom:
        least, most, after = 1, 1.0, self.at
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
