"""Surveys as one HTML page, which needs nothing but a browser, and no script. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from dtype_sampler.reports.devices.data import (
    MARKS,
    facts,
    headline,
    in_order,
    sections,
)
from dtype_sampler.reports.ledger.data import iso
from dtype_sampler.roundtrip.catalogue import Trip
from dtype_sampler.roundtrip.model import OK, UNSUPPORTED, Survey

# A full stop sits too low in a box.
_MARKS = {**MARKS, OK: "·"}
# So much is told of one cell; the rest is in the JSON.
_TOLD = 8


def render(surveys: Sequence[Survey], reasons: Mapping[str, str], *, now: float) -> str:
    """The page. reasons: of known issues, by their reference. It is to be written as UTF-8."""
    # Comes with torch; costs nothing where no page is asked for.
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    source = resources.files("dtype_sampler.reports.devices").joinpath("devices.html.jinja")
    return environment.from_string(source.read_text(encoding="utf-8")).render(
        generated=iso(now),
        marks=list(_MARKS.items()),
        surveys=[_survey(survey, reasons) for survey in surveys],
    )


def _survey(survey: Survey, reasons: Mapping[str, str]) -> dict[str, Any]:
    trips = in_order(survey.trips)
    first = {
        trip.name: place > 0 and trips[place - 1].kind != trip.kind
        for place, trip in enumerate(trips)
    }
    return {
        "device": survey.device,
        "facts": facts(survey),
        "headline": headline(survey),
        "notes": survey.notes,
        "trips": [
            {"name": t.name, "kind": t.kind, "about": t.about, "first": first[t.name]}
            for t in trips
        ],
        "rows": [_row(survey, dtype, trips, first) for dtype in survey.dtypes],
        "sections": [
            (f"{title[0].upper()}{title[1:]}", lines) for title, lines in sections(survey, reasons)
        ],
    }


def _row(
    survey: Survey, dtype: str, trips: Sequence[Trip], first: Mapping[str, bool]
) -> dict[str, Any]:
    cells: list[dict[str, Any]] = []
    for trip in trips:
        verdict = survey.verdict(dtype, trip.name)
        cells.append(
            {
                "verdict": verdict,
                "mark": _MARKS[verdict] if verdict is not None else "",
                "title": _title(survey, dtype, trip.name),
                "first": first[trip.name],
                "trip": trip.name,
            }
        )
    plain = all(cell["verdict"] in (None, OK, UNSUPPORTED) for cell in cells)
    # What a finger can't point at is to be read below the table.
    ranks = list(MARKS)
    told = [cell for cell in cells if cell["verdict"] not in (None, OK)]
    told.sort(key=lambda cell: ranks.index(cell["verdict"]), reverse=True)
    counts = Counter(cell["verdict"] for cell in told)
    about = ", ".join(f"{counts[one]} {one}" for one in reversed(ranks) if counts[one])
    return {"dtype": dtype, "cells": cells, "plain": plain, "told": told, "about": about}


def _title(survey: Survey, dtype: str, trip: str) -> str:
    """What happened, the worst first, in lines."""
    ranks = list(MARKS)
    found = sorted(
        survey.of(dtype=dtype, trip=trip), key=lambda one: ranks.index(one.verdict), reverse=True
    )
    lines = [one.message for one in found[:_TOLD]]
    if len(found) > _TOLD:
        lines.append(f"and {len(found) - _TOLD} more")
    return "\n".join(lines)
