"""Which dtypes survive which trips on this machine, bit by bit.

`survey(device)` tries them all and returns a `Survey`. torch is imported when it is called for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dtype_sampler.roundtrip.catalogue import Trip
from dtype_sampler.roundtrip.model import Counterexample, Outcome, Policy, Survey

if TYPE_CHECKING:
    from dtype_sampler.roundtrip.devices import find
    from dtype_sampler.roundtrip.engine import survey

__all__ = ["Counterexample", "Outcome", "Policy", "Survey", "Trip", "find", "survey"]

_LAZY = {
    "find": "dtype_sampler.roundtrip.devices",
    "survey": "dtype_sampler.roundtrip.engine",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        from importlib import import_module

        value = globals()[name] = getattr(import_module(_LAZY[name]), name)
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
