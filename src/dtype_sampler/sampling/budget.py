"""A budget of time: which cells a run takes, and within how many runs each comes again. Pure.

The cells stand in a queue, and a run takes from its front until the next one does not fit. What
that promises, and why, is proven in docs/explanation/budget.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from math import inf
from typing import Any, NamedTuple

from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.sampling.rule import keyed_hash

_UNITS = {"w": 7 * 86400, "d": 86400, "h": 3600, "m": 60, "s": 1}
_PART = re.compile(r"([0-9]{1,6})([wdhms])")


class Span(NamedTuple):
    """A span of time. text: as it was written. seconds: more than 0."""

    text: str
    seconds: float


def parse_span(text: str, units: str) -> Span:
    """A span such as 90s, 10m or 1h30m.

    units: the letters that may be used, the largest first. Raises DtypeSamplerError.
    """
    parts = _PART.findall(text)
    letters = "".join(unit for _, unit in parts)
    in_order = [unit for unit in units if unit in letters]
    whole = "".join(number + unit for number, unit in parts) == text
    if not parts or not whole or list(letters) != in_order:
        if re.fullmatch("[0-9]{1,6}", text):
            said = ", ".join(f"{text}{unit}" for unit in units[:-1])
            raise DtypeSamplerError(f"a span of time has a unit: {said} or {text}{units[-1]}?")
        examples = "90s, 10m or 1h30m" if "d" not in units else "12h, 7d or 1w3d"
        raise DtypeSamplerError(f"no span of time: write, say, {examples}")
    seconds = float(sum(int(number) * _UNITS[unit] for number, unit in parts))
    if not seconds:
        raise DtypeSamplerError("it is no time at all: a span of time is longer than 0")
    return Span(text, seconds)


def spell(seconds: float) -> str:
    """A span of time in at most two units, for people: `9m40s`."""
    if seconds < 0.9995:
        return f"{max(round(1000 * seconds), 0)}ms"
    if seconds < 9.95:
        return f"{seconds:.1f}".removesuffix(".0") + "s"
    whole = round(seconds)
    if whole >= 3600:
        # What rounds up to a whole day or hour is one.
        many, small = (24, "h") if round(whole / 3600) >= 24 else (60, "m")
        large = {"h": "d", "m": "h"}[small]
        most, rest = divmod(round(whole / _UNITS[small]), many)
        return f"{most}{large}{rest}{small}" if rest else f"{most}{large}"
    many, rest = divmod(whole, 60)
    if not many:
        return f"{rest}s"
    return f"{many}m{rest}s" if rest else f"{many}m"


def spell_up(seconds: float) -> str:
    """As `spell`, never less than that: what somebody is told to write. In whole seconds."""
    whole = max(1, -int(-seconds // 1))
    if whole >= 3600:
        whole = -(-whole // 60) * 60
    hours, rest = divmod(whole, 3600)
    minutes, rest = divmod(rest, 60)
    parts = ((hours, "h"), (minutes, "m"), (rest, "s"))
    return "".join(f"{number}{unit}" for number, unit in parts if number)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A test whose cells wait for their turn.

    Costs are in microseconds of one process: integers, whose sums are the same in any order.

    key: what the plan calls it. labels: in rotate's order, from this run's seed on. since: label ->
    when the run began that had its turn last, in seconds since 1970; nothing for those that never
    had one. costs: label -> what a run pays for it; of an item, with all that the item needs. loop:
    one test for all of its dtypes, which has at least one of them in every run. rest: what each run
    pays for a loop besides. must: the labels that run whatever they cost, in this run and the
    following. suspects: those of which one failed; the test takes one at a time and nothing else.
    lone: those that failed alone, and are not to run with others: then all take turns. sizes: label
    -> how many cells it stands for, where that is not one.
    """

    key: str
    labels: tuple[str, ...]
    since: Mapping[str, float]
    costs: Mapping[str, int]
    loop: bool = False
    rest: int = 0
    must: tuple[str, ...] = ()
    suspects: tuple[str, ...] = ()
    lone: tuple[str, ...] = ()
    sizes: Mapping[str, int] = field(default_factory=dict)

    def size(self, labels: Iterable[str]) -> int:
        """How many cells these are."""
        return sum(self.sizes.get(label, 1) for label in labels)

    def __post_init__(self) -> None:
        if self.lone:
            object.__setattr__(self, "must", ())

    def in_order(self, due_before: float | None = None) -> list[str]:
        """The labels that must not run, the one that waits longest first.

        due_before: what had its turn before that moment goes before what never had one.
        """
        places = {label: place for place, label in enumerate(self.labels)}
        waiting = [label for label in self.labels if label not in self.must]
        return sorted(waiting, key=lambda label: (*self.rank(label, due_before), places[label]))

    def rank(self, label: str, due_before: float | None) -> tuple[bool, float]:
        """Where a label stands: what is due first, then by its last turn."""
        since = self.since.get(label, -inf)
        due = due_before is not None and -inf < since < due_before
        return not due, since


