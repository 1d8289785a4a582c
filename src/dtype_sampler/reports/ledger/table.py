"""The support table: how each dtype fares in each module, or folder, of tests. Pure.

It is made from the plain data of a report, so that every format shows the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dtype_sampler.ledger.outcomes import (
    CRASHED,
    FAILED,
    NOT_REACHED,
    PASSED,
    SKIPPED,
    SUSPECT,
    UNSUPPORTED,
    XFAILED,
    XPASSED,
)
from dtype_sampler.ledger.records import FAILURES
from dtype_sampler.reports.ledger.text import STEP_SUMMARY_LIMIT, escaped, size_of
from dtype_sampler.reports.words import count_of, visible
from dtype_sampler.sampling.candidates import POOLS, short_name
from dtype_sampler.sampling.combinations import names_in

KINDS = ("module", "folder")
# With more tests than this, a page begins with the table: nobody reads so many rows.
MANY = 500
STALE, NEVER = "stale", "never"
# How many of those that failed a baseline knows: no state of its own.
KNOWN = "known"
# What came of a cell -> the mark, one for terminals that have no more than ASCII, and the words.
# What wants attention comes first, and so it does in a cell of the table.
STATES: Mapping[str, tuple[str, str, str]] = {
    FAILED: ("✗", "F", "failed"),
    CRASHED: ("!", "!", "crashed"),
    SUSPECT: ("?", "?", "one of several that failed, not known which"),
    PASSED: ("✓", ".", "passed"),
    XFAILED: ("x", "x", "failed as expected"),
    XPASSED: ("X", "X", "passed, though it should have failed"),
    STALE: ("~", "~", "too old"),
    SKIPPED: ("s", "s", "skipped"),
    UNSUPPORTED: ("u", "u", "unsupported"),
    NEVER: ("–", "-", "never ran"),  # noqa: RUF001  # as in the heat map
}
_ORDER = (*POOLS["floating"], *POOLS["float8"], *POOLS["complex"], *POOLS["integer"])
_ORDER = (*_ORDER, *POOLS["unsigned"], "bool")
_PLACES = {name: place for place, name in enumerate(_ORDER)}


def support_table(tests: Iterable[Mapping[str, Any]], kind: str) -> dict[str, Any]:
    """The table as plain data, as the key `by` of the JSON report has it.

    tests: as the report has them. kind: `module` or `folder`. Each row has the number of its tests,
    and for each label how many of their cells are in which state. A combination of several dtype
    arguments counts for each of its dtypes, which the key `combined` then says.
    """
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    seen: dict[tuple[str, str], dict[str, dict[str, int]]] = {}
    combined = False
    for test in tests:
        where = row_of(test["key"], kind), test["device"]
        row = rows.setdefault(where, {"name": where[0], "device": where[1], "tests": 0})
        row["tests"] += 1
        of_row = seen.setdefault(where, {})
        combines = "arguments" in test
        combined = combined or combines
        for cell in test["cells"]:
            state = state_of(cell)
            known = cell.get("known") is not None
            # A dozen dtypes of two arguments would be more columns than anybody reads.
            names = names_in(cell["label"]) if combines else (cell["label"],)
            for name in dict.fromkeys(names):
                of_label = of_row.setdefault(name, {})
                of_label[state] = of_label.get(state, 0) + 1
                if known:
                    of_label[KNOWN] = of_label.get(KNOWN, 0) + 1
    labels = in_columns(label for of_row in seen.values() for label in of_row)
    for where, row in rows.items():
        of_row = seen[where]
        row["cells"] = {
            label: {
                state: of_row[label][state] for state in (*STATES, KNOWN) if state in of_row[label]
            }
            for label in labels
            if label in of_row
        }
    order = sorted(rows, key=lambda where: (_natural(where[0]), where))
    table = {"kind": kind, "labels": labels, "rows": [rows[where] for where in order]}
    return table | ({"combined": True} if combined else {})


def state_of(cell: Mapping[str, Any]) -> str:
    """What came of a cell of the report, as one of `STATES`.

    A failure stays one, however old it is: a table must not hide it.
    """
    if cell.get("state") == SUSPECT:
        return SUSPECT
    verdict, last = cell.get("last_verdict"), cell.get("last_outcome")
    if verdict in FAILURES:
        return str(verdict)
    if cell.get("state") == STALE:
        return STALE
    found = verdict or last or NEVER
    return NEVER if found == NOT_REACHED or found not in STATES else str(found)


def row_of(key: str, kind: str) -> str:
    """The module, or folder, of a test."""
    module = key.partition("::")[0]
    if kind == "module":
        return module
    return module.rpartition("/")[0] or "."


def _natural(name: str) -> list[tuple[int, str]]:
    """Such that `b2` comes before `b10`."""
    return [
        (int(part) if part.isdecimal() and part.isascii() else -1, part)
        for part in re.split(r"([0-9]{1,18})", name)
    ]


def in_columns(labels: Iterable[str]) -> list[str]:
    """Each label once, in the order of the columns of a table."""
    return sorted(set(labels), key=_place)


def _place(label: str) -> tuple[Any, ...]:
    """The place of a column: plain dtypes in the order of their families, then others, then pairs.

    A dtype stands beside the string that names it, a tuple beside the same pair of arguments.
    """
    names = [short_name(name) for name in names_in(label)]
    places = [_PLACES.get(name, len(_PLACES)) for name in names]
    return len(names), places, [_natural(name) for name in names], label


def headings(labels: Sequence[str]) -> list[str]:
    """What stands above the columns: `float16` for `torch.float16` where no string is so called."""
    short = [label.replace("torch.", "") for label in labels]
    return [
        name if short.count(name) == 1 else label for name, label in zip(short, labels, strict=True)
    ]


def counts(of: Mapping[str, int] | None, *, ascii_only: bool = False) -> str:
    """A cell of the table: `✗ 1, ✓ 11`; empty where no test declares the dtype."""
    return ", ".join(
        f"{STATES[state][ascii_only]} {number}{_known(state, of or {}, '({} k)')}"
        for state, number in (of or {}).items()
        if state != KNOWN
    )


def words(of: Mapping[str, int]) -> str:
    """The same for people who hear it: `1 failed, 11 passed`."""
    return ", ".join(
        f"{number} {STATES[state][2]}{_known(state, of, '({} of them known)')}"
        for state, number in of.items()
        if state != KNOWN
    )


def _known(state: str, of: Mapping[str, int], words: str) -> str:
    """How many of those that failed are known, if any."""
    return f" {words.format(of[KNOWN])}" if state == FAILED and KNOWN in of else ""


def legend(table: Mapping[str, Any], *, ascii_only: bool = False) -> str:
    """What the marks mean that are in the table."""
    used = {state for row in table["rows"] for of in row["cells"].values() for state in of}
    meaning = ", ".join(
        f"{one[ascii_only]} {one[2]}" for state, one in STATES.items() if state in used
    )
    meaning += ", k known to fail by the baseline" if KNOWN in used else ""
    return f"{meaning}; a combination of dtypes counts for each" if "combined" in table else meaning


def summary_line(table: Mapping[str, Any]) -> str:
    """How many tests there are in how many rows."""
    rows = table["rows"]
    names = len({row["name"] for row in rows})
    tests = sum(row["tests"] for row in rows)
    return f"{count_of(tests, 'test')} in {count_of(names, table['kind'])}"


def markdown(
    table: Mapping[str, Any], *, limit: int = STEP_SUMMARY_LIMIT, ascii_only: bool = False
) -> str:
    """The table for a README, of at most *limit* bytes of UTF-8."""
    if not table["rows"]:
        return "The ledger knows no test.\n"
    devices = _several_devices(table)
    heads = [table["kind"], *(["device"] if devices else []), *headings(table["labels"])]
    lines = [
        f"| {' | '.join(map(escaped, heads))} |",
        f"| --- |{' --- |' * devices}{' :-: |' * len(table['labels'])}",
    ]
    closing = f"\n{escaped(legend(table, ascii_only=ascii_only))}.\n"
    size = size_of(closing) + sum(map(size_of, lines))
    for number, row in enumerate(table["rows"]):
        names = [row["name"], *([row["device"]] if devices else [])]
        of_row = row["cells"]
        cells = [counts(of_row.get(one), ascii_only=ascii_only) for one in table["labels"]]
        line = f"| {' | '.join(map(escaped, [*names, *cells]))} |"
        size += size_of(line)
        if size > limit - 100:
            lines.append(f"\n... and {count_of(len(table['rows']) - number, 'more row')}.")
            break
        lines.append(line)
    return "\n".join([*lines, closing])


def text(table: Mapping[str, Any], *, width: int | None, ascii_only: bool = False) -> str:
    """The table for a terminal: as many columns side by side as fit, and the rest below.

    width: in columns; None for no limit.
    """
    if not table["rows"]:
        return "the ledger knows no test\n"
    devices = _several_devices(table)
    rows = table["rows"]
    names = [f"{row['name']} ({row['device']})" if devices else row["name"] for row in rows]
    names = [_in_one_line(name) for name in names]
    longest = max(map(len, names))
    room = longest if width is None else min(longest, max(width // 2, 20))
    # The end of a name says more than its beginning.
    names = [name if len(name) <= room else f"...{name[3 - room :]}" for name in names]
    columns = [
        [
            _in_one_line(head),
            *(counts(row["cells"].get(label), ascii_only=ascii_only) for row in rows),
        ]
        for head, label in zip(headings(table["labels"]), table["labels"], strict=True)
    ]
    lines = [summary_line(table)]
    left = columns
    while left:
        taken, used = 0, room
        for column in left:
            used += 2 + max(map(len, column))
            if taken and width is not None and used > width:
                break
            taken += 1
        lines.append("")
        widths = [max(map(len, column)) for column in left[:taken]]
        for place, name in enumerate(["", *names]):
            cells = [
                column[place].ljust(size) for column, size in zip(left[:taken], widths, strict=True)
            ]
            lines.append("  ".join([name.ljust(room), *cells]).rstrip())
        left = left[taken:]
    return "\n".join([*lines, "", legend(table, ascii_only=ascii_only)]) + "\n"


def _in_one_line(words: str) -> str:
    """As a terminal will show it, so that it is as wide as it is taken for."""
    return visible(" ".join(words.split()))


def _several_devices(table: Mapping[str, Any]) -> bool:
    return len({row["device"] for row in table["rows"]}) > 1


def worst(of: Mapping[str, int]) -> str:
    """The state that a cell of the table is coloured by: `partly` is passed, and not all of it."""
    if KNOWN in of and of[KNOWN] == of[FAILED] and CRASHED not in of and SUSPECT not in of:
        return KNOWN
    for state in (FAILED, CRASHED, SUSPECT):
        if state in of:
            return state
    if PASSED in of:
        return PASSED if set(of) <= {PASSED, UNSUPPORTED} else "partly"
    return next(iter(of))
