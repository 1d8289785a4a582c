"""A fault of ours, in whichever hook, is told in one line and ends no session."""

from __future__ import annotations

import gc
import inspect
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from faults_shown import SUITE, fault_lines

from dtype_sampler.ledger.books import Books
from dtype_sampler.ledger.tally import Tally
from dtype_sampler.session import choosing, controller, executing, hooks, spans, trace
from dtype_sampler.session.current import running

# Run by every process of a session, from the moment at which it reads `-p injector`.
INJECTOR = """
import os, inspect
from dtype_sampler.session import choosing, controller, executing, hooks, trace

def code(function, place, raising):
    names = ", ".join(inspect.signature(function).parameters)
    steps = {"": [raising], "before": [raising, "yield"], "after": ["yield", raising]}[place]
    found = {}
    exec(f"def fault({names}):\\n" + "".join(f"    {one}\\n" for one in steps), found)
    return found["fault"].__code__

def inject(where):
    owner, name, place, raising = where.split(":", 3)
    modules = {one.__name__.rpartition(".")[2]: one
               for one in (choosing, controller, executing, hooks, trace)}
    for step in owner.split("."):
        module = modules[step] if step in modules else getattr(module, step)
    function = inspect.unwrap(getattr(module, name))
    function.__code__ = code(function, place, raising)

side = "WORKER" if "PYTEST_XDIST_WORKER" in os.environ else "CONTROLLER"
for where in filter(None, os.environ.get(f"FAULT_IN_{side}", "").split("|")):
    inject(where)
"""

RAISING = "raise ZeroDivisionError('injected')"


def hooks_of(owner: object, name: str) -> Iterator[tuple[str, str, str, Callable[..., object]]]:
    """Owner, name, place of a fault, and the hook; a wrapper has two places for one."""
    for hook, function in vars(owner).items():
        if hook.startswith("pytest_"):
            wrapper = inspect.isgeneratorfunction(function)
            for place in ("before", "after") if wrapper else ("",):
                yield name, hook, place, function


ALL = [
    *hooks_of(hooks, "hooks"),
    *hooks_of(choosing, "choosing"),
    *hooks_of(executing, "executing"),
    *hooks_of(choosing.Outermost, "choosing.Outermost"),
    *hooks_of(hooks.WorkerReports, "hooks.WorkerReports"),
    *hooks_of(controller.Controller, "controller.Controller"),
    *hooks_of(trace.LastWords, "trace.LastWords"),
    *hooks_of(trace.Phases, "trace.Phases"),
]
IN_CONTROLLER = [one for one in ALL if one[0] not in ("hooks.WorkerReports", "trace.Phases")]
# What the process of xdist that gives out tests runs.
OF_XDIST = (
    "pytest_configure_node",
    "pytest_testnodedown",
    "pytest_testnodeready",
    "pytest_handlecrashitem",
)
# What a worker runs of the hooks; `pytest_addoption` it runs as all processes do.
IN_WORKER = [
    one
    for one in ALL
    if one[0] != "controller.Controller"
    and one[1] not in ("pytest_addoption", "pytest_configure", *OF_XDIST)
]


def test_every_hook_is_guarded():
    assert len(ALL) >= 30
    # Those of spans are there only beside OpenTelemetry: tests/integration/test_spans.py.
    for owner, name, _, function in (*ALL, *hooks_of(spans.Spans, "spans.Spans")):
        guard = function.__code__.co_qualname.split(".")[-1]
        assert guard == "guard", f"{owner}.{name} may end a session: put @guarded on it"


@pytest.fixture
def injected(project, monkeypatch):
    """Run the suite with faults: a text for each, in the controller and in workers."""
    project.file("test_it", SUITE)
    project.file("injector", INJECTOR)

    def run(*args: str, controller: tuple[str, ...] = (), worker: tuple[str, ...] = ()):
        # The suite itself may run in a worker.
        monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
        monkeypatch.setenv("FAULT_IN_CONTROLLER", "|".join(controller))
        monkeypatch.setenv("FAULT_IN_WORKER", "|".join(worker))
        return project.run_process("-p", "injector", *args)

    return run


