"""The pytest hooks. Each is a doorway: it takes pytest's objects, calls one room, and returns.

Rooms are imported where a hook needs them, so that a run without dtypes does not pay for them.

Long, as all hooks of a process are here, with the keys of the stash by which they tell each other.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from time import perf_counter
from types import NoneType
from typing import TYPE_CHECKING, Any

import pytest

from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.sampling.plan import WIRE, RunPlan
from dtype_sampler.session.current import innermost, running
from dtype_sampler.session.expansion import in_use
from dtype_sampler.session.faults import FAULTS, LOST, guarded, watch
from dtype_sampler.session.nodeids import stable_nodeid
from dtype_sampler.session.repetition import repetitions, without_repetition
from dtype_sampler.session.settings import OPTIONS
from dtype_sampler.session.subtests import name_dtypes

if TYPE_CHECKING:
    from dtype_sampler.session.deselection import Deselections
    from dtype_sampler.session.parametrization import Parametrizations
    from dtype_sampler.session.running import RunningTest
    from dtype_sampler.session.selection import Group
    from dtype_sampler.session.trace import Trace

PLAN = pytest.StashKey[RunPlan]()
SEEN: pytest.StashKey[Parametrizations] = pytest.StashKey()
RUNNING: pytest.StashKey[RunningTest] = pytest.StashKey()
MEMBERS: pytest.StashKey[dict[int, Group]] = pytest.StashKey()
REPETITIONS = pytest.StashKey[dict[int, int]]()
# Whether the generators need no second seed, after the hooks of other plugins.
RESEEDED = pytest.StashKey[bool]()
TRACE: pytest.StashKey[Trace] = pytest.StashKey()
# How many items this process has begun to run, one that is run again counted again.
EXECUTIONS = pytest.StashKey[int]()
# What tests are measured by, in seconds; `time.perf_counter` where this is not set.
CLOCK = pytest.StashKey[Callable[[], float]]()
ASKING = pytest.StashKey[dict[tuple[int, str], bool]]()
OTHERS = pytest.StashKey[bool]()


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
    from dtype_sampler.session.controller import Controller, open_books
    from dtype_sampler.session.startup import read_plan, read_settings

    idle = any(config.getoption(name, False) for name in _IDLE)
    try:
        settings = checked(read_settings(config))
        books = open_books(config, settings)
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

        config.pluginmanager.register(KnownFailures(config, _running), KnownFailures.NAME)


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


@pytest.hookimpl(tryfirst=True)
@guarded
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    config = metafunc.config
    plan = config.stash.get(PLAN, None)
    if plan is None:
        return
    if plan.argnames or any(metafunc.definition.iter_markers("random_dtypes")):
        from dtype_sampler.session import parametrization

        seen = config.stash.setdefault(SEEN, parametrization.Parametrizations())
        parametrization.generate(metafunc, plan, seen)


@pytest.hookimpl(wrapper=True, trylast=True)
@guarded
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    # Innermost, as `--lf` leaves items out here, and node ids on the command line do afterwards.
    report = yield
    stash = collector.config.stash
    plan = stash.get(PLAN, None)
    if plan is not None and (SEEN in stash or (plan.argnames and in_use())):
        from dtype_sampler.session.parametrization import Parametrizations

        stash.setdefault(SEEN, Parametrizations()).note(collector, report.result, plan)
    return report


@guarded
def pytest_collection_finish(session: pytest.Session) -> None:
    _follow_spans(session.config)


def _follow_spans(config: pytest.Config) -> None:
    """Where somebody traces, which takes OpenTelemetry, tell the spans of dtypes."""
    if "opentelemetry.trace" in sys.modules and PLAN in config.stash:
        from dtype_sampler.session.spans import Spans

        if not config.pluginmanager.has_plugin(Spans.NAME):
            config.pluginmanager.register(Spans(config), Spans.NAME)


class Outermost:
    """The plugin's part in the choice among items: it begins before all others', and ends last."""

    NAME = "dtype-sampler-outermost"

    def __init__(self, config: pytest.Config) -> None:
        # The fault that a hook of this may have is told to this session.
        self.config = config
        self._deselections: Deselections | None = None

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    @guarded
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> Generator[None, object, object]:
        seen, plan = config.stash.get(SEEN, None), config.stash.get(PLAN, None)
        if plan is None or (seen is None and not (plan.budget or plan.run)):
            return (yield)
        from dtype_sampler.session.deselection import Deselections
        from dtype_sampler.session.marks import Marks
        from dtype_sampler.session.parametrization import Parametrizations, group_items
        from dtype_sampler.session.selection import everything, select

        seen = seen or Parametrizations()
        if plan.argnames:
            from dtype_sampler.session.controller import ARGUMENTS, ARGUMENTS_WIRE

            getattr(config, "workeroutput", {})[ARGUMENTS_WIRE] = seen.arguments
            config.stash[ARGUMENTS] = seen.arguments
        try:
            groups = group_items(items, plan, seen)
        except DtypeSamplerError as error:
            raise pytest.UsageError(str(error)) from None
        if any(group.one_each for group in groups.values()):
            named = _named_one_by_one(config, items, groups)
            plan = config.stash[PLAN] = replace(plan, kept=(*plan.kept, *named))
        if plan.only:
            from dtype_sampler.session.controller import DECLARED

            labels = list({label: None for group in groups.values() for label in group.candidates})
            getattr(config, "workeroutput", {})[WIRE] = labels
            config.stash[DECLARED] = labels
        deselections = self._deselections = Deselections(items)
        try:
            result = yield
        finally:
            self._deselections = None
        # -k, -m and --deselect have acted: the sample is taken from what they left.
        left = deselections.left(config, items)
        listed = config.getoption("collectonly", False)
        choose = everything if listed else select
        try:
            if not listed and (plan.budget or plan.run):
                plan = _steer(config, plan, items, groups)
            selection = choose(
                plan, items, groups, _name_among(plan.kept), Marks().why_skipped, left=left
            )
        except DtypeSamplerError as error:
            raise pytest.UsageError(str(error)) from None
        for item, reason in selection.skipped:
            item.add_marker(pytest.mark.skip(reason=reason))
        # By identity, which lasts as long as the items do: those that stay are the session's.
        members: dict[int, Group] = {}
        for item in selection.staying:
            if (group := groups.get(id(item))) is not None:
                members[id(item)] = group
                if group.one_each:
                    group.together.append(_replayable(item))
        config.stash[MEMBERS] = members
        if selection.out:
            items[:] = selection.staying
            config.hook.pytest_deselected(items=selection.out)
        return result

    @guarded
    def pytest_deselected(self, items: Sequence[object]) -> None:
        if self._deselections is not None:
            self._deselections.note(items)


@guarded
def pytest_plugin_registered(plugin: object, manager: pytest.PytestPluginManager) -> None:
    outermost = manager.get_plugin(Outermost.NAME)
    if outermost in (None, plugin) or not hasattr(plugin, "pytest_collection_modifyitems"):
        return
    # Of several that want to be first the last one registered is, which may be any conftest's.
    manager.unregister(outermost)
    manager.register(outermost, Outermost.NAME)


@pytest.hookimpl(wrapper=True, tryfirst=True)
@guarded
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    plan = _plan_of(item)
    if plan is None:
        return (yield)
    from dtype_sampler.sampling.stopwatch import Stopwatch
    from dtype_sampler.session.running import RunningTest

    # A fixture may have imported it.
    _follow_spans(item.config)
    stash = item.config.stash
    stash[EXECUTIONS] = stash.get(EXECUTIONS, 0) + 1
    nodeid = _replayable(item)
    full = item.get_closest_marker("all_dtypes") is not None
    trace = stash.get(TRACE, None)
    test = item.stash[RUNNING] = RunningTest(
        plan,
        without_repetition(item, nodeid),
        full=full,
        skip=pytest.skip,
        repetition=_repetition(item),
        execution=stash[EXECUTIONS],
        note=None if trace is None else partial(trace.note, item.nodeid),
        watch=Stopwatch(stash.get(CLOCK, perf_counter)),
    )
    with running(test):
        result = yield
    if trace is not None:
        trace.clear()
    return result


def _named_one_by_one(
    config: pytest.Config, items: Sequence[pytest.Item], groups: Mapping[int, Group]
) -> list[str]:
    """Node ids on the command line that mean one item for one dtype, which brackets don't tell."""
    from dtype_sampler.session.nodeids import nodeid_of_argument

    there = {
        _replayable(item)
        for item in items
        if (group := groups.get(id(item))) is not None and group.one_each
    }
    named = (nodeid_of_argument(config, arg) for arg in map(str, config.args) if "::" in arg)
    return [nodeid for nodeid in named if nodeid in there]


