"""The same candidates for all tests: one order, whoever declares them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dtype_sampler.sampling.candidates import Pool
from dtype_sampler.sampling.plan import RunPlan
from dtype_sampler.sampling.rule import runs_to_cover
from dtype_sampler.sampling.together import circle_of
from dtype_sampler.session.draw import draw

labels_lists = st.lists(st.text(max_size=6), min_size=1, max_size=9, unique=True)
seeds = st.integers(0, 2**63 - 100)
keys = st.text(max_size=20)


def take(seed: int, key: str, labels: list[str], k: int, strategy: str = "rotate") -> set[str]:
    plan = RunPlan(seed, "", strategy=strategy, together=True)
    pool = Pool.of(labels)
    return {*draw(plan, key, pool, k=k, always=(), full=False, device="cpu", probe=False).chosen}


def test_golden_value():
    # What a seed means is a promise; see `test_sampling.py`.
    assert circle_of(("float16", "float32")) == "together:a395599bbc030d3a"


@given(labels_lists, st.integers(1, 10), seeds, keys, keys, st.sampled_from(["rotate", "random"]))
def test_tests_with_the_same_candidates_take_the_same(labels, k, seed, one, other, strategy):
    reverse = labels[::-1]
    assert take(seed, one, labels, k, strategy) == take(seed, other, reverse, k, strategy)


@given(labels_lists, st.integers(1, 10), seeds, keys)
def test_the_guarantee_is_unchanged(labels, k, seed, key):
    taken = [take(seed + run, key, labels, k) for run in range(runs_to_cover(len(labels), k))]
    assert set().union(*taken) == set(labels)
    assert all(len(one) == min(k, len(labels)) for one in taken)


@given(st.lists(labels_lists, min_size=2, max_size=2))
def test_other_candidates_have_an_order_of_their_own(pools):
    one, other = map(tuple, pools)
    assert (circle_of(one) == circle_of(other)) == (set(one) == set(other))
