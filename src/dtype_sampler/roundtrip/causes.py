"""One cause, reported once: at the shortest trip that shows it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from dtype_sampler.roundtrip.catalogue import (
    INDEPENDENCE,
    LAYOUTS,
    NARROWING,
    TRANSPORT,
    TRIP_BY_NAME,
    TRIPS,
)
from dtype_sampler.roundtrip.model import BROKEN, UNSTABLE, Counterexample, Outcome

_PLACE = {trip.name: place for place, trip in enumerate(TRIPS)}


def with_causes(outcomes: Sequence[Outcome]) -> tuple[Outcome, ...]:
    """The outcomes of one survey, each broken one with the shorter trip that shows the same fault.

    The same fault is: the same words of an error; the same wrong pattern for the same right one;
    the same bits flipped, wherever they were; any fault after one that changes every pattern; or
    one that comes and goes after one that does.
    """
    broken: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in outcomes:
        if outcome.verdict in (BROKEN, UNSTABLE):
            broken.setdefault((outcome.dtype, outcome.trip), []).append(outcome)
    if not broken:
        return tuple(outcomes)
    return tuple(
        replace(outcome, cause=_cause(outcome, broken))
        if outcome.verdict in (BROKEN, UNSTABLE)
        else outcome
        for outcome in outcomes
    )


def _cause(outcome: Outcome, broken: dict[tuple[str, str], list[Outcome]]) -> str | None:
    return next((one.key for one in _shorter(outcome, broken) if _same(one, outcome)), None)


def _shorter(outcome: Outcome, broken: dict[tuple[str, str], list[Outcome]]) -> Iterator[Outcome]:
    """Broken outcomes of the trips that this one includes, shortest first, itself left out."""
    for trip in sorted(_included(outcome.trip), key=_PLACE.__getitem__):
        for one in broken.get((outcome.dtype, trip), ()):
            # Of a trip for pairs, the one to the same dtype.
            if one.other_dtype in (None, outcome.other_dtype):
                yield one
        # A cast ends in the other dtype, which has to be copied to the host too.
        if outcome.other_dtype is not None and not TRIP_BY_NAME[trip].pairs:
            yield from broken.get((outcome.other_dtype, trip), ())
    # By way of another dtype, or device, that came before.
    for one in broken.get((outcome.dtype, outcome.trip), ()):
        if one.cell == outcome.cell:
            return
        yield one


def _included(trip: str) -> set[str]:
    found: set[str] = set()
    todo = [trip]
    while todo:
        for name in TRIP_BY_NAME[todo.pop()].extends:
            if name not in found:
                found.add(name)
                todo.append(name)
    return found


def _same(one: Outcome, outcome: Outcome) -> bool:
    if UNSTABLE in (one.verdict, outcome.verdict):
        # What comes and goes shows now this pattern and now that one.
        return one.verdict == outcome.verdict
    if one.first is None or outcome.first is None:
        return one.first is outcome.first and one.words == outcome.words
    if one.differing == one.tried and one.kind == outcome.kind:
        # Where nothing comes through, nothing can be told of longer ways.
        return True
    sent = (one.first.given_bits, one.first.given) == (
        outcome.first.given_bits,
        outcome.first.given,
    )
    if sent and one.dtype == outcome.dtype and one.kind == TRANSPORT != outcome.kind:
        # What is cast was harmed before.
        return True
    if outcome.kind == LAYOUTS and one.trip in ("copy-strided", "copy-offset"):
        # What gets one arrangement wrong gets wrong what is arranged like it.
        return True
    if outcome.kind in (NARROWING, INDEPENDENCE) and one.kind == outcome.kind:
        if one.other_dtype == outcome.other_dtype:
            return True
        # Of another dtype, the same patterns mean something else.
        return bool(outcome.words) and one.words == outcome.words
    return _wrong(one.first) == _wrong(outcome.first) or _flipped(one.first) == _flipped(
        outcome.first
    )


def _wrong(first: Counterexample) -> tuple[int, int, int]:
    return first.got_bits, first.want, first.got


def _flipped(first: Counterexample) -> tuple[int, int]:
    return first.got_bits, first.want ^ first.got
