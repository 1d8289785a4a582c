"""The floating-point formats behind torch's dtypes: what their bit patterns mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch

from dtype_sampler.errors import DtypeSamplerError

IEEE_754 = "IEEE 754-2019, table 3.5"
BFLOAT16 = "binary32 without the low 16 bits: Intel, BFLOAT16 - Hardware Numerics Definition, 2018"
OCP_FP8 = "OCP 8-bit Floating Point Specification (OFP8), revision 1.0, section 5"
OCP_MX = "OCP Microscaling Formats (MX) Specification, version 1.0, section 5.4.1"
FNUZ = "Noune et al., 8-bit Numerical Formats for Deep Neural Networks, arXiv:2206.02915"

Nan = Literal["high exponent", "all ones", "negative zero"]


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
