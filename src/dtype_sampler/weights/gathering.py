"""Keys that one converter takes together: a group is gathered, and judged when all keys are in."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from dtype_sampler.weights.gates import Gate
from dtype_sampler.weights.patterns import compiled
from dtype_sampler.weights.planned import Group, Numbered
from dtype_sampler.weights.problems import Collision, Incomplete
from dtype_sampler.weights.rules import INDEX, SLOT, WeightConverter

_SHOWN_GAPS = 8


class Gathering:
    """A group that is being gathered."""

    __slots__ = ("columns", "converter", "more", "numbered", "targets")

    def __init__(
        self,
        match: re.Match[str],
        gate: Gate,
        targets: tuple[tuple[str | None, ...] | Numbered, ...] | None,
    ) -> None:
        assert isinstance(gate.rule, WeightConverter)
        self.converter = gate.rule
        # Whether the index is in the name of what is gathered, which then has one tensor a source.
        index = match.re.groupindex.get(INDEX)
        written = (SLOT, rf"\g<{index}>", f"\\{index}")
        self.numbered = any(text in self.converter.targets[0] for text in written)
        # None if the model has none of them.
        self.targets = targets
        # Of most there is one key a source, of index 0, which stands for itself.
        self.columns: list[str | dict[int, str] | None] = [None] * len(gate.rule.sources)
        # Keys for a place that another has taken.
        self.more: tuple[str, ...] = ()

    def add(self, source: int, index: int, key: str) -> None:
        """Put a key where it belongs."""
        column = self.columns[source]
        if column is None:
            self.columns[source] = {index: key} if index else key
            return
        if isinstance(column, str):
            column = self.columns[source] = {0: column}
        if column.setdefault(index, key) != key:
            self.more = (*self.more, key)

    def by_index(self) -> list[dict[int, str]]:
        """The columns, with the key of each index."""
        return [{0: column} if isinstance(column, str) else column or {} for column in self.columns]


@dataclass(frozen=True, slots=True, eq=False)
class Gathered:
    """A group, and the keys for a place of it that another has. name: if the model has none."""

    group: Group
    name: str
    more: tuple[str, ...]

    @property
    def names(self) -> Sequence[str]:
        """Its targets."""
        return self.group.names or (self.name,)

    @property
    def keys(self) -> list[str]:
        """All keys for it."""
        return [*self.group.keys, *self.more]


def _gaps(converter: WeightConverter, columns: Sequence[dict[int, str]]) -> Iterator[str]:
    longest = max((max(column, default=-1) for column in columns), default=-1) + 1
    for pattern, column in zip(converter.sources, columns, strict=True):
        if not column:
            if pattern in converter.optional:
                continue
            yield f"no key matches {pattern}"
            continue
        if INDEX not in compiled(pattern).groupindex:
            continue
        lacking = longest - len(column)
        if lacking:
            shown = islice((str(i) for i in range(longest) if i not in column), _SHOWN_GAPS)
            more = f" and {lacking - _SHOWN_GAPS} more" if lacking > _SHOWN_GAPS else ""
            yield f"{pattern} lacks {', '.join(shown)}{more} of 0 to {longest - 1}"


def groups_of(
    gatherings: dict[tuple[int, str], Gathering],
) -> tuple[list[Gathered], list[Incomplete]]:
    """What was gathered, by converter and name: whole groups, and those that lack keys.

    Takes them out of *gatherings*.
    """
    groups, incomplete = [], []
    # Let go of one by one, as what comes of them is made.
    for at in list(gatherings):
        gathering, name = gatherings.pop(at), at[1]
        if gathering.targets is None:
            continue
        columns = gathering.by_index()
        group = Group(
            gathering.converter,
            tuple(tuple(key for _, key in sorted(column.items())) for column in columns),
            gathering.targets,
        )
        gaps = list(_gaps(gathering.converter, columns))
        if gaps:
            keys = (*group.keys, *gathering.more)
            incomplete.append(Incomplete(tuple(group.names), tuple(gaps), keys))
        else:
            groups.append(Gathered(group, name, gathering.more))
    return groups, incomplete


def apart(
    gathered: list[Gathered], direct: dict[str, str], collided: Mapping[str, Sequence[str]]
) -> tuple[list[Group], list[Collision], dict[str, None]]:
    """The groups that are alone at their targets; the collisions; the targets of these.

    Groups may be for several targets: those that they share with others, and those that these
    share with still others, are one collision, so that each key is in one place. direct: target ->
    the key that goes there as it is; what is in dispute is taken out of it. collided: all keys for
    a target that several go to.
    """
    several: set[str] = set()
    once: set[str] = set()
    for one in gathered:
        for name in one.names:
            # One after the other: a group may have a name twice.
            if name in once or name in direct:
                several.add(name)
            once.add(name)
        several.update(one.names[:1] if one.more else ())
    claims: dict[str, list[Gathered]] = {}
    for one in gathered if several else ():
        for name in one.names:
            if name in several:
                claims.setdefault(name, []).append(one)
    disputed = dict.fromkeys([*collided, *claims])
    out: set[int] = set()
    seen: set[str] = set()
    collisions = []
    for first in disputed:
        if first in seen:
            continue
        seen.add(first)
        targets = [first]
        keys: list[str] = []
        for name in targets:
            if name in direct:
                keys += collided.get(name) or [direct[name]]
            for one in claims.get(name, ()):
                if id(one) in out:
                    continue
                out.add(id(one))
                keys += one.keys
                more = [n for n in one.names if n in disputed and n not in seen]
                seen.update(more)
                targets += dict.fromkeys(more)
        collisions.append(Collision(", ".join(targets), tuple(keys)))
    for name in disputed:
        direct.pop(name, None)
    return [one.group for one in gathered if id(one) not in out], collisions, disputed
