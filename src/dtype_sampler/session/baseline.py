"""The baseline that a run is compared with: where it is, and what is known from it."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.ledger.places import ServerPlace
from dtype_sampler.ledger.store import LedgerError
from dtype_sampler.session.known import Known, known_from
from dtype_sampler.session.ledgers import place_named, wrong
from dtype_sampler.session.settings import OWN_BASELINE, Settings

if TYPE_CHECKING:
    import pytest

    from dtype_sampler.ledger.books import Books
    from dtype_sampler.sampling.plan import History


def check(settings: Settings) -> None:
    """Raise DtypeSamplerError for settings that ask for what they leave out."""
    if settings.baseline == OWN_BASELINE and settings.no_ledger:
        raise wrong(
            settings, "baseline", "the run's own needs the ledger: leave out --no-dtype-ledger"
        )
    if settings.fail_on_mended and settings.baseline is None:
        raise DtypeSamplerError(
            "--dtype-fail-on-mended needs the list of what is known to fail: --dtype-baseline"
        )


def known_failures(
    config: pytest.Config,
    settings: Settings,
    books: Books | None,
    history: History | None,
    *,
    idle: bool,
) -> Known | None:
    """What is known to fail; None if that is not compared. Raises DtypeSamplerError.

    books: which have been read. history: as they were. idle: the session runs no tests, and does
    not wait for a server.
    """
    if not settings.compared or settings.baseline is None:
        return None
    own = books.failing if books is not None else []
    baseline, unread = own, history is not None and bool(history.unread)
    if settings.baseline != OWN_BASELINE:
        place = place_named(config, settings, "baseline", idle=idle)
        if idle and isinstance(place, ServerPlace):
            return None
        if place is not None and (books is None or not books.read_from.is_same(place)):
            from dtype_sampler.ledger.baseline import read_baseline

            try:
                baseline, unread = read_baseline(place), False
            except DtypeSamplerError as error:
                if not isinstance(place, ServerPlace) or not isinstance(error, LedgerError):
                    raise wrong(settings, "baseline", str(error)) from None
                # A server that is away ends no session.
                baseline, unread = [], True
                if books is not None:
                    books.problems.append(f"the baseline can't be read: {error}")
    now = books.now() if books is not None else time.time()
    failing = history.failing if history is not None else {}
    return replace(known_from(baseline, own, failing, now=now), unread=unread)
