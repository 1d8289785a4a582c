"""The hooks from the end of the collection on, in the process that runs the tests.

What they need is imported at once: every test comes by here, and would pay for it each time.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from time import perf_counter
from typing import Any
from unittest import TestCase

import pytest

from dtype_sampler.sampling.plan import WIRE
from dtype_sampler.sampling.stopwatch import Stopwatch
from dtype_sampler.session.asking import asks
from dtype_sampler.session.current import running
from dtype_sampler.session.faults import LOST, guarded
from dtype_sampler.session.items import (
    ASKING,
    CLOCK,
    EXECUTIONS,
    MEMBERS,
    OTHERS,
    PLAN,
    REPETITIONS,
    RESEEDED,
    RUNNING,
    SEEN,
    TRACE,
    has_mark,
    plan_of,
    replayable,
    running_of,
)
from dtype_sampler.session.nodeids import stable_nodeid
from dtype_sampler.session.repetition import repetitions, without_repetition
from dtype_sampler.session.running import RunningTest, running_test
from dtype_sampler.session.seeding import save


@guarded
def pytest_collection_finish(session: pytest.Session) -> None:
    _follow_spans(session.config)


def _follow_spans(config: pytest.Config) -> None:
    """Where somebody traces, which takes OpenTelemetry, tell the spans of dtypes."""
    if "opentelemetry.trace" in sys.modules and PLAN in config.stash:
        from dtype_sampler.session.spans import Spans

        if not config.pluginmanager.has_plugin(Spans.NAME):
            config.pluginmanager.register(Spans(config), Spans.NAME)


@pytest.hookimpl(wrapper=True, tryfirst=True)
@guarded
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    plan = plan_of(item)
    if plan is None:
        return (yield)
    # A fixture may have imported it.
    _follow_spans(item.config)
    stash = item.config.stash
    # Set where they are not: to find nothing there takes an exception each time.
    trace = stash.setdefault(TRACE, None)
    clock = stash.setdefault(CLOCK, perf_counter)
    stash[EXECUTIONS] = stash.get(EXECUTIONS, 0) + 1
    nodeid = replayable(item)
    full = has_mark(item, "all_dtypes")
    test = item.stash[RUNNING] = RunningTest(
        plan,
        without_repetition(item, nodeid),
        full=full,
        skip=pytest.skip,
        repetition=_repetition(item),
        execution=stash[EXECUTIONS],
        note=None if trace is None else partial(trace.note, item.nodeid),
        watch=Stopwatch(clock),
    )
    with running(test):
        result = yield
    if trace is not None:
        trace.clear()
    return result


def _repetition(item: pytest.Item) -> int:
    config = item.config
    if REPETITIONS not in config.stash:
        config.stash[REPETITIONS] = repetitions(item.session.items)
    return config.stash[REPETITIONS].get(id(item), 1)


@pytest.hookimpl(tryfirst=True)
@guarded
def pytest_runtest_setup(item: pytest.Item) -> None:
    test = running_of(item)
    if test is None:
        return
    _begin(item, test)
    if test.plan.reseed and (test.is_item or _asks(item)):
        test.prime()
        item.stash[RESEEDED] = not _others_may_seed(item.config)


def _asks(item: pytest.Item) -> bool:
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
    members = item.config.stash.get(MEMBERS, None)
    member = None if members is None else members.get(id(item))
    if member is not None:
        group, label = member
        assert group.record is not None
        whole = group.pool is not None and label in group.record.declared
        all_of_it = group.together if group.one_each else (group.function,)
        test.enter_item(group.record, label, all_of_it, whole=whole)
    elif _marked_in_vain(item):
        pytest.fail(
            "@pytest.mark.random_dtypes makes no items here, as pytest parametrizes functions but"
            " not unittest's methods: call dtype_sampler.random_dtypes() in the test instead",
            pytrace=False,
        )


def _marked_in_vain(item: pytest.Item) -> bool:
    """Whether unittest's method or its class has the marker, which can make no items of it; or its
    module, of which no test takes the argument, as far as the whole of it was collected.
    """
    if not (isinstance(item, pytest.Function) and issubclass(item.cls or object, TestCase)):
        return False
    config = item.config
    marked = [node for node, _ in item.iter_markers_with_node("random_dtypes")]
    if not marked:
        return False
    if any(isinstance(node, (pytest.Function, pytest.Class)) for node in marked):
        return True
    # unittest's methods alone generate nothing.
    seen = config.stash.get(SEEN, None)
    heeded = frozenset[str]() if seen is None else seen.heeded
    partly = config.getoption("lf", False) or any("::" in str(arg) for arg in config.args)
    return not partly and all(node.nodeid not in heeded for node in marked)


@pytest.hookimpl(wrapper=True, tryfirst=True)
@guarded
def pytest_fixture_setup(request: pytest.FixtureRequest) -> Generator[None, object, object]:
    test = running_test()
    if test is None:
        return (yield)
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
    test = running_of(item)
    if test is None:
        return (yield)
    try:
        with test.examples.watching(getattr(item, "obj", None)), _seeds_kept(item, test):
            return (yield)
    finally:
        test.watch.call_over()


def _seeds_kept(item: pytest.Item, test: RunningTest) -> AbstractContextManager[None]:
    """The test finds the generators as its setup left them, whoever seeds them in between."""
    if not (test.seeding.primed and _others_may_seed(item.config)):
        return nullcontext()
    return _keeping_seeds(item)


@contextmanager
def _keeping_seeds(item: pytest.Item) -> Iterator[None]:
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
    test = running_of(item)
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
