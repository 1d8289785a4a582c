"""The ledger's report as one HTML page, which needs nothing but a browser. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

from dtype_sampler.reports.ledger import table
from dtype_sampler.reports.words import lasting

_FIGURES = (
    ("cells", "cells"),
    ("covered", "covered"),
    ("never_ran", "never ran"),
    ("failing", "failing"),
    ("suspect", "suspect"),
    ("unsupported", "unsupported"),
    ("skipped", "skipped"),
    ("runs", "runs"),
    ("next_seed", "next seed"),
    ("next_seconds", "next sample takes"),
    ("matrix_seconds", "full matrix takes"),
)
# In this order, as one script.
_SCRIPTS = (
    *("words.js", "chart.js", "tests.js", "map.js"),
    *("acting.js", "panel.js", "start.js"),
)
# No place in a script element where a browser could see anything but JSON.
_UNSAFE = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}


def render(report: Mapping[str, Any]) -> str:
    """The page for a report of format 1, of plain builtins. It is to be written as UTF-8.

    It begins with the table of modules if the report has one, or more tests than anybody reads.
    """
    # Comes with torch; costs nothing where no page is asked for.
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    summary = report["summary"]
    empty = not any(test["cells"] for test in report["tests"])
    labels = dict.fromkeys(cell["label"] for test in report["tests"] for cell in test["cells"])
    places = {label: place for place, label in enumerate(labels)}
    return environment.from_string(_part("report.html.jinja")).render(
        empty=empty,
        generated=report["generated"],
        percent=_figure(None if empty else summary.get("percent")),
        figures=[
            *((name, words, _figure(summary.get(name), name)) for name, words in _FIGURES),
            *_singles(summary.get("single_dtypes")),
        ],
        first=_first(report),
        style=Markup(_part("page.css")),  # noqa: S704 - ours
        script=Markup("\n".join(map(_part, _SCRIPTS))),  # noqa: S704 - ours
        data=_json({key: value for key, value in report.items() if key != "by"}),
        # Of the labels as the report has them, one after the other.
        columns=[places[label] for label in table.in_columns(labels)],
    )


def _part(name: str) -> str:
    """A file of the page, which holds them all."""
    page = resources.files("dtype_sampler.reports.ledger").joinpath("page", name)
    return page.read_text(encoding="utf-8")


def _singles(singles: Mapping[str, Any] | None) -> list[tuple[str, str, str]]:
    """What is covered of the dtypes of tests with several arguments, where there are any."""
    if singles is None:
        return []
    shown = f"{singles['covered']:,} of {singles['all']:,}"
    return [("single_dtypes", "single dtypes of several arguments", shown)]


def _first(report: Mapping[str, Any]) -> dict[str, Any] | None:
    """The table that the page begins with; None for none. Its cells are texts."""
    found = report.get("by")
    if found is None:
        if len(report["tests"]) <= table.MANY:
            return None
        found = table.support_table(report["tests"], "module")
    return {
        "kind": found["kind"],
        "summary": table.summary_line(found),
        "legend": table.legend(found),
        "heads": list(zip(found["labels"], table.headings(found["labels"]), strict=True)),
        "devices": len({row["device"] for row in found["rows"]}) > 1,
        "rows": [
            {
                **row,
                "cells": [
                    (table.counts(of), table.words(of), table.worst(of)) if of else None
                    for label in found["labels"]
                    for of in (row["cells"].get(label),)
                ],
            }
            for row in found["rows"]
        ],
    }


def _figure(value: Any, name: str = "") -> str:
    if name.endswith("_seconds"):
        return lasting(value)
    if value is None:
        return "–"  # noqa: RUF001 - as in the heat map: there is none
    # A seed is copied, not read.
    return str(value) if name == "next_seed" or not isinstance(value, int) else f"{value:,}"


def _json(data: object) -> Any:
    """Plain builtins as JSON that may stand in a script element: ASCII, without markup."""
    from markupsafe import Markup

    text = json.dumps(data, separators=(",", ":"), allow_nan=False).translate(_UNSAFE)
    return Markup(text)  # noqa: S704 - nothing in it is markup any more
