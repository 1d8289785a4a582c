"""Rows -> records, and back. Each value is checked where it enters, as a file may be anybody's.

What is wrong raises ValueError, in words that follow the name of the file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from functools import lru_cache
from operator import gt
from typing import Any

from dtype_sampler.ledger.costs import NEWEST, Lasted, newest
from dtype_sampler.ledger.failures import LONGEST, Failure
from dtype_sampler.ledger.outcomes import (
    CRASHED,
    FAILED,
    NOT_REACHED,
    OUTCOMES,
    PASSED,
    SKIPPED,
    SUSPECT,
    UNSUPPORTED,
    XFAILED,
    XPASSED,
    Cell,
)
from dtype_sampler.ledger.records import (
    DECISIVE,
    FAILURES,
    FailureRecord,
    Observed,
    RunRecord,
    TestRecord,
)
from dtype_sampler.sampling.rule import MAX_SEED

# The end of the year 9999, less a day for time zones: what Python can tell as a date.
LATEST = 253_402_214_400.0
# Of one test; the work that a pool makes grows with its square.
MOST_LABELS = 10_000
_LONGEST_JSON = 1 << 20
_SHORT = 1 << 12
# Durations, as `json_of` writes them.
_PAIRS = re.compile(r"\[\[(\d{1,15}),\d{1,15}\](?:,\[\d{1,15},\d{1,15}\])*\]")
# Characters. No system takes a longer command line, and what we write is far shorter.
_LONGEST_LINE = 1 << 22
# Not just those of today: there may be more of them without another schema.
_STRATEGY = re.compile(r"[a-z][a-z0-9_-]{0,30}")
MOST = 1 << 53
# Outcomes have numbers in observations: to be added to, never to be changed.
NUMBERED = (
    *(PASSED, FAILED, XFAILED, XPASSED, SKIPPED, UNSUPPORTED, CRASHED, NOT_REACHED),
    SUSPECT,
)
NUMBERS = {outcome: number for number, outcome in enumerate(NUMBERED)}
# As `run_of` and `test_of` take them.
RUN_COLUMNS = (
    *("uid", "number", "started", "ended", "seed", "seed_origin", "strategy", "command"),
    *('"commit"', "host", "python", "torch", "plugin", "device", "counts"),
    *("lane", "part", "in_series"),
    *("workers", "took", "others", "predicted"),
)
TEST_COLUMNS = (
    *("key", "device", "declared", "seen_at", "k", "always", "met_at"),
    *("whole_at", "times", "rests", "arguments", "circle"),
)
# The marks of a cell, and what each may say.
MARKS = ("last", "verdict", "passed", "failed")
MARKS_MEAN = (OUTCOMES, DECISIVE, frozenset({PASSED}), FAILURES)
MARK_COLUMNS = tuple(f"{mark}{part}" for mark in MARKS for part in ("_at", "_run", ""))


def moment(value: object, what: str) -> float:
    """Seconds since 1970."""
    # No bool, which is an int too.
    if type(value) in (float, int) and 0.0 <= value <= LATEST:  # type: ignore[operator]  # a number
        return float(value)  # type: ignore[arg-type]  # likewise
    raise ValueError(f"{what} is no time")


def number(value: object, what: str, most: int = MOST) -> int:
    """An integer from 0 on."""
    if type(value) is int and 0 <= value <= most:
        return value
    raise ValueError(f"{what} is no number that can be there")


def text(value: object, what: str) -> str:
    """Text that can be written; what JSON holds of a command line or a file name may be none."""
    if type(value) is not str:
        raise ValueError(f"{what} is no text")
    return readable(value)


def readable(value: str) -> str:
    """The text itself, if it can be written; else with escapes, as a command line may need them."""
    return value if value.isascii() else value.encode(errors="backslashreplace").decode()


def shown(value: object) -> str:
    """Something of the file's, fit for one line of a message."""
    text = "".join(one if one.isprintable() else " " for one in str(value))
    return text if len(text) <= 80 else f"{text[:77]}..."


def labels(value: object, what: str) -> tuple[str, ...]:
    """Labels without repeats, of a JSON list or the text of one."""
    if type(value) is str and len(value) < _SHORT:
        return _labels_of_text(value, what)
    return _labels(value, what)


