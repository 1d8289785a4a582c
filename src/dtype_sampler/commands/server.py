"""`dtype-sampler ledger`: makes a ledger on a server, and looks after it."""

from __future__ import annotations

import argparse
import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from dtype_sampler.commands.exits import FINE
from dtype_sampler.commands.output import say
from dtype_sampler.ledger.secrets import is_url, redacted_word
from dtype_sampler.ledger.store import LedgerError

if TYPE_CHECKING:
    from dtype_sampler.ledger.server import Changed, State

# The first of these that one has says it.
_RIGHTS = {"own": "owner", "write": "writer", "read": "reader"}


def add_command(command: Callable[..., argparse.ArgumentParser]) -> None:
    """What can be said on the command line.

    command: adds one command, of this name, with what runs it, what it does, and an example.
    """
    sub = command(
        "ledger",
        _init,
        "make a ledger on a PostgreSQL server, and look after it",
        "dtype-sampler ledger check postgresql://ledger.example/dtypes",
    )
    verbs = sub.add_subparsers(required=True, metavar="VERB")

    def verb(
        name: str, run: Callable[[argparse.Namespace], int], what: str, behind: str = ""
    ) -> argparse.ArgumentParser:
        example = f"dtype-sampler ledger {name} postgresql://ledger.example/dtypes{behind}"
        sub = verbs.add_parser(
            name,
            help=what,
            description=f"{what[0].upper()}{what[1:]}.",
            epilog=f"example: {example}",
        )
        sub.set_defaults(command=run)
        sub.add_argument(
            "url",
            type=_url,
            metavar="URL",
            help="of a database, as libpq takes it: postgresql://USER@HOST/DATABASE; what it does"
            " not say, services, PG* variables and ~/.pgpass do",
        )
        return sub

    verb("init", _init, "make the schema and the tables of a ledger, unless they are there")
    verb("upgrade", _upgrade, "bring the tables up to this version; nothing is taken away")
    verb("check", _check, "show version, size, rights, projects and last runs")
    sub = verb(
        "retain",
        _retain,
        "drop what was observed long ago, month by month; cells stay",
        " --months 12",
    )
    sub.add_argument(
        "--months",
        type=_months,
        required=True,
        metavar="N",
        help="how many whole months stay, besides the current one",
    )
    sub = verbs.add_parser(
        "roles",
        help="show the SQL that makes the roles owner, writer and reader, to paste",
        description="Show the SQL that makes the roles owner, writer and reader, to paste.",
        epilog="example: dtype-sampler ledger roles | psql postgresql://ledger.example/dtypes",
    )
    sub.set_defaults(command=_roles)


def _url(text: str) -> str:
    if not is_url(text):
        raise argparse.ArgumentTypeError(
            f"{redacted_word(text)}: no URL of a PostgreSQL server: write postgresql://HOST/DATABASE"
            " (a ledger in a file needs none of this)"
        )
    return text


def _months(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text) <= 1200:
        raise argparse.ArgumentTypeError(f"{text}: no number of months: write, say, 12")
    return int(text)


def _init(options: argparse.Namespace) -> int:
    from dtype_sampler.ledger import server

    done = server.initialise(options.url)
    if done.before is not None:
        say(f"{done.name}: there is a ledger already, schema {done.before}\n")
        _tell_of_older(done.before.minor)
        return FINE
    say(f"{done.name}: made a ledger, schema {done.after}\n")
    _tell_of_rights(done)
    return FINE


def _upgrade(options: argparse.Namespace) -> int:
    from dtype_sampler.ledger import server

    done = server.upgrade(options.url)
    if done.before == done.after:
        say(f"{done.name}: is up to date, schema {done.after}\n")
    else:
        say(f"{done.name}: upgraded from schema {done.before} to {done.after}\n")
    if done.rights:
        _tell_of_rights(done)
    return FINE


def _tell_of_rights(done: Changed) -> None:
    if done.rights:
        say(f"rights were given to {', '.join(done.rights)}\n")
    else:
        say("nobody else has rights: dtype-sampler ledger roles shows SQL that gives them\n")


