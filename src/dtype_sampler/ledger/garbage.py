"""Python's cyclic garbage collector, while many records are made at once."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Within it nobody looks for garbage in circles.

    Ten thousand new records have the collector look at all that the process holds, again and again,
    and a session of pytest's holds much. Records make no circles, so that there is nothing to find.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
