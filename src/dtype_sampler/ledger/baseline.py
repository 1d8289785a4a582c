"""Reading what is known to fail from a ledger that is not the run's own, and stays as it is."""

from __future__ import annotations

import warnings

from dtype_sampler.ledger.opening import BY
from dtype_sampler.ledger.places import Place
from dtype_sampler.ledger.records import KnownFailure
from dtype_sampler.ledger.store import LedgerError, Store

_BY = "by --dtype-baseline of pytest, or --baseline of a command"
_HINT = "name a ledger, or write ledger for the run's own"


def read_baseline(place: Place) -> list[KnownFailure]:
    """The cells whose last verdict there was a failure. Raises LedgerError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with place.reading(_HINT) as store:
                return _known(place, store)
    except LedgerError as error:
        raise type(error)(str(error).replace(BY, _BY)) from None


def _known(place: Place, store: Store) -> list[KnownFailure]:
    if not store.runs():
        raise LedgerError(f"{place}: is empty, as no run has written to it: {_HINT}")
    return store.known_failures()
