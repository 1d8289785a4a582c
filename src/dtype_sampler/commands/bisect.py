"""The command `dtype-sampler bisect`: which commit a cell began to fail with."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Self

from dtype_sampler.commands.exits import ERROR, FINE, SIGNALLED
from dtype_sampler.commands.interrupts import Interrupts, Terminated
from dtype_sampler.commands.output import say
from dtype_sampler.commands.which_cell import Case, case_of
from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.ledger.culprits import End, Ends, Sighting, Turn, ends, turn
from dtype_sampler.ledger.outcomes import CRASHED, PASSED
from dtype_sampler.ledger.records import RunRecord
from dtype_sampler.paths import with_slashes
from dtype_sampler.reports.words import count_of, visible

if TYPE_CHECKING:
    from dtype_sampler.commands.replaying import Replayer, Verdict
    from dtype_sampler.commands.repository import Repository, Worktree
    from dtype_sampler.ledger.store import Store

# So many lines of what a replay said are shown where it says something else than the ledger.
_SHOWN = 15


def add_arguments(parser: argparse.ArgumentParser, seed: Callable[[str], int]) -> None:
    """What can be said on the command line, besides the ledger. seed: parses one."""
    parser.add_argument(
        "key", type=with_slashes, metavar="TEST", help="a test key, as the report shows it"
    )
    parser.add_argument("--dtype", metavar="LABEL", help="which dtype; default: the one that fails")
    parser.add_argument(
        "--device", metavar="TYPE", help="which type of device; default: the one it fails on"
    )
    parser.add_argument(
        "--good", metavar="COMMIT", help="it passes there; default: from the ledger"
    )
    parser.add_argument("--bad", metavar="COMMIT", help="it fails there; default: from the ledger")
    parser.add_argument(
        "--seed", type=seed, metavar="INT", help="of each replay; default: that of the failure"
    )
    parser.add_argument(
        "--run",
        metavar="COMMAND",
        help="what runs pytest, for the shell, such as 'uv run pytest'; pytest's arguments take the"
        " place of {replay}, or stand at the end; default: pytest in this environment",
    )


def run(options: argparse.Namespace, open_ledger: Callable[[], Store]) -> int:
    """Find the commit; returns the exit code. Raises DtypeSamplerError where that can't be done."""
    from dtype_sampler.commands.repository import Repository, worktree

    if options.run is not None and not options.run.strip():
        raise DtypeSamplerError("--run: it is empty: name a command, or leave it out")
    store = open_ledger()
    try:
        case = case_of(store, options.key, options.dtype, options.device)
    finally:
        store.close()
    try:
        with Interrupts() as interrupts:
            repository = Repository(Path.cwd(), interrupts)
            found = _ends(case, repository, options)
            place = _place(case, repository, found, _beside(options))
            with worktree(repository, interrupts, found.bad.commit) as tree:
                return _search(case, repository, interrupts, tree, found, place, options)
    except Terminated as end:
        sys.stderr.write("dtype-sampler: terminated\n")
        return SIGNALLED + end.number


# -- Between which commits ----------------------------------------------------------------------


def _ends(case: Case, repository: Repository, options: argparse.Namespace) -> Ends:
    found = turn(case.seen)
    good, bad = (
        None if name is None else repository.resolve(name) for name in (options.good, options.bad)
    )
    try:
        between = ends(found, repository, str(case), good=good, bad=bad)
    except DtypeSamplerError as error:
        raise DtypeSamplerError(f"{error}{_former(case, found, repository)}") from None
    notes = []
    if found.mended is not None and bad is None:
        notes.append(f"it has passed again since, in {found.mended}")
    for end, word in ((between.good, "passed"), (between.bad, "failed")):
        if end.dirty:
            notes.append(
                f"it {word} in {end.sighting} with changes that were not committed (+): replayed is"
                " the commit"
            )
    newest = next(iter(found.passes), None)
    used = between.good.sighting
    if newest is not None and used is not None and newest.commit != used.commit:
        notes.append(f"its last pass, in {newest}, is of no use: {_why_not(newest, between)}")
    for note in notes:
        sys.stderr.write(f"dtype-sampler: {visible(note)}\n")
    return between


