from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import hostile
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtype_sampler.ledger import opening, schema
from dtype_sampler.ledger.costs import Costs, lasted
from dtype_sampler.ledger.failures import Failure
from dtype_sampler.ledger.outcomes import Cell
from dtype_sampler.ledger.records import Mark, Observed, RunRecord, TestRecord
from dtype_sampler.ledger.sqlite import SqliteStore
from dtype_sampler.ledger.store import LedgerError, StoreBusyError
from dtype_sampler.sampling.lanes import Lane
from dtype_sampler.sampling.plan import History

KEEP_ALL = 1000
# Where files by the hundred cost little, if there is such a place.
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None


def a_run(uid, started=1000.0, **kwargs):
    return RunRecord(
        uid, **{"started": started, "seed": 1, "seed_origin": "given"} | kwargs, strategy="rotate"
    )


def a_test(key="t", device="cpu", declared=("a", "b", "c"), seen_at=1000.0, **kwargs):
    return TestRecord(key, device, tuple(declared), seen_at, **{"k": 2} | kwargs)


def an_outcome(label, outcome, at, *, key="t", device="cpu", duration=None):
    return Observed(Cell(key, label, device), f"{key}[{label}]", outcome, at, duration)


@contextmanager
def opened(path, **kwargs):
    with closing(SqliteStore.open(path, **{"create": True} | kwargs)) as store:
        yield store


def record(path, run, seen, *, tests=(), keep=KEEP_ALL, end=True):
    """Write down one whole run; returns its record."""
    tests = tests or [a_test(*key) for key in sorted({(o.cell.key, o.cell.device) for o in seen})]
    with opened(path) as store:
        run = store.open_run(run)
        store.append(run.uid, tests, seen)
        if end:
            run = run.finished(run.started + 60, {"passed": len(seen)})
            store.close_run(run, keep)
    return run


def dump(path):
    """All that a ledger says, in one order."""
    with opened(path, create=False) as store:
        runs = store.runs()
        return {
            "runs": runs,
            "tests": store.tests(),
            "cells": sorted(store.cells(), key=str),
            "observations": {run.uid: sorted(store.observations(run.uid), key=str) for run in runs},
            "failures": sorted(store.failures(), key=str),
            "known": sorted(store.known_failures(), key=str),
        }


@pytest.fixture
def path(tmp_path):
    # A folder of its own: what else is in it is told by its listing.
    (tmp_path / "here").mkdir()
    return tmp_path / "here" / "ledger.sqlite"


def files(path):
    return sorted(file.name for file in path.parent.iterdir())


# Writing and reading back.


def test_what_was_written_is_read_back(path):
    run = RunRecord(
        uid="abc",
        started=1000.25,
        seed=2**63 - 1,
        seed_origin="--dtype-seed",
        strategy="oldest",
        command='pytest "-k" ä',
        commit="abc1234+",
        host="h",
        python="3.11",
        torch="2.6",
        plugin="0.1",
        device="cuda",
        lane="tests -k 'a b'",
        part="2/4",
        in_series=False,
    )
    tests = [a_test("t1", k=3, always=("b",)), a_test("t2", "cuda", declared=())]
    seen = [
        an_outcome("a", "passed", 1001.0, key="t1", duration=0.25),
        an_outcome("b", "failed", 1002.5, key="t1"),
        an_outcome("a", "unsupported", 1003.125, key="t2", device="cuda", duration=0.0),
    ]
    with opened(path) as store:
        begun = store.open_run(run)
        store.append(run.uid, tests, seen)
        assert store.runs() == [begun]
        assert begun.number == 1
        assert begun.ended is None
        ended = begun.finished(1010.5, {"passed": 1, "failed": 1, "unsupported": 1})
        store.close_run(ended, KEEP_ALL)

    with opened(path, create=False) as store:
        assert store.runs() == [ended]
        assert store.tests() == tests
        assert store.observations("abc") == seen
        cells = {one.cell: one for one in store.cells()}
        assert store.cells("t2") == [cells[Cell("t2", "a", "cuda")]]
    assert set(cells) == {one.cell for one in seen}
    failed = cells[Cell("t1", "b", "cpu")]
    assert failed.failed == failed.verdict == failed.last == Mark(1002.5, "abc", "failed")
    assert failed.passed is None
    assert failed.nodeid == "t1[b]"


@pytest.mark.parametrize(
    "outcome",
    [
        *("passed", "failed", "xfailed", "xpassed"),
        *("skipped", "unsupported", "crashed", "not-reached"),
    ],
)
def test_every_outcome_is_read_back(path, outcome):
    seen = [an_outcome("a", outcome, 1001.0)]
    record(path, a_run("u"), seen)
    with opened(path) as store:
        assert store.observations("u") == seen
        assert [one.last.outcome for one in store.cells()] == [outcome]


def test_declared_cells_that_did_not_run_are_known_by_their_test(path):
    test = a_test(declared=("a", "b", "c"))
    record(path, a_run("u"), [an_outcome("a", "passed", 1001.0)], tests=[test])
    with opened(path) as store:
        assert store.tests() == [test]
        assert [one.cell.label for one in store.cells()] == ["a"]


