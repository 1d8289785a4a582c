"""Runs that are folded away, and tests that are forgotten."""

from __future__ import annotations

from dataclasses import replace

import pytest
from small_ledgers import KEEP_ALL, a_run, a_test, an_outcome, opened, record

from dtype_sampler.ledger.records import Mark
from dtype_sampler.sampling.lanes import Lane


@pytest.fixture
def folded(path):
    """Six runs, of which two are kept whole."""
    # Cell a: passed in r0, failed in r1, then no verdict any more. Cell b: passed every time.
    for number, outcome in enumerate(["passed", "failed", *["skipped"] * 4]):
        started = 1000.0 * (1 + number)
        seen = [an_outcome("a", outcome, started + 1), an_outcome("b", "passed", started + 2)]
        record(path, a_run(f"r{number}", started, seed=number, commit=f"c{number}"), seen, keep=2)
    return path


def test_of_runs_that_are_folded_away_each_cells_last_marks_stay(folded):
    with opened(folded) as store:
        a, b = store.cells()
    assert a.last == Mark(6001.0, "r5", "skipped")
    assert a.passed == Mark(1001.0, "r0", "passed")
    assert a.verdict == a.failed == Mark(2001.0, "r1", "failed")
    assert b.last == b.verdict == b.passed == Mark(6002.0, "r5", "passed")


def test_of_runs_that_are_folded_away_those_that_a_cell_speaks_of_stay_by_name(folded):
    with opened(folded) as store:
        assert [(run.uid, run.number, run.seed, run.commit) for run in store.runs()] == [
            ("r0", 1, 0, "c0"),
            ("r1", 2, 1, "c1"),
            ("r4", 5, 4, "c4"),
            ("r5", 6, 5, "c5"),
        ]
        assert all(run.counts == {"passed": 2} for run in store.runs())


def test_the_newest_run_of_each_lane_stays_by_name(path):
    for number, lane in enumerate(["rare", "rare", "often", "often", "often"]):
        record(
            path, replace(a_run(f"r{number}", 1000.0 + number, seed=number), lane=lane), [], keep=1
        )
    with opened(path) as store:
        assert [run.uid for run in store.runs()] == ["r1", "r4"]
        assert store.history(verdicts=False).lanes == {Lane("often"): 4, Lane("rare"): 1}


def test_the_newest_runs_stay_whole(folded):
    with opened(folded) as store:
        assert {run.uid: len(store.observations(run.uid)) for run in store.runs()} == {
            "r0": 0,
            "r1": 0,
            "r4": 2,
            "r5": 2,
        }


def test_folding_can_be_asked_for(path):
    for number in range(3):
        record(
            path, a_run(f"r{number}", 1000.0 + number), [an_outcome("a", "passed", 2000.0 + number)]
        )
    with opened(path) as store:
        assert [store.foldable(keep) for keep in (1, 2, 3, 4)] == [2, 1, 0, 0]
        store.fold(1)
        assert [run.uid for run in store.runs()] == ["r2"]
        assert store.foldable(1) == 0


def test_a_run_that_stays_by_name_alone_can_not_be_folded_away_again(folded):
    with opened(folded) as store:
        assert len(store.runs()) == 4
        assert [store.foldable(keep) for keep in (1, 2)] == [1, 0]


def test_whoever_met_a_test_says_that_it_is_still_there(path):
    tests = [a_test("loop"), a_test("items"), a_test("items", "cuda"), a_test("gone")]
    seen = [
        an_outcome("a", "passed", 1001.0, key=key, device=device)
        for key, device in (("items", "cpu"), ("items", "cuda"))
    ]
    record(path, a_run("u"), seen, tests=tests)
    with opened(path) as store:
        # A test is met by its own node id, or by that of one of its items.
        store.still_there({"loop", "items[a]", "items[b]", "none"}, 2000.0)
        met = {(test.key, test.device): test.there_at for test in store.tests()}
        assert met == {
            ("gone", "cpu"): 1000.0,
            ("items", "cpu"): 2000.0,
            ("items", "cuda"): 2000.0,
            ("loop", "cpu"): 2000.0,
        }
        # What was declared is as old as it was, and a moment before changes nothing.
        assert {test.seen_at for test in store.tests()} == {1000.0}
        store.still_there({"loop"}, 1500.0)
        store.append("u", [a_test("loop", seen_at=1600.0)], [])
        assert store.tests()[-1] == a_test("loop", seen_at=1600.0, met_at=2000.0)


def test_a_shard_that_only_met_a_test_does_not_undo_what_another_one_declared(tmp_path):
    old, new = a_test(declared="ab"), a_test(declared="abc", seen_at=5000.0)
    for name, tests, met_at in (("met", [old], 6000.0), ("ran", [new], 0.0)):
        record(tmp_path / name, a_run(name), [], tests=tests)
        with opened(tmp_path / name) as store:
            store.still_there({"t"} if met_at else set(), met_at)
    for order in (["met", "ran"], ["ran", "met"]):
        with opened(tmp_path / "-".join(order)) as store:
            for name in order:
                with opened(tmp_path / name) as source:
                    store.merge(source, KEEP_ALL)
            assert store.tests() == [a_test(declared="abc", seen_at=5000.0, met_at=6000.0)]


def test_a_run_that_another_process_has_folded_away_goes_on(path):
    with opened(path) as store:
        run = store.open_run(a_run("slow", 1000.0))
        record(path, a_run("newer", 2000.0), [], keep=1)
        assert [run.uid for run in store.runs()] == ["newer"]

        store.append("slow", [a_test()], [an_outcome("a", "passed", 3000.0)])
        store.close_run(run.finished(3001.0, {}), 1)
        (cell,) = store.cells()
        assert cell.passed == Mark(3000.0, "slow", "passed")
        assert [(run.uid, run.number) for run in store.runs()] == [("slow", 1), ("newer", 2)]


def test_an_id_that_sqlite_gives_again_is_not_taken_for_the_run_that_had_it(path):
    gone = path.with_name("gone")
    with opened(path) as store:
        store.open_run(a_run("own", 1000.0))
        for place in (path, gone):
            record(place, a_run("gone", 500.0), [an_outcome("a", "passed", 501.0)])
        # The id of the other run is looked up, and remembered.
        store.append("own", [a_test()], [an_outcome("a", "skipped", 400.0)])
        with opened(path) as other:
            other.forget([a_test()])
            other.fold(1)
        with opened(path) as other:
            other.open_run(a_run("new", 2000.0))
        with opened(gone) as source:
            store.merge(source, KEEP_ALL)
        assert store.observations("new") == []
        assert store.observations("gone") == [an_outcome("a", "passed", 501.0)]


def test_forgetting_a_test_takes_its_cells_on_that_device_and_no_others(path):
    seen = [
        an_outcome("a", "passed", 1001.0),
        an_outcome("a", "passed", 1002.0, device="cuda"),
        an_outcome("a", "passed", 1003.0, key="other"),
    ]
    record(path, a_run("u"), seen)
    with opened(path) as store:
        store.forget([a_test(), a_test("never seen")])
        left = {("t", "cuda"), ("other", "cpu")}
        assert {(test.key, test.device) for test in store.tests()} == left
        assert {(one.cell.key, one.cell.device) for one in store.cells()} == left
        assert {(o.cell.key, o.cell.device) for o in store.observations("u")} == left
