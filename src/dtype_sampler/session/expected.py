"""Failures that are known, as pytest is told of them: expected ones, while the books stay true.

A report is changed where it is made, in the process that runs the test, and before anybody counts
it: so exit status, `-x`, `--lf` and the reports of other plugins all follow by themselves.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from types import FrameType
from typing import TYPE_CHECKING, Any

import pytest

from dtype_sampler.ledger.failures import Failure, failure_of, failure_without
from dtype_sampler.ledger.outcomes import Observation, failure_on_wire
from dtype_sampler.session.faults import guarded
from dtype_sampler.session.known import reason

if TYPE_CHECKING:
    from dtype_sampler.sampling.plan import RunPlan
    from dtype_sampler.session.running import RunningTest

# Of a report: since when its failure is known. Its outcome is no more what the test did.
KNOWN = "dtype_sampler_known"


def failure_in(report: pytest.TestReport, call: pytest.CallInfo[None]) -> Failure | None:
    """In which way a test has failed, as a report says that was made of this call."""
    if report.outcome != "failed" and not hasattr(report, KNOWN):
        return None
    if isinstance(call.excinfo, pytest.ExceptionInfo):
        return failure_of(call.excinfo.value, report.when)
    return failure_without(str(report.longrepr or ""), report.when)


def expect(test: RunningTest, call: pytest.CallInfo[None], report: pytest.TestReport) -> None:
    """Make a failure that is known an expected one, where it is of the dtypes under test."""
    if report.outcome != "failed" or hasattr(report, KNOWN):
        return
    error = call.excinfo.value if isinstance(call.excinfo, pytest.ExceptionInfo) else None
    payload = test.to_wire(error=error if call.when == "call" else None)
    if payload is None:
        return
    parameters = _subtest_that_asks(sys._getframe(1))  # noqa: SLF001  # as in `plain_unittest`
    named = test.named_by(parameters) if parameters is not None else []
    why = reason(
        test.plan,
        Observation(
            when=report.when,
            outcome="failed",
            subtest=parameters is not None,
            samples=payload | {"named": named},
            failure=failure_in(report, call),
        ),
    )
    if why is not None:
        _expected(report, why)


def look_again(report: pytest.TestReport, payload: dict[str, Any], plan: RunPlan) -> None:
    """Take an expectation back where a subtest speaks of another dtype than it had seemed to."""
    why = getattr(report, KNOWN, None)
    if why is None:
        return
    # Whatever goes wrong from here on, it is a failure until it is known to be none.
    delattr(report, KNOWN)
    del report.wasxfail
    report.outcome = "failed"
    observation = Observation(
        when=report.when,
        outcome="failed",
        subtest=True,
        samples=payload,
        failure=failure_on_wire(payload.get("failure")),
    )
    if reason(plan, observation) is not None:
        _expected(report, why)


def _expected(report: pytest.TestReport, why: str) -> None:
    setattr(report, KNOWN, why)
    report.wasxfail = f"known to fail: {why}"
    report.outcome = "skipped"


def _subtest_that_asks(frame: FrameType | None) -> tuple[object, ...] | None:
    """The parameters of the subtest of which a report is being made; None if it is of a test.

    Found on the call stack: pytest makes the report of a subtest as that of a test, and writes down
    only afterwards what the subtest names.
    """
    while frame is not None and str(frame.f_globals.get("__name__")).startswith(
        ("pluggy", "dtype_sampler.")
    ):
        frame = frame.f_back
    if frame is None:
        return None
    known = frame.f_locals
    if frame.f_code.co_name == "__exit__":
        # The fixture `subtests`, of pytest and of pytest-subtests.
        own = known.get("self")
        message, values = getattr(own, "msg", None), getattr(own, "kwargs", None)
    elif frame.f_code.co_name in ("addSubTest", "_addSubTest"):
        own = known.get("test")
        message, values = getattr(own, "_message", None), getattr(own, "params", None)
    else:
        return None
    try:
        return (*((message,) if isinstance(message, str) else ()), *dict(values or {}).values())
    except (TypeError, ValueError):
        return ()


class KnownFailures:
    """Makes failures that are known expected ones. Registered only where something is known."""

    NAME = "dtype-sampler-known-failures"

    def __init__(
        self, config: pytest.Config, running_of: Callable[[object], RunningTest | None]
    ) -> None:
        """running_of: the running test of an item."""
        self.config = config
        self._running_of = running_of

    @pytest.hookimpl(wrapper=True, trylast=True)
    @guarded
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Innermost, so that plugins that count failures, such as rerunfailures, see none.

        But pytest's own xfail marks have their say before this: of items that have one, the
        outermost wrapper of ours takes care.
        """
        report = yield
        test = self._running_of(item)
        if test is not None and not any(item.iter_markers("xfail")):
            expect(test, call, report)
        return report

    @pytest.hookimpl(wrapper=True)
    @guarded
    def pytest_report_teststatus(self, report: pytest.TestReport) -> Generator[None, Any, Any]:
        """Show known failures of subtests: failing ones are shown, and no expected ones.

        pytest-subtests counts them apart, where `-rx` shows no reason.
        """
        status = yield
        if not hasattr(report, KNOWN) or status is None or status[0] == "xfailed":
            return status
        if status[0]:
            return ("xfailed", *status[1:])
        head = str(getattr(report, "head_line", None) or "")
        behind = head.removeprefix(str(report.location[2])).strip()
        return "xfailed", "y", f"SUBXFAIL{behind}"