def test_in_one_run_a_cell_that_is_observed_again_has_its_later_outcome(path):
    first, again = an_outcome("a", "failed", 1001.0), an_outcome("a", "passed", 1002.0)
    record(path, a_run("u"), [first, again])
    with opened(path) as store:
        assert store.observations("u") == [again]
        (cell,) = store.cells()
    assert (cell.verdict.outcome, cell.failed.outcome) == ("passed", "failed")


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("moments", [(1002.0, 1002.0), (1002.0, 1003.0), (1003.0, 1002.0)])
def test_what_stands_of_several_outcomes_does_not_depend_on_their_order(tmp_path, at_once, moments):
    seen = [
        an_outcome("a", "xfailed", 1001.0),
        an_outcome("a", "passed", moments[0]),
        an_outcome("a", "failed", moments[1]),
    ]
    tests = [a_test(declared=(label,), seen_at=1000.0) for label in "abc"]
    for name, step in (("forth", 1), ("back", -1)):
        with opened(tmp_path / name) as store:
            store.open_run(a_run("u"))
            store.append("u", tests[::step][:1], [seen[0]])
            if at_once:
                store.append("u", tests[::step], seen[1:][::step])
            else:
                for test, one in zip(tests[1:][::step], seen[1:][::step], strict=True):
                    store.append("u", [test], [one])
                store.append("u", tests[::step], [])
    assert dump(tmp_path / "forth") == dump(tmp_path / "back")


@pytest.mark.parametrize("known_first", [False, True])
def test_a_duration_that_is_known_stands_against_none(path, known_first):
    unknown, known = (an_outcome("a", "passed", 1001.0, duration=one) for one in (None, 0.0))
    with opened(path) as store:
        store.open_run(a_run("u"))
        store.append("u", [a_test()], [known, unknown] if known_first else [unknown, known])
        assert store.observations("u") == [known]


def runs_of(durations, *, first=0, rests=None):
    """For each run, a hundred seconds after the one before, how long a cell and a test took."""
    for number, duration in enumerate(durations, first):
        started = 1000.0 + 100 * number
        told = lasted(started, None if rests is None else rests[number - first])
        test = a_test(seen_at=started, rests=told)
        yield (
            a_run(f"u{number}", started),
            [an_outcome("a", "passed", started, duration=duration)],
            test,
        )


@pytest.mark.parametrize("order", [1, -1], ids=["forth", "back"])
@pytest.mark.parametrize("keep", [1, KEEP_ALL])
def test_the_newest_five_durations_stay_whatever_is_folded_away(path, order, keep):
    told = list(runs_of([9.0, 9.0, 1.0, 5.0, 2.0, None, 4.0, 0.0], rests=[7.0] * 5 + [1.0] * 3))
    for run, seen, test in told[::order]:
        record(path, run, seen, tests=[test], keep=keep)
    with opened(path) as store:
        (cell,), (test,) = store.cells(), store.tests()
        costs = store.costs()
    assert [micros / 1e6 for _, micros in cell.costs] == [0.0, 4.0, 2.0, 5.0, 1.0]
    assert [at for at, _ in cell.costs] == [1_700_000, 1_600_000, 1_400_000, 1_300_000, 1_200_000]
    assert [micros / 1e6 for _, micros in test.rests] == [1.0, 1.0, 1.0, 7.0, 7.0]
    assert costs.of(Cell("t", "a", "cpu")) == 2.0
    assert costs.rest("t", "cpu") == 1.0


def test_of_several_durations_in_one_run_the_longest_stands(path):
    # As of a test that another plugin repeats.
    seen = [an_outcome("a", "passed", 1001.0 + i, duration=one) for i, one in enumerate((1, 3, 2))]
    record(path, a_run("u"), seen)
    with opened(path) as store:
        assert store.costs().of(Cell("t", "a", "cpu")) == 3.0


def test_durations_of_several_ledgers_are_combined(tmp_path):
    told = list(runs_of([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], rests=[0.5] * 7))
    for name, some in (("one", told[::2]), ("two", told[1::2]), ("all", told)):
        for run, seen, test in some:
            record(tmp_path / name, run, seen, tests=[test])
    for names in (("one", "two"), ("two", "one", "two")):
        with opened(tmp_path / "".join(names)) as into:
            for name in names:
                with opened(tmp_path / name, create=False) as source:
                    into.merge(source, 1)
        (cell,), (whole,) = dump(into.path)["cells"], dump(tmp_path / "all")["cells"]
        assert cell.costs == whole.costs
        assert len(cell.costs) == 5
        assert dump(into.path)["tests"] == dump(tmp_path / "all")["tests"]


def test_what_was_never_measured_is_unknown(path):
    record(path, a_run("u"), [an_outcome("a", "passed", 1001.0)])
    with opened(path) as store:
        assert store.costs() == Costs({}, {})
        assert store.costs().of(Cell("t", "a", "cpu")) is None
        assert store.costs().rest("t", "cpu") is None


def test_pages_are_the_run_with_its_failures_whatever_their_size(path):
    failure = Failure(("OSError",), "gone")
    seen = [
        an_outcome(label, "failed", 1001.0, key=key)._replace(failure=failure)
        if label == "a"
        else an_outcome(label, "passed", 1001.0, key=key, duration=0.5)
        for key in "tu"
        for label in "abc"
    ]
    record(path, a_run("aaaa"), seen)
    record(path, a_run("bbbb", 2000.0), [an_outcome("a", "passed", 2001.0)])
    with opened(path) as store:
        for most in (1, 4, 6, 7):
            pages = [*store.pages("aaaa", most)]
            assert [len(page) for page in pages] == [most] * (6 // most) + [6 % most] * (
                6 % most > 0
            )
            assert sorted((one for page in pages for one in page), key=str) == sorted(seen, key=str)
        assert [len(page) for page in store.pages("bbbb", 6)] == [1]
        assert [*store.pages("cccc", 6)] == []


