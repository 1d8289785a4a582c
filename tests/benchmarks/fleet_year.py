"""A year of runs in a PostgreSQL ledger, by statements instead of by a year of pytest.

`check` writes some runs both ways, and compares all that the store says of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import md5
from typing import TYPE_CHECKING, Any

from dtype_sampler.ledger import server_schema as schema
from dtype_sampler.ledger.costs import NEWEST, lasted
from dtype_sampler.ledger.failures import Failure
from dtype_sampler.ledger.outcomes import FAILED, NOT_REACHED, PASSED, XFAILED, Cell
from dtype_sampler.ledger.postgres import PostgresStore
from dtype_sampler.ledger.records import Observed, RunRecord, TestRecord
from dtype_sampler.ledger.rows import NUMBERS
from dtype_sampler.ledger.server_schema import SCHEMA

if TYPE_CHECKING:
    import psycopg

LABELS, K = tuple(f"torch.dtype{number}" for number in range(5)), 2
DEVICE = "cuda"
# Seconds from one run to the next, and that a run takes.
RUNS_A_DAY = 120
STEP, LASTS = 86_400 / RUNS_A_DAY, 600.0
# Days for which the failing cells have been failing.
FAILING = 10
# Of each so many tests one has all observations of the year, the others those of the last days.
THIN = 20
_FAILURE = Failure(("RuntimeError",), '"gelu" not implemented for this dtype')
_REST, _DURATION = 0.01, 0.05


@dataclass(frozen=True)
class Year:
    """Runs of one project, one after the other. begin: of the first, in whole seconds since 1970.

    a_day: how many runs count as a day, where it matters since when something fails.
    """

    project: str
    begin: float
    runs: int
    tests: int
    a_day: int = RUNS_A_DAY

    @classmethod
    def until(cls, now: float, project: str, *, runs: int, tests: int) -> Year:
        """The runs before *now*."""
        return cls(project, float(int(now) - int(STEP) * runs), runs, tests)

    def started(self, run: int) -> float:
        """When a run began. run: from 0 on."""
        return self.begin + STEP * run


def keys(tests: int) -> list[str]:
    """The keys of so many tests."""
    return [
        f"tests/models/test_modeling_{number % 200}.py::ModelTest::test_forward_{number}"
        for number in range(tests)
    ]


def record(uid: str, started: float, seed: int) -> RunRecord:
    """A run as the plugin tells of it."""
    return RunRecord(
        uid,
        started,
        seed,
        "next",
        "rotate",
        command="pytest tests -n 8 --dtype-ledger=postgresql://ci:***@db/ledger",
        commit="0123456789abcdef0123456789abcdef01234567",
        host="runner-17",
        python="3.11.7",
        torch="2.13.0",
        plugin="1.0",
        device=DEVICE,
        lane="tests",
        workers=8,
    )


def write(store: PostgresStore, year: Year, run: int) -> None:
    """One of its runs, as the plugin writes it."""
    started = year.started(run)
    told = store.open_run(record(md5(b"%d" % run).hexdigest(), started, run + 1))
    tests, seen = [], []
    for number, key in enumerate(keys(year.tests)):
        rests = lasted(started, _REST)
        tests.append(TestRecord(key, DEVICE, LABELS, started, K, rests=rests))
        for place, label in enumerate(LABELS):
            if (number + place + K * run) % len(LABELS) < K:
                outcome = _outcome(year, run, len(LABELS) * number + place)
                failure = _FAILURE if outcome == FAILED else None
                at = started + number % int(LASTS)
                nodeid = f"{key}[{label}]"
                cell = Cell(key, label, DEVICE)
                seen.append(Observed(cell, nodeid, outcome, at, _DURATION, failure))
    store.append(told.uid, tests, seen)
    store.close_run(told.finished(started + LASTS, {PASSED: year.tests * K}), 200)


def _outcome(year: Year, run: int, cell: int) -> str:
    if cell % 400 == 0 and run >= year.runs - FAILING * year.a_day:
        return FAILED
    if cell % 200 == 7:
        return XFAILED
    if cell % 1000 == 3 and run >= year.runs - year.a_day:
        return NOT_REACHED
    return PASSED


def fill(
    connection: psycopg.Connection[Any],
    year: Year,
    *,
    whole: int,
    tell: Callable[[str], None],
) -> None:
    """The other runs of a year whose first run the plugin has written.

    whole: of so many of its last days, all tests have their observations.
    """
    tell("filling")
    fill_the_rest(connection, year)
    # What the plugin has observed comes again, in its month.
    connection.execute("DELETE FROM observations_default")
    # As `server.upgrade` makes them, but that what is to be in one comes before its indexes.
    first, last = (_month(year.started(run)) for run in (0, year.runs - 1))
    for month in range(first, last + 1):
        name = f"{SCHEMA}.{schema.partition_name(month)}"
        make, attach = schema.attach(month)
        connection.execute(f"DROP TABLE IF EXISTS {name}")
        connection.execute(make)
        for day in range(0, year.runs, year.a_day):
            tell(f"filling {schema.month_name(month)}")
            thin = 1 if day >= year.runs - whole * year.a_day else THIN
            _observe(connection, year, name, month, range(day, day + year.a_day), thin)
        connection.execute(attach)


def fill_the_rest(connection: psycopg.Connection[Any], year: Year) -> None:
    """Its runs but the first, and what its tests and cells came to."""
    connection.execute(
        f"SELECT set_config('dtype_sampler.project', id::text, false) FROM {SCHEMA}.projects"
        " WHERE name = %s",
        [year.project],
    )
    connection.execute(f"SET search_path = {SCHEMA}, pg_temp; SET work_mem = '256MB'")
    columns = (
        'ended, counts, seed_origin, strategy, command, "commit", host, python, torch, plugin,'
        " device, lane, workers"
    )
    connection.execute(
        f"INSERT INTO runs (uid, number, started, seed, {columns})"
        " SELECT md5(i::text), 1 + i, %(begin)s + i * %(step)s, 1 + i,"
        f" %(begin)s + i * %(step)s + %(lasts)s, {columns.partition(' ')[2]}"
        " FROM runs, generate_series(1, %(last)s) AS i WHERE number = 1",
        {"begin": year.begin, "step": STEP, "lasts": LASTS, "last": year.runs - 1},
    )
    # The first run has taken two of the labels of each test.
    connection.execute(
        "INSERT INTO cells (test, label, nodeid, last_at, last_run, last) SELECT tests.id, label,"
        " key || '[' || label || ']', 0, 0, '' FROM tests, json_array_elements_text(declared::json)"
        " AS label ON CONFLICT DO NOTHING"
    )
    connection.execute(
        "CREATE TEMPORARY TABLE known AS SELECT cells.id, test, tests.number AS test_number,"
        " 5 * tests.number + place AS number, place FROM cells"
        " JOIN (SELECT id, substring(key FROM '[0-9]+$')::int AS number FROM tests) AS tests"
        " ON tests.id = test, LATERAL (SELECT substring(label FROM '[0-9]+$')::int AS place) AS of;"
        " ANALYZE known; ANALYZE all_runs"
    )
    newest = list(range(max(year.runs - NEWEST, 0), year.runs))[::-1]
    rests = "[" + ",".join(_pair(year, run, _REST) for run in newest) + "]"
    at = year.started(year.runs - 1)
    connection.execute("UPDATE tests SET seen_at = %s, whole_at = %s, rests = %s", (at, at, rests))
    # Each cell is in two of any five runs: more than these can be in no mark, and in no costs.
    limits = (year.runs, year.runs - FAILING * year.a_day, year.runs - year.a_day)
    some = sorted({run for end in limits for run in range(max(end - 15, 0), max(end, 0))})
    connection.execute(
        "CREATE TEMPORARY TABLE marks AS SELECT known.id, runs.id AS run,"
        f" started + test_number %% {int(LASTS)} AS at, {_sql_outcome(year)} AS outcome,"
        f" '[' || (1000 * started)::bigint || ',{round(1e6 * _DURATION)}]' AS cost"
        f" FROM known JOIN runs ON {_TAKES} WHERE runs.number - 1 = ANY(%s)",
        (some,),
    )
    numbers = {
        "last": tuple(NUMBERS.values()),
        "verdict": tuple(NUMBERS[one] for one in (PASSED, FAILED, XFAILED)),
        "passed": (NUMBERS[PASSED],),
        "failed": (NUMBERS[FAILED],),
    }
    words = " ".join(f"WHEN {number} THEN '{name}'" for name, number in NUMBERS.items())
    for mark, which in numbers.items():
        connection.execute(
            f"UPDATE cells SET {mark}_at = at, {mark}_run = run,"
            f" {mark} = CASE outcome {words} END FROM (SELECT DISTINCT ON (id) * FROM marks"
            " WHERE outcome = ANY(%s) ORDER BY id, at DESC) AS newest WHERE newest.id = cells.id",
            (list(which),),
        )
    connection.execute(
        "UPDATE cells SET costs = told.costs FROM (SELECT id, '[' || string_agg(cost, ',' ORDER BY"
        " at DESC) || ']' AS costs FROM (SELECT *, row_number() OVER (PARTITION BY id ORDER BY at"
        f" DESC) AS place FROM marks) AS placed WHERE place <= {NEWEST} GROUP BY id) AS told"
        " WHERE told.id = cells.id"
    )
    connection.execute(
        "INSERT INTO kinds (kind, message) VALUES (%s, %s) ON CONFLICT DO NOTHING",
        (_FAILURE.kind, _FAILURE.message),
    )
    connection.execute(
        "INSERT INTO failures (cell, run, at, kind)"
        f" SELECT known.id, runs.id, test_number %% {int(LASTS)} * 1000, kinds.id FROM kinds,"
        f" known JOIN runs ON {_TAKES} WHERE known.number %% 400 = 0 AND runs.number > %s"
        " ON CONFLICT DO NOTHING",
        (year.runs - FAILING * year.a_day,),
    )


# Whether a run takes a cell.
_TAKES = "(test_number + place + 2 * (runs.number - 1)) %% 5 < 2"


def _sql_outcome(year: Year) -> str:
    return (
        f"CASE WHEN known.number %% 400 = 0 AND runs.number > {year.runs - FAILING * year.a_day}"
        f" THEN {NUMBERS[FAILED]} WHEN known.number %% 200 = 7 THEN {NUMBERS[XFAILED]}"
        f" WHEN known.number %% 1000 = 3 AND runs.number > {year.runs - year.a_day}"
        f" THEN {NUMBERS[NOT_REACHED]} ELSE {NUMBERS[PASSED]} END"
    )


def _observe(
    connection: psycopg.Connection[Any],
    year: Year,
    table: str,
    month: int | None,
    which: range,
    thin: int,
) -> None:
    """What came of cells in some runs. month: only of those of this one."""
    first, behind = (0, 1 << 62) if month is None else schema.bounds(month)
    connection.execute(
        f"INSERT INTO {table} (project, run, cell, outcome, at, duration) SELECT runs.project,"
        f" runs.id, known.id, {_sql_outcome(year)}, test_number %% {int(LASTS)} * 1000,"
        f" {round(1000 * _DURATION)} FROM runs JOIN known ON {_TAKES} WHERE runs.number > %s"
        " AND runs.number <= %s AND runs.id >= %s AND runs.id < %s AND test_number %% %s = 0"
        " ORDER BY runs.id, known.id ON CONFLICT DO NOTHING",
        (which.start, which.stop, first, behind, thin),
    )


def _pair(year: Year, run: int, seconds: float) -> str:
    ((at, micros),) = lasted(year.started(run), seconds)
    return f"[{at},{micros}]"


def _month(at: float) -> int:
    told = time.gmtime(at)
    return told.tm_year * 12 + told.tm_mon - 1


def check(url: str) -> None:
    """Raise RuntimeError unless both ways to write come to the same."""
    import psycopg

    told = []
    for project in ("by the plugin", "by statements"):
        # Cells begin to fail after six of these runs, and are not reached in the last two.
        year = Year(project, 1_700_000_000.0, 26, 85, a_day=2)
        store = PostgresStore.open(url, project=project, wait=60.0)
        for run in range(year.runs if project == "by the plugin" else 1):
            write(store, year, run)
        if project == "by statements":
            with psycopg.connect(url, autocommit=True) as connection:
                fill_the_rest(connection, year)
                _observe(connection, year, "all_observations", None, range(year.runs), 1)
        uids = [run.uid for run in store.runs()]
        told.append(
            {
                "runs": store.runs(),
                "tests": store.tests(),
                "cells": store.cells(),
                "observations": [store.observations(uid) for uid in uids],
                "failures": store.failures(),
                "history": store.history(verdicts=True),
                "costs": store.costs(),
            }
        )
        store.close()
    for name, one in told[0].items():
        if one != told[1][name]:
            raise RuntimeError(f"{name}: statements write other than the plugin")
