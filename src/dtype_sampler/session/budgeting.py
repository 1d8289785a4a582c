"""Runs that are steered by the ledger: by a budget of time, or by what an earlier run took."""

from __future__ import annotations

import posixpath
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Generic, TypeVar

import pytest

from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.roundtrip.support import device_type
from dtype_sampler.sampling.candidates import Pool, number_of
from dtype_sampler.sampling.lanes import Lane
from dtype_sampler.sampling.plan import WIRE, RunPlan
from dtype_sampler.sampling.steering import ANY, Budget, Found, Steered, Worries, steer
from dtype_sampler.session.draw import runnable
from dtype_sampler.session.lane import named_paths
from dtype_sampler.session.settings import CLI, DEFAULT, ENV, INI, OPTIONS, Settings, located

if TYPE_CHECKING:
    from dtype_sampler.ledger.past import Chosen, Past
    from dtype_sampler.ledger.records import RunRecord
    from dtype_sampler.ledger.store import Store
    from dtype_sampler.session.selection import Group, Members

ItemT = TypeVar("ItemT")
# What this process has come to by the tests that it has collected, and how it is told.
STEERED = pytest.StashKey[Steered]()
STEERED_WIRE = f"{WIRE}_steered"
_RANK = {DEFAULT: 0, INI: 1, ENV: 2, CLI: 3}


def checked(settings: Settings) -> Settings:
    """The settings, of which those stay that steer this run. Raises DtypeSamplerError.

    What somebody asks for in this run puts a budget of the configuration aside; what is asked for
    in one breath must not contradict itself.
    """
    origin = settings.came_from("budget")
    run = f"--dtype-run={settings.run}"
    if settings.run is not None:
        for name, flag in (
            *(("all_dtypes", "--all-dtypes"), ("only", "--dtype-only")),
            *(("budget", "--dtype-budget"), ("seed", "--dtype-seed")),
        ):
            given = settings.came_from(name) == CLI or name == "all_dtypes"
            if given and getattr(settings, name):
                raise DtypeSamplerError(
                    f"{run} takes what that run took, and {flag} asks for something else: leave out"
                    " one of them"
                )
        if settings.no_ledger:
            raise DtypeSamplerError(f"{run} needs the ledger: leave out --no-dtype-ledger")
        return replace(settings, budget=None, max_age=None)
    aside = False
    if settings.budget is not None:
        said = _said(settings, "budget")
        for name, flag in (("all_dtypes", "--all-dtypes"), ("only", "--dtype-only")):
            if not getattr(settings, name):
                continue
            if _RANK[origin] >= _RANK[settings.came_from(name)]:
                raise DtypeSamplerError(
                    f"{said}: {flag} runs all that it names, whatever it takes: leave out one of"
                    " them"
                )
            aside = True
        if settings.no_ledger and not aside:
            raise DtypeSamplerError(
                f"{said}: a budget needs the ledger, which knows what things cost: leave out"
                " --no-dtype-ledger, or give --dtype-budget=none"
            )
    if settings.budget is None and settings.max_age and settings.came_from("max_age") == CLI:
        raise DtypeSamplerError(
            f"{_said(settings, 'max_age')}: an age needs a budget that keeps to it: give"
            " --dtype-budget too"
        )
    return replace(settings, budget=None, max_age=None) if aside else settings


def _said(settings: Settings, name: str) -> str:
    """An option with its value, where it was given."""
    (option,) = (option for option in OPTIONS if option.name == name)
    value = getattr(settings, name).text
    return located(option, settings.came_from(name), value, "").removesuffix(": ")


def workers_of(config: pytest.Config) -> int:
    """How many processes will run tests."""
    if config.getoption("dist", "no") == "no":
        return 1
    count = 0
    for spec in config.getoption("tx", None) or ():
        # As xdist has it: "4*popen" are four.
        number, times, _ = str(spec).partition("*")
        count += int(number) if times and number.isdigit() else 1
    return max(count, 1)


