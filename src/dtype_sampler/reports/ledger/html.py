"""The ledger's report as one HTML page, which needs nothing but a browser. Pure."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Any

from dtype_sampler.errors import nearest
from dtype_sampler.ledger.outcomes import CRASHED, FAILED, SKIPPED, SUSPECT
from dtype_sampler.reports.ledger import table
from dtype_sampler.reports.words import lasting
from dtype_sampler.sampling.candidates import DTYPE_NAMES
from dtype_sampler.sampling.naming import exact_name

_FIGURES = (
    ("cells", "cells"),
    ("covered", "covered"),
    ("never_ran", "never ran"),
    ("failing", "failing"),
    ("known", "of them known"),
    ("mended", "mended"),
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
    *("words.js", "chart.js", "tests.js", "view.js"),
    *("map.js", "acting.js", "panel.js", "start.js"),
)
# Those that are about the selection of tests that ran last.
_OF_SELECTION = ("next_seed", "next_seconds")
# Those that are shown where there is a baseline, and where it can tell them.
_OF_BASELINE = ("known", "mended")
_MANY_LABELS = 100
_DTYPE = re.compile(r"torch\.\w+")
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
    compared = summary.get("baseline") or {}
    figures = summary | {
        one: compared[one] for one in _OF_BASELINE if compared.get(one) is not None
    }
    empty = not any(test["cells"] for test in report["tests"])
    # Each selection of tests goes through the seeds by itself.
    whose = ", last selection" if (summary.get("selections") or 1) > 1 else ""
    labels = dict.fromkeys(cell["label"] for test in report["tests"] for cell in test["cells"])
    places = {label: place for place, label in enumerate(labels)}
    return environment.from_string(_part("report.html.jinja")).render(
        empty=empty,
        generated=report["generated"],
        percent=_figure(None if empty else summary.get("percent")),
        figures=[
            *(
                (name, words + whose * (name in _OF_SELECTION), _figure(figures.get(name), name))
                for name, words in _FIGURES
                if name in figures or name not in _OF_BASELINE
            ),
            *_singles(summary.get("single_dtypes")),
        ],
        headline=_headline(report),
        baseline=compared.get("name"),
        first=_first(report),
        style=Markup(_part("page.css")),  # noqa: S704 - ours
        script=Markup("\n".join(map(_part, _SCRIPTS))),  # noqa: S704 - ours
        data=_json({key: value for key, value in report.items() if key != "by"}),
        extra=_json(
            {
                # Of the labels as the report has them, one after the other.
                "columns": [places[label] for label in table.in_columns(labels)],
                "exact": _exact_names(report["tests"]),
            }
        ),
    )


def _part(name: str) -> str:
    """A file of the page, which holds them all."""
    page = resources.files("dtype_sampler.reports.ledger").joinpath("page", name)
    return page.read_text(encoding="utf-8")


def _headline(report: Mapping[str, Any]) -> list[tuple[str, str, str, str, str]]:
    """What the page begins with: which tests it leads to, a state, a number, and words for it.

    What broke comes first, then what never ran. Of what there is none leads nowhere.
    """
    summary = report["summary"]
    cells = [cell for test in report["tests"] for cell in test["cells"]]
    crashed = sum(cell.get("last_verdict") == CRASHED for cell in cells)
    known = (summary.get("baseline") or {}).get("known")
    found = []
    for show, state, name, words in (
        ("failing", FAILED, "failing", "failing"),
        ("suspect", SUSPECT, "suspect", "suspect"),
        ("never", "never", "never_ran", "never ran"),
    ):
        number = summary.get(name)
        if not number and name == "suspect":
            continue
        more = []
        if name == "failing" and number:
            more += [] if known is None else [f"{known:,} of them known"]
            more += [f"{crashed:,} of them crashed"] if crashed else []
            state = table.KNOWN if known == number else state
        found.append((show if number else "", state, _figure(number), words, ", ".join(more)))
        if name == "failing" and known:
            new = number - known
            found.append(("new" if new else "", FAILED, _figure(new), "new", ""))
    percent = _figure(summary.get("percent"))
    skipped = sum(cell.get("state") == SKIPPED and not cell.get("counts", True) for cell in cells)
    left = f"not counting {skipped:,} always skipped" if skipped else ""
    return [*found, ("", "", f"{percent} %", "covered", left)]


def _exact_names(tests: Iterable[Mapping[str, Any]]) -> list[tuple[list[str], dict[str, str]]]:
    """Of each pool that needs it, what `--dtype-only` is to be given for which of its labels."""
    pools = dict.fromkeys(tuple(cell["label"] for cell in test["cells"]) for test in tests)
    found = ((pool, {one: _exact_name(one, pool) for one in pool}) for pool in pools)
    exact = [
        (list(pool), {label: name for label, name in names.items() if name != label})
        for pool, names in found
    ]
    return [(pool, names) for pool, names in exact if names]


def _exact_name(label: str, pool: tuple[str, ...]) -> str:
    # A dtype's own label is like no other one.
    if _DTYPE.fullmatch(label):
        return label
    # In quotes it is the label and nothing else. Whether it is nearly the name of a dtype, or which
    # others of a great many it may mean, is not worth an import of torch, or the time.
    if len(pool) > _MANY_LABELS or ("," not in label and _like_a_dtype(label)):
        return f'"{label}"' if "'" in label else f"'{label}'"
    return exact_name(label, pool)


def _like_a_dtype(label: str) -> bool:
    if label in DTYPE_NAMES:
        return False
    if label.startswith("torch.") or label.casefold() in DTYPE_NAMES:
        return True
    return nearest(label, DTYPE_NAMES) is not None


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
                "bad": _bad(row),
                "cells": [
                    (table.counts(of), table.words(of), table.worst(of)) if of else None
                    for label in found["labels"]
                    for of in (row["cells"].get(label),)
                ],
            }
            # The sort is stable: rows that are alike stay in the order of their names.
            for row in sorted(found["rows"], key=_badness)
        ],
    }


def _badness(row: Mapping[str, Any]) -> tuple[int, int, int, float]:
    """Such that the row that most wants attention comes first."""
    counts = _all_of(row)
    known = counts[table.KNOWN]
    never = counts[table.NEVER] / max(1, counts.total() - known)
    return known - counts[FAILED] - counts[CRASHED], -counts[SUSPECT], -known, -never


def _bad(row: Mapping[str, Any]) -> str:
    """What of a row wants attention, for where its columns may be out of view."""
    counts = _all_of(row)
    failing = counts[FAILED] + counts[CRASHED]
    known = counts[table.KNOWN]
    words = f"failing ({known:,} known)" if known else "failing"
    found = ((failing, words), (counts[SUSPECT], "suspect"))
    return ", ".join(f"{number:,} {words}" for number, words in found if number)


def _all_of(row: Mapping[str, Any]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for of in row["cells"].values():
        counts.update(of)
    return counts


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
