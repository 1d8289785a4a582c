"""Seeding the global generators, so that a dtype gets the same data whatever runs beside it."""

from __future__ import annotations

import random
import sys

from dtype_sampler.roundtrip.support import accelerator
from dtype_sampler.sampling.rule import keyed_hash


def reseed(seed: int, key: str, label: str) -> None:
    """Seed `random`, and numpy and torch (all devices) where they are loaded.

    The value comes from the run's seed, the test key and the label alone.
    """
    value = keyed_hash("data", str(seed), key, label)
    random.seed(value)
    if numpy := sys.modules.get("numpy"):
        # Its `random` may load just now: later it would begin with a seed of its own. 32 bits.
        numpy.random.seed(value % 2**32)
    if torch := sys.modules.get("torch"):
        if accelerator() is None:
            # torch.manual_seed() would format the stack for devices that are not there: 0.3 ms.
            torch.default_generator.manual_seed(value)
        else:
            torch.manual_seed(value)
