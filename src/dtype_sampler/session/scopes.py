"""Which tests share what is made for each dtype: a fixture of class scope or wider."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from dtype_sampler.session.nodeids import stable_nodeid


def shared_order(item: pytest.Item, sampled: Sequence[str]) -> str:
    """The key that orders the dtypes of tests that share what is made for each; else empty.

    Tests that share a fixture of class scope or wider, parametrized over dtypes, take the same ones
    in a run: so no more of the fixture are set up than one test needs.
    """
    parts = []
    for name in sampled:
        owner = _owner(item, _scope_of(item, name))
        if owner is None:
            return ""
        nodeid = stable_nodeid(owner)
        parts.append(f"{nodeid}::{name}" if nodeid else name)
    return ",".join(parts)


def _scope_of(item: Any, name: str) -> str:
    # No public attribute tells it; without it each test has an order of its own.
    scopes = getattr(getattr(item, "callspec", None), "_arg2scope", {})
    return str(getattr(scopes.get(name), "value", "function"))


def _owner(item: pytest.Item, scope: str) -> pytest.Collector | None:
    """The node that lives as long as a fixture of this scope; None if it is the test's alone."""
    if scope == "session":
        return item.session
    if scope == "package":
        # As in pytest, what is in no package has the session's.
        return item.getparent(pytest.Package) or item.session
    if scope == "module":
        return item.getparent(pytest.Module)
    # And a function in no class has one of its own.
    return item.getparent(pytest.Class) if scope == "class" else None
