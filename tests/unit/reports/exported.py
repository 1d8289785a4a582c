"""A ledger that is exported, and the rows that come of it."""

from __future__ import annotations

from datetime import UTC, datetime

from dtype_sampler.commands.main import main
from dtype_sampler.ledger.failures import Failure
from dtype_sampler.ledger.outcomes import Cell
from dtype_sampler.ledger.records import Observed, RunRecord

STARTED = 1_750_000_000.25
OSERROR = Failure(("OSError",), 'no "such" disk')
# A name that is hard to write: quotes, a line's end, beyond ASCII.
KEY = 'tests/test_x.py::test_é["a\nb"]'


def seen(key, label, outcome, *, device="cpu", after=1.0, run=0, **more):
    cell = Cell(key, label, device)
    return Observed(cell, f"{key}-{label}", outcome, STARTED + 1000 * run + after, **more)


RUNS = [
    RunRecord(
        *("aaaaaa11", STARTED, 2**63 - 1, "given", "rotate"),
        commit="0123456+",
        workers=2,
        lane="tests",
        device="cpu",
    ),
    RunRecord("bbbbbb22", STARTED + 1000, 5, "next after the ledger's last", "all"),
]
SEEN = [
    [
        seen(KEY, "float16", "failed", duration=0.25, failure=OSERROR),
        seen(KEY, "float32", "passed", duration=1.5),
        seen("tests/test_y.py::test_y", "a", "unsupported", device="cuda"),
    ],
    [
        seen("tests/test_y.py::test_y", "b", "not-reached", run=1),
        # It failed first, and passed when it was said again: the failure is none of the pass.
        seen("tests/test_y.py::test_y", "a", "failed", run=1, failure=OSERROR),
        seen("tests/test_y.py::test_y", "a", "passed", run=1, after=2.0),
    ],
]


def iso(at):
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")


def expected():
    """(run, key, label) -> what a row says of it."""
    rows = {}
    for number, (run, told) in enumerate(zip(RUNS, SEEN, strict=True), 1):
        for one in told:
            failure = one.failure or Failure((), "")
            rows[run.uid, one.cell.key, one.cell.label] = {
                "version": 1,
                "run": run.uid,
                "run_number": number,
                "run_started": iso(run.started),
                "run_ended": iso(run.started + 60) if number == 1 else None,
                "seed": run.seed,
                "seed_origin": run.seed_origin,
                "strategy": run.strategy,
                "commit": run.commit or None,
                "host": None,
                "python": None,
                "torch": None,
                "plugin": None,
                "workers": run.workers or None,
                "lane": run.lane,
                "part": None,
                "key": one.cell.key,
                "label": one.cell.label,
                "device": one.cell.device,
                "nodeid": one.nodeid,
                "outcome": one.outcome,
                "verdict": one.outcome in ("passed", "failed"),
                "observed_at": iso(one.at),
                "duration": one.duration,
                "failure_kind": failure.kind or None,
                "failure_message": failure.message or None,
            }
    return rows


def by_cell(rows):
    found = {(row["run"], row["key"], row["label"]): row for row in rows}
    assert len(found) == len(rows)
    return found


def run(capsys, *arguments):
    """Exit code, output and errors of `dtype-sampler export`."""
    code = main(["export", *map(str, arguments)])
    said = capsys.readouterr()
    return code, said.out, said.err
