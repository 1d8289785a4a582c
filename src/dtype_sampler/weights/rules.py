"""The rules of a mapping: how a checkpoint's keys and tensors become those of a model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from dtype_sampler.errors import DtypeSamplerError

if TYPE_CHECKING:
    from dtype_sampler.weights.operations import Operation

# What orders the tensors that a converter gathers, and numbers those that it spreads.
INDEX = "index"
SLOT = rf"\g<{INDEX}>"


class RuleError(DtypeSamplerError):
    """A rule that can't be used; the message names it."""


class WeightRenaming:
    r"""Rename keys: where *pattern* is found in a key, *target* takes the place of what it matched.

    pattern: a regular expression, searched for as `re.search` does, and replaced once per key.
    target: its replacement, as `re.Match.expand` understands it: `\1`, `\g<name>`.

    Rules are applied one after the other, each to what those before it made of the key. A pattern
    that is wrong raises RuleError when it is first needed.

    scope: the name of a submodel, such as `vision_tower`: then the rule is for keys of it alone, by
    what they are called there, so that `^` is where the submodel's own names begin. The base
    model's prefix may come before it. only_if: a pattern; the rule is applied only if a key of the
    checkpoint, as it is when this rule's turn comes, has it: for renames that would go wrong with a
    checkpoint that has the new names already.
    """

    __slots__ = ("only_if", "pattern", "scope", "target")

    pattern: str
    target: str
    scope: str | None
    only_if: str | None

    def __init__(
        self, pattern: str, target: str, *, scope: str | None = None, only_if: str | None = None
    ) -> None:
        # Nothing but assignments, and it has to stay so. Loaders make rules by the thousand, some
        # one for each key of a checkpoint, and most are never used: compiling the pattern here
        # cost transformers 0.59 s for 18,424 keys, of which it needed none. It is compiled on
        # first use, once per process: see `patterns.compiled`.
        _set(self, "pattern", pattern)
        _set(self, "target", target)
        _set(self, "scope", scope)
        _set(self, "only_if", only_if)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} can't be changed: make a new one")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} can't be changed: make a new one")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, WeightRenaming):
            return NotImplemented
        return self._parts == other._parts

    def __hash__(self) -> int:
        return hash(self._parts)

    def __reduce__(self) -> tuple[Any, ...]:
        return _renaming, self._parts

    def __repr__(self) -> str:
        more = _named(scope=self.scope, only_if=self.only_if)
        return f"WeightRenaming({_quoted(self.pattern)}, {_quoted(self.target)}{more})"

    @property
    def _parts(self) -> tuple[str, str, str | None, str | None]:
        return self.pattern, self.target, self.scope, self.only_if


class WeightConverter:
    r"""Make tensors of the model from one or several of a checkpoint.

    sources: regular expressions. A key that matches one of them, after the renames, is part of the
    group whose name it has when `targets[0]` takes the place of the match. A named group `index`
    orders what one pattern gathers, by its integer: `experts\.(?P<index>\d+)\.w`.
    targets: replacements, as for `WeightRenaming`, one for each tensor that comes out. `\g<index>`
    numbers the tensors of one target where the source has no such group.
    operations: applied in order to the lists of tensors that the patterns gathered.
    scope: as for `WeightRenaming`. optional: those of the sources that a group may lack; what they
    would have gathered is an empty list then.

    A key takes part in the first converter that matches it, and in no other.
    """

    __slots__ = ("operations", "optional", "scope", "sources", "targets")

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    operations: tuple[Operation, ...]
    scope: str | None
    optional: tuple[str, ...]

    def __init__(
        self,
        sources: Iterable[str],
        targets: Iterable[str],
        operations: Iterable[Operation] = (),
        *,
        scope: str | None = None,
        optional: Iterable[str] = (),
    ) -> None:
        _set(self, "sources", _texts(sources, "sources"))
        _set(self, "targets", _texts(targets, "targets"))
        _set(self, "operations", _listed(operations))
        _set(self, "scope", scope)
        _set(self, "optional", _texts(optional, "optional sources"))
        if not self.sources or not self.targets:
            raise RuleError(f"{self!r}: it needs at least one source and one target")
        for one in self.optional:
            if one not in self.sources:
                raise RuleError(f"{self!r}: {_quoted(one)} is optional, and is none of its sources")
        if set(self.sources) == set(self.optional):
            raise RuleError(f"{self!r}: not all of its sources can be optional")
        for operation in self.operations:
            if isinstance(operation, type) or not callable(getattr(operation, "convert", None)):
                raise RuleError(f"{self!r}: {operation!r} is no operation, such as Stack(0)")

    __setattr__ = WeightRenaming.__setattr__
    __delattr__ = WeightRenaming.__delattr__

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, WeightConverter):
            return NotImplemented
        return self._parts == other._parts

    def __hash__(self) -> int:
        return hash(self._parts)

    def __reduce__(self) -> tuple[Any, ...]:
        return _converter, self._parts

    def __repr__(self) -> str:
        sources, targets = (
            "[" + ", ".join(map(_quoted, texts)) + "]" for texts in (self.sources, self.targets)
        )
        more = _named(scope=self.scope, optional=list(self.optional) or None)
        return f"WeightConverter({sources}, {targets}, {list(self.operations)}{more})"

    @property
    def _parts(self) -> tuple[Any, ...]:
        return self.sources, self.targets, self.operations, self.scope, self.optional


