"""Version 2 of the rule, for combinations of several arguments: golden values and laws."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from itertools import permutations, product
from math import gcd, prod

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtype_sampler.sampling.axes import (
    SPARSEST,
    axes_of,
    by_value,
    places,
    runs_for_values,
    windows,
)
from dtype_sampler.sampling.candidates import Pool, family_of
from dtype_sampler.sampling.rule import (
    RULE_VERSION,
    choose,
    circular_order,
    runs_to_cover,
    turn_of,
)

KEY = "tests/test_x.py::test_y"
PAIRS = [
    f"{a},{b}"
    for a in ("float16", "bfloat16", "float32", "float64")
    for b in ("float32", "int8", "bool")
]
# Sizes of two to four arguments, in any order; those with common factors are the hard ones.
SIZES = [
    *product(range(1, 13), repeat=2),
    *product(range(1, 7), repeat=3),
    *product(range(1, 5), repeat=4),
]

keys = st.text(max_size=30)
seeds = st.integers(0, 2**63 - 1 - 10_000)
sizes_of = st.lists(st.integers(1, 6), min_size=2, max_size=3).filter(lambda s: prod(s) <= 100)


def labels_of(sizes: Sequence[int]) -> list[str]:
    return [
        ",".join(f"{chr(97 + i)}{one}" for i, one in enumerate(place)) for place in all_of(sizes)
    ]


def all_of(sizes: Sequence[int]) -> list[tuple[int, ...]]:
    return list(product(*map(range, sizes)))


def sample(seed: int, labels: Sequence[str], k: int, key: str = KEY, **kwargs: object) -> set[str]:
    arguments = kwargs.pop("arguments", labels[0].count(",") + 1)
    given: dict = {"strategy": "rotate", "families": [family_of(label) for label in labels]}
    given |= {"seed": seed, "key": key, "labels": labels, "k": k, "arguments": arguments}
    return set(choose(**given | kwargs))


def in_runs(first: int, runs: int, labels: Sequence[str], k: int, **kwargs: object) -> set[str]:
    taken: set[str] = set()
    return taken.union(*(sample(seed, labels, k, **kwargs) for seed in range(first, first + runs)))


# What a seed means is a promise. If one of these fails, the rule has changed: raise RULE_VERSION,
# and release a breaking version.
GOLDEN_ORDER = (
    *("float32,float32", "bfloat16,bool", "float64,int8", "float16,float32"),
    *("float32,bool", "bfloat16,int8", "float64,float32", "float16,bool"),
    *("float32,int8", "bfloat16,float32", "float64,bool", "float16,int8"),
)
GOLDEN = {
    0: {"float32,float32", "bfloat16,bool", "float64,int8"},
    1: {"float16,float32", "float32,bool", "bfloat16,int8"},
    2: {"float64,float32", "float16,bool", "float32,int8"},
    1234: {"float64,float32", "float16,bool", "float32,int8"},
    9223372036854775807: {"bfloat16,float32", "float64,bool", "float16,int8"},
}


def test_golden_values_of_rule_2():
    assert RULE_VERSION == 2
    families = [family_of(label) for label in PAIRS]
    assert circular_order(KEY, PAIRS, families, 2) == GOLDEN_ORDER
    assert {seed: sample(seed, PAIRS, 3) for seed in GOLDEN} == GOLDEN


def window_needed(seen: Sequence[int]) -> int:
    """How many consecutive places of a circle hold all values, wherever they begin."""
    longest = 0
    for value in set(seen):
        at = [place for place, one in enumerate(seen) if one == value]
        after = [*at[1:], at[0] + len(seen)]
        longest = max(longest, *(b - a for a, b in zip(at, after, strict=True)))
    return longest


def test_every_combination_lies_on_the_circle_once():
    for sizes in SIZES:
        assert sorted(places(sizes)) == all_of(sizes)


def test_every_value_lies_within_its_window():
    for sizes in SIZES:
        before = 1
        for argument, (size, window) in enumerate(zip(sizes, windows(sizes), strict=True)):
            exact = argument == 0 or gcd(before, size) == 1
            assert window == size + (not exact)
            assert window_needed([place[argument] for place in places(sizes)]) <= window
            before *= size


@pytest.mark.parametrize("sizes", [(2, 2), (2, 4), (4, 2), (3, 3)])
def test_no_circle_does_better_for_both_arguments(sizes):
    # A circle has no beginning, so one place can be held; and values have no names.
    first, *rest = all_of(sizes)
    orders = permutations(rest) if len(rest) < 8 else ()
    for order in orders:
        circle = (first, *order)
        needed = [window_needed([place[i] for place in circle]) for i in (0, 1)]
        assert needed != list(sizes)
    # As is told in the docstring: both exact means that it repeats too soon.
    assert prod(sizes) > prod(sizes) // gcd(*sizes)


@given(sizes_of, keys, seeds, st.integers(1, 12))
def test_values_and_combinations_come_from_any_seed_on(sizes, key, seed, k):
    labels = labels_of(sizes)
    assert in_runs(seed, runs_to_cover(len(labels), k), labels, k, key=key) == set(labels)
    for argument, runs in enumerate(runs_for_values(labels, len(sizes), k)):
        met = {label.split(",")[argument] for label in in_runs(seed, runs, labels, k, key=key)}
        assert len(met) == sizes[argument]
        # As it is promised.
        assert runs == -(-min(windows(sizes)[argument], len(labels)) // k)


def runs_within(
    label_parts: str, argument: int, sizes: Sequence[int], gone: set[str], k: int
) -> int:
    """The bound for one value of which some combinations are left out, or can't run."""
    lacking = sum(one.split(",")[argument] == label_parts for one in gone)
    return -(-(lacking + 1) * windows(sizes)[argument] // k)


@given(sizes_of, keys, seeds, st.integers(1, 12), st.data())
def test_what_is_not_declared_takes_no_place(sizes, key, seed, k, data):
    whole = labels_of(sizes)
    most = len(whole) - -(-len(whole) // SPARSEST)
    gone = data.draw(st.sets(st.sampled_from(whole), max_size=min(most, len(whole) - 1)))
    labels = [label for label in whole if label not in gone]
    arguments = len(sizes)
    # All combinations within as many runs as they are many, however many a product has.
    runs = runs_to_cover(len(labels), k)
    assert in_runs(seed, runs, labels, k, key=key, arguments=arguments) == set(labels)
    for argument, limit in enumerate(runs_for_values(labels, arguments, k)):
        values = {label.split(",")[argument] for label in labels}
        met = in_runs(seed, limit, labels, k, key=key, arguments=arguments)
        assert {label.split(",")[argument] for label in met} == values
        assert limit <= runs


@given(sizes_of, keys, seeds, st.integers(1, 12), st.data())
def test_what_can_not_run_is_passed_over(sizes, key, seed, k, data):
    labels = labels_of(sizes)
    gone = data.draw(st.sets(st.sampled_from(labels)))
    there = set(labels) - gone
    runs = runs_to_cover(len(labels), k)
    available = there.__contains__
    assert in_runs(seed, runs, labels, k, key=key, available=available) == there
    for argument in range(len(sizes)):
        for value in {label.split(",")[argument] for label in there}:
            limit = runs_within(value, argument, sizes, gone, k)
            met = in_runs(seed, limit, labels, k, key=key, available=available)
            assert value in {label.split(",")[argument] for label in met}


@given(sizes_of, keys, seeds, st.integers(2, 12), st.data())
def test_some_may_be_in_every_sample(sizes, key, seed, k, data):
    labels = labels_of(sizes)
    always = data.draw(st.sets(st.sampled_from(labels), max_size=min(k, len(labels)) - 1))
    runs = runs_to_cover(len(labels), k, len(always))
    taken = [sample(seed + run, labels, k, key=key, always=tuple(always)) for run in range(runs)]
    assert set().union(*taken) == set(labels)
    assert all(always <= one and len(one) == min(k, len(labels)) for one in taken)


@given(sizes_of, keys, seeds, st.integers(1, 12), st.randoms())
def test_the_declared_order_does_not_matter(sizes, key, seed, k, random):
    labels = labels_of(sizes)
    shuffled = random.sample(labels, len(labels))
    assert sample(seed, labels, k, key=key) == sample(seed, shuffled, k, key=key)


def test_tests_have_orders_of_their_own():
    labels = labels_of((4, 4))
    families = ["other"] * 16
    circles = {circular_order(f"t{number}", labels, families, 2) for number in range(50)}
    # There are 576 of them.
    assert len(circles) > 40
    # Each combination is as likely as any other to be in a sample.
    taken = Counter(one for i in range(2000) for one in sample(7, labels, 3, key=f"t{i}"))
    assert all(taken[one] / 2000 == pytest.approx(3 / 16, abs=0.05) for one in labels)


@settings(max_examples=40)
@given(
    st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=3), min_size=2, max_size=2),
    keys,
)
def test_every_window_mixes_the_families_of_each_argument(counts, key):
    names = (
        *(("float16", "bfloat16", "half"), ("float32", "float64", "double")),
        ("int8", "int16", "int32"),
    )
    values = [
        [name for few, some in zip(each, names, strict=False) for name in some[:few]]
        for each in counts
    ]
    labels = [",".join(pair) for pair in product(*values)]
    circle = circular_order(key, labels, [family_of(label) for label in labels], 2)
    for argument, own in enumerate(values):
        seen = [family_of(label.split(",")[argument]) for label in circle]
        # As with one argument; where the values of another one begin anew, by one more.
        bound = (1 if len(counts[argument]) <= 2 else 2) + (argument > 0)
        for k in range(1, len(own)):
            for start in range(len(seen)):
                window = Counter(seen[(start + i) % len(seen)] for i in range(k))
                for family, number in Counter(map(family_of, own)).items():
                    assert abs(window[family] - Fraction(number * k, len(own))) < bound


