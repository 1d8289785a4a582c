"""pytest's reports -> what the fold and the books are told of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dtype_sampler.ledger.costs import durations, lasted
from dtype_sampler.ledger.outcomes import (
    CRASHED,
    FAILED,
    SUSPECT,
    Cell,
    Observation,
    failure_on_wire,
)
from dtype_sampler.ledger.records import Observed, TestRecord
from dtype_sampler.ledger.tally import Finished
from dtype_sampler.session.expected import KNOWN

if TYPE_CHECKING:
    import pytest

_PHASES = ("setup", "call", "teardown")
# xdist reports a test whose worker died with the last of these.
_WHEN = (*_PHASES, "???")


def is_of_a_test(report: object) -> bool:
    """Whether a report is of pytest's or xdist's kind: plugins report things of their own too."""
    return (
        isinstance(getattr(report, "nodeid", None), str)
        and getattr(report, "when", None) in _WHEN
        and isinstance(getattr(report, "outcome", None), str)
    )


def says_nothing(report: pytest.TestReport, payload: dict[str, Any] | None) -> bool:
    """Whether a phase has passed without any dtype so far: as most do, of most runs."""
    return (
        payload is None
        and report.outcome == "passed"
        and report.when in _PHASES
        and not hasattr(report, KNOWN)
    )


def observation_of(report: pytest.TestReport, payload: dict[str, Any] | None) -> Observation:
    """What one report says. payload: the report's own, as `RunningTest.to_wire` makes it."""
    # pytest 9 and pytest-subtests both say by a context that a report is a subtest's.
    subtest = hasattr(getattr(report, "context", None), "kwargs")
    # To the books, what is known to fail has failed, whatever pytest is told of it.
    known = hasattr(report, KNOWN)
    outcome: str = "failed" if known else report.outcome
    rerun = outcome == "rerun"
    if payload is not None and (rerun or outcome == "failed") and not subtest:
        # What made it fail on the way here are its subtests, which have their own reports.
        outcome = payload.get("outcome", outcome)
    xfail = hasattr(report, "wasxfail") and not known
    if xfail and str(report.wasxfail).removeprefix("reason: ").startswith("[NOTRUN]"):
        # `xfail(run=False)`: pytest calls it an expected failure, though nothing has run.
        xfail = False
    worker = getattr(getattr(getattr(report, "node", None), "gateway", None), "id", "")
    when = "crash" if report.when not in _PHASES else report.when
    failure = None if payload is None else failure_on_wire(payload.get("failure"))
    # By their places, as names cost as much as all of the rest, for three reports of each test.
    return Observation(when, outcome, xfail, subtest, payload, rerun, worker, failure)


def records_of(
    finished: Finished, started: float, now: float, *, came_to_end: bool
) -> tuple[list[TestRecord], list[Observed]]:
    """What the ledger is told of a test that has ended.

    started: of the run. came_to_end: it passed, so that it has asked for all it asks for.
    """
    took, rests = durations(finished)
    tests: dict[tuple[str, str], TestRecord] = {}
    for sample in finished.samples:
        key, device = sample["key"], sample["device"]
        name = (key, device)
        before = tests.get(name)
        declared, k, arguments = tuple(sample["declared"]), sample["k"], sample["arguments"]
        whole, circle = sample["whole"], sample["circle"]
        whole = came_to_end if whole is None else whole
        if before is not None:
            declared = (*before.declared, *declared)
            k, arguments = max(k, before.k), max(arguments, before.arguments)
            whole, circle = whole and before.is_whole, before.circle
        tests[name] = TestRecord(
            key,
            device,
            declared,
            now,
            k,
            tuple(sample["always"]),
            whole_at=now if whole else 0.0,
            arguments=arguments,
            circle=circle,
            rests=lasted(started, rests.get(name)),
        )
    marked = {
        Cell(sample["key"], label, sample["device"])
        for sample in finished.samples
        for label in sample.get("skipped", ())
    }
    seen = [
        Observed(
            cell,
            # No node id for what a mark skips: nothing ran it.
            "" if cell in marked else finished.nodeid,
            outcome,
            now,
            took.get(cell),
            finished.failures.get(cell) if outcome in (FAILED, CRASHED, SUSPECT) else None,
        )
        for cell, outcome in finished.cells.items()
    ]
    return list(tests.values()), seen
