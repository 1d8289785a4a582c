"""Paths as node ids have them."""

from __future__ import annotations

import os
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path

# Of the ledger, in the root directory.
DEFAULT_LEDGER = ".dtype-ledger.sqlite"


def with_slashes(name: str, separator: str = os.sep) -> str:
    """A node id, a path, or a pattern of them, as it is written in a ledger: a shell on Windows
    completes it with another separator.
    """
    path, colons, rest = name.partition("::")
    return path.replace(separator, "/") + colons + rest


def in_module(key: str, module: str) -> bool:
    """Whether a test is in a module: a file or a folder, by its path or the end of that, or a
    pattern for them, as a shell has it.
    """
    path, wanted = key.partition("::")[0], module.removeprefix("./").rstrip("/")
    while path:
        if fnmatchcase(path, wanted) or fnmatchcase(path, f"*/{wanted}"):
            return True
        path = path.rpartition("/")[0]
    return False


def relative(path: Path, start: Path) -> str:
    """*path* as seen from *start*, with `/`; as it is where no way leads, as between drives."""
    full = os.path.normpath(path)
    with suppress(ValueError):
        full = os.path.relpath(full, start)
    return full.replace(os.sep, "/")
