"""The span of OpenTelemetry that a test runs in is told of the test's dtypes.

To a dashboard, a loop over dtypes is one test. Nothing of OpenTelemetry is imported here: where
nobody has imported it, nobody traces. What a span is told, and when:

- A span that was made for the test, around all of its phases, is told at the end of the teardown:
  only then is it known what came of each dtype, by the same fold as in the ledger.
- Any other span that is current while a dtype is handed out may end at any moment, so that it is
  told at once, and no outcome. What the setup hands out, and the dtype that an item stands for, are
  told to the span that is current when the test is called.
- A span that is current while no test runs, such as a session's, is no test's own: it is told
  nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Mapping
from time import time_ns
from typing import Any, Protocol, cast

import pytest

from dtype_sampler.ledger.outcomes import Cell, Observation, failures, fold
from dtype_sampler.sampling.plan import WIRE
from dtype_sampler.sampling.sample import SampleRecord
from dtype_sampler.session.current import innermost
from dtype_sampler.session.faults import guarded, told
from dtype_sampler.session.observing import observation_of
from dtype_sampler.session.running import RunningTest

# Where the current span can be asked for, once somebody has imported it.
MODULE = "opentelemetry.trace"
SEED, DTYPES, DEVICE = "dtype_sampler.seed", "dtype_sampler.dtypes", "dtype_sampler.device"
# Of each dtype, the first time that the test is handed it.
EVENT = "dtype_sampler.dtype"
LABEL, OUTCOME = "dtype_sampler.label", "dtype_sampler.outcome"
FAILURE, ATTEMPT = "dtype_sampler.failure", "dtype_sampler.attempt"


class Span(Protocol):
    """What is asked of OpenTelemetry's spans."""

    def is_recording(self) -> bool:
        """Whether it keeps what it is told."""

    def set_attribute(self, key: str, value: object) -> None:
        """Say something of the whole of it."""

    def add_event(self, name: str, attributes: Mapping[str, object], timestamp: int) -> None:
        """Say what happened within it. timestamp: in nanoseconds since 1970."""


def current_span() -> Span | None:
    """The span that is current in this context, if it records."""
    find = getattr(sys.modules.get(MODULE), "get_current_span", None)
    span = None if find is None else cast("Span", find())
    return span if span is not None and span.is_recording() else None


class Traced:
    """One test, and the span that was made for it, if there is one."""

    def __init__(
        self, config: pytest.Config, test: RunningTest, own: Span | None, around: Span | None
    ) -> None:
        """own: the span around all of its phases. around: one that is not of this test."""
        self._config = config
        self._test = test
        self._own = own
        self._around = around
        self.begin()

    def begin(self) -> None:
        """An attempt at the test begins."""
        self._begun = time_ns()
        self._calling = False
        # When each was handed out first; and what a span of the call is still to be told.
        self._handed: dict[Cell, int] = {}
        self._waiting: list[Cell] = []
        self._labels: dict[str, None] = {}
        # By phase; of subtests, which report in between, the payload tells.
        self._said: dict[str, Observation] = {}

    def hand_out(self, record: SampleRecord, label: str) -> None:
        """The test is handed a dtype. Raises nothing, as the test would."""
        cell = Cell(record.key, label, record.device)
        if cell in self._handed:
            # As nearly always, where a loop is gone through again and again.
            return
        with told(self._config, "telling a span of a dtype"):
            self._handed[cell] = time_ns()
            self._labels.update(dict.fromkeys(record.chosen))
            if self._own is not None:
                return
            self._waiting.append(cell)
            if self._calling:
                self._tell_at_once()

    def call(self) -> None:
        """The test is called."""
        self._calling = True
        self._tell_at_once()

    def _tell_at_once(self) -> None:
        waiting, self._waiting = self._waiting, []
        span = current_span()
        if span is None or span is self._around or not waiting:
            return
        self._describe(span, list(self._labels), [cell.device for cell in self._handed])
        for cell in waiting:
            # Not when the setup was handed it: the span may be younger.
            span.add_event(EVENT, self._event(cell), time_ns())

    def report(self, report: pytest.TestReport) -> None:
        """A phase has ended."""
        if self._own is None:
            return
        self._said[report.when] = observation_of(report, getattr(report, WIRE, None))
        if report.when == "teardown" and self._own.is_recording():
            self._tell(self._own, list(self._said.values()))

    def _tell(self, span: Span, observations: list[Observation]) -> None:
        known = [one.samples for one in observations if one.samples is not None]
        if not known:
            return
        samples = known[-1]["samples"]
        labels = dict.fromkeys(label for sample in samples for label in sample["chosen"])
        self._describe(span, list(labels), [sample["device"] for sample in samples])
        outcomes, failed = fold(observations), failures(observations)
        handed = {
            cell: self._handed.get(cell, self._begun)
            for sample in samples
            for label in sample["entered"]
            for cell in [Cell(sample["key"], label, sample["device"])]
        }
        for cell, at in sorted(handed.items(), key=lambda one: one[1]):
            event = self._event(cell)
            if cell in outcomes:
                event[OUTCOME] = outcomes[cell]
            if (failure := failed.get(cell)) is not None:
                event[FAILURE] = failure.kind
            span.add_event(EVENT, event, at)

    def _describe(self, span: Span, labels: list[str], devices: list[str]) -> None:
        span.set_attribute(SEED, self._test.plan.seed)
        span.set_attribute(DTYPES, labels)
        span.set_attribute(DEVICE, ", ".join(dict.fromkeys(devices)))

    def _event(self, cell: Cell) -> dict[str, object]:
        return {LABEL: cell.label, DEVICE: cell.device, ATTEMPT: self._test.attempt}


class Spans:
    """The hooks of the process that runs the tests, where OpenTelemetry is there."""

    NAME = "dtype-sampler-spans"

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self._around = current_span()
        self._traced: Traced | None = None

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    @guarded
    def pytest_runtest_protocol(self) -> Generator[None, object, object]:
        """What is current before anybody's span for this test begins is not this test's."""
        self._around = current_span()
        try:
            return (yield)
        finally:
            self._traced = None

    @guarded
    def pytest_runtest_logstart(self) -> None:
        """Within what others wrap around the whole test, and not yet in any of its phases."""
        test = innermost()
        if isinstance(test, RunningTest):
            own = current_span()
            own = None if own is self._around else own
            self._traced = Traced(self.config, test, own, self._around)
            test.handed_out = self._traced.hand_out

    @pytest.hookimpl(tryfirst=True)
    @guarded
    def pytest_runtest_setup(self) -> None:
        """Before anything is handed out; of a test that is retried, again."""
        if self._traced is not None:
            self._traced.begin()

    @pytest.hookimpl(tryfirst=True)
    @guarded
    def pytest_runtest_call(self) -> None:
        """Within what others wrap around the call."""
        if self._traced is not None:
            self._traced.call()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    @guarded
    def pytest_runtest_makereport(self) -> Generator[None, pytest.TestReport, Any]:
        """Once the report has its payload."""
        report = yield
        if self._traced is not None:
            self._traced.report(report)
        return report