@pytest.mark.parametrize(
    ("owner", "name", "place", "function"),
    IN_CONTROLLER,
    ids=[f"{one[1]}-{one[2]}" for one in IN_CONTROLLER],
)
def test_in_one_process(project, monkeypatch, owner, name, place, function):
    if name in OF_XDIST or owner == "trace.LastWords":
        pytest.skip("a hook of xdist's: see below")
    project.file("test_it", SUITE)
    found: dict[str, object] = {"__name__": "injector"}
    exec(INJECTOR, found)
    own = inspect.unwrap(function)
    # Without -q there is a header, and with it there is a line at the start of the session.
    args = ["-q"] if name == "pytest_sessionstart" else []
    # Not a moment longer: the session around this one has the same hooks. Nor is its test to
    # be taken for the one that runs, where the session within is not even configured.
    with monkeypatch.context() as patch, running(None):
        patch.setattr(own, "__code__", found["code"](own, place, RAISING))
        result = project.run("-rA", *args)
    outcomes = result.parseoutcomes()
    assert result.ret == pytest.ExitCode.TESTS_FAILED, result.stdout.str()
    assert outcomes["failed"] + outcomes.get("errors", 0) + outcomes["passed"] >= 4
    result.stdout.fnmatch_lines_random(
        ["PASSED test_it.py::test_plain", "FAILED test_it.py::test_broken*"]
    )
    (line,) = fault_lines(result)
    assert line.startswith(f"dtype-sampler: fault in {name}")
    assert "ZeroDivisionError: injected (" in line
    assert "issue of pytest-dtype-sampler" in line
    result.stdout.no_fnmatch_line("*INTERNALERROR*")


def test_in_the_process_of_xdist_that_gives_out_tests(injected):
    pytest.importorskip("xdist")
    faults = [
        f"{owner}:{name}:{place or 'after' if place else ''}:{RAISING}"
        for owner, name, place, _ in IN_CONTROLLER
        if owner != "trace.LastWords"
        and name in ("pytest_configure_node", "pytest_testnodedown", "pytest_runtest_logreport")
    ]
    result = injected("-n2", controller=tuple(faults))
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert len(fault_lines(result)) == 3
    # The workers have no plan: what asks for a dtype has none.
    result.assert_outcomes(passed=1, failed=2, errors=1)


def test_in_workers(injected):
    pytest.importorskip("xdist")
    faults = {
        f"{owner}:{name}:{place}:{RAISING}"
        for owner, name, place, _ in IN_WORKER
        if place != "before"
    }
    result = injected("-n2", worker=tuple(sorted(faults)))
    assert result.ret == pytest.ExitCode.TESTS_FAILED, result.stdout.str()
    result.stdout.fnmatch_lines(["FAILED test_it.py::test_broken*"])
    told = {line.split()[3] for line in fault_lines(result)}
    assert len(told) == 5
    result.stdout.fnmatch_lines(["dtype-sampler: and * more faults of other kinds"])
    result.stdout.no_fnmatch_line("*INTERNALERROR*")


@pytest.mark.parametrize(
    ("owner", "name", "place"),
    [one[:3] for one in IN_WORKER],
    ids=[f"{o[1]}-{o[2]}" for o in IN_WORKER],
)
def test_in_a_worker(injected, owner, name, place):
    pytest.importorskip("xdist")
    result = injected("-n1", worker=(f"{owner}:{name}:{place}:{RAISING}",))
    assert result.ret == pytest.ExitCode.TESTS_FAILED, result.stdout.str()
    (line,) = fault_lines(result)
    assert line.startswith(f"dtype-sampler: fault in {name}")
    result.stdout.no_fnmatch_line("*INTERNALERROR*")


def test_a_worker_that_can_not_begin(injected):
    pytest.importorskip("xdist")
    result = injected("-n1", worker=(f"hooks:pytest_configure::{RAISING}",))
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    (line,) = fault_lines(result)
    assert line.startswith("dtype-sampler: fault in pytest_configure: ")


