"""The set-based statements that write: rows that came together -> the tables.

What a statement works on is given to it as a table (`engine.Given`). Marks, observations and
failures are maxima in total orders, which SQL can say: insert, or update where what is new is
greater. What a test declares and what cells cost are merged as `records` and `costs` merge them,
before they are given.

A statement is given a cell once at most: PostgreSQL would refuse one that comes to a row twice.
"""

from __future__ import annotations

from dtype_sampler.ledger.engine import Dialect, Given
from dtype_sampler.ledger.rows import MARK_COLUMNS, MARKS, TEST_COLUMNS

_TEXT, _INTEGER, _REAL = "text", "integer", "real"
# Names of tests, as somebody asks for them.
NAMES = Given("given_names", {"place": _INTEGER, "key": _TEXT, "device": _TEXT})
_REALS = ("seen_at", "met_at", "whole_at")
TESTS = Given(
    "given_tests",
    {"place": _INTEGER}
    | {
        name: _REAL if name in _REALS else _INTEGER if name in ("k", "arguments") else _TEXT
        for name in TEST_COLUMNS
    },
)
# Of a cell, the test by its id.
KEYS = Given("given_keys", {"place": _INTEGER, "test": _INTEGER, "label": _TEXT})
# What is known of cells for ever; and, in a run's own words, what came of them in it.
_OBSERVED = {"run": _INTEGER, "outcome": _INTEGER, "at": _INTEGER, "duration": _INTEGER}
CELLS = Given(
    "given_cells",
    {"place": _INTEGER, "test": _INTEGER, "label": _TEXT, "nodeid": _TEXT, "costs": _TEXT}
    | {
        f"{mark}{end}": kind
        for mark in MARKS
        for end, kind in (("_at", _REAL), ("_run", _INTEGER), ("", _TEXT))
    }
    | _OBSERVED,
)
# The same where the ids of the cells are known.
SEEN = Given("given_seen", {"place": _INTEGER, "cell": _INTEGER, **_OBSERVED})
FAILURES = Given(
    "given_failures",
    {
        "place": _INTEGER,
        "test": _INTEGER,
        "label": _TEXT,
        "run": _INTEGER,
        "at": _INTEGER,
        "kind": _TEXT,
        "message": _TEXT,
    },
)
GIVEN = (NAMES, TESTS, KEYS, CELLS, SEEN, FAILURES)

# CROSS: from what is given on, which SQLite would not know to be the little.
_TESTS_BY_NAME = (
    "FROM given_names CROSS JOIN tests WHERE tests.key = given_names.key"
    " AND tests.device = given_names.device ORDER BY place"
)
KNOWN_TESTS = (
    f"SELECT place, {', '.join(f'tests.{name}' for name in TEST_COLUMNS)} {_TESTS_BY_NAME}"
)
TEST_IDS = f"SELECT place, id {_TESTS_BY_NAME}"
KNOWN_CELLS = (
    "SELECT place, costs, verdict FROM given_keys CROSS JOIN cells"
    " WHERE cells.test = given_keys.test AND cells.label = given_keys.label ORDER BY place"
)


def put_tests(dialect: Dialect) -> str:
    """Tests as they are to be from now on."""
    columns = ", ".join(TEST_COLUMNS)
    updates = ", ".join(f"{name} = excluded.{name}" for name in TEST_COLUMNS[2:])
    return (
        f"INSERT INTO tests ({columns}{dialect.columns('tests')})"
        f" SELECT {columns}{dialect.values('tests')} FROM given_tests WHERE 1 = 1 ORDER BY place"
        f" ON CONFLICT {dialect.key('tests', 'key', 'device')} DO UPDATE SET {updates}"
    )


def _greater(mark: str, last: str = "") -> str:
    """Whether a mark that is given is later than the one there is; of two at one moment always the
    same one is, by the run's uid and by what it says.
    """
    new, old = f"excluded.{mark}", f"cells.{mark}"
    uid = "(SELECT uid FROM runs WHERE id = {})".format
    words = f"({uid(f'{new}_run')}, {new}{last and f', excluded.{last}'})"
    than = f"({uid(f'{old}_run')}, {old}{last and f', cells.{last}'})"
    return (
        f"{new}_at IS NOT NULL AND ({old}_at IS NULL OR {new}_at > {old}_at"
        f" OR ({new}_at = {old}_at AND {words} > {than}))"
    )


