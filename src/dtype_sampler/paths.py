"""Paths as node ids have them."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

# Of the ledger, in the root directory.
DEFAULT_LEDGER = ".dtype-ledger.sqlite"


def relative(path: Path, start: Path) -> str:
    """*path* as seen from *start*, with `/`; as it is where no way leads, as between drives."""
    full = os.path.normpath(path)
    with suppress(ValueError):
        full = os.path.relpath(full, start)
    return full.replace(os.sep, "/")


def nodeid_of_module(argument: str) -> str:
    """`a.b.c::test[x]`, as `--pyargs` takes it, as the node id `a/b/c.py::test[x]`."""
    module, separator, rest = argument.partition("::")
    return f"{module.replace('.', '/')}.py{separator}{rest}"


def module_of_nodeid(nodeid: str) -> str:
    """The inverse of `nodeid_of_module`."""
    path, separator, rest = nodeid.partition("::")
    return f"{path.removesuffix('.py').replace('/', '.')}{separator}{rest}"
