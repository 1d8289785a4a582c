"""A budget of time: how it is written, what a run takes, and that it keeps its promise."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.sampling.budget import (
    Waiting,
    enough_within,
    fill,
    parse_span,
    spell,
    spell_up,
    within,
)


class TestSpans:
    @pytest.mark.parametrize(
        ("text", "seconds"),
        [("90s", 90), ("10m", 600), ("1h30m", 5400), ("2h", 7200), ("1h1m1s", 3661), ("007s", 7)],
    )
    def test_of_a_budget(self, text, seconds):
        assert parse_span(text, "hms") == (text, seconds)

    @pytest.mark.parametrize(("text", "days"), [("7d", 7), ("1w", 7), ("1w3d", 10), ("12h", 0.5)])
    def test_of_an_age(self, text, days):
        assert parse_span(text, "wdhms").seconds == days * 86400

    @pytest.mark.parametrize("text", ["10", "0", "600"])
    def test_a_number_alone_is_asked_for_its_unit(self, text):
        with pytest.raises(DtypeSamplerError, match=f"has a unit: {text}h, {text}m or {text}s"):
            parse_span(text, "hms")

    @pytest.mark.parametrize(
        "text",
        [
            *("", " ", "m", "10 m", "10M", "10min", "-5m", "1.5h", "30m1h", "1h1h", "7d", "1e3s"),
            *("1\u0663s", "10m ", "1234567s", "ten", "10ms"),
        ],
    )
    def test_anything_else_is_told_how_it_is_written(self, text):
        with pytest.raises(DtypeSamplerError, match="no span of time: write, say, 90s, 10m or 1h3"):
            parse_span(text, "hms")

    @pytest.mark.parametrize("text", ["0s", "0m", "0h0m0s"])
    def test_no_time_at_all(self, text):
        with pytest.raises(DtypeSamplerError, match="longer than 0"):
            parse_span(text, "hms")

    @pytest.mark.parametrize(
        ("seconds", "text"),
        [
            (0, "0ms"),
            (0.0124, "12ms"),
            (0.9996, "1s"),
            (2.44, "2.4s"),
            (9.96, "10s"),
            (59.6, "1m"),
            (580, "9m40s"),
            (3599.7, "1h"),
            (5400, "1h30m"),
            (86399, "1d"),
            (86400 - 1900, "23h28m"),
            (90000, "1d1h"),
        ],
    )
    def test_are_spelled_for_people(self, seconds, text):
        assert spell(seconds) == text

    @pytest.mark.parametrize(
        ("seconds", "text"), [(0, "1s"), (0.2, "1s"), (60.1, "1m1s"), (3601, "1h1m"), (7200, "2h")]
    )
    def test_what_somebody_is_to_write_is_never_less(self, seconds, text):
        assert spell_up(seconds) == text

    @given(st.floats(0, 1e6))
    def test_what_somebody_is_to_write_can_be_read(self, seconds):
        assert parse_span(spell_up(seconds), "hms").seconds >= seconds


def items(key="items", n=4, cost=1, **changes):
    """A test with an item per dtype."""
    labels = tuple("abcdefgh"[:n])
    return replace(Waiting(key, labels, {}, dict.fromkeys(labels, cost)), **changes)


def loop(key="loop", n=4, cost=1, **changes):
    return items(key, n, cost, loop=True, **changes)


class TestFill:
    def test_nothing(self):
        assert fill([], 10).labels == {}
        assert within([], 0) == 1

    def test_takes_until_the_next_one_does_not_fit(self):
        taken = fill([items()], 2.5)
        assert taken.labels == {"items": ("a", "b")}
        assert (taken.cells, taken.of, taken.cost) == (2, 4, 2)

    def test_what_has_not_fitted_stops_the_run_though_a_cheaper_one_would_fit(self):
        test = items(costs={"a": 1, "b": 9, "c": 1, "d": 1})
        assert fill([test], 5).labels == {"items": ("a",)}

    def test_the_longest_unrun_comes_first_and_what_never_ran_before_all(self):
        test = items(since={"a": 3, "b": 1, "d": 2})
        assert fill([test], 3).labels == {"items": ("c", "b", "d")}

    def test_of_equal_ones_each_test_has_one_before_any_has_two(self):
        taken = fill([items("one"), items("two"), items("three")], 3)
        assert taken.labels == {"one": ("a",), "two": ("a",), "three": ("a",)}

    def test_the_seed_draws_among_equal_ones(self):
        firsts = {
            next(
                key
                for key, labels in fill([items("x"), items("y")], 1, seed=seed).labels.items()
                if labels
            )
            for seed in range(20)
        }
        assert firsts == {"x", "y"}

    def test_what_is_due_goes_before_what_never_ran(self):
        test = items(since={"a": 3, "b": 1, "d": 2})
        assert fill([test], 3, due_before=2.5).labels == {"items": ("b", "d", "c")}

    def test_items_may_all_be_left_out_and_a_loop_keeps_one(self):
        tests = [items(since=dict.fromkeys("abcd", 9)), loop(since={"a": 5, "b": 4})]
        taken = fill([*tests, items("old")], 3)
        assert taken.labels == {"items": (), "loop": ("c",), "old": ("a", "b")}
        assert taken.loops == 1

    def test_what_a_loop_needs_besides_is_paid_once(self):
        taken = fill([loop(rest=5)], 7)
        assert taken.labels == {"loop": ("a", "b")}
        assert taken.cost == 7

    def test_what_must_run_runs_on_top(self):
        taken = fill([items(must=("d",)), items("more")], 3)
        assert taken.labels["items"][-1] == "d"
        assert (taken.cells, taken.must_cells, taken.must) == (3, 1, 1)

    def test_a_loop_that_has_something_that_must_run_needs_nothing_else(self):
        taken = fill([loop(must=("d",), since=dict.fromkeys("abc", 2)), items(n=1)], 2)
        assert taken.labels == {"loop": ("d",), "items": ("a",)}

    def test_what_must_run_and_does_not_fit_runs(self):
        taken = fill([items(must=tuple("abc")), loop()], 2)
        # Three, and one of the loop; and the one at the front, which is the loop's too.
        assert taken.cells == 4 or taken.cells == 5
        assert taken.must == 4
        assert taken.enough == 5

    def test_the_cell_at_the_front_has_its_turn_even_if_it_does_not_fit(self):
        test = items(costs={"a": 9, "b": 1, "c": 1, "d": 1})
        taken = fill([test], 2)
        assert taken.labels == {"items": ("a",)}
        assert taken.cost == taken.enough == 9
        assert taken.runs == 4

    def test_less_than_nothing(self):
        assert fill([items(), loop()], -5).cells >= 1

    def test_of_suspects_one_runs_and_nothing_else_of_its_test(self):
        taken = fill([loop(suspects=("c", "d")), items()], 100)
        assert taken.labels["loop"] == ("c",)
        assert taken.runs == 1 + 2

    def test_what_failed_alone_runs_alone_when_its_turn_comes(self):
        test = loop(lone=("a",))
        assert fill([test], 100).labels == {"loop": ("a",)}
        later = replace(test, since={"a": 1})
        assert fill([later], 100).labels == {"loop": ("b", "c", "d")}
        assert fill([test], 100).runs == 4


class TestWithin:
    """The number of runs that is promised."""

    @pytest.mark.parametrize(("room", "runs"), [(12, 1), (6, 3), (4, 4), (2, 12), (1, 12), (0, 12)])
    def test_of_items_it_is_what_is_written(self, room, runs):
        # 12 of 1 s: T / (B - c), but once round where all fit, and no more than there are cells.
        assert within([items("x", 6), items("y", 6)], float(room)) == runs

    def test_loops_come_round_by_themselves(self):
        assert within([loop(n=4), loop("more", n=3)], 0) == 4

    def test_loops_leave_less_for_the_others(self):
        alone = within([items(n=8)], 5)
        assert (alone, within([items(n=8), loop(n=1, cost=3)], 5)) == (2, 8)

    def test_what_must_run_leaves_less(self):
        assert within([items(n=8), items("red", must=tuple("abcd"))], 9) == 2
        assert within([items(n=8), items("red")], 9) == 2
        assert within([items(n=8), items("red", must=tuple("abcd"))], 8) == 3

    def test_what_all_of_it_needs_promises_one_run(self):
        assert within([items(), loop(rest=2)], 10) == 1


COSTS = st.one_of(
    st.floats(-3, 3).map(lambda x: round(1000 * math.exp(x))),
    st.sampled_from([0, 1, 1000, 10_000, 50_000]),
)


@st.composite
def suites(draw):
    tests = []
    for number in range(draw(st.integers(1, 8))):
        labels = tuple("abcdefgh"[: draw(st.integers(1, 8))])
        is_loop = draw(st.booleans())
        few = st.lists(st.sampled_from(labels), max_size=2, unique=True).map(tuple)
        tests.append(
            Waiting(
                f"t{number}",
                labels,
                draw(st.dictionaries(st.sampled_from(labels), st.sampled_from([1, 2, 3]))),
                {label: draw(COSTS) for label in labels},
                loop=is_loop,
                rest=draw(COSTS) if is_loop else 0,
                must=draw(st.one_of(st.just(()), few)),
                lone=draw(st.one_of(st.just(()), few)) if is_loop else (),
            )
        )
    total = sum(sum(test.costs.values()) + test.rest for test in tests)
    share = draw(st.sampled_from([0, 0.05, 0.1, 0.3, 0.5, 0.8, 1, 1.2]))
    return tests, round(share * total)


def turned(test, seed):
    """As rotate has it from this seed on."""
    start = seed % len(test.labels)
    return replace(test, labels=test.labels[start:] + test.labels[:start])


def simulate(tests, room, runs, seed=0):
    """The taken cells of each run in a row."""
    for run in range(runs):
        taken = fill([turned(test, seed + run) for test in tests], room, seed=seed + run)
        yield taken
        tests = [
            replace(test, since={**test.since, **dict.fromkeys(taken.labels[test.key], 10 + run)})
            for test in tests
        ]


class TestThePromise:
    @settings(max_examples=60)
    @given(suites(), st.integers(0, 1000))
    def test_each_cell_has_its_turn_within_so_many_runs(self, suite, seed):
        tests, room = suite
        promised = within(tests, room)
        last = {(test.key, label): 0 for test in tests for label in test.labels}
        for run, taken in enumerate(simulate(tests, room, 3 * promised, seed), start=1):
            assert taken.runs == promised
            for key, labels in taken.labels.items():
                last.update(dict.fromkeys(((key, label) for label in labels), run))
            # What waits longest has waited less than that.
            assert min(last.values()) > run - promised

    @given(suites(), st.integers(0, 1000))
    def test_no_run_takes_more_than_it_has_but_what_must_run_and_the_first(self, suite, seed):
        tests, room = suite
        for taken in simulate(tests, room, 5, seed):
            assert taken.cost <= max(room, taken.enough)
            paid = sum(test.rest for test in tests) + sum(
                test.costs[label] for test in tests for label in taken.labels[test.key]
            )
            assert paid == taken.cost
            for test in tests:
                labels = taken.labels[test.key]
                assert len(set(labels)) == len(labels)
                assert labels or not test.loop
                assert set(labels) >= set(test.must)

    @given(suites(), st.integers(1, 12))
    def test_what_is_said_to_be_enough_is(self, suite, runs):
        tests, _ = suite
        enough = enough_within(tests, runs)
        if enough is not None:
            assert within(tests, enough) <= runs

    def test_no_budget_has_more_turns_than_runs(self):
        assert enough_within([loop(lone=("a",))], 3) is None
        assert enough_within([loop(suspects=("a", "b"))], 2) is None
        assert enough_within([items()], 0) is None
        assert enough_within([items()], 1) == 4
        assert enough_within([], 1) == 0
        assert enough_within([loop(n=3, cost=2)], 3) == 2
