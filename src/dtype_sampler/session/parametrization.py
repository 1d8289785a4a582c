"""Items that stand for one dtype each: made by the marker, or found in an existing suite.

The pytest side of `selection`: reads markers, `Metafunc` and `callspec`.

Long, as markers and found parametrizations end in the same groups, and items are members of these.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import pytest

from dtype_sampler.errors import DtypeSamplerError, nearest, unknown
from dtype_sampler.roundtrip.support import check_device
from dtype_sampler.sampling.candidates import Pool, each_of, label_of, parse_device
from dtype_sampler.sampling.combinations import joined
from dtype_sampler.sampling.naming import ids_of
from dtype_sampler.sampling.plan import RunPlan
from dtype_sampler.sampling.rule import check_always
from dtype_sampler.session.draw import make_request, own_device
from dtype_sampler.session.expansion import Variant, Variants, in_use, only_to_be_read
from dtype_sampler.session.nodeids import stable_nodeid
from dtype_sampler.session.repetition import is_repetition
from dtype_sampler.session.selection import Group

if TYPE_CHECKING:
    from _pytest.mark.structures import ParameterSet

MARKER = "random_dtypes"
FULL_MARKER = "all_dtypes"
# As `pytest.mark.parametrize` takes them.
SCOPES = ("function", "class", "module", "package", "session")


@dataclass(frozen=True, slots=True)
class MarkerRequest:
    """What `@pytest.mark.random_dtypes(...)` asks for. own_k: whether it names k itself."""

    pool: Pool
    k: int
    own_k: bool
    always: tuple[str, ...]
    device: str | None


@dataclass(slots=True)
class Parametrizations:
    """What was seen while tests were generated, by the node id of the test function.

    calls: the argument names of each `parametrize` call, in order: one part of an item's id each.
    requests: by argument name. arguments: the names of all arguments of tests, and whether a test
    is parametrized over it. made: the items that a module or class (by its identity, which lasts as
    long as they do) has made of a function, before any was left out. variants: the tests that the
    package `parameterized` had made of others before; None where it is not in use.
    """

    calls: dict[str, list[tuple[str, ...]]] = field(default_factory=dict)
    requests: dict[str, dict[str, MarkerRequest]] = field(default_factory=dict)
    arguments: dict[str, bool] = field(default_factory=dict)
    made: dict[tuple[Hashable, ...], list[Any]] = field(default_factory=dict)
    variants: Variants | None = None

    def note(self, collector: pytest.Collector, nodes: Sequence[object], plan: RunPlan) -> None:
        """Keep the parametrized items that a collector has made."""
        if plan.argnames and in_use():
            if self.variants is None:
                self.variants = Variants(lambda name: is_sampled(name, plan.argnames))
            self.variants.note(collector, nodes)
        for node in nodes:
            if getattr(node, "callspec", None) is not None:
                where = id(collector), node.originalname  # type: ignore[attr-defined]  # Function's
                self.made.setdefault(where, []).append(node)


def generate(metafunc: pytest.Metafunc, plan: RunPlan, seen: Parametrizations) -> None:
    """Parametrize a test as its `random_dtypes` markers say, and note how it is parametrized.

    Must run before anybody else parametrizes the test.
    """
    for name in metafunc.fixturenames:
        seen.arguments.setdefault(name, False)
    marks = list(metafunc.definition.iter_markers(MARKER))
    if not marks and not any(is_sampled(name, plan.argnames) for name in metafunc.fixturenames):
        return
    function = stable_nodeid(metafunc.definition)
    calls = _earlier_calls(metafunc)
    seen.calls[function] = calls
    # Which part of an item's id belongs to which argument is known only here.
    metafunc.parametrize = _recording(metafunc.parametrize, calls)  # type: ignore[method-assign]  # on this object only
    requests: dict[str, MarkerRequest] = {}
    full = metafunc.definition.get_closest_marker(FULL_MARKER) is not None
    for mark in marks:
        try:
            argname, request, parameters, scope = _read_marker(
                mark, plan, metafunc.fixturenames, full=full
            )
        except DtypeSamplerError as error:
            failure = f"{function}: @pytest.mark.{MARKER}: {error}"
        else:
            failure = ""
        if failure:
            # Not while the exception is handled: pytest would show it as well.
            pytest.fail(failure, pytrace=False)
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


def _read_marker(
    mark: pytest.Mark, plan: RunPlan, arguments: Sequence[str], *, full: bool
) -> tuple[str, MarkerRequest, list[ParameterSet], Any]:
    """The argument, the request, one `pytest.param` for each candidate that exists, the scope."""
    try:
        argname, dtypes, k, always, exclude, device, scope = _marker_arguments(
            *mark.args, **mark.kwargs
        )
    except TypeError as error:
        raise DtypeSamplerError(
            f"{str(error).partition(') ')[2] or error}; it takes"
            " (argname, dtypes, k=, always=, exclude=, device=, scope=), all optional"
        ) from None
    if not isinstance(argname, str) or not argname.isidentifier():
        raise DtypeSamplerError(
            f"{argname!r} is no argument name: it comes first, then the candidates, or dtypes=[...]"
        )
    if argname not in arguments:
        raise DtypeSamplerError(f"the test has no argument {argname!r}")
    if scope not in (None, *SCOPES):
        raise DtypeSamplerError(unknown("scope", str(scope), SCOPES))
    given: dict[str, ParameterSet] = {}
    if dtypes is not None and not isinstance(dtypes, str):
        # A candidate may come with an id or marks of its own, as in `parametrize`.
        dtypes, given = _unwrap(dtypes)
    asked = k is not None
    pool, fixed, number = make_request(plan, k, dtypes, always, exclude)
    if not (full or plan.all_dtypes or plan.only):
        check_always(len(pool.labels), number, len(fixed))
    there = [(label, pool.candidate(label)) for label in pool.labels]
    # A dtype of a named pool that this torch lacks can be no item; the draw reports it.
    there = [
        (label, candidate)
        for label, candidate in there
        if candidate is not None or not pool.is_dtype(label)
    ]
    ids = ids_of([label for label, _ in there])
    parameters = [
        pytest.param(
            candidate,
            marks=given[label].marks if label in given else (),
            id=(given[label].id if label in given else None) or short,
        )
        for (label, candidate), short in zip(there, ids, strict=True)
    ]
    # One item stands for a test of whose pool this torch has nothing; it will be skipped.
    parameters = parameters or [pytest.param(None, id="none")]
    request = MarkerRequest(pool, number, asked, fixed, own_device(device))
    return argname, request, parameters, scope


def _marker_arguments(
    argname: Any = "dtype",
    dtypes: Any = None,
    *,
    k: Any = None,
    always: Iterable[object] = (),
    exclude: Iterable[object] = (),
    device: Any = None,
    scope: Any = None,
) -> tuple[Any, Any, Any, Iterable[object], Iterable[object], Any, Any]:
    return argname, dtypes, k, always, exclude, device, scope


def _unwrap(dtypes: object) -> tuple[list[Any], dict[str, ParameterSet]]:
    kind = type(pytest.param(None))
    candidates: list[Any] = []
    given: dict[str, ParameterSet] = {}
    for one in each_of(dtypes, "dtypes"):
        if isinstance(one, kind):
            if len(one.values) != 1:
                raise DtypeSamplerError(f"{one!r} holds {len(one.values)} values instead of one")
            given[label_of(one.values[0])] = one
            candidates.append(one.values[0])
        else:
            candidates.append(one)
    return candidates, given


@dataclass(slots=True)
class _Function:
    """What the items of one test function have in common.

    calls: for each `parametrize` call, which makes one part of an item's id, None if it is about
    other parameters alone; else the names of those that share it with a dtype. one_each: no node id
    means all of its items.
    """

    nodeid: str
    sampled: tuple[str, ...]
    others: tuple[str, ...]
    calls: list[tuple[str, ...] | None]
    device_arg: bool
    full: bool
    order: str
    groups: dict[object, Group] = field(default_factory=dict)
    # By the identity of the item.
    members: dict[int, tuple[Group, str]] = field(default_factory=dict)
    # By the identity of the value, as one object stands for a dtype in many items.
    labels: dict[int, str] = field(default_factory=dict)
    unstable: int = 0
    one_each: bool = False


@dataclass(frozen=True, slots=True)
class _Row:
    """Parameters that are no part of an item's id, as `callspec` has those that are."""

    params: Mapping[str, Any]


