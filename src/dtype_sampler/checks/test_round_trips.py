"""Each item reports one kind of trips of one dtype on one device; the device is surveyed once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from dtype_sampler.roundtrip.catalogue import (
    CONVERSION,
    CROSSING,
    EMBEDDING,
    EXCHANGE,
    INDEPENDENCE,
    LAYOUTS,
    NAMES,
    NARROWING,
    SIZES,
    TRANSPORT,
    VIEWS,
)

TestT = TypeVar("TestT", bound=Callable[..., None])


def trips(kind: str) -> Callable[[TestT], TestT]:
    """A test of this kind of trips: conftest parametrizes it by device and dtype."""

    def mark(test: TestT) -> TestT:
        test.trips = kind  # type: ignore[attr-defined]  # functions take attributes
        return test

    return mark


@trips(TRANSPORT)
def test_transport(device: str, dtype: Any, check: Callable[..., None]) -> None:
    """Copies, files and exchange formats keep every bit."""
    check(device, dtype, TRANSPORT)


@trips(EMBEDDING)
def test_embedding(device: str, dtype: Any, check: Callable[..., None]) -> None:
    """Widened to a dtype that holds all its values, and narrowed back, nothing changes."""
    check(device, dtype, EMBEDDING)


@trips(NARROWING)
def test_narrowing(device: str, dtype: Any, check: Callable[..., None]) -> None:
    """Casts to floating-point dtypes round to nearest, ties to even."""
    check(device, dtype, NARROWING)


@trips(CONVERSION)
def test_conversion(device: str, dtype: Any, check: Callable[..., None]) -> None:
    """Casts to integers cut off toward zero or wrap around, and what is not zero is True."""
    check(device, dtype, CONVERSION)


@trips(CROSSING)
def test_crossing(device: str, dtype: Any, check: Callable[..., None]) -> None:
    """Copied and cast in one, a value is what the cast alone makes of it."""
    check(device, dtype, CROSSING)


@trips(LAYOUTS)
def test_layouts(device: str, dtype: Any, check: Callable[..., None]) -> None:
    """Copies keep every bit of tensors of any shape, stride and offset."""
    check(device, dtype, LAYOUTS)


@trips(VIEWS)
def test_views(device: str, dtype: Any, check: Callable[..., None]) -> None:
    """Conjugate and negative views arrive as what they stand for."""
    check(device, dtype, VIEWS)


@trips(SIZES)
def test_sizes(device: str, dtype: Any, check: Callable[..., None]) -> None:
    """Copies of many megabytes keep every bit."""
    check(device, dtype, SIZES)


@trips(EXCHANGE)
def test_exchange(device: str, dtype: Any, check: Callable[..., None]) -> None:
    """Other libraries, and other ways to copy, keep every bit."""
    check(device, dtype, EXCHANGE)


@trips(NAMES)
def test_names(device: str, dtype: Any, check: Callable[..., None]) -> None:
    """The dtype's names lead to it, in torch, safetensors and numpy."""
    check(device, dtype, NAMES)


@trips(INDEPENDENCE)
def test_independence(device: str, dtype: Any, check: Callable[..., None]) -> None:
    """A cast does not depend on layout, position and neighbours."""
    check(device, dtype, INDEPENDENCE)
