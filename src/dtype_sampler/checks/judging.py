"""From the outcomes of a survey to what one test item says. Pure."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import NamedTuple

from dtype_sampler.reports.devices.data import root_of
from dtype_sampler.roundtrip.known import Issue, issue_of, reason_of
from dtype_sampler.roundtrip.model import FAULTS, KNOWN, UNSUPPORTED, UNTRIED, Outcome, Survey

PASSED = "passed"
FAILED = "failed"
SKIPPED = "skipped"
XFAILED = "xfailed"
XPASSED = "xpassed"


class Judgement(NamedTuple):
    """How an item ends, and why, in lines."""

    outcome: str
    words: str = ""


def judge(
    survey: Survey,
    dtype: str,
    kind: str,
    issues: Sequence[Issue],
    elsewhere: Container[tuple[str, str]] = (),
) -> Judgement:
    """What the item for a dtype and a kind of trip says.

    survey: marked with *issues*. elsewhere: dtype and kind of all items of this run, on the same
    device. An item fails for a fault, and for a listed one that no longer shows. A fault with a
    cause that another item of this run reports is expected here, so that it is told once. With a
    version that the list was not tried with, that a listed one no longer shows is merely told: it
    passes unexpectedly. Skipped is an item of which every trip was refused, or one was not tried.
    """
    outcomes = list(survey.of(dtype=dtype, kind=kind))
    faults: list[str] = []
    spread: list[str] = []
    for one in outcomes:
        if one.verdict not in FAULTS:
            continue
        root = root_of(one, survey)
        if root is one:
            faults.append(one.message)
        elif root in outcomes:
            # The same item says it at the shorter trip.
            continue
        else:
            elsewhere_told = (root.dtype, root.kind) in elsewhere
            same = f"the same fault as {root.dtype} {root.name}"
            (spread if elsewhere_told else faults).append(f"{one.message} ({same})")
    fixed: list[str] = []
    told: list[str] = []
    for one in [one for one in outcomes if one.is_fixed]:
        issue = issue_of(one, survey, issues)
        reason = reason_of(one, survey, issues)
        if issue is None or issue.was_tried(survey):
            fixed.append(f"{one.route}: listed as a known issue, but it works: {reason}")
        else:
            told.append(f"{one.route}: works now: remove it from the list: {reason}")
    if faults or fixed:
        return Judgement(FAILED, "\n".join(faults + fixed))
    expected = [reason_of(one, survey, issues) for one in outcomes if one.verdict == KNOWN]
    missing = _untried(outcomes)
    if expected or spread:
        reasons = expected + spread + told + missing
        return Judgement(XFAILED, "; ".join(dict.fromkeys(reasons)))
    if told:
        return Judgement(XPASSED, "; ".join(told + missing))
    if not outcomes:
        return Judgement(SKIPPED, f"{survey.device} makes no trip of this kind with {dtype}")
    # What was not seen is not passed, though all that was made was right.
    if missing:
        return Judgement(SKIPPED, "; ".join(missing))
    if all(one.verdict == UNSUPPORTED for one in outcomes):
        return Judgement(SKIPPED, "; ".join(f"{one.name}: {one.words}" for one in outcomes))
    return Judgement(PASSED)


def _untried(outcomes: Sequence[Outcome]) -> list[str]:
    """Which trips were not made for want of what."""
    trips: dict[str, list[str]] = {}
    for one in outcomes:
        if one.verdict == UNTRIED:
            trips.setdefault(one.words, []).append(one.name)
    return [f"not tried: {words}: {', '.join(names)}" for words, names in trips.items()]
