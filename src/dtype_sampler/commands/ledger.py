"""The commands of the ledger: `report`, `combine`, `plan`, `history` and those beside them.

Long, as the short commands of the ledger share their options, and how it is opened.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from dtype_sampler.commands import bisect, export, known_failures, report
from dtype_sampler.commands.exits import FINE
from dtype_sampler.commands.opening import add_project, add_tests, open_ledger, place_of_ledger
from dtype_sampler.commands.output import say
from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.ledger.coverage import APART, MISSING
from dtype_sampler.paths import DEFAULT_LEDGER, with_slashes
from dtype_sampler.reports.words import count_of, one_line, visible
from dtype_sampler.session.settings import parse_percent, parse_runs, parse_seed

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def add_commands(command: Callable[..., argparse.ArgumentParser]) -> None:
    """What can be said on the command line.

    command: adds one command, of this name, with what runs it, what it does, and an example.
    """

    def ledger(sub: argparse.ArgumentParser) -> None:
        sub.add_argument(
            "--ledger",
            metavar="PATH|URL",
            help=f"the ledger; default: DTYPE_SAMPLER_LEDGER, or dtype_sampler_ledger in pytest's"
            f" configuration, or {DEFAULT_LEDGER} here or in the root directory",
        )
        add_project(sub)

    sub = command(
        "report",
        lambda options: report.run(
            options,
            lambda: open_ledger(options),
            lambda text: place_of_ledger(text, options.project),
        ),
        "show which dtypes ran, and which never did",
        "dtype-sampler report --fail-under 95 --max-age 14d",
    )
    ledger(sub)
    sub.add_argument("--format", choices=("text", "markdown", "json", "html"), default="text")
    sub.add_argument("-o", "--output", type=Path, metavar="PATH", help="write it there")
    sub.add_argument("--device", action="append", metavar="TYPE", help="just this type of device")
    add_tests(sub)
    sub.add_argument(
        "--module",
        type=with_slashes,
        action="append",
        default=[],
        metavar="GLOB",
        help="just tests in such a file or folder, by its path or the end of that",
    )
    sub.add_argument(
        "--failing",
        action="store_true",
        help="just the tests that fail, and in which dtypes; a gate is for all of them",
    )
    sub.add_argument(
        "--baseline",
        metavar="PATH|URL",
        help="tell failures that this ledger knows from new ones, as pytest's --dtype-baseline"
        " does; `ledger` is the one that is shown, as it was before each cell ran last; `none` is"
        " none; default: DTYPE_SAMPLER_BASELINE, or none",
    )
    sub.add_argument(
        "--by",
        choices=("module", "folder"),
        help="a table of modules or folders by dtypes, such as for a README; in html it comes"
        " first, which it does unasked where there are more than 500 tests",
    )
    sub.add_argument(
        "--fail-under",
        type=_of(parse_percent),
        metavar="PCT",
        help="exit with 2 if less is covered, naming what is missing; what fails is covered, known"
        " or not",
    )
    sub.add_argument(
        "--max-age",
        type=_of(parse_age),
        metavar="AGE",
        help="older verdicts do not count, such as 14d or 12h; alone it is a gate for all cells",
    )
    sub.add_argument(
        "--skipped",
        choices=(APART, MISSING),
        help="what every run so far has skipped is kept apart, or missing; default: apart, but for"
        " what a loop skips while it runs others",
    )
    sub = command(
        "combine",
        _combine,
        "take over what other ledgers know; the sources are left as they are",
        "dtype-sampler combine shard-*/.dtype-ledger.sqlite --into all.sqlite",
    )
    sub.add_argument(
        "sources",
        nargs="+",
        metavar="SRC",
        help="ledgers to read: files, URLs, and journals that a run has left as it could not reach"
        " its server",
    )
    sub.add_argument(
        "--into", metavar="PATH|URL", help="the ledger to write; default: as for report"
    )
    add_project(sub)
    _keep(sub, "how many whole runs to keep; default: 200", default=200)
    sub = command(
        "plan",
        _plan,
        "show which dtypes each known test would take",
        "dtype-sampler plan --seed 1234 --runs 3",
    )
    ledger(sub)
    sub.add_argument(
        "--seed", type=_of(_integer_seed), metavar="INT", help="the first; default: the next one"
    )
    runs = _of(partial(parse_runs, what="how many runs"))
    sub.add_argument("--runs", type=runs, default=1, metavar="N", help="default: 1")
    add_tests(sub)
    sub = command(
        "history",
        _history,
        "show a test's cells over the runs that are known",
        "dtype-sampler history tests/test_layers.py::test_gelu",
    )
    ledger(sub)
    sub.add_argument(
        "key", type=with_slashes, metavar="TESTKEY", help="a test key, as the report shows it"
    )
    sub = command(
        "known-failures",
        _known_failures,
        "list what failed at its last verdict, in which way, and since when",
        "dtype-sampler known-failures --format json",
    )
    ledger(sub)
    known_failures.add_arguments(sub)
    sub = command(
        "export",
        lambda options: export.run(options, lambda: open_ledger(options)),
        "write what came of each cell in each run, a row each, for other programs",
        "dtype-sampler export --format=parquet --since last -o cells.parquet",
    )
    ledger(sub)
    export.add_arguments(sub)
    sub = command(
        "bisect",
        lambda options: bisect.run(options, lambda: open_ledger(options)),
        "find the commit that a test began to fail with in one dtype, by replays in a worktree",
        "dtype-sampler bisect tests/test_layers.py::test_gelu --dtype bfloat16",
    )
    ledger(sub)
    bisect.add_arguments(sub, seed=_of(partial(_integer_seed, what="a replay")))
    sub = command(
        "prune",
        _prune,
        "forget tests that are gone, and whole runs of long ago",
        "dtype-sampler prune --unseen-for 90d --dry-run",
    )
    ledger(sub)
    sub.add_argument(
        "--unseen-for",
        type=_of(parse_age),
        metavar="AGE",
        help="forget tests that no run has seen for so long, such as 90d",
    )
    _keep(sub, "fold away all but the newest N runs", default=None)
    sub.add_argument("--dry-run", action="store_true", help="only say what would be done")


def _keep(sub: argparse.ArgumentParser, what: str, *, default: int | None) -> None:
    sub.add_argument("--keep-runs", type=_of(parse_runs), default=default, metavar="N", help=what)


def _of(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """An argument's type that says what is wrong in the words of *parse*."""

    def parsed(text: str) -> Any:
        try:
            return parse(text)
        except DtypeSamplerError as error:
            raise argparse.ArgumentTypeError(f"{text}: {error}") from None

    return parsed