def _steer(
    config: pytest.Config, plan: RunPlan, items: list[pytest.Item], groups: dict[int, Group]
) -> RunPlan:
    """The plan for these items; those of them that it has no use for are left out."""
    from dtype_sampler.session.budgeting import STEERED, STEERED_WIRE, choice
    from dtype_sampler.session.marks import Marks

    made = choice(
        plan,
        items,
        groups,
        _name_among(plan.kept),
        key_of=lambda item: without_repetition(item, _replayable(item)),
        is_full=lambda item: item.get_closest_marker("all_dtypes") is not None,
        why_skipped=Marks().why_skipped,
    )
    if made.steered is not None:
        config.stash[STEERED] = made.steered
        getattr(config, "workeroutput", {})[STEERED_WIRE] = made.steered.told()
    if made.out:
        out = frozenset(map(id, made.out))
        items[:] = [item for item in items if id(item) not in out]
        config.hook.pytest_deselected(items=made.out)
    config.stash[PLAN] = made.plan
    return made.plan


def _repetition(item: pytest.Item) -> int:
    config = item.config
    if REPETITIONS not in config.stash:
        config.stash[REPETITIONS] = repetitions(item.session.items)
    return config.stash[REPETITIONS].get(id(item), 1)


def _plan_of(item: object) -> RunPlan | None:
    """The plan of the session that an item is of; None for an object that only looks like one."""
    return item.config.stash.get(PLAN, None) if isinstance(item, pytest.Item) else None


