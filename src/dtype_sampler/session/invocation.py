"""How this pytest was called, as far as replay lines have to say it again."""

from __future__ import annotations

import os
import shlex
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from dtype_sampler.session.arguments import carried, read

if TYPE_CHECKING:
    from argparse import ArgumentParser

    import pytest

# The name of this plugin, for `-p`.
_OURS = "dtype_sampler"


def for_replays(config: pytest.Config, addopts: str) -> dict[str, Any]:
    """What `replay.lines` takes of it, by the names of its arguments.

    addopts: what `PYTEST_ADDOPTS` held when pytest read it.
    """
    parser, folder = _parser_of(config), config.invocation_params.dir
    typed = [os.fspath(word) for word in config.invocation_params.args]
    found = carried(
        read(parser, typed, folder),
        read(parser, shlex.split(addopts), folder),
        read(parser, config.getini("addopts"), folder),
        parser._option_string_actions,  # noqa: SLF001  # argparse has no public way to list them
    )
    options = found.options
    plugins = [name for name in os.environ.get("PYTEST_PLUGINS", "").split(",") if name]
    if os.environ.get("PYTEST_DISABLE_PLUGIN_AUTOLOAD"):
        plugins.append(_OURS)
    elif "--disable-plugin-autoload" not in options and _is_installed():
        options = [one for one in options if one != f"-p {_OURS}"]
    options += [f"-p {name}" for name in plugins if f"-p {name}" not in options]
    # Only a POSIX shell can set a variable for one command in front of it.
    clear = found.clear and os.name == "posix"
    return {
        "common": options,
        "filters": found.filters,
        "overriding": found.overriding,
        "program": "PYTEST_ADDOPTS= pytest" if clear else "pytest",
    }


def _is_installed() -> bool:
    """Whether pytest finds this plugin by itself, and not only where somebody names it."""
    return any(one.name == _OURS for one in entry_points(group="pytest11"))


def _parser_of(config: pytest.Config) -> ArgumentParser:
    """The parser that took the command line; pytest has no public way to ask it."""
    parser: Any = config._parser  # noqa: SLF001
    # pytest 9 keeps it; before, it is made for each use.
    found: ArgumentParser = (
        parser.optparser if not hasattr(parser, "_getparser") else parser._getparser()  # noqa: SLF001
    )
    return found
