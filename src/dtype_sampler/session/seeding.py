"""Seeding the global generators, so that a dtype gets the same data whatever runs beside it.

A suite that seeds them itself keeps its seed: each dtype then starts from where the suite's own
code has left the generators when the loop began.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from dtype_sampler.roundtrip.support import accelerator
from dtype_sampler.sampling.rule import keyed_hash


def value_of(seed: int, key: str, label: str, times: int = 1) -> int:
    """The 64 bits that everything random begins with, for this test key and label.

    times: 1 for the first attempt, and one more for each repetition, which has data of its own.
    """
    fields = ("data", str(seed), key, label)
    return keyed_hash(*fields, str(times)) if times > 1 else keyed_hash(*fields)


def reseed(seed: int, key: str, label: str) -> None:
    """Seed `random`, and numpy and torch (all devices) where they are loaded.

    The value comes from the run's seed, the test key and the label alone.
    """
    _seed_all(value_of(seed, key, label))


def _seed_all(value: int) -> None:
    for generator in _generators():
        generator.seed(value)


def save() -> Callable[[], None]:
    """Take down how the generators stand; returns what puts them back there."""
    states = [(generator, generator.state()) for generator in _generators()]

    def restore() -> None:
        for generator, state in states:
            generator.restore(state)

    return restore


class Seeding:
    """The generators while one attempt at a test runs.

    Once `prime` has seeded them, what stands there when a loop begins is either untouched, or it is
    the test's own: the same in every run with this seed. Without that, each dtype is seeded.
    """

    __slots__ = ("_known", "_last", "_own", "_primed", "_starts")

    def __init__(self) -> None:
        self._primed: int | None = None
        # Those that were loaded then; what is loaded later stands where it begins by itself.
        self._known: frozenset[str] = frozenset()
        # By the generator's name: where each dtype starts from; None where we seed it.
        self._starts: dict[str, Any] = {}
        # The generators that the suite has seeded again, before the loop that is going on.
        self._own: frozenset[str] = frozenset()
        self._last = 0

    @property
    def primed(self) -> bool:
        """Whether the generators were seeded before the test's own code ran."""
        return self._primed is not None

    def forget(self) -> None:
        """Another attempt begins."""
        self._primed = None
        self._starts.clear()
        self._own = frozenset()

    def prime(self, value: int) -> None:
        """Seed all generators, before the test's own fixtures and its setup run."""
        self._primed = value
        generators = _generators()
        self._known = frozenset([generator.name for generator in generators])
        for generator in generators:
            generator.seed(value)

    def start(self, value: int, *, times: int, loop_begins: bool) -> None:
        """A dtype is handed out: put the generators where its random data begin.

        value: what to seed with where the suite doesn't seed. times: how often this dtype has been
        handed out here, this time included. loop_begins: it is the first one of its loop.
        """
        if self._primed is None:
            _seed_all(value)
            return
        own = set()
        for generator in _generators():
            if loop_begins and self._is_own(generator):
                own.add(generator.name)
            start = self._starts.get(generator.name)
            if start is None:
                generator.seed(value)
                continue
            generator.restore(start)
            if times > 1 and generator.name not in (own if loop_begins else self._own):
                # A retry in the same attempt: other data, that still begin with the suite's seed.
                generator.seed(keyed_hash("again", str(generator.draw()), str(times)))
        if loop_begins:
            self._own = frozenset(own)
        self._last = value

    def _is_own(self, generator: Generator) -> bool:
        """Whether the suite has seeded this one; then the loop that begins starts from there."""
        assert self._primed is not None
        if generator.name not in self._starts:
            ours = generator.name not in self._known or generator.untouched(self._primed)
            if ours or generator.is_anothers():
                self._starts[generator.name] = None
                return False
            self._starts[generator.name] = generator.state()
            return True
        # Asked in this order, as the second takes long, and mostly the first is true.
        if generator.untouched(self._last) or not generator.fresh():
            # As an earlier loop has left it, or near to it.
            return False
        self._starts[generator.name] = generator.state()
        return True


class Generator(Protocol):
    """One of the global generators."""

    name: str

    def seed(self, value: int) -> None:
        """Seed it."""

    def untouched(self, value: int) -> bool:
        """Whether nobody has seeded it since it was seeded with *value*."""

    def fresh(self) -> bool:
        """Whether it was seeded, and nothing was drawn since."""

    def is_anothers(self) -> bool:
        """Whether another plugin looks after it at the moment."""

    def state(self) -> Any:
        """How it stands."""

    def restore(self, state: Any) -> None:
        """Put it back there."""

    def draw(self) -> int:
        """Some bits."""


class _Python:
    name = "random"

    def seed(self, value: int) -> None:
        random.seed(value)

    def untouched(self, value: int) -> bool:
        words = random.getstate()[1]
        if words[-1] != 624:
            # Something was drawn.
            return False
        as_new = random.Random(value)  # noqa: S311  # for what it draws
        # Every test that asks for dtypes waits for this, and to make and to compare all words of
        # both takes twice as long as to find out what comes next.
        return _next_64_bits(words) == as_new.getrandbits(64)

    def fresh(self) -> bool:
        words = random.getstate()[1]
        # How the Mersenne Twister stands when it was seeded from an array, as `random` does it.
        return bool(words[0] == 0x80000000 and words[-1] == 624)

    def is_anothers(self) -> bool:
        return _in_hypothesis()

    def state(self) -> Any:
        return random.getstate()

    def restore(self, state: Any) -> None:
        random.setstate(state)

    def draw(self) -> int:
        return random.getrandbits(64)