def paths_of(config: pytest.Config) -> list[str]:
    """The files, folders and node ids that pytest was told to run, below the root directory."""
    parts = [path.partition("::") for path in named_paths(config)]
    return [posixpath.normpath(name) + between + inside for name, between, inside in parts]


class Meter:
    """How long a run takes, and what its tests without dtypes do."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        """clock: seconds that only go on."""
        self._clock = clock
        self._began: float | None = None
        self._last = 0.0
        # Of tests that have not ended, and have not asked for a dtype so far.
        self._open: dict[str, float | None] = {}
        self.others = 0.0

    def begin(self) -> None:
        """A test begins."""
        if self._began is None:
            self._began = self._last = self._clock()

    def add(self, nodeid: str, when: str | None, duration: float, *, sampled: bool) -> None:
        """A phase of a test has ended. sampled: whether it is known to have asked for a dtype."""
        self._last = self._clock()
        before = self._open.get(nodeid, 0.0)
        total = None if sampled or before is None else before + duration
        self._open[nodeid] = total
        if when not in ("setup", "call"):
            del self._open[nodeid]
            self.others += total or 0.0

    @property
    def took(self) -> float:
        """Seconds from the first test's beginning to the end of the last phase that is known."""
        return 0.0 if self._began is None else self._last - self._began


class Looking:
    """What is asked of the ledger before a steered run, while it is open."""

    def __init__(self, settings: Settings, lane: Lane | None, workers: int) -> None:
        self._settings = settings
        self._lane = lane or Lane("")
        self._workers = workers
        self.past: Past | None = None
        self.run: RunRecord | None = None
        self.chosen: Chosen = {}
        # Why that run can't be taken again.
        self.problem = "there is no ledger here that could know it"

    def __call__(self, store: Store) -> None:
        """Ask *store*."""
        from dtype_sampler.ledger.origin import machine
        from dtype_sampler.ledger.past import look_back

        if self._settings.run is not None:
            self._find(store, self._settings.run)
            return
        device = self._settings.device
        with store.snapshot():
            self.past = look_back(
                store.tests(),
                store.cells(),
                store.runs(),
                store.costs(),
                device=None if device is None else device_type(device),
                host=machine()["host"],
                lane=self._lane,
                workers=self._workers,
                observations=store.observations,
            )

    def _find(self, store: Store, word: str) -> None:
        from dtype_sampler.ledger.past import chosen_by, find_run, folded

        self.problem = ""
        with store.snapshot():
            try:
                self.run = find_run(store.runs(), word)
            except DtypeSamplerError as error:
                self.problem = str(error)
                return
            observed = store.observations(self.run.uid)
            if not observed:
                self.problem = folded(self.run)
                return
            self.chosen = chosen_by(observed, [test.key for test in store.tests()])

    def budget(self, now: float) -> Budget | None:
        """What the run may take; None if it has no budget. now: seconds since 1970."""
        return budget_of(self._settings, self.past, self._workers, now)

    def again(self) -> tuple[RunRecord, Chosen] | None:
        """The run whose cells are taken again, and these. Raises DtypeSamplerError."""
        if self._settings.run is None:
            return None
        if self.run is None or self.problem:
            raise DtypeSamplerError(f"--dtype-run={self._settings.run}: {self.problem}")
        return self.run, self.chosen


