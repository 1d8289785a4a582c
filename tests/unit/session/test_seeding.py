"""Whose random data a dtype gets: ours, or what the suite has seeded."""

from __future__ import annotations

import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dtype_sampler.session import seeding
from dtype_sampler.session.seeding import Seeding, save, value_of


def data() -> tuple[float, float, float]:
    return random.random(), np.random.random(), torch.rand(1).item()


@pytest.fixture(autouse=True)
def _put_back():
    restore = save()
    yield
    restore()


def test_golden_values():
    """What random data begin with is a promise: those of a first attempt never change."""
    key, label = "test_it.py::test", "torch.float16"
    assert value_of(5, key, label) == 3091932092892832633
    assert value_of(5, key, label, 2) == 8557154532785629916


def test_what_is_saved_comes_back():
    data()
    restore = save()
    first = data()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    restore()
    assert data() == first


def drawn(state: Seeding, value: int, *, times: int = 1, begins: bool = True) -> tuple[float, ...]:
    state.start(value, times=times, loop_begins=begins)
    return data()


def test_without_a_first_seed_every_dtype_is_seeded():
    state = Seeding()
    assert not state.primed
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    assert drawn(state, 7) == drawn(state, 7, begins=False) != drawn(state, 8)


@pytest.mark.parametrize("draws", [0, 1, 400, 1300])
def test_where_the_suite_seeds_every_dtype_starts_from_there(draws):
    state, found = Seeding(), []
    for value in (3, 4):
        state.forget()
        state.prime(value)
        random.seed(1), np.random.seed(1), torch.manual_seed(1)
        for _ in range(draws):
            data()
        found += [drawn(state, value), drawn(state, value + 50, begins=False)]
    assert len(set(found)) == 1


def test_where_it_only_draws_torch_is_ours_and_all_is_the_same_again():
    state, found = Seeding(), []
    for _ in range(2):
        state.forget()
        state.prime(3)
        data()
        found.append([drawn(state, 7), drawn(state, 8, begins=False)])
    assert found[0] == found[1]
    assert found[0][0][2] != found[0][1][2]


def test_a_seed_before_a_later_loop():
    state = Seeding()
    state.prime(3)
    first = drawn(state, 7)
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    own = drawn(state, 7)
    assert own != first
    assert drawn(state, 8, begins=False) == own
    # Nothing was seeded before the third.
    assert drawn(state, 9) == own


def test_once_more_with_a_suites_seed_draws_other_data_that_begin_with_it():
    found = []
    for value in (3, 4):
        state = Seeding()
        state.prime(value)
        random.seed(1), np.random.seed(1), torch.manual_seed(1)
        found.append([drawn(state, value), drawn(state, value, times=2)])
    assert found[0] == found[1]
    for one, other in zip(*found[0], strict=True):
        assert one != other


def test_what_is_loaded_later_is_no_seed_of_the_suites(monkeypatch):
    state = Seeding()
    with monkeypatch.context() as patch:
        patch.delitem(seeding.sys.modules, "torch")
        state.prime(3)
    torch.manual_seed(1)
    assert drawn(state, 7) == drawn(Seeding(), 7)


@pytest.mark.parametrize("kind", ["all", "one"])
def test_generators_of_an_accelerator_go_along(monkeypatch, kind):
    states, in_use = [b"a"], [False]
    suffix = "_all" if kind == "all" else ""
    device = SimpleNamespace(
        is_initialized=lambda: in_use[0],
        manual_seed=lambda value: states.append(value),
        **{
            f"get_rng_state{suffix}": lambda: states[-1],
            f"set_rng_state{suffix}": lambda state: states.append(state),
        },
    )
    monkeypatch.setattr(seeding, "accelerator", lambda: "imaginary")
    monkeypatch.setattr(torch, "imaginary", device, raising=False)
    torch.manual_seed(5)
    restore = save()
    # Nobody has used it: asking would begin to. Whoever does gets the processor's seed.
    in_use[0] = True
    restore()
    assert states == [b"a", 5]
    restore = save()
    states.append(b"b")
    restore()
    assert states[-1] == 5


@given(st.integers(0, 2**64 - 1))
def test_what_a_new_generator_draws_next_is_told_from_its_state(seed):
    generator = random.Random(seed)
    words = generator.getstate()[1]
    assert seeding._next_64_bits(words) == generator.getrandbits(64)


@pytest.mark.parametrize("draws", [0, 1, 312, 624])
def test_a_generator_that_was_seeded_or_drawn_from_is_touched(draws):
    python = seeding._Python()
    python.seed(7)
    state = random.getstate()
    assert python.untouched(7)
    assert random.getstate() == state
    assert not python.untouched(8)
    for _ in range(draws):
        random.getrandbits(32)
    assert python.untouched(7) is (draws == 0)
