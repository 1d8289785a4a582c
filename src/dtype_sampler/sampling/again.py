"""What a test takes again, and what alone, as the ledger tells of the runs before. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import gcd


@dataclass(frozen=True, slots=True)
class Past:
    """What is known of one test, each in declared order where that matters. Labels that can't run
    now are left out.

    failing: what failed at its last verdict. hidden: what a loop did not come to the last time.
    suspects: those of which one did not pass, it is not known which. alone: what did not pass
    alone, after it had been one of these. The latter two only of tests that take several dtypes in
    one go, where these are sampled.
    """

    failing: Sequence[str] = ()
    hidden: Sequence[str] = ()
    suspects: Sequence[str] = ()
    alone: Sequence[str] = ()


NOTHING = Past()


def take(
    chosen: tuple[str, ...],
    labels: Sequence[str],
    past: Past,
    *,
    seed: int,
    k: int,
    fixed: int,
) -> tuple[tuple[str, ...], bool]:
    """What a test takes where the rule chooses these, in declared order; and whether the past has a
    part in it, so that the seed alone does not give it.

    labels: all that it declares. fixed: how many it always takes.
    """
    # What failed last stays until it passes, on top of what the seed picks; and so does what a loop
    # did not get to, until it does.
    again = [label for label in (*past.hidden, *past.failing) if label not in chosen]
    if past.suspects:
        # Together it may not be possible to tell which one it is.
        chosen, again = (), [past.suspects[seed % len(past.suspects)]]
    elif past.alone:
        chosen = beside(chosen, past.alone, seed // _period(len(labels) - fixed, k - fixed))
        again = [label for label in again if label not in past.alone]
    taken = tuple(label for label in labels if label in chosen or label in again)
    return taken, bool(again or past.suspects or past.alone)


def _period(rest: int, k: int) -> int:
    """After so many seeds the samples come again."""
    return rest // gcd(rest, k) if rest else 1


def beside(chosen: Sequence[str], alone: Collection[str], turn: int) -> tuple[str, ...]:
    """What to take of a sample in which some are to run alone: it without them, or one of them.

    turn: how often the seeds have been round all samples. Every other time those that are to run
    alone have their turn, and the others in between, so that nobody starves.
    """
    picked = [label for label in chosen if label in alone]
    others = tuple(label for label in chosen if label not in alone)
    if picked and (turn % 2 or not others):
        return (picked[turn // 2 % len(picked)],)
    return others
