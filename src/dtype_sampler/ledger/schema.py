"""The tables of the SQLite file, and their history.

Version 1: the first.
Version 2: `tests.met_at`, when a run last met a test that it took no sample of.
Version 3: `tests.whole_at` and `tests.times`, which tell a view of all that a test declares from
one of a part; what was written before may be either. The outcome `suspect`, which older programs
can't read. `runs.lane`, `runs.part` and `runs.in_series`: whose seeds a run's seed is one of.
Version 4: `cells.costs` and `tests.rests`, the newest durations of a cell, and of what a test needs
besides its cells. `tests.arguments`, how many its candidates combine, and `tests.circle`, the key
of their order where it is not the test's own. `failures` and `kinds`: in which way a cell failed in
a run. `runs.workers`, `runs.took`, `runs.others` and `runs.predicted`: what a budget of time is
measured by.

To change it: raise VERSION, say above what changed, and give `MIGRATIONS` the statements that lead
from the version before to the new one. Files of older versions are copied aside, then migrated.
"""

from __future__ import annotations

from collections.abc import Mapping

VERSION = 4
# "dtsl" in SQLite's own header field for the application that a file belongs to.
APPLICATION_ID = 0x6474736C

# Many cells fail in one way: so the text of each is kept once.
_KINDS = """CREATE TABLE kinds (
        id INTEGER PRIMARY KEY,
        kind TEXT NOT NULL, -- the types of the exceptions, with ' + ' between them
        message TEXT NOT NULL, -- the first line
        UNIQUE (kind, message)
    )"""
# Of the whole runs, and of the run of each cell's mark `failed`.
_FAILURES = """CREATE TABLE failures (
        cell INTEGER NOT NULL,
        run INTEGER NOT NULL,
        at INTEGER NOT NULL, -- milliseconds since the start of the run
        kind INTEGER NOT NULL,
        PRIMARY KEY (cell, run)
    ) WITHOUT ROWID"""

TABLES = (
    """CREATE TABLE runs (
        id INTEGER PRIMARY KEY,
        uid TEXT NOT NULL UNIQUE,
        number INTEGER NOT NULL,
        started REAL NOT NULL,
        ended REAL,
        seed INTEGER NOT NULL,
        seed_origin TEXT NOT NULL,
        strategy TEXT NOT NULL,
        command TEXT NOT NULL,
        "commit" TEXT NOT NULL,
        host TEXT NOT NULL,
        python TEXT NOT NULL,
        torch TEXT NOT NULL,
        plugin TEXT NOT NULL,
        device TEXT NOT NULL,
        counts TEXT NOT NULL, -- JSON: outcome -> number of cells
        lane TEXT, -- NULL: of before version 3
        part TEXT NOT NULL DEFAULT '',
        in_series INTEGER NOT NULL DEFAULT 1, -- 0: the seed was given or drawn
        workers INTEGER NOT NULL DEFAULT 0, -- 0: not known
        took REAL, -- seconds
        others REAL NOT NULL DEFAULT 0, -- seconds of one process
        predicted REAL -- seconds
    )""",
    """CREATE TABLE tests (
        id INTEGER PRIMARY KEY,
        key TEXT NOT NULL,
        device TEXT NOT NULL,
        declared TEXT NOT NULL, -- JSON: labels in declared order
        seen_at REAL NOT NULL,
        k INTEGER NOT NULL,
        always TEXT NOT NULL, -- JSON: labels
        met_at REAL NOT NULL DEFAULT 0, -- 0: never without a sample
        whole_at REAL NOT NULL DEFAULT 0, -- 0: never seen whole
        times TEXT NOT NULL DEFAULT '[]', -- JSON: of each label when seen last, and at which place
        rests TEXT NOT NULL DEFAULT '[]', -- JSON: start of a run in milliseconds, microseconds
        arguments INTEGER NOT NULL DEFAULT 1, -- how many the candidates combine
        circle TEXT NOT NULL DEFAULT '', -- the key of their order; empty: the test's own
        UNIQUE (key, device)
    )""",
    """CREATE TABLE cells (
        id INTEGER PRIMARY KEY,
        test INTEGER NOT NULL REFERENCES tests (id),
        label TEXT NOT NULL,
        nodeid TEXT NOT NULL,
        last_at REAL NOT NULL, last_run INTEGER NOT NULL, last TEXT NOT NULL,
        verdict_at REAL, verdict_run INTEGER, verdict TEXT,
        passed_at REAL, passed_run INTEGER, passed TEXT,
        failed_at REAL, failed_run INTEGER, failed TEXT,
        costs TEXT NOT NULL DEFAULT '[]', -- JSON: as `tests.rests`
        UNIQUE (test, label)
    )""",
    # Times in milliseconds: `at` since the start of the run. Integers, as these rows are the many.
    """CREATE TABLE observations (
        run INTEGER NOT NULL,
        cell INTEGER NOT NULL,
        outcome INTEGER NOT NULL,
        at INTEGER NOT NULL,
        duration INTEGER,
        PRIMARY KEY (run, cell)
    ) WITHOUT ROWID""",
    _KINDS,
    _FAILURES,
)

# From which version -> the statements that lead to the next one.
MIGRATIONS: Mapping[int, tuple[str, ...]] = {
    1: ("ALTER TABLE tests ADD COLUMN met_at REAL NOT NULL DEFAULT 0",),
    2: (
        "ALTER TABLE runs ADD COLUMN lane TEXT",
        "ALTER TABLE runs ADD COLUMN part TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE runs ADD COLUMN in_series INTEGER NOT NULL DEFAULT 1",
        "ALTER TABLE tests ADD COLUMN whole_at REAL NOT NULL DEFAULT 0",
        "ALTER TABLE tests ADD COLUMN times TEXT NOT NULL DEFAULT '[]'",
    ),
    3: (
        "ALTER TABLE cells ADD COLUMN costs TEXT NOT NULL DEFAULT '[]'",
        "ALTER TABLE tests ADD COLUMN rests TEXT NOT NULL DEFAULT '[]'",
        "ALTER TABLE runs ADD COLUMN workers INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE runs ADD COLUMN took REAL",
        "ALTER TABLE runs ADD COLUMN others REAL NOT NULL DEFAULT 0",
        "ALTER TABLE runs ADD COLUMN predicted REAL",
        "ALTER TABLE tests ADD COLUMN arguments INTEGER NOT NULL DEFAULT 1",
        "ALTER TABLE tests ADD COLUMN circle TEXT NOT NULL DEFAULT ''",
        _KINDS,
        _FAILURES,
    ),
}
