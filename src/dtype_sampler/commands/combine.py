"""The command `dtype-sampler combine`: what other ledgers know, and what runs could not ship."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from contextlib import closing

from dtype_sampler.commands.exits import ERROR, FINE
from dtype_sampler.commands.output import say
from dtype_sampler.ledger.journal import is_journal, read_journal, recover
from dtype_sampler.ledger.places import FilePlace, Place
from dtype_sampler.ledger.store import LedgerError, Store
from dtype_sampler.reports.words import count_of

# Seconds that each answer of a server may take: nobody waits but who called this.
_WAIT = 60.0


def run(options: argparse.Namespace, place_of: Callable[[str | None], Place]) -> int:
    """Take over what the sources know; returns the exit code. Raises DtypeSamplerError.

    place_of: where a ledger is that a text names, or the default.
    """
    from dtype_sampler.ledger.opening import BY

    into = place_of(options.into)
    sources = [place_of(text) for text in options.sources]
    code = FINE
    try:
        opened = into.open(create=True, wait=_WAIT)
    except LedgerError as error:
        raise LedgerError(str(error).replace(BY, "by --into")) from None
    with closing(opened) as target:
        target.check()
        for source in sources:
            if source.is_same(into):
                continue
            try:
                problems = _take(source, target, options.keep_runs)
                spool = isinstance(source, FilePlace) and is_journal(source.path)
                say(f"{source}: taken over{', and can be removed' if spool else ''}\n")
            except LedgerError as error:
                # Sources are named by no option.
                problems = [str(error).replace(f": name another, {BY}", "").replace(f", {BY}", "")]
            for problem in problems:
                sys.stderr.write(f"dtype-sampler: skipped: {problem}\n")
                code = ERROR
        runs, cells = len(target.runs()), len(target.cells())
    say(f"{into}: {count_of(runs, 'run')}, {count_of(cells, 'cell')} with an outcome\n")
    return code


def _take(source: Place, target: Store, keep: int) -> list[str]:
    """Take over one source, which is left as it is; returns what is wrong beside it.

    Raises LedgerError if nothing of it can be taken over.
    """
    if isinstance(source, FilePlace) and is_journal(source.path):
        left = read_journal(source.path)
        if left is None:
            raise LedgerError(f"{source}: its run goes on, and ships it by itself")
        left.deliver(target, keep)
        return []
    with closing(source.open(wait=_WAIT)) as store:
        store.check()
        target.merge(store, keep)
    return recover(source.path, target, remove=False) if isinstance(source, FilePlace) else []
