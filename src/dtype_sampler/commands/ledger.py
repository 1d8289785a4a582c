"""The commands of the ledger: `report`, `combine`, `plan`, `history` and `prune`."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dtype_sampler.commands.exits import ERROR, FINE, GATE_MISSED
from dtype_sampler.commands.output import say, write
from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.ledger.coverage import APART, MISSING
from dtype_sampler.paths import DEFAULT_LEDGER
from dtype_sampler.reports.words import visible
from dtype_sampler.session.settings import parse_percent, parse_runs, parse_seed

if TYPE_CHECKING:
    from dtype_sampler.ledger.sqlite import SqliteStore

# So many runs are shown one by one in the HTML page, which holds them all.
SHOWN_RUNS = 30
# So many of the cells that a gate misses are named.
SHOWN_MISSING = 20
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def add_commands(command: Callable[..., argparse.ArgumentParser]) -> None:
    """What can be said on the command line.

    command: adds one command, of this name, with what runs it, what it does, and an example.
    """

    def ledger(sub: argparse.ArgumentParser) -> None:
        sub.add_argument(
            "--ledger",
            type=Path,
            metavar="PATH",
            help=f"the ledger; default: DTYPE_SAMPLER_LEDGER, or {DEFAULT_LEDGER} here",
        )

    sub = command(
        "report",
        _report,
        "show which dtypes ran, and which never did",
        "dtype-sampler report --fail-under 95 --max-age 14d",
    )
    ledger(sub)
    sub.add_argument("--format", choices=("text", "markdown", "json", "html"), default="text")
    sub.add_argument("-o", "--output", type=Path, metavar="PATH", help="write it there")
    sub.add_argument("--device", action="append", metavar="TYPE", help="just this type of device")
    sub.add_argument("--tests", metavar="GLOB", help="just test keys that match, as a shell would")
    sub.add_argument(
        "--fail-under",
        type=_of(parse_percent),
        metavar="PCT",
        help="exit with 2 if less is covered, naming what is missing",
    )
    sub.add_argument(
        "--max-age",
        type=_of(parse_age),
        metavar="AGE",
        help="older verdicts do not count, such as 14d or 12h; alone it is a gate for all cells",
    )
    sub.add_argument(
        "--skipped",
        choices=(MISSING, APART),
        default=MISSING,
        help="what every run so far has skipped is missing, or kept apart; default: missing",
    )
    sub = command(
        "combine",
        _combine,
        "take over what other ledgers know; the sources are left as they are",
        "dtype-sampler combine shard-*/.dtype-ledger.sqlite --into all.sqlite",
    )
    sub.add_argument("sources", nargs="+", type=Path, metavar="SRC", help="ledgers to read")
    sub.add_argument(
        "--into", type=Path, metavar="PATH", help="the ledger to write; default: as for report"
    )
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
    sub.add_argument("--runs", type=_of(parse_runs), default=1, metavar="N", help="default: 1")
    sub.add_argument("--tests", metavar="GLOB", help="just test keys that match")
    sub = command(
        "history",
        _history,
        "show a test's cells over the runs that are known",
        "dtype-sampler history tests/test_layers.py::test_gelu",
    )
    ledger(sub)
    sub.add_argument("key", metavar="TESTKEY", help="a test key, as the report shows it")
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


def _integer_seed(text: str) -> int:
    seed = parse_seed(text)
    if isinstance(seed, int):
        return seed
    raise DtypeSamplerError("a plan needs a number")


def _path(given: Path | None) -> Path:
    return given or Path(os.environ.get("DTYPE_SAMPLER_LEDGER") or DEFAULT_LEDGER)


def _open(given: Path | None) -> SqliteStore:
    from dtype_sampler.ledger.journal import recover
    from dtype_sampler.ledger.sqlite import SqliteStore

    path = _path(given)
    if not path.exists():
        raise DtypeSamplerError(
            f"{path}: there is no ledger: run pytest here first, or name one with --ledger"
        )
    store = SqliteStore.open(path)
    try:
        store.check()
        # What a killed run could not write any more.
        for problem in recover(path, store, remove=True):
            sys.stderr.write(f"dtype-sampler: {problem}\n")
    except BaseException:
        store.close()
        raise
    return store


def _report(options: argparse.Namespace) -> int:
    from dtype_sampler.ledger.coverage import assess
    from dtype_sampler.reports.ledger import data, text

    now = time.time()
    store = _open(options.ledger)
    try:
        coverage = assess(
            store.tests(),
            store.cells(),
            device=options.device,
            pattern=options.tests,
            since=None if options.max_age is None else now - options.max_age,
            alone=store.history(verdicts=False).alone,
            skipped=options.skipped,
        )
        runs = store.runs()
        activity = store.activity() if options.format in ("json", "html") else {}
        shown_runs = runs[-SHOWN_RUNS:] if options.format == "html" else []
        recent = {run.uid: store.observations(run.uid) for run in shown_runs}
    finally:
        store.close()
    if options.format == "json":
        import json

        shown = json.dumps(data.report(coverage, runs, activity, recent, now=now)) + "\n"
    elif options.format == "html":
        from dtype_sampler.reports.ledger.html import render

        shown = render(data.report(coverage, runs, activity, recent, now=now))
    elif options.format == "markdown":
        shown = text.markdown(coverage, data.summary(coverage, runs), now=now)
    else:
        looked_at = options.output is None and sys.stdout.isatty()
        width = shutil.get_terminal_size().columns if looked_at else None
        shown = text.text(coverage, data.summary(coverage, runs), now=now, width=width)
    write(shown, options.output)
    if not coverage.tests and (options.device or options.tests):
        nothing = coverage.nothing_to_judge(options.device, options.tests)
        sys.stderr.write(f"dtype-sampler: {visible(str(nothing))}\n")
    wanted = options.fail_under
    if wanted is None and options.max_age is not None:
        wanted = 100.0
    if wanted is None:
        return FINE
    if (nothing := coverage.nothing_to_judge(options.device, options.tests)) is not None:
        sys.stderr.write(f"dtype-sampler: the gate of {wanted:g} % is missed: {nothing}\n")
        return GATE_MISSED
    if coverage.percent >= wanted:
        return FINE
    missing = text.missing_lines(coverage)
    more = len(missing) - SHOWN_MISSING
    sys.stderr.write(
        f"dtype-sampler: {coverage.percent:.2f} % of the cells are covered, which is less than"
        f" {wanted:g} %; {len(missing)} are missing{', the worst of them' * (more > 0)}:\n"
    )
    sys.stderr.writelines(f"  {visible(line)}\n" for line in missing[:SHOWN_MISSING])
    if more > 0:
        sys.stderr.write(f"  ... and {more} more: --format=json has them all\n")
    return GATE_MISSED


def _combine(options: argparse.Namespace) -> int:
    from dtype_sampler.ledger.journal import recover
    from dtype_sampler.ledger.sqlite import SqliteStore
    from dtype_sampler.ledger.store import LedgerError

    into = _path(options.into)
    target = SqliteStore.open(into, create=True)
    code = FINE
    try:
        target.check()
        for path in options.sources:
            if path.exists() and into.samefile(path):
                continue
            try:
                source = SqliteStore.open(path)
                try:
                    source.check()
                    target.merge(source, options.keep_runs)
                    skipped = recover(path, target, remove=False)
                finally:
                    source.close()
                say(f"{path}: taken over\n")
            except LedgerError as error:
                skipped = [str(error)]
            for problem in skipped:
                sys.stderr.write(f"dtype-sampler: skipped: {problem}\n")
                code = ERROR
        runs, cells = len(target.runs()), len(target.cells())
    finally:
        target.close()
    say(f"{into}: {runs} runs, {cells} cells with an outcome\n")
    return code


def _plan(options: argparse.Namespace) -> int:
    from dtype_sampler.ledger import outlook
    from dtype_sampler.ledger.coverage import assess, samples_of
    from dtype_sampler.sampling.rule import seed_after

    store = _open(options.ledger)
    try:
        history = store.history(verdicts=False)
        coverage = assess(store.tests(), store.cells(), pattern=options.tests, alone=history.alone)
        runs = store.runs()
    finally:
        store.close()
    last = outlook.last_runs(coverage, runs)
    newest = outlook.newest_in_series(runs)
    for state in coverage.tests:
        device, key = state.test.device, state.test.key
        say(f"{key} ({device})\n")
        # As the selection that takes this test goes on, with what it takes on top.
        run = last.get((key, device), newest)
        first = options.seed
        if first is None:
            first = seed_after(0) if run is None else outlook.seed_following(run, runs)
        strategy = "rotate" if run is None or run.strategy == "all" else run.strategy
        again = [
            label
            for past in (history.failing, history.hidden)
            for label in past.get(device, {}).get(key, ())
        ]
        samples = samples_of(state, first, strategy, again=again)
        for number, sample in zip(range(options.runs), samples, strict=False):
            say(f"  {seed_after(first, number)}: {', '.join(sample)}\n")
    return FINE


def _history(options: argparse.Namespace) -> int:
    from difflib import get_close_matches

    from dtype_sampler.ledger.outcomes import SUSPECT
    from dtype_sampler.reports.ledger.data import iso
    from dtype_sampler.reports.words import short_commit

    store = _open(options.ledger)
    try:
        known = store.tests()
        tests = [test for test in known if test.key == options.key]
        if not tests:
            near = get_close_matches(options.key, [test.key for test in known], n=1)
            hint = f"did you mean {visible(near[0])}?" if near else "dtype-sampler report shows all"
            raise DtypeSamplerError(f"{options.key}: the ledger knows no such test: {hint}")
        rows = []
        for run in reversed(store.runs()):
            seen = {
                (one.cell.device, one.cell.label): one.outcome
                for one in store.observations(run.uid, options.key)
            }
            if seen:
                rows.append((run, seen))
    finally:
        store.close()
    for test in tests:
        say(f"{test.key} ({test.device}), newest first\n")
        for run, seen in rows:
            said = {
                label: seen[test.device, label]
                for label in test.declared
                if (test.device, label) in seen
            }
            suspects = [label for label, outcome in said.items() if outcome == SUSPECT]
            together = suspects if len(suspects) > 1 else []
            told = [f"{label} {said[label]}" for label in said if label not in together]
            told += [f"one of {', '.join(together)} did not pass"] if together else []
            if told:
                commit = f", commit {short_commit(run.commit)}" if run.commit else ""
                say(
                    f"  run {run.number}, {iso(run.started)}, seed {run.seed}{commit}:"
                    f" {', '.join(told)}\n"
                )
        ran = {label for _, seen in rows for device, label in seen if device == test.device}
        never = [label for label in test.declared if label not in ran]
        if never:
            say(f"  in none of these runs: {', '.join(never)}\n")
    return FINE


def _prune(options: argparse.Namespace) -> int:
    if options.unseen_for is None and options.keep_runs is None:
        raise DtypeSamplerError("prune what? give --unseen-for AGE, --keep-runs N, or both")
    from dtype_sampler.reports.words import count_of

    would = "would be " if options.dry_run else ""
    store = _open(options.ledger)
    try:
        if options.unseen_for is not None:
            since = time.time() - options.unseen_for
            gone = [test for test in store.tests() if test.there_at < since]
            for test in gone:
                say(f"{would}forgotten: {test.key} ({test.device})\n")
            if not options.dry_run:
                store.forget(gone)
        if options.keep_runs is not None:
            folded = store.foldable(options.keep_runs)
            say(f"{would}folded away: {count_of(folded, 'run')}\n")
            if not options.dry_run:
                store.fold(options.keep_runs)
    finally:
        store.close()
    return FINE
