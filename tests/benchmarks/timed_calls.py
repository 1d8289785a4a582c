"""Tests that time `random_dtypes` in themselves. `calls` runs this file in processes of its own.

CALLS_POOL says which pool, and CALLS_JSON where the numbers go: in microseconds, a list for what is
timed once in each of many tests or of many blocks, in turn with what it is compared to.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from timeit import Timer
from typing import Any

import pytest
import torch

from dtype_sampler import random_dtypes
from dtype_sampler.session.running import running_test

MIXED = [
    *("float16", "bfloat16", "float32", "auto"),
    *(torch.float16, torch.bfloat16, torch.float32),
]
POOLS: dict[str, dict[str, Any]] = {
    "default pool": {},
    "seven mixed": {"dtypes": MIXED},
    'pool "all"': {"dtypes": "all"},
}
ARGUMENTS = POOLS[os.environ["CALLS_POOL"]]
TIMES: dict[str, list[float]] = {}


class Unmeasured:
    """Stands where a test's watch is, and looks at no clock."""

    def now(self) -> float:
        """No time of any clock."""
        return 0.0


@pytest.fixture(scope="session", autouse=True)
def _write_at_the_end() -> Any:
    torch.empty(1)
    random.sample(range(7), 3)
    yield
    Path(os.environ["CALLS_JSON"]).write_text(json.dumps(TIMES))


def once(name: str, call: Callable[[], object]) -> None:
    """Time one call, as cold or warm as it comes."""
    start = perf_counter()
    call()
    TIMES.setdefault(name, []).append(1e6 * (perf_counter() - start))


def in_turn(calls: dict[str, Callable[[], object]], blocks: int = 21, number: int = 300) -> None:
    """Time blocks of calls, one of each kind in turn; a block gives the time of one call."""
    for _ in range(blocks):
        for name, call in calls.items():
            seconds = Timer(call).timeit(number)
            TIMES.setdefault(name, []).append(1e6 * seconds / number)


def ask() -> Any:
    """The call that all this is about."""
    return random_dtypes(k=3, **ARGUMENTS)


def test_first_in_process() -> None:
    once("first in process", ask)


@pytest.mark.parametrize("number", range(300))
def test_first_in_test(number: int) -> None:
    once("first in test", ask)
    once("torch.empty, once", lambda: torch.empty(1))
    once("random.sample, once", lambda: random.sample(range(7), 3))


def test_repeated() -> None:
    in_turn(
        {
            "repeated": ask,
            "torch.empty": lambda: torch.empty(1),
            "random.sample": lambda: random.sample(range(7), 3),
        }
    )


def test_iteration() -> None:
    numpy = pytest.importorskip("numpy")
    sample = ask()

    def loop() -> None:
        for _ in sample:
            pass

    def seeding() -> None:
        random.seed(2**60)
        numpy.random.seed(2**30)
        torch.manual_seed(2**60)

    test = running_test()
    assert test is not None
    watches = test.watch, test.under_test._watch

    def by(watch: Any, below: Any) -> None:
        test.watch, test.under_test._watch = watch, below
        loop()
        test.watch, test.under_test._watch = watches

    # Seeding all of torch takes most of a millisecond.
    in_turn(
        {
            "loop": loop,
            "seeding": seeding,
            "measured": lambda: by(*watches),
            "unmeasured": lambda: by(Unmeasured(), None),
        },
        number=20,
    )