def group_items(
    items: Iterable[pytest.Item], plan: RunPlan, seen: Parametrizations
) -> dict[int, Group]:
    """`id(item)` -> its group, for every item that stands for a dtype.

    A group is the items of one test that agree in all other parameters. What it declares is what
    its function was parametrized with, also where just some of that were asked for.
    """
    functions: dict[tuple[Hashable, ...], _Function | None] = {}
    found: dict[int, Group] = {}
    for item in items:
        # An item of another plugin's may have a `callspec` too, which is no parametrization.
        if not isinstance(item, pytest.Function):
            continue
        row: Any = getattr(item, "callspec", None)
        where: tuple[Hashable, ...] = id(item.parent), item.originalname
        variant = None
        if row is None and seen.variants is not None:
            variant = seen.variants.of(item)
            if variant is not None:
                row, where = _Row(variant.params), variant.where
        if row is None:
            continue
        try:
            function = functions[where]
        except KeyError:
            if variant is not None:
                function = functions[where] = _function_of_variants(item, variant, plan, seen)
            else:
                function = functions[where] = _function_of(item, row.params, plan, seen)
            # All that it was parametrized with, in that order, whatever was asked for of it.
            if function is not None:
                for one in seen.made.get(where, ()):
                    function.members[id(one)] = _member(function, one.callspec, seen)
        if function is None:
            continue
        # By identity: hashing an item hashes its whole node id.
        number = id(item)
        try:
            group, label = function.members[number]
        except KeyError:
            group, label = _member(function, row, seen)
            if variant is None or (seen.variants and not seen.variants.has_noted(item)):
                # Somebody else made it, who may have left out others.
                group.whole = False
        group.labels[number] = label
        found[number] = group
    # Of these, what was not asked for is needed no more.
    seen.made.clear()
    seen.variants = None
    return found


