"""Reading what is known to fail from a ledger that is not the run's own, and stays as it is."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from contextlib import closing
from pathlib import Path

from dtype_sampler.ledger.opening import BY, check_header
from dtype_sampler.ledger.records import KnownFailure
from dtype_sampler.ledger.store import LedgerError

_BY = "by --dtype-baseline of pytest, or --baseline of a command"
_HINT = "name a ledger, or write ledger for the run's own"


def read_baseline(path: Path) -> list[KnownFailure]:
    """The cells whose last verdict there was a failure. Raises LedgerError.

    Read from a copy, as an older file is migrated and nobody's list is to change by being read.
    """
    try:
        _check_place(path)
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            copy = Path(folder) / "baseline.sqlite"
            for end in ("", "-wal"):
                source = path.with_name(path.name + end)
                if source.is_file():
                    shutil.copyfile(source, copy.with_name(copy.name + end))
            try:
                return _read(copy)
            except LedgerError as error:
                raise LedgerError(str(error).replace(str(copy), str(path))) from None
    except LedgerError as error:
        raise LedgerError(str(error).replace(BY, _BY)) from None
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or error
        raise LedgerError(f"{path}: can't be read: {said}") from None


def _check_place(path: Path) -> None:
    if path.is_dir():
        raise LedgerError(f"{path}: is a folder: {_HINT}")
    if not path.exists():
        raise LedgerError(f"{path}: there is no such file: {_HINT}")
    check_header(path)
    if not path.stat().st_size:
        raise LedgerError(f"{path}: is an empty file: {_HINT}")


def _read(path: Path) -> list[KnownFailure]:
    from dtype_sampler.ledger.sqlite import SqliteStore

    with closing(SqliteStore.open(path)) as store:
        store.check()
        if not store.runs():
            raise LedgerError(f"{path}: is empty, as no run has written to it: {_HINT}")
        return store.known_failures()
