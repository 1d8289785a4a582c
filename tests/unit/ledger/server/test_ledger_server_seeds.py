"""Which seeds a server hands out, and by which runs it goes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from shared_database import opened, record

from dtype_sampler.ledger.outcomes import Cell
from dtype_sampler.ledger.postgres import PostgresStore
from dtype_sampler.sampling.lanes import Lane

pytest.importorskip("psycopg", reason="needs psycopg (dependency group test)")


def test_concurrent_jobs_are_given_distinct_consecutive_seeds(database):
    record(database, "old", 1000.0, seed=41, lane="tests")

    def job(number):
        lane = Lane("tests") if number % 2 else Lane("tests -k gelu")
        with opened(database) as store:
            return lane, [store.claim_seed(lane, 0) for _ in range(3)]

    with ThreadPoolExecutor(12) as pool:
        given = list(pool.map(job, range(12)))
    of = {
        lane: sorted(seed for which, seeds in given if which == lane for seed in seeds)
        for lane, _ in given
    }
    # The lane that is known goes on, and the new one begins behind the newest seed then given.
    tests = of[Lane("tests")]
    assert tests == list(range(42, 60))
    rest = of[Lane("tests -k gelu")]
    assert rest == list(range(rest[0], rest[0] + 18))
    assert 42 <= rest[0] <= 60


def test_where_nothing_is_known_the_first_takes_the_seed_that_it_drew(database):
    with opened(database) as store:
        assert store.claim_seed(Lane("tests"), 123) == 123
        assert store.claim_seed(Lane("tests"), 7) == 124
        # As in a file: a new lane goes on from the newest; a part goes along with the others.
        assert store.claim_seed(Lane("more"), 7) == 125
        assert store.claim_seed(Lane("tests", "1/2"), 7) == 126
        assert store.claim_seed(Lane("tests", "2/2"), 7) == 126
        assert store.claim_seed(Lane("tests", "1/2"), 7) == 127
        assert store.claim_seed(Lane("tests"), 7) == 125
        assert store.claim_seed(Lane("x" * 20_000), 7) == 126
        assert store.claim_seed(Lane("x" * 20_000), 7) == 127


def test_a_lane_that_many_runs_are_newer_than_still_goes_on(database, monkeypatch):
    few = PostgresStore.newest_of_lanes.replace("LIMIT 5000", "LIMIT 2")
    monkeypatch.setattr(PostgresStore, "newest_of_lanes", few)
    for number, lane in enumerate("abc"):
        record(database, lane, 1000.0 + number, lane=lane, seed=10 * number)
    with opened(database) as store:
        lanes = store.history(verdicts=False).lanes
        assert list(lanes.items()) == [(Lane("c"), 20), (Lane("b"), 10)]
        assert store.claim_seed(Lane("a"), 99) == 1
        assert store.claim_seed(Lane("d"), 99) == 2


def test_activity_is_that_of_as_many_runs_as_a_file_keeps(database, monkeypatch):
    few = PostgresStore.counted_runs.replace("LIMIT 200", "LIMIT 2")
    monkeypatch.setattr(PostgresStore, "counted_runs", few)
    for number in range(4):
        record(database, f"r{number}", 1000.0 + number, "ab" if number else "abc")
    with opened(database) as store:
        assert store.activity() == {Cell("t", one, "cpu"): (2, 1002.0) for one in "ab"}
