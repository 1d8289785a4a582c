"""Conversion between floating-point formats, and from integers: the reference.

Everything is integer arithmetic on bit patterns, held in `torch.int64` tensors: no cast of torch or
of the processor between two floating-point types takes part, so that a fault of theirs can't be in
both what is tested and what it is tested against.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch

from dtype_sampler.roundtrip.formats import Format

Overflow = Literal["infinity", "nan", "saturate"]
Rounding = Literal["nearest", "nearest, even code", "toward zero", "away from zero"]


@dataclass(frozen=True, slots=True)
class Narrowing:
    """What a conversion does where the standards leave it open, or versions of torch differ.

    overflow: of finite numbers that round beyond the largest one; None means infinity where the
    format has one, and NaN elsewhere. infinity: what an infinity becomes; None means the same as an
    overflow. negative and zero: for a format without a sign, and without a zero; the smallest
    number stands for a zero then, and is also what tiny numbers round to. rounding: "nearest" takes
    of two numbers at the same distance the one whose significand is even; where the significand
    is the hidden bit alone that is the larger one, as half way to it is 1.1 in binary, and 10 the
    even neighbour. "nearest, even code" takes the one whose pattern is even, which is another one
    only there. keep_subnormals: False makes every subnormal result a zero of its sign.
    """

    overflow: Overflow | None = None
    infinity: Overflow | None = None
    negative: Literal["nan", "magnitude"] = "nan"
    zero: Literal["nan", "smallest"] = "nan"
    rounding: Rounding = "nearest"
    keep_subnormals: bool = True


STANDARD = Narrowing()


def convert(
    patterns: torch.Tensor, source: Format, target: Format, how: Narrowing = STANDARD
) -> torch.Tensor:
    """Convert numbers of one format to another, rounding to nearest, ties to even.

    patterns: int64 of any shape, bit patterns of *source*; a 64-bit one as the int64 of those bits.
    Returns the patterns of *target*, int64 of that shape, from 0 to 2^bits - 1 (again but for 64
    bits). Every NaN becomes the target's canonical one, with its sign kept where it can be.
    Raises DtypeSamplerError if *how* asks for an infinity that the target lacks.
    """
    significand, exponent, length = _unpacked(patterns, source)
    return _packed(
        significand,
        exponent,
        length,
        target,
        how,
        negative=(patterns & source.sign) != 0 if source.signed else None,
        nan=source.is_nan(patterns),
        infinite=source.is_infinite(patterns) if source.infinities else None,
    )


def convert_integers(
    values: torch.Tensor, target: Format, how: Narrowing = STANDARD, *, signed: bool = True
) -> torch.Tensor:
    """Convert integers (int64 of any shape) to a format, rounded once.

    signed: False reads them as uint64. Returns the target's patterns, as `convert` does.
    """
    negative = values < 0 if signed else None
    # The magnitude of -2^63 is right as uint64, which is how it is read from here on.
    magnitude = torch.where(values < 0, -values, values) if signed else values
    # Where there is no room for the highest bit, two low ones are folded into one that says whether
    # any was set: no format is so wide that they decide more than a tie.
    large = (magnitude < 0) | (magnitude >= 1 << 62)
    folded = ((magnitude >> 2) & ((1 << 62) - 1)) | ((magnitude & 3) != 0)
    significand = torch.where(large, folded, magnitude)
    return _packed(
        significand,
        torch.where(large, 2, 0),
        _bit_length(significand),
        target,
        how,
        negative=negative,
        nan=torch.zeros_like(values, dtype=torch.bool),
        infinite=None,
    )


class Integers(NamedTuple):
    """The integers that numbers are cut off to, toward zero; all of shape (n,).

    magnitude: int64, the lowest 64 bits. length: int64, how many bits it has, which may be more.
    negative: bool. Of infinities the length is out of every range, of NaNs nothing means anything.
    """

    magnitude: torch.Tensor
    length: torch.Tensor
    negative: torch.Tensor


def truncated(patterns: torch.Tensor, source: Format) -> Integers:
    """What is left of numbers (int64, shape (n,), patterns of *source*) without their fractions."""
    significand, exponent, length = _unpacked(patterns, source)
    kept = significand >> (-exponent).clamp(min=0, max=63)
    # Shifted by 64 and more, nothing is left in the lowest 64 bits.
    magnitude = torch.where(exponent < 64, kept << exponent.clamp(min=0, max=63), 0)
    bits = torch.where(significand == 0, 0, (length + exponent).clamp(min=0))
    infinite = source.is_infinite(patterns)
    return Integers(
        torch.where(infinite, 0, magnitude),
        torch.where(infinite, 1 << 20, bits),
        source.is_negative(patterns),
    )


def flush(patterns: torch.Tensor, form: Format) -> torch.Tensor:
    """The patterns with every subnormal number made a zero of its sign."""
    zero = patterns & form.sign if form.signed_zero else torch.zeros_like(patterns)
    return torch.where(form.is_subnormal(patterns), zero, patterns)


def _unpacked(
    patterns: torch.Tensor, source: Format
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Significands, exponents, and how many bits each significand has.

    Each finite number is significand * 2^exponent, but for its sign.
    """
    bits = source.mantissa_bits
    magnitude = patterns & source.magnitude
    field = magnitude >> bits
    significand = magnitude & ((1 << bits) - 1)
    length = torch.full_like(significand, bits + 1)
    if source.zero:
        small = field == 0
        # Few numbers are subnormal: only these are searched for their highest bit.
        length[small] = _bit_length(significand[small])
        significand = significand | ((~small).long() << bits)
        field = field.clamp(min=1)
    else:
        significand = significand | (1 << bits)
    return significand, field - (source.bias + bits), length