class TestTheExitCode:
    """It is that of the tests, unless a gate was asked for that can't be trusted any more."""

    def suite(self, project):
        project.file(
            "test_it",
            """
            import pytest
            @pytest.mark.random_dtypes("dtype", [*"ab"], k=2)
            def test_items(dtype): pass
            """,
        )

    @contextmanager
    def broken(self, monkeypatch, owner, name):
        def broken(*args, **kwargs):
            raise ZeroDivisionError("injected\ninto two lines")

        # Not a moment longer: the session around this one has the same books.
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, broken)
            yield
        if owner is Books:
            # What was not closed, as a file of a killed run is not, is no matter of other tests.
            with warnings.catch_warnings(action="ignore"):
                gc.collect()

    @pytest.mark.parametrize(
        ("owner", "name"),
        [(Tally, "add"), (Books, "begin"), (Books, "record"), (Books, "end"), (Books, "state")],
    )
    def test_in_the_books(self, project, monkeypatch, owner, name):
        self.suite(project)
        with self.broken(monkeypatch, owner, name):
            result = project.run()
            gated = project.run("--dtype-fail-under=50")
        assert result.ret == 0
        result.assert_outcomes(passed=2)
        (line,) = fault_lines(result)
        assert "ZeroDivisionError: injected into two lines (" in line
        assert gated.ret == pytest.ExitCode.TESTS_FAILED
        gated.assert_outcomes(passed=2)
        gated.stdout.fnmatch_lines(["ERROR: --dtype-fail-under=50: can't be told, as a fault *"])

    def test_reading_the_books(self, project, monkeypatch):
        self.suite(project)
        project.run()
        with self.broken(monkeypatch, Books, "read"):
            result = project.run()
        assert result.ret == 0
        result.assert_outcomes(passed=2)
        (line,) = fault_lines(result)
        assert line.startswith("dtype-sampler: fault in reading the ledger: ")

    def test_the_fault_of_a_worker(self, project, monkeypatch, injected):
        pytest.importorskip("xdist")
        self.suite(project)
        fault = f"executing:pytest_runtest_makereport:after:{RAISING}"
        assert injected("-n1", worker=(fault,)).ret == 0
        gated = injected("-n1", "--dtype-fail-under=0", worker=(fault,))
        assert gated.ret == pytest.ExitCode.TESTS_FAILED

    def test_without_a_terminal(self, project, monkeypatch):
        self.suite(project)
        with self.broken(monkeypatch, Tally, "add"):
            result = project.run("-p", "no:terminal", "--dtype-fail-under=0")
        assert result.ret == pytest.ExitCode.TESTS_FAILED
        result.stderr.fnmatch_lines(["dtype-sampler: fault in pytest_runtest_logreport*"])


class TestWhatGoesThrough:
    """Not everything that a hook raises is a fault."""

    @pytest.mark.parametrize(
        ("raising", "code"),
        [
            ("raise KeyboardInterrupt", pytest.ExitCode.INTERRUPTED),
            ("import pytest; pytest.exit('enough', returncode=7)", 7),
            ("import pytest; raise pytest.UsageError('wrong')", pytest.ExitCode.USAGE_ERROR),
        ],
    )
    def test_in_collection(self, injected, raising, code):
        for place in ("before", "after"):
            fault = f"choosing.Outermost:pytest_collection_modifyitems:{place}:{raising}"
            result = injected(controller=(fault,))
            assert result.ret == code, result.stdout.str()
            assert fault_lines(result) == []

    @pytest.mark.parametrize(
        ("raising", "outcome"),
        [
            ("import pytest; pytest.skip('no')", {"skipped": 4}),
            ("import pytest; pytest.fail('no')", {"errors": 4}),
        ],
    )
    def test_in_a_test(self, injected, raising, outcome):
        result = injected(controller=(f"executing:pytest_runtest_setup::{raising}",))
        outcomes = result.parseoutcomes()
        assert {name: outcomes[name] for name in outcome} == outcome
        assert fault_lines(result) == []

    def test_what_a_test_raises(self, project):
        """Also what Python changes on its way through a generator, and what others raise."""
        project.file(
            "test_it",
            """
            import pytest

            @pytest.fixture
            def stops(): raise StopIteration("fixture")

            def test_stop(): raise StopIteration("test")
            def test_stop_in_a_fixture(stops): pass
            def test_usage(): raise pytest.UsageError("of a test")
            def test_error(): raise RuntimeError("of a test")
            def test_wrong(random_dtypes): random_dtypes(k=0)
            """,
        )
        result = project.run()
        result.assert_outcomes(failed=4, errors=1)
        result.stdout.fnmatch_lines(["E * StopIteration: fixture"])
        result.stdout.fnmatch_lines(["E * StopIteration: test"])
        result.stdout.fnmatch_lines(["E * dtype_sampler.errors.DtypeSamplerError: k=0*"])
        assert fault_lines(result) == []
        # Nor does a frame of ours stand between a test and its reader.
        assert "faults.py" not in result.stdout.str()
