"""Names that somebody has given and that no test has."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from dtype_sampler.sampling.plan import WIRE

# The labels that the items of this process's tests declare, kept where `--dtype-only` needs them.
DECLARED = pytest.StashKey[list[str]]()
# The arguments of this process's tests, as `parametrization.Parametrizations` has them.
ARGUMENTS = pytest.StashKey[dict[str, bool]]()
ARGUMENTS_WIRE = f"{WIRE}_arguments"


def unknown_labels(config: pytest.Config, only: Iterable[str], used: Iterable[str]) -> list[str]:
    """What to say of names in `--dtype-only` that no test declares.

    used: the labels of tests that have run, and of those that workers have collected.
    """
    from dtype_sampler.sampling.naming import unknown_names

    return unknown_names(tuple(only), [*used, *config.stash.get(DECLARED, ())])


def unmatched_arguments(
    config: pytest.Config, names: tuple[str, ...], of_workers: Mapping[str, bool]
) -> list[str]:
    """What to say of names that match nothing, where all of the suite was looked at.

    A part of a suite may well have no such test. of_workers: the arguments of their tests.
    """
    own = config.stash.get(ARGUMENTS, dict[str, bool]())
    arguments = dict(of_workers) | own
    if not (arguments and names and _collects_all(config)):
        return []
    from dtype_sampler.session.parametrization import unmatched

    return unmatched(names, arguments)


def _collects_all(config: pytest.Config) -> bool:
    """Whether pytest was asked to collect all that it collects of itself."""
    options = ("ignore", "ignore_glob", "lf")
    if any(config.getoption(name, None) for name in options):
        return False
    reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
    errors = [] if reporter is None else reporter.stats.get("error", [])
    if any(isinstance(report, pytest.CollectReport) for report in errors):
        # What can't be imported may have them; a test whose setup fails was looked at.
        return False
    if config.args_source is config.ArgsSource.TESTPATHS:
        return True
    root, start = config.rootpath, config.invocation_params.dir
    whole = [root / path for path in config.getini("testpaths")] or [root]
    named = [Path(os.path.normpath(start / arg)) for arg in config.args]
    return all(any(path.is_relative_to(one) for one in named) for path in whole)