def _packed(
    significand: torch.Tensor,
    exponent: torch.Tensor,
    length: torch.Tensor,
    target: Format,
    how: Narrowing,
    *,
    negative: torch.Tensor | None,
    nan: torch.Tensor,
    infinite: torch.Tensor | None,
) -> torch.Tensor:
    """Round and pack; a significand is from 0 to 2^62 - 1, and has *length* bits."""
    bits = target.mantissa_bits
    # The exponent of the last place that the target keeps of this number.
    last = exponent + (length - (bits + 1))
    # Zero has no exponent of its own.
    last = torch.where(significand == 0, target.lowest_exponent - bits, last)
    last = last.clamp(min=target.lowest_exponent - bits)
    shift = last - exponent
    field = (last - (target.lowest_exponent - bits)) << bits
    # The hidden bit is no part of a pattern; where it is all there is, the exponent is what is odd.
    code = field - (1 << bits) if how.rounding == "nearest, even code" else 0
    kept = _shifted(significand, shift, how.rounding, code)
    # A carry out of the significand goes into the exponent by itself.
    packed = field + kept
    # Without zero the hidden bit is always there and not counted; what is too small has lost it.
    magnitude = packed if target.zero else (packed - (1 << bits)).clamp(min=0)
    if not how.keep_subnormals and target.zero:
        magnitude = torch.where(magnitude < (1 << bits), 0, magnitude)
    overflow = how.overflow or ("infinity" if target.infinities else "nan")
    over = magnitude > target.largest
    magnitude = torch.where(over, _beyond(target, overflow), magnitude)
    nan_here = nan
    if infinite is not None:
        magnitude = torch.where(infinite, _beyond(target, how.infinity or overflow), magnitude)
    if not target.zero and how.zero == "nan":
        nothing = significand == 0
        nan_here = nan_here | (nothing if infinite is None else nothing & ~infinite)
    magnitude = torch.where(nan_here, target.nan, magnitude)
    if negative is None:
        return magnitude
    if not target.signed:
        refused = negative & (how.negative == "nan")
        return torch.where(refused, target.nan, magnitude)
    if target.nans == "negative zero":
        negative = negative & (magnitude != 0)
    return torch.where(negative, magnitude | target.sign, magnitude)


def _beyond(target: Format, overflow: Overflow) -> int:
    if overflow == "saturate":
        return target.largest
    return target.infinity if overflow == "infinity" else target.nan


def _shifted(
    significand: torch.Tensor, shift: torch.Tensor, rounding: Rounding, code: torch.Tensor | int
) -> torch.Tensor:
    """The significand without its *shift* low bits, rounded; a negative shift adds zeros.

    code: with what is kept, it makes the number that decides a tie by being odd or even.
    """
    # A shift of that much leaves nothing of a significand, nor does one of more leave a half.
    right = shift.clamp(min=0, max=62)
    kept = significand >> right
    if rounding.startswith("nearest"):
        # Half a last place is added, and a bit less where a tie goes down: what carries is up.
        odd = (kept + code) & 1
        half = (1 << right) >> 1
        rounded = (significand + (half - 1 + odd)) >> right
        kept = torch.where((shift > 0) & (shift < 63), rounded, kept)
    elif rounding == "away from zero":
        kept = kept + (significand != kept << right)
    return kept << (-shift).clamp(min=0)


def _bit_length(values: torch.Tensor) -> torch.Tensor:
    """How many bits each value has, from 0 to 2^62 - 1; 0 for 0."""
    length = torch.zeros_like(values)
    rest = values
    highest = int(values.max()).bit_length() if values.numel() else 0
    for step in (32, 16, 8, 4, 2, 1):
        if step >= highest:
            continue
        high = rest >> step
        some = high != 0
        length = length + some * step
        rest = torch.where(some, high, rest)
    return length + (rest != 0)
