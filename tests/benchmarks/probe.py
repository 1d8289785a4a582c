"""A pytest plugin for the measured process: how long collection took, and whose time it was.

`-p tests.benchmarks.probe --probe-json=PATH`. What is counted runs from the start of
`pytest_collection` to the start of `pytest_collection_finish`, so that printing is left out. The
plugin's own time is the processor time inside its implementations of `pytest_generate_tests` and
`pytest_collection_modifyitems`, without what runs inside the latter's `yield`. Garbage collections
count for whoever's allocations set them off.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import pytest

PLUGIN = "dtype_sampler"


class Probe:
    """The clocks of one session."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.own = 0.0
        self.begin = (0.0, 0.0)
        self.collected = 0

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self, session: pytest.Session) -> None:
        manager = session.config.pluginmanager
        for name in ("pytest_generate_tests", "pytest_collection_modifyitems"):
            for implementation in getattr(manager.hook, name).get_hookimpls():
                # Of every room of it: some hooks are registered under names of their own.
                if implementation.function.__module__.partition(".")[0] == PLUGIN:
                    timed = self._wrapper if implementation.wrapper else self._plain
                    implementation.function = timed(implementation.function)
        self.begin = perf_counter(), process_time()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(
        self, items: list[pytest.Item]
    ) -> Generator[None, object, object]:
        self.collected = len(items)
        return (yield)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        wall, cpu = perf_counter() - self.begin[0], process_time() - self.begin[1]
        result = {
            "wall": wall,
            "cpu": cpu,
            "own": self.own,
            "collected": self.collected,
            "kept": len(session.items),
        }
        self.path.write_text(json.dumps(result))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self) -> bool:
        """Run nothing: with `--collect-only` no sample would be taken."""
        return True

    def _plain(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any) -> Any:
            start = process_time()
            try:
                return function(*args)
            finally:
                self.own += process_time() - start

        return timed

    def _wrapper(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any) -> Generator[None, object, object]:
            start = process_time()
            generator = function(*args)
            next(generator)
            self.own += process_time() - start
            inner = yield
            start = process_time()
            try:
                generator.send(inner)
            except StopIteration as stop:
                return stop.value
            finally:
                self.own += process_time() - start
            raise AssertionError("a hook wrapper yields once")

        return timed


class Dropping:
    """What a conftest.py of three lines does: drop as many items, by their position alone."""

    def __init__(self, keep: int, of: int) -> None:
        self.keep, self.of = keep, of

    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        config.hook.pytest_deselected(
            items=[one for at, one in enumerate(items) if at % self.of >= self.keep]
        )
        items[:] = [one for at, one in enumerate(items) if at % self.of < self.keep]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--probe-json", type=Path, required=True)
    parser.addoption("--probe-torch", action="store_true", help="import torch before the clock")
    parser.addoption("--probe-keep", type=int, nargs=2, metavar=("K", "N"), help="drop the rest")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--probe-torch"):
        import torch  # noqa: F401
    config.pluginmanager.register(Probe(config.getoption("--probe-json")), "probe-clocks")
    if keep := config.getoption("--probe-keep"):
        config.pluginmanager.register(Dropping(*keep), "probe-dropping")
