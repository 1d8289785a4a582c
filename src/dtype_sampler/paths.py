"""Paths as node ids have them."""

from __future__ import annotations

import errno
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


def stat_of(path: Path) -> os.stat_result | None:
    """What is at *path*; None if nothing can be.

    Raises OSError where that can't be told, as of too long a name or in a folder that may not be
    looked into: from Python 3.14 on `Path.exists` and its like say no there.
    """
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    except OSError as error:
        # Links in a circle lead nowhere.
        if error.errno == errno.ELOOP:
            return None
        raise


def relative(path: Path, start: Path) -> str:
    """*path* as seen from *start*, with `/`; as it is where no way leads, as between drives."""
    full = os.path.normpath(path)
    with suppress(ValueError):
        full = os.path.relpath(full, start)
    return full.replace(os.sep, "/")
