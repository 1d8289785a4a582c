"""Which key of a checkpoint goes where: a plan, made from names alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property

from dtype_sampler.weights.gates import MAX_KEY, Gate, RefusedKeyError, Searches
from dtype_sampler.weights.gathering import Gathering, apart, groups_of
from dtype_sampler.weights.planned import LoadPlan, Numbered
from dtype_sampler.weights.problems import (
    Problem,
    Unexpected,
    excerpt,
)
from dtype_sampler.weights.rules import (
    INDEX,
    SLOT,
    ReversedRules,
    Rule,
    WeightConverter,
    WeightRenaming,
    expand,
    listed,
    split,
)

_MAX_INDEX_DIGITS = 9
_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}


def plan_load(
    keys: Iterable[str],
    targets: Iterable[str] | None,
    rules: Iterable[Rule] = (),
    *,
    base_model_prefix: str | None = None,
) -> LoadPlan:
    """Plan which of a checkpoint's keys goes where. Nothing is read, and no tensor is touched.

    targets: the names that the model has; None: any name will do. rules: `WeightRenaming`s, applied
    in order, and `WeightConverter`s, of which at most one takes a key, after the renames.
    base_model_prefix: is added to or stripped from a name if the model has the other form, such as
    `model` of `model.layers.0.weight`. A key that the model has by its own name keeps it where
    the renamed one is unknown; and names that wrappers put in (`module`, `_orig_mod`) may be there
    on either side, anywhere and any number of times.

    Raises RuleError, naming rule and key, for a rule that is wrong. What is wrong with keys is in
    the plan.
    """
    # By its own name each, so that the plan has the model's texts and none beside them.
    known = None if targets is None else {name: name for name in targets}
    every = tuple(listed(rules))
    return _Planner(every, isinstance(rules, ReversedRules), known, base_model_prefix).plan(keys)


class _Planner:
    def __init__(
        self,
        rules: tuple[Rule, ...],
        reverse: bool,
        targets: dict[str, str] | None,
        prefix: str | None,
    ) -> None:
        self.rules = rules
        self.reverse = reverse
        self.targets = targets
        self.prefix = f"{prefix}." if prefix else None
        split(rules)
        self.renames: list[Gate] = []
        self.converters: list[Gate] = []
        for number, rule in enumerate(rules):
            if isinstance(rule, WeightRenaming):
                self.renames.append(Gate(rule, rule.pattern, number))
            else:
                self.converters += (
                    Gate(rule, pattern, number, source)
                    for source, pattern in enumerate(rule.sources)
                )
        self.searches = Searches()
        self.direct: dict[str, str] = {}
        self.gatherings: dict[tuple[int, str], Gathering] = {}
        self.applied: dict[str, tuple[int, ...]] = {}
        # There are few kinds of these.
        self.numbers: dict[tuple[int, ...], tuple[int, ...]] = {}
        self.unexpected: list[Unexpected] = []
        self.collided: dict[str, list[str]] = {}
        self.errors: list[Problem] = []

    def plan(self, keys: Iterable[str]) -> LoadPlan:
        # Looked up once, as there are keys by the ten thousand.
        if any(isinstance(rule, WeightRenaming) and rule.only_if for rule in self.rules):
            keys = list(keys)
            self._look_at_conditions(keys)
        rules, place, put = self.rules, self._place, self._put
        for self.searches.keys, key in enumerate(keys, 1):
            if len(key) > MAX_KEY:
                message = f"the key has {len(key)} characters: {MAX_KEY} is the most"
                self.errors.append(Problem(excerpt(key), message))
            elif rules:
                try:
                    place(key)
                except RefusedKeyError as error:
                    self.errors.append(Problem(excerpt(key), str(error)))
            else:
                put(key, key, ())
        gathered, incomplete = groups_of(self.gatherings)
        groups, collisions, collided = apart(gathered, self.direct, self.collided)
        reached = {name for group in groups for name in group.names}
        reached.update(collided, *(one.targets for one in incomplete))
        targets = self.targets or ()
        if len(self.direct) == len(targets):
            # Each has its key: none can be missing.
            targets = ()
        return LoadPlan(
            direct=self.direct,
            groups=groups,
            missing_keys=[
                name for name in targets if name not in self.direct and name not in reached
            ],
            unexpected_keys=self.unexpected,
            collisions=collisions,
            incomplete=incomplete,
            errors=self.errors,
            compile_count=self.searches.compile_count,
            rules=self.rules,
            applied=self.applied,
        )

    def _look_at_conditions(self, keys: list[str]) -> None:
        """See which renames have a key that they are to be applied for."""
        conditional = [gate for gate in self.renames if gate.rule.only_if]  # type: ignore[union-attr]  # renames have it
        for gate in conditional:
            gate.active = False
        for gate in conditional:
            assert isinstance(gate.rule, WeightRenaming)
            assert gate.rule.only_if is not None
            condition = Gate(gate.rule, gate.rule.only_if, gate.number)
            before = self.renames[: self.renames.index(gate)]
            for key in keys:
                if len(key) > MAX_KEY:
                    continue
                name = self._renamed(key, [], before)
                if condition.literal in name and self.searches.search(condition, name):
                    gate.active = True
                    break

    def _scoped(self, gate: Gate, name: str) -> str | None:
        """What comes before the names of a rule's submodel; None if the name is not of it."""
        if gate.scope is None:
            return ""
        scope = f"{gate.scope}." if gate.scope else ""
        longer = (self.prefix or "") + scope
        if name.startswith(longer):
            return longer
        return scope if name.startswith(scope) else None

    def _find(self, gate: Gate, name: str) -> tuple[str, re.Match[str]] | None:
        """What comes before a submodel's own name, and the match in this."""
        outer = self._scoped(gate, name)
        if outer is None:
            return None
        match = self.searches.search(gate, name[len(outer) :])
        return None if match is None else (outer, match)

    def _place(self, key: str) -> None:
        if self._placed(key, key):
            return
        bare = unwrapped(key)
        if bare == key or not self._placed(key, bare):
            self._placed(key, key, last=True)

    def _placed(self, key: str, name: str, *, last: bool = False) -> bool:
        """Find a place for a key that is called *name*; False if there is none, and more to try."""
        applied: list[int] = []
        if self.renames and not self.reverse:
            name = self._renamed(name, applied, self.renames)
        for gate in self.converters:
            if gate.literal in name and (found := self._find(gate, name)):
                if self._gather(gate, *found, key):
                    self._note(key, (*applied, gate.number))
                    return True
                break
        if self.reverse:
            name = self._renamed(name, applied, self.renames)
        return self._put(key, name, applied, last=last)

    def _put(self, key: str, name: str, applied: Sequence[int], *, last: bool = True) -> bool:
        targets, direct = self.targets, self.direct
        found = name if targets is None else targets.get(name) or self._known(name)
        if found is None and key != name and (found := self._known(key)) is not None:
            applied = ()
        if found is None:
            if not last:
                return False
            self.unexpected.append(Unexpected(key, name))
        elif found in direct:
            self.collided.setdefault(found, [direct[found]]).append(key)
        else:
            direct[found] = key
        if applied:
            self._note(key, tuple(applied))
        return True

    def _note(self, key: str, applied: tuple[int, ...]) -> None:
        self.applied[key] = self.numbers.setdefault(applied, applied)

    def _renamed(self, name: str, applied: list[int], gates: Sequence[Gate]) -> str:
        for gate in gates:
            if gate.active and gate.literal in name and (found := self._find(gate, name)):
                assert isinstance(gate.rule, WeightRenaming)
                outer, match = found
                new = expand(match, gate.rule.target, gate.rule)
                own = match.string
                name = f"{outer}{own[: match.start()]}{new}{own[match.end() :]}"
                applied.append(gate.number)
        return name

    def _known(self, name: str) -> str | None:
        """The name by which the model has it: with the base model's prefix, or without."""
        if self.targets is None:
            return name
        found = self._prefixed(name, self.targets)
        return self._prefixed(unwrapped(name), self.bare) if found is None else found

    @cached_property
    def bare(self) -> dict[str, str]:
        """The model's names by what they are without wrappers, where that tells them apart."""
        found: dict[str, str] = {}
        twice = set()
        for name in self.targets or ():
            bare = unwrapped(name)
            if found.setdefault(bare, name) != name:
                twice.add(bare)
        return {bare: name for bare, name in found.items() if bare not in twice}

    def _prefixed(self, name: str, targets: Mapping[str, str]) -> str | None:
        """What *targets* have for a name, as it is or with the prefix or without."""
        found, prefix = targets.get(name), self.prefix
        if found is not None or prefix is None:
            return found
        if name.startswith(prefix):
            found = targets.get(name[len(prefix) :])
        return targets.get(prefix + name) if found is None else found

    def _gather(self, gate: Gate, outer: str, match: re.Match[str], key: str) -> bool:
        converter = gate.rule
        assert isinstance(converter, WeightConverter)
        name = match.string
        before, after = outer + name[: match.start()], name[match.end() :]
        spread = INDEX not in match.re.groupindex
        first = converter.targets[0]
        new = first if spread and SLOT in first else expand(match, first, converter)
        at = (gate.number, f"{before}{new}{after}")
        gathering = self.gatherings.get(at)
        if gathering is None:
            targets = self._targets(converter, match, before, after, spread)
            gathering = self.gatherings[at] = Gathering(match, gate, targets)
        if gathering.targets is None:
            return False
        index = 0 if spread or gathering.numbered else _index_of(match)
        gathering.add(gate.source, index, key)
        return True

    def _targets(
        self,
        converter: WeightConverter,
        match: re.Match[str],
        before: str,
        after: str,
        spread: bool,
    ) -> tuple[tuple[str | None, ...] | Numbered, ...] | None:
        targets: list[tuple[str | None, ...] | Numbered] = []
        finish = (lambda name: self._renamed(name, [], self.renames)) if self.reverse else None
        for target in converter.targets:
            if spread and SLOT in target:
                head, _, tail = target.partition(SLOT)
                numbered = Numbered(
                    before + expand(match, head, converter),
                    expand(match, tail, converter) + after,
                    finish,
                )
                targets.append(numbered if self.targets is None else self._numbered(numbered))
            else:
                name = f"{before}{expand(match, target, converter)}{after}"
                targets.append((self._known(finish(name) if finish else name),))
        there = any(isinstance(names, Numbered) or any(names) for names in targets)
        return tuple(targets) if there else None

    def _numbered(self, numbered: Numbered) -> tuple[str | None, ...]:
        names: list[str] = []
        while (name := self._known(numbered.name(len(names)))) is not None:
            names.append(name)
        return tuple(names)


def unwrapped(name: str) -> str:
    """A name without those that wrappers put into it: DDP, `torch.compile`, FSDP, and others."""
    if "mod" not in name:
        return name
    parts = name.split(".")
    return ".".join([part for part in parts if part not in _WRAPPERS])


def _index_of(match: re.Match[str]) -> int:
    text = match[INDEX]
    # `isdigit` alone holds for ² too, and `\d` matches the digits of every script.
    if text and text.isascii() and text.isdigit() and len(text) <= _MAX_INDEX_DIGITS:
        return int(text)
    raise RefusedKeyError(
        f"{excerpt(text or '')!r} is no index: that is a number written in 0 to 9"
    )
