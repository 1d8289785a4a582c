"""Between which commits a cell began to fail, as far as its runs tell. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.ledger.outcomes import PASSED, SUSPECT
from dtype_sampler.ledger.records import FAILURES, CellRecord, Mark, RunRecord

# Of SHA-1 or SHA-256, with the `+` of a dirty tree. A ledger may be anybody's, and git reads other
# words as options.
_COMMIT = re.compile(r"([0-9a-f]{40}|[0-9a-f]{64})(\+?)")


class Commits(Protocol):
    """What a clone says of commits."""

    def has(self, commit: str) -> bool:
        """Whether it is in this clone."""

    def is_ancestor(self, one: str, other: str) -> bool:
        """Whether *other* is *one*, or came of it."""

    @property
    def shallow(self) -> bool:
        """Whether the clone lacks its oldest history."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """That a cell had this outcome in this run."""

    run: RunRecord
    outcome: str

    @property
    def commit(self) -> str:
        """The commit that was checked out then; empty if that is not known."""
        found = _COMMIT.fullmatch(self.run.commit)
        return found[1] if found else ""

    @property
    def dirty(self) -> bool:
        """Whether there were changes that were not committed."""
        return bool(self.commit) and self.run.commit.endswith("+")

    @property
    def doubt(self) -> tuple[bool, bool]:
        """How little it says of the commit: the smaller, the more."""
        return self.dirty, self.outcome == SUSPECT

    def __str__(self) -> str:
        """The run and its commit, for people."""
        at = f", commit {self.run.commit[:7]}{'+' * self.dirty}" if self.commit else ""
        return f"run {self.run.number}, seed {self.run.seed}{at}"


@dataclass(frozen=True, slots=True)
class Turn:
    """When a cell last began to fail.

    passes: all that came before, the newest first. failures: those since the last of them, the
    oldest first. mended: the first pass after these.
    """

    passes: tuple[Sighting, ...] = ()
    failures: tuple[Sighting, ...] = ()
    mended: Sighting | None = None


@dataclass(frozen=True, slots=True)
class End:
    """A commit between which and another one the culprit is looked for. sighting: what the ledger
    knows of it; None if a person has named it.
    """

    commit: str
    sighting: Sighting | None = None

    @property
    def dirty(self) -> bool:
        """Whether what was seen there was seen with changes that were not committed."""
        return self.sighting is not None and self.sighting.dirty


@dataclass(frozen=True, slots=True)
class Ends:
    """A commit at which a cell passed, and a later one at which it failed."""

    good: End
    bad: End


def sightings(
    record: CellRecord | None, runs: Iterable[RunRecord], seen: Mapping[str, str]
) -> list[Sighting]:
    """All that is known of a cell's passes and failures, the oldest first.

    record: what is known for ever, of runs that are folded away too. runs: oldest first. seen: a
    run's uid -> the cell's outcome in it.
    """
    outcomes: dict[str, str] = {}
    marks: Sequence[Mark | None] = (
        () if record is None else (record.passed, record.failed, record.verdict)
    )
    for mark in marks:
        if mark is not None:
            outcomes[mark.run] = mark.outcome
    outcomes |= seen
    return [
        Sighting(run, outcomes[run.uid])
        for run in runs
        if outcomes.get(run.uid) in {PASSED, SUSPECT, *FAILURES}
    ]


def turn(seen: Sequence[Sighting]) -> Turn:
    """When the cell last began to fail. seen: the oldest first.

    A suspicion counts as a failure, where there is nothing better: a replay will tell.
    """
    failed = [place for place, one in enumerate(seen) if one.outcome != PASSED]
    if not failed:
        return Turn(passes=tuple(reversed(seen)))
    last = failed[-1]
    since = last
    while since and seen[since - 1].outcome != PASSED:
        since -= 1
    return Turn(
        passes=tuple(one for one in reversed(seen[:since]) if one.outcome == PASSED),
        failures=tuple(seen[since : last + 1]),
        mended=next(iter(seen[last + 1 :]), None),
    )


def ends(
    found: Turn, commits: Commits, what: str, *, good: str | None = None, bad: str | None = None
) -> Ends:
    """The nearest commits between which the cell began to fail.

    A commit that was clean goes before one that was not: that one's clean state may behave
    otherwise, which a replay has to tell. what: the cell, in words. good, bad: full hashes that a
    person has named. Raises DtypeSamplerError, which says what is in the way, if there are none.
    """
    last = End(bad) if bad is not None else _first_failure(found, commits, what)
    if good is not None:
        if commits.is_ancestor(good, last.commit) and good != last.commit:
            return Ends(End(good), last)
        raise DtypeSamplerError(_no_way(End(good), last, commits))
    first = _last_pass(found, commits, what, last)
    # Somebody may have gone back to an older commit to see: that is nearer to the culprit.
    for one in found.failures if bad is None else ():
        nearer = (
            (last.sighting is None or one.doubt <= last.sighting.doubt)
            and one.commit not in ("", first.commit, last.commit)
            and commits.has(one.commit)
            and commits.is_ancestor(one.commit, last.commit)
            and commits.is_ancestor(first.commit, one.commit)
        )
        last = End(one.commit, one) if nearer else last
    return Ends(first, last)


def _first_failure(found: Turn, commits: Commits, what: str) -> End:
    if not found.failures:
        raise DtypeSamplerError(
            f"{what} never failed, as far as the ledger knows: there is nothing to look for;"
            " if it fails at some commit, name that with --bad, and the seed with --seed"
        )
    for one in _surest_first(found.failures):
        if one.commit and commits.has(one.commit):
            return End(one.commit, one)
    raise DtypeSamplerError(f"{_why_unusable('failed', found.failures[0], commits)} with --bad")


def _last_pass(found: Turn, commits: Commits, what: str, last: End) -> End:
    if not found.passes:
        since = f", since {found.failures[0]}" if found.failures else ""
        raise DtypeSamplerError(
            f"{what} never passed before, as far as the ledger knows{since}:"
            " if it passes at some commit, name that with --good"
        )
    usable = [one for one in found.passes if one.commit and commits.has(one.commit)]
    before = [
        one
        for one in usable
        if one.commit != last.commit and commits.is_ancestor(one.commit, last.commit)
    ]
    for dirty in (False, True):
        best: Sighting | None = None
        for one in before:
            if one.dirty == dirty and (
                best is None
                or (best.commit != one.commit and commits.is_ancestor(best.commit, one.commit))
            ):
                best = one
        if best is not None:
            return End(best.commit, best)
    if not usable:
        raise DtypeSamplerError(f"{_why_unusable('passed', found.passes[0], commits)} with --good")
    nearest = _surest_first(usable)[0]
    raise DtypeSamplerError(_no_way(End(nearest.commit, nearest), last, commits))


def _surest_first(some: Iterable[Sighting]) -> list[Sighting]:
    return sorted(some, key=lambda one: one.doubt)


def _why_unusable(verb: str, one: Sighting, commits: Commits) -> str:
    """Why the commit of a sighting can't be gone to, up to the option that names another one."""
    if not one.commit:
        # A run whose ledger is told everything says how pytest was called.
        why = (
            "git was not there"
            if one.run.command
            else "it was recorded with dtype_sampler_record = minimal, which leaves that out"
        )
        return f"it {verb} in {one}, and the ledger does not say at which commit: {why}; name one"
    how = "git fetch --unshallow" if commits.shallow else "git fetch --all"
    return f"it {verb} in {one}, which is not in this clone: get it by {how}, or name another one"


