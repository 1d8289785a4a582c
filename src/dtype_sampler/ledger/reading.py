"""What a ledger is asked, in the SQL that both engines share, and records made of the answers.

Rows come in an order that their content gives, so that two databases that hold the same say the
same. Text is compared by its bytes: SQLite does so, and the columns of a server say so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import Any, TypeVar

from dtype_sampler.ledger.answers import (
    activity_of,
    briefs_of,
    cells_of,
    check_numbers,
    checked_moments,
    cost_of,
    lane_of,
    name_of,
    named,
    names_of,
    page_row_of,
    rest_of,
    seed_of,
    worrying_of,
)
from dtype_sampler.ledger.costs import Costs, Name
from dtype_sampler.ledger.engine import Engine
from dtype_sampler.ledger.garbage import uncollected
from dtype_sampler.ledger.outcomes import (
    FAILED,
    NOT_REACHED,
    SUSPECT,
    VERDICTS,
    Cell,
)
from dtype_sampler.ledger.questions import BRIEFS, FAILING, HIDDEN, NAMED, PAGE, WORRYING
from dtype_sampler.ledger.records import (
    FAILURES,
    Brief,
    CellRecord,
    FailureRecord,
    KnownFailure,
    Numbers,
    Observed,
    RunRecord,
    TestRecord,
)
from dtype_sampler.ledger.rows import (
    LATEST,
    MARK_COLUMNS,
    NUMBERED,
    NUMBERS,
    RUN_COLUMNS,
    TEST_COLUMNS,
    failed_of,
    failure_of,
    moment,
    number,
    observed_of,
    run_of,
    shown,
    test_of,
    text,
)
from dtype_sampler.ledger.store import LedgerError
from dtype_sampler.sampling.plan import History
from dtype_sampler.sampling.rule import MAX_SEED

T = TypeVar("T")
# Values of one statement; older SQLites take 999.
_AT_ONCE = 500
NEWEST_RUNS = "SELECT id FROM runs ORDER BY started DESC, uid DESC LIMIT ?"
# The newest run of each lane.
NEWEST_OF_LANES = (
    "SELECT id, lane, part, seed FROM (SELECT *, row_number() OVER"
    " (PARTITION BY lane, part ORDER BY started DESC, uid DESC) AS place FROM runs"
    " WHERE in_series = 1 AND lane IS NOT NULL) AS ranked"
    " WHERE place = 1 ORDER BY started DESC, uid DESC LIMIT 1000"
)
# What a cell has that was never measured.
_NO_COSTS = "'[]'"


class SqlReader:
    """Reads a ledger. The methods are those of `store.Store`."""

    # Parts of statements that mean another thing where there are the runs of a year.
    newest_of_lanes = NEWEST_OF_LANES
    counted_runs = "runs"

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def snapshot(self) -> AbstractContextManager[None]:
        """Within it, all that is read is of one moment, whatever other processes write."""
        return self.engine.snapshot()

    def _rows(self, sql: str, *values: object) -> list[Any]:
        return self.engine.rows(sql, *values)

    def _checked(self, make: Callable[..., T], *values: object) -> T:
        """What *make* makes of values from the file. Raises LedgerError if they can't be there."""
        try:
            return make(*values)
        except ValueError as error:
            raise self.engine.damaged(str(error)) from None

    def _all(self, make: Callable[[Any], T], rows: Iterable[Any]) -> list[T]:
        return self._checked(lambda: [make(row) for row in rows])

    def history(self, *, verdicts: bool) -> History:
        """What the next run wants to know."""
        # A seed that was given is what a new lane goes on from only where nothing better is known.
        last = self._rows(
            "SELECT seed FROM runs ORDER BY in_series DESC, started DESC, uid DESC LIMIT 1"
        )
        seed = self._checked(number, last[0][0], "runs.seed", MAX_SEED) if last else None
        lanes = dict(self._all(lane_of, self._rows(self.newest_of_lanes)))
        failing: dict[str, dict[str, list[str]]] = {}
        hidden: dict[str, dict[str, list[str]]] = {}
        alone: dict[str, dict[str, list[str]]] = {}
        suspect: dict[str, dict[str, list[str]]] = {}
        ages: Mapping[str, Mapping[str, Mapping[str, float]]] = {}
        rows = self._rows(WORRYING)
        for device, key, label, verdict, tried, lone in self._all(worrying_of, rows):
            if verdict in FAILURES:
                failing.setdefault(device, {}).setdefault(key, []).append(label)
            if lone and verdict != SUSPECT:
                alone.setdefault(device, {}).setdefault(key, []).append(label)
            if verdict == SUSPECT and not tried:
                suspect.setdefault(device, {}).setdefault(key, []).append(label)
            # Else it has been tried in vain, and takes its chance among the others again.
        for device, key, label in self._all(names_of, self._rows(HIDDEN, NOT_REACHED)):
            hidden.setdefault(device, {}).setdefault(key, []).append(label)
        if verdicts:
            with uncollected():
                ages = self._verdicts()
        return History(seed, failing, ages, suspect, alone, hidden, lanes)

    def _verdicts(self) -> dict[str, dict[str, dict[str, float]]]:
        """When the last verdict of each cell was, as `History` has it."""
        names = self._rows("SELECT id, key, device FROM tests")
        of_tests = {test_id: self._checked(name_of, *name) for test_id, *name in names}
        rows = self._rows("SELECT test, label, verdict_at FROM cells WHERE verdict <> ?", SUSPECT)
        ages: dict[int, dict[str, float]] = {test_id: {} for test_id in of_tests}
        for test_id, label, at in self._checked(checked_moments, rows):
            if test_id in ages:
                ages[test_id][label] = at
        found: dict[str, dict[str, dict[str, float]]] = {}
        for test_id, (key, device) in of_tests.items():
            if of_test := ages[test_id]:
                found.setdefault(device, {})[key] = of_test
        return found

    def newest(self) -> float:
        """The latest moment that anything here speaks of; 0 if there is nothing."""
        moments: list[Any] = []
        for table, columns in (
            ("runs", ("started", "ended")),
            ("tests", ("seen_at", "met_at", "whole_at")),
            ("cells", ("last_at", "verdict_at")),
        ):
            # All columns of a table in one look at each row.
            most = ", ".join(f"max({column})" for column in columns)
            moments += self._rows(f"SELECT {most} FROM {table}")[0]
        known = [self._checked(moment, at, "the newest time") for at in moments if at is not None]
        return max(known, default=0.0)

    def runs(self, newest: int | None = None) -> list[RunRecord]:
        """The runs that are known, oldest first. newest: only so many, those that began last."""
        columns = ", ".join(RUN_COLUMNS)
        limit, values = ("", ()) if newest is None else (" LIMIT ?", (newest,))
        rows = self._rows(
            f"SELECT {columns} FROM runs ORDER BY started DESC, uid DESC{limit}", *values
        )
        return self._all(run_of, reversed(rows))

    def runs_of(self, uids: Iterable[str]) -> dict[str, RunRecord]:
        """Those of these runs that are known, by uid."""
        wanted, found = list(dict.fromkeys(uids)), []
        for start in range(0, len(wanted), _AT_ONCE):
            some = wanted[start : start + _AT_ONCE]
            places = ", ".join("?" * len(some))
            found += self._rows(
                f"SELECT {', '.join(RUN_COLUMNS)} FROM runs WHERE uid IN ({places})", *some
            )
        return {run.uid: run for run in self._all(run_of, found)}

    def tests(self) -> list[TestRecord]:
        """The tests that are known, by key and device."""
        rows = self._rows(f"SELECT {', '.join(TEST_COLUMNS)} FROM tests ORDER BY key, device")
        return self._all(lambda row: test_of(*row), rows)

    def cells(self, key: str | None = None, *, costs: bool = True) -> list[CellRecord]:
        """The cells that have an outcome, of one test or of all. costs: with their durations."""
        where, values = ("", ()) if key is None else (" WHERE key = ?", (key,))
        with self.snapshot():
            names = self._rows(
                f"SELECT id, key, device FROM tests{where} ORDER BY key, device", *values
            )
            of_tests = {test_id: self._checked(name_of, *name) for test_id, *name in names}
            uids = self._uids(key)
            if key is not None:
                where = " WHERE test IN (SELECT id FROM tests WHERE key = ?)"
            sql = (
                f"SELECT test, label, nodeid, {'costs' if costs else _NO_COSTS},"
                f" {', '.join(MARK_COLUMNS)} FROM cells{where} ORDER BY test, label"
            )
            with closing(self.engine.each(sql, *values)) as rows:
                found = {
                    test_id: self._checked(cells_of, of_test, of_tests[test_id], uids)
                    for test_id, of_test in groupby(rows, itemgetter(0))
                    # Of a test that is not there nobody asks.
                    if test_id in of_tests
                }
        return [record for test_id in of_tests for record in found.get(test_id, ())]

    def briefs(self) -> Iterator[tuple[TestRecord, dict[str, Brief]]]:
        """The tests that are known, each with what came last of its cells, by label.

        In no order that means anything. All of them are to be taken.
        """
        with self.snapshot():
            tests = {
                row[0]: self._checked(test_of, *row[1:])
                for row in self._rows(f"SELECT id, {', '.join(TEST_COLUMNS)} FROM tests")
            }
            uids = self._uids()
            with closing(self.engine.each(BRIEFS)) as rows:
                for test_id, of_test in groupby(rows, itemgetter(0)):
                    # Of a test that is not there nobody asks.
                    if (test := tests.pop(test_id, None)) is not None:
                        yield test, self._checked(briefs_of, of_test, uids)
            for test in tests.values():
                yield test, {}

    def _uids(self, key: str | None = None) -> dict[int, str]:  # noqa: ARG002  # a server's matter
        """The uids of runs, by id; at least of those that cells speak of, of one test or of all."""
        return self._uids_of(self._rows("SELECT id, uid FROM runs"))

    def _uids_of(self, known: Iterable[Any]) -> dict[int, str]:
        return dict(self._all(lambda row: (row[0], text(row[1], "runs.uid")), known))

    def observations(self, uid: str, key: str | None = None) -> list[Observed]:
        """What came of a run's cells, of one test or of all, if the run is not folded away."""
        where, values = ("", ()) if key is None else (" AND key = ?", (key,))
        rows = self._rows(
            "SELECT key, label, tests.device, nodeid, outcome, started, at, duration"
            " FROM observations JOIN runs ON runs.id = run JOIN cells ON cells.id = cell"
            f" JOIN tests ON tests.id = test WHERE uid = ?{where}"
            " ORDER BY key, tests.device, label",
            uid,
            *values,
        )
        return self._all(lambda row: observed_of(row, NUMBERED), rows)

    def cell_ids(self) -> dict[int, Cell]:
        """The cells that have an outcome, by their ids."""
        names = self._rows("SELECT id, key, device FROM tests")
        of_tests = {test_id: self._checked(name_of, *name) for test_id, *name in names}
        rows = self._rows("SELECT id, test, label FROM cells")
        return dict(self._all(partial(named, of_tests), rows))

    def numbers(self, run: RunRecord) -> list[Numbers]:
        """As `observations`, in the numbers that the ledger keeps: there may be millions."""
        rows = self._rows(
            "SELECT cell, outcome, at, duration FROM observations"
            " WHERE run = (SELECT id FROM runs WHERE uid = ?) ORDER BY cell",
            run.uid,
        )
        if rows:
            self._checked(check_numbers, run.started, *zip(*rows, strict=True))
        return rows

    def pages(self, uid: str, most: int) -> Iterator[list[Observed]]:
        """What came of a run's cells, and in which way they failed, at most *most* at a time.

        Each page is read by itself: who takes long over it keeps no writer waiting. Raises
        LedgerError if the run is folded away in between.
        """
        last, more = -1, True
        while more:
            rows = self._rows(PAGE, uid, last, most + 1)
            if not rows and last >= 0:
                gone = f"run {shown(uid)} was folded away while it was read: try again"
                raise LedgerError(f"{self.engine.name}: {gone}")
            more = len(rows) > most
            rows = rows[:most]
            if rows:
                last = rows[-1][0]
                yield self._all(page_row_of, rows)

    def failures(self, key: str | None = None, *, last: bool = False) -> list[FailureRecord]:
        """How cells failed, of one test or of all: in the whole runs, and in each one's last.

        last: each cell's last failure alone.
        """
        where, values = ("", ()) if key is None else (" AND key = ?", (key,))
        if last:
            where += " AND run = failed_run"
        rows = self._rows(
            "SELECT key, label, tests.device, uid, started, at, kinds.kind, message FROM failures"
            # What is not there is found out, instead of being passed over.
            " LEFT JOIN kinds ON kinds.id = failures.kind LEFT JOIN runs ON runs.id = run"
            " LEFT JOIN cells ON cells.id = cell LEFT JOIN tests ON tests.id = test"
            f" WHERE 1 = 1{where} ORDER BY key, tests.device, label, started, uid",
            *values,
        )
        return self._all(failed_of, rows)

    def known_failures(self) -> list[KnownFailure]:
        """The cells whose last verdict was a failure, by test, the oldest such verdict first."""
        with self.snapshot():
            rows = self._rows(FAILING, FAILED)
            runs = {
                row[0]: self._checked(run_of, row[1:])
                for row in self._rows(f"SELECT id, {', '.join(RUN_COLUMNS)} FROM runs")
            }
            whole = self._rows(
                "SELECT started, number FROM runs WHERE EXISTS"
                " (SELECT 1 FROM observations WHERE run = runs.id) ORDER BY started, uid LIMIT 1"
            )
        # From the oldest run that is whole on, nothing is missing; before it, runs may be.
        first, oldest = (whole[0][0], whole[0][1]) if whole else (LATEST, 0)

        def known(row: Sequence[Any]) -> KnownFailure:
            key, label, device, nodeid, kind, message, passed_at, run_id = row
            if run_id not in runs:
                raise ValueError("cells speaks of a run that is not there")
            passed = 0.0 if passed_at is None else moment(passed_at, "cells.passed_at")
            return KnownFailure(
                Cell(*names_of((device, key, label))[1:], text(device, "tests.device")),
                text(nodeid, "cells.nodeid"),
                None if kind is None else failure_of(kind, message),
                runs[run_id],
                exact=oldest == 1 or passed >= first,
            )

        return self._all(known, rows)

    def activity(self) -> dict[Cell, tuple[int, float]]:
        """In how many whole runs each cell had a verdict, and when the first of these began."""
        numbers = ", ".join(str(NUMBERS[outcome]) for outcome in sorted(VERDICTS))
        rows = self._rows(
            "SELECT key, label, tests.device, often, first FROM"
            " (SELECT cell, count(*) AS often, min(started) AS first FROM observations"
            f" JOIN {self.counted_runs} AS told ON told.id = run WHERE outcome IN ({numbers})"
            " GROUP BY cell) AS counted"
            " JOIN cells ON cells.id = cell JOIN tests ON tests.id = test"
            " ORDER BY key, label, tests.device"
        )
        return dict(self._all(activity_of, rows))

    def costs(self) -> Costs:
        """What is to be expected of each cell, and of each test besides its cells."""
        with self.snapshot():
            tests = self._rows("SELECT id, key, device, rests FROM tests")
            rows = self._rows("SELECT test, label, costs FROM cells WHERE costs <> '[]'")
        names: dict[object, Name] = {}
        rests: dict[Name, float] = {}
        for test_id, name, seconds in self._all(rest_of, tests):
            names[test_id] = name
            if seconds is not None:
                rests[name] = seconds
        cells: dict[Name, dict[str, float]] = {}
        for test_id, label, seconds in self._all(cost_of, rows):
            if test_id in names and seconds is not None:
                cells.setdefault(names[test_id], {})[label] = seconds
        return Costs(cells, rests)

    def seeds(self, key: str, device: str, newest: int) -> list[tuple[int, bool]]:
        """The seeds of the newest whole runs of `rotate` that took a sample of this test, and
        whether each was the next one of its lane; the newest last. Without runs that named dtypes.
        """
        rows = self._rows(
            "SELECT seed, in_series FROM runs WHERE strategy = 'rotate' AND lane IS NOT NULL"
            f" AND NOT {NAMED} AND EXISTS (SELECT 1 FROM cells"
            " JOIN observations ON observations.run = runs.id AND observations.cell = cells.id"
            " WHERE test = (SELECT id FROM tests WHERE key = ? AND device = ?))"
            " ORDER BY started DESC, uid DESC LIMIT ?",
            *(key, device, newest),
        )
        return self._all(seed_of, reversed(rows))
