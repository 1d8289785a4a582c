"""What failed before, and what may have: how a loop takes it again."""

from __future__ import annotations

from math import gcd

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtype_sampler.sampling.again import beside
from dtype_sampler.sampling.candidates import Pool
from dtype_sampler.sampling.plan import RunPlan
from dtype_sampler.session.draw import draw

POOL = Pool.of([*"abcdef"])


def drawn(seed=1, *, k=2, always=(), full=False, left=None, only=(), **past):
    told = {name: {"cpu": {"t": list(labels)}} for name, labels in past.items()}
    plan = RunPlan(seed, "given", only=only, **told)
    return draw(
        plan, "t", POOL, k=k, always=always, full=full, device="cpu", left=left, probe=False
    )


def test_a_suspect_is_taken_alone():
    for seed in range(4):
        record = drawn(seed, suspects="be", recheck="c", always=("a",))
        assert record.chosen in (("b",), ("e",))
        # The seed alone would not give it again.
        assert record.by_name
    assert {drawn(seed, suspects="be").chosen for seed in range(2)} == {("b",), ("e",)}


def test_an_explicit_wish_and_items_take_them_all():
    assert drawn(full=True, suspects="be").chosen == (*"abcdef",)
    assert drawn(only=("a", "b"), suspects="be").chosen == ("a", "b")
    assert len(drawn(left=[*"abcdef"], suspects="be").chosen) == 2


def test_a_suspect_that_is_no_candidate_any_more():
    assert len(drawn(suspects="z").chosen) == 2


@pytest.mark.parametrize("loners", ["b", "be", "abcdef"])
@pytest.mark.parametrize("k", [1, 2, 4, 6])
def test_what_runs_alone_starves_nobody(loners, k):
    rounds = [drawn(seed, k=k, recheck=loners, alone=loners).chosen for seed in range(200)]
    for chosen in rounds:
        assert len(chosen) == 1 or not set(chosen) & set(loners)
    # The samples come again after so many seeds; of several in one sample each has its turn.
    period = 6 // gcd(6, k)
    patience = 4 * period * min(k, len(loners))
    for start in range(200 - patience):
        met = {label for chosen in rounds[start : start + patience] for label in chosen}
        assert met == {*"abcdef"}


@settings(deadline=None)
@given(st.sets(st.sampled_from("abcdef"), min_size=1), st.sets(st.sampled_from("abcdef")))
def test_beside(chosen, loners):
    chosen = tuple(sorted(chosen))
    for turn in range(4):
        taken = beside(chosen, sorted(loners), turn)
        assert taken
        assert set(taken) <= set(chosen)
        assert len(taken) == 1 or not set(taken) & set(loners)
