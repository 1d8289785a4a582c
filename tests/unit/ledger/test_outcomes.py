from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtype_sampler.ledger.outcomes import VERDICTS, Cell, Observation, blamed, fold
from dtype_sampler.ledger.tally import Tally

POOL = ("a", "b", "c", "d")
CHOSEN = ("a", "b", "c")


def payload(
    entered="", under_test="", unsupported=(), chosen=CHOSEN, declared=POOL, function=None, **more
):
    return {
        "samples": [
            {
                "key": "t",
                "device": "cpu",
                "declared": tuple(declared),
                "chosen": tuple(chosen),
                "unsupported": dict.fromkeys(unsupported, "refused"),
                "together": tuple(chosen),
                "entered": tuple(entered),
            }
        ],
        "under_test": tuple(under_test),
        "nodeid": "t",
        "function": function,
        **more,
    }


def seen(when, outcome, entered=None, under_test="", more=(), **kwargs):
    samples = None if entered is None else payload(entered, under_test, **dict(more))
    return Observation(when, outcome, samples=samples, **kwargs)


SETUP = seen("setup", "passed")
TEARDOWN = seen("teardown", "passed", "abc")


def labels(observations):
    return {cell.label: outcome for cell, outcome in fold(observations).items()}


def test_a_test_without_dtypes():
    assert fold([SETUP, seen("call", "passed"), seen("teardown", "passed")]) == {}
    assert fold([]) == {}


def test_all_pass():
    observations = [SETUP, seen("call", "passed", "abc"), TEARDOWN]
    assert labels(observations) == dict.fromkeys("abc", "passed")
    assert set(fold(observations)) == {Cell("t", label, "cpu") for label in "abc"}


@pytest.mark.parametrize(
    ("entered", "outcomes"),
    [
        ("a", {"a": "failed", "b": "not-reached", "c": "not-reached"}),
        ("ab", {"a": "passed", "b": "failed", "c": "not-reached"}),
        ("abc", {"a": "passed", "b": "passed", "c": "failed"}),
    ],
)
def test_a_failure_is_the_dtype_under_tests(entered, outcomes):
    observations = [
        SETUP,
        seen("call", "failed", entered, entered[-1]),
        seen("teardown", "passed", entered, entered[-1]),
    ]
    assert labels(observations) == outcomes


def test_a_failure_after_the_loop_leaves_no_pass():
    observations = [SETUP, seen("call", "failed", "abc"), TEARDOWN]
    assert labels(observations) == dict.fromkeys("abc", "suspect")


def test_a_failure_after_a_loop_over_one_dtype_is_its_failure():
    for when in ("call", "teardown"):
        observations = [SETUP, seen("call", "passed", "b"), seen(when, "failed", "b")]
        assert labels(observations) == {"a": "not-reached", "b": "failed", "c": "not-reached"}


def test_a_failure_before_the_loop():
    observations = [SETUP, seen("call", "failed", ""), seen("teardown", "passed", "")]
    assert labels(observations) == dict.fromkeys("abc", "not-reached")


def test_a_failing_teardown_leaves_no_pass():
    observations = [SETUP, seen("call", "passed", "abc"), seen("teardown", "failed", "abc", "c")]
    assert labels(observations) == dict.fromkeys("abc", "suspect")


def test_a_failing_teardown_of_an_item_is_its_dtypes_failure():
    item = payload("ab", "a", function="t")
    observations = [Observation(when, "passed", samples=item) for when in ("setup", "call")]
    observations.append(Observation("teardown", "failed", samples=item))
    assert labels(observations) == {"a": "failed", "b": "suspect", "c": "not-reached"}


def test_a_failure_of_an_item_after_its_own_loop_is_the_items():
    failed = Observation("call", "failed", samples=payload("ab", "a", function="t"))
    assert labels([failed]) == {"a": "failed", "b": "passed", "c": "not-reached"}


def test_failing_subtests():
    # The test's own report says "passed".
    observations = [
        SETUP,
        seen("call", "failed", "a", "a", subtest=True),
        seen("call", "passed", "ab", "b", subtest=True),
        seen("call", "failed", "abc", "c", subtest=True),
        seen("call", "passed", "abc"),
        TEARDOWN,
    ]
    assert labels(observations) == {"a": "failed", "b": "passed", "c": "failed"}