def _running(item: object) -> RunningTest | None:
    """The running test of an item; None if another plugin runs it in a way of its own."""
    return item.stash.get(RUNNING, None) if isinstance(item, pytest.Item) else None


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
@guarded
def pytest_runtest_setup(item: pytest.Item) -> None:
    test = _running(item)
    if test is None:
        return
    _begin(item, test)
    if test.plan.reseed and (test.is_item or _asks(item)):
        test.prime()
        item.stash[RESEEDED] = not _others_may_seed(item.config)


def _asks(item: pytest.Item) -> bool:
    from dtype_sampler.session.asking import asks

    # All items of one function ask for the same.
    function = getattr(item, "originalname", None) or item.name
    known = item.config.stash.setdefault(ASKING, {})
    where = (id(item.parent), function)
    if where not in known:
        known[where] = asks(item)
    return known[where]


def _others_may_seed(config: pytest.Config) -> bool:
    """Whether there are plugins that may seed before a test, as pytest-randomly does.

    What a conftest does is the suite's own, and stays.
    """
    if OTHERS not in config.stash:
        hooks = (config.hook.pytest_runtest_setup, config.hook.pytest_runtest_call)
        plugins = [one.plugin for hook in hooks for one in hook.get_hookimpls()]
        files = [str(getattr(one, "__file__", "")) for one in plugins]
        own = any(file.endswith("conftest.py") for file in files)
        names = [getattr(one, "__name__", None) or type(one).__module__ for one in plugins]
        foreign = any(name.partition(".")[0] not in ("_pytest", "dtype_sampler") for name in names)
        randomly = config.pluginmanager.has_plugin("randomly")
        config.stash[OTHERS] = randomly or (foreign and not own)
    return config.stash[OTHERS]