def test_observations_of_one_test(path):
    seen = [an_outcome("a", "passed", 1001.0, key=key) for key in ("t", "t2")]
    seen.append(an_outcome("a", "failed", 1002.0, key="t", device="cuda"))
    record(path, a_run("u"), seen)
    with opened(path) as store:
        assert store.observations("u", "t") == [seen[0], seen[2]]
        assert store.observations("u", "none") == store.observations("none", "t") == []
        assert len(store.observations("u")) == 3


def test_runs_are_numbered_as_they_begin_and_listed_by_their_clocks(path):
    for uid, started in (("x", 3000.0), ("y", 1000.0), ("z", 2000.0)):
        record(path, a_run(uid, started), [])
    with opened(path) as store:
        assert [(run.uid, run.number) for run in store.runs()] == [("y", 2), ("z", 3), ("x", 1)]


def test_a_number_is_not_given_again_and_a_given_one_stays(path):
    record(path, a_run("x", number=41), [])
    assert record(path, a_run("y"), []).number == 42


def test_an_append_is_done_whole_or_not_at_all(path):
    with opened(path) as store:
        store.open_run(a_run("u"))
        unknown = an_outcome("a", "passed", 1002.0, key="unknown")
        with pytest.raises(LedgerError, match="no test unknown on cpu"):
            store.append("u", [a_test()], [an_outcome("a", "passed", 1001.0), unknown])
        assert (store.tests(), store.cells(), store.observations("u")) == ([], [], [])


def test_an_append_to_a_run_that_was_never_opened_is_refused(path):
    with opened(path) as store, pytest.raises(LedgerError, match="no run u"):
        store.append("u", [a_test()], [])


def test_names_that_are_no_text_are_written_escaped(path):
    # As Python hands on a command line or a file name that is not UTF-8.
    odd = "odd\udcff"
    seen = [an_outcome(odd, "passed", 1001.0, key=odd)]
    tests = [a_test(odd, declared=("a", odd), always=(odd,))]
    record(path, a_run("u", command=odd), seen, tests=tests)
    with opened(path) as store:
        assert [run.command for run in store.runs()] == [r"odd\udcff"]
        (cell,) = store.cells(odd)
        assert (cell.cell.key, cell.cell.label) == (r"odd\udcff", r"odd\udcff")
        # The same label in both places, or the cell would seem never to have run.
        (test,) = store.tests()
        assert (test.declared, test.always) == (("a", r"odd\udcff"), (r"odd\udcff",))


# What the next run asks for.


def test_the_history_of_an_empty_ledger(path):
    with opened(path) as store:
        assert store.history(verdicts=True) == History()


def test_the_history_is_the_newest_seed_and_what_fails(path):
    record(path, a_run("new", 2000.0, seed=7), [an_outcome("a", "crashed", 2001.0, device="cuda")])
    old = [
        an_outcome("a", "passed", 1001.0, device="cuda"),
        an_outcome("a", "failed", 1001.0),
        an_outcome("b", "xfailed", 1002.0),
        an_outcome("c", "skipped", 1003.0),
    ]
    record(path, a_run("old", 1000.0, seed=8), old)
    failing = {"cpu": {"t": ["a"]}, "cuda": {"t": ["a"]}}
    with opened(path) as store:
        assert store.history(verdicts=False) == History(7, failing)
        verdicts = {"cpu": {"t": {"a": 1001.0, "b": 1002.0}}, "cuda": {"t": {"a": 2001.0}}}
        assert store.history(verdicts=True) == History(7, failing, verdicts)


def test_the_history_of_lanes(path):
    for number, (lane, part, seed, in_series) in enumerate(
        [
            ("a", "", 1, True),
            ("b", "1/2", 2, True),
            ("b", "2/2", 3, True),
            ("a", "", 4, True),
            ("a", "", 77, False),
            ("c", "", 78, False),
        ]
    ):
        run = a_run(f"r{number}", 1000.0 + number, seed=seed)
        record(path, replace(run, lane=lane, part=part, in_series=in_series), [])
    # Of copies that were combined, at one moment, always the same one.
    for uid, seed in (("x1", 9), ("x0", 8)):
        record(path, replace(a_run(uid, 1003.0, seed=seed), lane="a"), [])
    with opened(path) as store:
        history = store.history(verdicts=False)
        newest = store.runs()[-1]
    assert (newest.lane, newest.part, newest.in_series) == ("c", "", False)
    assert history.last_seed == 9
    assert list(history.lanes.items()) == [
        (Lane("a"), 9),
        (Lane("b", "2/2"), 3),
        (Lane("b", "1/2"), 2),
    ]


def test_the_history_of_what_was_hidden(path):
    first = [an_outcome("a", "failed", 1001.0), an_outcome("b", "passed", 1002.0)]
    record(path, a_run("u", 1000.0), [*first, an_outcome("d", "failed", 1003.0)])
    second = [an_outcome(label, "not-reached", 2001.0) for label in "abc"]
    other = [
        an_outcome("x", "not-reached", 2001.0, key="left"),
        an_outcome("y", "passed", 2002.0, key="left"),
    ]
    record(path, a_run("v", 2000.0), [*second, an_outcome("d", "failed", 2002.0), *other])
    # What stopped it was run again since, alone.
    record(path, a_run("w", 3000.0), [an_outcome("d", "failed", 3001.0)])
    with opened(path) as store:
        history = store.history(verdicts=False)
    # Without a verdict first, then by its age.
    assert history.hidden == {"cpu": {"t": ["c", "a", "b"]}}
    assert history.failing == {"cpu": {"t": ["a", "d"]}}


