"""Which test this process is running, for a function that is called without any object of pytest's.

It is no one session's state, so it can't live in a session's stash: a test of a plugin may run
pytest inside itself. Nor is it a context variable, as a test's own threads must find it too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dtype_sampler.session.running import RunningTest

# Innermost last. None stands for a session that runs no test at the moment.
_stack: list[RunningTest | None] = []


@contextmanager
def running(test: RunningTest | None) -> Iterator[None]:
    """Make *test* the one that `random_dtypes` speaks for; with None, there is none."""
    depth = len(_stack)
    _stack.append(test)
    try:
        yield
    finally:
        del _stack[depth:]


def innermost() -> RunningTest | None:
    """The test being run, if the plugin is active and a test runs."""
    return _stack[-1] if _stack else None