def _former(case: Case, found: Turn, repository: Repository) -> str:
    """What to say where the test never passed by the name it has: it may have had another one."""
    from dtype_sampler.paths import relative

    if found.passes or not repository.has("HEAD"):
        return ""
    path = case.cell.key.partition("::")[0]
    full = Path.cwd() / path
    if not full.resolve().is_relative_to(repository.top):
        return ""
    renamed = repository.renamed("HEAD", relative(full.resolve(), repository.top))
    if renamed is None:
        return ""
    commit, before = renamed
    return (
        f". Its file has that name since commit {commit[:7]}, and was {before} before: --good"
        f" {commit[:7]} tells whether it passed then; what came before has the key of that file"
    )


def _why_not(newest: Sighting, between: Ends) -> str:
    if not newest.commit:
        return "its commit is not known"
    if newest.commit == between.bad.commit:
        return "it is of the commit at which it failed"
    if newest.dirty:
        return "there were changes that were not committed"
    return "its commit is no ancestor of the one at which it failed, or is not in this clone"


def _seed(case: Case, found: Ends, given: int | None) -> int:
    if given is not None:
        return given
    if found.bad.sighting is not None:
        return found.bad.sighting.run.seed
    failed = [one for one in case.seen if one.outcome != PASSED]
    if not failed:
        raise DtypeSamplerError("the ledger knows no failure, and so no seed: name one with --seed")
    return failed[-1].run.seed


def _beside(options: argparse.Namespace) -> list[Path]:
    """The folder of the ledger that was named, if it is a file: mostly pytest's root directory."""
    from dtype_sampler.commands.opening import place_of_ledger
    from dtype_sampler.ledger.places import FilePlace

    if options.ledger is None:
        return []
    named = place_of_ledger(options.ledger, options.project)
    return [named.path.parent] if isinstance(named, FilePlace) else []


def _place(case: Case, repository: Repository, found: Ends, beside: list[Path]) -> str:
    """The folder of the tests, from the top of the repository: where their keys begin."""
    from dtype_sampler.paths import relative

    path = case.cell.key.partition("::")[0]
    folders = [Path.cwd(), *beside, repository.top]
    places = []
    for folder in folders:
        full = folder.resolve()
        if full.is_relative_to(repository.top):
            places.append(relative(full, repository.top))
    for commit in (found.bad.commit, found.good.commit):
        for place in places:
            if repository.has_file(commit, path if place == "." else f"{place}/{path}"):
                return place
    raise DtypeSamplerError(
        f"{path}: neither {found.good.commit[:7]} nor {found.bad.commit[:7]} has such a file: run"
        " this in the root directory of the tests"
    )


# -- The search ---------------------------------------------------------------------------------


def _search(
    case: Case,
    repository: Repository,
    interrupts: Interrupts,
    tree: Worktree,
    found: Ends,
    place: str,
    options: argparse.Namespace,
) -> int:
    from dtype_sampler.commands.replaying import Replay, Replayer

    last = found.bad.sighting
    replay = Replay(
        case.cell,
        (case.record.nodeid if case.record is not None else "") or case.cell.key,
        case.test.declared,
        _seed(case, found, options.seed),
        crashes=last is not None and last.outcome == CRASHED,
    )
    replayer = Replayer(replay, repository, interrupts, tree.folder, place, options.run)
    count = repository.count(found.good.commit, found.bad.commit)
    say(
        f"{case}, seed {replay.seed}\n"
        f"passed: {_told(found.good)}\nfailed: {_told(found.bad)}\n"
        f"{count_of(count, 'commit')} from there to here; at each one: {replayer.line}\n"
    )
    sys.stdout.flush()
    with _Steps(tree, repository, replayer) as steps:
        for end, word in ((found.bad, "bad"), (found.good, "good")):
            verdict = steps.at(end.commit)
            if verdict.word != word:
                raise DtypeSamplerError(_not_reproduced(found, end, verdict, replayer))
        culprits = steps.search(found)
    if len(culprits) == 1:
        _tell(repository, culprits[0], case, replayer)
        return FINE
    say(f"\nit can't be told which of these commits {case.cell.key} began to fail with:\n")
    for commit in culprits:
        facts, why = repository.facts(commit), steps.skipped.get(commit)
        say(f"  {commit[:7]} {facts.subject} ({f'skipped: {why}' if why else 'it fails there'})\n")
    say(f"replay each by hand: {replayer.line}\n")
    return ERROR


