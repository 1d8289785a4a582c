"""What `dtype-sampler devices` says of surveys, before it is laid out; and its JSON. Pure.

The JSON has format 1, described by `devices.schema.json`. Times are ISO 8601 in UTC.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from dtype_sampler.reports.ledger.data import iso
from dtype_sampler.roundtrip.catalogue import ALL_KINDS, Trip
from dtype_sampler.roundtrip.model import (
    BROKEN,
    CRASHED,
    FAULTS,
    KNOWN,
    OK,
    POLICIES,
    UNSTABLE,
    UNSUPPORTED,
    UNTRIED,
    Cell,
    Outcome,
    Policy,
    Survey,
)

FORMAT = 1

# The best of them says least: what is wrong is to stand out.
MARKS: Mapping[str, str] = {
    OK: ".",
    UNSUPPORTED: "-",
    UNTRIED: "?",
    KNOWN: "k",
    UNSTABLE: "~",
    BROKEN: "X",
    CRASHED: "!",
}


class Listed(NamedTuple):
    """Outcomes of one survey that are known, or fixed, for one reason."""

    reference: str
    reason: str
    outcomes: list[Outcome]


def report(surveys: Iterable[Survey], *, now: float) -> dict[str, Any]:
    """Everything, in plain builtins."""
    return {
        "format": FORMAT,
        "generated": iso(now),
        "surveys": [
            {**survey.to_json(), "summary": summary(survey), "faults": _messages(survey)}
            for survey in surveys
        ],
    }


def summary(survey: Survey) -> dict[str, int]:
    """How many dtypes, cells and verdicts there are."""
    counts = dict.fromkeys(MARKS, 0)
    for outcome in survey.outcomes:
        counts[outcome.verdict] += 1
    return {"dtypes": len(survey.dtypes), "cells": len(survey.outcomes), **counts}


def _messages(survey: Survey) -> list[str]:
    return [outcome.message for outcome in survey.faults]


def gate_missed(surveys: Iterable[Survey]) -> bool:
    """Whether any cell is broken, crashed or unstable that is not known."""
    return any(survey.faults for survey in surveys)


def headline(survey: Survey) -> str:
    """One line: how the survey came out."""
    counts = summary(survey)
    told = ", ".join(f"{counts[verdict]} {verdict}" for verdict in MARKS if counts[verdict])
    dtypes, cells = counts["dtypes"], counts["cells"]
    return f"{dtypes} dtype{'s' * (dtypes != 1)}, {cells} cell{'s' * (cells != 1)}: {told}"


def facts(survey: Survey) -> list[tuple[str, str]]:
    """What a bug report needs: device, driver and versions, as pairs of a name and a value."""
    found = [("device", " ".join(filter(None, (survey.device, f"({survey.device_name})"))))]
    if survey.driver:
        found.append(("driver", survey.driver))
    return found + list(survey.versions.items())


def in_order(trips: Iterable[Trip]) -> list[Trip]:
    """The trips as the columns of a table: by kind, the kinds as they are always listed."""
    return sorted(trips, key=lambda trip: ALL_KINDS.index(trip.kind))


def root_of(outcome: Outcome, survey: Survey) -> Outcome:
    """The outcome that shows the same fault on the shortest trip; it may be the same one."""
    # A chain of causes is never longer than all outcomes.
    for _ in survey.outcomes:
        cause = survey.cause_of(outcome)
        if cause is None:
            break
        outcome = cause
    return outcome


def spread(survey: Survey) -> dict[Cell, list[Outcome]]:
    """The outcomes that show the fault of another, by the cell that is reported for them."""
    found: dict[Cell, list[Outcome]] = {}
    for outcome in survey.outcomes:
        if outcome.verdict in FAULTS and outcome.cause is not None:
            found.setdefault(root_of(outcome, survey).cell, []).append(outcome)
    return found


def title_of_faults(survey: Survey) -> str:
    """What stands over them."""
    unstable = any(fault.verdict == UNSTABLE for fault in survey.faults)
    return "broken, crashed or unstable" if unstable else "broken or crashed"


def fault_lines(survey: Survey) -> list[str]:
    """A line for each fault, at the shortest trip that shows it, and how far it spreads."""
    others = spread(survey)
    lines = []
    for fault in survey.faults:
        more = others.get(fault.cell, [])
        cells = f" (and {len(more)} longer trip{'s' * (len(more) != 1)})" if more else ""
        lines.append(f"{fault.message}{cells}")
    return lines


def listed(survey: Survey, reasons: Mapping[str, str], *, fixed: bool) -> list[Listed]:
    """What is known, or is listed as known and works; together where the reason is the same.

    reasons: reference -> reason, for people.
    """
    found: dict[str, list[Outcome]] = {}
    for outcome in survey.outcomes:
        if outcome.is_fixed if fixed else outcome.verdict == KNOWN:
            found.setdefault(outcome.link, []).append(outcome)
    return [Listed(link, reasons.get(link, ""), some) for link, some in found.items()]


def cells_of(outcomes: Sequence[Outcome]) -> str:
    """Which cells these are: trips with the dtypes of each, those with the same dtypes together."""
    dtypes: dict[str, dict[str, None]] = {}
    for outcome in outcomes:
        dtypes.setdefault(outcome.name, {})[outcome.dtype] = None
    trips: dict[tuple[str, ...], list[str]] = {}
    for name, some in dtypes.items():
        trips.setdefault(tuple(some), []).append(name)
    # Casts of one dtype to many: `narrowing float16, bfloat16`.
    return "; ".join(f"{_joined(names)} of {', '.join(some)}" for some, names in trips.items())


def _joined(names: Iterable[str]) -> str:
    ends: dict[str, list[str]] = {}
    for name in names:
        trip, _, end = name.partition(" ")
        ends.setdefault(trip, []).append(end)
    return ", ".join(
        f"{trip} to {', '.join(some)}" if some[0] else trip for trip, some in ends.items()
    )


def untried_lines(survey: Survey) -> list[str]:
    """Which trips were not tried and why, a line for each reason."""
    trips: dict[str, dict[str, None]] = {}
    for outcome in survey.outcomes:
        if outcome.verdict == UNTRIED:
            trips.setdefault(outcome.words, {})[outcome.trip] = None
    return [f"{words}: {', '.join(names)}" for words, names in trips.items()]


class Section(NamedTuple):
    """What stands below a table: a title, and its lines, each with a link or none."""

    title: str
    lines: list[tuple[str, str]]


def sections(survey: Survey, reasons: Mapping[str, str]) -> list[Section]:
    """All that is to be said in words of a survey; what there is nothing of is left out.

    reasons: of known issues, by their reference.
    """
    policies = "policies: what standards or versions leave open, by the dtype that is cast to"
    found = [
        (title_of_faults(survey), _unlinked(fault_lines(survey))),
        ("not tried", _unlinked(untried_lines(survey))),
        ("listed as known, but they work", _linked(listed(survey, reasons, fixed=True))),
        ("known", _linked(listed(survey, reasons, fixed=False))),
        (policies, _unlinked(policy_lines(survey.policies))),
    ]
    return [Section(title, lines) for title, lines in found if lines]


def _unlinked(lines: Iterable[str]) -> list[tuple[str, str]]:
    return [(line, "") for line in lines]


def _linked(issues: Iterable[Listed]) -> list[tuple[str, str]]:
    told = []
    for issue in issues:
        text = f"{cells_of(issue.outcomes)}: {issue.reason or 'see'}"
        # A place in a file is none to follow.
        link = issue.reference if issue.reference.startswith(("https://", "http://")) else ""
        told.append((text if link else f"{text} ({issue.reference})", link))
    return told


def policy_lines(policies: Iterable[Policy]) -> list[str]:
    """What the device does where more than one thing is allowed, casts to one dtype together.

    A line for each policy and value: `a finite value too large becomes NaN: float8_e4m3fnuz`.
    """
    values: dict[tuple[str, str], dict[str, str]] = {}
    for policy in policies:
        beside = f" (cpu: {policy.on_host})" if policy.on_host else ""
        by_source = values.setdefault((policy.name, policy.other_dtype), {})
        by_source[policy.dtype] = f"{policy.value}{beside}"
    found: dict[tuple[str, str], list[str]] = {}
    for (name, target), by_source in values.items():
        common = max(by_source.values(), key=list(by_source.values()).count)
        found.setdefault((name, common), []).append(target)
        for source, value in by_source.items():
            if value != common:
                found.setdefault((name, value), []).append(f"{source}→{target}")
    return [
        f"{POLICIES[name]} {value}: {', '.join(found[name, value])}"
        for name, value in sorted(found, key=lambda one: list(POLICIES).index(one[0]))
    ]