def parse_age(text: str) -> float:
    """A time span such as 14d, in seconds."""
    match = re.fullmatch(r"([0-9]{1,6})([smhdw])", text)
    if match is None:
        raise DtypeSamplerError("no time span: write, say, 14d, 12h or 30m")
    return int(match[1]) * float(_UNITS[match[2]])


def _integer_seed(text: str, what: str = "a plan") -> int:
    seed = parse_seed(text)
    if isinstance(seed, int):
        return seed
    raise DtypeSamplerError(f"{what} needs a number")


def _combine(options: argparse.Namespace) -> int:
    from dtype_sampler.commands import combine

    return combine.run(options, lambda text: place_of_ledger(text, options.project))


def _plan(options: argparse.Namespace) -> int:
    from dtype_sampler.ledger import outlook
    from dtype_sampler.ledger.coverage import assess
    from dtype_sampler.ledger.samples import samples_of
    from dtype_sampler.reports.ledger.costs import every_cell
    from dtype_sampler.reports.ledger.text import combined
    from dtype_sampler.reports.words import lasting
    from dtype_sampler.sampling.rule import STRATEGIES, seed_after

    store = open_ledger(options)
    try:
        history = store.history(verdicts=False)
        coverage = assess(store.tests(), store.cells(), pattern=options.tests, alone=history.alone)
        runs = store.runs()
        costs = store.costs()
    finally:
        store.close()
    if not coverage.tests:
        nothing = coverage.nothing_to_judge(pattern=options.tests)
        sys.stderr.write(f"dtype-sampler: {visible(str(nothing))}\n")
    planned: list[list[outlook.Taken]] = [[] for _ in range(options.runs)]
    last = outlook.last_runs(coverage, runs)
    newest = outlook.newest_in_series(runs)
    for state in coverage.tests:
        device, key = state.test.device, state.test.key
        say(f"{key} ({device})\n")
        if state.values:
            say(f"  {combined(state)}\n")
        # As the selection that takes this test goes on, with what it takes on top.
        run = last.get((key, device), newest)
        first = options.seed
        if first is None:
            first = seed_after(0) if run is None else outlook.seed_following(run, runs)
        strategy = run.strategy if run is not None and run.strategy in STRATEGIES else "rotate"
        again = [
            label
            for past in (history.failing, history.hidden)
            for label in past.get(device, {}).get(key, ())
        ]
        samples = samples_of(state, first, strategy, again=again)
        for number, sample in zip(range(options.runs), samples, strict=False):
            planned[number].append((key, device, sample))
            say(f"  {seed_after(first, number)}: {one_line(', '.join(sample))}\n")
    whole = costs.total(every_cell(coverage.tests))
    for number, taken_then in enumerate(planned if whole.cells else ()):
        seed = "" if options.seed is None else f", seed {seed_after(options.seed, number)}"
        takes = costs.total(taken_then).seconds
        told = "unknown how long: no cell was measured yet"
        if takes is not None:
            told = f"about {lasting(takes)}, of {lasting(whole.seconds)} for every dtype"
        say(f"run {number + 1}{seed}: {told}\n")
    return FINE