def _member(function: _Function, callspec: Any, seen: Parametrizations) -> tuple[Group, str]:
    """The group of an item, and the label that it stands for."""
    params = callspec.params
    label = _label(function, params)
    values = tuple([_identity(params[name]) for name in function.others])
    try:
        group = function.groups.get(values)
    except Exception:  # noqa: BLE001  # values of the suite's own are compared: any may come
        values = tuple([id(params[name]) for name in function.others])
        group = function.groups.get(values)
    if group is None:
        group = function.groups[values] = _new_group(function, callspec, params, seen)
    if label not in group.candidates:
        candidates = [params[name] for name in function.sampled]
        # A combination of dtypes is no dtype that a device could be asked for.
        group.candidates[label] = candidates[0] if len(candidates) == 1 else tuple(candidates)
    return group, label


def _function_of(
    item: Any, params: dict[str, Any], plan: RunPlan, seen: Parametrizations
) -> _Function | None:
    nodeid = f"{stable_nodeid(item.parent)}::{item.originalname}"
    seen.arguments.update(dict.fromkeys(params, True))
    requests = seen.requests.get(nodeid, {})
    sampled = tuple(name for name in params if name in requests or is_sampled(name, plan.argnames))
    if len(sampled) > 1:
        sampled = _as_written(item, sampled)
    if not sampled or any(map(_is_empty, params.values())):
        return None
    if len(sampled) > 1 and any(one.always or one.device for one in requests.values()):
        raise DtypeSamplerError(
            f"{nodeid}: always= and device= of @pytest.mark.{MARKER} are for a test with one"
            f" sampled argument; this one has {' and '.join(sampled)}, sampled in combination"
        )
    # Repetitions of one test are all the same test.
    others = tuple(name for name in params if name not in sampled and not is_repetition(name))
    calls = [
        None
        if all(name in others for name in names)
        else tuple(name for name in names if name in others)
        for names in seen.calls.get(nodeid, [])
    ]
    full = item.get_closest_marker(FULL_MARKER) is not None
    order = shared_order(item, sampled)
    return _Function(nodeid, sampled, others, calls, "device" in others, full, order)


def _function_of_variants(
    item: pytest.Function, variant: Variant, plan: RunPlan, seen: Parametrizations
) -> _Function:
    """As `_function_of`, of tests that the package `parameterized` has made of one."""
    assert seen.variants is not None
    seen.arguments.update(dict.fromkeys(variant.params, True))
    rows = seen.variants.rows(variant)
    sampled = tuple(name for name in variant.params if is_sampled(name, plan.argnames))
    titles = [name for name in variant.titles if name not in sampled]
    left = {*sampled, *only_to_be_read(rows, titles, _identity)}
    others = tuple(name for name in variant.params if name not in left)
    full = item.get_closest_marker(FULL_MARKER) is not None
    # Tests that share what a class sets up take the same, so that no more classes are set up.
    shared = tuple(variant.params)[: variant.by_class]
    order = ""
    if all(name in shared for name in sampled):
        order = ",".join(f"{variant.nodeid.rpartition('::')[0]}::{name}" for name in sampled)
    function = _Function(
        variant.nodeid, sampled, others, [], "device" in others, full, order, one_each=True
    )
    # All of them, in that order, whatever was asked for of them.
    for row in rows:
        _member(function, _Row(row), seen)
    return function


