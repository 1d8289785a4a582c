"""The hooks of the process that sees every report: the only one, or xdist's controller.

Long, as what a dozen hooks see of a run is put together in one object.
"""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dtype_sampler.ledger.outcomes import Cell, blamed, heavier
from dtype_sampler.ledger.secrets import redacted_word
from dtype_sampler.ledger.tally import Finished, Tally
from dtype_sampler.sampling.plan import CACHE_SEED, WIRE, RunPlan
from dtype_sampler.sampling.steering import Steered
from dtype_sampler.session import terminal
from dtype_sampler.session.budgeting import (
    STEERED,
    STEERED_WIRE,
    Meter,
    foreseen,
    paths_of,
    workers_of,
)
from dtype_sampler.session.expected import KNOWN
from dtype_sampler.session.faults import LOST, guarded, told
from dtype_sampler.session.known import Compared, compare
from dtype_sampler.session.nodeids import argument_of_nodeid
from dtype_sampler.session.observing import is_of_a_test, observation_of, records_of
from dtype_sampler.session.settings import DEFAULT, MINIMAL, Settings
from dtype_sampler.session.subtests import name_dtypes
from dtype_sampler.session.telling import Listeners

if TYPE_CHECKING:
    from dtype_sampler.ledger.books import Books
    from dtype_sampler.ledger.coverage import Coverage
    from dtype_sampler.ledger.failures import Failure
    from dtype_sampler.ledger.records import Observed, RunRecord

