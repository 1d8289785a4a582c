"""What a ledger answers: its rows -> what who asked wants of them. Values are checked by `rows`.

What is wrong raises ValueError.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dtype_sampler.ledger.costs import Name, estimate
from dtype_sampler.ledger.outcomes import OUTCOMES, Cell
from dtype_sampler.ledger.records import DECISIVE, Brief, CellRecord, Mark, Observed
from dtype_sampler.ledger.rows import (
    LATEST,
    MARKS_MEAN,
    MOST,
    NUMBERED,
    failure_of,
    lasted_of,
    moment,
    number,
    observed_of,
    text,
)
from dtype_sampler.sampling.lanes import Lane
from dtype_sampler.sampling.rule import MAX_SEED


def named(of_tests: Mapping[int, Name], row: Sequence[Any]) -> tuple[int, Cell]:
    """The id of a cell, and the cell. row: id, id of the test, label. of_tests: names, by id."""
    cell_id, test_id, label = row
    if test_id not in of_tests:
        raise ValueError("cells speaks of a test that is not there")
    key, device = of_tests[test_id]
    return cell_id, Cell(key, text(label, "cells.label"), device)


def name_of(key: object, device: object) -> Name:
    """What a test is known by."""
    return text(key, "tests.key"), text(device, "tests.device")


def cells_of(
    rows: Iterable[Sequence[Any]], name: Name, uids: Mapping[int, str]
) -> list[CellRecord]:
    """The cells of one test. rows: its id; then label, node id, costs, and marks of each."""
    key, device = name
    found = []
    # What a test runs together has one moment: few of its cells have marks of their own.
    known: dict[Sequence[Any], tuple[Mark, Mark | None, Mark | None, Mark | None]] = {}
    for row in rows:
        _, label, nodeid, costs = row[:4]
        told = row[4:]
        marks = known.get(told)
        if marks is None:
            marks = known[told] = marks_of(told, uids)
        cell = Cell(key, text(label, "cells.label"), device)
        # One text for both, where it is a loop's.
        nodeid = key if nodeid == key else text(nodeid, "cells.nodeid")
        found.append(CellRecord(cell, nodeid, *marks, lasted_of(costs, "cells.costs")))
    return found


def briefs_of(rows: Iterable[Sequence[Any]], uids: Mapping[int, str]) -> dict[str, Brief]:
    """What is known of one test's cells, by label. rows: its id, a label, what `brief_of` takes."""
    found = {}
    known: dict[Sequence[Any], Brief] = {}
    for row in rows:
        told = row[2:]
        brief = known.get(told)
        if brief is None:
            brief = known[told] = brief_of(told, uids)
        found[row[1]] = brief
    return found


def page_row_of(row: Sequence[Any]) -> Observed:
    """row: the cell's id, what `observed_of` takes, kind and message of its failure, if any."""
    _, *said, kind, message = row
    one = observed_of(said, NUMBERED)
    return one if kind is None else one._replace(failure=failure_of(kind, message))


def names_of(row: Sequence[Any]) -> tuple[str, str, str]:
    """row: device, key, label."""
    device, key, label = row
    return text(device, "tests.device"), text(key, "tests.key"), text(label, "cells.label")


def seed_of(row: Sequence[Any]) -> tuple[int, bool]:
    """row: a seed, and whether it was the next one of its lane."""
    seed, in_series = row
    return number(seed, "runs.seed", MAX_SEED), bool(in_series)


def lane_of(row: Sequence[Any]) -> tuple[Lane, int]:
    """row: an id, lane, part, and the seed that it has come to."""
    _, lane, part, seed = row
    told = Lane(text(lane, "runs.lane"), text(part, "runs.part"))
    return told, number(seed, "runs.seed", MAX_SEED)


def worrying_of(row: Sequence[Any]) -> tuple[str, str, str, str, bool, bool]:
    """row: device, key, label, verdict, whether it was tried since, whether alone."""
    device, key, label, verdict, tried, lone = row
    # The verdict is one of those that were asked for, and the others are SQLite's own.
    names = text(device, "tests.device"), text(key, "tests.key"), text(label, "cells.label")
    return *names, str(verdict), bool(tried), bool(lone)


