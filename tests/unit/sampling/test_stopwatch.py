"""Whose time it is, told by a clock that goes on when it is told to.

Long, as each way in which a test takes what it is handed is timed by one and the same clock.
"""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtype_sampler.sampling.sample import SampleRecord, UnderTest
from dtype_sampler.sampling.stopwatch import AT_ONCE, Stopwatch


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class Loop:
    """Stands for one pass over a sample."""


class Test:
    """A running test as far as it is measured."""

    def __init__(self):
        self.clock = Clock()
        self.watch = Stopwatch(self.clock)
        self.under_test = UnderTest(None, self.watch)
        self.records = []

    def sample(self, *labels):
        self.records.append(SampleRecord("t", "cpu", labels, labels, {}))
        return self.records[-1]

    def spend(self, seconds):
        self.clock.now += seconds

    def hand(self, loop, label, record, costs=0.0):
        since = self.watch.now()
        self.spend(costs)
        self.under_test.enter(loop, label, record, since)

    def iterate(self, record, *, draw=0.0):
        """One pass over a sample, as `DtypeSample` does it."""
        loop = Loop()
        for label in record.chosen:
            self.hand(loop, label, record, draw)
            yield label
        self.under_test.leave(loop)

    def number(self, record, place):
        self.hand(record, record.chosen[place], record)
        return record.chosen[place]

    def told(self):
        self.watch.look()
        took = {}
        for record in self.records:
            for label, seconds in record.took.items():
                took[label] = took.get(label, 0.0) + seconds
        return {label: round(seconds, 6) for label, seconds in took.items()}

    @property
    def rest(self):
        self.watch.look()
        return round(self.watch.rest, 6)


Test.__test__ = False  # it is no test itself


@pytest.fixture
def test():
    return Test()


def test_each_has_the_time_until_the_next_one_or_the_end_of_the_loop(test):
    test.spend(5)
    for label in test.iterate(test.sample("a", "b", "c")):
        test.spend({"a": 1, "b": 2, "c": 4}[label])
    test.spend(7)
    assert test.told() == {"a": 1, "b": 2, "c": 4}
    assert test.rest == 12
    assert test.watch.total == 19


def test_what_handing_out_takes_is_that_of_what_is_handed_out(test):
    for _ in test.iterate(test.sample("a", "b"), draw=0.5):
        test.spend(1)
    assert test.told() == {"a": 1.5, "b": 1.5}


def test_one_that_a_loop_was_left_with_stays_in_hand_until_the_call_is_over(test):
    loop = test.iterate(test.sample("a", "b"))
    next(loop)
    test.spend(1)
    test.spend(2)
    test.watch.call_over()
    test.spend(4)
    assert test.told() == {"a": 3}
    assert test.rest == 4


def test_several_passes_add_up(test):
    sample = test.sample("a", "b")
    for _ in range(3):
        for _ in test.iterate(sample):
            test.spend(1)
        test.spend(10)
    assert test.told() == {"a": 3, "b": 3}
    assert test.rest == 30


def test_the_innermost_loop_has_the_time(test):
    outer, inner = test.sample("a", "b"), test.sample("x", "y")
    for _ in test.iterate(outer):
        test.spend(1)
        for _ in test.iterate(inner):
            test.spend(2)
        test.spend(4)
    assert test.told() == {"a": 5, "b": 5, "x": 4, "y": 4}
    assert test.rest == 0


def test_loops_over_one_sample_in_each_other_add_up(test):
    sample = test.sample("a", "b")
    for _ in test.iterate(sample):
        for _ in test.iterate(sample):
            test.spend(1)
    assert test.told() == {"a": 2, "b": 2}


def test_a_loop_whose_inner_loop_was_the_last_that_happened_is_over_too(test):
    for _ in test.iterate(test.sample("a")):
        for _ in test.iterate(test.sample("x")):
            test.spend(1)
    test.spend(8)
    assert test.told() == {"a": 0, "x": 1}
    assert test.rest == 8


def test_those_that_are_taken_at_once_share_what_follows(test):
    test.spend(1)
    labels = list(test.iterate(test.sample("a", "b", "c"), draw=1))
    for _ in labels:
        test.spend(3)
    test.watch.call_over()
    test.spend(2)
    assert test.told() == {"a": 4, "b": 4, "c": 4}
    assert test.rest == 3


