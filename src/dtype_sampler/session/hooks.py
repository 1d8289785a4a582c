"""The pytest hooks. Each is a doorway: it takes pytest's objects, calls one room, and returns.

Rooms are imported where a hook needs them, so that a run without dtypes does not pay for them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Generator
from contextlib import ExitStack
from functools import partial
from types import NoneType
from typing import TYPE_CHECKING, Any

import pytest

from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.sampling.plan import CACHE_SEED, WIRE, RunPlan
from dtype_sampler.session.current import innermost, running
from dtype_sampler.session.nodeids import nodeid_of_argument, nodeid_of_module, stable_nodeid
from dtype_sampler.session.planning import make_plan
from dtype_sampler.session.settings import CLI, OPTIONS, Settings, located, resolve
from dtype_sampler.session.subtests import name_dtypes

if TYPE_CHECKING:
    from dtype_sampler.ledger.books import Books
    from dtype_sampler.session.parametrization import Parametrizations
    from dtype_sampler.session.running import RunningTest
    from dtype_sampler.session.selection import Group
    from dtype_sampler.session.trace import Trace

PLAN = pytest.StashKey[RunPlan]()
SEEN: pytest.StashKey[Parametrizations] = pytest.StashKey()
RUNNING: pytest.StashKey[RunningTest] = pytest.StashKey()
MEMBERS: pytest.StashKey[dict[int, Group]] = pytest.StashKey()
RESEEDED = pytest.StashKey[bool]()
TRACE: pytest.StashKey[Trace] = pytest.StashKey()
# How many items this process has begun to run, one that is run again counted again.
EXECUTIONS = pytest.StashKey[int]()


def pytest_addoption(parser: pytest.Parser) -> None:
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


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "random_dtypes(argname='dtype', dtypes=None, *, k=None, always=(), exclude=(),"
        " device=None): one item per dtype, of which each run keeps a sample of k",
    )
    config.addinivalue_line(
        "markers", "all_dtypes: run this test with every dtype it declares, in every run"
    )
    # No test of a session around this one is meant from here on.
    session = ExitStack()
    session.enter_context(running(None))
    config.add_cleanup(session.close)
    wire = getattr(config, "workerinput", {}).get(WIRE)
    if wire is not None:
        config.stash[PLAN] = RunPlan.from_wire(wire)
        config.pluginmanager.register(WorkerReports(), "dtype-sampler-worker")
        _leave_traces(config)
        return
    from dtype_sampler.session.controller import Controller, open_books

    try:
        settings = _settings(config)
        books = open_books(config, settings)
        plan = config.stash[PLAN] = _plan(config, settings, books)
    except DtypeSamplerError as error:
        raise pytest.UsageError(str(error)) from None
    controller = Controller(config, settings, plan, books)
    config.pluginmanager.register(controller, "dtype-sampler-controller")
    _leave_traces(config)


def _leave_traces(config: pytest.Config) -> None:
    """Where a process may die and another one tells of it, have the former leave what is known."""
    if not any(map(config.pluginmanager.has_plugin, ("dsession", "xdist", "pytest_forked"))):
        return
    from dtype_sampler.session.trace import LastWords, Phases

    last_words = LastWords(config)
    config.pluginmanager.register(last_words, "dtype-sampler-last-words")
    if last_words.own is not None:
        config.stash[TRACE] = last_words.own
        config.pluginmanager.register(Phases(), "dtype-sampler-phases")


class WorkerReports:
    """Makes reports fit for the way from an xdist worker to its controller."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Name the parameters of a subtest, such as a dtype, instead of sending them.

        execnet sends builtins only. pytest 9 does this itself; before, `subTest(dtype=dtype)` is an
        internal error under xdist.
        """
        name_dtypes(report)
        context: Any = getattr(report, "context", None)
        values = getattr(context, "kwargs", {})
        if any(type(value) not in (str, int, float, bool, NoneType) for value in values.values()):
            context.kwargs = {name: repr(value) for name, value in values.items()}


def _settings(config: pytest.Config) -> Settings:
    cli = {o.name: config.getoption(o.flag, None) for o in OPTIONS if o.flag}
    return resolve(cli, os.environ, {o.ini: _getini(config, o.ini) for o in OPTIONS if o.ini})


def _getini(config: pytest.Config, name: str) -> Any:
    try:
        value = config.getini(name)
    except (TypeError, ValueError, pytest.UsageError) as error:
        # pytest does not always say which key it is about.
        raise DtypeSamplerError(f"{name} (in the pytest configuration): {error}") from None
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _plan(config: pytest.Config, settings: Settings, books: Books | None) -> RunPlan:
    if settings.device not in (None, "cpu") and settings.came_from("device") == CLI:
        from dtype_sampler.roundtrip.support import check_device

        try:
            check_device(settings.device)
        except DtypeSamplerError as error:
            raise DtypeSamplerError(f"--dtype-device={settings.device}: {error}") from None
    history = books.read(verdicts=settings.strategy == "oldest") if books is not None else None
    if settings.strategy == "oldest" and history is None:
        raise DtypeSamplerError("the strategy oldest needs the ledger: leave out --no-dtype-ledger")
    try:
        return make_plan(
            settings, last_seed=_last_seed(config), kept=_kept(config), history=history
        )
    except LookupError as error:
        word = str(error.args[0])
        problem = (
            "pytest's cache holds no seed of an earlier run here; give the seed itself,"
            " --dtype-seed=INT, as the header of that run shows it"
            if word == "last"
            else "the one after the ledger's last needs the ledger: leave out --no-dtype-ledger"
        )
        (option,) = (option for option in OPTIONS if option.name == "seed")
        message = located(option, settings.came_from("seed"), word, problem)
        raise DtypeSamplerError(message) from None


def _last_seed(config: pytest.Config) -> int | None:
    cache = getattr(config, "cache", None)
    seed = cache.get(CACHE_SEED, None) if cache is not None else None
    return seed if isinstance(seed, int) else None


def _kept(config: pytest.Config) -> tuple[str, ...]:
    """The node ids that stay whatever the sample is, made here so that all workers agree."""
    named = [arg for arg in config.args if "::" in arg and arg.endswith("]")]
    kept = {nodeid_of_argument(config, arg) for arg in named}
    if config.option.pyargs:
        # As the checks that come with the plugin call themselves, wherever they are installed.
        kept |= {nodeid_of_module(arg) for arg in named}
    cache = getattr(config, "cache", None)
    if cache is not None and (
        config.getoption("lf", False) or config.getoption("failedfirst", False)
    ):
        kept.update(map(str, cache.get("cache/lastfailed", {})))
    # pytest's own plugin makes the latter mean the former, but later than this.
    if cache is not None and any(
        config.getoption(name, False) for name in ("stepwise", "stepwise_skip", "stepwise_reset")
    ):
        last = cache.get("cache/stepwise", None)
        # pytest 8.4 began to keep more than the node id.
        kept.add(str(last.get("last_failed") if isinstance(last, dict) else last))
    return tuple(sorted(kept))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    node.workerinput[WIRE] = node.config.stash[PLAN].to_wire()


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    config = metafunc.config
    plan = config.stash[PLAN]
    if plan.argnames or any(metafunc.definition.iter_markers("random_dtypes")):
        from dtype_sampler.session import parametrization

        seen = config.stash.setdefault(SEEN, parametrization.Parametrizations())
        parametrization.generate(metafunc, plan, seen)


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    # Innermost, as `--lf` leaves items out here, and node ids on the command line do afterwards.
    report = yield
    if SEEN in collector.config.stash:
        collector.config.stash[SEEN].note(collector, report.result)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> Generator[None, object, object]:
    seen = config.stash.get(SEEN, None)
    if seen is None:
        return (yield)
    from dtype_sampler.session.parametrization import group_items
    from dtype_sampler.session.selection import select

    plan = config.stash[PLAN]
    try:
        groups = group_items(items, plan, seen)
    except DtypeSamplerError as error:
        raise pytest.UsageError(str(error)) from None
    if plan.only:
        from dtype_sampler.session.controller import DECLARED

        labels = list({label: None for group in groups.values() for label in group.candidates})
        getattr(config, "workeroutput", {})[WIRE] = labels
        config.stash[DECLARED] = labels
    result = yield
    # -k, -m and --deselect have acted: the sample is taken from what they left.
    try:
        selection = select(plan, items, groups, _name_among(plan.kept))
    except DtypeSamplerError as error:
        raise pytest.UsageError(str(error)) from None
    for item, reason in selection.skipped:
        item.add_marker(pytest.mark.skip(reason=reason))
    # By identity, which lasts as long as the items do: those that stay are the session's.
    numbers = map(id, selection.staying)
    config.stash[MEMBERS] = {number: groups[number] for number in numbers if number in groups}
    if selection.out:
        items[:] = selection.staying
        config.hook.pytest_deselected(items=selection.out)
    return result


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    from dtype_sampler.session.running import RunningTest

    stash = item.config.stash
    stash[EXECUTIONS] = stash.get(EXECUTIONS, 0) + 1
    nodeid = _replayable(item)
    full = item.get_closest_marker("all_dtypes") is not None
    trace = stash.get(TRACE, None)
    test = item.stash[RUNNING] = RunningTest(
        stash[PLAN],
        nodeid,
        full=full,
        skip=pytest.skip,
        execution=stash[EXECUTIONS],
        note=None if trace is None else partial(trace.note, item.nodeid),
    )
    with running(test):
        result = yield
    if trace is not None:
        trace.clear()
    return result


def _name_among(kept: Collection[str]) -> Callable[[pytest.Item], str]:
    """An item's node id as *kept* has it: pytest's cache knows pytest's own."""
    names = frozenset(kept)
    return lambda item: item.nodeid if item.nodeid in names else _replayable(item)


