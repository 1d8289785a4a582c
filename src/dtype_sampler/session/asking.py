"""Which tests will ask for dtypes, told from their code before they run.

Their generators are seeded before their own setup runs, as a seed of the suite's own can be told
from what was there before only then. All other tests are left alone.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

_NAME = "random_dtypes"
_API = "dtype_sampler.session.api"
# What runs before a test method, by unittest's names and by pytest's.
_SETUP = ("setUp", "asyncSetUp", "setup_method", "setup_function")
_METHODS = (MethodType, staticmethod, classmethod)


def asks(item: pytest.Item) -> bool:
    """Whether this test asks for dtypes, as far as its code tells.

    By the fixture, or by a call of the function: in the test, in its fixtures and setup, or in what
    these call of the same module, of the class, and of modules that know the function.
    """
    if _NAME in getattr(item, "fixturenames", ()):
        return True
    cls = getattr(item, "cls", None)
    name = getattr(item, "originalname", None) or item.name
    # Not a method's own `obj`: that would make an instance of unittest's class.
    test = getattr(item, "obj", None) if cls is None else inspect.getattr_static(cls, name, None)
    if _NAME not in vars(sys.modules["dtype_sampler"]):
        # Nobody has imported it yet, but the test itself may.
        return any(_NAME in _names(one.__code__) for one in _functions(test))
    roots = [test, *_fixtures(item)]
    roots += [inspect.getattr_static(cls, name, None) for name in _SETUP if cls is not None]
    return _lead_to_it(roots, cls)


def _fixtures(item: Any) -> Iterator[Any]:
    info = getattr(item, "_fixtureinfo", None)
    for definitions in getattr(info, "name2fixturedefs", {}).values():
        yield from (one.func for one in definitions if one.scope == "function")


def _lead_to_it(roots: list[Any], cls: type | None) -> bool:
    todo, seen = list(roots), set[CodeType]()
    while todo:
        for function in _functions(todo.pop()):
            code, known = function.__code__, function.__globals__
            if code in seen:
                continue
            seen.add(code)
            names = _names(code)
            if _NAME in names or any(_is_ours(known.get(name)) for name in names):
                return True
            todo += _called(names, known, cls)
    return False


def _called(names: frozenset[str], known: Mapping[str, Any], cls: type | None) -> Iterator[Any]:
    """The functions that code with these names may call, and that may lead to ours."""
    for name in names:
        if cls is not None:
            yield inspect.getattr_static(cls, name, None)
        value = known.get(name)
        if isinstance(value, ModuleType) and _know_it(vars(value)):
            yield from (vars(value).get(one) for one in names)
        elif any(_know_it(one.__globals__) for one in _functions(value)):
            yield value


def _know_it(known: Mapping[str, Any]) -> bool:
    return any(_is_ours(value) for value in known.values())


def _is_ours(value: Any) -> bool:
    if isinstance(value, ModuleType):
        return value.__name__ == "dtype_sampler"
    return type(value).__module__ == _API and value.__name__ == _NAME


def _functions(value: Any) -> Iterator[FunctionType]:
    """The function behind a method of whatever kind, and those that its decorators wrap."""
    value = value.__func__ if isinstance(value, _METHODS) else value
    met: list[FunctionType] = []
    while isinstance(value, FunctionType) and value not in met:
        met.append(value)
        value = getattr(value, "__wrapped__", None)
    return iter(met)


def _names(code: CodeType) -> frozenset[str]:
    """The names that code refers to, in functions inside it too."""
    inner = [_names(one) for one in code.co_consts if isinstance(one, CodeType)]
    return frozenset(code.co_names).union(*inner)