def budget_of(settings: Settings, past: Past | None, workers: int, now: float) -> Budget | None:
    """What the run may take; None if it has no budget.

    past: None if there is no ledger yet. now: seconds since 1970.
    """
    if settings.budget is None:
        return None
    if past is None or not past.measured:
        return Budget(settings.budget.text, 0)
    speed = workers * past.achieved
    others = round(1_000_000 * past.others)
    due_before = most_runs = None
    if settings.max_age is not None:
        age, apart = settings.max_age.seconds, past.apart or 0.0
        due_before = now + apart - age
        most_runs = int(age // apart) if apart else None
    return Budget(
        settings.budget.text,
        round(1_000_000 * settings.budget.seconds * speed) - others,
        past.rows,
        due_before,
        most_runs,
        past.cell,
        speed,
        others,
        "" if settings.max_age is None else settings.max_age.text,
        past.apart or 0.0,
    )


def worries_of(plan: RunPlan) -> Worries:
    """What is dealt with apart."""
    return Worries(plan.recheck, plan.hidden, plan.suspects, plan.alone)


def foreseen(plan: RunPlan, paths: Sequence[str]) -> Steered | None:
    """What the run will take, before the tests are known; None if it has no budget, or the ledger
    knows no durations.

    paths: files, folders and node ids that pytest was told to run, relative to the root directory.
    """
    if plan.budget is None or not plan.budget.rows:
        return None
    return steer(plan.budget, worries_of(plan), plan.seed, there=_within(paths))


def _within(paths: Sequence[str]) -> Callable[[str], bool]:
    if "." in paths:
        return lambda _: True
    starts = tuple(
        path + end for path in paths for end in (("[",) if "[" in path else ("::", "/", "["))
    )

    def there(key: str) -> bool:
        return (
            key in paths
            or key.startswith(starts)
            or any(one.startswith(f"{key}[") for one in paths)
        )

    return there


@dataclass(frozen=True, slots=True)
class Choice(Generic[ItemT]):
    """What the items that are there come to. plan: with what each test takes. steered: what that
    is, if it is by a budget. out: loops that the run which is taken again did not run.
    """

    plan: RunPlan
    steered: Steered | None = None
    out: Sequence[ItemT] = ()


def choice(
    plan: RunPlan,
    items: Sequence[ItemT],
    members: Members,
    nodeid_of: Callable[[ItemT], str],
    *,
    key_of: Callable[[ItemT], str],
    is_full: Callable[[ItemT], bool],
    why_skipped: Callable[[ItemT], str | None],
) -> Choice[ItemT]:
    """Which cells the run takes, now that it is known which tests are there.

    members, nodeid_of, why_skipped: as for `selection.select`. key_of: the test key of a test that
    is one item for all of its dtypes. is_full: whether it runs with all of them.
    """
    if plan.run:
        told = plan.steered.get(ANY, {})
        loops = [item for item in items if id(item) not in members.groups]
        return Choice(plan, out=[item for item in loops if told.get(key_of(item), (1, ()))[0] == 0])
    if plan.budget is None or not plan.budget.rows:
        return Choice(plan)
    known = {row.key for row in plan.budget.rows}
    found: dict[str, Found] = {}
    groups: dict[int, tuple[Group, Counter[str], dict[str, None]]] = {}
    kept = frozenset(plan.kept)
    for item in items:
        member = members.get(id(item))
        if member is None:
            if (key := key_of(item)) in known:
                times = found[key].times + 1 if key in found else 1
                found[key] = Found(full=is_full(item), times=times)
            continue
        group, label = member
        _, live, must = groups.setdefault(id(group), (group, Counter(), {}))
        if not why_skipped(item):
            live[label] += 1
        if kept and nodeid_of(item) in kept:
            must[label] = None
    for group, live, must in groups.values():
        pool = group.pool or Pool.of_labels(group.candidates)
        labels = runnable(plan, pool, live, device=group.device, probe=group.probe)
        k = number_of(plan.k, len(pool.labels)) if group.k is None else group.k
        fixed = dict.fromkeys((*must, *group.always))
        # Other plugins repeat all items of a test alike.
        times = max(live.values(), default=1)
        found[group.key] = Found(labels, tuple(fixed), k, group.order, full=group.full, times=times)
    steered = steer(plan.budget, worries_of(plan), plan.seed, found)
    # The rows have served, and may be many.
    budget = replace(plan.budget, rows=())
    return Choice(replace(plan, steered=steered.labels, budget=budget), steered)
