"""Run a small sample of each test's dtypes per run, replay any of them, run all on demand.

This module is the pytest plugin `dtype_sampler` and the home of the public names. pytest looks for
hooks in it, so it imports nothing heavy: torch, hypothesis, safetensors and sqlite3 stay out until
a test needs them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.session.choosing import (
    pytest_generate_tests,
    pytest_make_collect_report,
    pytest_plugin_registered,
)
from dtype_sampler.session.executing import (
    pytest_collection_finish,
    pytest_fixture_setup,
    pytest_runtest_call,
    pytest_runtest_makereport,
    pytest_runtest_protocol,
    pytest_runtest_setup,
)
from dtype_sampler.session.hooks import (
    dtype_seed_fixture,
    pytest_addhooks,
    pytest_addoption,
    pytest_configure,
    pytest_configure_node,
    pytest_load_initial_conftests,
    random_dtypes_fixture,
)

if TYPE_CHECKING:
    from dtype_sampler.sampling.sample import DtypeSample
    from dtype_sampler.session.api import random_dtypes
    from dtype_sampler.session.hookspecs import CellOutcome

__version__ = "0.1.0"

__all__ = [
    "CellOutcome",
    "DtypeSample",
    "DtypeSamplerError",
    "__version__",
    "dtype_seed_fixture",
    "pytest_addhooks",
    "pytest_addoption",
    "pytest_collection_finish",
    "pytest_configure",
    "pytest_configure_node",
    "pytest_fixture_setup",
    "pytest_generate_tests",
    "pytest_load_initial_conftests",
    "pytest_make_collect_report",
    "pytest_plugin_registered",
    "pytest_runtest_call",
    "pytest_runtest_makereport",
    "pytest_runtest_protocol",
    "pytest_runtest_setup",
    "random_dtypes",
    "random_dtypes_fixture",
]

_LAZY = {
    "random_dtypes": "dtype_sampler.session.api",
    "CellOutcome": "dtype_sampler.session.hookspecs",
    "DtypeSample": "dtype_sampler.sampling.sample",
}


# Only __getattr__, no __dir__: pytest looks at every name that dir() lists when it scans a plugin
# for fixtures, and would import what is to stay lazy.
def __getattr__(name: str) -> Any:
    if name in _LAZY:
        from importlib import import_module

        value = globals()[name] = getattr(import_module(_LAZY[name]), name)
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
