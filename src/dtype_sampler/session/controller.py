"""The hooks of the process that sees every report: the only one, or xdist's controller."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pytest

from dtype_sampler.ledger.garbage import uncollected
from dtype_sampler.ledger.outcomes import blamed
from dtype_sampler.ledger.secrets import redacted_word
from dtype_sampler.ledger.tally import Finished, Tally
from dtype_sampler.sampling.plan import CACHE_SEED, CACHE_SOUND, WIRE, RunPlan
from dtype_sampler.sampling.steering import Steered
from dtype_sampler.session import terminal
from dtype_sampler.session.afterwards import Afterwards
from dtype_sampler.session.budgeting import STEERED, STEERED_WIRE, Meter, foreseen, paths_of
from dtype_sampler.session.expected import KNOWN
from dtype_sampler.session.failing import Failures
from dtype_sampler.session.faults import LOST, guarded, told
from dtype_sampler.session.known import Compared, compare
from dtype_sampler.session.observing import is_of_a_test, observation_of, says_nothing
from dtype_sampler.session.recording import Recorder
from dtype_sampler.session.settings import DEFAULT, Settings
from dtype_sampler.session.subtests import name_dtypes
from dtype_sampler.session.unmatched import ARGUMENTS_WIRE, unknown_labels, unmatched_arguments

if TYPE_CHECKING:
    from dtype_sampler.ledger.books import Books
    from dtype_sampler.ledger.records import Observed


class Controller:
    """Keeps the tally of one session, and tells people about it."""

    def __init__(
        self,
        config: pytest.Config,
        settings: Settings,
        plan: RunPlan,
        books: Books | None,
        *,
        idle: bool = False,
    ) -> None:
        """idle: the session runs no test, and keeps no books."""
        self.config = config
        self.settings = settings
        self.plan = plan
        self.tally = Tally()
        self.books = None if idle else books
        if self.books is not None:
            config.add_cleanup(self.books.close)
        self._recorder = Recorder(config, settings, plan, self.books)
        self._failures = Failures(config, settings, plan, self.books)
        self._idle = idle
        self._pid = os.getpid()
        self._compared: Compared | None = None
        # Once the run has ended, if there is anything to ask the ledger.
        self._afterwards: Afterwards | None = None
        self._collected: dict[str, None] = {}
        self._unknown: list[str] = []
        self._begun = False
        # The node ids of tests of which a report was lost: what is left says nothing true.
        self._lost: set[str] = set()
        self._arguments: dict[str, bool] = {}
        self._meter = Meter()
        self._steered: Steered | None = None
        # What the header should have said, which workers knew.
        self._late: list[str] = []
        if plan.budget is not None:
            with told(config, "planning by the budget"):
                self._steered = foreseen(plan, paths_of(config))

    @guarded
    def pytest_report_header(self) -> list[str]:
        if self.config.getoption("collectonly"):
            return [terminal.listing_header(self.plan)]
        return self._header()

    @property
    def _baseline(self) -> str:
        return redacted_word(str(self.settings.baseline)) if self.settings.compared else ""

    def _header(self) -> list[str]:
        return [
            terminal.header(
                self.plan,
                self.settings.instead_of,
                self._baseline,
                asks_k=self.settings.came_from("k") != DEFAULT,
            ),
            *terminal.budget(self.plan, self._steered),
        ]

    @guarded
    def pytest_report_collectionfinish(self) -> list[str]:
        steered = self.config.stash.get(STEERED, None)
        if steered is None:
            return []
        if self.config.getoption("no_header"):
            self._steered = steered
            return []
        return self._corrected(steered)

    def _corrected(self, steered: Steered) -> list[str]:
        """What the header should have said, if other tests are there than was known."""
        before, self._steered = self._steered, steered
        said, says = (terminal.budget(self.plan, one) for one in (before, steered))
        return says if says != said else []

    @property
    def _forked(self) -> bool:
        """Whether this is a child of the session's process: its books are the parent's to keep."""
        return os.getpid() != self._pid

    @pytest.hookimpl(trylast=True)
    @guarded
    def pytest_sessionstart(self) -> None:
        # With -q pytest asks nobody for a header. A list of node ids is for programs: no header.
        writer: Any = self.config.pluginmanager.get_plugin("terminalreporter")
        if writer is None or self.config.get_verbosity() >= 0:
            return
        if not (self.config.getoption("no_header") or self.config.getoption("collectonly")):
            for line in self._header():
                writer.write_line(line)

    @pytest.hookimpl(tryfirst=True)
    @guarded
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if not is_of_a_test(report) or report.nodeid in self._lost:
            return
        nodeid = report.nodeid
        if not hasattr(report, LOST):
            try:
                name_dtypes(report)
            except Exception:
                setattr(report, LOST, True)
                self._lose(nodeid)
                raise
        if self._forked:
            # A child of pytest-forked: its parent is told, and keeps the books.
            return
        if hasattr(report, LOST):
            self._lose(nodeid)
            return
        payload = getattr(report, WIRE, None)
        self._meter.add(nodeid, report.when, report.duration, sampled=payload is not None)
        if says_nothing(report, payload):
            if self._recorder.is_needed:
                self._recorder.note(nodeid)
            return
        if payload is not None and not self._begun:
            self._begun = True
            with told(self.config, "beginning the books"):
                self._remember_seed()
                self._recorder.begin(payload, self._strategy)
        try:
            observation = observation_of(report, payload)
            finished = self.tally.add(nodeid, observation)
        except Exception:
            self._lose(nodeid)
            raise
        if payload is not None and observation.outcome == "failed" and not hasattr(report, KNOWN):
            with told(self.config, "making replay lines"):
                sure, doubtful = blamed(observation)
                blame = {"under_test": sure, "one_of": doubtful}
                self._failures.add(report, payload | blame, ended=not observation.subtest)
        if self._recorder.is_needed:
            self._recorder.note(nodeid, observation)
            if finished is not None:
                self._recorder.take(nodeid, finished, observation.worker, self._strategy)

    def _lose(self, nodeid: str) -> None:
        self._lost.add(nodeid)
        self.tally.drop(nodeid)

    @guarded
    def pytest_runtest_logstart(self) -> None:
        self._meter.begin()

    @guarded
    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        # Of xdist's workers nobody hears what they deselect.
        self._recorder.leave_out(items)

    @property
    def _strategy(self) -> str:
        if self.plan.all_dtypes:
            return "all"
        if self.plan.run:
            return "run"
        return "budget" if self._steered is not None else self.plan.strategy

    def _remember_seed(self) -> None:
        """For `--dtype-seed=last`; not before a sample was used, as this makes a file."""
        self._remember(CACHE_SEED, self.plan.seed)

    def _remember(self, name: str, what: object) -> None:
        cache = getattr(self.config, "cache", None)
        if cache is not None and not self._idle:
            # Where nothing can be written, pytest warns of its own files: that is enough. As an
            # error (`-W error`), a warning of ours would keep the run out of the books.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", pytest.PytestCacheWarning)
                cache.set(name, what)

    @pytest.hookimpl(optionalhook=True)
    @guarded
    def pytest_testnodedown(self, node: Any) -> None:
        # A worker that died has left nothing.
        output = getattr(node, "workeroutput", None)
        if isinstance(output, dict):
            self._collected.update(dict.fromkeys(output.get(WIRE, ())))
            # All workers collect the same tests.
            self._arguments.update(output.get(ARGUMENTS_WIRE, {}))
            if STEERED_WIRE in output:
                self._late += self._corrected(Steered.of(output[STEERED_WIRE]))

    @pytest.hookimpl(tryfirst=True)
    @guarded
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._forked:
            return
        # Where no terminal asked for it.
        self._steered = self.config.stash.get(STEERED, self._steered)
        # Each part apart: what fails in one of them is no reason to leave out the others.
        with told(self.config, "adding properties to JUnit's report"):
            from dtype_sampler.session import junit

            junit.add_properties(self.config, self.plan, self.tally)
        with told(self.config, "looking for names that match nothing"):
            if self.plan.only:
                used = [*self.tally.labels, *self._collected]
                self._unknown = unknown_labels(self.config, self.plan.only, used)
        if self._unknown and session.exitstatus in (
            pytest.ExitCode.OK,
            pytest.ExitCode.NO_TESTS_COLLECTED,
        ):
            # Nothing can have run with what was asked for by name: that is no success.
            session.exitstatus = pytest.ExitCode.USAGE_ERROR
        left: list[Finished] = []
        with told(self.config, "folding what has not ended"):
            left = self.tally.close()
        if self.settings.compared:
            with told(self.config, "comparing with the baseline"):
                self._compared = compare(self.plan, self.tally)
            self._gate_mended(session)
        late: list[tuple[Finished, list[Observed]]] = []
        with told(self.config, "closing the books"):
            if self._recorder.is_needed:
                late += [(one, self._recorder.record(one)) for one in left]
        if self.books is not None:
            with told(self.config, "closing the books"):
                self.books.measure(
                    took=self._meter.took, others=self._meter.others, predicted=self._predicted
                )
                self.books.end(self._recorder.met)
                if self.books.run is not None and not self.books.is_far:
                    self._remember(CACHE_SOUND, self.books.sound)
            with told(self.config, "telling the history of failures"):
                self._failures.tell_histories()
            self._gate(session)
        with told(self.config, "telling what has not ended"):
            for finished, seen in late:
                self._recorder.tell(finished, seen, self._strategy)
        if not self.config.pluginmanager.has_plugin("terminalreporter"):
            with told(self.config, "telling what is of concern"):
                for line in self._concerns():
                    print(line, file=sys.stderr)  # noqa: T201  # there is no summary

    def _concerns(self) -> Iterator[str]:
        """What has to be told also where there is no summary: why the exit code is what it is, and
        where the books of this run are, if not in the ledger.
        """
        yield from self._recorder.listeners.lines(tracebacks=False)
        lines: list[terminal.Line] = []
        if self._compared is not None and self.tally.used:
            lines += terminal.comparison(self._compared, self.plan, self.tally, self.settings)
        if self.books is not None:
            coverage = None if self._afterwards is None else self._afterwards.coverage
            lines += terminal.ledger_summary(self.books, coverage, self.settings)
        yield from (line for line, colour in lines if colour == terminal.RED)
        yield from (f"ERROR: --dtype-only: {message}" for message in self._unknown)

    def _gate_mended(self, session: pytest.Session) -> None:
        mended = self._compared is None or self._compared.mended
        if mended and self.settings.fail_on_mended and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @property
    def _predicted(self) -> float | None:
        if self._steered is None or self.plan.budget is None:
            return None
        return self.plan.budget.by_clock(self._steered.taken.cost)

    def _gate(self, session: pytest.Session) -> None:
        assert self.books is not None
        wanted = self.settings.fail_under
        if not self.tally.used and wanted is None:
            return
        # A gate over a run without samples is about all that is known: it must not pass unseen.
        self._afterwards = Afterwards(
            self.books,
            self.settings,
            self.plan,
            self._recorder.reach,
            self._strategy,
            self._steered,
        )
        with uncollected():
            self._afterwards.look(self.tally.devices, self._compared)
        if self._afterwards.misses_gate and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @guarded
    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if self._forked:
            return
        # As short as pytest was asked to be: then only what is of concern.
        brief = self.config.option.no_summary or self.config.get_verbosity() < -1
        with told(self.config, "showing replay lines"):
            if not brief and (unseen := [*self._failures.unseen()]):
                terminalreporter.section(f"{terminal.SECTION}: replay")
                for line in unseen:
                    terminalreporter.write_line(line)
        with told(self.config, "showing what was sampled"):
            for line, colour in terminal.summary(self.plan, self.tally, idle=self._idle):
                if not brief:
                    terminalreporter.write_line(line, **_markup(colour))
            if self._begun and not brief:
                number = None if self.books is None else self.books.number
                after = terminal.after(self.plan, self._predicted, self._meter.took, number)
                for line in (*self._late, *after):
                    terminalreporter.write_line(line)
        if self._compared is not None and self.tally.used:
            with told(self.config, "showing what is known to fail"):
                lines = terminal.comparison(self._compared, self.plan, self.tally, self.settings)
                for line, colour in lines:
                    if colour == terminal.RED or not brief:
                        terminalreporter.write_line(line, **_markup(colour))
        if self.books is not None:
            with told(self.config, "showing what the ledger says"):
                looked = self._afterwards
                coverage, ahead = (None, []) if looked is None else (looked.coverage, looked.ahead)
                told_of = terminal.ledger_summary(self.books, coverage, self.settings, ahead)
                # It is large, and pytest has Python look for garbage when all is over.
                self._afterwards = None
                for line, colour in told_of:
                    if colour == terminal.RED or not brief:
                        terminalreporter.write_line(line, **_markup(colour))
        with told(self.config, "looking for arguments that match nothing"):
            names = self.settings.argnames
            for message in unmatched_arguments(self.config, names, self._arguments):
                message = f"{terminal.SECTION}: dtype_sampler_argnames: {message}"
                terminalreporter.write_line(message, yellow=True)
        with told(self.config, "showing what hooks raised"):
            verbosity = self.config.get_verbosity()
            for line in self._recorder.listeners.lines(tracebacks=verbosity >= 2):
                terminalreporter.write_line(line, yellow=True)
        for message in self._unknown:
            terminalreporter.write_line(f"ERROR: --dtype-only: {message}", red=True)


def _markup(colour: str) -> dict[str, bool]:
    """A colour as pytest's terminal takes it, which leaves it out where it has none."""
    return {colour: True} if colour else {}
