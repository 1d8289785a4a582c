"""Which ledger a command is about, and opening it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from dtype_sampler.commands.configuration import configuration
from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.ledger.places import SQLITE_ENDS, FilePlace, Place, check_place, place_of
from dtype_sampler.ledger.secrets import redacted_word
from dtype_sampler.ledger.store import LedgerError
from dtype_sampler.paths import DEFAULT_LEDGER, stat_of, with_slashes
from dtype_sampler.reports.words import visible
from dtype_sampler.session.settings import OWN_BASELINE, parse_baseline, parse_project

if TYPE_CHECKING:
    from dtype_sampler.ledger.store import Store


def add_project(sub: argparse.ArgumentParser) -> None:
    """The option that says whose ledger it is on a server."""
    sub.add_argument(
        "--project",
        metavar="NAME",
        help="whose ledger it is on a server; default: DTYPE_SAMPLER_PROJECT, or"
        " dtype_sampler_project in pytest's configuration, or the path of git's remote origin, or"
        " the root directory's name",
    )


def add_tests(sub: argparse.ArgumentParser) -> None:
    """`--tests`, for commands that can be about some of a ledger's tests."""
    sub.add_argument(
        "--tests",
        type=with_slashes,
        metavar="GLOB",
        help="just test keys that match, as a shell would",
    )


def place_of_ledger(given: str | None, project: str | None) -> Place:
    """Where the ledger is that a command was told of, or the default. Raises DtypeSamplerError."""
    text = os.environ.get("DTYPE_SAMPLER_LEDGER") or None if given is None else given
    if text is not None:
        try:
            check_place(text)
        except LedgerError:
            # It names the URL itself.
            raise
        except DtypeSamplerError as error:
            how = "DTYPE_SAMPLER_LEDGER=" if given is None else ""
            raise DtypeSamplerError(f"{how}{redacted_word(text)}: {error}") from None
        return place_of(text, Path(), lambda: _project_name(project))
    said = configuration(Path())
    if text := said.values.get("dtype_sampler_ledger"):
        try:
            return place_of(text, said.root, lambda: _project_name(project))
        except DtypeSamplerError as error:
            raise DtypeSamplerError(f"dtype_sampler_ledger (in {said.file}): {error}") from None
    here, there = FilePlace(Path(DEFAULT_LEDGER)), FilePlace(said.root / DEFAULT_LEDGER)
    return here if here.exists() or not there.exists() else there


def _project_name(given: str | None) -> str:
    for how, name in (
        ("--project=", given),
        ("DTYPE_SAMPLER_PROJECT=", os.environ.get("DTYPE_SAMPLER_PROJECT") or None),
    ):
        if name is not None:
            return _parsed_project(name, how)
    said = configuration(Path())
    if "dtype_sampler_project" in said.values:
        how = f"dtype_sampler_project (in {said.file}) = "
        return _parsed_project(said.values["dtype_sampler_project"], how)
    from dtype_sampler.ledger.origin import project_of

    return project_of(said.root)


def _parsed_project(name: str, how: str) -> str:
    try:
        return parse_project(name)
    except DtypeSamplerError as error:
        raise DtypeSamplerError(f"{how}{name}: {error}") from None


def place_of_baseline(text: str, how: str, place_of: Callable[[str], Place]) -> Place | None:
    """Where a baseline is that a text names, as pytest takes it; None for the ledger that a command
    is about. Raises DtypeSamplerError. how: what named it. place_of: where a ledger is.
    """
    try:
        return None if parse_baseline(text) == OWN_BASELINE else place_of(text)
    except DtypeSamplerError as error:
        raise DtypeSamplerError(f"{how}={redacted_word(text)}: {error}") from None


def spare(output: Path | None, *ledgers: Path | None) -> None:
    """Raise DtypeSamplerError where the output would take the place of a ledger, or of a file that
    SQLite keeps beside one. None: there is no output, or no such file.
    """
    if output is None:
        return
    for ledger in ledgers:
        if ledger is None:
            continue
        beside = {ledger.resolve().with_name(f"{ledger.name}{end}") for end in SQLITE_ENDS}
        # Where it can't be told what there is, nothing can be written, which is told then.
        same = False
        with suppress(OSError):
            same = stat_of(output) is not None and output.samefile(ledger)
        if same or output.resolve() in beside:
            raise DtypeSamplerError(f"-o {output}: is the ledger itself: write to another file")


def open_ledger(options: argparse.Namespace) -> Store:
    """The ledger that a command's options name, or the default. Raises DtypeSamplerError."""
    from dtype_sampler.ledger.journal import recover

    place = place_of_ledger(options.ledger, options.project)
    if not place.exists():
        raise DtypeSamplerError(
            f"{place}: there is no ledger: run pytest here first, or name one with --ledger"
        )
    store = place.open()
    try:
        store.check()
        # What a killed run could not write any more. On a server that is its next run's to do, as
        # who reads it may not write.
        if isinstance(place, FilePlace):
            for problem in recover(place.path, store, remove=True):
                sys.stderr.write(f"dtype-sampler: {problem}\n")
        elif not store.runs(newest=1):
            sys.stderr.write(
                f"dtype-sampler: {place}: has no run of the project {visible(place.project)}: name"
                " another by --project or DTYPE_SAMPLER_PROJECT\n"
            )
    except BaseException:
        store.close()
        raise
    return store