def test_skipped_and_xfailing_subtests():
    observations = [
        SETUP,
        seen("call", "skipped", "a", "a", subtest=True),
        seen("call", "skipped", "ab", "b", subtest=True, xfail=True),
        seen("call", "passed", "abc"),
        TEARDOWN,
    ]
    assert labels(observations) == {"a": "skipped", "b": "xfailed", "c": "passed"}


def test_a_failing_subtest_outside_the_loop():
    observations = [
        SETUP,
        seen("call", "failed", "abc", subtest=True),
        seen("call", "passed", "abc"),
        TEARDOWN,
    ]
    assert labels(observations) == dict.fromkeys("abc", "suspect")


@pytest.mark.parametrize(
    ("under_test", "named", "outcomes"),
    [
        # After product() has taken all of them, and in a loop.
        ("", "b", {"a": "passed", "b": "failed", "c": "passed"}),
        ("c", "c", {"a": "passed", "b": "passed", "c": "failed"}),
        ("c", "", {"a": "passed", "b": "passed", "c": "failed"}),
        # One of the names is another parameter's, which happens to be a candidate.
        ("c", "ac", {"a": "passed", "b": "passed", "c": "failed"}),
        ("", "ab", {"a": "suspect", "b": "suspect", "c": "passed"}),
        ("c", "a", {"a": "suspect", "b": "passed", "c": "suspect"}),
        # The one it names was not handed out.
        ("", "d", dict.fromkeys("abc", "suspect")),
    ],
)
@pytest.mark.parametrize("lost", [False, True])
def test_a_subtest_speaks_for_the_dtype_it_names(under_test, named, outcomes, lost):
    told = {"outcome": "failed", "xfail": False, "under_test": under_test, "named": [*named]}
    subtest = seen("call", "failed", "abc", under_test, more={"named": [*named]}, subtest=True)
    ends = [
        Observation(when, "passed", samples=payload("abc", subtests=[told]))
        for when in ("call", "teardown")
    ]
    assert labels([*([] if lost else [subtest]), *ends]) == outcomes


def test_a_subtest_of_two_samples_that_names_one_of_each():
    both = payload("ab", named=["a", "y"])
    both["samples"] += payload("xy", chosen="xy", declared="xy")["samples"]
    subtest = Observation("call", "failed", subtest=True, samples=both)
    observations = [subtest, Observation("call", "passed", samples=both)]
    assert labels(observations) == {
        "a": "failed",
        "b": "passed",
        "c": "not-reached",
        "x": "passed",
        "y": "failed",
    }


@pytest.mark.parametrize(
    ("outcome", "xfail", "said"),
    [("skipped", False, "skipped"), ("skipped", True, "xfailed")],
)
def test_skipping_and_expected_failures_within_the_loop(outcome, xfail, said):
    observations = [
        SETUP,
        seen("call", outcome, "ab", "b", xfail=xfail),
        seen("teardown", "passed", "ab", "b"),
    ]
    assert labels(observations) == {"a": "passed", "b": said, "c": "not-reached"}


def test_an_unexpected_pass():
    observations = [SETUP, seen("call", "passed", "abc", xfail=True), TEARDOWN]
    assert labels(observations) == dict.fromkeys("abc", "xpassed")


@pytest.mark.parametrize("rest", ["", "d"])
def test_an_unexpected_pass_speaks_for_no_subtest(rest):
    """The test's own report comes to that whatever its subtests have come to."""
    observations = [
        SETUP,
        seen("call", "skipped", "a", "a", subtest=True),
        seen("call", "skipped", "ab", "b", subtest=True, xfail=True),
        seen("call", "passed", "abc", "c", subtest=True, xfail=True),
        seen("call", "passed", f"abc{rest}", xfail=True),
        TEARDOWN,
    ]
    expected = {"a": "skipped", "b": "xfailed", "c": "xpassed", **dict.fromkeys(rest, "xpassed")}
    assert labels(observations) == expected


def test_loops_within_loops_fail_together():
    observations = [SETUP, seen("call", "failed", "abc", "ac"), seen("teardown", "passed", "abc")]
    assert labels(observations) == {"a": "failed", "b": "passed", "c": "failed"}


