"""What cells cost, as real runs put it down. A clock of their own goes on when a test says so."""

from __future__ import annotations

import pytest

from dtype_sampler.ledger.sqlite import SqliteStore
from dtype_sampler.paths import DEFAULT_LEDGER

CLOCK = """
import pytest

class Clock:
    now = 0.0

    def __call__(self):
        return self.now

clock = Clock()

def pytest_configure(config):
    from dtype_sampler.session.items import CLOCK

    config.stash[CLOCK] = clock

def _spend(seconds):
    clock.now += seconds

@pytest.fixture(scope="session")
def spend():
    return _spend
"""


@pytest.fixture
def timed(project):
    """A project whose tests are measured by the clock of its conftest."""
    path = project.pytester.path / "conftest.py"
    path.write_text(path.read_text() + CLOCK)
    return project


@pytest.fixture
def seconds(timed):
    """What the newest run says: seconds by label of each test, and what each test needs besides."""

    def read():
        store = SqliteStore.open(timed.pytester.path / DEFAULT_LEDGER)
        try:
            run = store.runs()[-1]
            cells, started = {}, round(1000 * run.started)
            for one in store.observations(run.uid):
                name = one.cell.key.partition("::")[2]
                cells.setdefault(name, {})[one.cell.label] = one.duration
            rests = {
                test.key.partition("::")[2]: micros / 1e6
                for test in store.tests()
                for at, micros in test.rests
                if at == started
            }
        finally:
            store.close()
        return cells, rests

    return read


TESTS = """
import pytest

@pytest.fixture
def built(spend):
    spend(1)
    yield
    spend(2)

def test_loop(random_dtypes, built, spend):
    spend(4)
    for dtype in random_dtypes(k=2, dtypes=["a", "b"]):
        spend(8 if dtype == "a" else 16)
    spend(32)

def test_list(random_dtypes, built, spend):
    for dtype in list(random_dtypes(k=2, dtypes=["a", "b"])):
        spend(8 if dtype == "a" else 16)

def test_two(random_dtypes, spend):
    weight = random_dtypes(k=1, dtypes=["w"])[0]
    given = random_dtypes(k=1, dtypes=["x"])[0]
    spend(3)

@pytest.mark.random_dtypes(dtypes=["a", "b"], k=2)
def test_item(dtype, built, spend):
    spend(8 if dtype == "a" else 16)

@pytest.mark.random_dtypes(dtypes=["a", "b"], k=2)
def test_both(dtype, random_dtypes, spend):
    spend(1)
    for inner in random_dtypes(k=1, dtypes=["x"]):
        spend(2)
    spend(4)

def test_fails(random_dtypes, spend):
    for dtype in random_dtypes(k=3, dtypes=["a", "b", "c"]):
        spend(2)
        assert dtype != "b"

class TestOld:
    def test_marked(self, random_dtypes, spend):
        for dtype in random_dtypes(k=2, dtypes=["a", "b"]):
            if dtype == "b":
                break
            spend(5)
        spend(7)

def test_none(spend):
    spend(100)
"""
CELLS = {
    "test_loop": {"a": 8, "b": 16},
    "test_list": {"a": 12, "b": 12},
    "test_two": {"w": 1.5, "x": 1.5},
    "test_item": {"a": 11, "b": 19},
    "test_both": {"a": 5, "b": 5},
    "test_both[a]": {"x": 2},
    "test_both[b]": {"x": 2},
    # What was not reached took no time that could be known.
    "test_fails": {"a": 2, "b": 2, "c": None},
    "TestOld::test_marked": {"a": 5, "b": 7},
}
RESTS = {
    "test_loop": 1 + 4 + 32 + 2,
    "test_list": 3,
    "test_two": 0,
    "test_item": 0,
    "test_both": 0,
    "test_both[a]": 0,
    "test_both[b]": 0,
    "test_fails": 0,
    "TestOld::test_marked": 0,
}


@pytest.mark.parametrize("options", [(), ("-n2",)], ids=["alone", "workers"])
def test_each_kind_of_test(timed, seconds, options):
    timed.file("test_it", TESTS)
    timed.run("--dtype-seed=1", *options)
    assert seconds() == (CELLS, RESTS)


