"""The hooks of the process that sees every report: the only one, or xdist's controller."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.ledger.outcomes import Cell, Finished, Observation, Tally, blamed
from dtype_sampler.paths import DEFAULT_LEDGER
from dtype_sampler.sampling.plan import CACHE_SEED, WIRE, RunPlan
from dtype_sampler.session import terminal
from dtype_sampler.session.nodeids import argument_of_nodeid
from dtype_sampler.session.settings import INI, Settings
from dtype_sampler.session.subtests import name_dtypes

if TYPE_CHECKING:
    from dtype_sampler.ledger.books import Books
    from dtype_sampler.ledger.coverage import Coverage
    from dtype_sampler.ledger.records import Observed, RunRecord, TestRecord

# The labels that the items of this process's tests declare, kept where `--dtype-only` needs them.
DECLARED = pytest.StashKey[list[str]]()


class Controller:
    """Keeps the tally of one session, and tells people about it."""

    def __init__(
        self,
        config: pytest.Config,
        settings: Settings,
        plan: RunPlan,
        books: Books | None,
    ) -> None:
        self.config = config
        self.settings = settings
        self.plan = plan
        self.tally = Tally()
        self.books = books
        self._pid = os.getpid()
        # The node ids of what ran, was skipped or deselected: no test that is gone.
        self._met: set[str] = set()
        self._durations: dict[str, float] = {}
        # The node ids of what was called and came to its end: it has asked for all it asks for.
        self._came_to_end: set[str] = set()
        self._coverage: Coverage | None = None
        self._replays: dict[str, dict[str, None]] = {}
        self._collected: dict[str, None] = {}
        self._unknown: list[str] = []

    def pytest_report_header(self) -> str:
        return terminal.header(self.plan)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionstart(self) -> None:
        # With -q pytest asks nobody for a header. A list of node ids is for programs: no header.
        writer: Any = self.config.pluginmanager.get_plugin("terminalreporter")
        if writer is None or self.config.get_verbosity() >= 0:
            return
        if not (self.config.getoption("no_header") or self.config.getoption("collectonly")):
            writer.write_line(terminal.header(self.plan))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        name_dtypes(report)
        if os.getpid() != self._pid:
            # A child of pytest-forked: its parent is told, and keeps the books.
            return
        payload = getattr(report, WIRE, None)
        if payload is not None and not self.tally.used:
            self._remember_seed()
            self._begin_books(payload)
        observation = _observation(report, payload)
        finished = self.tally.add(report.nodeid, observation)
        if payload is not None and observation.outcome == "failed":
            sure, doubtful = blamed(observation)
            self._add_replay(report, payload | {"under_test": sure, "one_of": doubtful})
        if self.books is None:
            return
        self._met.add(report.nodeid)
        if payload is not None and report.when == "call" and payload["function"] is not None:
            self._durations[report.nodeid] = report.duration
        if payload is not None and report.when == "call" and not observation.subtest:
            self._came_to_end.discard(report.nodeid)
            if observation.outcome == "passed":
                self._came_to_end.add(report.nodeid)
        if finished is not None:
            duration = self._durations.pop(report.nodeid, None)
            at_end = report.nodeid in self._came_to_end
            self.books.record(*_records(finished, self.books.now(), duration, came_to_end=at_end))

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        # Of xdist's workers nobody hears what they deselect.
        self._met.update(item.nodeid for item in items)

    def _begin_books(self, payload: dict[str, Any]) -> None:
        if self.books is None:
            return
        from dtype_sampler.ledger.origin import commit_of, machine, new_uid
        from dtype_sampler.ledger.records import RunRecord

        where: dict[str, Any] = {**machine()}
        self.books.begin(
            RunRecord(
                uid=new_uid(),
                started=self.books.now(),
                seed=self.plan.seed,
                seed_origin=self.plan.seed_origin,
                strategy="all" if self.plan.all_dtypes else self.plan.strategy,
                command=shlex.join(["pytest", *map(str, self.config.invocation_params.args)]),
                commit=commit_of(self.config.rootpath),
                device=payload["samples"][0]["device"],
                **where,
            )
        )

    def _remember_seed(self) -> None:
        """For `--dtype-seed=last`; not before a sample was used, as this makes a file."""
        cache = getattr(self.config, "cache", None)
        if cache is not None:
            cache.set(CACHE_SEED, self.plan.seed)

    def _add_replay(self, report: pytest.TestReport, payload: dict[str, Any]) -> None:
        from dtype_sampler.session.replay import lines

        text = lines(
            payload,
            self.settings,
            self.plan,
            relative=partial(argument_of_nodeid, self.config),
            common=_common_options(self.config),
            filters=_filter_options(self.config),
        )
        if self.books is not None:
            text += terminal.histories(
                self.books.past(_cells_under_test(payload)), self.books.now()
            )
        report.sections.append((terminal.SECTION, "\n".join(text)))
        # The failing subtests of one dtype all say the same.
        self._replays.setdefault(report.nodeid, {}).update(dict.fromkeys(text))

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        # A worker that died has left nothing.
        output = getattr(node, "workeroutput", {})
        self._collected.update(dict.fromkeys(output.get(WIRE, ())))

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        from dtype_sampler.session import junit

        junit.add_properties(self.config, self.plan, self.tally)
        if self.plan.only:
            self._unknown = self._unknown_names()
        if self._unknown and session.exitstatus in (
            pytest.ExitCode.OK,
            pytest.ExitCode.NO_TESTS_COLLECTED,
        ):
            # Nothing can have run with what was asked for by name: that is no success.
            session.exitstatus = pytest.ExitCode.USAGE_ERROR
        left = self.tally.close()
        if self.books is not None:
            for finished in left:
                self.books.record(*_records(finished, self.books.now(), None, came_to_end=False))
            self.books.end(self._met)
            self._gate(session)

    def _gate(self, session: pytest.Session) -> None:
        assert self.books is not None
        wanted = self.settings.fail_under
        if not self.tally.used and wanted is None:
            return
        # A gate over a run without samples is about all that is known: it must not pass unseen.
        devices = {cell.device for cell in self.tally.cells()} or None
        self._coverage, runs = self.books.state(devices)
        if self._coverage is not None and self.settings.step_summary:
            self._write_step_summary(self._coverage, runs)
        percent = self._coverage.percent if self._coverage is not None else 0.0
        missed = wanted is not None and percent < wanted
        if missed and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _write_step_summary(self, coverage: Coverage, runs: Sequence[RunRecord]) -> None:
        path = os.environ.get("GITHUB_STEP_SUMMARY")
        if not path:
            return
        assert self.books is not None
        from dtype_sampler.reports.ledger import data, text

        now = self.books.now()
        summary = data.summary(coverage, runs)
        try:
            with Path(path).open("a", encoding="utf-8", errors="backslashreplace") as file:
                room = text.STEP_SUMMARY_LIMIT - file.tell()
                file.write(text.markdown(coverage, summary, now=now, limit=room))
        except OSError as error:
            self.books.problems.append(f"{path}: can't be written: {error.strerror}")

    def _unknown_names(self) -> list[str]:
        from dtype_sampler.sampling.candidates import unknown_names

        labels = [*self.tally.labels, *self._collected, *self.config.stash.get(DECLARED, ())]
        return unknown_names(self.plan.only, labels)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if self._replays and _sections_hidden(self.config):
            terminalreporter.section(f"{terminal.SECTION}: replay")
            for nodeid, text in self._replays.items():
                terminalreporter.write_line(nodeid)
                for line in text:
                    terminalreporter.write_line(f"  {line}")
        for line in terminal.summary(self.plan, self.tally):
            terminalreporter.write_line(line)
        if self.books is not None:
            for line, red in terminal.ledger_summary(self.books, self._coverage, self.settings):
                terminalreporter.write_line(line, red=red)
        for message in self._unknown:
            terminalreporter.write_line(f"ERROR: --dtype-only: {message}", red=True)


def open_books(config: pytest.Config, settings: Settings) -> Books | None:
    """The ledger that the settings ask for; None if they ask for none."""
    if settings.no_ledger:
        if settings.fail_under is not None:
            raise DtypeSamplerError(
                "--dtype-fail-under needs the ledger: leave out --no-dtype-ledger"
            )
        return None
    from dtype_sampler.ledger.books import Books

    if settings.ledger is None:
        path = config.rootpath / DEFAULT_LEDGER
    elif settings.came_from("ledger") == INI:
        path = config.rootpath / settings.ledger
    else:
        path = config.invocation_params.dir / settings.ledger
    return Books(path, named=settings.ledger is not None, keep=settings.ledger_runs)


def _records(
    finished: Finished, now: float, duration: float | None, *, came_to_end: bool
) -> tuple[list[TestRecord], list[Observed]]:
    """What the ledger is told of a test that has ended.

    came_to_end: it passed, so that it has asked for all it asks for.
    """
    from dtype_sampler.ledger.records import Observed, TestRecord

    tests: dict[tuple[str, str], TestRecord] = {}
    for sample in finished.samples:
        key, device = sample["key"], sample["device"]
        before = tests.get((key, device))
        declared = (*(before.declared if before else ()), *sample["declared"])
        whole = came_to_end if sample["whole"] is None else sample["whole"]
        whole = whole and (before is None or before.is_whole)
        tests[key, device] = TestRecord(
            key,
            device,
            tuple(dict.fromkeys(declared)),
            now,
            max(sample["k"], before.k if before else 0),
            tuple(sample["always"]),
            whole_at=now if whole else 0.0,
        )
    seen = [
        Observed(cell, finished.nodeid, outcome, now, duration)
        for cell, outcome in finished.cells.items()
    ]
    return list(tests.values()), seen


def _cells_under_test(payload: dict[str, Any]) -> list[Cell]:
    return [
        Cell(sample["key"], label, sample["device"])
        for sample in payload["samples"]
        for label in sample["entered"]
        if label in payload["under_test"]
    ]


def _observation(report: pytest.TestReport, payload: dict[str, Any] | None) -> Observation:
    # pytest 9 and pytest-subtests both say by a context that a report is a subtest's.
    subtest = hasattr(getattr(report, "context", None), "kwargs")
    outcome: str = report.outcome
    rerun = outcome == "rerun"
    if payload is not None and (rerun or outcome == "failed") and not subtest:
        # What made it fail on the way here are its subtests, which have their own reports.
        outcome = payload.get("outcome", outcome)
    worker = getattr(getattr(getattr(report, "node", None), "gateway", None), "id", "")
    return Observation(
        # xdist reports a test whose worker died with a phase of "???".
        when="crash" if report.when not in ("setup", "call", "teardown") else report.when,
        outcome=outcome,
        xfail=hasattr(report, "wasxfail"),
        subtest=subtest,
        samples=payload,
        rerun=rerun,
        worker=worker,
    )


def _common_options(config: pytest.Config) -> list[str]:
    """Options of pytest's own that decide which plugin, root directory and ini values there are."""
    options = []
    if os.environ.get("PYTEST_DISABLE_PLUGIN_AUTOLOAD"):
        options.append("-p dtype_sampler")
    if config.option.inifilename:
        options.append(f"-c {config.option.inifilename}")
    if config.option.pyargs:
        options.append("--pyargs")
    if config.option.rootdir:
        options.append(f"--rootdir={config.option.rootdir}")
    overrides = config.option.override_ini or ()
    return options + [f"-o {one}" for one in overrides if one.startswith("dtype_sampler_")]


def _filter_options(config: pytest.Config) -> list[str]:
    """Options that leave items out before the sample is taken."""
    options = []
    if config.option.keyword:
        options.append(f"-k {config.option.keyword}")
    if config.option.markexpr:
        options.append(f"-m {config.option.markexpr}")
    options += [f"--deselect={nodeid}" for nodeid in config.getoption("deselect", None) or ()]
    return options


def _sections_hidden(config: pytest.Config) -> bool:
    """Whether pytest does not show the sections of failing reports."""
    if config.option.tbstyle == "no":
        return True
    shown = config.option.showcapture
    return shown != "all" and shown not in terminal.SECTION