def test_so_do_those_of_a_product(test):
    outer, inner = test.sample("a", "b"), test.sample("x", "y")
    list(test.iterate(outer))
    list(test.iterate(inner))
    test.spend(8)
    assert test.told() == {"a": 2, "b": 2, "x": 2, "y": 2}


def test_what_is_taken_at_once_again_and_again_shares_as_before(test):
    sample = test.sample("a", "b")
    for _ in range(50):
        list(test.iterate(sample))
    test.spend(8)
    assert test.told() == {"a": 4, "b": 4}


def test_what_is_taken_at_once_is_in_hand_until_a_loop_begins(test):
    list(test.iterate(test.sample("a", "b")))
    test.spend(4)
    for _ in test.iterate(test.sample("x", "y")):
        test.spend(1)
    test.spend(8)
    assert test.told() == {"a": 2, "b": 2, "x": 1, "y": 1}
    assert test.rest == 8


def test_two_that_are_taken_by_number_from_one_sample(test):
    sample = test.sample("a", "b", "c")
    test.number(sample, 0)
    test.spend(1)
    test.number(sample, 1)
    test.spend(2)
    assert test.told() == {"a": 1, "b": 2}
    # At once.
    test.number(sample, 2)
    test.number(sample, 0)
    test.spend(8)
    assert test.told() == {"a": 5, "b": 2, "c": 4}


def test_two_that_are_taken_by_number_from_two_samples_are_both_in_hand(test):
    one, other = test.sample("a"), test.sample("x")
    test.number(one, 0)
    test.spend(1)
    test.number(other, 0)
    test.spend(2)
    for _ in test.iterate(test.sample("l")):
        test.spend(10)
    # Which they are after the loop again.
    test.spend(4)
    assert test.told() == {"a": 4, "x": 3, "l": 10}


def test_one_by_number_in_a_loop_has_the_time_until_the_loop_goes_on(test):
    other = test.sample("x")
    for _ in test.iterate(test.sample("a", "b")):
        test.spend(1)
        test.number(other, 0)
        test.spend(2)
    assert test.told() == {"a": 1, "b": 1, "x": 4}


def test_what_drawing_another_sample_takes_does_not_tell_two_apart(test):
    test.number(test.sample("a"), 0)
    begun = test.watch.now()
    test.spend(0.5)
    test.watch.drawn(begun)
    list(test.iterate(test.sample("x", "y")))
    test.spend(3)
    assert test.told() == {"a": 1.5, "x": 1, "y": 1}
    test.watch.call_over()
    test.watch.drawn(begun)  # with nothing in hand
    test.spend(1)
    assert test.rest == 1


@pytest.mark.parametrize(("between", "share"), [(AT_ONCE / 2, 2), (AT_ONCE * 2, 1)])
def test_how_soon_is_at_once(test, between, share):
    sample = test.sample("a", "b")
    test.number(sample, 0)
    test.spend(between)
    test.number(sample, 1)
    test.spend(4)
    assert test.told()["b"] == pytest.approx(4 / share, abs=1e-4)


def test_an_item_has_all_of_its_time(test):
    own = test.sample("a")
    test.spend(1)
    test.watch.item(own.took, "a")
    test.under_test.enter(test, "a")
    test.spend(2)
    test.watch.call_over()
    test.spend(4)
    assert test.told() == {"a": 7}
    assert test.rest == 0


def test_an_item_has_what_a_loop_in_it_leaves(test):
    test.watch.item(test.sample("a").took, "a")
    test.spend(1)
    for _ in test.iterate(test.sample("x", "y")):
        test.spend(2)
    test.spend(4)
    assert test.told() == {"a": 5, "x": 2, "y": 2}


def test_what_others_use_too_is_no_item_s(test):
    test.watch.item(test.sample("a").took, "a")
    test.spend(1)
    with test.watch.aside():
        test.spend(60)
        for _ in test.iterate(test.sample("x")):
            test.spend(2)
    test.spend(4)
    assert test.told() == {"a": 5, "x": 2}
    assert test.rest == 60


def test_what_was_taken_by_number_for_others_stays_in_hand(test):
    with test.watch.aside():
        test.number(test.sample("x"), 0)
        test.spend(2)
    test.spend(4)
    assert test.told() == {"x": 6}


