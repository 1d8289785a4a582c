"""What the hooks know of an item and of its session: the keys of the stash, and what replays it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

import pytest

from dtype_sampler.sampling.plan import RunPlan
from dtype_sampler.session.nodeids import stable_nodeid

if TYPE_CHECKING:
    from dtype_sampler.session.parametrization import Parametrizations
    from dtype_sampler.session.running import RunningTest
    from dtype_sampler.session.selection import Members
    from dtype_sampler.session.trace import Trace

PLAN = pytest.StashKey[RunPlan]()
SEEN: pytest.StashKey[Parametrizations] = pytest.StashKey()
RUNNING: pytest.StashKey[RunningTest] = pytest.StashKey()
MEMBERS: pytest.StashKey[Members] = pytest.StashKey()
REPETITIONS = pytest.StashKey[dict[int, int]]()
# Whether the generators need no second seed, after the hooks of other plugins.
RESEEDED = pytest.StashKey[bool]()
TRACE: pytest.StashKey[Trace | None] = pytest.StashKey()
# How many items this process has begun to run, one that is run again counted again.
EXECUTIONS = pytest.StashKey[int]()
# What tests are measured by, in seconds; `time.perf_counter` where this is not set.
CLOCK = pytest.StashKey[Callable[[], float]]()
ASKING = pytest.StashKey[dict[tuple[int, str], bool]]()
OTHERS = pytest.StashKey[bool]()


def plan_of(item: object) -> RunPlan | None:
    """The plan of the session that an item is of; None for an object that only looks like one."""
    return item.config.stash.get(PLAN, None) if isinstance(item, pytest.Item) else None


def running_of(item: object) -> RunningTest | None:
    """The running test of an item; None if another plugin runs it in a way of its own."""
    return item.stash.get(RUNNING, None) if isinstance(item, pytest.Item) else None


def has_mark(item: pytest.Item, name: str) -> bool:
    """Whether an item, or what it is in, is marked so.

    As `get_closest_marker` finds it, but at once: every test is asked.
    """
    node: pytest.Item | pytest.Collector | None = item
    while node is not None:
        for mark in node.own_markers:
            if getattr(mark, "name", None) == name:
                return True
        node = node.parent
    return False


def name_among(kept: Collection[str]) -> Callable[[pytest.Item], str]:
    """An item's node id as *kept* has it: pytest's cache knows pytest's own."""
    names = frozenset(kept)
    return lambda item: item.nodeid if item.nodeid in names else replayable(item)


def replayable(item: pytest.Item) -> str:
    """The stable node id without the `@group` that xdist appends to it under `--dist loadgroup`."""
    nodeid = stable_nodeid(item)
    if "@" not in nodeid:
        return nodeid
    marks = item.iter_markers("xdist_group")
    names = [str(m.args[0] if m.args else m.kwargs.get("name", "default")) for m in marks]
    # Today's xdist joins the names of all markers, older ones take the closest.
    for group in ("_".join(sorted(set(names))), *names[:1]):
        if names and nodeid.endswith(f"@{group}"):
            return nodeid[: -len(group) - 1]
    return nodeid