@given(sizes_of, keys, seeds, st.integers(1, 12))
def test_one_argument_is_sampled_as_ever(sizes, key, seed, k):
    # Labels with commas may be of one argument, whose values are texts: its samples stay.
    labels = labels_of(sizes)
    first = sample(seed, labels, k, key=key, arguments=1)
    circle = circular_order(key, labels, [family_of(label) for label in labels])
    start = seed * k % len(circle)
    assert first == {circle[(start + place) % len(circle)] for place in range(min(k, len(circle)))}


@pytest.mark.parametrize(
    "labels",
    [
        # The diagonal; a product of which less than half is there; parts that are too many.
        ["a,a", "b,b", "c,c"],
        ["a,x", "b,y", "c,z", "a,y"],
        ["a,b", "a,b,c"],
        ["(1, 2)", "('1', 2)", "(1,2)"],
    ],
)
def test_what_is_no_product_is_sampled_as_one_argument(labels):
    assert axes_of(tuple(labels), 2) is None
    families = ["other"] * len(labels)
    assert circular_order(KEY, labels, families, 2) == circular_order(KEY, labels, families)


def test_single_candidates_have_no_axes():
    assert axes_of(("a,b", "c,d"), 1) is None
    assert by_value(["a,b", "c,d"], 1) == ()
    assert by_value(["a,b", "c"], 2) == ()
    first, second = by_value(["a,b", "c,b"], 2)
    assert first == {"a": ["a,b"], "c": ["c,b"]}
    assert second == {"b": ["a,b", "c,b"]}
    # Then each value is as far away as the last combination may be.
    assert runs_for_values(["a,a", "b,b", "c,c"], 2, 2) == (2, 2)


