"""What the next runs will do: how many it takes until all that never ran is reached. Pure.

A promise is made for one selection of tests, its lane, as each goes through the seeds by itself.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import gcd

from dtype_sampler.ledger.coverage import NEVER, Coverage, TestState
from dtype_sampler.ledger.outcomes import NOT_REACHED, SKIPPED, UNSUPPORTED
from dtype_sampler.ledger.records import RunRecord
from dtype_sampler.ledger.samples import can_run, circle_of, goes_round, k_of, sample_of, samples_of
from dtype_sampler.sampling.lanes import Lane, next_seed
from dtype_sampler.sampling.rule import MAX_SEED, STRATEGIES, runs_to_cover, seed_after

# Test key and type of device.
Name = tuple[str, str]
# Test key, type of device, and the labels that a run takes of the test.
Taken = tuple[str, str, tuple[str, ...]]
# Type of device -> test key -> the labels that its loop did not come to, as `History` has them.
Hidden = Mapping[str, Mapping[str, Sequence[str]]]
# Three runs are two steps of one length: fewer say nothing.
_EVIDENCE = 3
# Independent draws may take for ever; so many are tried out.
_DRAWS = 200


@dataclass(frozen=True, slots=True)
class Outlook:
    """What the next runs of a selection come to.

    tests: how many have cells that never ran and that it will take. runs: how many more runs that
    takes; None if it can't be told. hidden: whether a loop ended before some of these the last
    time: it may do so again. outside: how many tests have cells that never ran and that it leaves
    out. combining: of these tests, how many have single dtypes that never ran in any combination.
    values: how many more runs these take; None if it can't be told.
    """

    tests: int = 0
    runs: int | None = 0
    hidden: bool = False
    outside: int = 0
    combining: int = 0
    values: int | None = 0


@dataclass(frozen=True, slots=True)
class OutOfStep:
    """A test whose seeds so far are equally far from each other, so that it misses some for ever.

    seeds: of its last runs, the newest last. labels: what such seeds never come to.
    """

    state: TestState
    seeds: tuple[int, ...]
    labels: tuple[str, ...]


def lanes_of(runs: Iterable[RunRecord]) -> tuple[dict[Lane, int], int | None]:
    """The seed that each lane has come to, the newest first; and what a new lane goes on from.

    runs: oldest first.
    """
    known = list(runs)
    steady = [run for run in reversed(known) if run.in_series]
    lanes: dict[Lane, int] = {}
    for run in steady:
        if run.lane is not None:
            lanes.setdefault(Lane(run.lane, run.part), run.seed)
    newest = steady[0] if steady else known[-1] if known else None
    return lanes, None if newest is None else newest.seed


def seed_following(run: RunRecord, runs: Iterable[RunRecord]) -> int:
    """The seed that the next run of the same selection takes, if it is given none."""
    lanes, newest = lanes_of(runs)
    if run.lane is None:
        # It was not kept what it was told to run: what begins now is a new lane.
        return seed_after(run.seed if newest is None else newest)
    found = next_seed(Lane(run.lane, run.part), lanes, newest)
    return seed_after(run.seed) if found is None else found


def newest_in_series(runs: Sequence[RunRecord]) -> RunRecord | None:
    """The run whose selection is spoken of where none is named. runs: oldest first."""
    return next((run for run in reversed(runs) if run.in_series), runs[-1] if runs else None)


def runs_until(
    state: TestState,
    wanted: Collection[str],
    first: int,
    strategy: str = "rotate",
    reach: Collection[str] | None = None,
) -> int | None:
    """How many runs of consecutive seeds take these labels of a test; None if too many, or if it
    is not seeds that decide.

    first: the first of these seeds. strategy: as a run has it, or "all". reach: what the selection
    leaves of the test; None means all of it.
    """
    return _runs_until(state, [(label,) for label in wanted], first, strategy, reach)


def _runs_until(
    state: TestState,
    missing: Sequence[Collection[str]],
    first: int,
    strategy: str,
    reach: Collection[str] | None,
    known: int = 0,
) -> int | None:
    """As `runs_until`, of each collection until any of its labels is taken.

    known: so many runs are needed anyway. Where it can't be more, how many exactly is not found
    out, as there may be very many tests.
    """
    test = state.test
    limit = _DRAWS
    if strategy != "random":
        # Twice, as the seed after the largest begins anew.
        limit = 2 * runs_to_cover(len(test.declared), k_of(test), len(test.always))
        limit += sum(map(len, state.suspects))
    if strategy == "all":
        return int(bool(missing))
    if strategy not in STRATEGIES:
        return None if missing else 0
    if strategy == "rotate" and first + limit <= MAX_SEED and goes_round(state, reach):
        if runs_to_cover(len(test.declared), k_of(test)) <= known:
            return known
        return _runs_round(circle_of(state), missing, first, k_of(test))
    samples = samples_of(state, first, strategy, reach)
    for run in range(limit + 1):
        if not missing:
            return run
        taken = next(samples)
        missing = [some for some in missing if not any(label in taken for label in some)]
    return None


def _runs_round(
    circle: Sequence[str], missing: Sequence[Collection[str]], first: int, k: int
) -> int:
    """As `_runs_until` where each run takes the next k labels of a circle, and nothing else."""
    start = first * k
    # How far each is from where the first of these runs begins.
    ahead = {label: (place - start) % len(circle) for place, label in enumerate(circle)}
    return max((1 + min(ahead[label] for label in some) // k for some in missing), default=0)


def hidden_of(state: TestState) -> list[str]:
    """The labels that a loop did not come to, the last time."""
    return [
        one.cell.label
        for one in state.cells
        if one.record is not None and one.record.last.outcome == NOT_REACHED
    ]


def never_ran(state: TestState) -> list[str]:
    """The labels of a test that never ran."""
    return [one.cell.label for one in state.cells if one.state == NEVER]


def values_never_ran(state: TestState, reach: Collection[str] | None = None) -> list[list[str]]:
    """Of a test with several arguments, the combinations of each dtype that never ran in any.

    reach: what the selection leaves of the test; None means all of it.
    """
    found = []
    for of_argument in state.values:
        for cells in of_argument.values():
            if all(one.state in (NEVER, SKIPPED, UNSUPPORTED) for one in cells):
                labels = [one.cell.label for one in cells if one.state == NEVER]
                labels = [label for label in labels if reach is None or label in reach]
                found += [labels] if labels else []
    return found


class _Ahead:
    """How many runs tests need; unknown once one of them has no end that can be told."""

    def __init__(self) -> None:
        self.tests = 0
        self.runs: int | None = 0

    def add(
        self,
        state: TestState,
        missing: Sequence[Collection[str]],
        first: int,
        strategy: str,
        reach: Collection[str] | None,
    ) -> None:
        """A test of which a run is to take any of each of these collections."""
        self.tests += 1
        if self.runs is not None:
            runs = _runs_until(state, missing, first, strategy, reach, self.runs)
            self.runs = None if runs is None else max(self.runs, runs)


def foresee(
    coverage: Coverage,
    reach: Mapping[Name, Collection[str]],
    first: int,
    strategy: str,
    *,
    but: Collection[Name] = (),
) -> Outlook:
    """What the next runs of one selection come to.

    reach: the tests that it takes, with the labels that it leaves of each. first: its next seed.
    but: tests of which nothing is promised.
    """
    outside, hidden = 0, False
    cells, values = _Ahead(), _Ahead()
    for state in coverage.tests:
        never = never_ran(state)
        name = (state.test.key, state.test.device)
        if not never or name in but:
            continue
        left = reach.get(name, ())
        wanted = [label for label in never if label in left]
        outside += len(wanted) < len(never)
        if wanted:
            hidden = hidden or any(label in wanted for label in hidden_of(state))
            cells.add(state, [(label,) for label in wanted], first, strategy, left)
            if waiting := values_never_ran(state, left):
                values.add(state, waiting, first, strategy, left)
    return Outlook(cells.tests, cells.runs, hidden, outside, values.tests, values.runs)


def last_runs(coverage: Coverage, runs: Sequence[RunRecord]) -> dict[Name, RunRecord]:
    """The run that took each test last, and whose seed was the next one of its lane, if any was."""
    by_uid = {run.uid: run for run in runs}
    found = {}
    for state in coverage.tests:
        marks = [one.record.last.run for one in state.cells if one.record is not None]
        took = [by_uid[uid] for uid in dict.fromkeys(marks) if uid in by_uid]
        if took:
            found[state.test.key, state.test.device] = max(
                took, key=lambda run: (run.in_series, run.started, run.uid)
            )
    return found


def rechecked(state: TestState, hidden: Hidden) -> list[str]:
    """The labels that the next run takes of a test on top of its sample, if it runs no suspect."""
    again = [one.cell.label for one in state.failing]
    return [*again, *hidden.get(state.test.device, {}).get(state.test.key, ())]


def next_sample(coverage: Coverage, runs: Sequence[RunRecord], hidden: Hidden) -> list[Taken]:
    """What the next run takes of each test, if the selection that ran last goes on.

    runs: oldest first.
    """
    newest = newest_in_series(runs)
    if newest is None:
        return []
    last = last_runs(coverage, runs)
    # Once, as it looks at all runs, and there may be 20,000 tests.
    seed = seed_following(newest, runs)
    found = []
    for state in coverage.tests:
        key, device = state.test.key, state.test.device
        run = last.get((key, device))
        if run is not None and (run.lane, run.part) == (newest.lane, newest.part):
            found.append((key, device, _sample_at(state, newest, seed, hidden)))
    return found


def sample_after(
    state: TestState, run: RunRecord, runs: Sequence[RunRecord], hidden: Hidden
) -> tuple[str, ...]:
    """What the next run of a run's selection takes of a test; nothing where no seed decides that.

    runs: oldest first.
    """
    return _sample_at(state, run, seed_following(run, runs), hidden)


def _sample_at(state: TestState, run: RunRecord, seed: int, hidden: Hidden) -> tuple[str, ...]:
    able = can_run(state)
    if run.strategy == "all":
        return tuple(able)
    if run.strategy not in STRATEGIES:
        return ()
    taken = next(samples_of(state, seed, run.strategy, again=rechecked(state, hidden)))
    return tuple(label for label in able if label in taken)


def foresee_all(coverage: Coverage, runs: Sequence[RunRecord]) -> Outlook:
    """What the next runs come to if each selection that took a test goes on. runs: oldest first."""
    hidden, outside = False, 0
    cells, values = _Ahead(), _Ahead()
    last = last_runs(coverage, runs)
    following: dict[str, int] = {}
    for state in coverage.tests:
        wanted = never_ran(state)
        if not wanted:
            continue
        run = last.get((state.test.key, state.test.device))
        if run is None or _left_out(state, run):
            outside += 1
            continue
        if run.uid not in following:
            following[run.uid] = seed_following(run, runs)
        hidden = hidden or any(label in wanted for label in hidden_of(state))
        first = following[run.uid]
        cells.add(state, [(label,) for label in wanted], first, run.strategy, None)
        if waiting := values_never_ran(state):
            values.add(state, waiting, first, run.strategy, None)
    return Outlook(cells.tests, cells.runs, hidden, outside, values.tests, values.runs)


def _left_out(state: TestState, run: RunRecord) -> bool:
    """Whether the run, by its seed, should have taken a cell and did not: its selection, such as
    `-k float16`, leaves that out.
    """
    if run.strategy == "all":
        due = set(state.test.declared)
    elif run.strategy == "rotate":
        due = set(sample_of(state, run.seed))
    else:
        return False
    # What has an outcome may have been taken then; who knows.
    return any(one.record is None for one in state.cells if one.cell.label in due)


def out_of_step(state: TestState, seeds: Sequence[int]) -> OutOfStep | None:
    """Whether the seeds of a test's runs so far, if they go on in such steps, never come to a cell.

    seeds: of its last runs, the newest last.
    """
    if len(seeds) < _EVIDENCE:
        return None
    step = gcd(*(after - before for before, after in pairwise(seeds)))
    if step == 1:
        return None
    hidden = hidden_of(state)
    wanted = [label for label in never_ran(state) if label not in hidden]
    met: set[str] = set()
    # Whatever the step is, places repeat after as many seeds as there are labels.
    for number in range(len(state.test.declared)):
        met.update(sample_of(state, seed_after(seeds[-1], step * number)))
    missed = tuple(label for label in wanted if label not in met)
    return OutOfStep(state, tuple(seeds), missed) if missed else None
