r"""What is missing and what is unexpected, told together where they may be the same.

Names that differ in one part of them are what most often goes wrong; a rule that would map one to
the other is worth more than two lists.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from difflib import SequenceMatcher
from typing import NamedTuple

from dtype_sampler.weights.problems import excerpt
from dtype_sampler.weights.rules import WeightRenaming

# Each is compared with each.
_MOST = 400
_ALIKE = 0.6
_PART = r"(?<![^.])%s(?![^.])"

Shape = tuple[int, ...]


class Pair(NamedTuple):
    """A missing name, the unexpected key that may be it, and the rule that would map it."""

    missing: str
    key: str
    rule: WeightRenaming

    def __str__(self) -> str:
        return f"{excerpt(self.key)} may be {excerpt(self.missing)}: {self.rule!r}"


def pairs_of(
    missing: Mapping[str, Shape],
    unexpected: Mapping[str, str],
    shape: Callable[[str], Shape | None],
) -> list[Pair]:
    """Missing names and unexpected keys of the same shape, each with the nearest.

    missing: with their shapes. unexpected: key -> the name that the rules made of it. shape: of a
    key; None if it is not known. Rules that map several are preferred.
    """
    by_shape: dict[Shape, list[str]] = {}
    for key in list(unexpected)[:_MOST]:
        found = shape(key)
        if found is not None:
            by_shape.setdefault(found, []).append(key)
    near: list[tuple[float, str, str]] = []
    for name in list(missing)[:_MOST]:
        for key in by_shape.get(missing[name], ()):
            alike = SequenceMatcher(None, name, unexpected[key], autojunk=False).ratio()
            if alike >= _ALIKE:
                near.append((alike, name, key))
    pairs: dict[str, Pair] = {}
    taken: set[str] = set()
    for _, name, key in sorted(near, key=lambda one: (-one[0], one[1], one[2])):
        if name not in pairs and key not in taken:
            taken.add(key)
            pairs[name] = Pair(name, key, rule_for(unexpected[key], name))
    return [pairs[name] for name in missing if name in pairs]


def rule_for(name: str, target: str) -> WeightRenaming:
    """A rename from one name to the other, of the parts in which they differ, for any numbers."""
    here, there = name.split("."), target.split(".")
    start = _common(here, there)
    end = _common(here[start:][::-1], there[start:][::-1])
    before, after = here[start : len(here) - end], there[start : len(there) - end]
    if not before:
        # Something is put in: before what follows, or behind what comes before.
        before = here[start : start + 1] or here[start - 1 : start]
        after = after + before if here[start : start + 1] else before + after
    if not after:
        # Something is taken out, and the dot with it.
        rest = ".".join(before)
        ends = not here[start + len(before) :]
        pattern = rf"\.{re.escape(rest)}$" if ends else rf"(?<![^.]){re.escape(rest)}\."
        return WeightRenaming(pattern, "")
    for numbers in (True, False):
        rule = _general(".".join(before), ".".join(after), numbers=numbers)
        if _renamed(rule, name) == target:
            return rule
    return WeightRenaming(f"^{re.escape(name)}$", target.replace("\\", r"\\"))


def _general(before: str, after: str, *, numbers: bool) -> WeightRenaming:
    pattern, target = re.escape(before), after.replace("\\", r"\\")
    if numbers and re.findall(r"\d+", before) == re.findall(r"\d+", after):
        counted = iter(range(1, 100))
        pattern = re.sub(r"\d+", lambda _: r"(\d+)", pattern)
        target = re.sub(r"\d+", lambda _: rf"\g<{next(counted)}>", target)
    return WeightRenaming(_PART % pattern, target)


def _renamed(rule: WeightRenaming, name: str) -> str:
    return re.sub(rule.pattern, rule.target, name, count=1)


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    count = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        count += 1
    return count
