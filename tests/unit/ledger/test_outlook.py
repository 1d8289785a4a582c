"""What is promised of the next runs, and that it comes true."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtype_sampler.ledger.coverage import assess
from dtype_sampler.ledger.outcomes import Cell
from dtype_sampler.ledger.outlook import (
    Outlook,
    foresee,
    foresee_all,
    lanes_of,
    last_runs,
    newest_in_series,
    out_of_step,
    runs_until,
    seed_following,
    values_never_ran,
)
from dtype_sampler.ledger.records import CellRecord, Mark, RunRecord, TestRecord
from dtype_sampler.ledger.samples import sample_of
from dtype_sampler.sampling.candidates import family_of
from dtype_sampler.sampling.lanes import Lane
from dtype_sampler.sampling.rule import MAX_SEED, choose, seed_after

KEY = ("t", "cpu")


def state_of(declared="abcd", ran=(), k=2, always=(), outcome="passed", key="t", run="u"):
    test = TestRecord(key, "cpu", tuple(declared), 100.0, k, tuple(always))
    cells = [CellRecord.of(Cell(key, label, "cpu"), key, Mark(90.0, run, outcome)) for label in ran]
    (state,) = assess([test], cells).tests
    return state


def pairs_of(ran=(), k=3, outcome="passed", circle="", key="t"):
    """A test with two arguments, of six and of four values."""
    labels = tuple(f"{a},{b}" for a in "abcdef" for b in "wxyz")
    test = TestRecord(key, "cpu", labels, 100.0, k, arguments=2, circle=circle)
    cells = [CellRecord.of(Cell(key, label, "cpu"), key, Mark(90.0, "u", outcome)) for label in ran]
    (state,) = assess([test], cells).tests
    return state


def coverage_of(*states):
    return replace(assess([], []), tests=states)


def a_run(uid, at, seed, lane="a", **kwargs):
    return RunRecord(uid, at, seed, "given", **{"strategy": "rotate", "lane": lane} | kwargs)


def sample(state, seed, strategy="rotate", verdicts=None, k=2):
    return choose(
        seed=seed,
        strategy=strategy,
        key=state.test.key,
        labels=state.test.declared,
        families=[family_of(label) for label in state.test.declared],
        k=k,
        verdicts=verdicts,
    )


class TestRunsUntil:
    @pytest.mark.parametrize("seed", [0, 5, MAX_SEED])
    def test_no_more_than_the_rule_says(self, seed):
        seven = state_of("abcdefg", k=3)
        # The largest seed is the last one of its row.
        more = int(seed == MAX_SEED)
        assert 3 <= runs_until(seven, "abcdefg", seed) <= 3 + more
        assert runs_until(seven, "", seed) == 0
        assert runs_until(seven, "a", seed) <= 3 + more
        assert 3 <= runs_until(state_of("abcd", k=2, always="a"), "abcd", seed) <= 3 + more
        assert runs_until(state_of("abcd", k=9), "abcd", seed) == 1

    def test_what_the_device_refuses_is_passed_over(self):
        state = state_of("abcdefg", "aceg", k=3, outcome="unsupported")
        assert runs_until(state, "bdf", 0) == 1

    def test_what_the_selection_leaves_out_is_passed_over(self):
        assert runs_until(state_of("abcd", k=1), "cd", 0, reach="cd") == 2
        assert runs_until(state_of("abcd", k=1), "a", 0, reach="cd") is None

    def test_of_all(self):
        assert runs_until(state_of(k=1), "abcd", 0, "all") == 1

    def test_the_oldest_come_first(self):
        assert runs_until(state_of("abcdefg", "abcd", k=2), "efg", 0, "oldest") == 2

    def test_independent_draws_are_tried_out(self):
        state = state_of(k=1)
        runs = runs_until(state, "abcd", 3, "random")
        seen = [set(sample(state, 3 + i, "random", k=1)) for i in range(runs)]
        assert set().union(*seen) == set("abcd")
        assert set().union(*seen[:-1]) != set("abcd")
        assert runs_until(state, ["no such"], 3, "random") is None

    @given(
        st.integers(1, 8),
        st.integers(1, 8),
        st.sets(st.sampled_from("abcdefgh")),
        st.integers(0, MAX_SEED - 100),
        st.sampled_from(["rotate", "random", "oldest"]),
    )
    def test_it_comes_true_and_not_a_run_earlier(self, n, k, wanted, seed, strategy):
        pool = "abcdefgh"[:n]
        state = state_of(pool, k=k)
        missing = set(pool) & wanted
        verdicts: dict[str, float] = {}
        runs = runs_until(state, missing, seed, strategy)
        assert runs is not None
        for number in range(runs):
            assert missing
            taken = sample(state, seed + number, strategy, verdicts, k)
            verdicts |= dict.fromkeys(taken, float(number))
            missing -= set(taken)
        assert not missing


class TestForesee:
    def test_only_what_this_selection_takes_is_promised(self):
        here, there = state_of(ran="ab"), state_of(ran="a", key="other")
        coverage = coverage_of(here, there, state_of(ran="abcd", key="done"))
        ahead = foresee(coverage, {KEY: "abcd"}, 0, "rotate")
        assert ahead == Outlook(1, runs_until(here, "cd", 0), hidden=False, outside=1)
        # Some of a test's cells, as by -k.
        ahead = foresee(coverage_of(here), {KEY: "abc"}, 0, "rotate")
        assert (ahead.tests, ahead.outside) == (1, 1)
        assert foresee(coverage, {KEY: "ab"}, 0, "rotate") == Outlook(outside=2)
        assert foresee(coverage, {KEY: "abcd"}, 0, "rotate", but={KEY}) == Outlook(outside=1)

    def test_what_is_hidden_may_be_so_again(self):
        state = state_of(ran="ab", outcome="not-reached")
        assert foresee(coverage_of(state), {KEY: "abcd"}, 0, "rotate").hidden

    def test_what_can_not_be_told(self):
        state, other = state_of(), state_of(key="other")
        names = {KEY: "abcd", ("other", "cpu"): "abcd"}
        assert foresee(coverage_of(state, other), names, 0, "rotate").runs == 2
        assert foresee(coverage_of(state, other), names, 0, "all").runs == 1

    @pytest.mark.parametrize("seed", [0, 5, 12, MAX_SEED - 2])
    def test_the_test_that_takes_most_decides_wherever_it_stands(self, seed):
        states = [
            state_of("abcdefgh"[:size], ran, k=k, key=f"test {size} {k} {ran}")
            for size in (2, 5, 8)
            for k in (1, 2, 3)
            for ran in ("", "a", "abcd")
            if len(ran) < size
        ]
        states.append(state_of("abcde", "a", always="b", key="with one that is always taken"))
        names = {(state.test.key, "cpu"): "abcdefgh" for state in states}
        most = 0
        for number, state in enumerate(states, 1):
            never = set(state.test.declared) - {one.cell.label for one in state.cells if one.record}
            most = max(most, runs_until(state, never, seed))
            for some in (states[:number], states[number - 1 :: -1]):
                assert foresee(coverage_of(*some), names, seed, "rotate").runs == most
        assert foresee(coverage_of(*states), names, seed, "budget").runs is None


class TestLanes:
    RUNS = (
        a_run("1", 1.0, 41, lane=None),
        a_run("2", 2.0, 10),
        a_run("3", 3.0, 20, lane="b", part="1/2"),
        a_run("4", 4.0, 11),
        a_run("5", 5.0, 99, in_series=False),
    )

    def test_the_newest_of_each_counts(self):
        assert lanes_of(self.RUNS) == ({Lane("a"): 11, Lane("b", "1/2"): 20}, 11)
        assert list(lanes_of(self.RUNS)[0]) == [Lane("a"), Lane("b", "1/2")]
        assert lanes_of([]) == ({}, None)
        given_only = [a_run("1", 1.0, 7, in_series=False)]
        assert lanes_of(given_only) == ({}, 7)
        assert newest_in_series(self.RUNS) == self.RUNS[3]
        assert newest_in_series(given_only) == given_only[0]
        assert newest_in_series([]) is None

    def test_the_next_seed(self):
        old, a, b, _, given_by_hand = self.RUNS
        assert seed_following(a, self.RUNS) == 12
        assert seed_following(given_by_hand, self.RUNS) == 12
        assert seed_following(b, self.RUNS) == 21
        # What was not kept is a new lane.
        assert seed_following(old, self.RUNS) == 12
        assert seed_following(old, [old]) == 42
        assert seed_following(given_by_hand, [given_by_hand]) == 100
        assert seed_following(given_by_hand, []) == 100
        assert seed_following(old, []) == 42


class TestForeseeAll:
    def test_each_test_by_the_selection_that_took_it(self):
        runs = [a_run("u", 1.0, 3), a_run("v", 2.0, 7, lane="b")]
        one, other = (
            state_of(ran=sample(state_of(key=key), seed), key=key, run=run)
            for key, seed, run in (("t", 3, "u"), ("other", 7, "v"))
        )
        coverage = coverage_of(one, other, state_of("a", "a", key="done", run="gone"))
        assert last_runs(coverage, runs) == {KEY: runs[0], ("other", "cpu"): runs[1]}
        assert foresee_all(coverage, runs) == Outlook(2, 1)
        again = state_of(ran=sample(state_of(key="again"), 3), key="again", run="u")
        assert foresee_all(coverage_of(one, other, again), runs) == Outlook(3, 1)

    def test_a_replay_of_one_dtype_is_not_the_selection(self):
        runs = [a_run("u", 1.0, 3), a_run("v", 2.0, 3, lane="t", in_series=False)]
        taken = sample(state_of(), 3)
        one, other = (state_of(ran=label, run=run) for label, run in zip(taken, "uv", strict=True))
        cells = tuple(a if a.record else b for a, b in zip(one.cells, other.cells, strict=True))
        coverage = coverage_of(replace(one, cells=cells))
        assert last_runs(coverage, runs)[KEY] == runs[0]
        assert foresee_all(coverage, runs) == Outlook(1, 1)

    def test_what_a_selection_leaves_out_is_not_promised(self):
        runs = [a_run("u", 1.0, 3, lane="-k=a")]
        taken = sample(state_of(), 3)
        coverage = coverage_of(state_of(ran=taken[:1]))
        assert foresee_all(coverage, runs) == Outlook(outside=1)
        # Nor what no known run took.
        assert foresee_all(coverage_of(state_of()), runs) == Outlook(outside=1)
        all_of_it = [replace(runs[0], strategy="all")]
        assert foresee_all(coverage, all_of_it) == Outlook(outside=1)
        drawn = [replace(runs[0], strategy="oldest")]
        assert foresee_all(coverage, drawn) == Outlook(1, 2)

    def test_hidden(self):
        state = state_of(ran=sample(state_of(), 3), outcome="not-reached")
        assert foresee_all(coverage_of(state), [a_run("u", 1.0, 3)]).hidden


class TestOutOfStep:
    def test_every_second_seed(self):
        state = state_of(ran=sample(state_of(), 1))
        found = out_of_step(state, [1, 3, 5])
        assert found.labels == tuple(label for label in "abcd" if label not in sample(state, 1))
        assert (found.state, found.seeds) == (state, (1, 3, 5))

    @pytest.mark.parametrize(
        "seeds",
        [[], [1], [1, 3], [1, 2, 3], [1, 3, 4, 6], [5, 3, 2], [1, 4, 7]],
        ids=str,
    )
    def test_too_little_evidence_or_no_such_step(self, seeds):
        assert out_of_step(state_of(ran=sample(state_of(), 1)), seeds) is None

    def test_one_seed_for_ever(self):
        assert out_of_step(state_of("abc", k=1), [5, 5, 5]) is not None

    def test_what_comes_on_top_anyway_is_no_matter(self):
        assert out_of_step(state_of(ran="abcd", outcome="not-reached"), [1, 3, 5]) is None
        assert out_of_step(state_of(ran="abcd"), [1, 3, 5]) is None

    @given(st.integers(1, 8), st.integers(1, 8), st.integers(0, 2**40), st.integers(0, 12))
    def test_it_says_exactly_what_such_seeds_never_take(self, n, k, seed, step):
        state = state_of("abcdefgh"[:n], k=k)
        met = set().union(*(sample(state, seed + i * step, k=k) for i in range(3)))
        later = (sample(state, seed_after(seed, i * step), k=k) for i in range(40))
        never = set(state.test.declared) - met.union(*later)
        found = out_of_step(state, [seed + i * step for i in range(3)])
        assert set(found.labels if found else ()) == never


class TestSeveralArguments:
    @given(st.integers(0, 2**40), st.integers(1, 7))
    def test_single_dtypes_come_as_soon_as_it_is_told(self, seed, k):
        state = pairs_of(k=k)
        all_of_it = {(state.test.key, state.test.device): state.test.declared}
        ahead = foresee(coverage_of(state), all_of_it, seed, "rotate")
        assert (ahead.tests, ahead.combining) == (1, 1)
        # The rule's own bounds: ten values, within the longer one of the two windows.
        assert ahead.runs == -(-24 // k)
        assert ahead.values <= max(-(-6 // k), -(-5 // k))
        taken = {one for n in range(ahead.values) for one in sample_of(state, seed + n)}
        assert {label[0] for label in taken} == set("abcdef")
        assert {label[2] for label in taken} == set("wxyz")

    def test_what_ran_in_any_combination_is_not_waited_for(self):
        state = pairs_of(["a,w", "b,x", "c,y", "d,z", "e,w"])
        assert values_never_ran(state) == [["f,w", "f,x", "f,y", "f,z"]]
        assert values_never_ran(state, ["f,w", "a,x"]) == [["f,w"]]
        assert values_never_ran(state, ["a,x"]) == []
        # What the device refuses will not come, and what has a verdict needs none.
        assert values_never_ran(pairs_of([f"f,{b}" for b in "wxyz"], outcome="unsupported")) != []
        never = values_never_ran(pairs_of(["f,w", "f,x"], outcome="skipped"))
        assert ["f,y", "f,z"] in never
        assert values_never_ran(state_of("abcd")) == []

    def test_the_values_of_several_tests(self):
        run = a_run("u", 90.0, 3)
        # Three combinations each, of six values.
        ran = [sample_of(pairs_of(key=key), 3) for key in "tu"]
        one, other = (pairs_of(some, key=key) for some, key in zip(ran, "tu", strict=True))
        states = one, other, state_of("abcd", sample(state_of("abcd", key="v"), 3), key="v")
        ahead = foresee_all(coverage_of(*states), [run])
        assert (ahead.tests, ahead.combining) == (3, 2)
        # The next window has the rest of the first argument's, and of the second's.
        assert ahead.values == 1
        assert coverage_of(*states).values == (12, 20)
        assert coverage_of(state_of("abcd", "a")).values == (0, 0)

    def test_the_order_is_that_of_the_circle_that_is_kept(self):
        own, shared = pairs_of(), pairs_of(circle="together:1")
        assert sample_of(own, 5) != sample_of(shared, 5)
        assert sample_of(shared, 5) == sample_of(pairs_of(circle="together:1", key="x"), 5)
