"""`RunPlan`: what decides every sample of a run, the same in the controller and in every worker."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from dtype_sampler.settings import CLI, DEFAULT, ENV, INI, Settings

# The name under which things travel: in xdist's `workerinput` and `workeroutput`, and on reports.
WIRE = "dtype_sampler"
# Where pytest's cache keeps the seed for `--dtype-seed=last`.
CACHE_SEED = "dtype_sampler/seed"


@dataclass(frozen=True, slots=True)
class RunPlan:
    """The settings of a run with its seed chosen.

    seed_origin: words for the header that say where the seed came from. only: names as
    `--dtype-only` takes them; empty means every dtype. device: None means the current accelerator,
    else cpu. kept: node ids that are never left out, as somebody asked for them by name or they
    failed last.
    """

    seed: int
    seed_origin: str
    strategy: str = "rotate"
    k: int = 3
    all_dtypes: bool = False
    only: tuple[str, ...] = ()
    device: str | None = None
    pool: tuple[str, ...] = ("floating",)
    argnames: tuple[str, ...] = ()
    reseed: bool = True
    kept: tuple[str, ...] = ()

    def to_wire(self) -> dict[str, Any]:
        """Plain builtins, fit for xdist's `workerinput`."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> RunPlan:
        """The plan that `to_wire` packed."""
        return cls(**data)


def make_plan(settings: Settings, *, last_seed: int | None, kept: tuple[str, ...] = ()) -> RunPlan:
    """Choose the seed and fix everything that decides a sample.

    last_seed: the seed of the run before, if it is known. Raises LookupError if the settings
    ask for it and it is not: another seed would not replay what the person wants to see again.
    """
    seed, origin = settings.seed, settings.came_from("seed")
    if seed == "random":
        number, words = random_seed(), "random"
    elif seed == "last":
        if last_seed is None:
            raise LookupError("last")
        number, words = last_seed, "the last run's"
    else:
        assert isinstance(seed, int)
        number, words = seed, _WORDS[origin]
    return RunPlan(
        seed=number,
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
    )


_WORDS = {
    CLI: "from the command line",
    ENV: "from DTYPE_SAMPLER_SEED",
    INI: "from the pytest configuration",
    DEFAULT: "random",
}


def random_seed() -> int:
    """A seed of 32 bits from the operating system: never from `random`, which tests seed."""
    return int.from_bytes(os.urandom(4), "big")
