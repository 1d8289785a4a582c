"""Items that stand for one dtype each, in groups that differ in their dtype alone.

The pytest side of `selection`: reads `callspec`.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

import pytest

from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.roundtrip.support import check_device
from dtype_sampler.sampling.candidates import label_of, parse_device
from dtype_sampler.sampling.combinations import joined
from dtype_sampler.sampling.plan import RunPlan
from dtype_sampler.session.expansion import Variant, only_to_be_read
from dtype_sampler.session.marker import FULL_MARKER, MARKER
from dtype_sampler.session.nodeids import stable_nodeid
from dtype_sampler.session.parametrization import Parametrizations, is_sampled
from dtype_sampler.session.repetition import is_repetition
from dtype_sampler.session.scopes import shared_order
from dtype_sampler.session.selection import Group, Member, Members


@dataclass(slots=True)
class _Function:
    """What the items of one test function have in common.

    calls: for each `parametrize` call, which makes one part of an item's id, None if it is about
    other parameters alone; else the names of those that share it with a dtype. dtypes_of: reads the
    identities of an item's dtypes, and others_of those of its other parameters. one_each: no node
    id means all of its items.
    """

    nodeid: str
    sampled: tuple[str, ...]
    others: tuple[str, ...]
    calls: list[tuple[str, ...] | None]
    device_arg: bool
    full: bool
    order: str
    dtypes_of: Callable[[Mapping[str, Any]], Hashable] = field(init=False)
    others_of: Callable[[Mapping[str, Any]], Hashable] = field(init=False)
    groups: dict[Hashable, Group] = field(default_factory=dict)
    # By the identities of the other parameters: one object stands for a value in many items.
    same: dict[Hashable, Group] = field(default_factory=dict)
    # Likewise, by those of the dtypes: the label of an item, and what it stands for.
    labels: dict[Hashable, tuple[str, object]] = field(default_factory=dict)
    # By the identity of any parameter.
    labels_of_params: dict[int, str] = field(default_factory=dict)
    unstable: int = 0
    one_each: bool = False

    def __post_init__(self) -> None:
        self.dtypes_of = _identities_of(self.sampled)
        self.others_of = _identities_of(self.others)


@dataclass(frozen=True, slots=True)
class _Row:
    """Parameters that are no part of an item's id, as `callspec` has those that are."""

    params: Mapping[str, Any]


def group_items(items: Sequence[pytest.Item], plan: RunPlan, seen: Parametrizations) -> Members:
    """Every item that stands for a dtype, in its group, with its label.

    A group is the items of one test that agree in all other parameters. What it declares is what
    its function was parametrized with, also where just some of that were asked for. Of such a
    function all items are here, asked for or not, so `seen.made` must last as long as this is used.
    """
    functions: dict[tuple[Hashable, ...], _Function | None] = {}
    made: dict[int, dict[str, list[pytest.Function]]] = {}
    members = Members()
    groups, labels = members.groups, members.labels
    for item in items:
        # As nearly always: a suite may have 100,000 of these.
        if id(item) in groups:
            continue
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
                if id(item.parent) not in made:
                    made[id(item.parent)] = seen.made_by(item.parent)
                # All that it was parametrized with, in that order, whatever was asked for of it.
                if function is not None:
                    for one in made[id(item.parent)].get(item.originalname, ()):
                        groups[id(one)], labels[id(one)] = _member(function, one.callspec, seen)
        if function is None or id(item) in groups:
            continue
        groups[id(item)], labels[id(item)] = group, _ = _member(function, row, seen)
        if variant is None or (seen.variants and not seen.variants.has_noted(item)):
            # Somebody else made it, who may have left out others.
            group.whole = False
    return members


def _member(function: _Function, callspec: Any, seen: Parametrizations) -> Member:
    """The group of an item, and the label that it stands for."""
    params = callspec.params
    # Of all items, so mostly by the identities of what they share.
    dtypes, others = function.dtypes_of(params), function.others_of(params)
    try:
        label, candidate = function.labels[dtypes]
    except KeyError:
        label, candidate = function.labels[dtypes] = _label(function, params)
    group = function.same.get(others)
    if group is None:
        group = function.same[others] = _group_of_equals(function, callspec, params, others, seen)
    if label not in group.candidates:
        group.candidates[label] = candidate
    return group, label


def _identities_of(names: Sequence[str]) -> Callable[[Mapping[str, Any]], Hashable]:
    """What reads the identities of the parameters of these names."""
    if not names:
        return lambda _: None
    if len(names) == 1:
        (only,) = names
        return lambda params: id(params[only])
    values_of = itemgetter(*names)
    return lambda params: tuple(map(id, values_of(params)))


def _group_of_equals(
    function: _Function,
    callspec: Any,
    params: dict[str, Any],
    others: Hashable,
    seen: Parametrizations,
) -> Group:
    """The group of the items whose other parameters are equal to these, if not the same.

    others: the identities of these.
    """
    values: Hashable = tuple([_identity(params[name]) for name in function.others])
    try:
        group = function.groups.get(values)
    except Exception:  # noqa: BLE001  # values of the suite's own are compared: any may come
        values = others
        group = function.groups.get(values)
    if group is None:
        group = function.groups[values] = _new_group(function, callspec, params, seen)
    return group


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


def _is_empty(value: object) -> bool:
    """Whether a parameter stands for an empty set of parameters, of which nothing can ever run."""
    kind = type(value)
    return kind.__name__ == "NotSetType" and kind.__module__.startswith("_pytest.")


def _label(function: _Function, params: dict[str, Any]) -> tuple[str, object]:
    """The label of an item, and what it stands for; of a test over several dtypes, of all."""
    names = function.sampled
    if len(names) > 1:
        # A combination of dtypes is no dtype that a device could be asked for.
        labels = [_label_of_param(function, name, params[name]) for name in names]
        return joined(labels), tuple([params[name] for name in names])
    return _label_of_param(function, names[0], params[names[0]]), params[names[0]]


def _label_of_param(function: _Function, name: str, value: object) -> str:
    label = function.labels_of_params.get(id(value))
    if label is None:
        try:
            label = label_of(value)
        except Exception:  # noqa: BLE001  # of the value's own __str__: any may come
            # A suite that is not to be edited can't mend it: number such values, as pytest's ids.
            label = f"{name}{function.unstable}"
            function.unstable += 1
        function.labels_of_params[id(value)] = label
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
