"""`RunPlan`: what decides every sample of a run, the same in the controller and in every worker."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from json import dumps, loads
from typing import Any

from dtype_sampler.ledger.records import History
from dtype_sampler.session.settings import CLI, DEFAULT, ENV, INI, Settings, seed_after

# The name under which things travel: in xdist's `workerinput` and `workeroutput`, and on reports.
WIRE = "dtype_sampler"
# Where pytest's cache keeps the seed for `--dtype-seed=last`.
CACHE_SEED = "dtype_sampler/seed"
_AS_TEXT = ("recheck", "verdicts")


@dataclass(frozen=True, slots=True)
class RunPlan:
    """The settings of a run with its seed chosen.

    seed_origin: words for the header that say where the seed came from. k: of tests that name none,
    a number or a share such as "1/3" (`settings.number_of`). only: names as
    `--dtype-only` takes them; empty means every dtype. device: None means the current accelerator,
    else cpu. kept: node ids that are never left out, as somebody asked for them by name or they
    failed last. recheck: device type -> test key -> the labels whose last verdict was a failure.
    verdicts: device type -> test key -> label -> when its last verdict was, for `oldest`.
    """

    seed: int
    seed_origin: str
    strategy: str = "rotate"
    k: int | str = 3
    all_dtypes: bool = False
    only: tuple[str, ...] = ()
    device: str | None = None
    pool: tuple[str, ...] = ("floating",)
    argnames: tuple[str, ...] = ()
    reseed: bool = True
    kept: tuple[str, ...] = ()
    recheck: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    verdicts: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)

    def to_wire(self) -> dict[str, Any]:
        """Plain builtins, fit for xdist's `workerinput`."""
        wire = {f.name: getattr(self, f.name) for f in fields(self)}
        # As text: the many small objects of a long history are slow to send one by one.
        return wire | {name: dumps(wire[name]) for name in _AS_TEXT}

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> RunPlan:
        """The plan that `to_wire` packed."""
        return cls(**{**data, **{name: loads(data[name]) for name in _AS_TEXT}})


def make_plan(
    settings: Settings,
    *,
    last_seed: int | None,
    kept: tuple[str, ...] = (),
    history: History | None = None,
) -> RunPlan:
    """Choose the seed and fix everything that decides a sample.

    last_seed: the seed of the run before, if it is known. history: what the ledger knows; None if
    there is none. Raises LookupError with the word that asks for a seed, if what it needs is not
    known: another seed would not replay what the person wants to see again.
    """
    seed, words = _seed(settings, last_seed, history)
    return RunPlan(
        seed=seed,
        seed_origin=words,
        strategy=settings.strategy,
        k=settings.k,
        all_dtypes=settings.all_dtypes,
        only=settings.only,
        device=settings.device,
        pool=settings.pool,
        argnames=settings.argnames,
        reseed=settings.reseed,
        kept=kept,
        recheck=history.failing if history is not None and settings.recheck_failed else {},
        verdicts=history.verdicts if history is not None else {},
    )


def _seed(settings: Settings, last_seed: int | None, history: History | None) -> tuple[int, str]:
    """The seed, and words that say where it came from."""
    seed, origin = settings.seed, settings.came_from("seed")
    if isinstance(seed, int):
        return seed, _WORDS[origin]
    if seed == "next":
        if history is not None and history.last_seed is not None:
            return seed_after(history.last_seed), "next after the ledger's last"
        if history is None and origin != DEFAULT:
            raise LookupError(seed)
        words = "random" if origin == DEFAULT else "random, as the ledger has no runs yet"
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
