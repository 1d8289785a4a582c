"""One trip, made once or several times: what came of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import torch

from dtype_sampler.roundtrip.casts import Finding, Narrowed
from dtype_sampler.roundtrip.devices import first_line
from dtype_sampler.roundtrip.judging import Wrong, compared, joined, moved
from dtype_sampler.roundtrip.model import (
    BROKEN,
    OK,
    UNSTABLE,
    UNSUPPORTED,
    UNTRIED,
    Outcome,
    Policy,
)
from dtype_sampler.roundtrip.names import Misnamed
from dtype_sampler.roundtrip.patterns import tensor_of
from dtype_sampler.roundtrip.stay import Arrival, Changed, Stay
from dtype_sampler.roundtrip.trips import why_untried

# In so many places a pattern is tried that came to harm in one: more than a vector has lanes.
ELSEWHERE = 67


class Attempt(NamedTuple):
    """How a trip ended once: see `Outcome`."""

    verdict: str
    half: str
    words: str
    finding: Finding

    def with_fault(self, words: str) -> Attempt:
        """The same with a fault that was found afterwards."""
        told = "; ".join(filter(None, (self.words, words)))
        return self._replace(verdict=BROKEN, half="", words=told)

    @property
    def seen(self) -> tuple[object, ...]:
        """What must be the same each time."""
        wrong = self.finding.wrong
        return self.verdict, self.half, wrong and (wrong.count, wrong.first, wrong.at)


def attempted(goes: Callable[[], Iterator[Finding | None]], *, words_are_faults: bool) -> Attempt:
    """Make a trip once."""
    # What is prepared here is the engine's own work, whose failure would be no refusal.
    halves = goes()
    half = "out"
    try:
        next(halves)
        half = "back"
        finding = next(halves) or Finding(0, None)
        broken = finding.wrong is not None or (finding.words and words_are_faults)
        return Attempt(BROKEN if broken else OK, "", finding.words, finding)
    except (Misnamed, Changed) as error:
        return Attempt(BROKEN, "", str(error), Finding(0, None))
    # Refusals and faults alike come as whatever the back end likes to raise.
    except Exception as error:  # noqa: BLE001
        if missing := why_untried(error):
            return Attempt(UNTRIED, "", missing, Finding(0, None))
        assertion = "INTERNAL ASSERT" in str(error)
        verdict = UNSUPPORTED if half == "out" and not assertion else BROKEN
        return Attempt(verdict, half, first_line(error), Finding(0, None))


def settled(attempts: Sequence[Attempt]) -> Attempt:
    """All attempts as one: the first, if they ended in the same way."""
    first = attempts[0]
    if all(one.seen == first.seen for one in attempts):
        return first
    wrong = [one for one in attempts if one.verdict == BROKEN]
    worst = (wrong or attempts)[0]
    count = f"differs from run to run: wrong in {len(wrong)} of {len(attempts)}"
    words = "; ".join(filter(None, (count, worst.words)))
    return worst._replace(verdict=UNSTABLE, half="", words=words)


def noted(halves: Iterator[Narrowed | None], seen: list[Policy]) -> Iterator[Finding | None]:
    """The findings of a cast that has policies, which are put into *seen*."""
    for narrowed in halves:
        if narrowed is not None:
            seen[:] = narrowed.policies
        yield narrowed and narrowed.finding


def is_right_elsewhere(
    outcome: Outcome,
    dtype: torch.dtype,
    again: Callable[[torch.Tensor], Iterator[Finding | None]],
) -> bool:
    """Whether the smallest counterexample comes out right in another place: a fault of lanes."""
    assert outcome.first is not None
    one = outcome.first.given.to_bytes(dtype.itemsize, "little")
    host = tensor_of(torch.tensor(list(one), dtype=torch.uint8).repeat(ELSEWHERE), dtype)
    try:
        halves = again(host)
        next(halves)
        finding = next(halves)
    # What fails with one pattern only says nothing of places.
    except Exception:  # noqa: BLE001
        return False
    return finding is not None and (finding.wrong is None or finding.wrong.count < finding.tried)


def finding_of(stay: Stay, arrivals: Iterable[Arrival] | None) -> Finding:
    """What came back, compared with what was sent. Raises Changed for another kind of tensor."""
    found: list[Wrong | None] = []
    tried = 0
    own = False
    count = len(stay.host)
    for tensor, places, wanted, any_nan in arrivals or ():
        if tensor.dtype is not stay.dtype:
            raise Changed(f"came back as {tensor.dtype}")
        expected = wanted
        if expected is None:
            expected = stay.host if places is None else stay.part(places)
        if tensor.numel() != expected.numel():
            raise Changed(f"{expected.numel()} elements came back as {tensor.numel()}")
        tried += len(expected)
        own = own or wanted is not None
        one = compared(expected, tensor, expected, any_nan=any_nan)
        if one is not None and places is not None:
            one = moved(one, torch.tensor(places))
        found.append(one)
    # Some trips are made in several ways, and each pattern counts once.
    return Finding(tried if own else min(tried, count), joined(found))
