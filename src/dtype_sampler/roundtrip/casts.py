"""The trips of two dtypes: embedding, narrowing, and whether a cast depends on what it should not.

All results are compared with those of integer arithmetic on the host (`values`), so that a value
that is changed on the way out and changed back is found too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from typing import NamedTuple

import torch

from dtype_sampler.roundtrip import values
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
from dtype_sampler.roundtrip.probes import (
    TWICE,
    Probes,
    explained,
    may_round_twice,
)
from dtype_sampler.roundtrip.rounding import STANDARD, Narrowing
from dtype_sampler.roundtrip.stay import Changed, Stay

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
    return _narrowing(stay, other, reference, Probes(stay.dtype, other))


def _narrowing(
    stay: Stay, other: torch.dtype, reference: Reference, probes: Probes
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
        words = explained(harmed, other, how, results)
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
