"""The sampling rule: golden values, and its laws as properties."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from fractions import Fraction
from itertools import pairwise, permutations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.sampling import rule
from dtype_sampler.sampling.candidates import family_of
from dtype_sampler.sampling.rule import (
    RULE_VERSION,
    STRATEGIES,
    choose,
    circular_order,
    keyed_hash,
    runs_to_cover,
    spread,
    turn_of,
)

SEVEN = (
    *("float16", "bfloat16", "float32", "auto"),
    *("torch.float16", "torch.bfloat16", "torch.float32"),
)

FAMILIES = ("reduced floats", "full floats", "float8", "other")

keys = st.text(max_size=30)
seeds = st.integers(0, 2**63 - 1)
strategies = st.sampled_from(STRATEGIES)


@st.composite
def pools(draw: st.DrawFn, min_size: int = 1) -> tuple[list[str], list[str]]:
    labels = draw(st.lists(st.text(max_size=8), min_size=min_size, max_size=12, unique=True))
    return labels, [draw(st.sampled_from(FAMILIES)) for _ in labels]


def sample(seed: int, k: int = 3, key: str = "tests/test_x.py::test_y", **kwargs: object) -> tuple:
    arguments = {
        "seed": seed,
        "strategy": "rotate",
        "key": key,
        "labels": SEVEN,
        "families": [family_of(label) for label in SEVEN],
        "k": k,
    }
    return choose(**{**arguments, **kwargs})


# What a seed means is a promise. If one of these fails, the rule has changed: raise RULE_VERSION,
# and release a breaking version.
GOLDEN_HASH = 6582797467042223567
GOLDEN_ORDER = (
    "torch.float32",
    "bfloat16",
    "float16",
    "float32",
    "torch.float16",
    "auto",
    "torch.bfloat16",
)
GOLDEN_ROTATE = {
    0: ("float16", "bfloat16", "torch.float32"),
    1: ("float32", "auto", "torch.float16"),
    2: ("bfloat16", "torch.bfloat16", "torch.float32"),
    1234: ("bfloat16", "torch.bfloat16", "torch.float32"),
    9223372036854775807: ("float16", "bfloat16", "torch.float32"),
}
GOLDEN_RANDOM = {
    0: ("bfloat16", "torch.float16", "torch.float32"),
    1: ("float16", "auto", "torch.bfloat16"),
    2: ("float16", "float32", "torch.float32"),
    1234: ("float16", "auto", "torch.float16"),
    9223372036854775807: ("bfloat16", "torch.float16", "torch.bfloat16"),
}


def test_golden_values_of_rule_1():
    # Version 2 has other samples for several arguments alone.
    assert RULE_VERSION == 2
    assert keyed_hash("member", "tests/test_x.py::test_y", "torch.bfloat16") == GOLDEN_HASH
    assert (
        circular_order("tests/test_x.py::test_y", SEVEN, [family_of(label) for label in SEVEN])
        == GOLDEN_ORDER
    )
    assert {seed: sample(seed) for seed in GOLDEN_ROTATE} == GOLDEN_ROTATE
    assert {seed: sample(seed, strategy="random") for seed in GOLDEN_RANDOM} == GOLDEN_RANDOM


def test_the_same_in_a_process_with_another_hash_seed():
    code = (
        "from dtype_sampler.sampling.rule import choose\n"
        f"print(choose(seed=1234, strategy='rotate', key='k', labels={list('abcdefg')},"
        " families=['x'] * 7, k=3))"
    )
    shown = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": hash_seed, "SYSTEMROOT": ""},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("0", "1", "77")
    }
    assert len(shown) == 1


@given(pools(), keys, seeds, st.integers(1, 14), st.data())
def test_consecutive_seeds_cover_everything_from_any_seed_on(pool, key, seed, k, data):
    labels, families = pool
    always = data.draw(st.sets(st.sampled_from(labels), max_size=min(k, len(labels)) - 1))
    runs = runs_to_cover(len(labels), k, len(always))
    covered = set()
    for following in range(seed, seed + runs):
        covered.update(
            choose(
                seed=following,
                strategy="rotate",
                key=key,
                labels=labels,
                families=families,
                k=k,
                always=tuple(always),
            )
        )
    assert covered == set(labels)


@given(pools(), keys, seeds, st.integers(1, 14), st.data())
def test_what_can_run_is_covered_though_others_cannot(pool, key, seed, k, data):
    labels, families = pool
    there = data.draw(st.sets(st.sampled_from(labels)))
    covered = set()
    for following in range(seed, seed + runs_to_cover(len(labels), k)):
        covered.update(
            choose(
                seed=following,
                strategy="rotate",
                key=key,
                labels=labels,
                families=families,
                k=k,
                available=there.__contains__,
            )
        )
    assert covered == there


@given(pools(), keys, seeds, st.integers(1, 14), strategies)
def test_a_sample_has_k_labels_in_declared_order(pool, key, seed, k, strategy):
    labels, families = pool
    chosen = choose(seed=seed, strategy=strategy, key=key, labels=labels, families=families, k=k)
    assert len(chosen) == min(k, len(labels))
    assert list(chosen) == [label for label in labels if label in chosen]


@given(pools(), keys, seeds, st.integers(1, 14), strategies, st.randoms())
def test_the_declared_order_does_not_matter(pool, key, seed, k, strategy, random):
    pairs = list(zip(*pool, strict=True))
    shuffled = random.sample(pairs, len(pairs))
    first, second = (
        choose(
            seed=seed,
            strategy=strategy,
            key=key,
            labels=[label for label, _ in order],
            families=[family for _, family in order],
            k=k,
        )
        for order in (pairs, shuffled)
    )
    assert set(first) == set(second)


@given(pools(min_size=2), keys, seeds, st.integers(1, 14), strategies, st.data())
def test_taking_one_away_leaves_the_rest_of_the_sample(pool, key, seed, k, strategy, data):
    labels, families = pool
    gone = data.draw(st.sampled_from(labels))

    def draw(available):
        return set(
            choose(
                seed=seed,
                strategy=strategy,
                key=key,
                labels=labels,
                families=families,
                k=k,
                available=available,
            )
        )

    whole = draw(None)
    rest = draw(lambda label: label != gone)
    assert whole - {gone} <= rest
    assert len(rest - whole) <= (gone in whole)


@given(pools(), keys, seeds, st.integers(1, 14), st.data())
def test_labels_that_are_always_in(pool, key, seed, k, data):
    labels, families = pool
    always = data.draw(st.sets(st.sampled_from(labels), max_size=k))
    assume(len(always) < k or len(always) == len(labels))
    chosen = choose(
        seed=seed,
        strategy="rotate",
        key=key,
        labels=labels,
        families=families,
        k=k,
        always=tuple(always),
    )
    assert always <= set(chosen)
    assert len(chosen) == max(len(always), min(k, len(labels)))


def test_always_may_name_the_whole_pool_whatever_k_is():
    assert sample(5, k=2, always=SEVEN) == SEVEN


def test_always_must_leave_a_place_for_the_others():
    with pytest.raises(DtypeSamplerError, match=r"3 of 7 .* k is 3.*at least 4"):
        sample(5, always=SEVEN[:3])


@given(pools(), keys, seeds, st.integers(1, 12), st.data())
def test_oldest_takes_those_without_a_verdict_first(pool, key, seed, k, data):
    labels, families = pool
    drawn = st.dictionaries(st.sampled_from(labels), st.integers(0, 5))
    verdicts = data.draw(drawn)

    def take(strategy, verdicts):
        arguments = {"seed": seed, "key": key, "labels": labels, "families": families, "k": k}
        return choose(**arguments, strategy=strategy, verdicts=verdicts)

    chosen = take("oldest", verdicts)
    left = set(labels) - set(chosen)
    assert len(chosen) == min(k, len(labels))
    assert all(verdicts.get(one, -1) <= verdicts.get(other, -1) for one in chosen for other in left)
    # Of equal ones, those that rotate would take.
    same = dict.fromkeys(labels, 7)
    assert take("oldest", {}) == take("oldest", same) == take("rotate", None)


@given(pools(), keys, seeds, st.integers(1, 12))
def test_oldest_covers_everything_in_as_few_runs(pool, key, seed, k):
    labels, families = pool
    verdicts: dict[str, float] = {}
    for run in range(runs_to_cover(len(labels), k)):
        arguments = {"seed": seed, "key": key, "labels": labels, "families": families, "k": k}
        chosen = choose(**arguments, strategy="oldest", verdicts=verdicts)
        verdicts |= dict.fromkeys(chosen, run)
    assert set(verdicts) == set(labels)


def test_a_strategy_that_does_not_exist():
    with pytest.raises(DtypeSamplerError, match="unknown strategy 'rotat': did you mean 'rotate'"):
        choose(seed=0, strategy="rotat", key="t", labels=["a"], families=["other"], k=1)


def test_availability_is_asked_for_only_where_the_walk_comes_by():
    asked = []
    sample(5, available=lambda label: asked.append(label) or True)
    assert len(asked) == 3


def test_nothing_available_gives_nothing():
    assert sample(5, available=lambda _: False) == ()


@given(st.lists(st.integers(1, 6), min_size=1, max_size=5), keys)
def test_every_window_mixes_families(counts, key):
    labels = [f"{family}-{i}" for family, m in enumerate(counts) for i in range(m)]
    families = [label.partition("-")[0] for label in labels]
    circle = circular_order(key, labels, families)
    n = len(circle)
    # Two families always get their fair share, rounded up or down; more can't always.
    bound = 1 if len(counts) <= 2 else 2
    for k in range(1, n):
        for start in range(n):
            window = Counter(circle[(start + i) % n].partition("-")[0] for i in range(k))
            for family, m in enumerate(counts):
                share = Fraction(m * k, n)
                assert abs(window[str(family)] - share) < bound


def worst_window(places: tuple[int, ...]) -> Fraction:
    n = len(places)
    counts = Counter(places)
    return max(
        abs(sum(places[(start + i) % n] == family for i in range(k)) - Fraction(m * k, n))
        for k in range(1, n)
        for start in range(n)
        for family, m in counts.items()
    )


# By brute force: the most even of all circles with these families.
@pytest.mark.parametrize(
    "counts", [(4, 2, 1), (2, 2, 3), (1, 1, 5), (3, 2, 2), (2, 2, 2, 1), (4, 3)]
)
def test_no_circle_is_more_even(counts):
    places = [family for family, m in enumerate(counts) for _ in range(m)]
    # A circle has no beginning, so one place can be held.
    best = min(worst_window((places[0], *rest)) for rest in set(permutations(places[1:])))
    assert worst_window(spread(counts)) == best


def test_tests_are_decorrelated():
    """A dtype is in a test's sample with probability k/n, whatever other tests take."""
    tests = [f"tests/test_{i}.py::test" for i in range(2000)]
    taken = Counter(label for key in tests for label in sample(7, key=key))
    for label in SEVEN:
        assert taken[label] / len(tests) == pytest.approx(3 / 7, abs=0.04)
    together = sum(
        "auto" in sample(7, key=a) and "auto" in sample(7, key=b) for a, b in pairwise(tests)
    )
    assert together / len(tests) == pytest.approx((3 / 7) ** 2, abs=0.04)


