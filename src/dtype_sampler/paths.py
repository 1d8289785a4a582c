"""Paths as node ids have them."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

# Of the ledger, in the root directory.
DEFAULT_LEDGER = ".dtype-ledger.sqlite"


def with_slashes(name: str, separator: str = os.sep) -> str:
    """A node id, a path, or a pattern of them, as it is written in a ledger: a shell on Windows
    completes it with another separator.
    """
    path, colons, rest = name.partition("::")
    return path.replace(separator, "/") + colons + rest


def relative(path: Path, start: Path) -> str:
    """*path* as seen from *start*, with `/`; as it is where no way leads, as between drives."""
    full = os.path.normpath(path)
    with suppress(ValueError):
        full = os.path.relpath(full, start)
    return full.replace(os.sep, "/")
