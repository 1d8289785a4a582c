"""The pytest hooks. Each is a doorway: it takes pytest's objects, calls one room, and returns.

Here are those of a session's start. `choosing` has those of the collection, `executing` those of
the tests.

Rooms are imported where a hook needs them, so that a run without dtypes does not pay for them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import ExitStack
from types import NoneType
from typing import Any

import pytest

from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.sampling.plan import WIRE, RunPlan
from dtype_sampler.session.choosing import Outermost
from dtype_sampler.session.current import running
from dtype_sampler.session.faults import FAULTS, LOST, guarded, watch
from dtype_sampler.session.items import PLAN, TRACE, running_of
from dtype_sampler.session.settings import OPTIONS
from dtype_sampler.session.subtests import name_dtypes


@guarded
def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    from dtype_sampler.session import hookspecs

    pluginmanager.add_hookspecs(hookspecs)


@guarded
def pytest_addoption(
    parser: pytest.Parser,
    pluginmanager: pytest.PytestPluginManager,  # noqa: ARG001  # tells whose fault one here is
) -> None:
    group = parser.getgroup("dtype-sampler", "dtype sampling")
    for option in OPTIONS:
        if option.flag:
            action: dict[str, Any] = {"default": None, "metavar": option.metavar}
            if option.default is False:
                action = {"action": "store_true", "default": None}
            elif option.default == ():
                action["action"] = "append"
            group.addoption(
                option.flag, dest=f"dtype_sampler_{option.name}", help=option.help, **action
            )
        if option.ini:
            # A default of None tells "not given" from every value that could be given.
            parser.addini(option.ini, option.help, type=_ini_type(option.ini_type), default=None)


def _ini_type(name: str) -> Any:
    # In pytest's own TOML tables a number may then be written as one.
    if name == "string" and pytest.version_tuple >= (9, 2):
        return str | int
    return name


@pytest.hookimpl(wrapper=True, tryfirst=True)
@guarded
def pytest_load_initial_conftests(
    early_config: pytest.Config, parser: pytest.Parser
) -> Generator[None, object, object]:
    from dtype_sampler.session.lane import note_options

    note_options(early_config, parser)
    if early_config.known_args_namespace.debug:
        from dtype_sampler.session.debug_log import hide_secrets_in_log

        hide_secrets_in_log(early_config, early_config.known_args_namespace.debug)
    return (yield)


@guarded
def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "random_dtypes(argname='dtype', dtypes=None, *, k=None, always=(), exclude=(),"
        " device=None, scope=None): one item per dtype, of which each run keeps a sample of k",
    )
    config.addinivalue_line(
        "markers", "all_dtypes: run this test with every dtype it declares, in every run"
    )
    # No test of a session around this one is meant from here on.
    session = ExitStack()
    session.enter_context(running(None))
    config.add_cleanup(session.close)
    config.pluginmanager.register(Outermost(config), Outermost.NAME)
    watch(config)
    if config.stash[FAULTS]:
        # Not even the options are there: without a plan the hooks below do nothing.
        return
    worker = getattr(config, "workerinput", None)
    if worker is not None:
        # None if the controller has no plan itself, or could not send it.
        wire = worker.get(WIRE)
        if wire is not None:
            config.stash[PLAN] = RunPlan.from_wire(wire)
            config.pluginmanager.register(WorkerReports(config), "dtype-sampler-worker")
            _leave_traces(config)
            _expect_failures(config)
        return
    from dtype_sampler.session.budgeting import checked
    from dtype_sampler.session.controller import Controller
    from dtype_sampler.session.ledgers import open_books
    from dtype_sampler.session.startup import read_plan, read_settings

    idle = any(config.getoption(name, False) for name in _IDLE)
    try:
        settings = checked(read_settings(config))
        books = open_books(config, settings, idle=idle)
        plan = config.stash[PLAN] = read_plan(config, settings, books, idle=idle)
    except DtypeSamplerError as error:
        raise pytest.UsageError(str(error)) from None
    controller = Controller(config, settings, plan, books, idle=idle)
    config.pluginmanager.register(controller, "dtype-sampler-controller")
    _leave_traces(config)
    _expect_failures(config)


def _expect_failures(config: pytest.Config) -> None:
    if config.stash[PLAN].known:
        from dtype_sampler.session.expected import KnownFailures

        config.pluginmanager.register(KnownFailures(config, running_of), KnownFailures.NAME)


def _leave_traces(config: pytest.Config) -> None:
    """Where a process may die and another one tells of it, have the former leave what is known."""
    if not any(map(config.pluginmanager.has_plugin, ("dsession", "xdist", "pytest_forked"))):
        return
    from dtype_sampler.session.trace import LastWords, Phases

    last_words = LastWords(config)
    config.pluginmanager.register(last_words, "dtype-sampler-last-words")
    if last_words.own is not None:
        config.stash[TRACE] = last_words.own
        config.pluginmanager.register(Phases(config), "dtype-sampler-phases")


# What pytest may be asked for instead of running tests: that is no run, and touches no ledger.
_IDLE = (
    "collectonly",
    "setupplan",
    "setuponly",
    "help",
    "version",
    "markers",
    "showfixtures",
    "show_fixtures_per_test",
    "cacheshow",
)


class WorkerReports:
    """Makes reports fit for the way from an xdist worker to its controller."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config

    @pytest.hookimpl(tryfirst=True)
    @guarded
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Name the parameters of a subtest, such as a dtype, instead of sending them.

        execnet sends builtins only. pytest 9 does this itself; before, `subTest(dtype=dtype)` is an
        internal error under xdist.
        """
        try:
            name_dtypes(report)
        except Exception:
            setattr(report, LOST, True)
            raise
        context: Any = getattr(report, "context", None)
        values = getattr(context, "kwargs", None)
        # An object of another plugin's may have attributes of these names for other things.
        if not isinstance(values, dict):
            return
        if any(type(value) not in (str, int, float, bool, NoneType) for value in values.values()):
            context.kwargs = {name: repr(value) for name, value in values.items()}


@pytest.hookimpl(optionalhook=True)
@guarded
def pytest_configure_node(node: Any) -> None:
    plan = node.config.stash.get(PLAN, None)
    node.workerinput[WIRE] = plan.to_wire() if plan is not None else None


@pytest.fixture(scope="session", name="random_dtypes")
def random_dtypes_fixture() -> Callable[..., Any]:
    """`random_dtypes(k=3)`: the dtypes that this test runs with this time.

    The scope is the session's, so that it can be used under Hypothesis' @given; what it gives is
    the running test's.
    """
    from dtype_sampler.session.api import random_dtypes

    return random_dtypes


@pytest.fixture(scope="session", name="dtype_seed")
def dtype_seed_fixture(pytestconfig: pytest.Config) -> int:
    """The seed of this run's samples."""
    plan = pytestconfig.stash.get(PLAN, None)
    if plan is None:
        raise DtypeSamplerError("there is no seed, as the plugin has a fault: the summary tells it")
    return plan.seed
