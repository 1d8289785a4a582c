"""Which dtypes' values embed in which, and what a conversion must give: the reference for casts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache
from typing import NamedTuple

import torch

from dtype_sampler.roundtrip import formats
from dtype_sampler.roundtrip.formats import FORMATS, Format, Narrowing
from dtype_sampler.roundtrip.patterns import (
    component,
    from_words,
    name_of,
    raw_patterns,
    tensor_of,
    words_of,
)

_INTEGERS = frozenset(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))


def has_values(dtype: torch.dtype) -> bool:
    """Whether it stands for numbers that casts keep: not so for bits, packed and quantized ones."""
    name = name_of(component(dtype))
    return dtype is torch.bool or name in _INTEGERS or name in FORMATS


def form_of(dtype: torch.dtype) -> Format | None:
    """The format of a floating-point dtype, or of a complex one's parts; None for integers."""
    return FORMATS.get(name_of(component(dtype)))


@cache
def embeds(dtype: torch.dtype, other: torch.dtype) -> bool:
    """Whether *other* has every value of *dtype*: numbers, infinities, signed zeros, a NaN."""
    if dtype is other or (dtype.is_complex and not other.is_complex):
        return False
    part, of_other = component(dtype), component(other)
    if part is of_other:
        return True
    source, target = form_of(part), form_of(of_other)
    if source is not None:
        return target is not None and formats.embeds(source, target)
    if other is torch.bool:
        return False
    if dtype is torch.bool:
        return target is None or target.zero
    bits = 8 * part.itemsize - part.is_signed
    if target is None:
        return (
            part.is_signed <= of_other.is_signed
            and bits <= 8 * of_other.itemsize - of_other.is_signed
        )
    # -2^(n-1) is a power of two and needs no more room than the largest number.
    return target.zero and target.signed and bits <= target.mantissa_bits + 1


@cache
def narrows(dtype: torch.dtype, other: torch.dtype) -> bool:
    """Whether a cast from *dtype* to *other*, a float or complex one, is one that rounds."""
    return (
        dtype is not other
        and form_of(other) is not None
        and dtype.is_complex == other.is_complex
        and not embeds(dtype, other)
    )


def pairs(dtype: torch.dtype, among: Iterable[torch.dtype]) -> Iterator[tuple[str, torch.dtype]]:
    """`embedding` or `narrowing` with each dtype of *among* that it is made for."""
    if not has_values(dtype):
        return
    for other in among:
        if has_values(other):
            if embeds(dtype, other):
                yield "embedding", other
            elif narrows(dtype, other):
                yield "narrowing", other


def convert(
    words: torch.Tensor, dtype: torch.dtype, other: torch.dtype, how: Narrowing = formats.STANDARD
) -> torch.Tensor:
    """Convert bit patterns of *dtype*, as words, to those of *other*; an integer *other* wraps."""
    if dtype.is_complex:
        flat = convert(words.reshape(-1), component(dtype), component(other), how)
        return flat.view(-1, 2)
    if other.is_complex:
        real = convert(words, dtype, component(other), how)
        return torch.stack([real, torch.zeros_like(real)], dim=1)
    source, target = form_of(dtype), form_of(other)
    if source is not None and target is not None:
        return words if source is target else formats.convert(words, source, target, how)
    values = _integer_values(words, dtype)
    if target is not None:
        return formats.convert_integers(values, target, how, signed=dtype is not torch.uint64)
    bits = 8 * other.itemsize
    return values if bits == 64 else values & ((1 << bits) - 1)


def _integer_values(words: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    if not dtype.is_signed or dtype.itemsize == 8:
        return words
    sign = 1 << (8 * dtype.itemsize - 1)
    return (words ^ sign) - sign


def is_nan(words: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Which words stand for NaN; all False for integers."""
    form = form_of(dtype)
    return torch.zeros_like(words, dtype=torch.bool) if form is None else form.is_nan(words)


class Edges(NamedTuple):
    """What a narrowing is tried with, and what must come of it.

    given, want: host tensors of the source's and the target's dtype, of shape (n,).
    """

    given: torch.Tensor
    want: torch.Tensor


def edges(dtype: torch.dtype, other: torch.dtype, how: Narrowing) -> Edges:
    """Every pattern of a narrow dtype; of a wide one, what is next to every change of the result.

    That is each number of the target, each tie between two, and the neighbours of these in the
    source; and the patterns that *dtype* is tried with anyway.
    """
    if dtype.is_complex:
        part = edges(component(dtype), component(other), how)
        thin = slice(None, None, -(-len(part.given) // 8192))
        both = [_paired(words_of(tensor)[thin]) for tensor in part]
        return Edges(from_words(both[0], dtype), from_words(both[1], other))
    usual = words_of(tensor_of(raw_patterns(dtype), dtype))
    source, target = form_of(dtype), form_of(other)
    assert target is not None
    if source is None or source.bits <= 16:
        given, want = usual, convert(usual, dtype, other, how)
    elif target.bits == 16:
        near, result = _next_to_changes(source, target, how)
        given = torch.cat([usual, near])
        want = torch.cat([convert(usual, dtype, other, how), result])
    else:
        given = torch.cat([usual, formats.boundaries(target, source)])
        want = convert(given, dtype, other, how)
    return Edges(from_words(given, dtype), from_words(want, other))


def _paired(words: torch.Tensor) -> torch.Tensor:
    return torch.stack([words, words.roll(len(words) // 3 + 1)], dim=1)


def _next_to_changes(
    source: Format, target: Format, how: Narrowing
) -> tuple[torch.Tensor, torch.Tensor]:
    """`boundaries` with the result of each by construction, which takes a tenth of the time.

    A format with one more bit of mantissa has the target's numbers at its even patterns, and the
    ties between them at its odd ones. The source must have three more bits than the target.
    """
    numbers = torch.arange(target.largest + 1)
    wider = replace(target, mantissa_bits=target.mantissa_bits + 1)
    there = formats.convert(torch.arange(2 * len(numbers)), wider, source)
    exact, ties = there[0::2], there[1::2]
    given = torch.cat([exact[1:] - 1, exact, exact + 1, ties - 1, ties, ties + 1])
    want = torch.cat([numbers[1:], numbers, numbers, numbers, numbers + (numbers & 1), numbers + 1])
    beyond = {
        "infinity": target.infinity if target.infinities else target.nan,
        "nan": target.nan,
        "saturate": target.largest,
    }[how.overflow or "infinity"]
    want = torch.where(want > target.largest, beyond, want)
    if not how.keep_subnormals:
        want = torch.where(want < 1 << target.mantissa_bits, 0, want)
    return torch.cat([given, given | source.sign]), torch.cat([want, want | target.sign])
