"""The command `dtype-sampler combine`: what other ledgers know, and what runs could not ship."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from glob import glob
from typing import NamedTuple

from dtype_sampler.commands.exits import ERROR, FINE
from dtype_sampler.commands.output import say
from dtype_sampler.ledger.garbage import uncollected
from dtype_sampler.ledger.journal import is_journal, read_journal, recover
from dtype_sampler.ledger.places import SQLITE_ENDS, FilePlace, Place
from dtype_sampler.ledger.store import LedgerError, Store
from dtype_sampler.reports.words import count_of

# Seconds that each answer of a server may take: nobody waits but who called this.
_WAIT = 60.0


def run(options: argparse.Namespace, place_of: Callable[[str | None], Place]) -> int:
    """Take over what the sources know; returns the exit code. Raises DtypeSamplerError.

    place_of: where a ledger is that a text names, or the default.
    """
    into = place_of(options.into)
    sources = [place_of(one) for text in options.sources for one in _matching(text)]
    if not isinstance(into, FilePlace) or into.exists():
        taken = _combine(sources, into, options.keep_runs, str(into))
    else:
        taken = _into_new(sources, into, options.keep_runs)
    if taken.sources or into.exists():
        runs, cells = count_of(taken.runs, "run"), count_of(taken.cells, "cell")
        say(f"{into}: {runs}, {cells} with an outcome\n")
    else:
        say(f"{into}: not made, as there is nothing to be taken over\n")
    return taken.code


class _Taken(NamedTuple):
    """What came of it. sources: how many were taken over. runs, cells: what there is now."""

    code: int
    sources: int
    runs: int
    cells: int


def _into_new(sources: Sequence[Place], into: FilePlace, keep: int) -> _Taken:
    """Combine into a file that is not there yet: it is there once something has been taken over."""
    part = FilePlace(into.path.with_name(f"{into.path.name}.{os.getpid()}.part"))
    try:
        taken = _combine(sources, part, keep, str(into))
        if taken.sources:
            try:
                # Unlike a new name it takes nobody's place who was as quick.
                os.link(part.path, into.path)
            except OSError:
                # Somebody was, or there are no links here.
                taken = _combine([part], into, keep, str(into), quietly=True)._replace(
                    code=taken.code
                )
        return taken
    finally:
        for end in SQLITE_ENDS:
            with suppress(OSError):
                part.path.with_name(part.path.name + end).unlink()


def _combine(
    sources: Sequence[Place], into: Place, keep: int, name: str, *, quietly: bool = False
) -> _Taken:
    """Take over what the sources know. name: what to call `into`. Raises LedgerError."""
    from dtype_sampler.ledger.opening import BY

    code, taken = FINE, 0
    try:
        opened = into.open(create=True, wait=_WAIT)
    except LedgerError as error:
        raise LedgerError(str(error).replace(str(into), name).replace(BY, "by --into")) from None
    with closing(opened) as target:
        target.check()
        for source in sources:
            if source.is_same(into):
                continue
            try:
                # Records by the hundred thousand.
                with uncollected():
                    problems = _take(source, target, keep)
                taken += 1
                if not quietly:
                    spool = isinstance(source, FilePlace) and is_journal(source.path)
                    say(f"{source}: taken over{', and can be removed' if spool else ''}\n")
            except LedgerError as error:
                # Sources are named by no option.
                told = str(error).replace(f": name another, {BY}", "").replace(f", {BY}", "")
                problems = [told.replace(str(into), name)]
            for problem in problems:
                sys.stderr.write(f"dtype-sampler: skipped: {problem}\n")
                code = ERROR
        return _Taken(code, taken, len(target.runs()), len(target.cell_ids()))


def _matching(text: str) -> list[str]:
    """The files that a pattern means which no shell has expanded, as those of Windows do not; the
    text itself where it is none, or where there is no such file.
    """
    # As texts: a URL may be longer than a path can be, where pathlib raises, whose patterns are
    # relative besides.
    if os.path.exists(text) or not any(character in text for character in "*?["):  # noqa: PTH110
        return [text]
    return sorted(glob(text, include_hidden=True)) or [text]  # noqa: PTH207


def _take(source: Place, target: Store, keep: int) -> list[str]:
    """Take over one source, which is left as it is; returns what is wrong beside it.

    Raises LedgerError if nothing of it can be taken over.
    """
    if isinstance(source, FilePlace) and is_journal(source.path):
        left = read_journal(source.path)
        if left is None:
            raise LedgerError(
                f"{source}: its run goes on and ships it by itself, or ended as it began"
            )
        left.deliver(target, keep)
        return []
    with closing(source.open(wait=_WAIT)) as store:
        store.check()
        target.merge(store, keep)
    return recover(source.path, target, remove=False) if isinstance(source, FilePlace) else []