def _told(end: End) -> str:
    if end.sighting is None:
        return f"commit {end.commit[:7]}, as you say"
    from dtype_sampler.reports.ledger.data import iso

    run = end.sighting.run
    return f"commit {end.commit[:7]}{'+' * end.dirty}, run {run.number}, {iso(run.started)}"


class _Steps:
    """Goes from commit to commit, and says how far it is: on a terminal in a line of its own."""

    def __init__(self, tree: Worktree, repository: Repository, replayer: Replayer) -> None:
        from dtype_sampler.progress import Progress

        self._tree = tree
        self._repository = repository
        self._replayer = replayer
        self._bar = Progress("bisecting")
        self._plain = not sys.stderr.isatty()
        self._done, self._left = 0, 0
        self.skipped: dict[str, str] = {}

    def __enter__(self) -> Self:
        self._bar.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.__exit__(None, None, None)

    def at(self, commit: str) -> Verdict:
        """Go to a commit and replay the cell there."""
        self._tree.go(commit)
        return self._replay(commit)

    def _replay(self, commit: str) -> Verdict:
        subject = self._repository.facts(commit).subject
        name = visible(f"{commit[:7]} {subject}")
        self._bar.at(self._done, self._done + self._left + 1, name)
        verdict = self._replayer()
        # Nothing of it stays for the next one, nor in the way of it.
        self._tree.tidy()
        self._done += 1
        if verdict.word == "skip":
            self.skipped[commit] = verdict.why
        if self._plain:
            skipped = "skipped: " * (verdict.word == "skip")
            sys.stderr.write(f"{self._done}: {name}: {skipped}{visible(verdict.why)}\n")
            sys.stderr.flush()
        return verdict

    def search(self, found: Ends) -> list[str]:
        """The culprit, or the commits of which one is it."""
        self._tree.begin(found.good.commit, found.bad.commit)
        while not (culprits := self._tree.found()):
            self._left = self._tree.left
            self._tree.mark(self._replay(self._tree.commit).word)
        return culprits


def _tell(repository: Repository, commit: str, case: Case, replayer: Replayer) -> None:
    facts = repository.facts(commit)
    say(
        f"\n{case} began to fail with:\n"
        f"commit {facts.commit}\nauthor: {facts.author}\ndate: {facts.date}\n\n"
        f"    {facts.subject}\n\n"
        f"to replay it there: git switch --detach {facts.commit[:7]}\n"
        f"{replayer.line}\n"
    )


def _not_reproduced(found: Ends, end: End, verdict: Verdict, replayer: Replayer) -> str:
    """What to say of an end at which the replay says otherwise than the ledger, or nothing."""
    where = end.commit[:7]
    was = "passed" if end is found.good else "failed"
    known = f"you say that it {was}" if end.sighting is None else f"it {was} in {end.sighting}"
    told = f"replayed at {where} with seed {replayer.seed}, it {verdict.why}"
    if verdict.word == "skip":
        told = f"it can't be replayed at {where}: {verdict.why}"
    lines = [f"can't reproduce: {known}, but {told}", *_hints(found, end, verdict, replayer)]
    lines += [f"by hand: git switch --detach {where}", f"         {replayer.line}"]
    shown = verdict.said.rstrip().splitlines()[-_SHOWN:]
    return "\n".join([*lines, *(f"  | {visible(line)}" for line in shown)])


def _hints(found: Ends, end: End, verdict: Verdict, replayer: Replayer) -> list[str]:
    """Why that may be."""
    hints = []
    if end.dirty:
        hints.append("there were changes that were not committed: the reason may be among them")
    if verdict.word == "skip":
        if not replayer.by_command:
            hints.append(
                "if it needs what git does not have, such as compiled code, let --run build it"
            )
        return hints
    good, bad = found.good.sighting, found.bad.sighting
    if end is found.good and good is not None and bad is not None and good.run.seed != bad.run.seed:
        hints.append(
            f"it passed with seed {good.run.seed}: with this one's random data it may have failed"
            " there already; name an older commit with --good"
        )
    return hints + (_versions(end.sighting.run) if end.sighting is not None else [])


def _versions(run: RunRecord) -> list[str]:
    """What was other where it ran than it is here."""
    from dtype_sampler.ledger.origin import machine

    here = machine()
    pairs = {"host": run.host, "python": run.python, "torch": run.torch}
    other = [
        f"{name} {was} (here {here[name]})" for name, was in pairs.items() if was != here[name]
    ]
    return [f"it ran with {', '.join(other)}"] if other else []
