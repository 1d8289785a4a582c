"""The longer questions that a ledger is asked: what fails, what is suspect, what is hidden."""

from __future__ import annotations

from dtype_sampler.ledger.outcomes import (
    CRASHED,
    FAILED,
    SKIPPED,
    SUSPECT,
    UNSUPPORTED,
    XFAILED,
)
from dtype_sampler.ledger.records import FAILURES
from dtype_sampler.ledger.rows import NUMBERS

# CROSS, with its condition after WHERE: SQLite then looks into the tables in the order that is said
# here. By itself it goes for all observations of a run, or all there are, for each cell.
# What ended the test of a cell that it did not come to: none where it left its loop by itself.
_STOPPED = (
    "SELECT 1 FROM cells AS other CROSS JOIN observations WHERE run = cells.last_run"
    " AND cell = other.id AND other.test = cells.test AND outcome IN"
    f" ({', '.join(str(NUMBERS[one]) for one in (FAILED, XFAILED, SKIPPED, CRASHED, SUSPECT))})"
)
HIDDEN = (
    "SELECT device, key, label FROM cells JOIN tests ON tests.id = test"
    f" WHERE last = ? AND EXISTS ({_STOPPED})"
    " ORDER BY key, coalesce(verdict_at, 0), label, device"
)
# Whether a run, which the text is to name, took another cell of the test.
_BESIDE = (
    "EXISTS (SELECT 1 FROM cells AS others CROSS JOIN observations WHERE cell = others.id"
    " AND run = {} AND others.test = cells.test AND others.id != cells.id"
    f" AND outcome != {NUMBERS[UNSUPPORTED]})"
)
# Whether a run was told by name which dtypes to take.
NAMED = "replace(lane, '--dtype-only', '') <> lane"
# What did not pass last, and suspects; whether it was tried since; whether that was alone, in a run
# that took no other cell of its test, after it had been a suspect. When the run that says so is
# folded away, it is told from a loop that takes several and has had this one alone ever since.
WORRYING = (
    "SELECT device, key, label, verdict, last_at > verdict_at,"
    f" CASE WHEN tests.k > 1 AND NOT {_BESIDE.format('cells.verdict_run')}"
    " THEN EXISTS (SELECT 1 FROM runs CROSS JOIN observations WHERE run = runs.id"
    f" AND cell = cells.id AND outcome = {NUMBERS[SUSPECT]})"
    " OR EXISTS (SELECT 1 FROM cells AS others WHERE test = cells.test AND id != cells.id"
    " AND nodeid = cells.nodeid)"
    " AND NOT EXISTS (SELECT 1 FROM runs CROSS JOIN observations AS own WHERE own.run = runs.id"
    f" AND own.cell = cells.id AND (lane IS NULL OR {NAMED}"
    f" OR {_BESIDE.format('runs.id')})) END"
    " FROM cells JOIN tests ON tests.id = test WHERE verdict IN"
    f" ({', '.join(repr(outcome) for outcome in (*sorted(FAILURES), XFAILED, SUSPECT))})"
    " ORDER BY key, verdict_at, label, device"
)
# The kind of a cell's last failure, and the first run since its last pass in which it failed.
FAILING = (
    "SELECT key, label, device, nodeid, kinds.kind, kinds.message, passed_at, coalesce((SELECT"
    " runs.id FROM runs CROSS JOIN observations WHERE run = runs.id AND cell = cells.id"
    f" AND outcome IN ({NUMBERS[FAILED]}, {NUMBERS[CRASHED]})"
    " AND started + at / 1000.0 > coalesce(passed_at, 0) ORDER BY started, uid LIMIT 1),"
    " failed_run) FROM cells JOIN tests ON tests.id = test"
    " LEFT JOIN failures ON failures.cell = cells.id AND failures.run = failed_run"
    " LEFT JOIN kinds ON kinds.id = failures.kind WHERE verdict = ?"
    " ORDER BY key, verdict_at, label, device"
)
# As `answers.brief_of` takes them.
BRIEFS = (
    "SELECT test, label, last_at, last_run, last, verdict_at, verdict_run, verdict,"
    " CASE WHEN nodeid = '' THEN 0 WHEN verdict_at IS NULL AND last = 'skipped'"
    " AND nodeid <> (SELECT key FROM tests WHERE tests.id = cells.test) THEN 2 ELSE 1 END"
    " FROM cells ORDER BY test, label"
)
# Of a run, in the order of its cells, from behind one on.
PAGE = (
    "SELECT observations.cell, key, label, tests.device, nodeid, outcome, started, observations.at,"
    " duration, kinds.kind, message FROM observations JOIN runs ON runs.id = observations.run"
    " JOIN cells ON cells.id = observations.cell JOIN tests ON tests.id = test"
    " LEFT JOIN failures ON failures.cell = observations.cell AND failures.run = observations.run"
    " LEFT JOIN kinds ON kinds.id = failures.kind"
    " WHERE uid = ? AND observations.cell > ? ORDER BY observations.cell LIMIT ?"
)
