"""Records -> rows that are given to set-based statements, merged with what is known."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, TypeVar

from dtype_sampler.ledger import upserts
from dtype_sampler.ledger.costs import Lasted, Name, lasted, newest
from dtype_sampler.ledger.engine import Engine
from dtype_sampler.ledger.failures import Failure
from dtype_sampler.ledger.outcomes import PASSED, VERDICTS
from dtype_sampler.ledger.reading import SqlReader
from dtype_sampler.ledger.records import (
    DECISIVE,
    FAILURES,
    CellRecord,
    Numbers,
    Observed,
    TestRecord,
)
from dtype_sampler.ledger.rows import (
    MOST_LABELS,
    NUMBERS,
    TEST_COLUMNS,
    json_of,
    lasted_of,
    merged_durations,
    moment,
    shown,
    test_of,
    values_of_test,
)
from dtype_sampler.ledger.store import LedgerError

T = TypeVar("T")
Row = TypeVar("Row", bound=tuple[object, ...])
# Rows of one statement: enough to cost little each, few enough for any memory.
_CHUNK = 5_000
_SEEN_AT, _MET_AT, _RESTS = map(TEST_COLUMNS.index, ("seen_at", "met_at", "rests"))
_NONE = (None, None, None)
# Of each outcome: its number, and whether it is a verdict, a pass, a failure.
_MEANS = {
    outcome: (number, outcome in DECISIVE, outcome == PASSED, outcome in FAILURES)
    for outcome, number in NUMBERS.items()
}


class CellRow(NamedTuple):
    """What a cell is given as. costs: of `values`, not yet merged. values: its node id, costs,
    marks, and what came of it in one run.
    """

    test: int
    label: str
    costs: Lasted
    values: list[object]


class SqlWriter(SqlReader):
    """Adds to tests, cells, observations and failures, in a transaction of its caller's."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        dialect = engine.dialect
        self._add_tests = upserts.put_tests(dialect)
        self._add_cells = upserts.put_cells(dialect)
        self._add_observed = upserts.put_observations(dialect, upserts.CELLS)
        self._add_seen = upserts.put_observations(dialect, upserts.SEEN)
        self._add_failures = upserts.put_kinds(dialect), upserts.put_failures(dialect)

    def _put_tests(self, tests: Iterable[TestRecord]) -> tuple[dict[Name, int], set[int]]:
        """Add to what is known of tests; returns the id of each, and the ids of those of which
        nothing was known.
        """
        of_name: dict[Name, TestRecord] = {}
        for test in tests:
            if len(test.declared) > MOST_LABELS:
                raise LedgerError(
                    f"{self.engine.name}: can't hold {shown(test.key)}, which declares"
                    f" {len(test.declared)} dtypes; {MOST_LABELS} is the most"
                )
            name = (test.key, test.device)
            before = of_name.get(name)
            of_name[name] = test if before is None else test.merged(before)
        new = set(of_name)
        ids: dict[Name, int] = {}
        for names in _chunks(list(of_name)):
            self._give_names(names)
            for place, *fields in self._rows(upserts.KNOWN_TESTS):
                name = names[place]
                new.discard(name)
                of_name[name] = self._checked(_newer, of_name[name], fields)
            rows = _numbered([values_of_test(of_name[name]) for name in names])
            self.engine.give(upserts.TESTS, rows)
            self._rows(self._add_tests)
            ids.update(self._ids_of(names))
        return ids, {ids[name] for name in new}

    def _ids(self, names: Iterable[Name]) -> dict[Name, int]:
        """The ids of tests. Raises LedgerError if there is no such test."""
        found: dict[Name, int] = {}
        wanted = list(dict.fromkeys(names))
        for some in _chunks(wanted):
            self._give_names(some)
            found.update(self._ids_of(some))
        for key, device in wanted:
            if (key, device) not in found:
                raise LedgerError(
                    f"{self.engine.name}: knows no test {shown(key)} on {shown(device)}"
                )
        return found

    def _ids_of(self, given: Sequence[Name]) -> Iterator[tuple[Name, int]]:
        """The ids of tests whose names are given, of those that there are."""
        return ((given[place], test_id) for place, test_id in self._rows(upserts.TEST_IDS))

    def _give_names(self, names: Iterable[Name]) -> None:
        self.engine.give(upserts.NAMES, _numbered(names))

    def _give_ids(self, tests: Iterable[int]) -> None:
        self.engine.give(upserts.KEYS, ((place, test, "") for place, test in enumerate(tests)))

    def _put_seen(
        self,
        run_id: int,
        started: float,
        ids: Mapping[Name, int],
        seen: Iterable[Observed],
        new: Collection[int],
    ) -> set[tuple[int, str]]:
        """Add what came of cells in one run, and what that says of them for ever; returns test and
        label of those that had a verdict before.

        started: of the run. ids: of the tests. new: those that have no cells yet.
        """
        rows: list[CellRow] = []
        failed: list[tuple[int, str, int, int, Failure]] = []
        for one in seen:
            key, label, device = one.cell
            test, outcome, duration = ids[key, device], one.outcome, one.duration
            number, decisive, passed, failing = _MEANS[outcome]
            mark = (one.at, run_id, outcome)
            at = round(1000 * (one.at - started))
            costs = lasted(started, duration)
            values = [
                *(one.nodeid, json_of(costs), *mark, *(mark if decisive else _NONE)),
                *(mark if passed else _NONE),
                *(mark if failing else _NONE),
                *(run_id, number, at, None if duration is None else round(1000 * duration)),
            ]
            rows.append(CellRow(test, label, costs, values))
            if one.failure is not None:
                failed.append((test, label, run_id, at, one.failure))
        before: set[tuple[int, str]] | None = None
        for some in _once(rows, 2):
            judged: set[tuple[int, str]] = set()
            for few in _chunks(some):
                judged |= self._put_cells(few, new)
                self._rows(self._add_observed)
            # From now on they may have some.
            new = ()
            before = judged if before is None else before
        self._put_failures(failed)
        return before or set()

    def _put_known(
        self,
        records: Sequence[CellRecord],
        ids: Mapping[Name, int],
        run_ids: Mapping[str, int],
        new: Collection[int],
    ) -> None:
        """Add what is known of cells, each of them once. run_ids: of the runs, by uid."""
        for some in _chunks(records):
            rows = []
            for record in some:
                cell = record.cell
                values: list[object] = [record.nodeid, json_of(record.costs)]
                for mark in (record.last, record.verdict, record.passed, record.failed):
                    values += _NONE if mark is None else (mark.at, run_ids[mark.run], mark.outcome)
                values += (None, None, None, None)
                rows.append(CellRow(ids[cell.key, cell.device], cell.label, record.costs, values))
            self._put_cells(rows, new)

    def _put_cells(self, rows: Sequence[CellRow], new: Collection[int]) -> set[tuple[int, str]]:
        """Add to what is known of cells; returns test and label of those that had a verdict."""
        judged = set()
        if known := [(place, *row[:2]) for place, row in enumerate(rows) if row.test not in new]:
            self.engine.give(upserts.KEYS, known)
            for place, costs, verdict in self._rows(upserts.KNOWN_CELLS):
                row = rows[place]
                if verdict in VERDICTS:
                    judged.add(row[:2])
                row.values[1] = self._checked(merged_durations, row.costs, costs, "cells.costs")
        given = [(place, row.test, row.label, *row.values) for place, row in enumerate(rows)]
        self.engine.give(upserts.CELLS, given)
        self._rows(self._add_cells)
        return judged

    def _put_numbers(self, run_id: int, cells: Mapping[int, int], rows: Iterable[Numbers]) -> None:
        """Add what came of known cells in one run of another ledger.

        cells: id there -> id here. rows: as `Store.numbers` gives them.
        """
        given = [(cells[row[0]], run_id, *row[1:]) for row in rows if row[0] in cells]
        for some in _chunks(given):
            self.engine.give(upserts.SEEN, _numbered(some))
            self._rows(self._add_seen)

    def _cells_by_name(self) -> dict[tuple[int, str], int]:
        """The ids of cells, by test and label."""
        rows = self._rows("SELECT test, label, id FROM cells")
        return {(test, label): cell_id for test, label, cell_id in rows}

    def _put_failures(self, failed: Iterable[tuple[int, str, int, int, Failure]]) -> None:
        """Add in which ways cells failed. failed: test, label, run, milliseconds since the run's
        start, and the way.
        """
        rows = [(*where, failure.kind, failure.message) for *where, failure in failed]
        for some in _once(rows, 3):
            for few in _chunks(some):
                self.engine.give(upserts.FAILURES, _numbered(few))
                for sql in self._add_failures:
                    self._rows(sql)


def _newer(test: TestRecord, fields: Sequence[object]) -> TestRecord:
    """One record of a test and of what is known of it, as the table has it."""
    # Most are whole and newer than what is known: then there is little to compare.
    if not test.is_whole or test.seen_at <= moment(fields[_SEEN_AT], "tests.seen_at"):
        return test.merged(test_of(*fields))
    before = lasted_of(fields[_RESTS], "tests.rests")
    met_at = moment(fields[_MET_AT], "tests.met_at")
    if not before and met_at <= test.met_at:
        return test
    return replace(test, rests=newest(test.rests, before), met_at=max(test.met_at, met_at))


def _chunks(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    return (rows[start : start + _CHUNK] for start in range(0, len(rows), _CHUNK))


def _numbered(rows: Iterable[Sequence[object]]) -> Iterator[tuple[object, ...]]:
    return ((place, *row) for place, row in enumerate(rows))


def _once(rows: Sequence[Row], width: int) -> Iterator[list[Row]]:
    """The rows in as few parts as can be, none of which has two that begin alike.

    width: how many values are compared.
    """
    while rows:
        first: dict[tuple[object, ...], Row] = {}
        rows = [row for row in rows if first.setdefault(row[:width], row) is not row]
        yield list(first.values())
