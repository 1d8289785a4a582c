"""Copies of tensors that are no plain vectors, and bools that are neither 0 nor 1."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from dtype_sampler.roundtrip.devices import POISON
from dtype_sampler.roundtrip.patterns import raw_of, tensor_of
from dtype_sampler.roundtrip.stay import Arrival, Changed, Halves, Stay

# In elements: none of them a multiple of what a vector unit loads at once, with any dtype.
OFFSETS = (1, 3, 5, 7, 9, 15, 17, 31)


def _shapes(stay: Stay) -> Halves:
    places = sorted({0, 1, len(stay.host) // 2, len(stay.host) - 1} & set(range(len(stay.host))))
    points = [stay.send(stay.part([place]).reshape(())) for place in places]
    empty = [stay.send(stay.host[:0].view(shape)) for shape in ((0,), (0, 3), (2, 0))]
    yield None
    back = stay.blank((len(places),), stay.dtype)
    for place, point in enumerate(points):
        stay.device.copy(back[place : place + 1].reshape(()), point)
    for one in empty:
        into = stay.blank(tuple(one.shape), stay.dtype)
        stay.device.copy(into, one)
        if into.shape != one.shape or one.numel():
            raise Changed(f"a tensor of shape {tuple(into.shape)} is one of {tuple(one.shape)}")
    yield [Arrival(back, places)]


def _expanded(stay: Stay) -> Halves:
    """A source with stride 0, on either side, into memory that has every element."""
    places = range(min(len(stay.host), 257))
    some = stay.part(places)
    made = stay.send(some[:, None].expand(-1, 3))
    narrow = stay.send(some)
    yield None
    back = stay.blank((len(places), 3), stay.dtype)
    stay.device.copy(back, made)
    again = stay.blank((3, len(places)), stay.dtype)
    stay.device.copy(again, narrow.expand(3, -1))
    thrice = [place for place in places for _ in range(3)]
    yield [
        Arrival(back.view(-1), thrice),
        Arrival(again.view(-1), [*places, *places, *places]),
    ]


def _permuted(stay: Stay) -> Halves:
    """Three dimensions in another order, as of images with their channels last."""
    count = len(stay.host) // 12 * 12 or len(stay.host)
    shape = (count // 12, 4, 3) if count % 12 == 0 else (count, 1, 1)
    block = stay.host[:count].view(shape)
    there = stay.send(block.permute(2, 0, 1))
    last = stay.device.empty((shape[0], shape[2], shape[1]), stay.dtype).permute(0, 2, 1)
    stay.device.copy(last, block)
    yield None
    back = stay.blank((shape[2], shape[0], shape[1]), stay.dtype)
    stay.device.copy(back, there)
    plain = stay.blank(shape, stay.dtype)
    stay.device.copy(plain, last)
    turned = raw_of(back.permute(1, 2, 0))
    yield [
        Arrival(tensor_of(turned, stay.dtype), range(count)),
        Arrival(plain.view(-1), range(count)),
    ]


def _offsets(stay: Stay) -> Halves:
    """From and to addresses at several distances from an aligned one."""
    places = range(min(len(stay.host), 1000))
    some = stay.part(places)
    size = stay.dtype.itemsize
    made = []
    for offset in OFFSETS:
        before = stay.raw.new_full((offset * size,), POISON)
        shifted = tensor_of(torch.cat([before, raw_of(some)]), stay.dtype)[offset:]
        there = stay.device.empty((len(places) + 37,), stay.dtype)
        stay.device.copy(there[37:], shifted)
        made.append(there[37:])
    yield None
    arrivals = []
    for offset, there in zip(OFFSETS, made, strict=True):
        back = stay.blank((len(places) + offset,), stay.dtype)[offset:]
        stay.device.copy(back, there)
        arrivals.append(Arrival(back, places))
    yield arrivals


def _flipped(stay: Stay) -> Halves:
    array = stay.there.numpy()
    backwards = torch.from_numpy(array[::-1])
    yield None
    yield [Arrival(backwards.contiguous(), list(range(len(stay.host) - 1, -1, -1)))]


def _bool_bytes(stay: Stay) -> Halves:
    """Every byte as a bool: whatever is not 0 is True, and a copy of it as well."""
    raw = torch.arange(256, dtype=torch.uint8)
    # As bytes, since a copy of bools may make them 0 and 1.
    there = stay.send(raw).view(torch.bool)
    made = stay.send(raw.view(torch.bool))
    yield None
    back = raw_of(stay.fetch(there)).clone()
    for one in (back, raw_of(stay.fetch(made))):
        if not torch.equal(one != 0, raw != 0):
            raise Changed(_first_bool(one, "copied"))
    for other in (torch.uint8, torch.int32, torch.float32):
        cast = stay.fetch(stay.device.cast(there, other))
        if not torch.equal(cast.long(), (raw != 0).long()):
            raise Changed(_first_bool(cast.long(), f"cast to {other}"))
    yield "bytes of 2 to 255 are copied as " + ("they are" if torch.equal(back, raw) else "True")


def _first_bool(got: torch.Tensor, how: str) -> str:
    truth = torch.arange(256) != 0
    wrong = (got != 0) != truth if how == "copied" else got != truth
    byte = int(wrong.nonzero()[0])
    return f"a bool of the byte 0x{byte:02x}, {how}, is {int(got[byte])}"


LAYOUTS: Mapping[str, Callable[[Stay], Halves]] = {
    "copy-shapes": _shapes,
    "copy-expanded": _expanded,
    "copy-permuted": _permuted,
    "copy-offsets": _offsets,
    "numpy-flipped": _flipped,
    "bool-bytes": _bool_bytes,
}