def _no_way(good: End, bad: End, commits: Commits) -> str:
    """Why no commit lies between the two."""
    names = f"{good.commit[:7]}, where it passed{_of(good)}", f"{bad.commit[:7]}{_of(bad)}"
    if good.commit == bad.commit:
        if good.sighting is None or bad.sighting is None:
            return f"--good and --bad are one commit, {bad.commit[:7]}"
        if bad.dirty or good.dirty:
            return (
                f"it passed and failed at one commit, {bad.commit[:7]}, in {good.sighting} and"
                f" {bad.sighting}: what differs was not committed. Commit it, and run the tests"
                " again, or name a commit at which it passes with --good"
            )
        return (
            f"it passed and failed at one commit, {bad.commit[:7]}, in {good.sighting} and"
            f" {bad.sighting}: that is no matter of commits but of the seed, the machine or its"
            " versions; or name an older commit at which it passes with --good"
        )
    if commits.is_ancestor(bad.commit, good.commit):
        return (
            f"{names[0]}, came after {names[1]}: name a commit before that at which it passes"
            " with --good"
        )
    hint = (
        "this clone is shallow, so that may be its history: git fetch --unshallow; or name"
        if commits.shallow
        else "they are on different branches: name"
    )
    return (
        f"{names[0]}, is no ancestor of {names[1]}, where it failed: {hint} a commit of that"
        " one's own history at which it passes with --good"
    )


def _of(end: End) -> str:
    return "" if end.sighting is None else f" (run {end.sighting.run.number})"
