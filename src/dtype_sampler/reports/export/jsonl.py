"""JSON lines: one object a row, with every column. Times are ISO 8601 in UTC."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import lru_cache

from dtype_sampler.reports.export.table import COLUMNS, TIME, Row

_NAMES = tuple(column.name for column in COLUMNS)
_TIMES = tuple(place for place, column in enumerate(COLUMNS) if column.type == TIME)


def lines(rows: Iterable[Row]) -> Iterator[str]:
    """A line for each row, in ASCII."""
    for row in rows:
        values = list(row)
        for place in _TIMES:
            values[place] = _iso(values[place])
        yield json.dumps(dict(zip(_NAMES, values, strict=True)), allow_nan=False) + "\n"


@lru_cache(maxsize=4096)  # the cells of one test share their moments, and those of a run its own
def _iso(at: int | None) -> str | None:
    if at is None:
        return None
    seconds, milliseconds = divmod(at, 1000)
    moment = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{moment}.{milliseconds:03d}Z"
