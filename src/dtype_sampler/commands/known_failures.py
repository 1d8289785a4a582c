"""The command `dtype-sampler known-failures`: what fails, and since when."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from contextlib import closing
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from dtype_sampler.commands.exits import FINE, GATE_MISSED
from dtype_sampler.commands.opening import add_tests, place_of_baseline, spare
from dtype_sampler.commands.output import write
from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.session.settings import NO_BASELINE

if TYPE_CHECKING:
    from dtype_sampler.ledger.places import Place
    from dtype_sampler.ledger.store import Store


def add_arguments(sub: argparse.ArgumentParser) -> None:
    """What can be said on the command line, but for `--ledger`."""
    sub.add_argument("--format", choices=("text", "json", "nodeids"), default="text")
    sub.add_argument("-o", "--output", type=Path, metavar="PATH", help="write it there")
    sub.add_argument("--device", action="append", metavar="TYPE", help="just this type of device")
    add_tests(sub)
    sub.add_argument(
        "--baseline",
        metavar="PATH|URL",
        help="list what is known to fail by this ledger, as pytest's --dtype-baseline has it, and"
        " what of it passes by now; `ledger` is the one of --ledger",
    )
    sub.add_argument(
        "--fail-on-mended",
        action="store_true",
        help="exit with 2 if something of the baseline passes by now",
    )


def run(
    options: argparse.Namespace,
    open_ledger: Callable[[], Store],
    place_of: Callable[[str], Place],
) -> int:
    """List the failures. Raises DtypeSamplerError.

    open_ledger: opens the one that the options name, or the default. place_of: where a ledger is
    that a text names.
    """
    from dtype_sampler.ledger.baseline import read_baseline
    from dtype_sampler.ledger.outcomes import PASSED, XPASSED
    from dtype_sampler.ledger.places import FilePlace
    from dtype_sampler.reports import known_failures as shown

    if options.fail_on_mended and options.baseline is None:
        raise DtypeSamplerError("--fail-on-mended needs a list: give --baseline PATH|URL")
    # What a ledger knows by now is its own list, of which nothing is mended.
    baseline = None
    if options.baseline not in (None, NO_BASELINE):
        baseline = place_of_baseline(options.baseline, "--baseline", place_of)
    with closing(open_ledger()) as store:
        theirs = baseline.path if isinstance(baseline, FilePlace) else None
        spare(options.output, getattr(store, "path", None), theirs)
        known = store.known_failures()
        verdicts = {} if baseline is None else {one.cell: one.verdict for one in store.cells()}
    if baseline is not None:
        known = read_baseline(baseline)
    known = [
        one
        # In an order that does not change from run to run.
        for one in sorted(known, key=lambda one: (one.cell.key, one.cell.device, one.cell.label))
        if (not options.device or one.cell.device in options.device)
        and (options.tests is None or fnmatchcase(one.cell.key, options.tests))
    ]
    mended = {
        one.cell
        for one in known
        if (verdict := verdicts.get(one.cell)) is not None and verdict.outcome in (PASSED, XPASSED)
    }
    now = time.time()
    if options.format == "nodeids":
        listed = shown.nodeids(known)
    elif options.format == "json":
        listed = shown.as_json(known, now=now, mended=mended)
    else:
        listed = shown.text(known, now=now, mended=mended)
    write(listed, options.output)
    if not (options.fail_on_mended and mended):
        return FINE
    passes = "passes" if len(mended) == 1 else "pass"
    sys.stderr.write(f"dtype-sampler: {len(mended)} of the known failures {passes} by now\n")
    return GATE_MISSED
