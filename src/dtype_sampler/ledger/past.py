"""What the ledger knows that a run is steered by: costs, turns, and which run took what. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from statistics import median

from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.ledger.costs import Costs
from dtype_sampler.ledger.outcomes import NOT_REACHED, SKIPPED, UNSUPPORTED, Cell
from dtype_sampler.ledger.records import FAILURES, CellRecord, Observed, RunRecord, TestRecord
from dtype_sampler.sampling.lanes import Lane, of_the_same_tests
from dtype_sampler.sampling.steering import ANY, Row

# So many of the newest runs say how far apart runs are.
_RUNS = 10
# A run that was shorter, in seconds, says nothing of how well the work was shared out.
_SHORT = 1.0


@dataclass(frozen=True, slots=True)
class Past:
    """What steers a run by time.

    rows: the tests that are known. measured: whether any duration is. cell: what a cell usually
    costs, with what its test needs, in microseconds. apart: how far apart runs of this selection
    usually begin, in seconds; None if that is not known. achieved: which share of its workers' time
    the last run on as many really used. others: what tests without dtypes took in the last run of
    this selection, or of the same tests if it has none, in seconds of one process.
    """

    rows: tuple[Row, ...] = ()
    measured: bool = False
    cell: int = 0
    apart: float | None = None
    achieved: float = 1.0
    others: float = 0.0


def look_back(
    tests: Iterable[TestRecord],
    cells: Iterable[CellRecord],
    runs: Sequence[RunRecord],
    costs: Costs,
    *,
    device: str | None,
    host: str,
    lane: Lane,
    workers: int,
    observations: Callable[[str], Iterable[Observed]],
) -> Past:
    """What steers the next run. runs: oldest first.

    device: the type that the run was told to use; None means that of this host's last run. workers:
    how many processes it will have. observations: what came of a run's cells, by its uid.
    """
    known = list(tests)
    found = _rows(known, list(cells), runs, costs, _usual_device(runs, device, host))
    of_lane = [run for run in runs if run.lane is not None and Lane(run.lane, run.part) == lane]
    steady = [run.started for run in (of_lane if len(of_lane) > 1 else runs) if run.in_series]
    # A selection that is new knows this from runs that take other samples of the same tests.
    alike = of_lane or [
        run
        for run in runs
        if run.lane is not None and of_the_same_tests(Lane(run.lane, run.part), lane)
    ]
    gaps = [after - before for before, after in pairwise(steady[-_RUNS:])]
    paid = [cost + row.rest for row in found for cost in row.costs]
    return Past(
        tuple(found),
        measured=any(costs.cells.values()),
        cell=round(median(paid)) if paid else 0,
        apart=median(gaps) if gaps else None,
        achieved=_achieved(runs, workers, costs, observations) if workers > 1 else 1.0,
        others=alike[-1].others if alike else 0.0,
    )


def _usual_device(runs: Sequence[RunRecord], device: str | None, host: str) -> str | None:
    if device is not None or not runs:
        return device
    # To ask torch which one this run will use would be to import it.
    here = [run for run in runs if run.host == host]
    return (here or runs)[-1].device


def _rows(
    tests: Iterable[TestRecord],
    cells: Iterable[CellRecord],
    runs: Iterable[RunRecord],
    costs: Costs,
    device: str | None,
) -> list[Row]:
    records = {record.cell: record for record in cells}
    began = {run.uid: run.started for run in runs}
    known: dict[str, TestRecord] = {}
    for test in tests:
        other = known.get(test.key)
        # What is known of another type of device says nothing here, unless it is all there is.
        if other is None or (test.device == device, test.seen_at) > (
            other.device == device,
            other.seen_at,
        ):
            known[test.key] = test
    rows = []
    for test in known.values():
        own = [Cell(test.key, label, test.device) for label in test.declared]
        some = [records.get(cell) for cell in own]
        nodeids = {record.nodeid for record in some if record is not None and record.nodeid}
        rows.append(
            Row(
                test.key,
                test.device,
                # The items of a test have their dtype in their node ids, which its key has not.
                loop=nodeids <= {test.key},
                rest=_micros(costs.rest(test.key, test.device)),
                always=test.always,
                k=test.k,
                labels=test.declared,
                since=[None if one is None else _since(one, began) for one in some],
                costs=[
                    0 if _refused(one) else _micros(costs.of(cell))
                    for cell, one in zip(own, some, strict=True)
                ],
                arguments=test.arguments,
                circle=test.circle,
            )
        )
    return rows


def _micros(seconds: float | None) -> int:
    return round(1_000_000 * (seconds or 0.0))


def _refused(record: CellRecord | None) -> bool:
    return record is not None and record.last.outcome == UNSUPPORTED


def _since(record: CellRecord, began: Mapping[str, float]) -> float | None:
    """When the run began in which a cell had its turn last.

    By the run and not by the moment, so that the cells of one run have waited equally long.
    """
    mark = record.last
    if mark.outcome == SKIPPED and not record.nodeid:
        # A mark of the suite's own skipped it: it had no turn then.
        if record.verdict is None:
            return None
        mark = record.verdict
    return began.get(mark.run, mark.at)


def _achieved(
    runs: Sequence[RunRecord],
    workers: int,
    costs: Costs,
    observations: Callable[[str], Iterable[Observed]],
) -> float:
    for run in reversed(runs):
        if run.workers != workers or run.took is None or run.took < _SHORT:
            continue
        work = _work(observations(run.uid), costs)
        if work:
            return min(1.0, (work + run.others) / (workers * run.took))
    return 1.0


def _work(observed: Iterable[Observed], costs: Costs) -> float:
    """What the cells of a run cost, with what their tests need, in seconds."""
    work = 0.0
    tests: dict[tuple[str, str], float] = {}
    for one in observed:
        if one.outcome in (NOT_REACHED, UNSUPPORTED) or not one.nodeid:
            continue
        work += costs.of(one.cell) or 0.0
        # Once for a loop, and for each of a test's items.
        rest = costs.rest(one.cell.key, one.cell.device) or 0.0
        tests.setdefault((one.nodeid, one.cell.device), rest)
    return work + sum(tests.values())


def find_run(runs: Sequence[RunRecord], word: str) -> RunRecord:
    """The run that *word* names: its number, the beginning of its uid, or `last`.

    runs: oldest first. Raises DtypeSamplerError for what names no run, or several.
    """
    if not runs:
        raise DtypeSamplerError("the ledger has no runs yet")
    if word == "last":
        return runs[-1]
    found = []
    if word.isascii() and word.isdigit() and len(word) < 10:
        found = [run for run in runs if run.number == int(word)]
    if not found and len(word) >= 6:
        # An id may begin with digits alone.
        found = [run for run in runs if run.uid.startswith(word)]
    if len(found) > 1:
        uids = ", ".join(f"{run.uid[:8]} ({_day(run)})" for run in found)
        raise DtypeSamplerError(
            f"the ledger knows {len(found)} such runs, name one by its id: {uids}"
        )
    if found:
        return found[0]
    numbers = [run.number for run in runs]
    least, most = min(numbers), max(numbers)
    last = f"the last one is run {runs[-1].number}, {_day(runs[-1])}"
    if word.isascii() and word.isdigit() and len(word) < 10 and 0 < int(word) < most:
        raise DtypeSamplerError(
            "it is folded away, and nothing in the ledger speaks of it any more"
            f" (dtype_sampler_ledger_runs keeps the newest); {last}"
        )
    raise DtypeSamplerError(f"the ledger knows no such run: it has runs {least} to {most}; {last}")


def _day(run: RunRecord) -> str:
    return datetime.fromtimestamp(run.started, UTC).strftime("%Y-%m-%d %H:%M UTC")


def folded(run: RunRecord) -> str:
    """What is known of a run whose cells are not."""
    parts = [f"seed {run.seed}", run.strategy]
    if run.commit:
        parts.append(f"commit {run.commit[:7]}")
    text = (
        f"run {run.number} of {_day(run)} ({', '.join(parts)}) is folded away: its cells are not"
        " known any more"
    )
    if run.strategy in ("rotate", "random"):
        return f"{text}; its seed takes the same samples again: --dtype-seed={run.seed}"
    return f"{text}, and its seed alone does not tell them"


# By type of device, then by test key: how many of the labels that follow run, all of them here.
Chosen = dict[str, dict[str, tuple[int, tuple[str, ...]]]]


def chosen_by(observed: Iterable[Observed], keys: Iterable[str]) -> Chosen:
    """The cells that a run took, for a run that is to take the same.

    keys: of all tests that the ledger knows: of those that the run did not take, nothing is taken.
    """
    found: dict[str, dict[str, list[tuple[int, str]]]] = {}
    for one in observed:
        if one.outcome == UNSUPPORTED or not one.nodeid:
            continue
        # What failed may have hidden what it did not come to.
        last = 1 if one.outcome in FAILURES else 2 if one.outcome == NOT_REACHED else 0
        for device in (one.cell.device, ANY):
            found.setdefault(device, {}).setdefault(one.cell.key, []).append((last, one.cell.label))
    chosen: Chosen = {ANY: dict.fromkeys(keys, (0, ()))}
    for device, tests in found.items():
        of_device = chosen.setdefault(device, {})
        for key, pairs in tests.items():
            labels = tuple(
                dict.fromkeys(label for _, label in sorted(pairs, key=lambda one: one[0]))
            )
            of_device[key] = len(labels), labels
    return chosen
