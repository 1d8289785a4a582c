"""Settings and history -> the run's plan: where the seed comes from."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from dtype_sampler.sampling.lanes import Lane, next_seed
from dtype_sampler.sampling.plan import History, RunPlan
from dtype_sampler.sampling.rule import seed_after
from dtype_sampler.sampling.steering import Budget
from dtype_sampler.session.known import Known
from dtype_sampler.session.settings import CLI, DEFAULT, ENV, INI, Settings

if TYPE_CHECKING:
    from dtype_sampler.ledger.past import Chosen
    from dtype_sampler.ledger.records import RunRecord


def make_plan(
    settings: Settings,
    *,
    last_seed: int | None,
    kept: tuple[str, ...] = (),
    history: History | None = None,
    lane: Lane | None = None,
    by_nodeid: bool = False,
    known: Known | None = None,
    budget: Budget | None = None,
    again: tuple[RunRecord, Chosen] | None = None,
) -> RunPlan:
    """Choose the seed and fix everything that decides a sample.

    last_seed: the seed of the run before, if it is known. history: what the ledger knows; None if
    there is none. lane: whose seeds are gone through. by_nodeid: whether nothing but node ids was
    asked for: if a seed was given too, the run replays what these tests did with it, and what the
    ledger has come to know since has no part in it. known: what is known to fail; None if that is
    not compared. budget: what the run may take, if that decides. again: the run whose cells are
    taken again, and these.

    Raises LookupError with the word that asks for a seed, if what it needs is not known: another
    seed would not replay what the person wants to see again.
    """
    lane = lane or Lane("")
    if again is None:
        seed, words = _seed(settings, last_seed, history, lane)
    else:
        seed, words = again[0].seed, f"of run {again[0].number}"
    given = settings.came_from("seed") in (CLI, ENV) and settings.seed not in ("next", "random")
    past = (history if not (by_nodeid and given) else None) or History()
    rechecked = past if settings.recheck_failed else History()
    if again is not None:
        past = rechecked = History()
    known = known or Known()
    return RunPlan(
        seed=seed,
        seed_origin=words,
        strategy=settings.strategy,
        together=settings.together,
        k=settings.k,
        all_dtypes=settings.all_dtypes,
        only=settings.only,
        device=settings.device,
        pool=settings.pool,
        argnames=settings.argnames,
        reseed=settings.reseed,
        attempt=settings.attempt,
        kept=kept,
        recheck=known.without(rechecked.failing),
        suspects=rechecked.suspect,
        alone=rechecked.alone,
        hidden=past.hidden,
        verdicts=history.verdicts if history is not None else {},
        known=known.cells,
        known_as=known.ways,
        vague=known.vague,
        lane=lane.selection,
        part=lane.part,
        in_series=settings.seed == "next" and again is None,
        # What a project has set is no wish of the moment.
        budget=None if by_nodeid and given and settings.came_from("budget") != CLI else budget,
        run=settings.run or "" if again is not None else "",
        steered=again[1] if again is not None else {},
        unread=history is not None and bool(history.unread),
        baseline_unread=known.unread,
    )


def _seed(
    settings: Settings, last_seed: int | None, history: History | None, lane: Lane
) -> tuple[int, str]:
    """The seed, and words that say where it came from."""
    seed, origin = settings.seed, settings.came_from("seed")
    if isinstance(seed, int):
        return seed, _WORDS[origin]
    if seed == "next":
        if history is not None and history.claimed is not None:
            return history.claimed, "next, as the ledger hands them out"
        following = (
            next_seed(lane, history.lanes, history.last_seed) if history is not None else None
        )
        if history is not None and following is not None:
            whose = (
                "this selection's"
                if following != seed_after(history.last_seed or 0)
                else "the ledger's"
            )
            return following, f"next after {whose} last"
        if history is None and origin != DEFAULT:
            raise LookupError(seed)
        words = "random" if origin == DEFAULT else "random, as the ledger has no runs yet"
        if history is not None and history.unread:
            words = "random, as the ledger can't be read"
        return random_seed(), words
    if seed == "last":
        if last_seed is None:
            raise LookupError(seed)
        return last_seed, "the last run's"
    return random_seed(), "random"


_WORDS = {
    CLI: "from the command line",
    ENV: "from DTYPE_SAMPLER_SEED",
    INI: "from the pytest configuration",
}


def random_seed() -> int:
    """A seed of 32 bits from the operating system: never from `random`, which tests seed."""
    return int.from_bytes(os.urandom(4), "big")
