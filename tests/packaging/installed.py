"""Proves that the package comes from where packages are installed; as a module and as a plugin."""

from __future__ import annotations

import importlib.metadata
import sys
import sysconfig
from pathlib import Path

import pytest


def problem() -> str | None:
    """What is wrong with the package that Python finds here; None if nothing is."""
    import dtype_sampler

    installed = Path(sysconfig.get_path("purelib")).resolve()
    places = [Path(place).resolve() for place in sys.path]
    holders = [place for place in places if (place / "dtype_sampler").is_dir()]
    if set(holders) != {installed}:
        return f"dtype_sampler is found in {', '.join(map(str, holders))}, not in {installed} alone"
    found = Path(dtype_sampler.__file__).resolve()
    if not found.is_relative_to(installed):
        return f"dtype_sampler was imported from {found}, not from {installed}"
    if not (found.parent / "py.typed").exists():
        return "the installed package has no py.typed"
    distribution = importlib.metadata.distribution("pytest-dtype-sampler")
    if '"editable": true' in (distribution.read_text("direct_url.json") or ""):
        return "the package is installed as an editable one"
    (entry,) = distribution.entry_points.select(group="pytest11")
    if entry.load() is not dtype_sampler:
        return f"the entry point {entry.value} is another module"
    if distribution.version != dtype_sampler.__version__:
        return f"version {distribution.version} says that it is {dtype_sampler.__version__}"
    return None


def pytest_configure() -> None:
    if wrong := problem():
        raise pytest.UsageError(wrong)


def pytest_report_header() -> str:
    import dtype_sampler

    return f"dtype_sampler: {dtype_sampler.__file__}"


if __name__ == "__main__":
    if wrong := problem():
        raise SystemExit(wrong)
    print(pytest_report_header())
