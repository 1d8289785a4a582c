"""The trips of two dtypes: embedding, narrowing, and whether a cast depends on what it should not.

All results are compared with those of integer arithmetic on the host (`values`), so that a value
that is changed on the way out and changed back is found too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from fractions import Fraction
from functools import cached_property
from typing import NamedTuple

import torch

from dtype_sampler.roundtrip import values
from dtype_sampler.roundtrip.formats import Format
from dtype_sampler.roundtrip.judging import Wrong, compared, joined, moved
from dtype_sampler.roundtrip.model import POLICIES, Policy
from dtype_sampler.roundtrip.patterns import (
    component,
    from_words,
    name_of,
    raw_of,
    taken,
    tensor_of,
    words_of,
)
from dtype_sampler.roundtrip.rounding import STANDARD, Narrowing, Rounding
from dtype_sampler.roundtrip.trips import Changed, Stay

TWICE = "twice, through float32"
TINY = "rounded up from just above 2^-127"
# Independence is tried with this many patterns of a wide dtype.
_COMPANY = 6144


class Finding(NamedTuple):
    """How a trip ended that came back: with how many patterns, what was wrong, what is to say.

    as_host: on an accelerator, whether the host gives the same wrong results.
    """

    tried: int
    wrong: Wrong | None
    words: str = ""
    as_host: bool = False


class Reference:
    """What must come of casts, computed when first asked for and kept.

    own: host tensors of shape (n,), to be tried instead of the usual values of their dtypes.
    """

    def __init__(self, own: Iterable[torch.Tensor] = ()) -> None:
        self._own = {tensor.dtype: tensor for tensor in own}
        self._wide: dict[tuple[torch.dtype, torch.dtype], torch.Tensor] = {}
        self._edges: dict[tuple[torch.dtype, torch.dtype, Narrowing], values.Edges] = {}

    def widened(self, host: torch.Tensor, other: torch.dtype) -> torch.Tensor:
        """The patterns of a dtype in another one that has all its values, shape (n,)."""
        # Of a complex dtype, the real part is all there is to compute.
        part = other if host.is_complex() else component(other)
        key = (host.dtype, part)
        if key not in self._wide:
            self._wide[key] = values.convert(words_of(host), host.dtype, part)
        words = self._wide[key]
        if part is not other:
            words = torch.stack([words, torch.zeros_like(words)], dim=1)
        return from_words(words, other)

    def edges(self, dtype: torch.dtype, other: torch.dtype, how: Narrowing) -> values.Edges:
        """`values.edges`; of complex dtypes, some of those of their parts, in pairs."""
        key = (dtype, other, how)
        if key not in self._edges:
            if dtype in self._own:
                self._edges[key] = values.converted(self._own[dtype], other, how)
            elif dtype.is_complex:
                parts = self.edges(component(dtype), component(other), how)
                self._edges[key] = values.paired(parts, dtype, other)
            else:
                self._edges[key] = values.edges(*key)
        return self._edges[key]

    def tried(self, dtype: torch.dtype, other: torch.dtype) -> torch.Tensor:
        """What a narrowing is tried with, whatever the policies: host tensor of shape (n,)."""
        for (*pair, _), found in self._edges.items():
            if pair == [dtype, other]:
                return found.given
        return self.edges(dtype, other, STANDARD).given


def embedding(stay: Stay, other: torch.dtype, reference: Reference) -> Iterator[Finding | None]:
    """Widen and narrow back, as a trip of two halves."""
    wide = stay.device.cast(stay.there, other)
    yield None
    back = stay.fetch(stay.device.cast(wide, stay.dtype))
    middle = stay.fetch(wide)
    want = reference.widened(stay.host, other)
    given = stay.host
    found = compared(given, back, given, any_nan=True)
    words = ""
    if found is None:
        found = compared(given, middle, want, any_nan=True)
        words = f"changed in {name_of(other)}, and back again" if found else ""
    yield Finding(len(given), found, words)


class Narrowed(NamedTuple):
    """What a narrowing found out, and its results for the independence of the same cast."""

    finding: Finding
    policies: tuple[Policy, ...]


def narrowing(stay: Stay, other: torch.dtype, reference: Reference) -> Iterator[Narrowed | None]:
    """Measure the policies of a cast, then compare it with the reference that follows them."""
    return _narrowing(stay, other, reference, _Probes(stay.dtype, other))


def _narrowing(
    stay: Stay, other: torch.dtype, reference: Reference, probes: _Probes
) -> Iterator[Narrowed | None]:
    seen = stay.device.cast(stay.send(probes.host), other)
    yield None
    how, measured = probes.read(words_of(stay.fetch(seen)))
    given, want = reference.edges(stay.dtype, other, how)
    sent = stay.of(given)
    got = stay.fetch(stay.device.cast(sent.there, other))
    if changed := sent.changed():
        raise Changed(changed)
    wrong = compared(given, got, want, any_nan=True)
    words, as_host = "", False
    if wrong is not None:
        harmed, results = taken(given, wrong.positions), taken(got, wrong.positions)
        words = _explained(harmed, other, how, results)
        as_host = not stay.device.is_host and _is_as_on_host(harmed, other, results)
    if may_round_twice(stay.dtype, other) and (wrong is None or words):
        measured["rounding"] = TWICE if TWICE in words else "once"
    names = (name_of(stay.dtype), name_of(other))
    yield Narrowed(
        Finding(len(given), wrong, words, as_host),
        tuple(Policy(name, *names, value) for name, value in measured.items()),
    )


def _is_as_on_host(given: torch.Tensor, other: torch.dtype, got: torch.Tensor) -> bool:
    """Whether a cast on the host gives these results too."""
    try:
        on_host = given.to(other)
    # What the host refuses, it does not do in the same way.
    except Exception:  # noqa: BLE001
        return False
    return compared(given, got, on_host, any_nan=True) is None


def may_round_twice(dtype: torch.dtype, other: torch.dtype) -> bool:
    """Whether float32 is a way station on which bits can be lost: it lacks values of *dtype*."""
    part, of_other = component(dtype), component(other)
    return (
        of_other not in (torch.float32, torch.float64)
        and part is not torch.float32
        and not values.embeds(part, torch.float32)
    )


def _explained(given: torch.Tensor, other: torch.dtype, how: Narrowing, got: torch.Tensor) -> str:
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


class _Probes:
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


class Company:
    """The values of a stay on its device in several arrangements; made once for all casts of them.

    stay: of these values. host: shape (n,).
    """

    def __init__(self, stay: Stay) -> None:
        self.stay = stay
        self.host = stay.host
        self._words = words_of(self.host)

    @property
    def plain(self) -> torch.Tensor:
        """Contiguous, shape (n,)."""
        return self.stay.there

    def changed(self) -> str:
        """As `Stay.changed`, of the values in the plainest arrangement."""
        return self.stay.changed()

    @cached_property
    def shifted(self) -> torch.Tensor:
        """Shape (n + 1,): with one element before."""
        return self.stay.send(self._made(torch.cat([self._words[:1], self._words])))

    @cached_property
    def turned(self) -> torch.Tensor:
        """Shape (columns, rows), contiguous: the transposed of the values in rows."""
        rows = 2 if len(self.host) < 64 else 16
        words = self._words[: len(self._words) // rows * rows]
        turned = words.view(rows, -1, *words.shape[1:]).transpose(0, 1).contiguous()
        shape = turned.shape[:2]
        flat = turned.reshape(-1, *words.shape[1:])
        return self.stay.send(self._made(flat)).view(*shape)

    def among(self, neighbour: int) -> torch.Tensor:
        """Shape (2n,): each value with a *neighbour*, a word, after it."""
        beside = torch.full_like(self._words, neighbour)
        both = torch.stack([self._words, beside], dim=1)
        return self.stay.send(self._made(both.view(-1, *self._words.shape[1:])))

    @cached_property
    def among_tiny(self) -> torch.Tensor:
        """With the smallest subnormal number beside each value."""
        return self.among(1)

    @cached_property
    def among_nans(self) -> torch.Tensor:
        """With a NaN beside each value, or all bits set; for bool, True."""
        return self.among(1 if self.host.dtype is torch.bool else -1)

    def _made(self, words: torch.Tensor) -> torch.Tensor:
        return from_words(words, self.host.dtype)


def some_of(stay: Stay, given: torch.Tensor) -> Company:
    """Arrangements of values of a wide dtype, of some of them where they are many."""
    thin = -(-len(given) // _COMPANY)
    return Company(stay.of(given[::thin].contiguous()))


def layout(stay: Stay, company: Company, other: torch.dtype) -> Iterator[Finding | None]:
    """Strided and transposed against contiguous."""
    base = stay.device.cast(company.plain, other)
    yield None
    plain = stay.fetch(base)
    strided = stay.fetch(stay.device.cast(company.among_nans[::2], other))
    turned = stay.fetch(stay.device.cast(company.turned.t(), other)).contiguous().view(-1)
    yield _against(company, plain, [(strided, slice(None)), (turned, slice(0, len(turned)))])


def position(stay: Stay, company: Company, other: torch.dtype) -> Iterator[Finding | None]:
    """One place further on, at an address that is not aligned, and alone."""
    base = stay.device.cast(company.plain, other)
    yield None
    plain = stay.fetch(base)
    further = stay.fetch(stay.device.cast(company.shifted, other))[1:]
    unaligned = stay.fetch(stay.device.cast(company.shifted[1:], other))
    count = len(plain)
    chosen = sorted({0, 1, count // 3, count // 2, count - 2, count - 1})
    alone = [stay.fetch(stay.device.cast(company.plain[n : n + 1], other)) for n in chosen]
    together = tensor_of(torch.cat([raw_of(one) for one in alone]), other)
    every = slice(None)
    yield _against(
        company,
        plain,
        [(further, every), (unaligned, every), (together, torch.tensor(chosen))],
    )


def neighbours(stay: Stay, company: Company, other: torch.dtype) -> Iterator[Finding | None]:
    """Beside NaNs, and beside the smallest numbers."""
    base = stay.device.cast(company.plain, other)
    yield None
    plain = stay.fetch(base)
    results = [
        stay.fetch(stay.device.cast(beside, other))[::2]
        for beside in (company.among_nans, company.among_tiny)
    ]
    yield _against(company, plain, [(result, slice(None)) for result in results])


def _against(
    company: Company,
    plain: torch.Tensor,
    results: list[tuple[torch.Tensor, slice | torch.Tensor]],
) -> Finding:
    """Compare results with those of the plain cast at the same places."""
    found = []
    for result, places in results:
        given, want = taken(company.host, places), taken(plain, places)
        one = compared(given, result, want, any_nan=True)
        if one is not None and isinstance(places, torch.Tensor):
            one = moved(one, places)
        found.append(one)
    return Finding(len(plain), joined(found))


INDEPENDENCE: Mapping[str, Callable[[Stay, Company, torch.dtype], Iterator[Finding | None]]] = {
    "layout": layout,
    "position": position,
    "company": neighbours,
}


# Policies that may differ between host and device: IEEE 754 leaves the payloads of NaNs open, C
# what an integer has no room for, no standard says how e8m0 is rounded, and whether it is rounded
# twice is judged by what it gives.
FREE = frozenset({"nan", "direction", "rounding", "beyond", "no number"})


def beside_host(on_host: Iterable[Policy], there: Iterable[Policy]) -> Iterator[Policy]:
    """The policies of a device, each with the host's where that is another one."""
    of_host = {policy.name: policy.value for policy in on_host}
    for policy in there:
        value = of_host.get(policy.name, policy.value)
        yield replace(policy, on_host=value) if value != policy.value else policy


def disagreements(
    on_host: tuple[Policy, ...], there: tuple[Policy, ...], device: str
) -> Iterator[str]:
    """What a device does otherwise than the host, in words."""
    of_host = {policy.name: policy.value for policy in on_host}
    free = set(FREE)
    if any(
        policy.value != of_host.get("direction") for policy in there if policy.name == "direction"
    ):
        # The largest float32 rounded toward zero is no overflow, where it is one otherwise.
        free.add("overflow")
    for policy in there:
        if policy.name in free:
            continue
        value = of_host.get(policy.name, policy.value)
        if value != policy.value:
            yield f"{POLICIES[policy.name]} {policy.value} on {device}, {value} on cpu"