def _renaming(pattern: str, target: str, scope: str | None, only_if: str | None) -> WeightRenaming:
    return WeightRenaming(pattern, target, scope=scope, only_if=only_if)


def _converter(sources: Any, targets: Any, operations: Any, scope: Any, optional: Any) -> Any:
    return WeightConverter(sources, targets, operations, scope=scope, optional=optional)


def _named(**given: object) -> str:
    return "".join(f", {name}={value!r}" for name, value in given.items() if value is not None)


Rule = WeightRenaming | WeightConverter


class ReversedRules(tuple[Rule, ...]):
    """What undoes other rules, as `reverse` makes it: its converters act before its renames."""

    __slots__ = ()


def listed(rules: Iterable[Rule]) -> Sequence[Rule]:
    """Rules that may be gone through more than once. Raises RuleError unless they are several."""
    if isinstance(rules, Sequence):
        return rules
    if not isinstance(rules, Iterable):
        raise RuleError(f"rules={rules!r}: give a list, such as [WeightRenaming(pattern, target)]")
    return tuple(rules)


def split(rules: Iterable[Rule]) -> tuple[list[WeightRenaming], list[WeightConverter]]:
    """The renames and the converters, each in their order. Raises RuleError for anything else."""
    renames: list[WeightRenaming] = []
    converters: list[WeightConverter] = []
    for rule in rules:
        if isinstance(rule, WeightRenaming):
            if not (isinstance(rule.pattern, str) and isinstance(rule.target, str)):
                raise RuleError(f"{rule!r}: pattern and target are texts")
            if not (isinstance(rule.scope, str | None) and isinstance(rule.only_if, str | None)):
                raise RuleError(f"{rule!r}: scope and only_if are texts, or None")
            renames.append(rule)
        elif isinstance(rule, WeightConverter):
            if not isinstance(rule.scope, str | None):
                raise RuleError(f"{rule!r}: scope is a text, or None")
            converters.append(rule)
        else:
            raise RuleError(
                f"{rule!r} is no rule: write WeightRenaming(pattern, target), or"
                " WeightConverter(sources, targets, operations)"
            )
    return renames, converters


def expand(match: re.Match[str], target: str, rule: Rule) -> str:
    """The replacement of a match. Raises RuleError if the pattern lacks a group it names."""
    if "\\" not in target:
        return target
    try:
        return match.expand(target)
    except (re.error, IndexError) as error:
        raise RuleError(f"{rule!r}: the target {_quoted(target)}: {error}") from None


_set = object.__setattr__


def _listed(given: Any) -> tuple[Any, ...]:
    """One thing is as good as a list of it."""
    single = isinstance(given, str) or not isinstance(given, Iterable)
    return (given,) if single else tuple(given)


def _texts(given: Iterable[str], what: str) -> tuple[str, ...]:
    texts = _listed(given)
    for text in texts:
        if not isinstance(text, str):
            raise RuleError(f"WeightConverter: {what} are texts, and {text!r} is none")
    return texts


def _quoted(text: object) -> str:
    # As people write patterns, where that says the same.
    if not isinstance(text, str):
        return repr(text)
    plain = "\\" in text and '"' not in text and text.isprintable() and not text.endswith("\\")
    return f'r"{text}"' if plain else repr(text)