@dataclass(frozen=True, slots=True)
class Taken:
    """What a run takes. Costs are in microseconds of one process.

    labels: by the test's key, in the order in which they wait. cells: how many. of: how many there
    are. cost: what they take. must: what of that runs whatever the budget is. must_cells, loops:
    how many cells must run, and how many loops keep one dtype. runs: each cell has its turn within
    so many runs, if costs and failures stay what they are. enough: a budget that would hold what
    must run, and any one cell besides. late: how many cells were due and are not taken. in_time: a
    budget that would have held all that were due.
    """

    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    cells: int = 0
    of: int = 0
    cost: int = 0
    must: int = 0
    must_cells: int = 0
    loops: int = 0
    runs: int = 1
    enough: int = 0
    late: int = 0
    in_time: int = 0


class _Share:
    """What one test takes of a run."""

    def __init__(self, test: Waiting, due_before: float | None) -> None:
        self.test = test
        self.order = test.in_order(due_before)
        self.due = {label for label in self.order if not test.rank(label, due_before)[0]}
        self.rest = test.rest if test.loop else 0
        self.fixed: list[str] = [label for label in test.labels if label in test.must]
        # What a loop has at least, if nothing else: the one that waits longest.
        self.first = ""
        self.closed = False
        if test.suspects:
            self.fixed, self.closed = [test.suspects[0]], True
        elif test.loop and self.order and not self.fixed:
            self.first = self.order[0]
            self.closed = self.first in test.lone
        self.taken: set[str] = set()

    def queue(self) -> list[str]:
        """The labels that may come in this run."""
        if self.closed or (self.first and len(self.order) == 1):
            # Nothing, or what comes in every run anyway: neither waits.
            return []
        return [label for label in self.order if label not in self.test.lone]

    @property
    def cost(self) -> int:
        """What the run pays for it whatever the budget is."""
        labels = (*self.fixed, *([self.first] if self.first else ()))
        return self.rest + sum(self.test.costs[label] for label in labels)

    def late(self) -> list[str]:
        """What was due, and is not taken."""
        taken = self.labels()
        return [label for label in self.order if label in self.due and label not in taken]

    def labels(self) -> tuple[str, ...]:
        """What it takes, in the order in which it waits; what must run last."""
        chosen = self.taken | ({self.first} if self.first else set())
        return (*(label for label in self.order if label in chosen), *self.fixed)


def fill(
    tests: Iterable[Waiting], room: int, *, seed: int = 0, due_before: float | None = None
) -> Taken:
    """Take from the front of the queue until the next cell does not fit.

    room: the budget, in microseconds of one process; may be less than nothing, where other things
    take all of it. seed: the run's; of cells that wait equally long, at the same place of their
    circles, it draws which comes first. due_before: see `Waiting.in_order`.

    The cell at the very front has its turn even if it does not fit, so that nothing waits for ever.
    """
    shares = [_Share(test, due_before) for test in tests]
    queue: list[tuple[Any, ...]] = []
    for number, share in enumerate(shares):
        tie = keyed_hash("budget", str(seed), share.test.key)
        places = {label: place for place, label in enumerate(share.test.labels)}
        queue += [
            (*share.test.rank(label, due_before), places[label], tie, number, label)
            for label in share.queue()
        ]
    queue.sort()
    must = cost = sum(share.cost for share in shares)
    for place, (*_, number, label) in enumerate(queue):
        share = shares[number]
        if label == share.first:
            # It is paid for.
            continue
        price = share.test.costs[label]
        if place and cost + price > room:
            break
        share.taken.add(label)
        cost += price
    labels = {share.test.key: share.labels() for share in shares}
    dearest = max((share.test.costs[label] for share in shares for label in share.order), default=0)
    return Taken(
        labels,
        cells=sum(share.test.size(share.labels()) for share in shares),
        of=sum(share.test.size(share.test.labels) for share in shares),
        cost=cost,
        must=must,
        must_cells=sum(share.test.size(share.fixed) for share in shares),
        loops=sum(bool(share.first) for share in shares),
        runs=_within([share.test for share in shares], room),
        enough=must + dearest,
        late=sum(share.test.size(share.late()) for share in shares),
        in_time=cost + sum(share.test.costs[label] for share in shares for label in share.late()),
    )


