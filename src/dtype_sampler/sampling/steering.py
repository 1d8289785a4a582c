"""From what the ledger knows and what is there to run: which cells a run takes. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import median
from typing import Any, NamedTuple

from dtype_sampler.sampling.budget import Taken, Waiting, enough_within, fill, within
from dtype_sampler.sampling.candidates import family_of
from dtype_sampler.sampling.rule import circular_order

# Stands for every type of device in `RunPlan.steered`.
ANY = ""


class Row(NamedTuple):
    """What the ledger knows of one test: plain builtins, fit to be sent.

    key, device, always, k, arguments, circle: as `TestRecord` has them. loop: one test for all of
    its dtypes, as far as is known. rest: what it needs besides its cells, in microseconds. labels:
    those declared. since, costs: of each label, when the run began that had its turn last, in
    seconds since 1970, None for never; and what it costs, in microseconds.
    """

    key: str
    device: str
    loop: bool
    rest: int
    always: Sequence[str]
    k: int
    labels: Sequence[str]
    since: Sequence[float | None]
    costs: Sequence[int]
    arguments: int = 1
    circle: str = ""


class Found(NamedTuple):
    """A test that is there to run. labels: of items, those that can run here; None for a loop, of
    which only the test knows. must: those that run whatever the budget is. k: how many a test takes
    that the ledger does not know. order: what tests share that take the same; empty for none. full:
    whether it runs with all of its dtypes, whatever the run takes. times: how often it runs.
    """

    labels: Sequence[str] | None = None
    must: Collection[str] = ()
    k: int = 0
    order: str = ""
    full: bool = False
    times: int = 1


@dataclass(frozen=True, slots=True)
class Budget:
    """What a run may take. Costs are in microseconds of one process.

    text: as it was written. room: what fits, of tests with dtypes. rows: what the ledger knows; if
    it knows no durations, there are none. due_before: see `Waiting.in_order`. most_runs: within how
    many runs each cell must have its turn for none to become too old; None if that was not asked
    for, or can't be told. cell: what a cell costs of which nothing is known. speed: how many
    seconds of one process a second by the clock is worth. others: what tests without dtypes take.
    age, apart: how old a cell may become, as it was written, and how far apart runs usually are, in
    seconds; 0 if that is not known.
    """

    text: str
    room: int
    rows: Sequence[Row] = ()
    due_before: float | None = None
    most_runs: int | None = None
    cell: int = 0
    speed: float = 1.0
    others: int = 0
    age: str = ""
    apart: float = 0.0

    def by_clock(self, cost: int) -> float:
        """How long a run takes, in seconds by the clock. cost: what its tests with dtypes take."""
        return (cost + self.others) / 1_000_000 / self.speed

    def to_wire(self) -> list[Any]:
        """Plain builtins."""
        rows = [list(row) for row in self.rows]
        limits = [self.due_before, self.most_runs, self.cell, self.speed, self.others]
        return [self.text, self.room, rows, *limits, self.age, self.apart]

    @classmethod
    def from_wire(cls, data: Sequence[Any]) -> Budget:
        """What `to_wire` packed."""
        text, room, rows, *rest = data
        return cls(text, room, [Row(*row) for row in rows], *rest)


@dataclass(frozen=True, slots=True)
class Steered:
    """What a run takes of the tests that the ledger knows.

    labels: type of device -> test key -> how many of the labels that follow it takes; the others
    are those that it would take next. taken: as `budget.fill` says. new: how many tests there are
    that the ledger does not know, as far as can be told before they run. keeps_young: whether no
    cell becomes older than was asked for. young_by: a budget that would keep it so; None if none.
    """

    labels: Mapping[str, Mapping[str, tuple[int, tuple[str, ...]]]] = field(default_factory=dict)
    taken: Taken = field(default_factory=Taken)
    new: int = 0
    keeps_young: bool = True
    young_by: int | None = None

    def told(self) -> dict[str, Any]:
        """What the controller of a distributed run is told, in plain builtins."""
        taken = asdict(replace(self.taken, labels={}))
        return asdict(replace(self, labels={}, taken=Taken())) | {"taken": taken}

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Steered:
        """What `told` has told."""
        return cls(**{**told, "taken": Taken(**told["taken"])})


@dataclass(frozen=True, slots=True)
class Worries:
    """By type of device, then by test key: the labels that are dealt with apart, as `RunPlan` has
    them.
    """

    recheck: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    hidden: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    suspects: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    alone: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)


def steer(
    budget: Budget,
    worries: Worries,
    seed: int,
    found: Mapping[str, Found] | None = None,
    *,
    there: Callable[[str], bool] = lambda _: True,
) -> Steered:
    """Which cells a run takes.

    found: the tests that are there to run, by test key; None if that is not known yet: then those
    of which *there* says so.
    """
    waiting: list[Waiting] = []
    devices: dict[str, str] = {}
    for row in budget.rows:
        one = Found() if found is None else found.get(row.key)
        if one is None or not there(row.key):
            continue
        devices[row.key] = row.device
        waiting.append(_waiting(row, one, worries, seed, is_known=found is not None))
    new = [one for key, one in (found or {}).items() if one.labels and key not in devices]
    members: dict[str, list[Waiting]] = {}
    for test in waiting:
        order = "" if found is None else found[test.key].order
        members.setdefault(order or test.key, []).append(test)
    room = budget.room - sum(budget.cell * min(one.k, len(one.labels or ())) for one in new)
    queue = [_as_one(order, tests) for order, tests in members.items()]
    due, keeps_young, young_by = budget.due_before, True, None
    if budget.most_runs is not None and within(queue, room) > budget.most_runs:
        # What is due would come again and again before what never ran.
        due, keeps_young, young_by = None, False, enough_within(queue, budget.most_runs)
    taken = fill(queue, room, seed=seed, due_before=due)
    labels: dict[str, dict[str, tuple[int, tuple[str, ...]]]] = {}
    for order, tests in members.items():
        for test in tests:
            first = [label for label in taken.labels[order] if label in test.labels]
            rest = [label for label in test.in_order(due) if label not in first]
            known = labels.setdefault(devices[test.key], {})
            known[test.key] = len(first), (*first, *rest)
    cost = taken.cost + budget.room - room
    return Steered(labels, replace(taken, cost=cost), len(new), keeps_young, young_by)


def _waiting(row: Row, one: Found, worries: Worries, seed: int, *, is_known: bool) -> Waiting:
    loop = row.loop if not is_known else one.labels is None
    since = {label: at for label, at in zip(row.labels, row.since, strict=True) if at is not None}
    costs = dict(zip(row.labels, row.costs, strict=True))
    labels = list(row.labels)
    if one.labels is not None:
        usual = round(median(row.costs)) if row.costs else 0
        labels = list(one.labels)
        # An item pays for all that it needs.
        costs = {label: costs.get(label, usual) + row.rest for label in labels}
    costs = {label: one.times * cost for label, cost in costs.items()}
    circle = _circle(row, labels)
    step = max(row.k - len(row.always), 1)
    start = seed * step % len(circle) if circle else 0

    def told(some: Mapping[str, Mapping[str, Sequence[str]]]) -> list[str]:
        of_test = some.get(row.device, {}).get(row.key, ())
        return [label for label in of_test if label in costs and label in labels]

    must = dict.fromkeys((*told(worries.hidden), *told(worries.recheck)))
    # What a loop always takes, the test itself says as it runs.
    always = row.always if one.labels is None else ()
    fixed = labels if one.full else (*always, *one.must)
    must.update(dict.fromkeys(label for label in fixed if label in labels))
    lone = told(worries.alone) if loop else []
    suspects = told(worries.suspects) if loop else []
    turn = seed % len(suspects) if suspects else 0
    return Waiting(
        row.key,
        circle[start:] + circle[:start],
        since,
        costs,
        loop=loop,
        rest=one.times * row.rest,
        must=tuple(must),
        suspects=(*suspects[turn:], *suspects[:turn]),
        lone=tuple(lone),
    )


def _circle(row: Row, labels: Sequence[str]) -> tuple[str, ...]:
    if not labels:
        return ()
    return circular_order(row.circle or row.key, labels, [*map(family_of, labels)], row.arguments)


def _as_one(order: str, tests: Sequence[Waiting]) -> Waiting:
    """Tests that share what is made for each of their dtypes take turns together."""
    if len(tests) == 1 and tests[0].key == order:
        return tests[0]
    labels = tuple(dict.fromkeys(label for test in tests for label in test.labels))
    owners = {label: [test for test in tests if label in test.labels] for label in labels}
    return Waiting(
        order,
        labels,
        # What one of them never had a turn with, waits for it.
        {
            label: min(test.since[label] for test in some)
            for label, some in owners.items()
            if all(label in test.since for test in some)
        },
        {label: sum(test.costs[label] for test in some) for label, some in owners.items()},
        must=tuple(label for label in labels if any(label in test.must for test in tests)),
        sizes={label: len(some) for label, some in owners.items()},
    )