def _tell_of_older(minor: int) -> None:
    from dtype_sampler.ledger.server_schema import MAJOR, newest_minor

    if minor < newest_minor():
        say(
            f"this dtype-sampler knows {MAJOR}.{newest_minor()}: run: dtype-sampler ledger upgrade"
            " URL\n"
        )


def _retain(options: argparse.Namespace) -> int:
    from dtype_sampler.ledger import server
    from dtype_sampler.reports.words import count_of

    done = server.retain(options.url, options.months)
    say(f"{done.name}: what was observed from {done.since} on stays, and every cell\n")
    say(f"dropped: {', '.join(done.dropped) or 'no month'}\n")
    if done.runs:
        say(f"forgotten: {count_of(done.runs, 'run')} of before that no cell speaks of\n")
    if done.made:
        say(f"made room for: {', '.join(done.made)}\n")
    return FINE


def _roles(options: argparse.Namespace) -> int:
    from dtype_sampler.ledger import server_schema

    del options
    say(server_schema.roles())
    return FINE


def _check(options: argparse.Namespace) -> int:
    from dtype_sampler.ledger import server

    state = server.look(options.url)
    say(f"{state.name}: schema {state.version}, PostgreSQL {state.server}\n")
    _tell_of_older(state.version.minor)
    rights = next(
        (words for right, words in _RIGHTS.items() if right in state.rights),
        "none (its owner can give you one of the roles)",
    )
    say(f"you are {state.user}; your rights: {rights}\n")
    there = [role for role, known in state.roles.items() if known]
    say(f"roles: {', '.join(there) or 'none (dtype-sampler ledger roles shows SQL for them)'}\n")
    say(f"size: {_bytes(state.size)}, of which observations are {_bytes(state.observations)}\n")
    _tell_of_months(state)
    _tell_of_projects(state)
    _tell_of_spools(state.name)
    return FINE


def _tell_of_months(state: State) -> None:
    months = f"{state.months[0]} to {state.months[-1]}" if state.months else "no month"
    say(f"room for observations of: {months}\n")
    if state.astray:
        say(
            "some are of other months, and can't be dropped by the month: run: dtype-sampler ledger"
            " retain URL --months N\n"
        )


def _tell_of_projects(state: State) -> None:
    from dtype_sampler.reports.words import ago, count_of, short_commit

    if "read" not in state.rights:
        return
    say("projects:\n" if state.projects else "projects: none yet\n")
    for one in state.projects:
        counted = ", ".join(
            (count_of(one.runs, "run"), count_of(one.tests, "test"), count_of(one.cells, "cell"))
        )
        say(f"  {one.name}: {counted}\n")
        if one.last is not None:
            commit = f", commit {short_commit(one.last.commit)}" if one.last.commit else ""
            going = "" if one.last.ended is not None else ", not ended"
            say(
                f"    last run: {one.last.number}, {ago(one.last.started, time.time())},"
                f" seed {one.last.seed}{commit}{going}\n"
            )


def _tell_of_spools(name: str) -> None:
    """What waits in the root directory here, for this server or for another one."""
    from dtype_sampler.commands.configuration import configuration
    from dtype_sampler.ledger.journal import read_journal
    from dtype_sampler.ledger.places import spools_in
    from dtype_sampler.reports.words import ago, count_of

    for path in spools_in(configuration(Path()).root):
        try:
            left = read_journal(path)
        except LedgerError as error:
            say(f"waits here: {error}\n")
            continue
        if left is not None:
            say(
                f"waits here: {path}: a run of {ago(left.run.started, time.time())}, seed"
                f" {left.run.seed}, {count_of(len(left.seen), 'outcome')}; the next run of the same"
                " URL and project takes it over, or: "
                f"{shlex.join(['dtype-sampler', 'combine', str(path), '--into', name])}\n"
            )


def _bytes(size: int) -> str:
    """Such as 12.3 MB."""
    told, units = float(size), ["kB", "MB", "GB"]
    told /= 1000
    while told >= 1000 and len(units) > 1:
        told /= 1000
        units.pop(0)
    return f"{told:.1f} {units[0]}"