# Many tests declare the same.
@lru_cache(maxsize=256)
def _labels_of_text(value: str, what: str) -> tuple[str, ...]:
    return _labels(value, what)


def _labels(value: object, what: str) -> tuple[str, ...]:
    found = _json(value, what)
    if not isinstance(found, list | tuple) or len(found) > MOST_LABELS:
        raise ValueError(f"{what} is no list of labels")
    told = tuple([text(one, what) for one in found])
    if len(set(told)) != len(told):
        raise ValueError(f"{what} names a label twice")
    return told


def _json(value: object, what: str) -> Any:
    if not isinstance(value, str):
        return value
    if len(value) > _LONGEST_JSON:
        raise ValueError(f"{what} is too long")
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise ValueError(f"{what} is no JSON of a ledger's") from None


def lasted_of(value: object, what: str) -> Lasted:
    """The newest durations, of a JSON list or the text of one."""
    if value == "[]":
        return ()
    if type(value) is str and _PAIRS.fullmatch(value):
        # As `json_of` writes it, which is faster to take apart: a suite has 200,000 cells.
        numbers = [*map(int, value[2:-2].replace("],[", ",").split(","))]
        runs, micros = numbers[::2], numbers[1::2]
        # None has so many digits that it could be too large.
        if len(runs) <= NEWEST and all(map(gt, runs, runs[1:])):
            return tuple(zip(runs, micros, strict=True))
    found = _json(value, what)
    if not isinstance(found, list | tuple) or len(found) > NEWEST:
        raise ValueError(f"{what} are no durations")
    told, before = [], MOST
    for pair in found:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise ValueError(f"{what} are no durations")
        run = number(pair[0], what)
        if run >= before:
            raise ValueError(f"{what} are no durations, the newest first")
        before = run
        told.append((run, number(pair[1], what, MOST - 1)))
    return tuple(told)


def json_of(some: Lasted) -> str:
    """As `lasted_of` reads it."""
    # By hand, as every cell of a run has one pair.
    return f"[{','.join([f'[{run},{micros}]' for run, micros in some])}]"


def merged_durations(given: Lasted, known: str, what: str) -> str:
    """The newest of both, as `costs.newest` has it. known: JSON of a ledger's."""
    if known == "[]":
        return json_of(given)
    # Most are of one run that is newer than all that is known: then it is put before these.
    if len(given) == 1 and (pairs := _PAIRS.fullmatch(known)) and given[0][0] > int(pairs[1]):
        kept = known[1:-1] if known.count("[") <= NEWEST else known[1 : known.rindex(",[")]
        return f"{json_of(given)[:-1]},{kept}]"
    return json_of(newest(given, lasted_of(known, what)))


def checked_run(run: RunRecord) -> RunRecord:
    """The record itself, if all of its values can be there."""
    for field in fields(run):
        value = getattr(run, field.name)
        if field.type == "str" or (field.type == "str | None" and value is not None):
            text(value, f"runs.{field.name}")
        elif field.type == "bool" and type(value) is not bool:
            raise ValueError(f"runs.{field.name} is neither true nor false")
    if _STRATEGY.fullmatch(run.strategy) is None:
        raise ValueError("runs.strategy is none")
    for name, said in (("lane", run.lane or ""), ("part", run.part), ("command", run.command)):
        if len(said) > _LONGEST_LINE:
            raise ValueError(f"runs.{name} is too long")
    number(run.number, "runs.number")
    number(run.seed, "runs.seed", MAX_SEED)
    moment(run.started, "runs.started")
    if run.ended is not None:
        moment(run.ended, "runs.ended")
    number(run.workers, "runs.workers")
    moment(run.others, "runs.others")
    for name in ("took", "predicted"):
        if getattr(run, name) is not None:
            moment(getattr(run, name), f"runs.{name}")
    if not isinstance(run.counts, Mapping) or len(run.counts) > len(OUTCOMES):
        raise ValueError("runs.counts counts no outcomes")
    for outcome, count in run.counts.items():
        text(outcome, "runs.counts")
        number(count, "runs.counts")
    return run


def run_of(row: Iterable[Any]) -> RunRecord:
    """row: `RUN_COLUMNS`."""
    values = dict(zip((name.strip('"') for name in RUN_COLUMNS), row, strict=True))
    # In the tables these are numbers.
    for field in fields(RunRecord):
        if field.type == "bool" and values.get(field.name) in (0, 1):
            values[field.name] = bool(values[field.name])
    return checked_run(RunRecord(**values | {"counts": _json(values["counts"], "runs.counts")}))