def _replayable(item: pytest.Item) -> str:
    """The stable node id without the `@group` that xdist appends to it under `--dist loadgroup`."""
    nodeid = stable_nodeid(item)
    if "@" not in nodeid:
        return nodeid
    marks = item.iter_markers("xdist_group")
    names = [str(m.args[0] if m.args else m.kwargs.get("name", "default")) for m in marks]
    # Today's xdist joins the names of all markers, older ones take the closest.
    for group in ("_".join(sorted(set(names))), *names[:1]):
        if names and nodeid.endswith(f"@{group}"):
            return nodeid[: -len(group) - 1]
    return nodeid


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    test = item.stash[RUNNING]
    test.begin_attempt()
    group = item.config.stash.get(MEMBERS, {}).get(id(item))
    if group is not None:
        assert group.record is not None
        item.stash[RESEEDED] = False
        test.enter_item(group.record, group.labels[id(item)], group.function)
    elif (
        item.get_closest_marker("random_dtypes") is not None
        # A marker for all of a module says nothing to its doctests.
        and isinstance(item, pytest.Function)
    ):
        pytest.fail(
            "@pytest.mark.random_dtypes makes no items here, as pytest parametrizes functions but"
            " not unittest's methods: call dtype_sampler.random_dtypes() in the test instead",
            pytrace=False,
        )


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_fixture_setup(request: pytest.FixtureRequest) -> Generator[None, object, object]:
    if innermost() is None:
        return (yield)
    from dtype_sampler.session.running import running_test

    test = running_test()
    assert test is not None
    if request.scope != "function":
        # Not in the name of the test that happens to come first: many share what it sets up.
        with test.setting_up(_key_of_fixture(request), getattr(request, "param", None)):
            return (yield)
    # As late as can be: other plugins seed the generators in the setup hook too.
    if request.node.stash.get(RESEEDED, None) is False:
        _reseed(request.node)
    return (yield)


def _key_of_fixture(request: pytest.FixtureRequest) -> str:
    nodeid = stable_nodeid(request.node)
    # The names that pytest makes up for setUpClass and its like differ from version to version.
    if str(request.fixturename).startswith(("_unittest_", "_xunit_")):
        return nodeid
    return f"{nodeid}::{request.fixturename}" if nodeid else str(request.fixturename)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    # Again, so that the test finds what it would find had its fixtures drawn nothing.
    if RESEEDED in pyfuncitem.stash:
        _reseed(pyfuncitem)
    return (yield)


def _reseed(item: pytest.Item) -> None:
    item.stash[RESEEDED] = True
    group = item.config.stash[MEMBERS][id(item)]
    item.stash[RUNNING].reseed(group.key, group.labels[id(item)])


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    test = item.stash.get(RUNNING, None)
    payload = test.to_wire() if test is not None else None
    if payload is not None:
        # A worker's pytest makes a test with failed subtests a failure itself, later than this.
        setattr(report, WIRE, payload | {"outcome": report.outcome})
    return report


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
    return pytestconfig.stash[PLAN].seed
