"""Copies of more memory than is copied in one piece."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from dtype_sampler.roundtrip.patterns import tensor_of
from dtype_sampler.roundtrip.stay import Arrival, Halves, Stay

MIB = 1 << 20
# Of these it is tried: of a byte, of a half, and of a float; how a copy is cut up knows no more.
DTYPES = ("uint8", "bfloat16", "float32")


def numbered(start: int, size: int) -> torch.Tensor:
    """Bytes of which each eight are another number, from *start* on: uint8, shape (size,).

    Wherever a piece of it ends up, it is seen that it is not the right one.
    """
    count = -(-size // 8)
    return torch.arange(start // 8, start // 8 + count).view(torch.uint8)[:size]


def _copy_of(size: int, stay: Stay) -> Halves:
    """A little more than *size* bytes, so that the last piece is not whole."""
    host = tensor_of(numbered(0, size + 24 * stay.dtype.itemsize), stay.dtype)
    made = stay.send(host)
    yield None
    back = stay.blank(tuple(host.shape), stay.dtype)
    stay.device.copy(back, made)
    yield [Arrival(back, expected=host)]


def _large(stay: Stay) -> Halves:
    return _copy_of(4 * MIB, stay)


def _huge(stay: Stay) -> Halves:
    return _copy_of(64 * MIB, stay)


SIZES: Mapping[str, Callable[[Stay], Halves]] = {"copy-large": _large, "copy-huge": _huge}