# Folding away, and forgetting.


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


def test_an_append_says_which_cells_had_a_verdict_before(path):
    seen = {"a": "passed", "b": "skipped", "c": "suspect", "d": "failed"}
    first = [an_outcome(label, outcome, 1001.0) for label, outcome in seen.items()]
    record(path, a_run("u"), first, tests=[a_test("t", declared=tuple("abcd"))])
    with opened(path) as store:
        again = [an_outcome(label, "passed", 1002.0) for label in "abcd"]
        assert store.append("u", [], again) == {Cell("t", "a", "cpu"), Cell("t", "d", "cpu")}
        assert store.append("u", [], []) == set()
        # What comes twice at once is told as it was before.
        new = a_test("new", declared=tuple("ab"))
        seen = [an_outcome("a", one, 1003.0, key="new") for one in ("failed", "passed")]
        assert store.append("u", [new], seen) == set()
        assert store.append("u", [new], seen[:1]) == {Cell("new", "a", "cpu")}


def test_some_runs_by_their_uids(path):
    for uid in "abc":
        record(path, a_run(uid), [])
    with opened(path) as store:
        runs = {run.uid: run for run in store.runs()}
        assert store.runs_of(["c", "a", "c", "none"]) == {uid: runs[uid] for uid in "ac"}
        assert store.runs_of([]) == {}
        assert store.runs_of(["b", *map(str, range(1200)), "c"]) == {uid: runs[uid] for uid in "bc"}


