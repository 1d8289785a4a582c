"""Who left an item out: pytest, as a person asked for it, or another plugin."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import FrameType, SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest


class Deselections:
    """What happens to the items of one collection, from the first hook to the last.

    What `-k`, `-m`, `--deselect`, `--lf` and their like leave out is gone for good, and the sample
    is taken from the rest. What another plugin leaves out may well run elsewhere, as that plugin
    splits a suite into parts: such items take part in the sample, so that all parts together run
    what one process would have run.
    """

    def __init__(self, items: Sequence[pytest.Item]) -> None:
        """items: all that were collected."""
        self._collected = list(items)
        self._by_pytest: set[int] = set()

    def note(self, items: Sequence[object]) -> None:
        """`pytest_deselected` was called with *items*: remember them if pytest itself did that."""
        if called_by_pytest():
            # By identity: plugins call this with objects of their own, which need not be items.
            self._by_pytest.update(map(id, items))

    def left(self, config: pytest.Config, items: Sequence[pytest.Item]) -> Sequence[pytest.Item]:
        """The items to take the sample from. items: those that are to run here."""
        if items == self._collected:
            return items
        here = frozenset(map(id, items))
        gone = [one for one in self._collected if id(one) not in here]
        gone = [one for one in gone if id(one) not in self._by_pytest]
        if not gone:
            return items
        elsewhere = frozenset(map(id, _left_by_options(config, gone)))
        if not elsewhere:
            return items
        # In the order of collection, which is the same in every part.
        known = [one for one in self._collected if id(one) in here or id(one) in elsewhere]
        collected = frozenset(map(id, self._collected))
        return [*known, *(one for one in items if id(one) not in collected)]


def called_by_pytest() -> bool:
    """Whether the hook that runs was called by pytest itself, and not by some plugin.

    Found on the call stack, as a hook is not told who calls it.
    """
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001
    # From this module through pluggy to whoever called the hook.
    while frame is not None and _package(frame) in ("dtype_sampler", "pluggy"):
        frame = frame.f_back
    return frame is not None and _package(frame) == "_pytest"


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def _left_by_options(config: pytest.Config, items: list[pytest.Item]) -> list[pytest.Item]:
    """Those of *items* that `-k`, `-m` and `--deselect` leave.

    They never saw what another plugin had left out before.
    """
    left = list(items)
    silent = _Silent(config)
    for name in ("main", "mark"):
        plugin: Any = config.pluginmanager.get_plugin(name)
        if plugin is not None:
            plugin.pytest_collection_modifyitems(items=left, config=silent)
    return left


class _Silent:
    """A config under which nobody is told of deselected items: they are counted already."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self.hook = SimpleNamespace(pytest_deselected=lambda **_: None)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._config, name)
