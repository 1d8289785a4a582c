"""What a test was doing when its process died, left where a dead process can't take it along.

A worker of pytest-xdist writes what it hands out into a small file that the controller has open
too; a child of pytest-forked into one that its parent has open. Neither file has a name for longer
than a worker needs to start, so nothing is left behind, whoever dies. Without either of these
plugins nobody outlives the process, and nothing is written.
"""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import pytest

from dtype_sampler.sampling.plan import WIRE
from dtype_sampler.session.current import innermost
from dtype_sampler.session.faults import guarded

if TYPE_CHECKING:
    from dtype_sampler.session.running import RunningTest

# The path, in xdist's `workerinput`.
WIRE_PATH = "dtype_sampler_trace"
# Bytes that are read; a test that declares more is not known after a crash.
_LIMIT = 1 << 20


class Trace:
    """A file of two lines: the payload of the test that runs, and the labels under test, with
    whether they are of threads that have different ones.

    The second is written by itself where nothing else has changed, as in every further pass over a
    sample. What stands behind the second line is of earlier times. A file that can't be written
    costs what is known of a crash, and no test.
    """

    def __init__(self, file: IO[bytes]) -> None:
        """file: open for reading and writing, without a buffer."""
        self._file = file
        self._state: object = None
        self._end = 0
        self._lines: dict[tuple[tuple[str, ...], bool], bytes] = {}

    def note(self, item: str, *tests: RunningTest) -> None:
        """Write down what *item*, a node id of pytest's, is doing.

        tests: the item's own, and those of the fixtures that it is setting up.
        """
        labels, apart = tests[0].under_test.labels(), tests[0].under_test.apart
        for test in tests[1:]:
            labels += test.under_test.labels()
        line = self._lines.get((labels, apart))
        if line is None:
            line = self._lines[labels, apart] = json.dumps([labels, apart]).encode() + b"\n"
        state = [test.state() for test in tests]
        if state == self._state:
            self._write(line, self._end)
            return
        payload = tests[0].to_wire(*tests[1:])
        if payload is None:
            return
        del payload["under_test"]
        head = json.dumps(payload | {"phase": tests[0].phase, "item": item}).encode() + b"\n"
        self._write(head + line, 0)
        self._state, self._end = state, len(head)
        if len(self._lines) > 1000:
            self._lines.clear()

    def clear(self) -> None:
        """The test is over. Its child may have written, of which this process knows nothing."""
        self._state = None
        self._write(b"\n", 0)

    def _write(self, line: bytes, at: int) -> None:
        with suppress(OSError, ValueError):
            if hasattr(os, "pwrite"):
                # At once: threads of one test may write at the same time.
                os.pwrite(self._file.fileno(), line, at)
            else:
                self._file.seek(at)
                self._file.write(line)

    def last_words(self, item: str) -> dict[str, Any] | None:
        """The payload of *item* as it was when its process died; None if it left none."""
        try:
            self._file.seek(0)
            head, in_hand, *_ = self._file.read(_LIMIT).split(b"\n", 2)
            payload: dict[str, Any] = json.loads(head)
            labels, apart = json.loads(in_hand)
            payload |= {"under_test": tuple(labels)} | ({"apart": True} if apart else {})
            return payload if payload.pop("item") == item else None
        except (OSError, ValueError, LookupError, TypeError):
            return None

    def close(self) -> None:
        """Let go of the file."""
        with suppress(OSError):
            self._file.close()


class LastWords:
    """Adds what a dead process has left to the report that says it died."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        # What this process leaves itself; None if nobody could read it.
        self.own: Trace | None = None
        self._traces: dict[object, tuple[Trace, Path]] = {}
        config.add_cleanup(self._close)
        path = getattr(config, "workerinput", {}).get(WIRE_PATH)
        with suppress(OSError):
            # Open as long as the session lasts.
            if path is not None:
                self.own = Trace(Path(path).open("r+b", buffering=0))  # noqa: SIM115
            elif config.pluginmanager.has_plugin("pytest_forked"):
                self.own = Trace(tempfile.TemporaryFile(buffering=0))  # noqa: SIM115

    @pytest.hookimpl(optionalhook=True)
    @guarded
    def pytest_configure_node(self, node: Any) -> None:
        # A worker on another machine can't write here, and would leave a file there.
        spec = node.gateway.spec
        if not getattr(spec, "popen", False) or getattr(spec, "via", None):
            return
        with suppress(OSError):
            number, name = tempfile.mkstemp(prefix="dtype-sampler-")
            self._traces[node] = Trace(os.fdopen(number, "r+b", buffering=0)), Path(name)
            node.workerinput[WIRE_PATH] = name

    @pytest.hookimpl(optionalhook=True)
    @guarded
    def pytest_testnodeready(self, node: Any) -> None:
        # Both have it open: from here on it needs no name. Windows keeps it until the end.
        if node in self._traces:
            with suppress(OSError):
                self._traces[node][1].unlink()

    @pytest.hookimpl(optionalhook=True, tryfirst=True)
    @guarded
    def pytest_handlecrashitem(self, crashitem: str, report: pytest.TestReport) -> None:
        trace, _ = self._traces.get(getattr(report, "node", None), (None, None))
        if trace is not None:
            self._add(report, trace.last_words(crashitem))

    @pytest.hookimpl(tryfirst=True)
    @guarded
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        # pytest-forked reports the death of its child with the phase that xdist has for a worker's.
        if self.own is not None and getattr(report, "when", None) == "???":
            self._add(report, self.own.last_words(report.nodeid))

    def _add(self, report: pytest.TestReport, payload: dict[str, Any] | None) -> None:
        if payload is not None and not hasattr(report, WIRE):
            setattr(report, WIRE, payload | {"outcome": report.outcome})

    def _close(self) -> None:
        for trace, path in self._traces.values():
            trace.close()
            with suppress(OSError):
                path.unlink()
        if self.own is not None:
            self.own.close()


class Phases:
    """Tells a test that leaves a trace how far it is. Registered only where traces are left."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config

    @pytest.hookimpl(tryfirst=True)
    @guarded
    def pytest_runtest_call(self) -> None:
        self._enter("call")

    @pytest.hookimpl(tryfirst=True)
    @guarded
    def pytest_runtest_teardown(self) -> None:
        self._enter("teardown")

    def _enter(self, phase: str) -> None:
        if innermost() is None:
            return
        from dtype_sampler.session.running import running_test

        test = running_test()
        if test is not None:
            test.enter_phase(phase)