def _next_64_bits(words: Sequence[int]) -> int:
    """What a Mersenne Twister draws next that stands before its next round, as a new one does.

    words: its state. One step of MT19937 (Matsumoto and Nishimura, ACM TOMACS 8, 1998) for each
    half, the lower one first.
    """
    halves = []
    for i in range(2):
        mixed = words[i] & 0x80000000 | words[i + 1] & 0x7FFFFFFF
        word = words[i + 397] ^ mixed >> 1 ^ (0x9908B0DF if mixed & 1 else 0)
        word ^= word >> 11
        word ^= word << 7 & 0x9D2C5680
        word ^= word << 15 & 0xEFC60000
        halves.append(word ^ word >> 18)
    return halves[1] << 32 | halves[0]


class _Numpy:
    name = "numpy"

    def __init__(self, numpy: Any) -> None:
        # Its `random` may load just now: later it would begin with a seed of its own.
        self._random = numpy.random

    def seed(self, value: int) -> None:
        self._random.seed(value % 2**32)

    def untouched(self, value: int) -> bool:
        key, position = self._words()
        return position == 624 and int(key[0]) == value % 2**32 and self.fresh()

    def fresh(self) -> bool:
        key, position = self._words()
        if position != 624:
            return False
        first, second = int(key[0]), int(key[1])
        # Knuth's generator, which fills the rest from the first word; or as `random` does it.
        expected = (1812433253 * (first ^ first >> 30) + 1) % 2**32
        return second == expected or first == 0x80000000

    def _words(self) -> tuple[Any, int]:
        state = self._random.get_state()
        return (state[1], state[2]) if state[0] == "MT19937" else ((0, 0), 0)

    def is_anothers(self) -> bool:
        return _in_hypothesis()

    def state(self) -> Any:
        return self._random.get_state(legacy=False)

    def restore(self, state: Any) -> None:
        self._random.set_state(state)

    def draw(self) -> int:
        return int(self._random.randint(2**32, dtype="uint64"))


class _Torch:
    name = "torch"

    def __init__(self, torch: Any) -> None:
        self._torch = torch

    def seed(self, value: int) -> None:
        if accelerator() is None:
            # torch.manual_seed() would format the stack for devices that are not there: 0.3 ms.
            self._torch.default_generator.manual_seed(value)
        else:
            self._torch.manual_seed(value)

    def untouched(self, value: int) -> bool:
        # A generator of torch knows what it was seeded with, whatever was drawn since.
        return bool(self._torch.default_generator.initial_seed() == value)

    def fresh(self) -> bool:
        generator = self._torch.default_generator
        as_new = self._torch.Generator().manual_seed(generator.initial_seed())
        return bool(self._torch.equal(generator.get_state(), as_new.get_state()))

    def is_anothers(self) -> bool:
        return False

    def state(self) -> Any:
        module = self._device()
        there = None
        if hasattr(module, "get_rng_state_all"):
            there = module.get_rng_state_all()
        elif hasattr(module, "get_rng_state"):
            there = module.get_rng_state()
        return self._torch.default_generator.get_state(), there

    def restore(self, state: Any) -> None:
        here, there = state
        self._torch.default_generator.set_state(here)
        module = self._device()
        if module is None:
            return
        if there is None:
            # Not in use when the state was taken, and seeded like the processor's by most.
            module.manual_seed(self._torch.default_generator.initial_seed())
        elif hasattr(module, "set_rng_state_all"):
            module.set_rng_state_all(there)
        else:
            module.set_rng_state(there)

    def _device(self) -> Any:
        """torch's module for the accelerator; None where none is in use."""
        kind = accelerator()
        module = getattr(self._torch, kind, None) if kind is not None else None
        # Asking would begin to use it, in each worker of pytest-xdist.
        in_use = getattr(module, "is_initialized", lambda: module is not None)
        return module if in_use() else None

    def draw(self) -> int:
        return int(self._torch.empty((), dtype=self._torch.int64, device="cpu").random_())


def _generators() -> list[Generator]:
    """Those of the modules that are loaded."""
    found: list[Generator] = [_Python()]
    if numpy := sys.modules.get("numpy"):
        found.append(_Numpy(numpy))
    if torch := sys.modules.get("torch"):
        found.append(_Torch(torch))
    return found


def _in_hypothesis() -> bool:
    # It seeds these before each example.
    hypothesis = sys.modules.get("hypothesis")
    asked = getattr(hypothesis, "currently_in_test_context", None)
    return asked is not None and bool(asked())


def draws_again() -> bool:
    """Whether to draw other data where one test asks for the same dtype again.

    Not under Hypothesis, which runs a test over and over and must find it the same each time.
    """
    return not _in_hypothesis()