def activity_of(row: Sequence[Any]) -> tuple[Cell, tuple[int, float]]:
    """row: key, label, device, how many runs, and when the first of these began."""
    key, label, device, often, at = row
    cell = Cell(text(key, "tests.key"), text(label, "cells.label"), text(device, "tests.device"))
    return cell, (often, moment(at, "runs.started"))


def rest_of(row: Sequence[Any]) -> tuple[object, Name, float | None]:
    """row: a test's id, key, device, and what it took besides its cells."""
    test_id, key, device, rests = row
    name = text(key, "tests.key"), text(device, "tests.device")
    return test_id, name, estimate(lasted_of(rests, "tests.rests"))


def cost_of(row: Sequence[Any]) -> tuple[object, str, float | None]:
    """row: a test's id, a label, and what that cell took."""
    test_id, label, costs = row
    return test_id, text(label, "cells.label"), estimate(lasted_of(costs, "cells.costs"))


def marks_of(
    told: Sequence[Any], uids: Mapping[int, str]
) -> tuple[Mark, Mark | None, Mark | None, Mark | None]:
    """A cell's marks, in the order of `MARKS`. told: when, in which run and what, of each."""
    first = told[:3]
    last = _first_mark(first, uids)
    verdict, passed, failed = [
        _next_mark(told[place : place + 3], meant, uids, first, last)
        for place, meant in zip((3, 6, 9), MARKS_MEAN[1:], strict=True)
    ]
    return last, verdict, passed, failed


def checked_moments(rows: list[tuple[Any, Any, Any]]) -> list[tuple[Any, str, float]]:
    """rows: an id, a label, and a moment that has to do with that cell."""
    if rows:
        _, names, moments = zip(*rows, strict=True)
        # By columns, as `text` and `moment` do it one by one: a suite has 200,000 cells.
        if (
            set(map(type, names)) == {str}
            and "".join(set(names)).isascii()
            and set(map(type, moments)) == {float}
            and min(moments) >= 0.0
            and max(moments) <= LATEST
        ):
            return rows
    return [(one, text(label, "cells.label"), moment(at, "cells")) for one, label, at in rows]


def brief_of(told: Sequence[Any], uids: Mapping[int, str]) -> Brief:
    """told: when, in which run and what, of the last outcome and of the last verdict; then whether
    the cell has a node id (1), and one of its own (2).
    """
    first = told[:3]
    last = _first_mark(first, uids)
    verdict = _next_mark(told[3:6], DECISIVE, uids, first, last)
    return Brief(last, verdict, named=told[6] > 0, own=told[6] > 1)


def _first_mark(told: Sequence[Any], uids: Mapping[int, str]) -> Mark:
    last = _mark(told, OUTCOMES, uids)
    if last is None:
        raise ValueError("cells.last_at is no time")
    return last


def _next_mark(
    told: Sequence[Any],
    meant: frozenset[str],
    uids: Mapping[int, str],
    first: Sequence[Any],
    last: Mark,
) -> Mark | None:
    if told[0] is None:
        return None
    # The rule: what was last was a verdict too, and a pass.
    return last if told == first and last.outcome in meant else _mark(told, meant, uids)


def _mark(told: Sequence[Any], meant: frozenset[str], uids: Mapping[int, str]) -> Mark | None:
    at, run, outcome = told
    if at is None:
        return None
    if type(outcome) is not str or outcome not in meant:
        raise ValueError("cells has an outcome that none can have")
    if type(run) is not int or run not in uids:
        raise ValueError("cells speaks of a run that is not there")
    return Mark(moment(at, "cells"), uids[run], outcome)


def check_numbers(
    started: float,
    cells: Sequence[Any],
    outcomes: Sequence[Any],
    ats: Sequence[Any],
    durations: Sequence[Any],
) -> None:
    """Raise ValueError if these columns of observations hold what `observed_of` would refuse.

    started: of the run.
    """
    # By columns, as there may be millions of rows.
    known = [one for one in durations if one is not None]
    for what, column, least, most in (
        ("observations.cell", cells, -(1 << 63), 1 << 63),
        ("observations.outcome", outcomes, 0, len(NUMBERED) - 1),
        ("observations.at", ats, -MOST, MOST),
        ("observations.duration", known, 0, MOST),
    ):
        if column and not (
            set(map(type, column)) == {int} and least <= min(column) and max(column) <= most
        ):
            raise ValueError(f"{what} is no number that can be there")
    for at in (min(ats), max(ats)):
        moment(started + at / 1000, "observations.at")