# Characters of a command line that the ledger keeps: it may name thousands of tests.
_LONGEST = 10_000
# So many tests with cells that never ran are looked at for the steps that their seeds go in.
_LOOKED_AT = 200
# The labels that the items of this process's tests declare, kept where `--dtype-only` needs them.
DECLARED = pytest.StashKey[list[str]]()
# The arguments of this process's tests, as `parametrization.Parametrizations` has them.
ARGUMENTS = pytest.StashKey[dict[str, bool]]()
ARGUMENTS_WIRE = f"{WIRE}_arguments"


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
        self._listeners = Listeners(config)
        self._idle = idle
        self._pid = os.getpid()
        # The node ids of what ran, was skipped or deselected: no test that is gone.
        self._met: set[str] = set()
        # What was said last of each cell, in which way it failed, and the node id of the item that
        # said it.
        self._said: dict[Cell, tuple[str, str, Failure | None]] = {}
        self._compared: Compared | None = None
        # The node ids of what was called and came to its end: it has asked for all it asks for.
        self._came_to_end: set[str] = set()
        self._coverage: Coverage | None = None
        # By test key and device: the labels that this selection leaves of each test it takes.
        self._reach: dict[tuple[str, str], dict[str, None]] = {}
        self._ahead: list[terminal.Line] = []
        self._replays: dict[str, dict[str, None]] = {}
        # Failures whose history is told once the run has ended.
        self._untold: list[tuple[pytest.TestReport, list[str], list[Cell]]] = []
        self._collected: dict[str, None] = {}
        self._unknown: list[str] = []
        self._begun = False
        # As pytest found it: a test may change its environment.
        self._addopts = os.environ.get("PYTEST_ADDOPTS", "")
        self._common: dict[str, Any] | None = None
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
        if payload is not None and not self._begun:
            self._begun = True
            with told(self.config, "beginning the books"):
                self._remember_seed()
                self._begin_books(payload)
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
                self._add_replay(report, payload | blame, ended=not observation.subtest)
        if self.books is None and not self._listeners.there:
            return
        self._met.add(nodeid)
        if payload is not None and report.when == "call" and not observation.subtest:
            self._came_to_end.discard(nodeid)
            if observation.outcome == "passed":
                self._came_to_end.add(nodeid)
        if finished is not None:
            finished = self._with_repetitions(nodeid, finished)
            for sample in finished.samples:
                left = sample["declared"] if sample["left"] is None else sample["left"]
                reach = self._reach.setdefault((sample["key"], sample["device"]), {})
                reach.update(dict.fromkeys(left))
            seen = self._record(finished, came_to_end=nodeid in self._came_to_end)
            self._tell(finished, seen, observation.worker)

    def _record(self, finished: Finished, *, came_to_end: bool) -> list[Observed]:
        """Write down what a test that has ended has come to."""
        now = time.time() if self.books is None else self.books.now()
        run = None if self.books is None else self.books.run
        started = now if run is None else run.started
        tests, seen = records_of(finished, started, now, came_to_end=came_to_end)
        if self.books is not None:
            kept = [_without_message(one) for one in seen] if self._is_minimal else seen
            self.books.record(tests, kept)
        return seen

    def _tell(self, finished: Finished, seen: Sequence[Observed], worker: str = "") -> None:
        """Others than the ledger. After it, as nobody knows how long they take."""
        if self._listeners.there:
            books = self.books
            run, number = (None, None) if books is None else (books.run, books.number)
            self._listeners.tell(seen, finished, self.plan, self._strategy, run, number, worker)

    def _with_repetitions(self, nodeid: str, finished: Finished) -> Finished:
        """A cell that several items speak of, as repetitions of a test do, has the worst of it."""
        worse: dict[Cell, tuple[str, Failure | None]] = {}
        for cell, outcome in finished.cells.items():
            failure = finished.failures.get(cell)
            said = self._said.get(cell)
            if said is not None:
                source, before, failed = said
                if source != nodeid and heavier(before, outcome) != outcome:
                    outcome, failure = worse[cell] = before, failed
            self._said[cell] = nodeid, outcome, failure
        if not worse:
            return finished
        return replace(
            finished,
            cells={**finished.cells, **{cell: outcome for cell, (outcome, _) in worse.items()}},
            failures={**finished.failures, **{cell: how for cell, (_, how) in worse.items()}},
        )

    def _lose(self, nodeid: str) -> None:
        self._lost.add(nodeid)
        self.tally.drop(nodeid)

    @guarded
    def pytest_runtest_logstart(self) -> None:
        self._meter.begin()

    @guarded
    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        # Of xdist's workers nobody hears what they deselect. testmon counts with objects that name
        # no test.
        names = (getattr(item, "nodeid", None) for item in items)
        self._met.update(name for name in names if isinstance(name, str))

    def _begin_books(self, payload: dict[str, Any]) -> None:
        if self.books is None:
            return
        from dtype_sampler.ledger.origin import commit_of, machine, new_uid
        from dtype_sampler.ledger.records import RunRecord
        from dtype_sampler.ledger.secrets import without_secrets

        arguments = self.config.invocation_params.args
        command = shlex.join(["pytest", *without_secrets(map(str, arguments))])
        where: dict[str, Any] = {**machine()}
        if self._is_minimal:
            command = where["host"] = ""
        self.books.begin(
            RunRecord(
                uid=new_uid(),
                started=self.books.now(),
                seed=self.plan.seed,
                seed_origin=self.plan.seed_origin,
                strategy=self._strategy,
                command=command if len(command) <= _LONGEST else f"{command[:_LONGEST]} ...",
                commit="" if self._is_minimal else commit_of(self.config.rootpath),
                device=payload["samples"][0]["device"],
                lane=self.plan.lane,
                part=self.plan.part,
                in_series=self.plan.in_series,
                workers=workers_of(self.config),
                **where,
            )
        )

    @property
    def _is_minimal(self) -> bool:
        return self.settings.record == MINIMAL

    @property
    def _strategy(self) -> str:
        if self.plan.all_dtypes:
            return "all"
        if self.plan.run:
            return "run"
        return "budget" if self._steered is not None else self.plan.strategy

    def _remember_seed(self) -> None:
        """For `--dtype-seed=last`; not before a sample was used, as this makes a file."""
        cache = getattr(self.config, "cache", None)
        if cache is not None and not self._idle:
            cache.set(CACHE_SEED, self.plan.seed)

    def _add_replay(
        self, report: pytest.TestReport, payload: dict[str, Any], *, ended: bool
    ) -> None:
        from dtype_sampler.session.replay import lines

        text = lines(
            payload,
            self.settings,
            self.plan,
            relative=partial(argument_of_nodeid, self.config),
            ended=ended,
            **self._invocation(),
        )
        if self.books is not None:
            cells = _cells_under_test(payload)
            if self.books.tells_late:
                self._untold.append((report, text.copy(), cells))
            else:
                text += terminal.histories(self.books.past(cells), self.books.now())
        report.sections.append((terminal.SECTION, "\n".join(text)))
        # The failing subtests of one dtype all say the same.
        self._replays.setdefault(report.nodeid, {}).update(dict.fromkeys(text))

    def _tell_histories(self) -> None:
        """Add to what failures say what a ledger knows that was not to be asked before the end."""
        assert self.books is not None
        cells = list(dict.fromkeys(cell for _, _, cells in self._untold for cell in cells))
        past = {one[0]: one for one in self.books.past(cells)} if cells else {}
        for report, text, under_test in self._untold:
            lines = terminal.histories(
                (past[cell] for cell in under_test if cell in past), self.books.now()
            )
            section = (terminal.SECTION, "\n".join(text))
            if lines and section in report.sections:
                place = report.sections.index(section)
                report.sections[place] = (terminal.SECTION, "\n".join([*text, *lines]))
                self._replays.setdefault(report.nodeid, {}).update(dict.fromkeys(lines))

    def _invocation(self) -> dict[str, Any]:
        if self._common is None:
            self._common = {}
            with told(self.config, "reading the command line"):
                from dtype_sampler.session.invocation import for_replays

                self._common = for_replays(self.config, self._addopts)
        return self._common

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
            self._unknown = self._unknown_names() if self.plan.only else []
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
            if self.books is not None or self._listeners.there:
                late += [(one, self._record(one, came_to_end=False)) for one in left]
        if self.books is not None:
            with told(self.config, "closing the books"):
                self.books.measure(
                    took=self._meter.took, others=self._meter.others, predicted=self._predicted
                )
                self.books.end(self._met)
            with told(self.config, "telling the history of failures"):
                self._tell_histories()
            self._gate(session)
        with told(self.config, "telling what has not ended"):
            for finished, seen in late:
                self._tell(finished, seen)
        if not self.config.pluginmanager.has_plugin("terminalreporter"):
            for line in self._listeners.lines(tracebacks=False):
                print(line, file=sys.stderr)  # noqa: T201  # there is no summary

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
        devices = {cell.device for cell in self.tally.cells()} or None
        summary = self.settings.step_summary and os.environ.get("GITHUB_STEP_SUMMARY")
        self._coverage, runs = self.books.state(devices, whole=bool(summary))
        if self._coverage is not None and summary:
            self._write_step_summary(self._coverage, runs)
        if self._coverage is not None and self.books.run is not None:
            self._ahead = self._look_ahead(self._coverage, self.books.run, runs)
        missed = wanted is not None and (
            self._coverage is None
            or self._coverage.nothing_to_judge() is not None
            or self._coverage.percent < wanted
        )
        if missed and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _look_ahead(
        self, coverage: Coverage, run: RunRecord, runs: Sequence[RunRecord]
    ) -> list[terminal.Line]:
        """What the next runs of this selection come to, in lines."""
        from dtype_sampler.ledger import outlook

        assert self.books is not None
        everything = self.plan.all_dtypes or bool(self.plan.only)
        # A seed that was given speaks of others that will be; those of a lane go on by themselves.
        stuck = []
        if self._strategy == "rotate" and not everything:
            waiting = [
                state
                for state in coverage.tests
                if state.never_ran and (state.test.key, state.test.device) in self._reach
            ][:_LOOKED_AT]
            past = self.books.seeds([state.test for state in waiting]) if len(runs) > 1 else []
            for state, seeds in zip(waiting, past, strict=False):
                met = [seed for seed, steady in seeds if steady or not run.in_series]
                if found := outlook.out_of_step(state, met):
                    stuck.append(found)
        first = outlook.seed_following(run, runs)
        ahead = outlook.foresee(
            coverage,
            self._reach,
            first,
            "all" if everything else self._strategy,
            but={(one.state.test.key, one.state.test.device) for one in stuck},
        )
        if self._steered is not None:
            ahead = replace(ahead, runs=self._steered.taken.runs)
        elif self.plan.part:
            # What other parts take of a test, this one never will.
            ahead = replace(ahead, runs=None)
        return terminal.looking_ahead(ahead, stuck, first, in_series=run.in_series)

    def _write_step_summary(self, coverage: Coverage, runs: Sequence[RunRecord]) -> None:
        path = os.environ.get("GITHUB_STEP_SUMMARY")
        if not path:
            return
        assert self.books is not None
        from dtype_sampler.reports.ledger import data, text

        now = self.books.now()
        costs = self.books.costs()
        summary = data.summary(coverage, runs, costs)
        try:
            with Path(path).open("a", encoding="utf-8", errors="backslashreplace") as file:
                room = text.STEP_SUMMARY_LIMIT - file.tell()
                shown = text.markdown(coverage, summary, now=now, limit=room, costs=costs)
                file.write(shown)
        except OSError as error:
            self.books.problems.append(f"{path}: can't be written: {error.strerror}")

    def _unknown_names(self) -> list[str]:
        from dtype_sampler.sampling.naming import unknown_names

        labels = [*self.tally.labels, *self._collected, *self.config.stash.get(DECLARED, ())]
        return unknown_names(self.plan.only, labels)

    @guarded
    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if self._forked:
            return
        # As short as pytest was asked to be: then only what is of concern.
        brief = self.config.option.no_summary or self.config.get_verbosity() < -1
        with told(self.config, "showing replay lines"):
            if self._replays and _sections_hidden(self.config) and not brief:
                terminalreporter.section(f"{terminal.SECTION}: replay")
                alone = self.config.option.tbstyle == "no"
                for line in terminal.replays(self._replays, alone=alone):
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
                told_of = terminal.ledger_summary(
                    self.books, self._coverage, self.settings, self._ahead
                )
                for line, colour in told_of:
                    if colour == terminal.RED or not brief:
                        terminalreporter.write_line(line, **_markup(colour))
        with told(self.config, "looking for arguments that match nothing"):
            for message in self._unmatched_argnames():
                message = f"{terminal.SECTION}: dtype_sampler_argnames: {message}"
                terminalreporter.write_line(message, yellow=True)
        with told(self.config, "showing what hooks raised"):
            verbosity = self.config.get_verbosity()
            for line in self._listeners.lines(tracebacks=verbosity >= 2):
                terminalreporter.write_line(line, yellow=True)
        for message in self._unknown:
            terminalreporter.write_line(f"ERROR: --dtype-only: {message}", red=True)

    def _unmatched_argnames(self) -> list[str]:
        """What to say of names that match nothing, where all of the suite was looked at.

        A part of a suite may well have no such test.
        """
        arguments = self._arguments | self.config.stash.get(ARGUMENTS, dict[str, bool]())
        if not (arguments and self.settings.argnames and _collects_all(self.config)):
            return []
        from dtype_sampler.session.parametrization import unmatched

        return unmatched(self.settings.argnames, arguments)


