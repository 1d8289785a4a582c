"""The baseline that a run is compared with: where it is, and what is known from it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.session.known import Known, known_from
from dtype_sampler.session.settings import INI, OPTIONS, OWN_BASELINE, Settings, located

if TYPE_CHECKING:
    import pytest

    from dtype_sampler.ledger.books import Books
    from dtype_sampler.sampling.plan import History


def check(settings: Settings) -> None:
    """Raise DtypeSamplerError for settings that ask for what they leave out."""
    if settings.baseline == OWN_BASELINE and settings.no_ledger:
        raise _wrong(settings, "the run's own needs the ledger: leave out --no-dtype-ledger")
    if settings.fail_on_mended and settings.baseline is None:
        raise DtypeSamplerError(
            "--dtype-fail-on-mended needs the list of what is known to fail: --dtype-baseline"
        )


def known_failures(
    config: pytest.Config, settings: Settings, books: Books | None, history: History | None
) -> Known | None:
    """What is known to fail; None if that is not compared. Raises DtypeSamplerError.

    books: which have been read. history: as they were.
    """
    if not settings.compared or settings.baseline is None:
        return None
    own = books.failing if books is not None else []
    baseline = own
    if settings.baseline != OWN_BASELINE:
        path = Path(settings.baseline)
        from_ini = settings.came_from("baseline") == INI
        path = (config.rootpath if from_ini else config.invocation_params.dir) / path
        if books is None or not _same(path, books.path):
            from dtype_sampler.ledger.baseline import read_baseline

            try:
                baseline = read_baseline(path)
            except DtypeSamplerError as error:
                raise _wrong(settings, str(error)) from None
    now = books.now() if books is not None else time.time()
    return known_from(baseline, own, history.failing if history is not None else {}, now=now)


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def _wrong(settings: Settings, problem: str) -> DtypeSamplerError:
    (option,) = (option for option in OPTIONS if option.name == "baseline")
    text = located(option, settings.came_from("baseline"), str(settings.baseline), problem)
    return DtypeSamplerError(text)