def test_a_fixture_of_a_wider_scope_is_no_item_s(timed, seconds):
    timed.file(
        "test_it",
        """
        import pytest
        from dtype_sampler import random_dtypes as ask
        @pytest.fixture(scope="module")
        def model(spend):
            spend(60)
        @pytest.fixture(scope="module")
        def shared(spend):
            spend(30)
            return ask(k=2, dtypes=["a", "b"])
        @pytest.mark.random_dtypes(dtypes=["a", "b"], k=2)
        def test_item(dtype, model, spend):
            spend(1)
        def test_shared(shared, spend):
            for dtype in shared:
                spend(2)
        def test_again(shared, spend):
            for dtype in shared:
                spend(3)
        """,
    )
    timed.run("--dtype-seed=1")
    cells, rests = seconds()
    assert cells == {
        "test_item": {"a": 1, "b": 1},
        "test_shared": {"a": 2, "b": 2},
        "test_again": {"a": 3, "b": 3},
    }
    # Whoever comes first has it on top.
    assert rests == {"test_item": 60, "test_shared": 30, "test_again": 0}


def test_of_retries_the_last_attempt_counts(timed, seconds):
    timed.file(
        "test_it",
        """
        import pytest
        attempts = []
        @pytest.mark.flaky(reruns=2)
        def test_loop(random_dtypes, spend):
            attempts.append(1)
            for dtype in random_dtypes(k=2, dtypes=["a", "b"]):
                spend(10 ** len(attempts))
                assert dtype == "a" or len(attempts) == 2
            spend(1)
        """,
    )
    timed.run("rerunfailures", "--dtype-seed=1")
    assert seconds() == ({"test_loop": {"a": 100, "b": 100}}, {"test_loop": 1})


def test_subtests_and_unittest(timed, seconds):
    timed.file(
        "test_it",
        """
        import unittest
        from conftest import _spend
        from dtype_sampler import random_dtypes as ask
        class TestIt(unittest.TestCase):
            def setUp(self):
                _spend(1)
            def test_loop(self):
                for dtype in ask(k=2, dtypes=["a", "b"]):
                    with self.subTest(dtype=dtype):
                        _spend(2)
                        assert dtype != "a"
            def tearDown(self):
                _spend(4)
        """,
    )
    timed.run("--dtype-seed=1")
    assert seconds() == ({"TestIt::test_loop": {"a": 2, "b": 2}}, {"TestIt::test_loop": 5})


def test_hypothesis_examples_add_up(timed, seconds):
    timed.file(
        "test_it",
        """
        from hypothesis import given, settings, strategies as st
        from conftest import _spend
        calls = []
        @settings(max_examples=5, database=None, derandomize=True, deadline=None)
        @given(st.integers(0, 10**6))
        def test_loop(random_dtypes, number):
            calls.append(number)
            for dtype in random_dtypes(k=2, dtypes=["a", "b"]):
                _spend(3)
            _spend(1)
        def test_after():
            assert len(calls) == 5
        """,
    )
    timed.run("--dtype-seed=1").assert_outcomes(passed=2)
    assert seconds() == ({"test_loop": {"a": 15, "b": 15}}, {"test_loop": 5})


def test_threads_share_what_passes(timed, seconds):
    timed.file(
        "test_it",
        """
        from threading import Barrier, Thread
        from dtype_sampler import random_dtypes as ask
        def test_loop(spend):
            one, other = ask(k=1, dtypes=["a"]), ask(k=1, dtypes=["b"])
            before, after = Barrier(3), Barrier(3)
            def work(sample):
                for dtype in sample:
                    before.wait()
                    after.wait()
            threads = [Thread(target=work, args=(sample,)) for sample in (one, other)]
            for thread in threads: thread.start()
            before.wait()
            spend(6)
            after.wait()
            for thread in threads: thread.join()
            spend(1)
        """,
    )
    timed.run("--dtype-seed=1").assert_outcomes(passed=1)
    assert seconds() == ({"test_loop": {"a": 3, "b": 3}}, {"test_loop": 1})


def test_the_test_that_killed_its_worker_took_nobody_knows_how_long(timed, seconds):
    timed.file(
        "test_it",
        """
        import os
        def test_dies(random_dtypes, spend):
            spend(1)
            for dtype in random_dtypes(k=3, dtypes=["a", "b", "c"]):
                spend(2)
                if dtype == "b": os._exit(1)
        """,
    )
    timed.run("--dtype-seed=1", "-n1")
    assert seconds() == ({"test_dies": {"a": 2, "b": None, "c": None}}, {})


def test_a_test_that_was_left_took_nobody_knows_how_long(timed, seconds):
    timed.file(
        "test_it",
        """
        import pytest
        @pytest.mark.random_dtypes(dtypes=["a", "b"], k=2)
        def test_stops(dtype, spend):
            spend(2)
            if dtype == "b": pytest.exit("enough")
        """,
    )
    timed.run("--dtype-seed=1")
    assert seconds() == ({"test_stops": {"a": 2, "b": None}}, {"test_stops": 0})