def _markup(colour: str) -> dict[str, bool]:
    """A colour as pytest's terminal takes it, which leaves it out where it has none."""
    return {colour: True} if colour else {}


def _collects_all(config: pytest.Config) -> bool:
    """Whether pytest was asked to collect all that it collects of itself."""
    options = ("ignore", "ignore_glob", "lf")
    if any(config.getoption(name, None) for name in options):
        return False
    reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
    errors = [] if reporter is None else reporter.stats.get("error", [])
    if any(isinstance(report, pytest.CollectReport) for report in errors):
        # What can't be imported may have them; a test whose setup fails was looked at.
        return False
    if config.args_source is config.ArgsSource.TESTPATHS:
        return True
    root, start = config.rootpath, config.invocation_params.dir
    whole = [root / path for path in config.getini("testpaths")] or [root]
    named = [Path(os.path.normpath(start / arg)) for arg in config.args]
    return all(any(path.is_relative_to(one) for one in named) for path in whole)


def _without_message(one: Observed) -> Observed:
    """With the type of the exception, and without what it says: that may name people."""
    return one if one.failure is None else replace(one, failure=one.failure._replace(message=""))


def _cells_under_test(payload: dict[str, Any]) -> list[Cell]:
    return [
        Cell(sample["key"], label, sample["device"])
        for sample in payload["samples"]
        for label in sample["entered"]
        if label in payload["under_test"]
    ]


def _sections_hidden(config: pytest.Config) -> bool:
    """Whether pytest does not show the sections of failing reports."""
    style = config.option.tbstyle
    # pytest 9 began to show them with one line for each failure too.
    if style == "no" or (style == "line" and pytest.version_tuple < (9,)):
        return True
    shown = config.option.showcapture
    return shown != "all" and shown not in terminal.SECTION