def values_of_run(run: RunRecord) -> list[object]:
    """The row of a run: `RUN_COLUMNS`."""
    values = [getattr(run, name.strip('"')) for name in RUN_COLUMNS]
    values[RUN_COLUMNS.index("counts")] = json.dumps(dict(run.counts))
    values[RUN_COLUMNS.index("in_series")] = int(run.in_series)
    return values


def test_of(
    key: object,
    device: object,
    declared: object,
    seen_at: object,
    k: object,
    always: object,
    met_at: object,
    whole_at: object,
    times: object,
    rests: object,
    arguments: object,
    circle: object,
) -> TestRecord:
    """declared, always, times, rests: a list, or the JSON of one."""
    told = labels(declared, "tests.declared")
    # As nearly always: all that a test declares was seen at once.
    found = [] if times == "[]" else _json(times, "tests.times")
    if not isinstance(found, list | tuple) or len(found) not in (0, len(told)):
        raise ValueError("tests.times are no times of its labels")
    pairs = []
    for pair in found:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise ValueError("tests.times are no times of its labels")
        pairs.append((moment(pair[0], "tests.times"), number(pair[1], "tests.times")))
    return TestRecord(
        text(key, "tests.key"),
        text(device, "tests.device"),
        told,
        moment(seen_at, "tests.seen_at"),
        number(k, "tests.k"),
        labels(always, "tests.always"),
        moment(met_at, "tests.met_at"),
        moment(whole_at, "tests.whole_at"),
        tuple(pairs),
        lasted_of(rests, "tests.rests"),
        number(arguments, "tests.arguments", MOST_LABELS),
        text(circle, "tests.circle"),
    )


def values_of_test(test: TestRecord) -> list[object]:
    """The row of a test: `TEST_COLUMNS`."""
    declared, always = _json_of_labels(test.declared), _json_of_labels(test.always)
    since = (test.met_at, test.whole_at, json.dumps(test.times) if test.times else "[]")
    later = (json_of(test.rests), test.arguments, readable(test.circle))
    return [test.key, test.device, declared, test.seen_at, test.k, always, *since, *later]


@lru_cache(maxsize=256)
def _json_of_labels(some: tuple[str, ...]) -> str:
    # Many tests declare the same.
    return json.dumps([*map(readable, some)])


test_of.__test__ = False  # type: ignore[attr-defined]  # pytest would collect it where it is imported


def observed_of(row: Sequence[Any], outcomes: Sequence[str]) -> Observed:
    """row: key, label, device, node id, number among *outcomes*, start of the run, and in
    milliseconds when since then, and how long.
    """
    key, label, device, nodeid, outcome, started, at, duration = row
    if type(at) is not int or abs(at) > MOST:
        raise ValueError("observations.at is no time")
    if duration is not None:
        duration = number(duration, "observations.duration") / 1000
    return Observed(
        Cell(text(key, "tests.key"), text(label, "cells.label"), text(device, "tests.device")),
        text(nodeid, "cells.nodeid"),
        outcomes[number(outcome, "observations.outcome", len(outcomes) - 1)],
        moment(moment(started, "runs.started") + at / 1000, "observations.at"),
        duration,
    )


def failure_of(kind: object, message: object) -> Failure:
    """In which way something failed."""
    told, line = text(kind, "kinds.kind"), text(message, "kinds.message")
    # Written as an escape, one character has up to ten.
    if not told or len(told) > 100 * LONGEST or len(line) > 10 * LONGEST:
        raise ValueError("kinds is no kind of failure")
    return Failure.of(told, line[:LONGEST])


def failed_of(row: Sequence[Any]) -> FailureRecord:
    """row: key, label, device, uid and start of the run, milliseconds since then, kind, message."""
    key, label, device, uid, started, at, kind, message = row
    if type(at) is not int or abs(at) > MOST:
        raise ValueError("failures.at is no time")
    return FailureRecord(
        Cell(text(key, "tests.key"), text(label, "cells.label"), text(device, "tests.device")),
        text(uid, "runs.uid"),
        moment(moment(started, "runs.started") + at / 1000, "failures.at"),
        failure_of(kind, message),
    )
