"""Where a conversion between two formats can go wrong: the numbers that are worth trying."""

from __future__ import annotations

from dataclasses import replace

import torch

from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.roundtrip.formats import Format
from dtype_sampler.roundtrip.rounding import STANDARD, Narrowing, convert


def midpoints(target: Format, source: Format) -> torch.Tensor:
    """The numbers of *source* half way between neighbours of *target*, positive and increasing.

    The last is the threshold of overflow: half way between the largest number and the one that
    would follow. Returns patterns of *source*, int64 of shape (target.largest + 1,) or fewer: those
    that *source* does not have are left out. For targets of at most 16 bits.
    """
    if target.bits > 16:
        raise DtypeSamplerError(f"{target.name} has too many neighbours to list")
    between = 2 * torch.arange(target.largest + 1) + 1
    return _those_of(between, _with_more_bits(target), source)


def _with_more_bits(form: Format) -> Format:
    return replace(form, mantissa_bits=form.mantissa_bits + 1)


def _those_of(patterns: torch.Tensor, form: Format, source: Format) -> torch.Tensor:
    """The numbers that *source* has too, as its patterns."""
    there = convert(patterns, form, source)
    back = convert(there, source, form)
    return there[source.is_finite(there) & (back == patterns)]


def boundaries(target: Format, source: Format) -> torch.Tensor:
    """Where rounding from *source* to *target* can go wrong, as patterns of *source*.

    Zero, each number of *target*, each midpoint between neighbours, the thresholds of overflow and
    underflow, each with its neighbours in *source*; infinities and NaNs; all with both signs.
    Of a target of 32 bits, some numbers with every exponent. int64, sorted by pattern, no repeats.
    """
    if target.bits <= 16:
        numbers = torch.arange(target.largest + 1)
    else:
        bits = target.mantissa_bits
        edges = [0, 1, 2, (1 << bits) // 3, (1 << (bits - 1)), (1 << bits) - 2, (1 << bits) - 1]
        numbers = (torch.arange(1 << target.exponent_bits)[:, None] << bits) + torch.tensor(edges)
        numbers = numbers[numbers <= target.largest]
    wide = _with_more_bits(target)
    exact = torch.cat([2 * numbers, 2 * numbers + 1])
    middle = _those_of(exact, wide, source)
    near = torch.cat([middle - 1, middle, middle + 1])
    near = near[(near >= 0) & (near <= source.largest)]
    bits = source.mantissa_bits
    special = [0, source.largest, source.nan, 1, 2, (1 << bits) - 1, 1 << bits, (1 << bits) + 1]
    if source.infinities:
        # A signalling NaN and one full of ones are the others of interest.
        special += [source.infinity, source.infinity + 1, source.magnitude]
    found = torch.cat([near, torch.tensor(special)])
    if source.signed:
        found = torch.cat([found, found | source.sign])
    ordered = found.sort().values
    return ordered[torch.cat([torch.ones(1, dtype=torch.bool), ordered[1:] != ordered[:-1]])]


def inside(target: Format, source: Format) -> torch.Tensor:
    """Points between the `boundaries` of a target of 8 bits, as patterns of *source*.

    A right conversion is constant there. One that rounds to another format first is not, as every
    step of that format ends within half a step of a boundary; and one that is wrong for a range of
    numbers may be right at both of its ends. The middle of each interval, and what is next to
    boundaries within half a step of each coarser mantissa that torch has. int64, no repeats.
    """
    numbers = torch.arange(target.largest + 1)
    marks = _those_of(
        torch.cat([2 * numbers, 2 * numbers + 1]), _with_more_bits(target), source
    ).sort()[0]
    # Not the half of a sum: two patterns of 64 bits have no room for it.
    found = [marks[:-1] + marks.diff() // 2]
    for mantissa in _MANTISSAS:
        if target.mantissa_bits < mantissa < source.mantissa_bits:
            half = 1 << (source.mantissa_bits - mantissa - 1)
            found += [marks + (1 - half), marks + (half - 1)]
    near = torch.unique(torch.cat(found))
    near = near[(near > 0) & (near < source.largest)]
    return torch.cat([near, near | source.sign]) if source.signed else near


# Of bfloat16 to float64, in which another rounding may take place on the way.
_MANTISSAS = (7, 10, 23)


def _power(exponents: torch.Tensor) -> torch.Tensor:
    """2 to the power of each, int64."""
    return torch.ones_like(exponents) << exponents


def integer_boundaries(target: Format, bits: int) -> torch.Tensor:
    """Where rounding integers to *target* can go wrong: positive ones below 2^bits, as int64.

    Each number of a target of at most 16 bits, each tie, their neighbours, and some points between
    (see `inside`); of a larger target, some of these at each power of two. 64-bit ones wrap.
    Sorted, no repeats.
    """
    one = 1 << target.mantissa_bits
    if target.bits <= 16:
        mantissas = torch.arange(one)
    else:
        mantissas = torch.tensor([0, 1, 2, one // 3, one // 2, one - 2, one - 1])
    highest = (target.largest >> target.mantissa_bits) - target.bias
    # What is beyond the largest number and its first tie is all the same.
    powers = torch.arange(target.mantissa_bits + 1, min(bits, highest + 2))[:, None]
    lost = powers - target.mantissa_bits
    exact = (one + mantissas) << lost
    ties = exact + _power(lost - 1)
    found = [exact, ties - 1, ties, ties + 1]
    if one == 1:
        # It may be rounded up, or down, and not to the nearest.
        found += [exact - 1, exact + 1]
    # Some are enough to find out what is wrong for a whole range.
    some = torch.cat([exact[:, ::32], ties[:, ::32]], dim=1)
    found.append(some[2:] + _power(lost[2:] - 2))
    for mantissa in _MANTISSAS:
        if mantissa > target.mantissa_bits:
            # From the first power on that has half a step of that mantissa.
            rows = slice(mantissa + 1 - target.mantissa_bits, None)
            half = _power(powers[rows] - mantissa - 1)
            found += [some[rows] + (1 - half), some[rows] + (half - 1)]
    found = [torch.arange(4), *(one.reshape(-1) for one in found)]
    made = torch.cat(found)
    if bits < 64:
        made = made[(made >= 0) & (made <= (1 << bits) - 1)]
    unique: torch.Tensor = torch.unique(made)
    return unique


def steps(target: Format, source: Format, how: Narrowing = STANDARD) -> torch.Tensor:
    """The first positive pattern of *source* that rounds to each number of *target* and beyond.

    Rounding never decreases, so these steps are the whole of it: `searchsorted` in them does what
    `convert` does, at a fraction of the time. Returns int64 of shape (target.largest + 2,), by the
    target's magnitude; what is at the last step or after it overflows. Subnormals are never flushed
    here. For targets of at most 16 bits, whose midpoints *source* has.
    """
    zero = torch.zeros(1, dtype=torch.int64)
    if not how.rounding.startswith("nearest"):
        exact = convert(torch.arange(target.largest + 1), target, source)
        # Whatever is beyond the largest number and is not rounded to it: with a target that
        # reaches as far as the source, that is infinity.
        following = _following(target, source)
        if how.rounding == "toward zero":
            # Below the smallest number there is nothing else to round to.
            return torch.cat([zero, exact[1:], following])
        return torch.cat([zero, exact + 1])
    middle = midpoints(target, source)
    # A tie goes up or down; which, `convert` knows.
    after = convert(
        middle, source, target, replace(how, overflow="nan", infinity="nan", keep_subnormals=True)
    )
    goes_up = after != torch.arange(len(middle))
    return torch.cat([zero, middle + (~goes_up).long()])


def _following(target: Format, source: Format) -> torch.Tensor:
    """The number after the largest of *target* if there were one, as a pattern of *source*."""
    wide = replace(target, exponent_bits=target.exponent_bits + 1, infinities=False)
    # The bias stays, so that the patterns of *target* mean in it what they mean there.
    after = torch.tensor([target.largest + 1])
    return convert(after, wide, source, Narrowing(overflow="infinity"))