def test_unsupported():
    sample = payload("ac", "", unsupported="b", chosen="ac")
    observations = [
        SETUP,
        Observation("call", "passed", samples=sample),
        Observation("teardown", "passed", samples=sample),
    ]
    assert labels(observations) == {"a": "passed", "b": "unsupported", "c": "passed"}


def test_nothing_is_said_of_a_test_that_did_not_finish():
    assert labels([seen("setup", "passed", "a", "a")]) == {
        "a": "not-reached",
        "b": "not-reached",
        "c": "not-reached",
    }


def test_a_crash():
    item = payload("a", "a", chosen="a")
    observations = [Observation("setup", "passed", samples=item), Observation("crash", "failed")]
    assert labels(observations) == {"a": "crashed"}


@pytest.mark.parametrize(
    ("phase", "under_test", "outcomes"),
    [
        ("call", "b", {"a": "passed", "b": "crashed", "c": "not-reached"}),
        # A fixture's loop: the test itself never ran.
        ("setup", "b", {"a": "not-reached", "b": "crashed", "c": "not-reached"}),
        ("call", "", {"a": "suspect", "b": "suspect", "c": "not-reached"}),
        ("teardown", "b", {"a": "suspect", "b": "suspect", "c": "not-reached"}),
    ],
)
def test_a_crash_whose_process_left_word(phase, under_test, outcomes):
    words = payload("ab", under_test, phase=phase)
    assert labels([Observation("crash", "failed", samples=words)]) == outcomes


def test_a_crash_while_threads_have_different_labels_in_hand():
    words = payload("ab", "ab", phase="call")
    crash = Observation("crash", "failed", samples={**words, "apart": True})
    assert labels([crash]) == {"a": "suspect", "b": "suspect", "c": "not-reached"}


def test_a_crash_that_is_expected():
    words = payload("ab", "b", phase="call")
    crash = Observation("crash", "skipped", xfail=True, samples=words)
    assert labels([crash]) == {"a": "passed", "b": "xfailed", "c": "not-reached"}


def test_a_crash_in_a_loop_that_left_no_word():
    # The test had gone on to b when it was heard of last.
    subtest = seen("call", "failed", "a", "a", subtest=True)
    again = seen("call", "passed", "ab", "b", subtest=True)
    outcomes = labels([subtest, again, Observation("crash", "failed")])
    assert outcomes == {"a": "failed", "b": "suspect", "c": "suspect"}


def test_a_crash_with_no_dtype_known():
    assert labels([SETUP, Observation("crash", "failed")]) == {}


observations = st.builds(
    lambda when, outcome, xfail, subtest, entered, depth: Observation(
        when,
        outcome,
        xfail,
        subtest and when == "call",
        payload(CHOSEN[:entered], CHOSEN[max(0, entered - depth) : entered]),
    ),
    st.sampled_from(["setup", "call", "teardown", "crash"]),
    st.sampled_from(["passed", "failed", "skipped", "rerun"]),
    st.booleans(),
    st.booleans(),
    st.integers(0, 3),
    st.integers(0, 2),
)


@given(st.lists(observations, max_size=6))
def test_laws(sequence):
    folded = fold(sequence)
    assert all(cell.label in CHOSEN for cell in folded)
    handed_out = (one.samples["samples"][0]["entered"] for one in sequence)
    final = max(handed_out, key=len, default=())
    for cell, outcome in folded.items():
        # What was not handed out has no verdict.
        if cell.label not in final:
            assert outcome == "not-reached"
    last = sequence[-1] if sequence else None
    # A teardown knows all that was handed out: what a test says only grows.
    if last and last.when == "teardown" and last.samples["samples"][0]["entered"] == final:
        assert last.outcome != "failed" or "passed" not in folded.values()
    if any(one.outcome in ("failed", "rerun") for one in sequence) and final:
        # Whoever it was, it is not lost.
        failing = [one for one in sequence if one.outcome in ("failed", "rerun")]
        if any(one.samples["samples"][0]["entered"] for one in failing):
            assert not {"failed", "crashed", "suspect", "xfailed"}.isdisjoint(folded.values())


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


def test_what_a_failure_is_put_down_to():
    assert blamed(seen("call", "failed", "abc", "b")) == (["b"], [])
    assert blamed(seen("call", "failed", "ab")) == ([], ["a", "b"])
    assert blamed(seen("call", "failed", "")) == ([], [])
