"""Results, and how they are shown: a table for 80 columns, and JSON."""

from __future__ import annotations

import platform
import sys
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from statistics import median
from typing import Any

WIDTH = 80


@dataclass(frozen=True, slots=True)
class Result:
    """One line of a table.

    samples: one number for each repetition. unit: "x" for a ratio, "%" for a ratio shown in
    percent, "us". aim: what the median is to stay below. beside: other columns, by heading.
    """

    name: str
    unit: str
    samples: list[float]
    aim: float | None = None
    beside: Mapping[str, float] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """`met`, `missed`, or nothing where there is no aim."""
        if self.aim is None:
            return ""
        return "met" if median(self.samples) < self.aim else "missed"


@dataclass(frozen=True, slots=True)
class Section:
    """One benchmark. method: what is divided by what, and how it was measured."""

    title: str
    method: str
    results: list[Result]


def versions() -> dict[str, str]:
    """What was measured, by name."""
    return {
        "plugin": version("pytest-dtype-sampler"),
        "python": platform.python_version(),
        "pytest": version("pytest"),
        "torch": version("torch"),
        "machine": f"{platform.system()} {platform.machine()}",
    }


def table(section: Section) -> str:
    """The section as lines of at most 80 columns."""
    beside = list(dict.fromkeys(name for result in section.results for name in result.beside))
    rows = [["", "median", "min..max", *beside, "aim"]]
    for result in section.results:
        show = _SHOW[result.unit]
        low, high = show(min(result.samples)), show(max(result.samples))
        aim = f"< {show(result.aim)} {result.verdict}" if result.aim is not None else ""
        others = [f"{result.beside[n]:.3g}" if n in result.beside else "" for n in beside]
        rows.append([result.name, show(median(result.samples)), f"{low}..{high}", *others, aim])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [section.title, *textwrap.wrap(section.method, WIDTH - 2, initial_indent="")]
    for name, *cells, aim in rows:
        middle = "  ".join(c.rjust(w) for c, w in zip(cells, widths[1:-1], strict=True))
        lines.append(f"  {name.ljust(widths[0])}  {middle}  {aim}".rstrip())
    return "\n".join(lines)


def tell(text: str) -> None:
    """Show how far it is. Progress is for a person who waits, not for a log."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def as_json(sections: Iterable[Section]) -> dict[str, Any]:
    """Everything that was measured, in plain builtins."""
    return {
        "versions": versions(),
        "sections": [
            {
                "title": section.title,
                "method": section.method,
                "results": [
                    {
                        "name": result.name,
                        "unit": result.unit,
                        "median": median(result.samples),
                        "min": min(result.samples),
                        "max": max(result.samples),
                        "aim": result.aim,
                        "verdict": result.verdict or None,
                        "beside": dict(result.beside),
                        "samples": result.samples,
                    }
                    for result in section.results
                ],
            }
            for section in sections
        ],
    }


_SHOW = {
    "runs": lambda value: f"{value:g}",
    "x": lambda value: f"{value:.3f}",
    "%": lambda value: f"{100 * value:.1f} %",
    "us": lambda value: f"{value:.3g} us" if value < 1000 else f"{value:,.0f} us",
}
