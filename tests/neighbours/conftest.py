"""Real runs beside the real packages of others: one file for each, and `tox run -e neighbours`.

Each test asserts on the ledger, not on the outcome alone: a run can be green and its books wrong.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import closing
from importlib.metadata import PackageNotFoundError, distribution, distributions
from pathlib import Path

import pytest

from dtype_sampler.ledger.outcomes import VERDICTS
from dtype_sampler.ledger.sqlite import SqliteStore
from dtype_sampler.paths import DEFAULT_LEDGER

OURS = "pytest-dtype-sampler"


def plugins_of(name: str) -> set[str]:
    """The names under which pytest finds the plugins of an installed package."""
    return {one.name for one in distribution(name).entry_points if one.group == "pytest11"}


def installed_plugins() -> set[str]:
    """The names of all plugins that pytest would load here by itself."""
    return {
        one.name
        for package in distributions()
        for one in package.entry_points
        if one.group == "pytest11"
    }


class Neighbourhood:
    """A project, whose runs have this plugin and those of the packages that a test names."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.path = pytester.path
        self._pytester = pytester

    def file(self, name: str, source: str) -> Path:
        return self._pytester.makepyfile(**{name: source})

    def ini(self, **keys: str) -> None:
        lines = [f"{key} = {value}" for key, value in keys.items()]
        self._pytester.makeini("\n".join(["[pytest]", *lines]))

    def run(self, *args: str, packages: tuple[str, ...] = ()) -> pytest.RunResult:
        """pytest in a process of its own, with this plugin and those of *packages* alone.

        Skips the test if one is not installed, but in its own tox environment, where it must be.
        """
        wanted = {"dtype_sampler"}
        for package in packages:
            try:
                wanted |= plugins_of(package)
            except PackageNotFoundError:
                if os.environ.get("TOX_ENV_NAME") == "neighbours":
                    raise
                pytest.skip(f"needs {package}: tox run -e neighbours")
        # pytest loads all that is installed, as everywhere; what is not meant is kept out by name.
        out = [f"-pno:{name}" for name in sorted(installed_plugins() - wanted)]
        return self._pytester.run(sys.executable, "-m", "pytest", *out, *args)

    def books(self, run: int = -1) -> dict[str, dict[str, str]]:
        """What the ledger says of a run, the last one by default: key -> label -> outcome."""
        found: dict[str, dict[str, str]] = {}
        with closing(self.ledger()) as store:
            for one in store.observations(store.runs()[run].uid):
                found.setdefault(one.cell.key, {})[one.cell.label] = one.outcome
        return found

    def verdicts(self) -> dict[str, dict[str, str]]:
        """The last verdict of every cell, over all runs: key -> label -> outcome."""
        found: dict[str, dict[str, str]] = {}
        with closing(self.ledger()) as store:
            for one in store.cells():
                if one.verdict is not None:
                    assert one.verdict.outcome in VERDICTS
                    found.setdefault(one.cell.key, {})[one.cell.label] = one.verdict.outcome
        return found

    def declared(self) -> Mapping[str, tuple[str, ...]]:
        """What each test declares, by its key."""
        with closing(self.ledger()) as store:
            return {test.key: test.declared for test in store.tests()}

    def ledger(self) -> SqliteStore:
        return SqliteStore.open(self.path / DEFAULT_LEDGER)


@pytest.fixture
def neighbourhood(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Neighbourhood:
    for name in tuple(os.environ):
        # What other runs were told, and what decides colour and width, is not of this one.
        if name.startswith(("DTYPE_SAMPLER_", "PYTEST_")) and name != "PYTEST_CURRENT_TEST":
            monkeypatch.delenv(name)
        if name in ("FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "COLUMNS"):
            monkeypatch.delenv(name)
        # The processes are those of a user: nothing measures them.
        if name.startswith("COVERAGE_PROCESS_"):
            monkeypatch.delenv(name)
    return Neighbourhood(pytester)
