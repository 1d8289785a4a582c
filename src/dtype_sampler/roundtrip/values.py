"""Which dtypes' values embed in which, and what a conversion must give: the reference for casts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache
from typing import NamedTuple

import torch

from dtype_sampler.roundtrip import boundaries, formats, rounding
from dtype_sampler.roundtrip.formats import FORMATS, Format
from dtype_sampler.roundtrip.patterns import (
    component,
    from_words,
    name_of,
    raw_patterns,
    tensor_of,
    words_of,
)
from dtype_sampler.roundtrip.rounding import STANDARD, Narrowing

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
    """What a cast to each other dtype of *among* is: `embedding`, `narrowing` or `conversion`."""
    if not has_values(dtype):
        return
    for other in among:
        if has_values(other) and other is not dtype:
            if embeds(dtype, other):
                yield "embedding", other
            elif narrows(dtype, other):
                yield "narrowing", other
            else:
                yield "conversion", other


def convert(
    words: torch.Tensor, dtype: torch.dtype, other: torch.dtype, how: Narrowing = STANDARD
) -> torch.Tensor:
    """Convert bit patterns of *dtype*, as words, to those of *other*; an integer *other* wraps."""
    if dtype.is_complex:
        flat = convert(words.reshape(-1), component(dtype), component(other), how)
        return flat.view(-1, 2)
    if other.is_complex:
        real = convert(words, dtype, component(other), how)
        return torch.stack([real, torch.zeros_like(real)], dim=1)
    source, target = form_of(dtype), form_of(other)
    if source is target and source is not None:
        return words
    values = words if source is not None else _integer_values(words, dtype)
    if target is None:
        bits = 8 * other.itemsize
        return values if bits == 64 else values & ((1 << bits) - 1)
    signed = dtype.is_signed and target.signed
    if signed and dtype.itemsize == 2 and len(words) == 1 << 16 and int(words[-1]) == (1 << 16) - 1:
        return _by_magnitude(source, target, how)
    if source is not None:
        return rounding.convert(words, source, target, how)
    if dtype is torch.uint16 and len(words) == 1 << 16:
        return _of_integers(target, how)
    return rounding.convert_integers(values, target, how, signed=dtype is not torch.uint64)


def _of_integers(target: Format, how: Narrowing) -> torch.Tensor:
    """The integers from 0 to 2^16 - 1 in a format.

    Those from one power of two to the next have one exponent and lose the same number of bits.
    """
    bits = target.mantissa_bits
    found = [torch.tensor([0 if target.zero or how.zero == "smallest" else target.nan])]
    for power in range(16):
        numbers = torch.arange(1 << power, 2 << power)
        lost = power - bits
        if lost > 0:
            odd = (numbers >> lost) & 1
            numbers = (numbers + (1 << (lost - 1)) - 1 + odd) >> lost
        else:
            numbers <<= -lost
        # The hidden bit is counted by the exponent, into which a carry goes by itself.
        found.append(_limited(numbers + ((power + target.bias - 1) << bits), target, how))
    return torch.cat(found)


def _by_magnitude(source: Format | None, target: Format, how: Narrowing) -> torch.Tensor:
    """`convert` of all patterns of a signed dtype of 16 bits, in half the time.

    source: None for int16.
    """
    if source is None:
        magnitudes = _of_integers(target, how)[: (1 << 15) + 1]
        positive, negative = magnitudes[:-1], magnitudes[1:].flip(0)
    else:
        positive = negative = (
            _widened(source, target)
            if formats.embeds(source, target)
            else rounding.convert(torch.arange(1 << 15), source, target, how)
        )
    if target.signed_zero:
        signed = negative | target.sign
    else:
        # Where zero and NaN have no sign.
        alone = target.is_zero(negative) | target.is_nan(negative)
        signed = torch.where(alone, negative, negative | target.sign)
    return torch.cat([positive, signed])


def _widened(source: Format, target: Format) -> torch.Tensor:
    """Every positive pattern in a format that has them all.

    But for the lowest and the highest exponent it is the same bits with another bias.
    """
    bits = target.mantissa_bits
    words = torch.arange(1 << (source.bits - 1))
    there = words << (bits - source.mantissa_bits)
    there += (target.bias - source.bias) << bits
    step = 1 << source.mantissa_bits
    for part in (slice(0, step), slice(len(words) - step, None)):
        there[part] = rounding.convert(words[part], source, target)
    return there


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


def converted(given: torch.Tensor, other: torch.dtype, how: Narrowing) -> Edges:
    """These values (host tensor of shape (n,)), and what must come of them."""
    want = convert(words_of(given), given.dtype, other, how)
    return Edges(given, from_words(want, other))


def edges(dtype: torch.dtype, other: torch.dtype, how: Narrowing) -> Edges:
    """Every pattern of a narrow real dtype; of a wide one, what is next to changes of the result.

    That is each number of the target, each tie between two, and what is next to a tie in the
    source; points between these; and the patterns that *dtype* is tried with anyway.
    """
    usual = words_of(tensor_of(raw_patterns(dtype), dtype))
    source, target = form_of(dtype), form_of(other)
    assert target is not None
    if dtype.itemsize <= 2:
        given, want = usual, convert(usual, dtype, other, how)
    elif source is None:
        given = _integers(dtype, target, usual)
        want = convert(given, dtype, other, how)
    elif target.bits == 16:
        changes = _changes(source, target)
        near, result = _next_to_changes(changes, source, target, how)
        usual = usual[~_is_next_to(changes, usual & source.magnitude)]
        inside = _between_changes(changes, source)
        inside = inside[~torch.isin(inside, usual)]
        given = torch.cat([usual, inside, near])
        want = torch.cat([convert(given[: -len(near)], dtype, other, how), result])
    else:
        made = [usual, boundaries.boundaries(target, source)]
        if target.bits == 8:
            made.append(boundaries.inside(target, source))
        given = torch.unique(torch.cat(made))
        want = convert(given, dtype, other, how)
    return Edges(from_words(given, dtype), from_words(want, other))


def _integers(dtype: torch.dtype, target: Format, usual: torch.Tensor) -> torch.Tensor:
    """Words of an integer dtype of more than 16 bits, for a cast to *target*."""
    bits = 8 * dtype.itemsize
    made = boundaries.integer_boundaries(target, bits - dtype.is_signed)
    found = torch.cat([usual, made, -made]) if dtype.is_signed else torch.cat([usual, made])
    if bits < 64:
        found &= (1 << bits) - 1
    unique: torch.Tensor = torch.unique(found)
    return unique


def paired(parts: Edges, dtype: torch.dtype, other: torch.dtype) -> Edges:
    """Complex numbers of some of these edges: each as a real part, and as an imaginary one."""
    thin = -(-len(parts.given) // 8192)
    given, want = (words_of(tensor[::thin].contiguous()) for tensor in parts)
    beside = len(given) // 3 + 1
    return Edges(
        from_words(torch.stack([given, given.roll(beside)], dim=1), dtype),
        from_words(torch.stack([want, want.roll(beside)], dim=1), other),
    )


def _limited(magnitudes: torch.Tensor, target: Format, how: Narrowing) -> torch.Tensor:
    """Patterns with those beyond the largest number replaced as the policy says."""
    beyond = {
        "infinity": target.infinity if target.infinities else target.nan,
        "nan": target.nan,
        "saturate": target.largest,
    }[how.overflow or "infinity"]
    return torch.where(magnitudes > target.largest, beyond, magnitudes)


def _changes(source: Format, target: Format) -> torch.Tensor:
    """The target's positive numbers and the ties between them, in turn, as patterns of the source.

    Increasing. A format with one more bit of mantissa has the numbers at its even patterns, and the
    ties at its odd ones.
    """
    wider = replace(target, mantissa_bits=target.mantissa_bits + 1)
    return _widened(wider, source)[: 2 * (target.largest + 1)]


def _next_to_changes(
    changes: torch.Tensor, source: Format, target: Format, how: Narrowing
) -> tuple[torch.Tensor, torch.Tensor]:
    """Numbers, ties, and what is beside ties, with their results, known by construction.

    It takes a tenth of the time of `boundaries` and `convert`. changes: as `_changes` makes them.
    The source must have three more bits than the target.
    """
    numbers = torch.arange(target.largest + 1)
    exact, ties = changes[0::2], changes[1::2]
    given = torch.cat([exact, ties - 1, ties, ties + 1])
    want = torch.cat([numbers, numbers, numbers + (numbers & 1), numbers + 1])
    want = _limited(want, target, how)
    if not how.keep_subnormals:
        want = torch.where(want < 1 << target.mantissa_bits, 0, want)
    return torch.cat([given, given | source.sign]), torch.cat([want, want | target.sign])


def _between_changes(changes: torch.Tensor, source: Format) -> torch.Tensor:
    """Points between some of the changes, of both signs: see `boundaries.inside`."""
    exact, ties, following = changes[:-2:64], changes[1:-1:64], changes[2::64]
    length = ties - exact
    near = torch.cat(
        [
            exact + length // 2,
            ties + (following - ties) // 2,
            ties - length // 16 - 1,
            ties + length // 16 + 1,
        ]
    )
    return torch.cat([near, near | source.sign])


def _is_next_to(changes: torch.Tensor, magnitudes: torch.Tensor) -> torch.Tensor:
    """Which of these patterns, without sign, are among those of `_next_to_changes`."""
    at = torch.searchsorted(changes, magnitudes)
    before, after = (at - 1).clamp(min=0), at.clamp(max=len(changes) - 1)
    follows_tie = (before % 2 == 1) & (changes[before] + 1 == magnitudes)
    precedes_tie = (after % 2 == 1) & (changes[after] - 1 == magnitudes)
    return (changes[after] == magnitudes) | follows_tie | precedes_tie
