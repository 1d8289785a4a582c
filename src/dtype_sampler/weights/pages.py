"""Huge pages for new memory, where the system gives them to those who ask.

Memory that is written to for the first time comes page by page, and for a model of gigabytes that
can take longer than the copying. Torch asks for larger pages only if the environment says so when a
process begins.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# Where Linux says what it does: see Documentation/admin-guide/mm/transhuge.rst of its source.
SETTINGS = Path("/sys/kernel/mm/transparent_hugepage")


def size_of_huge_pages(settings: Path) -> int:
    """How many bytes a huge page has; 0 if asking for one is of no use.

    That is so where there are none, and where all memory comes in them without asking. settings: a
    folder such as `SETTINGS`.
    """
    try:
        asked = "[madvise]" in (settings / "enabled").read_text(encoding="ascii")
        return int((settings / "hpage_pmd_size").read_text(encoding="ascii")) if asked else 0
    except (OSError, ValueError):
        return 0


def ask_for_huge_pages(tensor: torch.Tensor, size: int) -> None:
    """Have new memory of the CPU come in huge pages of so many bytes, as many as fit into it."""
    storage = tensor.untyped_storage()
    start = -(-storage.data_ptr() // size) * size
    stop = (storage.data_ptr() + storage.nbytes()) // size * size
    if start < stop and (advise := _advise()) is not None:
        # What it answers is no matter: the memory is there, in pages of one size or another.
        advise(start, stop - start, mmap.MADV_HUGEPAGE)


@cache
def _advise() -> Callable[[int, int, int], int] | None:
    # Python's own is for the memory that it mapped itself.
    found = getattr(ctypes.CDLL(None), "madvise", None) if sys.platform == "linux" else None
    if found is not None:
        found.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return found
