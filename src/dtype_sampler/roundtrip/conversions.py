"""Casts that are neither widening nor rounding: to integers and bool, and between real and complex.

What C and IEEE 754 define must hold: a fraction is cut off toward zero where the integer has room
for what is left, integers wrap around, and what is not zero is True. What they leave open, values
out of range and NaN, is a policy, which is measured and shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch

from dtype_sampler.roundtrip import formats, rounding, values
from dtype_sampler.roundtrip.casts import Company, Finding, Narrowed
from dtype_sampler.roundtrip.judging import Wrong, compared, moved
from dtype_sampler.roundtrip.model import Policy
from dtype_sampler.roundtrip.patterns import (
    component,
    from_words,
    name_of,
    raw_patterns,
    taken,
    tensor_of,
    words_of,
)
from dtype_sampler.roundtrip.stay import Stay


class Wanted(NamedTuple):
    """What must come of a cast to an integer or to bool; all of shape (n,).

    words: int64. defined: bool, where these must come. beyond, nan: bool, where the value is out of
    range, and where it is NaN. saturated: int64, the end of the range on the value's side.
    """

    words: torch.Tensor
    defined: torch.Tensor
    beyond: torch.Tensor
    nan: torch.Tensor
    saturated: torch.Tensor


def values_for(dtype: torch.dtype, other: torch.dtype) -> torch.Tensor:
    """What a conversion is tried with: a host tensor of shape (n,) of *dtype*.

    Every pattern of 8 and 16 bits. Of wide integers the usual ones, and small ones of both signs.
    Of wide floating-point dtypes the usual ones, and what is next to small integers, to halves, and
    to the ends of the target's range.
    """
    usual = tensor_of(raw_patterns(dtype), dtype)
    source = values.form_of(dtype)
    if source is None and dtype.itemsize > 2:
        small = torch.arange(-1024, 1024)
        if dtype.itemsize < 8:
            small &= (1 << 8 * dtype.itemsize) - 1
        return from_words(torch.unique(torch.cat([words_of(usual), small])), dtype)
    if source is None or dtype.is_complex or source.bits <= 16 or values.form_of(other) is not None:
        return usual
    bits = 8 * other.itemsize if other is not torch.bool else 8
    wide = [1 << (bits - 1), 1 << bits, 1 << (bits - 2)]
    exact = torch.cat([torch.arange(1, 260), torch.tensor([w % (1 << 63) for w in wide])])
    double = formats.FORMATS["float64"]
    marks = rounding.convert_integers(exact, double, signed=False)
    # Half of each, which is an integer and a half of every odd one.
    marks = torch.cat([marks, marks - (1 << double.mantissa_bits)])
    near = rounding.convert(marks, double, source)
    near = torch.cat([near - 1, near, near + 1])
    every = torch.cat([words_of(usual), near, near | source.sign])
    return from_words(torch.unique(every), dtype)


def wanted(given: torch.Tensor, other: torch.dtype) -> Wanted:
    """What must come of a host tensor of shape (n,) as an integer dtype or bool."""
    words = words_of(given)
    if given.is_complex() and other is torch.bool:
        parts = [_truth(words[:, part], component(given.dtype)) for part in (0, 1)]
        either = [getattr(parts[0], name) | getattr(parts[1], name) for name in ("words", "nan")]
        # A NaN in one part decides nothing if the other is not zero.
        nan = either[1] & ~(parts[0].words.bool() & parts[0].defined)
        nan &= ~(parts[1].words.bool() & parts[1].defined)
        return Wanted(either[0], ~nan, torch.zeros_like(nan), nan, either[0])
    # Of a complex number the real part is what counts.
    real = words[:, 0].contiguous() if given.is_complex() else words
    part = component(given.dtype)
    if other is torch.bool:
        return _truth(real, part)
    source = values.form_of(part)
    if source is None:
        wrapped = values.convert(real, part, other)
        none = torch.zeros_like(real, dtype=torch.bool)
        return Wanted(wrapped, ~none, none, none, wrapped)
    bits = 8 * other.itemsize
    low, high = _ends(other)
    magnitude, length, negative = rounding.truncated(real, source)
    if other.is_signed:
        # The lowest value is a power of two, and the largest is one less than that.
        fits = (length < bits) | (negative & (length == bits) & (magnitude == low))
    else:
        fits = (length <= bits) & (~negative | (length == 0))
    nan = source.is_nan(real)
    fits &= ~nan
    wrapped = torch.where(negative, -magnitude, magnitude)
    if bits < 64:
        wrapped &= (1 << bits) - 1
    return Wanted(wrapped, fits, ~fits & ~nan, nan, torch.where(negative, low, high))


def defined_in(given: torch.Tensor, other: torch.dtype) -> torch.Tensor | None:
    """Of which values it is defined what a cast gives, bool of shape (n,); None if of all."""
    if values.form_of(other) is not None or values.form_of(given.dtype) is None:
        return None
    return wanted(given, other).defined


def _ends(other: torch.dtype) -> tuple[int, int]:
    """The patterns of the lowest and of the highest value of an integer dtype, as words."""
    bits = 8 * other.itemsize
    ends = (1 << (bits - 1), (1 << (bits - 1)) - 1) if other.is_signed else (0, (1 << bits) - 1)
    # As int64, in which those of 64 bits wrap.
    low, high = (n - (1 << 64) if n >= 1 << 63 else n for n in ends)
    return low, high


def _truth(words: torch.Tensor, part: torch.dtype) -> Wanted:
    form = values.form_of(part)
    none = torch.zeros_like(words, dtype=torch.bool)
    truth = words != 0 if form is None else ~form.is_zero(words)
    nan = none if form is None else form.is_nan(words)
    return Wanted(truth.long(), ~nan, none, nan, truth.long())


def conversion(stay: Stay, company: Company, other: torch.dtype) -> Iterator[Narrowed | None]:
    """A cast to an integer or bool, or between real and complex."""
    got = stay.device.cast(company.plain, other)
    yield None
    back = stay.fetch(got)
    given = company.host
    if values.form_of(other) is not None:
        yield Narrowed(Finding(len(given), _of_parts(stay, given, back)), ())
        return
    want = wanted(given, other)
    at = want.defined.nonzero().flatten()
    expected = taken(from_words(want.words, other), at)
    wrong = compared(taken(given, at), taken(back, at), expected)
    as_host = False
    if wrong is not None:
        wrong = moved(wrong, at)
        if not stay.device.is_host:
            as_host = _is_as_on_host(given, back, wrong)
    names = (name_of(stay.dtype), name_of(other))
    found = open_points(words_of(back), want, other)
    yield Narrowed(
        Finding(len(given), wrong, as_host=as_host),
        tuple(Policy(name, *names, value) for name, value in found),
    )


def _is_as_on_host(given: torch.Tensor, back: torch.Tensor, wrong: Wrong) -> bool:
    harmed = taken(given, wrong.positions)
    try:
        on_host = harmed.to(back.dtype)
    # What the host refuses, it does not do in the same way.
    except Exception:  # noqa: BLE001
        return False
    return compared(harmed, taken(back, wrong.positions), on_host) is None


def open_points(got: torch.Tensor, want: Wanted, other: torch.dtype) -> Iterator[tuple[str, str]]:
    """What a cast does where nothing is defined: names and values of policies."""
    low, high = _ends(other)
    for name, places in (("beyond", want.beyond), ("no number", want.nan)):
        if not places.any():
            continue
        seen = got[places]
        ways = {"zero": seen == 0}
        if other is torch.bool:
            ways = {"True": seen == 1, "False": seen == 0}
        elif name == "beyond":
            ways = {
                "saturates": seen == want.saturated[places],
                "wraps around": seen == want.words[places],
                "becomes zero": seen == 0,
                "becomes the lowest value": seen == low,
            }
        else:
            ways |= {"the lowest value": seen == low, "the highest value": seen == high}
        whole = [way for way, holds in ways.items() if holds.all()]
        otherwise = "becomes no one thing" if name == "beyond" else "no one thing"
        yield name, whole[0] if whole else otherwise


def _of_parts(stay: Stay, given: torch.Tensor, back: torch.Tensor) -> Wrong | None:
    """Real from complex, or complex from real: the cast of the real part, with nothing beside it.

    That cast is judged where it is between real dtypes; here it is made on the device and on the
    host, and either is right.
    """
    other = back.dtype
    part, of_other = component(given.dtype), component(other)
    words = words_of(given)
    real = from_words(words[:, 0] if given.is_complex() else words, part)
    found = []
    for made in casts_of(stay, real, of_other):
        want = words_of(made)
        if other.is_complex:
            want = torch.stack([want, torch.zeros_like(want)], dim=1)
        wrong = compared(given, back, from_words(want, other), any_nan=True)
        if wrong is None:
            return None
        found.append(wrong)
    return found[0] if found else None


def casts_of(stay: Stay, host: torch.Tensor, other: torch.dtype) -> Iterator[torch.Tensor]:
    """A host tensor cast on the device and, if that is another one, on the host; host tensors.

    Left out is what refuses.
    """
    if host.dtype is other:
        yield host
        return
    for device in (stay.device,) if stay.device.is_host else (stay.device, None):
        try:
            if device is None:
                yield host.to(other)
            else:
                yield stay.fetch(device.cast(stay.of(host).there, other))
        # Whether it is refused is found out by other trips.
        except Exception:  # noqa: BLE001, S112
            continue
