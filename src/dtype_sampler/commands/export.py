"""The command `dtype-sampler export`: the ledger as a table for other programs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from dtype_sampler.commands.exits import FINE
from dtype_sampler.commands.opening import add_tests, spare
from dtype_sampler.commands.output import binary, write_lines
from dtype_sampler.errors import DtypeSamplerError

if TYPE_CHECKING:
    from dtype_sampler.ledger.store import Store
    from dtype_sampler.reports.export.table import Row

JSONL, PARQUET = "jsonl", "parquet"


def add_arguments(sub: argparse.ArgumentParser) -> None:
    """What can be said on the command line, but for `--ledger`."""
    sub.add_argument(
        "--format",
        choices=(JSONL, PARQUET),
        default=JSONL,
        help="JSON lines, which is the default, or Parquet, which needs pyarrow",
    )
    sub.add_argument(
        "--since",
        metavar="RUN",
        help="just this run and later ones: its number, the beginning of its id, or 'last'",
    )
    sub.add_argument("-o", "--output", type=Path, metavar="PATH", help="write it there")
    sub.add_argument("--device", action="append", metavar="TYPE", help="just this type of device")
    add_tests(sub)


def run(options: argparse.Namespace, open_ledger: Callable[[], Store]) -> int:
    """Write the table. Raises DtypeSamplerError."""
    from dtype_sampler.ledger.past import find_run
    from dtype_sampler.reports.export import jsonl, parquet
    from dtype_sampler.reports.export.table import chosen, rows

    if options.format == PARQUET:
        # Before anything is read or written.
        parquet.load()
        if options.output is None and sys.stdout.isatty():
            raise DtypeSamplerError("Parquet is nothing for a terminal: give -o PATH, or a pipe")
    with closing(open_ledger()) as store:
        spare(options.output, getattr(store, "path", None))
        runs = store.runs()
        since = None
        if options.since is not None:
            try:
                since = find_run(runs, options.since)
            except DtypeSamplerError as error:
                raise DtypeSamplerError(f"--since {options.since}: {error}") from None
        found = _Counted(
            rows(store, chosen(runs, since), devices=options.device, pattern=options.tests)
        )
        if options.format == PARQUET:
            with binary(options.output) as file:
                parquet.write(found, file)
        else:
            write_lines(jsonl.lines(found), options.output)
    if not found.count:
        sys.stderr.write("dtype-sampler: there are no such rows in the runs that are whole\n")
    return FINE


class _Counted:
    """Iterates over rows, and knows how many there were."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._rows = rows
        self.count = 0

    def __iter__(self) -> Iterator[Row]:
        for row in self._rows:
            self.count += 1
            yield row
