"""Slow exact arithmetic: what patterns mean, and what numbers are rounded to."""

from __future__ import annotations

import bisect
import math
import struct
from fractions import Fraction
from functools import cache

import torch

from dtype_sampler.roundtrip.formats import FORMATS
from dtype_sampler.roundtrip.rounding import Narrowing, convert

NARROW = [name for name, form in FORMATS.items() if form.bits <= 16]

LARGE = ["float32", "float64"]
# What a conversion of ml_dtypes or torch leaves open is chosen as they do.
MAGNITUDE = Narrowing(zero="smallest", negative="magnitude")


def exact(name: str, pattern: int) -> Fraction | float | str:
    """What a pattern means, written down from the standards once more: no line of it is shared.

    A Fraction; -0.0 for the negative zero; "inf", "-inf" or "nan".
    """
    match name:
        case "float64":
            return _ieee(struct.unpack("<d", struct.pack("<Q", pattern))[0])
        case "float32":
            return _ieee(struct.unpack("<f", struct.pack("<I", pattern))[0])
        case "float16":
            return _ieee(struct.unpack("<e", struct.pack("<H", pattern))[0])
        case "bfloat16":
            return _ieee(struct.unpack("<f", struct.pack("<HH", 0, pattern))[0])
        case "float8_e5m2":
            return _ieee(struct.unpack("<e", struct.pack("<BB", 0, pattern))[0])
        case "float8_e8m0fnu":
            return "nan" if pattern == 255 else Fraction(2) ** (pattern - 127)
    sign, rest = pattern >> 7, pattern & 0x7F
    if name == "float8_e4m3fn":
        exponent, mantissa, unit = rest >> 3, rest & 7, Fraction(1, 2**9)
        if rest == 0x7F:
            return "nan"
        ones = 8
    else:
        if pattern == 0x80:
            return "nan"
        wide = name == "float8_e4m3fnuz"
        ones = 8 if wide else 4
        exponent, mantissa = divmod(rest, ones)
        unit = Fraction(1, 2**10) if wide else Fraction(1, 2**17)
    value = unit * (mantissa if exponent == 0 else (ones + mantissa) * 2 ** (exponent - 1))
    if sign and value == 0:
        return -0.0
    return -value if sign else value


def _ieee(value: float) -> Fraction | float | str:
    if math.isnan(value):
        return "nan"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    if value == 0 and math.copysign(1, value) < 0:
        return -0.0
    return Fraction(value)


@cache
def numbers(name: str) -> tuple[list[Fraction], list[int]]:
    """The positive numbers of a narrow format and zero, increasing, with their patterns.

    The last is the one that would follow if the exponent went on: what rounds to it overflows.
    """
    form = FORMATS[name]
    found = sorted(
        (value, pattern)
        for pattern in range(1 << form.bits)
        if isinstance(value := exact(name, pattern), Fraction) and value >= 0
    )
    values, patterns = [v for v, _ in found], [p for _, p in found]
    step = values[-1] - values[-2]
    following = values[-1] * 2 if name == "float8_e8m0fnu" else values[-1] + step
    return [*values, following], [*patterns, -1]


def exact_round(value: Fraction | float | str, name: str) -> str | int:
    """The pattern, or "nan" or "over", that a positive number, 0 or infinity rounds to."""
    if isinstance(value, str):
        return "over" if value == "inf" else value
    values, patterns = numbers(name)
    place = bisect.bisect_left(values, value)
    if place == len(values):
        return "over"
    if values[place] == value or place == 0:
        return patterns[place] if patterns[place] >= 0 else "over"
    below, above = value - values[place - 1], values[place] - value
    if name == "float8_e8m0fnu":
        # The significand of both is one bit, 1: the even one is the next with the lower exponent,
        # 10 in binary.
        up = above <= below
    else:
        up = above < below or (above == below and patterns[place - 1] % 2 == 1)
    chosen = patterns[place] if up else patterns[place - 1]
    return chosen if chosen >= 0 else "over"


def exactly(source: str, pattern: int, name: str, how: Narrowing) -> int | str:
    """What `convert` should give; "nan" for any NaN."""
    form = FORMATS[name]
    value = exact(source, pattern)
    if value == "nan":
        return "nan"
    negative = value == "-inf" or (
        not isinstance(value, str) and math.copysign(1, float(value > 0) - 0.5) < 0
    )
    if isinstance(value, Fraction) and value == 0:
        negative = False
    if isinstance(value, float):
        negative, value = True, Fraction(0)
    value = "inf" if isinstance(value, str) else abs(value)
    if name == "float8_e8m0fnu":
        if (value == 0 and how.zero == "nan") or (negative and how.negative == "nan"):
            return "nan"
        negative = False
    result = exact_round(value, name)
    if result == "over":
        ways = how.overflow or ("infinity" if name in ("float16", "bfloat16", "float8_e5m2") else 0)
        if value == "inf":
            ways = how.infinity or ways
        if not ways or ways == "nan":
            return "nan"
        top = numbers(name)[1][-2]
        result = top if ways == "saturate" else top + 1
    assert isinstance(result, int)
    if negative and not (result == 0 and name.endswith("fnuz")):
        result |= 1 << (form.bits - 1)
    return result


def both(source: str, patterns: torch.Tensor, name: str, how: Narrowing) -> None:
    """Assert that the vectorised and the exact conversion agree."""
    form = FORMATS[name]
    given = convert(patterns, FORMATS[source], form, how)
    nans = form.is_nan(given).tolist()
    for pattern, result, nan in zip(patterns.tolist(), given.tolist(), nans, strict=True):
        unsigned = pattern % (1 << FORMATS[source].bits)
        wanted = exactly(source, unsigned, name, how)
        assert ("nan" if nan else result) == wanted, (source, hex(unsigned), name, how)


def every_nth(patterns: torch.Tensor, limit: int) -> torch.Tensor:
    """About *limit* of the patterns, those at both ends included."""
    return torch.cat([patterns[:: len(patterns) // limit + 1], patterns[-3:]])
