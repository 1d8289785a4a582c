"""The tables of a ledger on a server, and their history.

Version 1.0: the first.

One database holds many projects. Each table has the project of each row, and beside each stands a
view of one project's rows, the one that the setting `dtype_sampler.project` of the connection
names: `all_runs` and `runs`. The views are all that the store speaks to, so that no statement, be
it a superuser's, mixes what belongs to two projects.

An id of a run begins with the month that the run began in. Observations are partitioned by it, so
that a month can be dropped at once, and no statement has to know of months.

To change it: add to `MIGRATIONS` what leads from the minor version before to the new one, and only
add: a plugin of an older minor version goes on writing, as it names its columns. What can't be done
by adding raises MAJOR, and the older plugins keep what they have to say until they are upgraded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from dtype_sampler.ledger.outcomes import CRASHED, FAILED, SUSPECT, VERDICTS
from dtype_sampler.ledger.rows import NUMBERED

SCHEMA = "dtype_sampler"
MAJOR = 1
# The roles that `init` and `upgrade` give rights to, where there are such.
OWNER, WRITER, READER = (f"{SCHEMA}_{name}" for name in ("owner", "writer", "reader"))
# "dtsl", as of SQLite's files: the first half of our advisory locks. The second is a project, or 0.
LOCK = 0x6474736C
LOCK_OF_SEEDS = LOCK + 1
# Of an id of a run, the bits below its month.
_BITS = 32

PROJECT = "nullif(current_setting('dtype_sampler.project', true), '')::integer"
# Without a clock and an index of a text's first characters, a text of any length is told from any
# other; an index takes none that is longer than 2,700 bytes.
_DIGEST = "hashtextextended({0}, 0), hashtextextended({0}, 1)"


def digest(column: str) -> str:
    """What an index has in place of a text."""
    return _DIGEST.format(column)


_COLUMNS: Mapping[str, str] = {
    "runs": """
        id bigint PRIMARY KEY,
        project integer NOT NULL,
        uid text COLLATE "C" NOT NULL,
        number bigint NOT NULL,
        started double precision NOT NULL,
        ended double precision,
        seed bigint NOT NULL,
        seed_origin text COLLATE "C" NOT NULL,
        strategy text COLLATE "C" NOT NULL,
        command text COLLATE "C" NOT NULL,
        "commit" text COLLATE "C" NOT NULL,
        host text COLLATE "C" NOT NULL,
        python text COLLATE "C" NOT NULL,
        torch text COLLATE "C" NOT NULL,
        plugin text COLLATE "C" NOT NULL,
        device text COLLATE "C" NOT NULL,
        counts text COLLATE "C" NOT NULL,
        lane text COLLATE "C",
        part text COLLATE "C" NOT NULL DEFAULT '',
        in_series smallint NOT NULL DEFAULT 1,
        workers bigint NOT NULL DEFAULT 0,
        took double precision,
        others double precision NOT NULL DEFAULT 0,
        predicted double precision""",
    "tests": """
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        project integer NOT NULL,
        key text COLLATE "C" NOT NULL,
        device text COLLATE "C" NOT NULL,
        declared text COLLATE "C" NOT NULL,
        seen_at double precision NOT NULL,
        k bigint NOT NULL,
        always text COLLATE "C" NOT NULL,
        met_at double precision NOT NULL DEFAULT 0,
        whole_at double precision NOT NULL DEFAULT 0,
        times text COLLATE "C" NOT NULL DEFAULT '[]',
        rests text COLLATE "C" NOT NULL DEFAULT '[]',
        arguments bigint NOT NULL DEFAULT 1,
        circle text COLLATE "C" NOT NULL DEFAULT ''""",
    "cells": """
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        project integer NOT NULL,
        test bigint NOT NULL,
        label text COLLATE "C" NOT NULL,
        nodeid text COLLATE "C" NOT NULL,
        last_at double precision NOT NULL, last_run bigint NOT NULL, last text COLLATE "C" NOT NULL,
        verdict_at double precision, verdict_run bigint, verdict text COLLATE "C",
        passed_at double precision, passed_run bigint, passed text COLLATE "C",
        failed_at double precision, failed_run bigint, failed text COLLATE "C",
        costs text COLLATE "C" NOT NULL DEFAULT '[]'""",
    "kinds": """
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        project integer NOT NULL,
        kind text COLLATE "C" NOT NULL,
        message text COLLATE "C" NOT NULL""",
    "failures": """
        cell bigint NOT NULL,
        run bigint NOT NULL,
        at bigint NOT NULL,
        kind bigint NOT NULL,
        project integer NOT NULL,
        PRIMARY KEY (cell, run)""",
    # The wide ones first: so no byte of a row is lost between two of them.
    "observations": """
        run bigint NOT NULL,
        cell bigint NOT NULL,
        at bigint NOT NULL,
        duration bigint,
        project integer NOT NULL,
        outcome smallint NOT NULL,
        PRIMARY KEY (cell, run)""",
    # The seed that was handed out last, of each lane.
    "seeds": """
        project integer NOT NULL,
        lane text COLLATE "C" NOT NULL,
        part text COLLATE "C" NOT NULL,
        seed bigint NOT NULL,
        at timestamptz NOT NULL DEFAULT clock_timestamp()""",
}
VIEWS = tuple(_COLUMNS)
# One row an observation, in words.
OBSERVED = "observed"
_BEHIND = {
    "observations": " PARTITION BY RANGE (run)",
    # Rows that each run changes: with room beside them, no index has to be told.
    "cells": " WITH (fillfactor = 70)",
    "tests": " WITH (fillfactor = 70)",
}
_INDEXES = (
    "CREATE UNIQUE INDEX ON {s}.all_runs (project, uid)",
    "CREATE INDEX ON {s}.all_runs (project, started, uid)",
    "CREATE INDEX ON {s}.all_runs (project, in_series, started, uid)",
    "CREATE INDEX ON {s}.all_runs (project, number)",
    f"CREATE UNIQUE INDEX ON {{s}}.all_tests (project, device, {digest('key')})",
    "CREATE INDEX ON {s}.all_tests USING hash (key)",
    f"CREATE UNIQUE INDEX ON {{s}}.all_cells (test, {digest('label')})",
    "CREATE INDEX ON {s}.all_cells (project)",
    # What each run asks for at its start: few of many.
    """CREATE INDEX ON {s}.all_cells (project)
    WHERE verdict IN ('crashed', 'failed', 'suspect', 'xfailed')""",
    "CREATE INDEX ON {s}.all_cells (project) WHERE last = 'not-reached'",
    f"CREATE UNIQUE INDEX ON {{s}}.all_kinds (project, {digest('kind')}, {digest('message')})",
    "CREATE INDEX ON {s}.all_failures (run)",
    # The rows of a run lie side by side, as they came: an index of blocks is some kilobytes.
    "CREATE INDEX ON {s}.all_observations USING brin (run) WITH (autosummarize = on)",
    f"CREATE UNIQUE INDEX ON {{s}}.all_seeds (project, {digest('lane')}, {digest('part')})",
)
# By what a new row is known to be there already.
KEYS: Mapping[str, tuple[str, ...]] = {
    "runs": ("project", "uid"),
    "tests": ("project", "device", digest("key")),
    "cells": ("test", digest("label")),
    "kinds": ("project", digest("kind"), digest("message")),
    "seeds": ("project", digest("lane"), digest("part")),
}

_PROJECTS = f"""CREATE TABLE {SCHEMA}.projects (
        id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        name text COLLATE "C" NOT NULL UNIQUE CHECK (length(name) BETWEEN 1 AND 500)
    )"""
_RUN_IDS = (
    f"CREATE SEQUENCE {SCHEMA}.run_numbers MAXVALUE {(1 << _BITS) - 1}",
    # Whoever may write a run need not have a right on the sequence.
    f"""CREATE FUNCTION {SCHEMA}.number_run() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
    DECLARE began timestamp := to_timestamp(NEW.started) AT TIME ZONE 'UTC';
    BEGIN
        NEW.id := ((extract(year FROM began) * 12 + extract(month FROM began) - 1)::bigint
            << {_BITS}) | nextval('{SCHEMA}.run_numbers');
        RETURN NEW;
    END $$""",
    f"""CREATE TRIGGER number_run BEFORE INSERT ON {SCHEMA}.all_runs
    FOR EACH ROW EXECUTE FUNCTION {SCHEMA}.number_run()""",
)
DEFAULT_PARTITION = (
    f"CREATE TABLE {SCHEMA}.observations_default PARTITION OF {SCHEMA}.all_observations DEFAULT"
)

TABLES = (
    _PROJECTS,
    *(
        f"CREATE TABLE {SCHEMA}.all_{name} ({columns}\n    ){_BEHIND.get(name, '')}"
        for name, columns in _COLUMNS.items()
    ),
    *(
        f"ALTER TABLE {SCHEMA}.all_{name} ALTER COLUMN project SET DEFAULT {PROJECT}"
        for name in _COLUMNS
    ),
    *(index.format(s=SCHEMA) for index in _INDEXES),
    *_RUN_IDS,
    DEFAULT_PARTITION,
)
# From which minor version of this major one -> the statements that lead to the next.
MIGRATIONS: Mapping[int, tuple[str, ...]] = {}


def newest_minor() -> int:
    """The minor version that all migrations lead to."""
    return max(MIGRATIONS, default=-1) + 1


def views() -> list[str]:
    """The statements that make the views, or add to them the columns that their tables have."""
    outcomes = " ".join(f"WHEN {number} THEN '{name}'" for number, name in enumerate(NUMBERED))
    verdicts = ", ".join(f"'{name}'" for name in NUMBERED if name in VERDICTS)
    failed = ", ".join(f"'{name}'" for name in (FAILED, CRASHED, SUSPECT))
    return [
        *(
            f"CREATE OR REPLACE VIEW {SCHEMA}.{name} AS SELECT * FROM {SCHEMA}.all_{name}"
            # SELECT: asked once for a statement, not for each row.
            f" WHERE project = (SELECT {PROJECT}) WITH LOCAL CHECK OPTION"
            for name in VIEWS
        ),
        # For people and their dashboards, with the columns of `dtype-sampler export`: nothing of
        # ours reads it.
        f"""CREATE OR REPLACE VIEW {SCHEMA}.{OBSERVED} AS SELECT
        runs.uid AS run, runs.number AS run_number, to_timestamp(started) AS run_started,
        to_timestamp(ended) AS run_ended, seed, seed_origin, strategy,
        nullif("commit", '') AS "commit", nullif(host, '') AS host, nullif(python, '') AS python,
        nullif(torch, '') AS torch, nullif(plugin, '') AS plugin, nullif(workers, 0) AS workers,
        lane, nullif(part, '') AS part, key, label, tests.device, nullif(nodeid, '') AS nodeid,
        told.outcome, told.outcome IN ({verdicts}) AS verdict,
        to_timestamp(started + observations.at / 1000.0) AS observed_at,
        observations.duration / 1000.0::double precision AS duration,
        kinds.kind AS failure_kind, kinds.message AS failure_message
        FROM {SCHEMA}.observations JOIN {SCHEMA}.runs ON runs.id = observations.run
        JOIN {SCHEMA}.cells ON cells.id = observations.cell
        JOIN {SCHEMA}.tests ON tests.id = cells.test
        CROSS JOIN LATERAL (SELECT CASE observations.outcome {outcomes}
        ELSE observations.outcome::text END AS outcome) AS told
        LEFT JOIN {SCHEMA}.failures ON failures.run = observations.run
        AND failures.cell = observations.cell AND told.outcome IN ({failed})
        LEFT JOIN {SCHEMA}.kinds ON kinds.id = failures.kind""",
    ]


def version_function(minor: int) -> str:
    """The statement that says which version the schema is of. A function: no writer changes it."""
    return (
        f"CREATE OR REPLACE FUNCTION {SCHEMA}.version(OUT major integer, OUT minor integer)"
        f" LANGUAGE sql IMMUTABLE AS 'SELECT {MAJOR}, {minor}'"
    )


def rights() -> list[tuple[str, str]]:
    """To which role, and the statement that gives it what it needs: a writer can't delete."""
    seen = ", ".join(f"{SCHEMA}.{name}" for name in ("projects", *VIEWS, OBSERVED))
    changed = ", ".join(f"{SCHEMA}.{name}" for name in VIEWS)
    return [
        *(
            (role, f"GRANT {what} TO {role}")
            for role in (WRITER, READER)
            for what in (f"USAGE ON SCHEMA {SCHEMA}", f"SELECT ON {seen}")
        ),
        (WRITER, f"GRANT INSERT, UPDATE ON {changed} TO {WRITER}"),
        (WRITER, f"GRANT INSERT ON {SCHEMA}.projects TO {WRITER}"),
    ]