def _history(options: argparse.Namespace) -> int:
    from dtype_sampler.commands.which_cell import no_such_test
    from dtype_sampler.ledger import outlook
    from dtype_sampler.ledger.coverage import assess
    from dtype_sampler.ledger.outcomes import CRASHED, FAILED, SUSPECT
    from dtype_sampler.reports.ledger.costs import of_test
    from dtype_sampler.reports.ledger.data import iso
    from dtype_sampler.reports.words import short_commit

    store = open_ledger(options)
    try:
        known = store.tests()
        tests = [test for test in known if test.key == options.key]
        if not tests:
            raise DtypeSamplerError(no_such_test(options.key, known))
        rows = []
        runs = store.runs()
        for run in reversed(runs):
            seen = {
                (one.cell.device, one.cell.label): one.outcome
                for one in store.observations(run.uid, options.key)
            }
            if seen:
                rows.append((run, seen))
        failures = {
            (one.run, one.cell.device, one.cell.label): str(one.failure)
            for one in store.failures(options.key)
        }
        states = assess(tests, store.cells(options.key))
        costs, hidden = store.costs(), store.history(verdicts=False).hidden
    finally:
        store.close()
    last = outlook.last_runs(states, runs)
    for state in states.tests:
        test = state.test
        say(f"{test.key} ({test.device}), newest first\n")
        for run, seen in rows:
            said = {
                label: seen[test.device, label]
                for label in test.declared
                if (test.device, label) in seen
            }
            suspects = [label for label, outcome in said.items() if outcome == SUSPECT]
            together = suspects if len(suspects) > 1 else []
            how = {
                label: f" ({failures[run.uid, test.device, label]})"
                if (run.uid, test.device, label) in failures
                and said[label] in (CRASHED, FAILED, SUSPECT)
                and failures[run.uid, test.device, label] != said[label]
                else ""
                for label in said
            }
            told = [f"{label} {said[label]}{how[label]}" for label in said if label not in together]
            told += (
                [f"one of {', '.join(together)} did not pass{how[together[0]]}"] if together else []
            )
            if told:
                commit = f", commit {short_commit(run.commit)}" if run.commit else ""
                say(
                    f"  run {run.number}, {iso(run.started)}, seed {run.seed}{commit}:"
                    f" {one_line(', '.join(told))}\n"
                )
        ran = {label for _, seen in rows for device, label in seen if device == test.device}
        never = [label for label in test.declared if label not in ran]
        if never:
            say(f"  in none of these runs: {one_line(', '.join(never))}\n")
        took = last.get((test.key, test.device))
        following = () if took is None else outlook.sample_after(state, took, runs, hidden)
        say(f"  {one_line(of_test(state, costs, following))}\n")
    return FINE


def _known_failures(options: argparse.Namespace) -> int:
    return known_failures.run(
        options, lambda: open_ledger(options), lambda text: place_of_ledger(text, options.project)
    )


def _prune(options: argparse.Namespace) -> int:
    if options.unseen_for is None and options.keep_runs is None:
        raise DtypeSamplerError("prune what? give --unseen-for AGE, --keep-runs N, or both")
    would = "would be " if options.dry_run else ""
    store = open_ledger(options)
    try:
        if options.unseen_for is not None:
            since = time.time() - options.unseen_for
            gone = [test for test in store.tests() if test.there_at < since]
            if not options.dry_run:
                store.forget(gone)
            for test in gone:
                say(f"{would}forgotten: {test.key} ({test.device})\n")
            if not gone:
                say(f"{would}forgotten: no test\n")
        if options.keep_runs is not None:
            folded = store.foldable(options.keep_runs)
            if not options.dry_run:
                store.fold(options.keep_runs)
            say(f"{would}folded away: {count_of(folded, 'run')}\n")
    finally:
        store.close()
    return FINE
