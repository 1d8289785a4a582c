"""How tests are parametrized: by the marker, or by a suite itself.

The pytest side of what `grouping` makes groups of: reads markers and `Metafunc`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any

import pytest

from dtype_sampler.errors import DtypeSamplerError, nearest
from dtype_sampler.sampling.plan import RunPlan
from dtype_sampler.session.expansion import Variants, in_use
from dtype_sampler.session.marker import FULL_MARKER, MARKER, MarkerRequest, read_marker
from dtype_sampler.session.nodeids import stable_nodeid


@dataclass(slots=True)
class Parametrizations:
    """What was seen while tests were generated, by the node id of the test function.

    calls: the argument names of each `parametrize` call, in order: one part of an item's id each.
    requests: by argument name. arguments: the names of all arguments of tests, and whether a test
    is parametrized over it. made: what a collector (by its identity, which lasts as long as these
    do) has made, before any of it was left out. variants: the tests that the package
    `parameterized` had made of others before; None where it is not in use. heeded: the node ids of
    classes and modules whose marker means a test.
    """

    calls: dict[str, list[tuple[str, ...]]] = field(default_factory=dict)
    requests: dict[str, dict[str, MarkerRequest]] = field(default_factory=dict)
    arguments: dict[str, bool] = field(default_factory=dict)
    made: dict[int, list[object]] = field(default_factory=dict)
    variants: Variants | None = None
    heeded: set[str] = field(default_factory=set)

    def note(self, collector: pytest.Collector, nodes: Sequence[object], plan: RunPlan) -> None:
        """Keep what a collector has made."""
        if plan.argnames and in_use():
            if self.variants is None:
                self.variants = Variants(lambda name: is_sampled(name, plan.argnames))
            self.variants.note(collector, nodes)
        self.made.setdefault(id(collector), []).extend(nodes)

    def made_by(self, collector: object) -> dict[str, list[pytest.Function]]:
        """The parametrized items that a collector has made, by the name of their function."""
        found: dict[str, list[pytest.Function]] = defaultdict(list)
        for node in self.made.get(id(collector), ()):
            if isinstance(node, pytest.Function) and getattr(node, "callspec", None) is not None:
                found[node.originalname].append(node)
        return found


def generate(metafunc: pytest.Metafunc, plan: RunPlan, seen: Parametrizations) -> None:
    """Parametrize a test as its `random_dtypes` markers say, and note how it is parametrized.

    Must run before anybody else parametrizes the test.
    """
    for name in metafunc.fixturenames:
        seen.arguments.setdefault(name, False)
    marks = list(metafunc.definition.iter_markers_with_node(MARKER))
    if not marks and not any(is_sampled(name, plan.argnames) for name in metafunc.fixturenames):
        return
    function = stable_nodeid(metafunc.definition)
    calls = _earlier_calls(metafunc)
    seen.calls[function] = calls
    # Which part of an item's id belongs to which argument is known only here.
    metafunc.parametrize = _recording(metafunc.parametrize, calls)  # type: ignore[method-assign]  # on this object only
    requests: dict[str, MarkerRequest] = {}
    full = metafunc.definition.get_closest_marker(FULL_MARKER) is not None
    for node, mark in marks:
        own = node is metafunc.definition
        try:
            read = read_marker(mark, plan, metafunc.fixturenames, full=full, own=own)
        except DtypeSamplerError as error:
            failure = f"{function}: @pytest.mark.{MARKER}: {error}"
        else:
            failure = ""
        if failure:
            # Not while the exception is handled: pytest would show it as well.
            pytest.fail(failure, pytrace=False)
        if read is None:
            continue
        if not own:
            seen.heeded.add(node.nodeid)
        argname, request, parameters, scope = read
        # The closest marker comes first, and wins.
        if argname in requests:
            continue
        requests[argname] = request
        metafunc.parametrize(argname, parameters, scope=scope)
    if requests:
        seen.requests[function] = requests


@lru_cache(maxsize=4096)
def is_sampled(name: str, patterns: tuple[str, ...]) -> bool:
    """Whether an argument of that name is one of those that `dtype_sampler_argnames` means."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def unmatched(patterns: Sequence[str], arguments: Mapping[str, bool]) -> list[str]:
    """What to say of the names of `dtype_sampler_argnames` that no test is parametrized over.

    arguments: as in `Parametrizations`.
    """
    parametrized = [name for name, yes in arguments.items() if yes]
    found = {name for name in parametrized if is_sampled(name, tuple(patterns))}
    problems = []
    for pattern in patterns:
        fitting = [name for name in arguments if fnmatchcase(name, pattern)]
        if found.intersection(fitting):
            continue
        known = parametrized if found else [*parametrized, *arguments]
        near = [name for name in known if name not in found]
        guess = None if fitting else nearest(pattern, tuple(dict.fromkeys(near)))
        if guess:
            problems.append(f"{pattern}: no test has such an argument, did you mean {guess!r}?")
        elif fitting:
            problems.append(
                f"{pattern}: no test is parametrized over {fitting[0]}, which is an argument of"
                " tests"
            )
        else:
            problems.append(f"{pattern}: no test has such an argument")
    return problems


def _earlier_calls(metafunc: pytest.Metafunc) -> list[tuple[str, ...]]:
    """The `parametrize` calls of a plugin that was even earlier, such as pytest-flakefinder."""
    calls = getattr(metafunc, "_calls", [])
    names = list(calls[0].params) if calls else []
    # One argument a call: more can't be told from here, and is named by its values then.
    return [(name,) for name in names]


def _recording(
    parametrize: Callable[..., None], calls: list[tuple[str, ...]]
) -> Callable[..., None]:
    def recording(argnames: str | Sequence[str], *args: Any, **kwargs: Any) -> None:
        names = argnames.split(",") if isinstance(argnames, str) else argnames
        parametrize(argnames, *args, **kwargs)
        calls.append(tuple(name.strip() for name in names if name.strip()))

    return recording
