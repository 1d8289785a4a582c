"""What a device says it supports, against what was measured; for devices that say anything."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dtype_sampler.checks.test_round_trips import trips
from dtype_sampler.roundtrip.catalogue import CLAIMS


@trips(CLAIMS)
def test_claims(device: str, dtype: Any, check: Callable[..., None]) -> None:
    """What is claimed works."""
    check(device, dtype, CLAIMS)