def month_name(month: int) -> str:
    """Such as 2026-11. month: of all since the year 0."""
    return f"{month // 12:04d}-{month % 12 + 1:02d}"


def partition_name(month: int) -> str:
    """The table that holds what runs of a month observed."""
    return f"observations_{month_name(month).replace('-', '_')}"


def bounds(month: int) -> tuple[int, int]:
    """The first id that a run of a month can have, and the first of the next month."""
    return month << _BITS, (month + 1) << _BITS


def month_of(run_id: int) -> int:
    """The month that a run began in, by its id."""
    return run_id >> _BITS


def attach(month: int) -> Sequence[str]:
    """The statements that make a partition for a month, before anything of it is in the default."""
    name, (first, behind) = f"{SCHEMA}.{partition_name(month)}", bounds(month)
    return (
        # Made apart and then attached, it does not stop those who read.
        f"CREATE TABLE {name} (LIKE {SCHEMA}.all_observations INCLUDING DEFAULTS)",
        f"""ALTER TABLE {SCHEMA}.all_observations ATTACH PARTITION {name}
        FOR VALUES FROM ({first}) TO ({behind})""",
    )


def roles() -> str:
    """SQL to paste: the three roles, and what each may."""
    creating = "\n".join(
        f"  IF to_regrole('{role}') IS NULL THEN CREATE ROLE {role} NOLOGIN; END IF;"
        for role in (OWNER, WRITER, READER)
    )
    granting = "\n".join(f"    {statement};" for statement in _statements(rights()))
    return f"""\
-- The roles of a ledger on a server. Paste it into the database, as who may make roles, before
-- `dtype-sampler ledger init` or after; once more changes nothing.
-- owner: makes and migrates the tables, drops what is old (`init`, `upgrade`, `retain`).
-- writer: what CI jobs are: adds to the ledger; can delete nothing, and makes no tables.
-- reader: what people and dashboards are.
DO $$ BEGIN
{creating}
END $$;
DO $$ BEGIN
  EXECUTE format('GRANT CREATE, CONNECT ON DATABASE %I TO {OWNER}', current_database());
  EXECUTE format('GRANT CONNECT ON DATABASE %I TO {WRITER}, {READER}', current_database());
  -- Else `init` gives these rights.
  IF to_regnamespace('{SCHEMA}') IS NOT NULL THEN
{granting}
  END IF;
END $$;
-- Then give each login one of them:
--   CREATE ROLE ci LOGIN PASSWORD '...' IN ROLE {WRITER};
-- A dashboard sees one project, by its number in {SCHEMA}.projects:
--   CREATE ROLE grafana LOGIN PASSWORD '...' IN ROLE {READER};
--   ALTER ROLE grafana SET dtype_sampler.project = '1';
--   SELECT observed_at, key, label, outcome FROM {SCHEMA}.{OBSERVED};
"""


def _statements(given: Iterable[tuple[str, str]]) -> list[str]:
    return [statement for _, statement in given]
