"""The hooks while tests are collected: each calls what makes items, or what chooses among them."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.sampling.plan import WIRE, RunPlan
from dtype_sampler.session.expansion import in_use
from dtype_sampler.session.faults import guarded
from dtype_sampler.session.items import MEMBERS, PLAN, SEEN, name_among, replayable
from dtype_sampler.session.repetition import without_repetition

if TYPE_CHECKING:
    from dtype_sampler.session.deselection import Deselections
    from dtype_sampler.session.selection import Members


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
        from dtype_sampler.session.grouping import group_items
        from dtype_sampler.session.marks import Marks
        from dtype_sampler.session.parametrization import Parametrizations
        from dtype_sampler.session.selection import everything, select

        seen = seen or Parametrizations()
        if plan.argnames:
            from dtype_sampler.session.unmatched import ARGUMENTS, ARGUMENTS_WIRE

            getattr(config, "workeroutput", {})[ARGUMENTS_WIRE] = seen.arguments
            config.stash[ARGUMENTS] = seen.arguments
        try:
            members = group_items(items, plan, seen)
        except DtypeSamplerError as error:
            raise pytest.UsageError(str(error)) from None
        if seen.variants is not None:
            named = _named_one_by_one(config, items, members)
            plan = config.stash[PLAN] = replace(plan, kept=(*plan.kept, *named))
        if plan.only:
            from dtype_sampler.session.unmatched import DECLARED

            found = (members.groups.get(id(item)) for item in items)
            labels = list({one: None for group in found if group for one in group.candidates})
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
                plan = _steer(config, plan, items, members)
            selection = choose(
                plan, items, members, name_among(plan.kept), Marks().why_skipped, left=left
            )
        except DtypeSamplerError as error:
            raise pytest.UsageError(str(error)) from None
        for item, reason in selection.skipped:
            item.add_marker(pytest.mark.skip(reason=reason))
        if seen.variants is not None:
            for item in selection.staying:
                if (group := members.groups.get(id(item))) is not None and group.one_each:
                    group.together.append(replayable(item))
        # The items that stay are the session's. Of the others nothing is needed any more.
        config.stash[MEMBERS] = members.only(selection.staying)
        seen.made.clear()
        seen.variants = None
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


def _named_one_by_one(
    config: pytest.Config, items: Sequence[pytest.Item], members: Members
) -> list[str]:
    """Node ids on the command line that mean one item for one dtype, which brackets don't tell."""
    from dtype_sampler.session.nodeids import nodeid_of_argument

    there = {
        replayable(item)
        for item in items
        if (group := members.groups.get(id(item))) is not None and group.one_each
    }
    named = (nodeid_of_argument(config, arg) for arg in map(str, config.args) if "::" in arg)
    return [nodeid for nodeid in named if nodeid in there]


def _steer(
    config: pytest.Config, plan: RunPlan, items: list[pytest.Item], members: Members
) -> RunPlan:
    """The plan for these items; those of them that it has no use for are left out."""
    from dtype_sampler.session.budgeting import STEERED, STEERED_WIRE, choice
    from dtype_sampler.session.marks import Marks

    made = choice(
        plan,
        items,
        members,
        name_among(plan.kept),
        key_of=lambda item: without_repetition(item, replayable(item)),
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
