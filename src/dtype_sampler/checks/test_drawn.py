"""Tensors that Hypothesis draws: shapes and layouts that the survey has not, and more values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dtype_sampler.checks.test_round_trips import trips

DRAWN = "drawn"


@trips(DRAWN)
def test_drawn(device: str, dtype: Any, check_drawn: Callable[..., None]) -> None:
    """Copies keep every bit, and casts round rightly, whatever the values, shape and layout."""
    check_drawn(device, dtype)
