"""Tests that the package `parameterized` has made of one, before pytest saw any of them.

`@parameterized.expand` puts a function for each row of parameters into the class, and
`@parameterized_class` a class for each into the module. Nothing is public of what they were given,
but it can be read without a guess: the former from what the function encloses, the latter from what
the class has and the one that it was made of has not. What does not look exactly so is left alone.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import pytest

from dtype_sampler.session.nodeids import stable_nodeid

_MODULE = "parameterized.parameterized"
# The modules whose `patch` hands mocks to a test.
_MOCKS = ("unittest.mock", "mock.mock")
_ABSENT = object()
# Arguments that take any number of values, and that have no name of their own.
_SEVERAL: Mapping[object, str] = {
    inspect.Parameter.VAR_POSITIONAL: "*",
    inspect.Parameter.VAR_KEYWORD: "**",
}


@dataclass(frozen=True, slots=True)
class Variant:
    """What one test stands for, of those that were made of one.

    where: the same for all of them, and for no others, as long as they are there. nodeid: of the
    test that they were made of. params: by name, what this one has. by_class: how many of these,
    from the first on, its class has. titles: the names of those that may just be there to be read.
    """

    where: tuple[Hashable, ...]
    nodeid: str
    params: Mapping[str, Any]
    by_class: int = 0
    titles: tuple[str, ...] = ()


def in_use() -> bool:
    """Whether anything may have been made so: a module that needs the package has imported it."""
    return _MODULE in sys.modules


class Variants:
    """The tests of one collection that were made of one, with an argument that is wanted."""

    def __init__(self, is_wanted: Callable[[str], bool]) -> None:
        self._is_wanted = is_wanted
        # The items are kept, as an identity lasts as long as what it is of.
        self._met: dict[tuple[Hashable, ...], list[tuple[pytest.Function, Variant]]] = {}
        self._of_items: dict[int, Variant] = {}
        self._nodeids: dict[str, set[tuple[Hashable, ...]]] = {}
        # By the identity of the module's node, and the class that they were made of.
        self._classes: dict[tuple[int, type], list[type]] = {}
        # Each class has many tests, and each function that many were made of one signature.
        self._made_of: dict[type, tuple[type, dict[str, Any]] | None] = {}
        self._signatures: dict[FunctionType, inspect.Signature] = {}

    def note(self, collector: pytest.Collector, nodes: Sequence[object]) -> None:
        """Keep what a collector has made, before any of it is left out."""
        for node in nodes:
            if isinstance(node, pytest.Class):
                cls = node.obj
                if (made := self._class(cls)) is not None:
                    self._classes.setdefault((id(collector), made[0]), []).append(cls)
            elif isinstance(node, pytest.Function) and (found := self._read(node)) is not None:
                self._met.setdefault(found.where, []).append((node, found))
                self._of_items[id(node)] = found
                self._nodeids.setdefault(found.nodeid, set()).add(found.where)

    def of(self, item: pytest.Function) -> Variant | None:
        """What a test stands for; None if it was not made so, or that can't be told for sure."""
        found = self._of_items.get(id(item)) or self._read(item)
        # A class may have what was made of another's test of that name: what is meant by it then?
        if found is None or len(self._nodeids.get(found.nodeid, ())) > 1:
            return None
        return found

    def has_noted(self, item: pytest.Function) -> bool:
        """Whether a collector has made it, and all that belong to it."""
        return id(item) in self._of_items

    def rows(self, variant: Variant) -> list[Mapping[str, Any]]:
        """The parameters of each that was made of the same test, also where not all are to run."""
        met = self._met.get(variant.where, [(None, variant)])
        if not variant.by_class:
            return [found.params for _, found in met]
        # All classes have the same tests, and those of the others need not have been looked at.
        first = met[0][0]
        own = {
            id(found): dict([*found.params.items()][found.by_class :])
            for item, found in met
            if first is None or item is None or item.cls is first.cls
        }
        where, base, *_ = variant.where
        assert isinstance(where, int)
        assert isinstance(base, type)
        classes = self._classes.get((where, base), ())
        return [{**attributes(cls, base), **some} for cls in classes for some in own.values()]

    def _read(self, item: pytest.Function) -> Variant | None:
        cls, name = item.cls, item.originalname
        parent: Any = item.parent
        # Not a method's own `obj`: that would make an instance of unittest's class.
        made = inspect.getattr_static(cls, name, None) if cls is not None else item.obj
        function, params, titles = name, dict[str, Any](), tuple[str, ...]()
        which: Hashable = None
        if (read := _read_function(made, self._signature, method=cls is not None)) is not None:
            function, which, params, titles = read
        base: type | None = None
        by_class: dict[str, Any] = {}
        of_class = None if cls is None else self._class(cls)
        if of_class is not None and any(map(self._is_wanted, of_class[1])):
            base, by_class = of_class
            # In the place of its class stands the one that this was made of.
            parent, function = parent.parent, f"{base.__name__}::{function}"
            titles = (*titles, *_title_of_class(by_class))
        if not any(map(self._is_wanted, (*by_class, *params))):
            return None
        where = (id(parent), base, function, which)
        nodeid = f"{stable_nodeid(parent)}::{function}"
        return Variant(where, nodeid, {**by_class, **params}, len(by_class), titles)

    def _class(self, cls: type) -> tuple[type, dict[str, Any]] | None:
        """What a class was made of, and what it was given."""
        if cls not in self._made_of:
            base = class_made_of(cls)
            self._made_of[cls] = None if base is None else (base, attributes(cls, base))
        return self._made_of[cls]

    def _signature(self, function: FunctionType) -> inspect.Signature:
        if function not in self._signatures:
            self._signatures[function] = inspect.signature(function)
        return self._signatures[function]


