"""The list of what is known to fail, in three formats. Pure text."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from itertools import groupby

from dtype_sampler.ledger.outcomes import Cell
from dtype_sampler.ledger.records import KnownFailure
from dtype_sampler.reports.ledger.data import iso, known_since
from dtype_sampler.reports.words import count_of, one_line, since


def text(
    known: Iterable[KnownFailure], *, now: float, mended: Collection[Cell] = frozenset()
) -> str:
    """One line for each cell below its test, and their number. mended: those that pass by now."""
    lines, number, tests = [], 0, 0
    for (key, device), some in groupby(known, lambda one: (one.cell.key, one.cell.device)):
        tests += 1
        lines.append(f"{key} ({device})")
        for one in some:
            number += 1
            how = str(one.failure) if one.failure is not None else "in which way is not known"
            passes = "; mended" if one.cell in mended else ""
            lines.append(one_line(f"  {one.cell.label}: {how}; {since(one, now)}{passes}"))
    total = f"{count_of(number, 'known failure')} of {count_of(tests, 'test')}"
    total += f", {len(mended)} mended" if mended else ""
    return "\n".join([*lines, total]) + "\n"


def nodeids(known: Iterable[KnownFailure]) -> str:
    """The node ids of what failed, one a line: those of tests that loop are the tests' own."""
    found = dict.fromkeys(one.nodeid or one.cell.key for one in known)
    return "".join(f"{nodeid}\n" for nodeid in found)


def as_json(
    known: Iterable[KnownFailure], *, now: float, mended: Collection[Cell] = frozenset()
) -> str:
    """A JSON object: `format` is 1; `known_failures` has one object for each cell."""
    cells = [
        {
            "key": one.cell.key,
            "label": one.cell.label,
            "device": one.cell.device,
            "nodeid": one.nodeid or None,
            "types": None if one.failure is None else list(one.failure.types),
            "message": None if one.failure is None else one.failure.message,
            "since": known_since(one),
            "mended": one.cell in mended,
        }
        for one in known
    ]
    return json.dumps({"format": 1, "generated": iso(now), "known_failures": cells}) + "\n"
