"""Which test this process is running, for a function that is called without any object of pytest's.

It is no one session's state, so it can't live in a session's stash: a test of a plugin may run
pytest inside itself. Nor is it a context variable, as a test's own threads must find it too.
"""

from __future__ import annotations

from typing import Protocol


class Test(Protocol):
    """What the stack knows of a test: that it runs. The rest is `running.RunningTest`'s."""

    @property
    def nodeid(self) -> str:
        """What replays it."""


# Innermost last. None stands for a session that runs no test at the moment.
_stack: list[Test | None] = []


class running:  # noqa: N801  # as contextlib's own are called
    """Within it *test* is the one that `random_dtypes` speaks for; with None, there is none."""

    __slots__ = ("_depth", "_test")

    # Not a generator with `contextmanager`: every test enters it, and that takes ten times as long.

    def __init__(self, test: Test | None) -> None:
        self._test = test
        self._depth = 0

    def __enter__(self) -> None:
        self._depth = len(_stack)
        _stack.append(self._test)

    def __exit__(self, *_: object) -> None:
        del _stack[self._depth :]


def innermost() -> Test | None:
    """The test being run, if the plugin is active and a test runs."""
    return _stack[-1] if _stack else None
