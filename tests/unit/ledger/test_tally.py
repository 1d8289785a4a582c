"""What tests came to, report by report, in whichever order these arrive."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from observed import CHOSEN, POOL, SETUP, payload, seen

from dtype_sampler.ledger.outcomes import VERDICTS, Cell, Observation
from dtype_sampler.ledger.tally import Tally


class TestTally:
    def test_counts_every_declared_cell(self):
        tally = Tally()
        for observation in (
            SETUP,
            seen("call", "failed", "ab", "b"),
            seen("teardown", "passed", "ab", "b"),
        ):
            tally.add("t", observation)
        outcomes = {cell.label: outcome for cell, outcome in tally.cells().items()}
        assert outcomes == {"a": "passed", "b": "failed", "c": "not-reached", "d": None}
        assert sum(outcome in VERDICTS for outcome in outcomes.values()) == 2
        assert tally.used
        assert tally.labels == POOL
        assert tally.crashed == {}

    def test_cells_come_in_the_order_in_which_they_were_declared(self):
        """Each once, however often and beside which others it is declared again."""
        tally = Tally()
        for declared in ("ab", "cb", "ab", "da"):
            told = payload("a", chosen="a", declared=declared)
            tally.add("t", Observation("call", "passed", samples=told))
        assert [cell.label for cell in tally.cells()] == ["a", "b", "c", "d"]
        assert tally.labels == ("a", "b", "c", "d")
        assert tally.devices == {"cpu"}

    def test_a_sample_that_declares_nothing(self):
        tally = Tally()
        tally.add("t", Observation("call", "passed", samples=payload(chosen="", declared="")))
        assert not tally.used
        assert (tally.cells(), tally.labels, tally.devices) == ({}, (), frozenset())

    def test_what_marks_skip_takes_no_place(self):
        """But for what is in the sample all the same, as all of the test is."""
        tally = Tally()
        told = payload("a", chosen="ab")
        told["samples"][0]["skipped"] = {"b": "why", "c": "why"}
        tally.add("t", Observation("call", "passed", samples=told))
        tally.add("t", Observation("teardown", "passed", samples=told))
        assert tally.skipped_by_marks == 1
        assert tally.cells()[Cell("t", "c", "cpu")] == "skipped"

    def test_tests_without_dtypes_cost_nothing(self):
        tally = Tally()
        for when in ("setup", "call", "teardown"):
            tally.add("plain", Observation(when, "passed"))
        assert not tally.used
        assert tally.cells() == {}
        assert not tally._open

    def test_items_of_one_test_add_up(self):
        tally = Tally()
        for label in "ab":
            item = payload(label, label, chosen=label)
            for when in ("setup", "call", "teardown"):
                tally.add(f"t[{label}]", Observation(when, "passed", samples=item))
        outcomes = {cell.label: outcome for cell, outcome in tally.cells().items()}
        assert outcomes == {"a": "passed", "b": "passed", "c": None, "d": None}

    def test_a_test_that_is_still_running(self):
        tally = Tally()
        tally.add("t", Observation("setup", "passed", samples=payload("a", "a")))
        assert tally.cells()[Cell("t", "a", "cpu")] == "not-reached"

    def test_a_crash_and_another_worker(self):
        tally = Tally()
        item = payload("a", "a", chosen="a")
        tally.add("t[a]", Observation("setup", "passed", samples=item, worker="gw0"))
        tally.add("t[a]", Observation("crash", "failed", worker="gw0"))
        tally.add("loop", Observation("crash", "failed", worker="gw1"))
        assert tally.cells()[Cell("t", "a", "cpu")] == "crashed"
        assert tally.crashed == {"t[a]": ("a",), "loop": ()}
        for when in ("setup", "call", "teardown"):
            finished = tally.add("t[a]", Observation(when, "passed", samples=item, worker="gw2"))
        # A pass undoes no crash, in the tally or in what the books are told next.
        assert tally.cells()[Cell("t", "a", "cpu")] == "crashed"
        assert finished.cells == {Cell("t", "a", "cpu"): "crashed"}

    def test_what_a_test_did_not_come_to(self):
        tally = Tally()
        end = seen("teardown", "passed", "ab", "b")
        for nodeid, outcome in (("stopped", "failed"), ("skipped", "skipped"), ("left", "passed")):
            key = payload("ab", "b")
            key |= {"samples": [{**key["samples"][0], "key": nodeid}], "nodeid": nodeid}
            call = Observation("call", outcome, samples=key)
            for observation in (SETUP, call, end._replace(samples=key)):
                tally.add(nodeid, observation)
        for when in ("setup", "call", "teardown"):
            item = payload("a", "a", chosen="a")
            tally.add("done", Observation(when, "passed", samples=item))
        assert tally.hidden == {
            "stopped": (("b",), ("c",)),
            "skipped": (("b",), ("c",)),
            "left": ((), ("c",)),
        }

    def test_what_another_item_of_the_test_came_to_is_not_hidden(self):
        tally = Tally()
        for nodeid, entered in (("one", "a"), ("other", "abc")):
            for when in ("setup", "call", "teardown"):
                tally.add(nodeid, Observation(when, "passed", samples=payload(entered)))
        assert tally.hidden == {}

    def test_the_words_of_a_refusal(self):
        tally = Tally()
        tally.add("t", Observation("call", "passed", samples=payload("a", unsupported="b")))
        assert tally.unsupported == {("b", "cpu"): "refused"}


def attempt(number, *, failing="", rerun=False, execution=1, worker="", subtests=True):
    """The reports of one attempt at a loop over a, b and c, as pytest-rerunfailures sends them."""
    more = {"execution": execution, "attempt": number}
    reports = [
        seen("call", "failed", CHOSEN[: place + 1], label, more=more, subtest=True)
        for place, label in enumerate(CHOSEN)
        if label in failing and subtests
    ]
    reports.append(seen("setup", "passed", "", more=more))
    last = failing if not subtests else ""
    entered = CHOSEN[: CHOSEN.index(last) + 1] if last else CHOSEN
    outcome = "failed" if last else "passed"
    reports.append(seen("call", outcome, entered, last, more=more, rerun=rerun))
    reports.append(seen("teardown", "passed", entered, last, more=more))
    return [report._replace(worker=worker) for report in reports]


SCENES = {
    "a retry passes": (
        [attempt(1, failing="b", rerun=True), attempt(2)],
        dict.fromkeys("abc", "passed"),
    ),
    "a retry fails elsewhere": (
        [attempt(1, failing="b", rerun=True, subtests=False), attempt(2, failing="c")],
        {"a": "passed", "b": "passed", "c": "failed"},
    ),
    "three attempts": (
        [attempt(1, failing="a", rerun=True), attempt(2, failing="b", rerun=True), attempt(3)],
        dict.fromkeys("abc", "passed"),
    ),
    "the last of three fails": (
        [attempt(1, rerun=True), attempt(2, rerun=True), attempt(3, failing="b", subtests=False)],
        {"a": "passed", "b": "failed", "c": "not-reached"},
    ),
    "a retry that never came": (
        [attempt(1, failing="b", rerun=True)],
        {"a": "passed", "b": "failed", "c": "passed"},
    ),
    "attempts of which nobody said that they are reruns": (
        [attempt(1, failing="b"), attempt(2)],
        {"a": "passed", "b": "failed", "c": "passed"},
    ),
    "--keep-duplicates": (
        [attempt(1, failing="b", execution=1), attempt(1, execution=2)],
        {"a": "passed", "b": "failed", "c": "passed"},
    ),
    "--dist each": (
        [attempt(1, failing="b", worker="gw0"), attempt(1, worker="gw1")],
        {"a": "passed", "b": "failed", "c": "passed"},
    ),
    "reruns in each of two workers": (
        [
            attempt(1, failing="a", rerun=True, worker="gw0"),
            attempt(2, worker="gw0"),
            attempt(1, failing="c", rerun=True, worker="gw1"),
            attempt(2, failing="b", worker="gw1"),
        ],
        {"a": "passed", "b": "failed", "c": "passed"},
    ),
    "a crash in the second attempt, and another worker": (
        [
            attempt(1, failing="a", rerun=True, worker="gw0"),
            [
                Observation(
                    "crash",
                    "rerun",
                    samples=payload("abc", "c", execution=1, attempt=2, phase="call"),
                    worker="gw0",
                )
            ],
            attempt(1, worker="gw2"),
        ],
        {"a": "passed", "b": "passed", "c": "crashed"},
    ),
}


class TestArrival:
    @pytest.mark.parametrize("scene", SCENES)
    @settings(deadline=None, max_examples=40)
    @given(data=st.data())
    def test_the_order_of_arrival_does_not_matter(self, scene, data):
        streams, outcomes = SCENES[scene]
        left = [list(stream) for stream in streams]
        tally, books = Tally(), {}
        while any(left):
            stream = data.draw(st.sampled_from([stream for stream in left if stream]))
            finished = tally.add("t", stream.pop(0))
            if finished is not None:
                books.update(finished.cells)
        before = tally.cells()
        for finished in tally.close():
            books.update(finished.cells)
        assert {cell.label: said for cell, said in books.items()} == outcomes
        # What the terminal shows is what the books have, before the end and after it.
        assert before == tally.cells() == {**dict.fromkeys(before), **books}

    def test_nothing_is_kept_of_what_has_ended(self):
        tally = Tally()
        for number in range(3):
            for report in (*attempt(1, failing="b", rerun=True), *attempt(2)):
                tally.add(f"t{number}", report)
        assert not tally._open
        assert not tally._retried

    def test_what_was_interrupted_is_not_lost(self):
        tally = Tally()
        assert tally.add("t", seen("call", "failed", "ab", "b", subtest=True)) is None
        (finished,) = tally.close()
        assert finished.nodeid == "t"
        assert finished.cells[Cell("t", "b", "cpu")] == "failed"
        assert finished.cells[Cell("t", "a", "cpu")] == "not-reached"

    def test_reports_without_a_payload(self):
        tally = Tally()
        assert tally.add("t", Observation("call", "failed")) is None
        assert tally.add("t", Observation("crash", "failed", worker="gw0")) is None
        assert (tally.cells(), tally.close()) == ({}, [])
        tally.add("t", seen("setup", "passed", "ab"))
        # Of a plugin that makes reports of its own: it failed, and nobody knows with which.
        tally.add("t", Observation("call", "failed"))
        tally.add("t", seen("teardown", "passed", "ab"))
        assert tally.cells()[Cell("t", "a", "cpu")] == "suspect"

    def test_items_that_share_a_cell_say_the_heavier(self):
        tally = Tally()
        for nodeid, outcome in (("t[1]", "failed"), ("t[2]", "passed")):
            for when in ("setup", "call", "teardown"):
                said = outcome if when == "call" else "passed"
                finished = tally.add(nodeid, seen(when, said, "a", "a", more={"chosen": "a"}))
        assert finished.cells == {Cell("t", "a", "cpu"): "failed"}


def test_a_test_whose_report_is_lost_is_forgotten_with_the_attempt_that_was_to_be_repeated():
    tally = Tally()
    for report in attempt(1, failing="b", rerun=True):
        tally.add("t", report)
    tally.drop("t")
    assert tally.close() == []
    assert set(tally.cells().values()) == {None}
