from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtype_sampler.ledger.outcomes import VERDICTS, Cell, Observation, Tally, fold

POOL = ("a", "b", "c", "d")
CHOSEN = ("a", "b", "c")


def payload(entered="", under_test="", unsupported=(), chosen=CHOSEN, declared=POOL):
    return {
        "samples": [
            {
                "key": "t",
                "device": "cpu",
                "declared": tuple(declared),
                "chosen": tuple(chosen),
                "unsupported": dict.fromkeys(unsupported, "refused"),
                "entered": tuple(entered),
            }
        ],
        "under_test": tuple(under_test),
        "nodeid": "t",
        "function": None,
    }


def seen(when, outcome, entered=None, under_test="", **kwargs):
    samples = None if entered is None else payload(entered, under_test)
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
    assert labels(observations) == dict.fromkeys("abc", "failed")


def test_a_failure_before_the_loop():
    observations = [SETUP, seen("call", "failed", ""), seen("teardown", "passed", "")]
    assert labels(observations) == dict.fromkeys("abc", "not-reached")


def test_a_failing_teardown_leaves_no_pass():
    observations = [SETUP, seen("call", "passed", "abc"), seen("teardown", "failed", "abc", "c")]
    assert labels(observations) == dict.fromkeys("abc", "failed")


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
    assert labels(observations) == dict.fromkeys("abc", "failed")


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


def test_a_crash_with_no_dtype_known():
    assert labels([SETUP, Observation("crash", "failed")]) == {}


def test_the_last_attempt_counts():
    first = [seen("setup", "passed", ""), seen("call", "rerun", "ab", "b"), TEARDOWN]
    second = [seen("setup", "passed", ""), seen("call", "passed", "abc"), TEARDOWN]
    assert labels(first) == {"a": "passed", "b": "failed", "c": "passed"}
    assert labels([*first, *second]) == dict.fromkeys("abc", "passed")


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
    final = sequence[-1].samples["samples"][0]["entered"] if sequence else ()
    for cell, outcome in folded.items():
        # What was not handed out has no verdict.
        if cell.label not in final:
            assert outcome == "not-reached"
    if sequence and sequence[-1].when == "teardown" and sequence[-1].outcome == "failed":
        assert "passed" not in folded.values()


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
        tally.add("t[a]", Observation("setup", "passed", samples=item))
        tally.add("t[a]", Observation("crash", "failed"))
        tally.add("loop", Observation("crash", "failed"))
        assert tally.cells()[Cell("t", "a", "cpu")] == "crashed"
        assert tally.crashed == {"t[a]": ("a",), "loop": ()}
        for when in ("setup", "call", "teardown"):
            tally.add("t[a]", Observation(when, "passed", samples=item))
        assert tally.cells()[Cell("t", "a", "cpu")] == "passed"

    def test_the_words_of_a_refusal(self):
        tally = Tally()
        tally.add("t", Observation("call", "passed", samples=payload("a", unsupported="b")))
        assert tally.unsupported == {("b", "cpu"): "refused"}
