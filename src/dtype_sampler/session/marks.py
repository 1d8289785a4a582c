"""What the marks of an item say before it runs: whether pytest will skip it."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

_NAMES = frozenset({"skip", "skipif", "xfail"})


class Marks:
    """Looks at the items of one collection, after every plugin has put its marks on them."""

    def __init__(self) -> None:
        # By the identity of a collector: whether it, or one above it, has such a mark.
        self._above: dict[int, bool] = {}

    def why_skipped(self, item: pytest.Item) -> str | None:
        """The reason why nothing of an item will run; None if its marks don't say so."""
        # Most items of a large suite end here.
        if not _may_skip(item.own_markers):
            parent = item.parent
            above = self._above.get(id(parent))
            if above is None:
                marks = () if parent is None else parent.iter_markers()
                above = self._above[id(parent)] = _may_skip(marks)
            if not above:
                return None
        return _evaluated(item)


def _may_skip(marks: Iterable[pytest.Mark]) -> bool:
    # Of each of 100,000 items: a plain loop is the fastest way to look at the few that it has.
    for mark in marks:  # noqa: SIM110  # see above
        if mark.name in _NAMES:
            return True
    return False


def _evaluated(item: pytest.Item) -> str | None:
    # Conditions may be strings, for which there is no public way.
    from _pytest.skipping import evaluate_skip_marks, evaluate_xfail_marks

    if not item.config.pluginmanager.has_plugin("skipping"):
        return None
    try:
        skip = evaluate_skip_marks(item)
        if skip is not None:
            return skip.reason or "unconditional skip"
        xfail = None if item.config.option.runxfail else evaluate_xfail_marks(item)
    except (Exception, pytest.fail.Exception):  # noqa: BLE001  # of the suite's own condition: any
        # A mark that is wrong is pytest's to tell, when it comes to the test.
        return None
    if xfail is not None and not xfail.run:
        return f"[NOTRUN] {xfail.reason}".rstrip()
    return None
