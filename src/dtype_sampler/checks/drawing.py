"""Tensors that Hypothesis draws: values, shapes and layouts that no list has."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from dtype_sampler.roundtrip import values
from dtype_sampler.roundtrip.catalogue import NARROWING, TRANSPORT
from dtype_sampler.roundtrip.devices import Device
from dtype_sampler.roundtrip.exhaustive import how_of
from dtype_sampler.roundtrip.model import OK, Survey
from dtype_sampler.roundtrip.patterns import from_words, name_of, word_dtype, words_of
from dtype_sampler.roundtrip.quiet import undisturbed
from dtype_sampler.roundtrip.rounding import Narrowing
from dtype_sampler.strategies import tensors, try_each

# So few, as each run draws others: a tensor of up to 125 elements each.
EXAMPLES = 10


def check_drawn(device: Device, dtype: torch.dtype, survey: Survey, *, seed: int) -> str:
    """Copy drawn tensors to the device and back, and narrow them there.

    Only what the survey found to be right is tried: a fault that it tells is told there. Returns
    why nothing was tried, or an empty text.
    Raises AssertionError with the smallest tensor that comes to harm.
    """
    name = name_of(dtype)
    copies = [one.verdict for one in survey.of(dtype=name, kind=TRANSPORT) if "copy" in one.trip]
    if set(copies) != {OK}:
        return f"not every plain copy of {name} to {device.name} and back is right: none is drawn"
    casts = list(_casts(dtype, survey))

    def check(host: torch.Tensor) -> None:
        if not host.numel():
            return
        there = device.empty(tuple(host.shape), dtype)
        device.copy(there, host)
        back = torch.empty(host.shape, dtype=dtype)
        device.copy(back, there)
        device.synchronize()
        flat = _flat(host)
        _compare(_flat(back), flat, f"{name} cpu→{device.name}→cpu", flat)
        for other, how in casts:
            cast = device.cast(there, other)
            result = torch.empty(host.shape, dtype=other)
            device.copy(result, cast)
            device.synchronize()
            want = from_words(values.convert(words_of(flat), dtype, other, how), other)
            way = f"{name}→{name_of(other)} on {device.name}"
            _compare(_flat(result), want, way, flat, other)

    # More threads take longer for tensors this small.
    with undisturbed():
        try_each(tensors(dtype, contiguous=False), check, examples=EXAMPLES, seed=seed)
    return ""


def _casts(dtype: torch.dtype, survey: Survey) -> Iterator[tuple[torch.dtype, Narrowing]]:
    for outcome in survey.of(dtype=name_of(dtype), kind=NARROWING):
        if outcome.verdict == OK and outcome.trip == "narrowing" and outcome.other_dtype:
            how = how_of(survey.policies, outcome.other_dtype, name_of(dtype))
            yield getattr(torch, outcome.other_dtype), how


def _flat(tensor: torch.Tensor) -> torch.Tensor:
    # Of a dimension with one element, `contiguous` leaves any stride, which bytes can't have.
    return tensor.clone(memory_format=torch.contiguous_format).view(-1)


def _compare(
    got: torch.Tensor,
    want: torch.Tensor,
    way: str,
    given: torch.Tensor,
    cast_to: torch.dtype | None = None,
) -> None:
    ours, theirs = words_of(got), words_of(want)
    wrong = ours != theirs
    if cast_to is not None:
        wrong &= ~(values.is_nan(ours, cast_to) & values.is_nan(theirs, cast_to))
    if wrong.any():
        place = int(wrong.view(len(got), -1).any(dim=1).nonzero()[0])
        shown = [_hex(one[place : place + 1]) for one in (given, got, want)]
        raise AssertionError(f"{way}: {shown[0]} → {shown[1]}, not {shown[2]}, at {place}")


def _hex(one: torch.Tensor) -> str:
    digits = 2 * word_dtype(one.dtype).itemsize
    return " ".join(
        f"0x{word % (1 << 4 * digits):0{digits}x}" for word in words_of(one).view(-1).tolist()
    )
