"""Surveys as text for a terminal, and as Markdown. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from string import ascii_letters, digits
from textwrap import wrap

from dtype_sampler.reports.devices.data import (
    MARKS,
    facts,
    headline,
    in_order,
    sections,
)
from dtype_sampler.roundtrip.catalogue import Trip
from dtype_sampler.roundtrip.model import (
    BROKEN,
    CRASHED,
    KNOWN,
    OK,
    UNSTABLE,
    UNSUPPORTED,
    UNTRIED,
    Survey,
)

_COLOURS = {
    OK: "32",
    UNSUPPORTED: "2",
    UNTRIED: "33",
    KNOWN: "33",
    UNSTABLE: "35",
    BROKEN: "1;31",
    CRASHED: "1;35",
}
_GAP = "  "


def text(
    surveys: Iterable[Survey], reasons: Mapping[str, str], *, width: int | None, colour: bool
) -> str:
    """All that was found, of each device in turn.

    reasons: of known issues, by their reference. width: of the terminal, in columns; None breaks no
    line but the table's. colour: whether to mark verdicts by ANSI colours too.
    """
    parts = ["\n".join(_survey(survey, reasons, width, colour)) for survey in surveys]
    return "\n\n".join(parts) + "\n"


def _survey(
    survey: Survey, reasons: Mapping[str, str], width: int | None, colour: bool
) -> Iterator[str]:
    (_, device), *more = facts(survey)
    yield from _broken(device, width, 0)
    yield from _broken(", ".join(f"{name} {value}" for name, value in more), width, 2)
    yield ""
    yield from _table(survey, width or 80, colour)
    yield ""
    yield from _broken(_legend(), width, 2)
    yield from _broken(headline(survey), width, 2)
    for note in survey.notes:
        yield from _broken(f"note: {note}", width, 2)
    for title, lines in sections(survey, reasons):
        yield ""
        yield from _broken(title, width, 0)
        for line, link in lines:
            yield from _broken(_with_link(line, link), width, 2)


def _with_link(line: str, link: str) -> str:
    return f"{line} ({link})" if link else line


def _legend() -> str:
    told = [f"{mark} {verdict}" for verdict, mark in MARKS.items()]
    return f"{'  '.join(told)}  (a blank: not made for this dtype)"


def _table(survey: Survey, width: int, colour: bool) -> Iterator[str]:
    """Dtypes by trips; with the trips' names over the columns where they fit, else letters."""
    between = " "
    trips = in_order(survey.trips)
    groups = [list(group) for _, group in groupby(trips, lambda trip: trip.kind)]
    names = max((len(name) for name in survey.dtypes), default=0)
    heads = {trip.name: trip.name.split("-") for trip in survey.trips}
    sizes = {name: max(map(len, parts)) for name, parts in heads.items()}
    full = names + sum(len(_GAP) + sum(sizes[t.name] + 1 for t in g) for g in groups)
    if full <= width:
        height = max(map(len, heads.values()))
        for line in range(height):
            pieces = {
                name: ([""] * (height - len(parts)) + parts)[line] for name, parts in heads.items()
            }
            yield _row("", pieces, names, groups, sizes)
    else:
        letters = dict(zip((t.name for t in trips), ascii_letters + digits, strict=False))
        sizes = dict.fromkeys(sizes, 1)
        kinds = max(len(group[0].kind) for group in groups)
        for group in groups:
            told = [f"{letters[trip.name]} {trip.name}" for trip in group]
            yield from _listing(group[0].kind, told, kinds + 2, width)
        yield ""
        # A blank between any two columns, if there is room for it.
        wide = names + sum(len(_GAP) - 1 + 2 * len(group) for group in groups) <= width
        between = " " if wide else ""
        yield _row("", letters, names, groups, sizes, between)
    for dtype in survey.dtypes:
        marks = {}
        for trip in survey.trips:
            verdict = survey.verdict(dtype, trip.name)
            mark = MARKS[verdict] if verdict is not None else ""
            if colour and verdict is not None:
                mark = f"\033[{_COLOURS[verdict]}m{mark}\033[0m"
            marks[trip.name] = mark
        yield _row(dtype, marks, names, groups, sizes, between)


def _row(
    name: str,
    cells: Mapping[str, str],
    names: int,
    groups: Sequence[Sequence[Trip]],
    sizes: Mapping[str, int],
    between: str = " ",
) -> str:
    line = name.ljust(names)
    for place, group in enumerate(groups):
        # Set close, a kind of one trip stands with the kind before it.
        alone = place > 0 and len(group) == 1
        line += "" if alone and not between else _GAP[1:]
        for trip in group:
            cell = cells.get(trip.name, "")
            line += between + _padded(cell, sizes[trip.name])
    return line.rstrip()


def _padded(cell: str, size: int) -> str:
    # Colours take no columns.
    seen = len(cell) if not cell.startswith("\033") else 1
    return cell + " " * (size - seen)


def _listing(name: str, entries: Iterable[str], indent: int, width: int) -> Iterator[str]:
    """Entries beside a name, none of them broken."""
    line = name.ljust(indent)
    fresh = True
    for entry in entries:
        if not fresh and len(line) + len(_GAP) + len(entry) > width:
            yield line
            line, fresh = " " * indent, True
        line += entry if fresh else _GAP + entry
        fresh = False
    yield line


def _broken(line: str, width: int | None, indent: int) -> list[str]:
    """The line in as many as it takes, all but the first one indented further."""
    lead = " " * indent
    if width is None:
        return [lead + line]
    # Not at a hyphen: names are to be found again by searching.
    return wrap(
        line,
        max(width, indent + 20),
        initial_indent=lead,
        subsequent_indent=lead + _GAP,
        break_on_hyphens=False,
        break_long_words=False,
    )


def markdown(surveys: Iterable[Survey], reasons: Mapping[str, str]) -> str:
    """The same for a bug report: a table of its own for each device."""
    return "\n\n".join("\n".join(_section(survey, reasons)) for survey in surveys) + "\n"


def _section(survey: Survey, reasons: Mapping[str, str]) -> Iterator[str]:
    (_, device), *more = facts(survey)
    yield f"### {_escaped(device)}"
    yield ""
    yield ", ".join(f"{name} {_escaped(value)}" for name, value in more)
    yield ""
    yield f"{headline(survey)}."
    for note in survey.notes:
        yield f"Note: {_escaped(note)}."
    yield ""
    trips = in_order(survey.trips)
    yield "| | " + " | ".join(trip.name for trip in trips) + " |"
    yield "| --- |" + " :-: |" * len(trips)
    for dtype in survey.dtypes:
        verdicts = [survey.verdict(dtype, trip.name) for trip in trips]
        marks = [MARKS[verdict] if verdict is not None else "" for verdict in verdicts]
        yield f"| {dtype} | " + " | ".join(marks) + " |"
    yield ""
    yield ", ".join(f"`{mark}` {verdict}" for verdict, mark in MARKS.items())
    for title, lines in sections(survey, reasons):
        yield ""
        yield f"**{title[0].upper()}{title[1:]}**"
        yield ""
        yield from (f"- {_escaped(_with_link(line, link))}" for line, link in lines)


def _escaped(words: str) -> str:
    """Words that are to be read as they stand."""
    for character in "\\`*[]<>|":
        words = words.replace(character, f"\\{character}")
    return words.replace("\n", " ")
