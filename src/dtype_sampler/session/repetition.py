"""Repetitions of a test, by pytest-repeat and pytest-flakefinder: one test, not as many as that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest


def is_repetition(argname: str) -> bool:
    """Whether a parameter of this name does nothing but count repetitions.

    It is pytest-repeat's, or one that pytest-flakefinder makes for each function.
    """
    return argname == "__pytest_repeat_step_number" or argname.startswith("__flakefinder_")


def without_repetition(item: pytest.Item, nodeid: str) -> str:
    """The node id of an item without what tells its repetitions apart; other ones are left alone.

    nodeid: the item's, or a stable one with the same brackets.
    """
    callspec: Any = getattr(item, "callspec", None)
    params = list(callspec.params) if callspec is not None else []
    if not any(map(is_repetition, params)):
        return nodeid
    # No public attribute tells the parts of an id.
    ids = [str(one) for one in getattr(callspec, "_idlist", ())]
    brackets = f"[{'-'.join(ids)}]"
    if not nodeid.endswith(brackets):
        return nodeid
    if len(ids) == len(params):
        left = [one for one, name in zip(ids, params, strict=True) if not is_repetition(name)]
    else:
        # Arguments that are parametrized together share an id. Plugins add theirs at an end.
        left = ids[is_repetition(params[0]) : len(ids) - is_repetition(params[-1])]
    rest = f"[{'-'.join(left)}]" if left else ""
    return nodeid[: -len(brackets)] + rest


def repetitions(items: Iterable[pytest.Item]) -> dict[int, int]:
    """`id(item)` -> which repetition of its test it is, from 2 on; the first ones are left out.

    An item that is there several times, as pytest-flakefinder copies those of unittest, is counted
    in the order in which they run.
    """
    found: dict[int, int] = {}
    met: Counter[str] = Counter()
    for item in items:
        callspec: Any = getattr(item, "callspec", None)
        number = 1
        for name in callspec.params if callspec is not None else ():
            if is_repetition(name) and isinstance(callspec.params[name], int):
                number += callspec.params[name]
        met[item.nodeid] += 1
        number += met[item.nodeid] - 1
        if number > 1:
            found[id(item)] = number
    return found