@pytest.mark.parametrize("size", range(2, 9))
def test_a_triangle_is_enough(size):
    names = [f"d{number}" for number in range(size)]
    triangle = tuple(f"{a},{b}" for a in names for b in names if a <= b)
    off_diagonal = tuple(f"{a},{b}" for a in names for b in names if a != b)
    assert axes_of(triangle, 2) is not None
    assert axes_of(off_diagonal, 2) is not None


def test_a_walk_comes_to_each_combination_once_a_turn():
    labels = labels_of((3, 4))
    pool: dict = {"key": "t", "labels": labels, "families": ["other"] * 12, "k": 5, "arguments": 2}
    turns: dict[str, list[int]] = {label: [] for label in labels}
    for seed in range(3, 27):
        for label in choose(seed=seed, strategy="rotate", **pool):
            turns[label].append(turn_of(label, seed=seed, **pool))
    for visits in turns.values():
        assert visits == list(range(visits[0], visits[0] + len(visits)))


def test_oldest_takes_combinations_in_the_same_order():
    labels = labels_of((4, 3))
    verdicts: dict[str, float] = {}
    for run in range(runs_to_cover(12, 3)):
        chosen = sample(5 + run, labels, 3, strategy="oldest", verdicts=dict(verdicts))
        assert chosen == sample(5 + run, labels, 3)
        verdicts |= dict.fromkeys(chosen, run)


@pytest.mark.parametrize(
    ("candidates", "arguments"),
    [
        ([("a", 1), ("b", 2)], 2),
        ([("a", 1, "x"), ("b", 2, "y")], 3),
        ([("a", 1), "b"], 1),
        ([("a", 1), ("b", 2, 3)], 1),
        ([("a",), ("b",)], 1),
        ([(), "x"], 1),
        ([["a", 1], ["b", 2]], 1),
        (["a,b", "c,d"], 1),
        ([("a", "b,c"), ("(", ")")], 2),
        (["a"], 1),
    ],
)
def test_tuples_of_one_length_are_combinations(candidates, arguments):
    assert Pool.of(candidates).arguments == arguments


def test_named_pools_have_one_argument():
    assert Pool.named(("floating",)).arguments == 1
