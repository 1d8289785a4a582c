"""What to say of runs that no server has taken yet: which file holds them, and what ships it."""

from __future__ import annotations

import shlex
from contextlib import suppress
from pathlib import Path

from dtype_sampler.ledger.journal import journals, read_journal
from dtype_sampler.ledger.places import ServerPlace, spools_in
from dtype_sampler.ledger.store import LedgerError, RefusedError


def shipping(spool: Path, place: ServerPlace) -> str:
    """The line that ships a spool."""
    name = str(place)
    words = ["dtype-sampler", "combine", str(spool), "--into", name, "--project", place.project]
    secret = " (with the password in place of ***)" if "***" in name else ""
    return f"{shlex.join(words)}{secret}"


def kept(spool: Path, own: Path, place: ServerPlace, why: LedgerError) -> str:
    """Where a run is that the server did not take, and what becomes of it.

    own: what the spools for this server are named after.
    """
    here = spool.parent == own.parent
    others = len(journals(own)) - here
    beside = f" beside {others} earlier" if others > 0 else ""
    taken = "the next run here takes it over, or" if here else "ship it with"
    if isinstance(why, RefusedError):
        # Nor may this role do so later.
        taken = (
            "who may only read gives the URL as --dtype-ledger-read; who may write ships it with a"
            " URL of their own,"
        )
    return f"{spool}{beside}: {taken} {shipping(spool, place)}"


def strays(own: Path, place: ServerPlace) -> str | None:
    """What waits beside *own* for another server, or another project: no run with this one takes it
    over, as where the name of a host was mistyped. None if nothing does.
    """
    found = []
    known = journals(own)
    for path in spools_in(own.parent):
        # What can't be read is told of by the run that it is of.
        with suppress(LedgerError):
            if path not in known and read_journal(path) is not None:
                found.append(path)
    if not found:
        return None
    more = f" (and {len(found) - 1} more like it)" if len(found) > 1 else ""
    return (
        f"{found[0]}{more}: a run waits there for another server or project: if it belongs here,"
        f" ship it with {shipping(found[0], place)}, and remove it then"
    )