def put_cells(dialect: Dialect) -> str:
    """Cells: their costs as they are to be from now on, and of each mark the later one."""
    columns = ", ".join(("test", "label", "nodeid", "costs", *MARK_COLUMNS))
    greater = {mark: _greater(mark) for mark in MARKS}
    # The node id is that of the last mark, and of two such the greater.
    whose = _greater("last", "nodeid")
    updates = [
        "costs = excluded.costs",
        f"nodeid = CASE WHEN {whose} THEN excluded.nodeid ELSE cells.nodeid END",
        *(
            f"{mark}{end} = CASE WHEN {condition} THEN excluded.{mark}{end}"
            f" ELSE cells.{mark}{end} END"
            for mark, condition in greater.items()
            for end in ("_at", "_run", "")
        ),
    ]
    anything = " OR ".join(
        f"({one})" for one in ("excluded.costs <> cells.costs", whose, *greater.values())
    )
    return (
        f"INSERT INTO cells ({columns}{dialect.columns('cells')})"
        f" SELECT {columns}{dialect.values('cells')} FROM given_cells WHERE 1 = 1 ORDER BY place"
        f" ON CONFLICT {dialect.key('cells', 'test', 'label')} DO UPDATE SET {', '.join(updates)}"
        f" WHERE {anything}"
    )


def put_observations(dialect: Dialect, given: Given) -> str:
    """What came of cells in runs. given: where the rows are."""
    name = given.name
    if "cell" in given.columns:
        cell, join, where = f"{name}.cell", "", ""
    else:
        cell, join = "cells.id", " CROSS JOIN cells"
        where = f" AND cells.test = {name}.test AND cells.label = {name}.label"
    return (
        "INSERT INTO observations (run, cell, outcome, at, duration"
        f"{dialect.columns('observations')})"
        f" SELECT {name}.run, {cell}, {name}.outcome, {name}.at, {name}.duration"
        f"{dialect.values('observations')}"
        # From what is given on: for each of these there is one row of each of the others.
        f" FROM {name} CROSS JOIN runs{join} WHERE runs.id = {name}.run{where}"
        f" ON CONFLICT {dialect.key('observations', 'run', 'cell')} DO UPDATE SET"
        " outcome = excluded.outcome, at = excluded.at, duration = excluded.duration"
        # Of two at one millisecond always the same one, whichever came first.
        " WHERE (excluded.at, excluded.outcome, coalesce(excluded.duration, -1))"
        " > (observations.at, observations.outcome, coalesce(observations.duration, -1))"
    )


def put_kinds(dialect: Dialect) -> str:
    """The ways in which cells failed."""
    return (
        f"INSERT INTO kinds (kind, message{dialect.columns('kinds')})"
        f" SELECT kind, message{dialect.values('kinds')} FROM given_failures WHERE 1 = 1"
        " GROUP BY kind, message ORDER BY min(place)"
        f" ON CONFLICT {dialect.key('kinds', 'kind', 'message')} DO NOTHING"
    )


def put_failures(dialect: Dialect) -> str:
    """In which of these ways cells failed in runs."""
    words = "(SELECT kinds.kind || kinds.message FROM kinds WHERE kinds.id = {})".format
    return (
        f"INSERT INTO failures (cell, run, at, kind{dialect.columns('failures')})"
        f" SELECT cells.id, given_failures.run, given_failures.at, kinds.id"
        f"{dialect.values('failures')} FROM given_failures"
        " CROSS JOIN cells CROSS JOIN kinds WHERE cells.test = given_failures.test"
        " AND cells.label = given_failures.label AND kinds.kind = given_failures.kind"
        " AND kinds.message = given_failures.message"
        f" ON CONFLICT {dialect.key('failures', 'cell', 'run')} DO UPDATE SET"
        " at = excluded.at, kind = excluded.kind WHERE excluded.at > failures.at"
        # Of two at one millisecond always the same one, whichever came first.
        f" OR (excluded.at = failures.at AND {words('excluded.kind')} > {words('failures.kind')})"
    )
