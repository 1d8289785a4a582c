"""What a cast does where the standards leave it open, found out from a few numbers."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import torch

from dtype_sampler.roundtrip import values
from dtype_sampler.roundtrip.formats import Format
from dtype_sampler.roundtrip.judging import compared
from dtype_sampler.roundtrip.patterns import (
    component,
    from_words,
    words_of,
)
from dtype_sampler.roundtrip.rounding import Narrowing, Rounding

TWICE = "twice, through float32"
TINY = "rounded up from just above 2^-127"


def may_round_twice(dtype: torch.dtype, other: torch.dtype) -> bool:
    """Whether float32 is a way station on which bits can be lost: it lacks values of *dtype*."""
    part, of_other = component(dtype), component(other)
    return (
        of_other not in (torch.float32, torch.float64)
        and part is not torch.float32
        and not values.embeds(part, torch.float32)
    )


def explained(given: torch.Tensor, other: torch.dtype, how: Narrowing, got: torch.Tensor) -> str:
    """What is wrong with these results, all of which are wrong; empty if it has no name.

    A name is given only to what explains every one of them, so that nothing hides behind it.
    """
    ways = [(f"rounded {TWICE}", True, False)] if may_round_twice(given.dtype, other) else []
    target = values.form_of(other)
    assert target is not None
    if not target.zero:
        ways += [(TINY, False, True), *((f"{twice}; {TINY}", True, True) for twice, _, _ in ways)]
    for words, twice, tiny in ways:
        dtype = given.dtype
        at = words_of(given)
        if twice:
            single = torch.complex64 if dtype.is_complex else torch.float32
            dtype, at = single, values.convert(at, dtype, single)
        want = values.convert(at, dtype, other, how)
        source = values.form_of(dtype)
        if tiny and source is not None:
            smallest = _power_of_two(source, target.lowest_exponent)
            above = smallest is not None and (at & source.magnitude) > smallest
            want = torch.where((want == 0) & above, 1, want)
        if compared(given, got, from_words(want, other), any_nan=True) is None:
            return words
    return ""


class Probes:
    """A few values that tell the policies of a cast."""

    def __init__(self, dtype: torch.dtype, other: torch.dtype) -> None:
        self._dtype = component(dtype)
        self._source = values.form_of(dtype)
        target = values.form_of(other)
        assert target is not None
        self._target = target
        self._words = dict(self._choose())
        words = torch.tensor(list(self._words.values()), dtype=torch.int64)
        # Each in two places, as what one lane does is no policy.
        words = words.repeat_interleave(2)
        if dtype.is_complex:
            words = torch.stack([words, words], dim=1)
        self.host = from_words(words, dtype)

    def _choose(self) -> Iterator[tuple[str, int]]:
        source, target = self._source, self._target
        if source is None:
            bits = 8 * self._dtype.itemsize - self._dtype.is_signed
            # As a word; those of 64 bits wrap.
            yield "overflow", (1 << bits) - 1 if bits < 64 else -1
            yield "zero", 0
            if self._dtype.is_signed:
                yield "negative", -1
            if not target.mantissa_bits and self._dtype is not torch.bool:
                yield from zip(_BETWEEN, (5, 6, 7, 12), strict=True)
            return
        yield "overflow", source.largest
        if source.infinities:
            yield "infinity", source.infinity
        # A quiet NaN with the highest payload bit that both have room for, beside the quiet one.
        payloads = source.nans == target.nans == "high exponent"
        if payloads and min(source.mantissa_bits, target.mantissa_bits) > 1:
            yield "nan", source.nan | 1 << (source.mantissa_bits - 2)
        if source.signed:
            yield "negative", source.bias << source.mantissa_bits | source.sign
        if source.zero:
            yield "zero", 0
        if target.mantissa_bits:
            tiny = _power_of_two(source, target.lowest_exponent - 1)
            if tiny is not None:
                yield "subnormals", tiny
        elif source.mantissa_bits > 1:
            # 5, 6, 7 and 12: below, at and above the middle of 4 and 8, and of 8 and 16.
            quarter = 1 << (source.mantissa_bits - 2)
            four, eight = ((source.bias + n) << source.mantissa_bits for n in (2, 3))
            yield from zip(
                _BETWEEN,
                (four + quarter, four + 2 * quarter, four + 3 * quarter, eight + 2 * quarter),
                strict=True,
            )

    def read(self, words: torch.Tensor) -> tuple[Narrowing, dict[str, str]]:
        """The policies that the results (int64, shape (n,) or (n, 2)) show."""
        target = self._target
        flat = (words[:, 0] if words.dim() == 2 else words).tolist()
        got = dict(zip(self._words, flat[::2], strict=True))
        again = dict(zip(self._words, flat[1::2], strict=True))
        measured: dict[str, str] = {}
        how: dict[str, object] = {}
        if self._overflows():
            how["overflow"], measured["overflow"] = _beyond(target, got["overflow"])
        if "infinity" in got:
            how["infinity"], measured["infinity"] = _beyond(target, got["infinity"])
        if "negative" in got and not target.signed:
            nan = bool(target.is_nan(torch.tensor(got["negative"])))
            how["negative"] = "nan" if nan else "magnitude"
            measured["negative"] = "NaN" if nan else "its magnitude"
        if "zero" in got and not target.zero:
            nan = bool(target.is_nan(torch.tensor(got["zero"])))
            how["zero"] = "nan" if nan else "smallest"
            measured["zero"] = "NaN" if nan else "the smallest value"
        if _BETWEEN[0] in got:
            how["rounding"], measured["direction"] = _direction(*(got[name] for name in _BETWEEN))
        if "subnormals" in got:
            kept = bool((got["subnormals"] | again["subnormals"]) & target.magnitude)
            how["keep_subnormals"] = kept
            measured["subnormals"] = "kept" if kept else "flushed to zero"
        if "nan" in got:
            payload = 1 << (target.mantissa_bits - 2)
            rest = got["nan"] & ((1 << target.mantissa_bits) - 1)
            kept = rest == payload | 1 << (target.mantissa_bits - 1)
            measured["nan"] = "kept" if kept else "made canonical"
        return Narrowing(**how), measured  # type: ignore[arg-type] # each value is right by its key

    def _overflows(self) -> bool:
        """Whether the largest number of the source is too large for the target."""
        if self._source is None:
            largest = Fraction((1 << (8 * self._dtype.itemsize - self._dtype.is_signed)) - 1)
        else:
            largest, _ = _largest(self._source)
        there, last = _largest(self._target)
        # Half way to the next number, which an even one is rounded down from.
        limit = there + last / 2
        return largest > limit or (largest == limit and self._target.largest % 2 == 1)


# Names of the probes for the rounding of a format that has powers of two alone.
_BETWEEN = ("below the middle", "the middle, even", "above the middle", "the middle, odd")


def _direction(five: int, six: int, seven: int, twelve: int) -> tuple[Rounding, str]:
    """How a format of powers of two rounds, by what it makes of these numbers.

    The pattern of 4 is odd and that of 8 even, as their exponents are with a bias of 127.
    """
    if five > 129:
        return "away from zero", "up"
    if seven < 130:
        return "toward zero", "toward zero"
    if six > 129 and twelve < 131:
        return "nearest, even code", "to the nearest, ties to the even code"
    return "nearest", "to the nearest, ties up"


def _power_of_two(form: Format, exponent: int) -> int | None:
    """The pattern of 2^exponent; None if the format does not have it."""
    if exponent >= form.lowest_exponent:
        return (exponent + form.bias) << form.mantissa_bits
    place = exponent - form.lowest_exponent + form.mantissa_bits
    return 1 << place if form.zero and place >= 0 else None


def _largest(form: Format) -> tuple[Fraction, Fraction]:
    """The largest number, and the distance to the one below."""
    field, mantissa = divmod(form.largest, 1 << form.mantissa_bits)
    last = Fraction(2) ** (field - form.bias - form.mantissa_bits)
    return ((1 << form.mantissa_bits) + mantissa) * last, last


def _beyond(target: Format, got: int) -> tuple[str, str]:
    pattern = torch.tensor(got)
    if target.is_nan(pattern):
        return "nan", "NaN"
    if target.is_infinite(pattern):
        return "infinity", "infinity"
    return "saturate", "the largest finite value"
