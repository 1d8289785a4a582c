"""The table: its columns, and the rows of a ledger.

Version 1. Columns are added at the end, without another version; what is taken away, or comes to
mean something else, raises VERSION.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from dtype_sampler.ledger.failures import Failure
from dtype_sampler.ledger.outcomes import CRASHED, FAILED, SUSPECT, VERDICTS
from dtype_sampler.ledger.records import Observed, RunRecord
from dtype_sampler.ledger.store import Store

VERSION = 1
# Rows that are read at a time.
PAGE = 10_000
# The types of columns. A time is in milliseconds since 1970, UTC, until a format writes it.
TEXT, INTEGER, NUMBER, TRUTH, TIME = "text", "integer", "number", "true or false", "time"


class Column(NamedTuple):
    """One column. nullable: whether a value may be missing."""

    name: str
    type: str
    nullable: bool
    what: str


COLUMNS = (
    Column("version", INTEGER, False, "of these columns: 1"),
    Column("run", TEXT, False, "the run's id, unique on earth"),
    Column("run_number", INTEGER, False, "counts the runs of its ledger, for people"),
    Column("run_started", TIME, False, "when the run began"),
    Column("run_ended", TIME, True, "null while it goes on, and after it was killed"),
    Column("seed", INTEGER, False, "of the run's samples"),
    Column("seed_origin", TEXT, False, "where the seed came from"),
    Column(
        "strategy",
        TEXT,
        False,
        "of its samples: 'rotate', 'random' or 'oldest'; 'all' for every dtype, 'budget' where time"
        " decided, 'run' for what an earlier run took",
    ),
    Column("commit", TEXT, True, "of git, with a '+' if the tree was dirty"),
    Column("host", TEXT, True, "the machine"),
    Column("python", TEXT, True, "its version"),
    Column("torch", TEXT, True, "its version"),
    Column("plugin", TEXT, True, "the version of pytest-dtype-sampler"),
    Column("workers", INTEGER, True, "how many processes ran its tests"),
    Column("lane", TEXT, True, "which tests the run was told to run"),
    Column("part", TEXT, True, "which part of these, as a shard"),
    Column("key", TEXT, False, "the test key"),
    Column("label", TEXT, False, "of the dtype, or of the combination of several"),
    Column("device", TEXT, False, "the type of the device"),
    Column("nodeid", TEXT, True, "what ran the cell last, in this run or a later one"),
    Column("outcome", TEXT, False, "as in the ledger: 'passed', 'failed', 'skipped' and so on"),
    Column("verdict", TRUTH, False, "whether the outcome says something about the code"),
    Column("observed_at", TIME, False, "when that was known"),
    Column("duration", NUMBER, True, "how long the cell took, in seconds"),
    Column("failure_kind", TEXT, True, "the types of the exceptions, with ' + ' between several"),
    Column("failure_message", TEXT, True, "the first line of the message"),
)
Value = str | int | float | bool | None
# The values of the columns, in their order.
Row = tuple[Value, ...]
_FAILING = frozenset({FAILED, CRASHED, SUSPECT})


def rows(
    store: Store,
    runs: Iterable[RunRecord],
    *,
    devices: Collection[str] | None = None,
    pattern: str | None = None,
) -> Iterator[Row]:
    """The rows of some runs, each run's together, read a page at a time.

    devices: of these types alone. pattern: only of test keys that match, as a shell would. Raises
    LedgerError.
    """
    for run in runs:
        of_run = _of_run(run)
        for page in store.pages(run.uid, PAGE):
            for one in page:
                if devices and one.cell.device not in devices:
                    continue
                if pattern is None or fnmatchcase(one.cell.key, pattern):
                    yield (*of_run, *_of_cell(one))


def _of_run(run: RunRecord) -> Row:
    return (
        VERSION,
        run.uid,
        run.number,
        round(1000 * run.started),
        None if run.ended is None else round(1000 * run.ended),
        run.seed,
        run.seed_origin,
        run.strategy,
        run.commit or None,
        run.host or None,
        run.python or None,
        run.torch or None,
        run.plugin or None,
        run.workers or None,
        run.lane,
        run.part or None,
    )


def _of_cell(one: Observed) -> Row:
    # What has failed may have passed in the end: then it says nothing of this outcome.
    failure: Failure | None = one.failure if one.outcome in _FAILING else None
    return (
        *one.cell,
        one.nodeid or None,
        one.outcome,
        one.outcome in VERDICTS,
        round(1000 * one.at),
        one.duration,
        None if failure is None else failure.kind,
        None if failure is None else failure.message,
    )


def chosen(runs: Sequence[RunRecord], since: RunRecord | None) -> Sequence[RunRecord]:
    """The runs from one on, that one too. runs: oldest first."""
    return runs if since is None else runs[[run.uid for run in runs].index(since.uid) :]