def test_what_was_in_hand_is_in_hand_after_what_others_use_too(test):
    test.number(test.sample("a"), 0)
    test.spend(1)
    with test.watch.aside():
        test.spend(60)
    test.spend(2)
    assert test.told() == {"a": 3}
    assert test.rest == 60


def test_an_attempt_begins_anew(test):
    test.number(test.sample("a"), 0)
    test.spend(5)
    test.watch.begin()
    test.under_test.clear()
    test.records.clear()
    for _ in test.iterate(test.sample("a")):
        test.spend(1)
    assert test.told() == {"a": 1}
    assert (test.rest, test.watch.total) == (0, 1)


def test_after_a_call_of_a_body_nothing_of_it_is_in_hand(test):
    sample = test.sample("a", "b")
    before = test.under_test.here()
    test.under_test.back_to(before)
    for place in (0, 1, 0):
        before = test.under_test.here()
        test.number(sample, place)
        test.spend(1)
        test.under_test.back_to(before)
        test.spend(10)
    assert test.told() == {"a": 2, "b": 1}
    assert test.rest == 30


@pytest.fixture
def in_a_thread():
    """Does something in a new thread, which lives on: a dead one's number may be given again."""
    over = threading.Event()
    threads = []

    def do(what):
        done = threading.Event()

        def run():
            what()
            done.set()
            over.wait()

        threads.append(threading.Thread(target=run))
        threads[-1].start()
        done.wait()

    yield do
    over.set()
    for thread in threads:
        thread.join()


def test_threads_share_what_passes_while_both_have_something_in_hand(test, in_a_thread):
    one, other = test.sample("a"), test.sample("b")
    passes = [test.iterate(one), test.iterate(other)]
    for one in passes:
        in_a_thread(lambda one=one: next(one))
        test.spend(4)
    assert test.told() == {"a": 6, "b": 2}
    # Nobody is there who could say that these have ended: until the call has.
    test.watch.call_over()
    test.spend(1)
    assert test.rest == 1


def test_a_loop_that_ends_in_another_thread_takes_nothing_from_this_one(test, in_a_thread):
    loop = test.iterate(test.sample("a"))
    next(loop)
    test.spend(1)
    in_a_thread(lambda: next(loop, None))
    test.spend(2)
    assert test.told() == {"a": 3}


def test_a_moment_that_another_thread_has_put_down_is_not_put_down_again(test):
    sample = test.sample("a", "b")
    loop = Loop()
    test.hand(loop, "a", sample)
    test.spend(1)
    since = test.watch.now()
    test.spend(3)
    test.watch.look()
    test.under_test.enter(loop, "b", sample, since)
    test.spend(1)
    assert test.told() == {"a": 4, "b": 1}


steps = st.lists(
    st.tuples(
        st.sampled_from(["begin", "next", "number", "take", "over", "aside", "draw"]),
        st.integers(0, 3),
        st.sampled_from([0.0, AT_ONCE / 3, 1.0, 2.5]),
    ),
    max_size=40,
)


@given(steps, st.booleans())
def test_all_that_is_put_down_adds_up_to_the_test(steps, item):
    test = Test()
    samples = [test.sample(f"a{i}", f"b{i}", f"c{i}") for i in range(4)]
    if item:
        test.watch.item(test.sample("item").took, "item")
    loops = []
    for what, which, seconds in steps:
        if what == "begin":
            loops.append(test.iterate(samples[which]))
        elif what == "next" and loops:
            next(loops[which % len(loops)], None)
        elif what == "number":
            test.number(samples[which], which % 3)
        elif what == "take":
            list(test.iterate(samples[which]))
        elif what == "over":
            test.watch.call_over()
        elif what == "draw":
            begun = test.watch.now()
            test.spend(seconds)
            test.watch.drawn(begun)
        elif what == "aside":
            with test.watch.aside():
                test.spend(seconds)
                test.number(samples[which], 0)
        test.spend(seconds)
    took = sum(test.told().values())
    assert took + test.rest == pytest.approx(test.clock.now - 1000.0, abs=1e-4)
    assert test.watch.total == pytest.approx(test.clock.now - 1000.0)
    assert all(seconds >= 0 for seconds in test.told().values())
