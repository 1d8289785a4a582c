"""Which items of a test that has one per dtype stay. Knows nothing of pytest's items."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeAlias, TypeVar

from dtype_sampler.sampling.candidates import Pool, is_wanted, number_of
from dtype_sampler.sampling.plan import RunPlan
from dtype_sampler.sampling.sample import SampleRecord
from dtype_sampler.sampling.together import circle_of
from dtype_sampler.session.draw import draw, why_nothing

ItemT = TypeVar("ItemT")


@dataclass(slots=True)
class Group:
    """The items that differ in their dtype alone: one test key.

    function: the node id that selects all items of the test; one_each: there is none, as each item
    has a name of its own. candidates: label -> candidate, of all items that the test was
    parametrized into. whole: whether these are known to be all. pool: what the test declares; None
    means just these candidates. k: None means the run's.
    probe: whether to ask the device which dtypes it supports. order: the key that orders the
    candidates, of a fixture that many tests share; empty means the test key.

    What `select` fills in: left, the labels that other selections have left, and whether one has an
    item that marks of the suite's own don't skip; skipped, why they skip the others; record,
    the sample; chosen, the labels whose items stay; skip, why those can't run, if they can't.
    together: the node ids of what stays, where no other one selects it; its maker fills it in.
    """

    key: str
    function: str
    candidates: dict[str, object] = field(default_factory=dict)
    whole: bool = True
    pool: Pool | None = None
    k: int | None = None
    always: tuple[str, ...] = ()
    full: bool = False
    device: str | None = None
    probe: bool = True
    order: str = ""
    one_each: bool = False
    left: dict[str, bool] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    record: SampleRecord | None = None
    chosen: frozenset[str] = frozenset()
    together: list[str] = field(default_factory=list)
    skip: str | None = None

    def all_of_it(self, known: dict[object, Pool]) -> Pool:
        """What the test declares. known: pools of other tests, as many declare the same."""
        if self.pool is not None:
            return self.pool
        same = tuple(self.candidates), tuple(map(id, self.candidates.values()))
        pool = known.get(same)
        if pool is None:
            pool = known[same] = Pool.of_labels(self.candidates)
        return pool


# The group of an item, and the label that it stands for there.
Member: TypeAlias = tuple[Group, str]


class Members:
    """The items that stand for a dtype, by their identity, which lasts as long as they do: hashing
    an item of pytest's hashes its whole node id.

    groups: of each, its group. labels: the label that it stands for there. A suite may have 100,000
    of these, and the garbage collector would look at a pair for each of them again and again.
    """

    __slots__ = ("groups", "labels")

    def __init__(self) -> None:
        self.groups: dict[int, Group] = {}
        self.labels: dict[int, str] = {}

    def get(self, identity: int) -> Member | None:
        """Of one item; None if it is in no group."""
        group = self.groups.get(identity)
        return None if group is None else (group, self.labels[identity])

    def only(self, items: Iterable[object]) -> Members:
        """Those of these items alone."""
        found = Members()
        for identity in map(id, items):
            if (group := self.groups.get(identity)) is not None:
                found.groups[identity] = group
                found.labels[identity] = self.labels[identity]
        return found


@dataclass(frozen=True, slots=True)
class Selection(Generic[ItemT]):
    """The items that stay, those that are left out, and of the former those to skip, with why."""

    staying: list[ItemT]
    out: list[ItemT]
    skipped: list[tuple[ItemT, str]]


def select(
    plan: RunPlan,
    items: Sequence[ItemT],
    members: Members,
    nodeid_of: Callable[[ItemT], str],
    why_skipped: Callable[[ItemT], str | None] = lambda _: None,
    *,
    left: Sequence[ItemT] | None = None,
) -> Selection[ItemT]:
    """Choose among the items that other selections have left; their order is kept.

    left: the items to take the samples from, of which some may run elsewhere; None means *items*.
    An item that is in no group stays. An item that the plan keeps (`RunPlan.kept`) stays whatever
    the sample is. Of a group of which no dtype can run, one item stays to be skipped. why_skipped:
    the reason why an item is known to be skipped already, by marks of the suite's own; such an item
    takes no place of a sample.
    """
    group_of, label_of = members.groups.get, members.labels
    groups = []
    for item in items if left is None else left:
        identity = id(item)
        if (group := group_of(identity)) is None:
            continue
        label = label_of[identity]
        if not group.left:
            groups.append(group)
        if reason := why_skipped(item):
            group.skipped.setdefault(label, reason)
            group.left.setdefault(label, False)
        else:
            group.left[label] = True
    known: dict[object, Pool] = {}
    pools = [group.all_of_it(known) for group in groups]
    sharing: dict[str, list[str]] = {}
    for group, pool in zip(groups, pools, strict=True):
        if plan.together:
            group.order = circle_of(pool.labels)
        if group.order:
            sharing.setdefault(group.order, []).append(group.key)
    for group, pool in zip(groups, pools, strict=True):
        _decide(plan, group, pool, sharing.get(group.order, ()))
    kept = frozenset(plan.kept)
    selection: Selection[ItemT] = Selection([], [], [])
    for item in items:
        identity = id(item)
        own = group_of(identity)
        if own is None or (kept and nodeid_of(item) in kept):
            selection.staying.append(item)
        elif label_of[identity] not in own.chosen:
            selection.out.append(item)
        else:
            selection.staying.append(item)
            if own.skip:
                selection.skipped.append((item, own.skip))
    return selection


def everything(
    plan: RunPlan,
    items: Sequence[ItemT],
    members: Members,
    nodeid_of: Callable[[ItemT], str],
    why_skipped: Callable[[ItemT], str | None] = lambda _: None,  # noqa: ARG001  # as `select`
    *,
    left: Sequence[ItemT] | None = None,  # noqa: ARG001  # likewise
) -> Selection[ItemT]:
    """Take no sample: a list of tests names all that there are, but for `--dtype-only`."""
    selection: Selection[ItemT] = Selection([], [], [])
    kept = frozenset(plan.kept)
    for item in items:
        label = members.labels.get(id(item)) if plan.only else None
        stays = label is None or is_wanted(plan.only, label) or (kept and nodeid_of(item) in kept)
        (selection.staying if stays else selection.out).append(item)
    return selection


def _decide(plan: RunPlan, group: Group, pool: Pool, sharing: Sequence[str]) -> None:
    """Fill in a group's sample, the labels whose items stay, and the reason to skip those.

    pool: what the test declares. sharing: the test keys of all groups that have this one's order.
    """
    if group.skipped:
        for label in [one for one in group.skipped if group.left[one]]:
            del group.skipped[label]
    record = group.record = draw(
        plan,
        group.key,
        pool,
        k=number_of(plan.k, len(pool.labels)) if group.k is None else group.k,
        always=group.always,
        full=group.full or plan.all_dtypes,
        device=group.device,
        left=group.left,
        skipped=group.skipped,
        probe=group.probe,
        order=(plan.seed, group.order) if group.order else None,
        sharing=sharing,
    )
    record.whole = group.whole or group.pool is not None
    group.chosen = frozenset(record.chosen)
    if record.chosen:
        return
    if plan.run or (plan.steered and plan.steered_in(record.device, group.key) is not None):
        # Nothing of it has its turn.
        return
    # One item stands for the test, so that it is seen to be skipped.
    if group.skipped:
        group.chosen = frozenset(list(group.skipped)[:1])
    elif record.unsupported:
        refused = [label for label in group.left if label in record.unsupported]
        group.chosen = frozenset((refused or list(group.left))[:1])
        group.skip = why_nothing(record, plan)