def _begin(item: pytest.Item, test: RunningTest) -> None:
    test.begin_attempt()
    group = item.config.stash.get(MEMBERS, {}).get(id(item))
    if group is not None:
        assert group.record is not None
        label = group.labels[id(item)]
        whole = group.pool is not None and label in group.record.declared
        all_of_it = group.together if group.one_each else (group.function,)
        test.enter_item(group.record, label, all_of_it, whole=whole)
    elif (
        item.get_closest_marker("random_dtypes") is not None
        # A marker for all of a module says nothing to its doctests.
        and isinstance(item, pytest.Function)
        # It has made items, but a parameter set is empty, and pytest will skip the one for it.
        and not hasattr(item, "callspec")
    ):
        pytest.fail(
            "@pytest.mark.random_dtypes makes no items here, as pytest parametrizes functions but"
            " not unittest's methods: call dtype_sampler.random_dtypes() in the test instead",
            pytrace=False,
        )


@pytest.hookimpl(wrapper=True, tryfirst=True)
@guarded
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
    _reseed_late(request.node)
    return (yield)


def _key_of_fixture(request: pytest.FixtureRequest) -> str:
    nodeid = stable_nodeid(request.node)
    # The names that pytest makes up for setUpClass and its like differ from version to version.
    if str(request.fixturename).startswith(("_unittest_", "_xunit_")):
        return nodeid
    return f"{nodeid}::{request.fixturename}" if nodeid else str(request.fixturename)


def _reseed_late(item: pytest.Item) -> None:
    """As late as can be: other plugins seed the generators in the setup hook too."""
    if item.stash.get(RESEEDED, True) is False:
        item.stash[RESEEDED] = True
        item.stash[RUNNING].prime()


@pytest.hookimpl(wrapper=True, tryfirst=True)
@guarded
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    test = _running(item)
    if test is None:
        return (yield)
    try:
        with test.examples.watching(getattr(item, "obj", None)), _seeds_kept(item):
            return (yield)
    finally:
        test.watch.call_over()


@contextmanager
def _seeds_kept(item: pytest.Item) -> Iterator[None]:
    """The test finds the generators as its setup left them, whoever seeds them in between."""
    if not (item.stash[RUNNING].seeding.primed and _others_may_seed(item.config)):
        yield
        return
    from dtype_sampler.session.seeding import save

    _reseed_late(item)
    restore = save()
    # After the hooks of other plugins, and before unittest's setUp.
    run = item.runtest

    def runtest() -> None:
        restore()
        run()

    item.runtest = runtest  # type: ignore[method-assign]  # on this object only, for this call
    try:
        yield
    finally:
        del item.runtest


@pytest.hookimpl(wrapper=True, tryfirst=True)
@guarded
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    test = _running(item)
    if test is None:
        return report
    error = call.excinfo.value if isinstance(call.excinfo, pytest.ExceptionInfo) else None
    error = error if call.when == "call" else None
    try:
        payload = test.to_wire(error=error)
        if payload is not None:
            # A worker's pytest makes a test with failed subtests a failure itself, later than this.
            setattr(report, WIRE, payload | _said_by(report, call, test))
    except Exception:
        # What this report is about may have failed: without it, the others say nothing true.
        setattr(report, LOST, True)
        raise
    return report


def _said_by(
    report: pytest.TestReport, call: pytest.CallInfo[None], test: RunningTest
) -> dict[str, Any]:
    """What the books are told of a report: whatever pytest is told of what is known to fail."""
    if report.outcome != "failed" and not test.plan.known:
        return {"outcome": report.outcome}
    from dtype_sampler.session.expected import KNOWN, expect, failure_in

    if test.plan.known:
        expect(test, call, report)
    outcome = "failed" if hasattr(report, KNOWN) else report.outcome
    failure = failure_in(report, call)
    return {"outcome": outcome} | ({"failure": tuple(failure)} if failure is not None else {})


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
