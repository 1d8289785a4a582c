"""Node ids that name a test the same however pytest was told to find its file."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from dtype_sampler.paths import relative

if TYPE_CHECKING:
    import pytest


def stable_nodeid(node: pytest.Item | pytest.Collector) -> str:
    """The node id; of a file outside of pytest's root directory, one with a path of its own.

    pytest names such a file after the argument that led there: one test of an installed package is
    `tests/test_fft.py::test`, `test_fft.py::test` or `::test`, and another package's may be too.
    """
    config = node.config
    own = _path_outside(node.path, config.rootpath, config.option.pyargs)
    return node.nodeid if own is None else _with_path(own, node.nodeid)


def _with_path(path: str, nodeid: str) -> str:
    return "".join((path, *nodeid.partition("::")[1:]))


# Of every test that runs; the tests of a file share its path.
@lru_cache(maxsize=1024)
def _path_outside(path: Path, root: Path, pyargs: bool) -> str | None:
    if path.is_relative_to(root):
        return None
    above = path.parent
    while (above / "__init__.py").is_file():
        above = above.parent
    # What is installed is best named as Python finds it: the same on every machine.
    return relative(path, above if pyargs and above != path.parent else root)


def nodeid_of_argument(config: pytest.Config, arg: str) -> str:
    """The stable node id that an argument of pytest means."""
    root, pyargs = config.rootpath, config.option.pyargs
    name = arg.partition("::")[0]
    found = (path_of_module(name) if pyargs else None) or name
    path = Path(os.path.normpath(config.invocation_params.dir / found))
    return _with_path(_path_outside(path, root, pyargs) or relative(path, root), arg)


def argument_of_nodeid(config: pytest.Config, nodeid: str) -> str:
    """A stable node id as what to give to pytest, called from where it was called this time."""
    root, start = config.rootpath, config.invocation_params.dir
    path = nodeid.partition("::")[0]
    if config.option.pyargs:
        module = path.removesuffix(".py").replace("/", ".")
        found = path_of_module(module)
        if found is not None and not (root / path).exists():
            return _with_path(module, nodeid)
    return nodeid if start == root else _with_path(relative(root / path, start), nodeid)


def nodeid_of_module(argument: str) -> str:
    """`a.b.c::test[x]`, as `--pyargs` takes it, as the node id `a/b/c.py::test[x]`."""
    return _with_path(f"{argument.partition('::')[0].replace('.', '/')}.py", argument)


def path_of_module(name: str) -> str | None:
    """The file of a module that can be imported; None if there is none of that name."""
    from importlib.util import find_spec

    try:
        spec = find_spec(name)
    except (ImportError, ValueError):
        # A path, or no module: pytest says so itself.
        return None
    return spec.origin if spec is not None else None
