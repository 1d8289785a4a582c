"""All 2^32 patterns of float32 through each narrowing: minutes, so only on request."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from time import perf_counter

import torch

from dtype_sampler.roundtrip.boundaries import steps
from dtype_sampler.roundtrip.devices import Device, first_line
from dtype_sampler.roundtrip.formats import FORMATS, Format
from dtype_sampler.roundtrip.model import (
    BROKEN,
    OK,
    UNSUPPORTED,
    Counterexample,
    Outcome,
    Policy,
    Survey,
)
from dtype_sampler.roundtrip.rounding import Narrowing, Rounding, convert

SOURCE = FORMATS["float32"]
PATTERNS = 1 << 32
CHUNK = 1 << 22

_ROUNDINGS: Mapping[str, Rounding] = {
    "up": "away from zero",
    "toward zero": "toward zero",
    "to the nearest, ties to the even code": "nearest, even code",
}
_BEYOND = {"infinity": "infinity", "NaN": "nan", "the largest finite value": "saturate"}


def narrowings(survey: Survey) -> tuple[str, ...]:
    """The dtypes that float32 can be narrowed to there, as the survey found."""
    return tuple(
        outcome.other_dtype
        for outcome in survey.of(dtype="float32", trip="narrowing")
        if outcome.verdict != UNSUPPORTED and outcome.other_dtype is not None
    )


def how_of(policies: Sequence[Policy], other: str, dtype: str = "float32") -> Narrowing:
    """What a cast of *dtype* to *other* does where it may choose, as was measured."""
    told = {p.name: p.value for p in policies if (p.dtype, p.other_dtype) == (dtype, other)}
    return Narrowing(
        overflow=_BEYOND.get(told.get("overflow", "")),  # type: ignore[arg-type]  # one of these
        infinity=_BEYOND.get(told.get("infinity", "")),  # type: ignore[arg-type]  # likewise
        negative="magnitude" if told.get("negative") == "its magnitude" else "nan",
        rounding=_ROUNDINGS.get(told.get("direction", ""), "nearest"),
        zero="smallest" if told.get("zero") == "the smallest value" else "nan",
        keep_subnormals=told.get("subnormals") != "flushed to zero",
    )


class Sweep:
    """One narrowing over all patterns, chunk by chunk.

    device: where the cast is made. other: the name of the dtype. how: its policies.
    """

    def __init__(self, device: Device, other: str, how: Narrowing) -> None:
        self.device = device
        self.other = other
        self.chunks = PATTERNS // CHUNK
        self._how = how
        self._form: Format = FORMATS[other]
        self._dtype: torch.dtype = getattr(torch, other)
        self._word = torch.uint8 if self._form.bits == 8 else torch.int16
        self._steps = steps(self._form, SOURCE, how)
        self._table = self._results()

    def _results(self) -> torch.Tensor:
        """What each step of positive numbers rounds to; the last one is overflow."""
        at = self._steps.clone()
        if not self._form.zero:
            # Zero, the first of the first step, has a policy of its own.
            at[0] = 1
        return convert(at, SOURCE, self._form, self._how)

    def wanted(self, first: int, count: int) -> torch.Tensor:
        """The results for *count* patterns from *first* on, which all have the same sign."""
        sign = first & SOURCE.sign
        low = first ^ sign
        end = min(low + count, SOURCE.infinity)
        table = self._signed(self._table) if sign else self._table
        results = self._stairs(table.to(self._word), low, end)
        if len(results) < count:
            # Infinity and the NaNs.
            rest = torch.full((count - len(results),), self._form.nan).to(self._word)
            if low <= SOURCE.infinity < low + count:
                infinity = torch.tensor([SOURCE.infinity | sign])
                rest[0] = convert(infinity, SOURCE, self._form, self._how).to(self._word)[0]
            results = torch.cat([results, rest])
        if low == 0:
            zero = convert(torch.tensor([sign]), SOURCE, self._form, self._how)
            results[0] = zero.to(self._word)[0]
        return results

    def _stairs(self, table: torch.Tensor, low: int, end: int) -> torch.Tensor:
        """The results for positive patterns from *low* to *end*, without its last.

        They rise by steps: a sum over the differences at each step, which may wrap, is several
        times as fast as repeating each result.
        """
        if end <= low:
            return table[:0]
        before = int(torch.searchsorted(self._steps, low, right=True)) - 1
        after = int(torch.searchsorted(self._steps, end))
        results = torch.zeros(end - low, dtype=self._word)
        results[0] = table[before]
        places = self._steps[before + 1 : after] - low
        results.index_add_(0, places, table[before + 1 : after] - table[before : after - 1])
        return torch.cumsum(results, 0, dtype=self._word)

    def _signed(self, magnitudes: torch.Tensor) -> torch.Tensor:
        """The results for the same numbers with a minus."""
        form = self._form
        if not form.signed:
            if self._how.negative == "magnitude":
                return magnitudes
            return torch.full_like(magnitudes, form.nan)
        alone = form.nans == "negative zero"
        keep = alone & ((magnitudes == 0) | form.is_nan(magnitudes))
        return torch.where(keep, magnitudes, magnitudes | form.sign)

    def chunk(self, number: int) -> tuple[int, Counterexample | None]:
        """Cast one chunk; how many results are wrong, and the first of them.

        Raises whatever the device raises.
        """
        first = number * CHUNK
        there = self.device.empty((CHUNK,), torch.float32)
        self.device.copy(there, _patterns(first, CHUNK).view(torch.float32))
        cast = self.device.cast(there, self._dtype)
        back = torch.empty(CHUNK, dtype=self._dtype)
        self.device.copy(back, cast)
        self.device.synchronize()
        got = back.view(self._word)
        wanted = self.wanted(first, CHUNK)
        differing = (got != wanted).nonzero().view(-1)
        if not len(differing):
            return 0, None
        mask = (1 << self._form.bits) - 1
        want = wanted[differing].long() & mask
        results = got[differing].long() & mask
        wrong = ~self._form.same(results, want)
        places = wrong.nonzero().view(-1)
        if not len(places):
            return 0, None
        place = int(places[0])
        return len(places), Counterexample(
            given=first + int(differing[place]),
            got=int(results[place]),
            want=int(want[place]),
            given_bits=SOURCE.bits,
            got_bits=self._form.bits,
        )

    def run(self, tell: Callable[[int], None]) -> Outcome:
        """Cast all patterns. tell: is called with the number of chunks done."""
        differing, example = 0, None
        start = perf_counter()
        for number in range(self.chunks):
            try:
                count, first = self.chunk(number)
            # Whatever the back end raises for a tensor of this size.
            except Exception as error:  # noqa: BLE001
                return Outcome(
                    self.device.name,
                    "float32",
                    "narrowing",
                    BROKEN,
                    self.other,
                    tried=number * CHUNK,
                    differing=differing,
                    first=example,
                    half="back",
                    words=first_line(error),
                )
            differing += count
            example = example or first
            tell(number + 1)
        return Outcome(
            self.device.name,
            "float32",
            "narrowing",
            BROKEN if differing else OK,
            self.other,
            tried=PATTERNS,
            differing=differing,
            first=example,
            micros=1e6 * (perf_counter() - start),
        )


def _patterns(first: int, count: int) -> torch.Tensor:
    """Consecutive patterns, int32 of shape (count,)."""
    start = first - (1 << 32) if first >= 1 << 31 else first
    return torch.arange(start, start + count, dtype=torch.int32)


def sweeps(device: Device, survey: Survey) -> Iterator[Sweep]:
    """One for each narrowing that the survey found the device to make."""
    for other in narrowings(survey):
        yield Sweep(device, other, how_of(survey.policies, other))


def seconds(ahead: Sequence[Sweep]) -> float:
    """About how long these will take: from one chunk of each, after one to warm up."""
    total = 0.0
    for sweep in ahead:
        for number in (0, sweep.chunks // 4):
            start = perf_counter()
            # What fails here fails again where it counts.
            try:
                sweep.chunk(number)
            except Exception:  # noqa: BLE001
                break
            took = perf_counter() - start
        else:
            total += took * sweep.chunks
    return total


def with_outcomes(survey: Survey, outcomes: Sequence[Outcome]) -> Survey:
    """The survey with these in the place of what was measured at the boundaries alone."""
    better = {outcome.cell: outcome for outcome in outcomes}
    return survey.with_outcomes(
        replace(better[one.cell], cause=one.cause) if one.cell in better else one
        for one in survey.outcomes
    )
