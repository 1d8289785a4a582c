"""Copied to another device and cast in one: `Tensor.copy_` and `Tensor.to` with another dtype.

Back ends have paths of their own for it. What must come of it is what the cast alone gives, on the
device or on the host: that is judged by trips of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import torch

from dtype_sampler.roundtrip.casts import Company, Finding
from dtype_sampler.roundtrip.conversions import casts_of, defined_in
from dtype_sampler.roundtrip.devices import POISON
from dtype_sampler.roundtrip.judging import Wrong, compared, moved
from dtype_sampler.roundtrip.patterns import raw_of, taken, tensor_of
from dtype_sampler.roundtrip.stay import Stay

# The arrangements beside the plain one are tried with so many patterns.
_FEW = 1031


class _Way(NamedTuple):
    """One direction: how to make memory at its end, how to send, and how to read what arrived."""

    source: Callable[[torch.Tensor], torch.Tensor]
    empty: Callable[[tuple[int, ...], torch.dtype], torch.Tensor]
    read: Callable[[torch.Tensor], torch.Tensor]
    to: Callable[[torch.Tensor, torch.dtype], torch.Tensor] | None


def cast_there(stay: Stay, company: Company, other: torch.dtype) -> Iterator[Finding | None]:
    """From the host to the device, where it has the other dtype."""
    to = getattr(stay.device, "to", None)
    way = _Way(_itself, stay.device.empty, stay.fetch, to and (lambda one, dtype: to(one, dtype)))
    return _crossing(stay, company, other, way, company.host)


def cast_back(stay: Stay, company: Company, other: torch.dtype) -> Iterator[Finding | None]:
    """From the device to the host, where it has the other dtype."""
    to = getattr(stay.device, "to", None)
    way = _Way(
        stay.send,
        stay.blank,
        _itself,
        to and (lambda one, dtype: to(one, dtype, to_host=True)),
    )
    return _crossing(stay, company, other, way, None)


def _itself(tensor: torch.Tensor) -> torch.Tensor:
    return tensor


def _crossing(
    stay: Stay,
    company: Company,
    other: torch.dtype,
    way: _Way,
    source: torch.Tensor | None,
) -> Iterator[Finding | None]:
    """source: the patterns where they start; None for those on the device."""
    given = company.host
    count = len(given)
    start = company.plain if source is None else source
    into = way.empty((count,), other)
    stay.device.copy(into, start)
    yield None
    wants = list(casts_of(stay, given, other))
    # What a cast leaves open may depend on the path that it takes.
    defined = defined_in(given, other)
    wrong = _against(given, way.read(into), wants, defined)
    words = ""
    if wrong is None:
        few = slice(None, None, -(-count // _FEW))
        some = taken(given, few)
        ends = [taken(want, few) for want in wants]
        for words, got, places in _arranged(stay, way, some, other):
            found = _against(
                taken(some, places),
                got,
                [taken(want, places) for want in ends],
                None if defined is None else defined[few][places],
            )
            if found is not None:
                yield Finding(len(given), found, words)
                return
        words = ""
    yield Finding(count, wrong, words)


def _arranged(
    stay: Stay, way: _Way, some: torch.Tensor, other: torch.dtype
) -> Iterator[tuple[str, torch.Tensor, torch.Tensor | slice]]:
    """Other arrangements: what to call each, what arrived, and of which of the patterns."""
    count, every, copy = len(some), slice(None), stay.device.copy
    size = some.dtype.itemsize
    raw = raw_of(some)
    # Two elements of poison first, and one after: an address that no vector is aligned at.
    shifted = tensor_of(torch.cat([raw.new_full((size,), POISON), raw]), some.dtype)
    into = way.empty((count + 3,), other)
    copy(into[3:], way.source(shifted)[1:])
    yield "from and to an odd offset", way.read(into)[3:], every
    wide = tensor_of(
        torch.stack([raw.new_full((count, size), POISON), raw.view(-1, size)], 1).view(-1),
        some.dtype,
    )
    into = way.empty((2 * count,), other)
    copy(into[1::2], way.source(wide)[1::2])
    yield "from and to every second element", _flat(way.read(into)[1::2]), every
    rows = 8 if count >= 16 else 1
    upright = tensor_of(raw[: count // rows * rows * size], some.dtype).view(rows, -1)
    into = way.empty((upright.shape[1], rows), other)
    copy(into, way.source(upright).t())
    turned = torch.arange(upright.numel()).view(rows, -1).t().reshape(-1)
    yield "from transposed", way.read(into).reshape(-1), turned
    into = way.empty((count, 3), other)
    copy(into, way.source(some)[:, None].expand(count, 3))
    yield "from stride 0", way.read(into).reshape(-1), torch.arange(count).repeat_interleave(3)
    if way.to is not None:
        yield "by Tensor.to", way.read(way.to(way.source(some), other)), every


def _flat(tensor: torch.Tensor) -> torch.Tensor:
    return tensor_of(raw_of(tensor), tensor.dtype)


def _against(
    given: torch.Tensor,
    got: torch.Tensor,
    wants: list[torch.Tensor],
    defined: torch.Tensor | None,
) -> Wrong | None:
    """What differs from the first of *wants*, unless all is as one of them has it.

    defined: where that matters, bool; None for everywhere.
    """
    at = None if defined is None else defined.nonzero().flatten()
    found = []
    for want in wants:
        if at is None:
            wrong = compared(given, got, want, any_nan=True)
        else:
            wrong = compared(taken(given, at), taken(got, at), taken(want, at), any_nan=True)
            wrong = wrong and moved(wrong, at)
        if wrong is None:
            return None
        found.append(wrong)
    return found[0] if found else None


CROSSINGS: Mapping[str, Callable[[Stay, Company, torch.dtype], Iterator[Finding | None]]] = {
    "cast-there": cast_there,
    "cast-back": cast_back,
}
