"""What pytest's configuration says of the ledger, for commands: they run no pytest.

The file is found and read as pytest does that is called in the same folder without arguments. What
`-c`, `--rootdir` and `-o` would change is not seen.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import iniconfig  # which pytest brings

from dtype_sampler.errors import DtypeSamplerError

# Of each name the sections that pytest reads, in the order in which it looks for files. A file of
# the first kind is the configuration also where it holds none of them.
_OWN: Mapping[str, tuple[str, ...]] = {
    "pytest.toml": ("pytest",),
    ".pytest.toml": ("pytest",),
    "pytest.ini": ("pytest",),
    ".pytest.ini": ("pytest",),
}
_SHARED: Mapping[str, tuple[str, ...]] = {
    "pyproject.toml": ("tool.pytest", "tool.pytest.ini_options"),
    "tox.ini": ("pytest",),
    "setup.cfg": ("tool:pytest",),
}


class Configuration(NamedTuple):
    """What pytest goes by. root: its root directory. file: None if there is none."""

    root: Path
    file: Path | None
    values: Mapping[str, str]


def configuration(folder: Path) -> Configuration:
    """The configuration of a pytest that is called in *folder*. Raises DtypeSamplerError for a file
    that pytest could not read either.
    """
    here = folder.resolve()
    around = (here, *here.parents)
    for place in around:
        for name in (*_OWN, *_SHARED):
            path = place / name
            if path.is_file():
                values = _values(path)
                if values is not None:
                    return Configuration(place, path, values)
    # Without any, these say where a project begins.
    for name in ("pyproject.toml", "setup.py"):
        for place in around:
            if (place / name).is_file():
                return Configuration(place, None, {})
    return Configuration(here, None, {})


def _values(path: Path) -> Mapping[str, str] | None:
    """What a file says; None if it says nothing to pytest."""
    sections = _OWN.get(path.name) or _SHARED[path.name]
    try:
        if path.suffix == ".toml":
            told = tomllib.loads(path.read_text(encoding="utf-8"))
            found = [_table(told, name.split(".")) for name in sections]
        else:
            parsed = iniconfig.IniConfig(str(path))
            found = [dict(parsed[name].items()) if name in parsed else None for name in sections]
    except (OSError, ValueError, iniconfig.ParseError) as error:
        said = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise DtypeSamplerError(f"{path}: can't be read, by pytest neither: {said}") from None
    values = {
        key: str(value)
        for some in found
        for key, value in (some or {}).items()
        if not isinstance(value, list | dict)
    }
    is_empty = all(some is None for some in found)
    return None if is_empty and path.name not in _OWN else values


def _table(told: Any, names: list[str]) -> dict[str, Any] | None:
    for name in names:
        told = told.get(name) if isinstance(told, dict) else None
    return told if isinstance(told, dict) else None