def within(tests: Iterable[Waiting], room: int) -> int:
    """Within how many runs with this budget each cell has its turn, if costs stay what they are."""
    return _within(list(tests), room)


def _within(tests: Sequence[Waiting], room: int) -> int:
    steady = [_steady(test) for test in tests]
    free = room - sum(one.fixed for one in steady)
    waiting = [cost for one in steady for cost in one.costs]
    queue = 1 if sum(waiting) <= free else _runs_of_queue(steady, free, waiting)
    runs = max((one.within(queue) for one in steady), default=1)
    # Suspects have their turns first.
    return max(runs, 1) + max((len(test.suspects) for test in tests), default=0)


class _Steady(NamedTuple):
    """What a test comes to, run for run: what each run pays for it anyway, what its waiting cells
    cost, the dearest first, whether it has one of them in every run, and whether some of them can't
    run together.
    """

    fixed: int
    costs: list[int]
    own_turn: bool
    lone: bool

    def within(self, queue: int) -> int:
        """Within how many runs its cells have their turns. queue: what the queue promises."""
        if self.lone:
            # Those that can't come beside others are passed over in the queue.
            return len(self.costs)
        return min(queue, len(self.costs)) if self.own_turn else queue * bool(self.costs)


def _steady(test: Waiting) -> _Steady:
    waiting = sorted((test.costs[one] for one in test.labels if one not in test.must), reverse=True)
    fixed = sum(test.costs[one] for one in test.labels if one in test.must)
    fixed += test.rest if test.loop else 0
    own_turn = test.loop and not test.must
    if own_turn and len(waiting) == 1:
        # Nothing else is ever taken in its stead.
        fixed, waiting = fixed + waiting[0], []
    return _Steady(fixed, waiting, own_turn, bool(test.lone))


def _runs_of_queue(steady: Sequence[_Steady], free: int, waiting: Sequence[int]) -> int:
    """The least R with R·(B - c) >= T + what loops may have taken again in R - 1 runs.

    No more than there are cells, as the one at the front always has its turn.
    """
    total, gain, most = sum(waiting), free - max(waiting, default=0), max(len(waiting), 1)
    if gain <= 0:
        return most
    # Of all loops with so many cells: what they pay for the dearest, the next one, and so on.
    again: dict[int, list[int]] = {}
    for one in steady:
        if one.own_turn and one.costs:
            sums = again.setdefault(len(one.costs), [0] * len(one.costs))
            for place, cost in enumerate(one.costs):
                sums[place] += cost
    wasted = 0
    for runs in count(1):
        if runs >= most or runs * gain >= total + wasted:
            return min(runs, most)
        wasted += sum(sums[(runs - 1) % length] for length, sums in again.items())
    raise AssertionError  # pragma: no cover  # count() does not end


def enough_within(tests: Sequence[Waiting], runs: int) -> int | None:
    """A budget with which each cell has its turn within so many runs, in microseconds of one
    process; None if no budget can, as suspects, and what failed alone, take turns.
    """
    steady = [_steady(test) for test in tests]
    runs -= max((len(test.suspects) for test in tests), default=0)
    if runs < 1 or any(one.lone and len(one.costs) > runs for one in steady):
        return None
    fixed = sum(one.fixed for one in steady)
    waiting = [cost for one in steady for cost in one.costs]
    if runs == 1 or not waiting:
        return fixed + sum(waiting)
    # Those of loops that have so few cells come by themselves.
    if all(one.own_turn and len(one.costs) <= runs for one in steady if one.costs):
        return fixed + sum(one.costs[0] for one in steady if one.costs)
    wasted = sum(
        (runs - 1) // len(one.costs) * sum(one.costs)
        + sum(one.costs[: (runs - 1) % len(one.costs)])
        for one in steady
        if one.own_turn and one.costs
    )
    return fixed + min(sum(waiting), max(waiting) - (-(sum(waiting) + wasted) // runs))