def _as_written(item: Any, names: Sequence[str]) -> tuple[str, ...]:
    """The arguments in the order in which the test has them; what its fixtures have comes last.

    pytest has them in the order in which the decorators are applied, from the last one up.
    """
    try:
        written = [*inspect.signature(item.function).parameters]
    except (TypeError, ValueError):
        written = []
    here = [name for name in written if name in names]
    return (*here, *(name for name in names if name not in here))


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


def _is_empty(value: object) -> bool:
    """Whether a parameter stands for an empty set of parameters, of which nothing can ever run."""
    kind = type(value)
    return kind.__name__ == "NotSetType" and kind.__module__.startswith("_pytest.")


def _label(function: _Function, params: dict[str, Any]) -> str:
    """The label of an item; of a test over several dtypes, all of theirs, with commas."""
    names = function.sampled
    if len(names) > 1:
        return joined([_label_of_param(function, name, params[name]) for name in names])
    return _label_of_param(function, names[0], params[names[0]])


def _label_of_param(function: _Function, name: str, value: object) -> str:
    label = function.labels.get(id(value))
    if label is None:
        try:
            label = label_of(value)
        except Exception:  # noqa: BLE001  # of the value's own __str__: any may come
            # A suite that is not to be edited can't mend it: number such values, as pytest's ids.
            label = f"{name}{function.unstable}"
            function.unstable += 1
        function.labels[id(value)] = label
    return label


def _identity(value: Any) -> Any:
    """Something hashable, equal for equal parameters of one collection."""
    kind = type(value)
    if kind is str or kind is int:
        return value
    try:
        hash(value)
    except Exception:  # noqa: BLE001  # mostly TypeError; numpy's timedelta64 raises ValueError
        return id(value)
    # The type too, as True == 1 == 1.0.
    return kind, value


def _new_group(
    function: _Function, callspec: Any, params: dict[str, Any], seen: Parametrizations
) -> Group:
    group: Group = Group(
        key=_key(function, callspec, params),
        function=function.nodeid,
        full=function.full,
        order=function.order,
        one_each=function.one_each,
    )
    requests = seen.requests.get(function.nodeid, {})
    if len(function.sampled) == 1 and (request := requests.get(function.sampled[0])):
        group.pool, group.k, group.always = request.pool, request.k, request.always
        group.device = request.device
    elif requests and any(request.own_k for request in requests.values()):
        group.k = max(request.k for request in requests.values())
    if group.device is None and function.device_arg:
        group.device, group.probe = _device_of(params["device"])
    return group


def _device_of(value: object) -> tuple[str | None, bool]:
    """The device that a parameter named `device` means, and whether it can be asked here."""
    try:
        device = parse_device(str(value))
    except DtypeSamplerError:
        return None, True
    if device in (None, "cpu"):
        return device, True
    if "torch" not in sys.modules:
        # Then no parameter is a torch.dtype, and there is nothing to ask.
        return device, False
    try:
        check_device(device)
    except DtypeSamplerError:
        # The suite runs on other machines too, and has its own way to skip this.
        return device, False
    return device, True


def _key(function: _Function, callspec: Any, params: dict[str, Any]) -> str:
    """The test key: the node id without the dtype's part of the brackets."""
    # No public attribute tells the parts of an id; without them the values are named instead.
    ids = getattr(callspec, "_idlist", None)
    parts: list[str] = []
    if ids is not None and len(ids) == len(function.calls):
        for others, part in zip(function.calls, ids, strict=True):
            if others is None:
                parts.append(str(part))
            else:
                # One id for a dtype and others together: name the others.
                parts += [_named(name, params[name], function) for name in others]
    else:
        parts = [_named(name, params[name], function) for name in function.others]
    return f"{function.nodeid}[{'-'.join(parts)}]" if parts else function.nodeid


def _named(name: str, value: object, function: _Function) -> str:
    """A parameter in the words of pytest's own ids, where it has a text that is stable."""
    if isinstance(value, type) or callable(value):
        return getattr(value, "__name__", None) or _label_of_param(function, name, value)
    return _label_of_param(function, name, value)
