"""What a plan is: which key goes where, and what is wrong."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from dtype_sampler.weights.problems import (
    Collision,
    Incomplete,
    Problem,
    Unexpected,
    excerpt,
    table,
)
from dtype_sampler.weights.rules import Rule, WeightConverter


@dataclass(frozen=True, slots=True)
class Numbered:
    r"""The names of a target that holds `\g<index>`: one for each tensor that comes out."""

    before: str
    after: str
    finish: Callable[[str], str] | None = None

    def name(self, index: int | str) -> str:
        """The name of the tensor with this number."""
        name = f"{self.before}{index}{self.after}"
        return self.finish(name) if self.finish else name


@dataclass(frozen=True, slots=True)
class Group:
    """One use of a converter.

    columns: for each of its sources the keys gathered, in the order of their index. targets: for
    each of its targets the names; None where the model has no such name, and then the tensor is
    left out. A `Numbered` stands for as many names as tensors come out.
    """

    converter: WeightConverter
    columns: tuple[tuple[str, ...], ...]
    targets: tuple[tuple[str | None, ...] | Numbered, ...]

    @property
    def keys(self) -> list[str]:
        """All keys that are gathered."""
        return [key for column in self.columns for key in column]

    @property
    def names(self) -> list[str]:
        """All names that are known before the tensors are."""
        fixed = (names for names in self.targets if not isinstance(names, Numbered))
        return [name for names in fixed for name in names if name is not None]


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """What `plan_load` found: where each key goes, and what is wrong.

    direct: target -> key, for tensors that only change their name, or not even that; there is no
    rule object for them. groups: the uses of converters. missing_keys: targets that get nothing.
    unexpected_keys: keys without a target. compile_count: how many patterns this plan had to
    compile; those that the process knew already, and those never needed, are not among them.
    """

    direct: Mapping[str, str]
    groups: Sequence[Group]
    missing_keys: Sequence[str]
    unexpected_keys: Sequence[Unexpected]
    collisions: Sequence[Collision]
    incomplete: Sequence[Incomplete]
    errors: Sequence[Problem]
    compile_count: int
    rules: Sequence[Rule] = field(repr=False)
    applied: Mapping[str, tuple[int, ...]] = field(repr=False)

    @property
    def unused_rules(self) -> list[Rule]:
        """The rules that matched no key."""
        used = self._used()
        return [rule for number, rule in enumerate(self.rules) if number not in used]

    def describe(self, width: int | None = None) -> str:
        """Source, rule and target of every key, as a table of text, and the rules below.

        width: of the terminal, in columns; a table that is wider has two lines a row instead.
        """
        rows = [
            (key, self._numbers(key), target)
            for key, target in sorted(self._pairs(), key=lambda pair: _natural(pair[0]))
        ]
        parts = [table(("source", "rule", "target"), rows, width=width)]
        if self.rules:
            used = self._used()
            parts.append(
                "".join(
                    f"rule {number}: {rule!r}{'' if number - 1 in used else ' (matched nothing)'}\n"
                    for number, rule in enumerate(self.rules, 1)
                )
            )
        parts += (
            f"{what}:\n{problems}"
            for what, problems in (
                ("missing", "".join(f"  {excerpt(key)}\n" for key in self.missing_keys)),
                *(
                    (what, "".join(f"  {problem}\n" for problem in problems))
                    for what, problems in (
                        ("collisions", self.collisions),
                        ("incomplete", self.incomplete),
                        ("errors", self.errors),
                    )
                ),
            )
            if problems
        )
        return "\n".join(parts)

    def _used(self) -> set[int]:
        return {number for numbers in self.applied.values() for number in numbers}

    def _pairs(self) -> Iterator[tuple[str, str]]:
        for target, key in self.direct.items():
            yield key, target
        for group in self.groups:
            names = [
                names.name("*") if isinstance(names, Numbered) else ", ".join(filter(None, names))
                for names in group.targets
            ]
            for key in group.keys:
                yield key, ", ".join(filter(None, names))
        for one in self.unexpected_keys:
            yield one.key, f"(unexpected: {one.name})" if one.name != one.key else "(unexpected)"
        for collision in self.collisions:
            for key in collision.keys:
                yield key, f"(collision: {collision.target})"
        for lacking in self.incomplete:
            for key in lacking.keys:
                yield key, f"(incomplete: {', '.join(lacking.targets)})"

    def _numbers(self, key: str) -> str:
        return ", ".join(str(number + 1) for number in self.applied.get(key, ()))


def _natural(text: str) -> list[tuple[int, int, str]]:
    """Sort 10 after 9."""
    parts = re.split(r"([0-9]{1,18})", text)
    return [(1, int(part), "") if odd % 2 else (0, 0, part) for odd, part in enumerate(parts)]
