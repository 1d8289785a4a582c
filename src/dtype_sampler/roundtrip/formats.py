"""The floating-point formats behind torch's dtypes, and conversion between them: the reference.

Everything is integer arithmetic on bit patterns, held in `torch.int64` tensors: no cast of torch or
of the processor between two floating-point types takes part, so that a fault of theirs can't be in
both what is tested and what it is tested against.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, NamedTuple

import torch

from dtype_sampler.errors import DtypeSamplerError, unknown

IEEE_754 = "IEEE 754-2019, table 3.5"
BFLOAT16 = "binary32 without the low 16 bits: Intel, BFLOAT16 - Hardware Numerics Definition, 2018"
OCP_FP8 = "OCP 8-bit Floating Point Specification (OFP8), revision 1.0, section 5"
OCP_MX = "OCP Microscaling Formats (MX) Specification, version 1.0, section 5.4.1"
FNUZ = "Noune et al., 8-bit Numerical Formats for Deep Neural Networks, arXiv:2206.02915"

Nan = Literal["high exponent", "all ones", "negative zero"]
Overflow = Literal["infinity", "nan", "saturate"]
Rounding = Literal["nearest", "nearest, even code", "toward zero", "away from zero"]


@dataclass(frozen=True)
class Format:
    """What the bits of a format mean, from the highest: sign, exponent, mantissa.

    A number is (-1)^sign * significand * 2^(max(exponent, 1) - bias - mantissa_bits), where the
    significand has a hidden bit unless the exponent is 0; without zero there is always one, and an
    exponent of 0 is as any other.

    infinities: the highest exponent with a mantissa of 0. nans: every other mantissa with the
    highest exponent; or all ones but for the sign; or what elsewhere is the negative zero, which
    then does not exist. source: of the rule.
    """

    name: str
    exponent_bits: int
    mantissa_bits: int
    bias: int
    nans: Nan
    source: str
    infinities: bool = False
    signed: bool = True
    zero: bool = True

    @property
    def bits(self) -> int:
        """How many bits a pattern has."""
        return self.signed + self.exponent_bits + self.mantissa_bits

    @property
    def sign(self) -> int:
        """The pattern of the sign alone; 0 if there is none. A 64-bit one is negative as int64."""
        if not self.signed:
            return 0
        return _as_int64(1 << (self.bits - 1))

    @property
    def magnitude(self) -> int:
        """The mask of everything but the sign."""
        return (1 << (self.exponent_bits + self.mantissa_bits)) - 1

    @property
    def signed_zero(self) -> bool:
        """Whether there is a negative zero."""
        return self.signed and self.zero and self.nans != "negative zero"

    @property
    def infinity(self) -> int:
        """The pattern of the positive infinity. Raises DtypeSamplerError if there is none."""
        if not self.infinities:
            raise DtypeSamplerError(f"{self.name} has no infinity")
        return self._top

    @property
    def largest(self) -> int:
        """The pattern of the largest finite number."""
        if self.nans == "high exponent":
            return self._top - 1
        return self.magnitude - (self.nans == "all ones")

    @property
    def nan(self) -> int:
        """The canonical NaN: quiet, where there is a difference, with nothing else set."""
        if self.nans == "negative zero":
            return self.sign
        if self.nans == "all ones":
            return self.magnitude
        return self._top | 1 << (self.mantissa_bits - 1)

    @property
    def _top(self) -> int:
        return self.magnitude ^ ((1 << self.mantissa_bits) - 1)

    @cached_property
    def lowest_exponent(self) -> int:
        """The exponent of the smallest normal number."""
        return (1 if self.zero else 0) - self.bias

    def is_nan(self, patterns: torch.Tensor) -> torch.Tensor:
        """Which patterns (int64, any shape) are NaNs; bool, of that shape."""
        if self.nans == "negative zero":
            return patterns == self.sign
        if self.nans == "all ones":
            return (patterns & self.magnitude) == self.magnitude
        return (patterns & self.magnitude) > self._top

    def is_infinite(self, patterns: torch.Tensor) -> torch.Tensor:
        """Which patterns are infinities."""
        if not self.infinities:
            return torch.zeros_like(patterns, dtype=torch.bool)
        return (patterns & self.magnitude) == self._top

    def is_finite(self, patterns: torch.Tensor) -> torch.Tensor:
        """Which patterns are numbers: neither NaN nor infinity."""
        return ~(self.is_nan(patterns) | self.is_infinite(patterns))

    def is_zero(self, patterns: torch.Tensor) -> torch.Tensor:
        """Which patterns are a zero of either sign."""
        if not self.zero:
            return torch.zeros_like(patterns, dtype=torch.bool)
        return ((patterns & self.magnitude) == 0) & ~self.is_nan(patterns)

    def is_negative(self, patterns: torch.Tensor) -> torch.Tensor:
        """Which patterns have the sign set; the NaN in the negative zero's place has none."""
        if not self.signed:
            return torch.zeros_like(patterns, dtype=torch.bool)
        return ((patterns & self.sign) != 0) & ~self.is_nan(patterns)

    def is_subnormal(self, patterns: torch.Tensor) -> torch.Tensor:
        """Which patterns are numbers smaller than every normal one, zeros left out."""
        if not self.zero:
            return torch.zeros_like(patterns, dtype=torch.bool)
        rest = patterns & self.magnitude
        return (rest != 0) & (rest < (1 << self.mantissa_bits))

    def patterns(self) -> torch.Tensor:
        """All patterns, int64 of shape (2^bits,); for formats of at most 16 bits."""
        if self.bits > 16:
            raise DtypeSamplerError(f"{self.name} has 2^{self.bits} patterns: take them in chunks")
        return torch.arange(1 << self.bits)

    def same(self, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """Where two tensors of patterns hold the same value: any NaN is as any other."""
        return (one == other) | (self.is_nan(one) & self.is_nan(other))

    def hex(self, pattern: int) -> str:
        """A pattern as people write it, `0x7fc1`."""
        return f"0x{pattern & ((1 << self.bits) - 1):0{(self.bits + 3) // 4}x}"


def _as_int64(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


FORMATS: Mapping[str, Format] = {
    one.name: one
    for one in (
        Format("float16", 5, 10, 15, "high exponent", IEEE_754, infinities=True),
        Format("bfloat16", 8, 7, 127, "high exponent", BFLOAT16, infinities=True),
        Format("float32", 8, 23, 127, "high exponent", IEEE_754, infinities=True),
        Format("float64", 11, 52, 1023, "high exponent", IEEE_754, infinities=True),
        Format("float8_e4m3fn", 4, 3, 7, "all ones", OCP_FP8),
        Format("float8_e5m2", 5, 2, 15, "high exponent", OCP_FP8, infinities=True),
        Format("float8_e4m3fnuz", 4, 3, 8, "negative zero", FNUZ),
        Format("float8_e5m2fnuz", 5, 2, 16, "negative zero", FNUZ),
        Format("float8_e8m0fnu", 8, 0, 127, "all ones", OCP_MX, signed=False, zero=False),
    )
}


def format_of(dtype: torch.dtype | str) -> Format:
    """The format of a dtype, or of its name. Raises DtypeSamplerError if it has none here."""
    name = str(dtype).removeprefix("torch.")
    if name not in FORMATS:
        raise DtypeSamplerError(unknown("floating-point format", name, tuple(FORMATS)))
    return FORMATS[name]


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


def embeds(source: Format, target: Format) -> bool:
    """Whether every number, infinity, zero and NaN of *source* is one of *target* too."""
    lowest = source.lowest_exponent - (source.mantissa_bits if source.zero else 0)
    of_target = target.lowest_exponent - (target.mantissa_bits if target.zero else 0)
    return (
        source.mantissa_bits <= target.mantissa_bits
        and _highest_exponent(source) <= _highest_exponent(target)
        and _largest_fits(source, target)
        # A number so small that it is subnormal there has fewer bits left.
        and lowest >= of_target
        and source.signed <= target.signed
        and source.zero <= target.zero
        and source.signed_zero <= target.signed_zero
        and source.infinities <= target.infinities
    )


def _highest_exponent(form: Format) -> int:
    return (form.largest >> form.mantissa_bits) - form.bias


def _largest_fits(source: Format, target: Format) -> bool:
    if _highest_exponent(source) < _highest_exponent(target):
        return True
    mantissas = [one.largest & ((1 << one.mantissa_bits) - 1) for one in (source, target)]
    return mantissas[0] << (target.mantissa_bits - source.mantissa_bits) <= mantissas[1]


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