def only_to_be_read(
    rows: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    identity: Callable[[Any], Hashable],
) -> set[str]:
    """Which of these parameters say nothing that the others don't: names of the rows.

    In `("half", torch.float16), ("bf16", torch.bfloat16)` the first is just what the test is called
    by. names: those that may be. identity: something that is equal for equal parameters.
    """
    found: set[str] = set()
    for name in names:
        if not all(isinstance(row.get(name), str) for row in rows):
            continue
        left = [[key for key in row if key not in (*found, name)] for row in rows]
        try:
            different = {
                tuple((key, identity(row[key])) for key in keys)
                for row, keys in zip(rows, left, strict=True)
            }
        except Exception:  # noqa: BLE001  # values of the suite's own are compared: any may come
            return found
        if len(different) == len(rows):
            found.add(name)
    return found


def _read_function(
    made: object, signature_of: Callable[[FunctionType], inspect.Signature], *, method: bool
) -> tuple[str, Hashable, dict[str, Any], tuple[str, ...]] | None:
    """Of a function made by `expand`: the name and the identity of what it was made of, its
    parameters, and which of these its name shows.
    """
    before = 0
    for one in _wrapped(made):
        if one.__globals__.get("__name__") == _MODULE:
            break
        # A class that is patched as a whole hands its mocks in first.
        if (number := _mocks_of(one)) is None:
            return None
        before += number
    else:
        return None
    cells = zip(one.__code__.co_freevars, one.__closure__ or (), strict=False)
    try:
        inside = {name: cell.cell_contents for name, cell in cells}
    except ValueError:
        return None
    row, original = inside.get("p"), getattr(one, "place_as", None)
    args, kwargs = getattr(row, "args", None), getattr(row, "kwargs", None)
    if not (isinstance(args, tuple) and isinstance(kwargs, dict)):
        return None
    after = [_mocks_of(inner) for inner in _wrapped(original)]
    *_, innermost = [None, *_wrapped(original)]
    if innermost is None or None in after:
        return None
    try:
        signature = signature_of(innermost)
        bound = signature.bind_partial(*[None] * (method + before), *args, **kwargs)
    except (TypeError, ValueError):
        return None
    given: dict[str, Any] = {}
    lacking = 0
    for place, (name, parameter) in enumerate(signature.parameters.items()):
        if name in bound.arguments:
            if place >= method + before:
                # What takes any number of arguments is not the one that its name says.
                given[_SEVERAL.get(parameter.kind, name)] = bound.arguments[name]
        elif parameter.default is not parameter.empty:
            given[name] = parameter.default
        elif parameter.kind not in _SEVERAL:
            lacking += 1
    if lacking != sum(number or 0 for number in after):
        # Another decorator has a hand in what the test is called with: who knows in which place.
        return None
    titles = tuple(given)[:1] if args and isinstance(args[0], str) else ()
    return str(getattr(original, "__name__", "")), innermost, given, titles


def _wrapped(function: object) -> Iterator[FunctionType]:
    """A function, and those that its decorators wrap."""
    met: list[FunctionType] = []
    while isinstance(function, FunctionType) and function not in met:
        met.append(function)
        function = getattr(function, "__wrapped__", None)
    return iter(met)


def _mocks_of(function: FunctionType) -> int | None:
    """How many mocks `patch` hands in, in the order of arguments; None if in another way."""
    if function.__globals__.get("__name__") not in _MOCKS:
        return 0
    patchings = getattr(function, "patchings", ())
    if any(getattr(one, "attribute_name", None) is not None for one in patchings):
        return None
    handed = function.__globals__.get("DEFAULT", _ABSENT)
    return sum(getattr(one, "new", None) is handed for one in patchings)


def class_made_of(cls: type) -> type | None:
    """The class that `parameterized_class` has made this one of, if it has.

    It takes the tests out of that class, and into each that it makes of it.
    """
    if len(cls.__bases__) != 1:
        return None
    (base,) = cls.__bases__
    if base.__module__ != cls.__module__ or base.__qualname__ == cls.__qualname__:
        return None
    tests = [
        value
        for name, value in vars(cls).items()
        if name.startswith("test") and isinstance(value, FunctionType)
    ]
    mine = f"{base.__qualname__}."
    if not tests or any(not one.__qualname__.startswith(mine) for one in tests):
        return None
    kept = [name for name in vars(base) if not name.startswith("__")]
    if any(name.startswith("test") or name not in vars(cls) for name in kept):
        return None
    return base


def attributes(cls: type, base: type) -> dict[str, Any]:
    """What `parameterized_class` has given to a class that it has made of another."""
    before = vars(base)
    return {
        name: value
        for name, value in vars(cls).items()
        if not name.startswith(("_", "test")) and before.get(name, _ABSENT) is not value
    }


def _title_of_class(given: Mapping[str, Any]) -> tuple[str, ...]:
    """The one that the name of the class shows."""
    strings = [name for name, value in given.items() if isinstance(value, str)]
    return ("name",) if "name" in given else tuple(strings[:1])
