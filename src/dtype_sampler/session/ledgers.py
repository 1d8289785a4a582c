"""Which ledgers a run has to do with: its own, and the one that it reads instead."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.ledger.places import FilePlace, Place, ServerPlace, place_of
from dtype_sampler.paths import DEFAULT_LEDGER
from dtype_sampler.sampling.plan import CACHE_SOUND
from dtype_sampler.session.settings import CLI, INI, OPTIONS, Settings, located

if TYPE_CHECKING:
    import pytest

    from dtype_sampler.ledger.books import Books


def open_books(config: pytest.Config, settings: Settings, *, idle: bool) -> Books | None:
    """The ledger that the settings ask for; None if they ask for none. Raises DtypeSamplerError.

    idle: the session runs no tests.
    """
    if settings.no_ledger:
        if settings.fail_under is not None:
            raise DtypeSamplerError(
                "--dtype-fail-under needs the ledger: leave out --no-dtype-ledger"
            )
        if settings.ledger_read is not None and settings.came_from("ledger_read") == CLI:
            raise DtypeSamplerError(
                "--dtype-ledger-read needs a ledger of the run's own: leave out --no-dtype-ledger"
            )
        return None
    place = place_named(config, settings, "ledger", idle=idle)
    place = place or FilePlace(config.rootpath / DEFAULT_LEDGER)
    source = place_named(config, settings, "ledger_read", idle=idle)
    if source is not None and source.is_same(place):
        source = None
    keep = settings.ledger_runs
    if isinstance(place, ServerPlace):
        from dtype_sampler.ledger.spooling import ServerBooks

        return ServerBooks(place, config.rootpath, keep=keep, source=source)
    from dtype_sampler.ledger.books import Books

    books = Books(place.path, named=settings.ledger is not None, keep=keep, source=source)
    cache = getattr(config, "cache", None)
    books.sound = str(cache.get(CACHE_SOUND, "")) if cache is not None else ""
    return books


def place_named(
    config: pytest.Config, settings: Settings, name: str, *, idle: bool = False
) -> Place | None:
    """Where the ledger is that an option of this name says; None if it says none.

    Raises DtypeSamplerError for a server that nothing here can speak to, unless the session is
    idle.
    """
    text = getattr(settings, name)
    if text is None:
        return None
    from_ini = settings.came_from(name) == INI
    folder = config.rootpath if from_ini else config.invocation_params.dir
    place = place_of(text, folder, lambda: project_name(config, settings))
    if isinstance(place, ServerPlace) and not idle:
        try:
            place.check()
        except DtypeSamplerError as error:
            raise wrong(settings, name, str(error)) from None
    return place


def project_name(config: pytest.Config, settings: Settings) -> str:
    """What this project is called on a server."""
    if settings.project is not None:
        return settings.project
    from dtype_sampler.ledger.origin import project_of

    return project_of(config.rootpath)


def wrong(settings: Settings, name: str, problem: str) -> DtypeSamplerError:
    """What to say of an option's value, where it was given."""
    (option,) = (option for option in OPTIONS if option.name == name)
    text = located(option, settings.came_from(name), str(getattr(settings, name)), problem)
    return DtypeSamplerError(text)