def test_random_draws_differ_from_seed_to_seed_and_cover_slower():
    draws = [sample(seed, strategy="random") for seed in range(300)]
    assert len(set(draws)) == 35  # every subset of 3 of 7
    share = Counter(label for draw in draws for label in draw)
    assert min(share.values()) > 100


@given(st.lists(st.text(), max_size=3), st.lists(st.text(), max_size=3))
def test_fields_do_not_run_together(some, others):
    assume(some != others)
    assert keyed_hash(*some) != keyed_hash(*others)


def test_names_of_files_that_are_not_utf8():
    assert keyed_hash("\udcff") != keyed_hash("\udcfe")


@pytest.mark.parametrize(
    ("n", "k", "always", "runs"),
    [(7, 3, 0, 3), (13, 3, 0, 5), (7, 3, 1, 3), (4, 9, 0, 1), (6, 3, 0, 2)],
)
def test_runs_to_cover(n, k, always, runs):
    assert runs_to_cover(n, k, always) == runs


@given(
    n=st.integers(1, 9),
    k=st.integers(1, 10),
    inner=st.integers(1, 9),
    seed=st.integers(0, 2**40),
    fixed=st.integers(0, 2),
)
def test_a_walk_comes_to_each_label_once_a_turn(n, k, inner, seed, fixed):
    labels = [f"l{i}" for i in range(n)]
    always = labels[: min(fixed, k - 1, n - 1)]
    families = ["other"] * n
    pool = {"key": "t", "labels": labels, "families": families, "k": k, "always": always}
    turns: dict[str, list[int]] = {label: [] for label in labels}
    for one in range(seed, seed + 3 * n):
        for label in choose(seed=one, strategy="rotate", **pool):
            turns[label].append(turn_of(label, seed=one, **pool))
    for visits in turns.values():
        assert visits == list(range(visits[0], visits[0] + len(visits)))


@pytest.mark.parametrize("labels", [SEVEN, [f"float{n}" for n in range(12)]])
def test_an_order_is_that_of_the_whole_number(labels):
    """As the rule says: drawn digit by digit from all of the hash, however few orders there are."""
    families = [family_of(label) for label in labels]
    cards = rule._cards(tuple(labels), tuple(families))
    for number in range(200):
        whole = rule._hash_for_orders(len(labels), "order", f"t{number}")
        expected = rule._circle(cards, whole)
        assert circular_order(f"t{number}", labels, families) == expected


@pytest.mark.parametrize("labels", [SEVEN, SEVEN[::-1], [f"float{n}" for n in range(12)]])
@pytest.mark.parametrize("k", [1, 3, 100])
def test_a_sample_is_the_same_whether_anybody_asks_what_is_available(labels, k):
    families = [family_of(label) for label in labels]
    for seed in range(50):
        given = {"seed": seed, "strategy": "rotate", "key": f"t{seed % 5}", "k": k}
        given |= {"labels": labels, "families": families}
        assert choose(**given) == choose(**given, available=lambda _: True)