def test_the_newest_runs_alone(path):
    for number in range(4):
        record(path, a_run(f"r{number}", started=1000.0 + number // 2), [])
    with opened(path) as store:
        assert [run.uid for run in store.runs(newest=3)] == ["r1", "r2", "r3"]
        assert store.runs(newest=9) == store.runs()
        assert store.runs(newest=0) == []


# Merging. Ledgers are shards, and older copies of each other: what one of them says of a run is
# the beginning of what the run did.

keys = st.sampled_from(["t", "u"])
labels = st.sampled_from(["a", "b"])
some_outcomes = st.sampled_from(["passed", "failed", "skipped", "crashed"])
whole_runs = st.lists(
    st.tuples(
        st.integers(0, 3),  # when it started
        st.lists(
            # Moments closer than the file can tell, too.
            st.tuples(st.integers(0, 5), keys, labels, some_outcomes, st.none() | st.just(0.5)),
            max_size=4,
        ),
    ),
    min_size=1,
    max_size=4,
)
# Which runs a ledger has (by number), and how far it has seen each.
copies = st.dictionaries(st.integers(0, 3), st.integers(0, 5), max_size=4)


def build(path, runs, seen_of, keep):
    """A ledger of the runs in *seen_of*, each to the given length; one to its end if it is long."""
    with opened(path) as store:
        for number, length in sorted(seen_of.items()):
            if number >= len(runs):
                continue
            started, outcomes = runs[number]
            started *= 1000.0
            run = store.open_run(a_run(f"r{number}", started, seed=number, number=number + 1))
            tests, seen = [], []
            for moment, key, label, outcome, duration in outcomes[:length]:
                at = started + moment * 0.0004
                tests.append(a_test(key, declared=("a", "b")[: 1 + moment % 2], seen_at=at))
                one = an_outcome(label, outcome, at, key=key, duration=duration)
                if outcome in ("failed", "crashed"):
                    one = one._replace(failure=Failure((outcome,), f"{number} {key} {moment % 3}"))
                seen.append(one)
            # At once in some copies, one by one in others.
            step = 1 if length % 2 else len(seen) + 1
            for i in range(0, len(seen), step):
                store.append(run.uid, tests[i : i + step], seen[i : i + step])
            if length > len(outcomes):
                store.close_run(run.finished(started + 1, {"passed": len(outcomes)}), keep)


def combine(into, *sources, keep):
    with opened(into) as store:
        for source in sources:
            with opened(source, create=False) as other:
                store.merge(other, keep)
    return into


@settings(max_examples=40, deadline=None)
@given(whole_runs, st.tuples(copies, copies, copies), st.sampled_from([1, 2, KEEP_ALL]))
def test_merging_is_idempotent_commutative_and_associative(runs, shards, keep):
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        here = Path(folder)
        a, b, c = (here / name for name in "abc")
        for path, seen_of in zip((a, b, c), shards, strict=True):
            build(path, runs, seen_of, keep)
        ab = combine(here / "ab", a, b, keep=keep)
        bc = combine(here / "bc", b, c, keep=keep)
        said = dump(ab)

        # What is the same in all of them is asserted of the file that `combine` writes to.
        assert dump(combine(here / "ba", b, a, keep=keep)) == said
        assert dump(combine(here / "left", ab, c, keep=keep)) == dump(
            combine(here / "right", a, bc, keep=keep)
        )
        assert dump(combine(ab, a, keep=keep)) == said
        assert dump(combine(ab, b, a, b, keep=keep)) == said


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Twenty ledgers whose clocks, runs and outcomes differ; each shares a run with the next."""
    folder = tmp_path_factory.mktemp("shards")
    runs = [
        (
            (7 * number) % 5,
            [
                (
                    i,
                    "tu"[(number + i) % 2],
                    "ab"[i % 2],
                    ("passed", "failed", "skipped")[(number + i) % 3],
                    None,
                )
                for i in range(4)
            ],
        )
        for number in range(21)
    ]
    paths = [folder / f"shard{number}" for number in range(20)]
    for number, path in enumerate(paths):
        build(path, runs, {number: 5, number + 1: number % 6}, KEEP_ALL)
    return paths


@pytest.mark.parametrize("keep", [3, KEEP_ALL])
def test_twenty_shards_in_any_order_make_one_ledger(shards, tmp_path, keep):
    orders = [
        shards,
        shards[::-1],
        shards[1::2] + shards[::2],
        sorted(shards, key=lambda p: p.name[::-1]),
    ]
    said = [
        dump(combine(tmp_path / str(number), *order, keep=keep))
        for number, order in enumerate(orders)
    ]
    assert said[0] == said[1] == said[2] == said[3]
    whole = [uid for uid, seen in said[0]["observations"].items() if seen]
    assert len(whole) == min(keep, 21)


def test_merging_keeps_the_number_that_a_run_was_given_where_it_was_written(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    record(one, a_run("x", 1000.0), [])
    record(one, a_run("y", 2000.0), [])
    record(other, a_run("z", 3000.0), [])
    combine(one, other, keep=KEEP_ALL)
    with opened(one) as store:
        assert [(run.uid, run.number) for run in store.runs()] == [("x", 1), ("y", 2), ("z", 1)]


def test_merging_finishes_a_run_that_an_older_copy_saw_going_on(tmp_path):
    copy, whole = tmp_path / "copy", tmp_path / "whole"
    seen = [an_outcome("a", "passed", 1001.0)]
    record(whole, a_run("u"), seen, end=False)
    shutil.copy(whole, copy)
    with opened(whole) as store:
        (run,) = store.runs()
        store.close_run(run.finished(1005.0, {"passed": 1}), KEEP_ALL)
    expected = dump(whole)
    assert dump(combine(copy, whole, keep=KEEP_ALL)) == expected
    record(copy, a_run("v", 500.0), [])  # so that there is something to lose
    combine(whole, copy, keep=KEEP_ALL)
    assert dump(whole)["runs"][1:] == expected["runs"]


def test_merging_does_not_change_its_source(tmp_path):
    source, into = tmp_path / "source", tmp_path / "into"
    record(source, a_run("u"), [an_outcome("a", "passed", 1001.0)])
    before = source.read_bytes()
    combine(into, source, keep=KEEP_ALL)
    assert source.read_bytes() == before
    assert dump(into) == dump(source)


def test_a_merge_that_fails_leaves_the_ledger_as_it_was(tmp_path, monkeypatch):
    source, into = tmp_path / "source", tmp_path / "into"
    record(source, a_run("u"), [an_outcome("a", "passed", 1001.0)])
    record(into, a_run("v"), [an_outcome("b", "passed", 1001.0)])
    before = dump(into)

    def fail(*_):
        raise LedgerError("source: is damaged")

    with opened(into) as store, opened(source) as other:
        monkeypatch.setattr(other, "numbers", fail)
        with pytest.raises(LedgerError, match="damaged"):
            store.merge(other, KEEP_ALL)
    assert dump(into) == before


# Several at once.


def test_what_is_locked_for_longer_than_one_waits_is_busy(path):
    record(path, a_run("u"), [])
    with opened(path, wait=0.0) as store, closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN EXCLUSIVE")
        for write in (
            lambda: store.open_run(a_run("v")),
            lambda: store.append("u", [], []),
            store.runs,
            lambda: SqliteStore.open(path, wait=0.0),
        ):
            with pytest.raises(StoreBusyError, match="another process holds it") as caught:
                write()
            assert str(caught.value).startswith(f"{path}: ")
        other.execute("ROLLBACK")
        assert store.open_run(a_run("v")).number == 2


@pytest.mark.parametrize("begun", [False, True], ids=["as_a_run_opens", "while_a_run_goes_on"])
def test_one_waits_for_another_that_writes(path, begun):
    record(path, a_run("u"), [])
    with (
        opened(path, wait=60.0) as store,
        closing(sqlite3.connect(path, check_same_thread=False)) as other,
    ):
        if begun:
            store.open_run(a_run("v"))
        other.execute("BEGIN IMMEDIATE")
        letting_go = threading.Timer(0.05, other.execute, ["ROLLBACK"])
        letting_go.start()
        if begun:
            store.append("v", [a_test()], [an_outcome("a", "passed", 1001.0)])
        else:
            store.open_run(a_run("v"))
        letting_go.join()
        assert [run.uid for run in store.runs()] == ["u", "v"]


AT_ONCE = """
import sys
from pathlib import Path
from dtype_sampler.ledger.records import Observed, RunRecord, TestRecord
from dtype_sampler.ledger.sqlite import SqliteStore
from dtype_sampler.ledger.outcomes import Cell

path, me = Path(sys.argv[1]), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
for number in range(4):
    store = SqliteStore.open(path, create=True, wait=60)
    run = store.open_run(RunRecord(f"{me}-{number}", 1000.0 + number, 1, "given", "rotate"))
    for i in range(5):
        seen = Observed(Cell("t", f"{me}-{i}", "cpu"), "n", "passed", 1000.0 + number)
        store.append(run.uid, [TestRecord("t", "cpu", ("a",), 1000.0, 1)], [seen])
    store.close_run(run.finished(2000.0, {"passed": 5}), 1000)
    store.close()
"""


def test_several_processes_write_to_one_new_file_at_once(path):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", AT_ONCE, path, str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(4)
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.communicate()[1] for process in processes] == [""] * 4

    said = dump(path)
    assert sorted(run.number for run in said["runs"]) == list(range(1, 17))
    assert all(len(seen) == 5 for seen in said["observations"].values())
    assert len(said["cells"]) == 20
    assert files(path) == [path.name]


OPEN_AND_CLOSE = """
import sys
from pathlib import Path
from dtype_sampler.ledger.sqlite import SqliteStore
SqliteStore.open(Path(sys.argv[1])).close()
"""


def test_a_process_that_has_the_file_open_twice_keeps_its_locks(path):
    # To close a file lets go of all locks that this process has on it. Another process would then
    # think to be the last one, and put away the write-ahead log that this one goes on to write to.
    with opened(path) as store:
        store.open_run(a_run("u"))
        with opened(path) as twice:
            twice.runs()
            subprocess.run([sys.executable, "-c", OPEN_AND_CLOSE, path], check=True)
        assert f"{path.name}-wal" in files(path)
        store.append("u", [a_test()], [an_outcome("a", "passed", 1001.0)])
    with opened(path) as store:
        assert store.observations("u") == [an_outcome("a", "passed", 1001.0)]


def test_what_is_read_in_a_snapshot_is_of_one_moment(path):
    record(path, a_run("u"), [], end=False)
    with opened(path) as store, opened(path) as other:
        other.open_run(a_run("v"))
        with store.snapshot():
            before = store.runs()
            other.open_run(a_run("w"))
            assert store.runs() == before
        assert [run.uid for run in store.runs()] == ["u", "v", "w"]


# Files that are no ledgers.


@pytest.fixture(scope="module")
def ledger_bytes(tmp_path_factory):
    """A ledger of many pages."""
    path = tmp_path_factory.mktemp("whole") / "ledger.sqlite"
    seen = [an_outcome(f"label-{i:04}", "passed", 1000.0 + i) for i in range(400)]
    record(path, a_run("u"), seen)
    return path.read_bytes()


def foreign(path, *statements):
    with closing(sqlite3.connect(path)) as other:
        for statement in ("CREATE TABLE t (a)", *statements):
            other.execute(statement)
        other.commit()


def foreign_and_killed(path):
    """Another program's, with a part of it in its write-ahead log."""
    written = path.with_name("written")
    with closing(sqlite3.connect(written)) as other:
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("CREATE TABLE t (a)")
        other.commit()
        for suffix in ("", "-wal"):
            shutil.copy(f"{written}{suffix}", f"{path}{suffix}")
    written.unlink()


def newer(path, whole):
    path.write_bytes(whole)
    with closing(sqlite3.connect(path)) as other:
        other.execute(f"PRAGMA user_version = {schema.VERSION + 1}")


BAD = {
    "no_file": (lambda path, whole: None, "there is no such file"),
    "text": (lambda path, whole: path.write_text("key,label\n" * 100), "no SQLite file"),
    "a_short_text": (lambda path, whole: path.write_text("x"), "no SQLite file"),
    "foreign": (lambda path, whole: foreign(path), "another program's SQLite file"),
    "foreign_with_a_stamp": (
        lambda path, whole: foreign(path, "PRAGMA application_id = 7", "PRAGMA user_version = 1"),
        "another program's SQLite file",
    ),
    "foreign_and_killed": (
        lambda path, whole: foreign_and_killed(path),
        "another program's SQLite file",
    ),
    "newer": (
        newer,
        (
            f"written by a newer dtype-sampler (schema {schema.VERSION + 1},"
            f" this one knows {schema.VERSION}): upgrade"
        ),
    ),
    "cut_in_half": (lambda path, whole: path.write_bytes(whole[: len(whole) // 2]), "is damaged"),
    "cut_to_a_page": (lambda path, whole: path.write_bytes(whole[:4096]), "is damaged"),
    "cut_in_the_header": (lambda path, whole: path.write_bytes(whole[:50]), ""),
    "a_folder": (lambda path, whole: path.mkdir(), "is no file"),
    "a_fifo": (lambda path, whole: os.mkfifo(path), "is no file"),
    "a_broken_header": (
        lambda path, whole: path.write_bytes(whole[:16] + b"\xff" * 40 + whole[56:]),
        "is damaged",
    ),
}


@pytest.mark.parametrize("create", [False, True], ids=["reading", "writing"])
@pytest.mark.parametrize("bad", BAD)
def test_a_bad_file_is_refused_in_one_line_and_not_touched(path, ledger_bytes, bad, create):
    make, expected = BAD[bad]
    if create and bad == "no_file":
        pytest.skip("is made")
    if bad == "a_fifo" and sys.platform == "win32":
        pytest.skip("Windows has none")
    make(path, ledger_bytes)
    before = {name: (path.parent / name).stat() for name in files(path)}
    contents = {
        name: (path.parent / name).read_bytes() for name in before if (path.parent / name).is_file()
    }

    with pytest.raises(LedgerError) as caught:
        SqliteStore.open(path, create=create)

    said = str(caught.value)
    assert said.startswith(f"{path}: ")
    assert expected in said
    assert "\n" not in said
    assert files(path) == sorted(before)
    for name, content in contents.items():
        assert (path.parent / name).read_bytes() == content
        assert (path.parent / name).stat().st_mtime_ns == before[name].st_mtime_ns


def test_garbage_in_the_middle_is_told_by_whoever_reads_it_and_not_touched(path, ledger_bytes):
    garbage = ledger_bytes[: 2 * 4096] + b"\xa5" * (len(ledger_bytes) - 2 * 4096)
    path.write_bytes(garbage)
    with opened(path) as store:
        for read in (store.cells, store.tests, lambda: store.history(verdicts=True)):
            with pytest.raises(LedgerError, match="is damaged") as caught:
                read()
            assert str(caught.value).startswith(f"{path}: ")
            assert "\n" not in str(caught.value)
    assert path.read_bytes() == garbage
    assert files(path) == [path.name]


@pytest.mark.parametrize(
    "place",
    [
        "missing/ledger.sqlite",
        "file/ledger.sqlite",
        pytest.param("x" * 300, id="a name that is too long"),
    ],
)
def test_a_place_that_can_hold_no_file_is_refused(path, place):
    (path.parent / "file").touch()
    bad = path.parent / place
    for create in (False, True):
        with pytest.raises(LedgerError) as caught:
            SqliteStore.open(bad, create=create)
        assert str(caught.value).startswith(f"{bad}: ")
        assert "\n" not in str(caught.value)
    assert files(path) == ["file"]


def test_an_empty_file_becomes_a_new_ledger(path):
    path.touch()
    record(path, a_run("u"), [])
    with opened(path, create=False) as store:
        assert [run.uid for run in store.runs()] == ["u"]


@pytest.fixture
def powerless():
    """Runs Python as someone whom the rights of files bind, as root they do not."""
    if sys.platform == "win32":
        pytest.skip("Windows has other rights")
    drop = "--bounding-set=-dac_override,-dac_read_search"
    prefix = ["setpriv", drop] if os.geteuid() == 0 else []
    if prefix:
        setpriv = shutil.which("setpriv")
        if not setpriv or subprocess.run([*prefix, "true"], capture_output=True).returncode:
            pytest.skip("root can read and write everything here")

    def run(code, *arguments):
        done = subprocess.run(
            [*prefix, sys.executable, "-c", code, *arguments], capture_output=True, text=True
        )
        assert done.stderr == ""
        return done.stdout

    return run


READ = """
import sys
from pathlib import Path
from dtype_sampler.ledger.sqlite import SqliteStore
from dtype_sampler.ledger.store import LedgerError
try:
    store = SqliteStore.open(Path(sys.argv[1]), create=True)
    print([run.uid for run in store.runs()], [len(store.observations("u"))], len(store.cells()))
    store.close()
except LedgerError as error:
    print(error)
"""


def test_a_file_that_may_not_be_read_is_refused(path, powerless):
    record(path, a_run("u"), [])
    path.chmod(0)
    assert powerless(READ, path) == f"{path}: can't be read: Permission denied\n"


def test_a_folder_that_may_not_be_written_holds_no_new_ledger(path, powerless):
    path.parent.chmod(0o555)
    said = powerless(READ, path)
    path.parent.chmod(0o755)
    assert said.startswith(f"{path}: ")
    assert said.count("\n") == 1
    assert files(path) == []


def test_a_ledger_that_was_closed_is_read_in_a_folder_that_may_not_be_written(path, powerless):
    record(path, a_run("u"), [an_outcome("a", "passed", 1001.0)])
    path.chmod(0o444)
    path.parent.chmod(0o555)
    said = powerless(READ, path)
    path.parent.chmod(0o755)
    assert said == "['u'] [1] 1\n"


# One file, whole.


def test_the_last_to_close_leaves_one_file(path):
    with opened(path) as store:
        store.open_run(a_run("u"))
        with opened(path) as other:
            other.open_run(a_run("v"))
        assert f"{path.name}-wal" in files(path)
    assert files(path) == [path.name]


def killed_copy(path):
    """The files of a ledger as a process that was killed leaves them: u with one outcome."""
    with opened(path.with_name("open")) as store:
        store.open_run(a_run("u"))
        store.append("u", [a_test()], [an_outcome("a", "passed", 1001.0)])
        for suffix in ("", "-wal"):
            shutil.copy(path.with_name(f"open{suffix}"), f"{path}{suffix}")
    path.with_name("open").unlink()


def test_a_ledger_whose_process_was_killed_is_whole(path):
    killed_copy(path)
    assert Path(f"{path}-wal").stat().st_size
    said = dump(path)
    assert [(run.uid, run.ended) for run in said["runs"]] == [("u", None)]
    assert said["observations"] == {"u": [an_outcome("a", "passed", 1001.0)]}
    assert files(path) == [path.name]


# Older schemas.

NOTES = "ALTER TABLE runs ADD COLUMN note TEXT NOT NULL DEFAULT ''"


NOW = schema.VERSION
ASIDE = f"ledger.sqlite.schema-{NOW}.bak"


def next_version(monkeypatch, *statements):
    monkeypatch.setattr(schema, "VERSION", NOW + 1)
    monkeypatch.setattr(schema, "MIGRATIONS", {NOW: statements})


def version_of(path):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA user_version").fetchone()[0]


@pytest.mark.parametrize("version", schema.MIGRATIONS)
def test_a_file_of_an_older_version_is_read_on(path, version):
    record(path, a_run("u"), [an_outcome("a", "passed", 1001.0)])
    expected = dump(path)
    hostile.set_back(path, version)
    if version < 3:
        # Whether it saw all that the test declares, nobody knows any more.
        expected["tests"] = [replace(test, whole_at=0.0) for test in expected["tests"]]
    assert dump(path) == expected
    assert version_of(path) == NOW


@pytest.mark.parametrize("killed", [False, True], ids=["closed", "killed"])
def test_an_older_file_is_put_aside_and_migrated(path, monkeypatch, killed):
    if killed:
        killed_copy(path)
    else:
        record(path, a_run("u"), [an_outcome("a", "passed", 1001.0)], end=False)
    next_version(monkeypatch, NOTES, "CREATE TABLE notes (a)")
    migrated = dump(path)

    aside = path.with_name(ASIDE)
    assert files(path) == [path.name, aside.name]
    assert (version_of(path), version_of(aside)) == (NOW + 1, NOW)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT note FROM runs").fetchall() == [("",)]
    monkeypatch.undo()
    assert dump(aside) == migrated
    assert migrated["observations"] == {"u": [an_outcome("a", "passed", 1001.0)]}


def test_what_was_put_aside_before_stays(path, monkeypatch):
    record(path, a_run("u"), [])
    path.with_name(ASIDE).write_text("of last year")
    next_version(monkeypatch, NOTES)
    dump(path)
    again = path.with_name(f"ledger.sqlite.schema-{NOW}.2.bak")
    assert files(path) == [path.name, again.name, ASIDE]
    assert path.with_name(ASIDE).read_text() == "of last year"
    assert version_of(again) == NOW


def test_a_migrated_file_is_not_put_aside_again(path, monkeypatch):
    record(path, a_run("u"), [])
    next_version(monkeypatch, NOTES)
    dump(path)
    path.with_name(ASIDE).unlink()
    dump(path)
    assert files(path) == [path.name]


def test_a_migration_that_fails_leaves_the_file_as_it_was(path, monkeypatch):
    record(path, a_run("u"), [an_outcome("a", "passed", 1001.0)])
    before = path.read_bytes()
    next_version(monkeypatch, NOTES, "UPDATE no_such_table SET a = 1")
    with pytest.raises(LedgerError, match="no such table") as caught:
        SqliteStore.open(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert path.read_bytes() == before
    # Nor does it leave a copy at every try.
    assert files(path) == [path.name]

    next_version(monkeypatch, NOTES)
    assert [run.uid for run in dump(path)["runs"]] == ["u"]


def test_an_older_file_is_not_migrated_without_a_copy_aside(path, monkeypatch):
    record(path, a_run("u"), [])
    before = path.read_bytes()
    monkeypatch.setattr(opening, "_free", lambda *_: path.parent / "no folder" / ASIDE)
    next_version(monkeypatch, NOTES)
    with pytest.raises(LedgerError) as caught:
        SqliteStore.open(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert path.read_bytes() == before


# Suspects.


def suspicion(path, uid, labels, started):
    record(path, a_run(uid, started), [an_outcome(one, "suspect", started + 1) for one in labels])


def test_what_the_next_run_is_told_of_suspects(path):
    suspicion(path, "u1", "ab", 1000.0)
    with opened(path) as store:
        history = store.history(verdicts=True)
    assert history.suspect == {"cpu": {"t": ["a", "b"]}}
    assert (history.failing, history.alone, history.verdicts) == ({}, {}, {})
    # Each alone: one is told, and the other was tried in vain.
    record(path, a_run("u2", 2000.0), [an_outcome("a", "failed", 2001.0)])
    record(path, a_run("u3", 3000.0), [an_outcome("b", "skipped", 3001.0)])
    with opened(path) as store:
        history = store.history(verdicts=True)
    assert history.failing == history.alone == {"cpu": {"t": ["a"]}}
    assert history.suspect == {}
    assert history.verdicts == {"cpu": {"t": {"a": 2001.0}}}
    # Failing beside others says nothing of being alone.
    record(path, a_run("u4", 4000.0), [an_outcome(one, "failed", 4001.0) for one in "ab"])
    with opened(path) as store:
        assert store.history(verdicts=False).alone == {}


def test_who_never_was_a_suspect_is_not_taken_alone(path):
    record(path, a_run("u1"), [an_outcome("a", "failed", 1001.0)])
    with opened(path) as store:
        assert store.history(verdicts=False).alone == {}


def test_a_suspicion_is_merged_like_any_other(path, tmp_path):
    record(path, a_run("u1"), [an_outcome("a", "passed", 1001.0)])
    other = tmp_path / "other.sqlite"
    suspicion(other, "u2", "ab", 2000.0)
    one_way, other_way = tmp_path / "one.sqlite", tmp_path / "two.sqlite"
    for target, sources in ((one_way, (path, other)), (other_way, (other, path, other))):
        with opened(target) as store:
            for source in sources:
                with opened(source) as left:
                    store.merge(left, KEEP_ALL)
            verdicts = {one.cell.label: one.verdict.outcome for one in store.cells()}
            assert verdicts == {"a": "suspect", "b": "suspect"}
    assert dump(one_way) == dump(other_way)
