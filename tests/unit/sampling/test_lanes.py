"""Lanes: their names, and that they cover everything however they take turns."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtype_sampler.sampling.lanes import Lane, next_seed, of_the_same_tests, selection_of
from dtype_sampler.sampling.rule import MAX_SEED, choose, runs_to_cover


class TestSelection:
    @pytest.mark.parametrize(
        ("paths", "text"),
        [
            (["."], "."),
            (["tests"], "tests"),
            (["tests/", "./tests", "tests"], "tests"),
            (["b", "a"], "a b"),
            (["a/../b"], "b"),
            # What another one holds already.
            (["a", "a/b", "a/test_c.py::test"], "a"),
            (["a", "ab"], "a ab"),
            ([".", "a", "a/test.py::t[x]"], "."),
            ([".", "../elsewhere", "/abs"], ". ../elsewhere /abs"),
            (["/", "/abs"], "/"),
            (["t.py", "t.py::A", "t.py::A::test"], "t.py"),
            (["t.py::test", "t.py::test[x]", "t.py::test_2"], "t.py::test t.py::test_2"),
            (["t.py::test[./x]"], "'t.py::test[./x]'"),
            (["with blank"], "'with blank'"),
            (["no\udcfftext"], "'no\\udcfftext'"),
        ],
    )
    def test_of_paths(self, paths, text):
        assert selection_of(paths, []) == text
        assert selection_of(reversed(paths), []) == text

    def test_of_options(self):
        options = [("-k", " a  or b "), ("--lf", ""), ("-m", "slow"), ("--lf", "")]
        assert selection_of(["t"], options) == "t --lf '-k=a or b' -m=slow"
        assert selection_of(["t"], reversed(options)) == "t --lf '-k=a or b' -m=slow"

    def test_a_path_and_an_option_are_two_things(self):
        assert selection_of(["a b"], []) != selection_of(["a", "b"], [])
        assert selection_of(["-k"], []) != selection_of(["."], [("-k", "x")])

    @given(st.lists(st.text("ab/.:[]", min_size=1, max_size=8), max_size=5), st.randoms())
    def test_neither_order_nor_repeats_matter(self, paths, random):
        shuffled = [*paths, *paths[:2]]
        random.shuffle(shuffled)
        assert selection_of(shuffled, []) == selection_of(paths, [])

    @given(st.sets(st.text("ab/.:[]", min_size=1, max_size=8), max_size=5))
    def test_what_another_one_holds_is_left_out(self, paths):
        def within(path, other):
            if other == "." != path:
                return not path.startswith(("/", ".."))
            starts = (f"{other.rstrip('/')}/", f"{other}::", f"{other}[")
            return path != other and path.startswith(starts)

        # As a path is said where it is the only one.
        alone = {shlex.split(selection_of([path], []))[0] for path in paths}
        kept = {path for path in alone if not any(within(path, other) for other in alone)}
        assert set(shlex.split(selection_of(paths, []))) == kept

    def test_thousands_of_node_ids_are_told_apart_in_few_words(self):
        many = [f"t.py::test_{number}" for number in range(2000)]
        text = selection_of(many, [("-k", "a"), ("--deselect", "x" * 20_000)])
        assert len(text) < 200
        assert text == selection_of(many[::-1], [("--deselect", "x" * 20_000), ("-k", "a")])
        assert text != selection_of(many[1:], [("-k", "a"), ("--deselect", "x" * 20_000)])
        assert text != selection_of(many, [("-k", "b"), ("--deselect", "x" * 20_000)])
        # By which options it was made, is asked of it.
        assert "--deselect" in text


class TestOfTheSameTests:
    PATHS = ("tests/it's a", "b.py::test_é\udce9[x y]")

    @pytest.mark.parametrize(
        "samples",
        [[], [("--all-dtypes", "")], [("--dtype-budget", ""), ("--dtype-only", "int8 x")]],
    )
    def test_whatever_their_samples_are(self, samples):
        tests = [("-k", "a or --dtype-x"), ("--runslow", "")]
        one = Lane(selection_of(self.PATHS, tests), "1/2")
        other = Lane(selection_of(self.PATHS, [*samples, *tests]), "1/2")
        assert of_the_same_tests(one, other)
        assert not of_the_same_tests(one, other._replace(part="2/2"))

    @pytest.mark.parametrize("other", ["a", ". -k=x", ". '-k=--dtype-x'", ". --runslow", ""])
    def test_not_of_others(self, other):
        assert not of_the_same_tests(Lane(". --dtype-budget"), Lane(other))

    def test_what_nobody_wrote_like_that(self):
        assert of_the_same_tests(Lane("it's"), Lane("it's"))
        assert not of_the_same_tests(Lane("it's"), Lane("it's --all-dtypes"))


class TestNextSeed:
    def test_of_nothing_known(self):
        assert next_seed(Lane("a"), {}, None) is None

    def test_a_new_lane_goes_on_from_the_newest(self):
        assert next_seed(Lane("a"), {Lane("b"): 3}, 7) == 8

    def test_a_lane_goes_on_from_its_own(self):
        assert next_seed(Lane("a"), {Lane("b"): 3, Lane("a"): 5}, 3) == 6
        assert next_seed(Lane("a"), {Lane("a"): MAX_SEED}, 3) == 0

    def test_a_new_part_goes_along_with_the_others(self):
        last = {Lane("b", "1/2"): 9, Lane("a", "1/4"): 8, Lane("a"): 7, Lane("a", "1/2"): 5}
        assert next_seed(Lane("a", "2/2"), last, 9) == 5
        assert next_seed(Lane("a", "2/4"), last, 9) == 8
        assert next_seed(Lane("c", "2/2"), last, 9) == 10
        # And by itself from then on: it must not miss a seed.
        assert next_seed(Lane("a", "2/2"), {**last, Lane("a", "2/2"): 3}, 9) == 4


LABELS = "abcdefgh"


@st.composite
def interleavings(draw: st.DrawFn) -> tuple[int, int, int, list[Lane]]:
    n = draw(st.integers(1, 8))
    k = draw(st.integers(1, n))
    lanes = draw(
        st.lists(
            st.builds(Lane, st.sampled_from("abc"), st.sampled_from(["", "1/2", "2/2"])),
            min_size=1,
            max_size=40,
        )
    )
    return n, k, draw(st.integers(0, MAX_SEED - 100)), lanes


@given(interleavings(), st.text(max_size=5))
def test_however_lanes_take_turns_each_covers_all_in_as_few_runs_as_the_rule_says(case, key):
    n, k, first, lanes = case
    last: dict[Lane, int] = {}
    newest = None
    samples: dict[Lane, list[set[str]]] = {}
    for lane in lanes:
        seed = next_seed(lane, last, newest)
        newest = first if seed is None else seed
        # The newest lane first, as the ledger tells them.
        last = {lane: newest, **{other: one for other, one in last.items() if other != lane}}
        taken = choose(
            seed=newest,
            strategy="rotate",
            key=key,
            labels=LABELS[:n],
            families=["other"] * n,
            k=k,
        )
        samples.setdefault(lane, []).append(set(taken))
    needed = runs_to_cover(n, k)
    for taken_by in samples.values():
        for start in range(len(taken_by) - needed + 1):
            assert set().union(*taken_by[start : start + needed]) == set(LABELS[:n])
