"""What a test came to with each of its dtypes, of all that was seen of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from observed import CHOSEN, SETUP, TEARDOWN, payload, seen

from dtype_sampler.ledger.outcomes import Cell, Observation, blamed, fold


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


def test_what_a_failure_is_put_down_to():
    assert blamed(seen("call", "failed", "abc", "b")) == (["b"], [])
    assert blamed(seen("call", "failed", "ab")) == ([], ["a", "b"])
    assert blamed(seen("call", "failed", "")) == ([], [])
