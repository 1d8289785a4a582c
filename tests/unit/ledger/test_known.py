"""In which way something failed, and what of it is known."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtype_sampler.ledger.failures import CRASH, LONGEST, Failure, failure_of, failure_without
from dtype_sampler.ledger.outcomes import Cell, Observation, failures
from dtype_sampler.ledger.records import KnownFailure, RunRecord
from dtype_sampler.ledger.tally import Tally
from dtype_sampler.reports.words import since
from dtype_sampler.sampling.plan import RunPlan
from dtype_sampler.session.known import Known, compare, known_from, reason

VALUE, TYPE = Failure(("ValueError",), "no"), Failure(("TypeError",), "no")
DAY = 86400.0


def a_known(label, failure=VALUE, *, key="t", device="cpu", number=12, exact=True, commit=""):
    run = RunRecord("u", 1000.0, 1, "given", "rotate", number=number, commit=commit)
    return KnownFailure(Cell(key, label, device), f"{key}[{label}]", failure, run, exact)


def a_plan(*known, own=(), failing=None):
    found = known_from(known, own, failing or {}, now=1000.0 + 41 * DAY)
    plan = RunPlan(1, "given", known=found.cells, known_as=found.ways, vague=found.vague)
    assert RunPlan.from_wire(plan.to_wire()) == plan
    return plan


def a_payload(*entered, hand=(), key="t", function=None, chosen="abcd", **more):
    sample = {
        "key": key,
        "device": "cpu",
        "declared": tuple(chosen),
        "chosen": tuple(chosen),
        "together": tuple(chosen),
        "unsupported": {},
        "entered": entered,
    }
    return {
        "samples": [sample],
        "under_test": tuple(hand),
        "function": function,
        "nodeid": key,
        "attempt": 1,
        **more,
    }


def failed(*entered, hand=(), failure=VALUE, when="call", **more):
    payload = a_payload(*entered, hand=hand, **more)
    return Observation(when, "failed", samples=payload, failure=failure)


# In which way.


class OddError(Exception):
    def __str__(self):
        raise KeyError


def named(name, module="m"):
    return type(name, (Exception,), {"__module__": module})("x")


@pytest.mark.parametrize(
    ("error", "types", "message"),
    [
        (ValueError("one\ntwo"), ("ValueError",), "one"),
        (KeyError("k"), ("KeyError",), "'k'"),
        (ValueError("\n \n  late"), ("ValueError",), "late"),
        (AssertionError(), ("AssertionError",), ""),
        (OddError(), (f"{__name__}.OddError",), ""),
        (named("a b\x1b"), ("m.ab",), "x"),
        (named("Main", "__main__"), ("Main",), "x"),
        (named("\n", "builtins"), ("?",), "x"),
        (ValueError("x" * 1000), ("ValueError",), "x" * LONGEST),
        (ValueError("a\x1b[31mb\x07\ud800"), ("ValueError",), "a [31mb \\ud800"),
        (
            ExceptionGroup("g", [TypeError("t"), ExceptionGroup("h", [ValueError("v")])]),
            ("TypeError", "ValueError"),
            "t",
        ),
    ],
)
def test_the_types_and_the_first_line(error, types, message):
    assert failure_of(error) == (types, message)
    behind = failure_of(error, "teardown")
    assert behind == (tuple(f"{one} in teardown" for one in types), message)
    assert not behind.like(failure_of(error))


def test_what_raised_nothing():
    assert failure_without("[XPASS(strict)] soon") == (("XPASS(strict)",), "soon")
    assert failure_without("contains 1 failed\nx") == (("failed",), "contains 1 failed")
    assert failure_without("", "setup") == (("failed in setup",), "")


def test_several_ways():
    both = VALUE.beside(TYPE)
    assert both == (("TypeError", "ValueError"), "no")
    assert VALUE.beside(None) == VALUE
    assert VALUE.like(both)
    assert not both.like(VALUE)
    assert both.like(both)
    assert not Failure(()).like(both)
    assert (str(both), str(CRASH)) == ("TypeError + ValueError: no", "crashed")
    assert Failure.of(both.kind, both.message) == both


# No class of Python's may have a zero byte in its name.
names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)


@settings(deadline=None, derandomize=True)
@given(st.lists(st.tuples(names, names), min_size=1, max_size=4), names)
def test_whatever_classes_are_called_the_text_tells_them_apart(some, message):
    errors = [type(name, (Exception,), {"__module__": module})() for module, name in some if name]
    failure = failure_of(ExceptionGroup("g", errors) if errors else ValueError(message))
    assert Failure.of(failure.kind, failure.message) == failure
    assert str(failure).isprintable()
    assert len(failure.message) <= LONGEST


# What is known.


def test_since_when():
    now = 1000.0 + 41 * DAY
    assert (
        since(a_known("a", commit="abc1234567+"), now) == "since run 12, 41 days, commit abc1234+"
    )
    assert since(a_known("a", exact=False), now) == "since run 12 or before, 41 days"
    assert "\x1b" not in since(a_known("a", commit="\x1b[31m"), now)


def test_a_failure_is_known_if_all_its_cells_are_in_that_way():
    plan = a_plan(a_known("a"), a_known("b"), a_known("c", TYPE), a_known("d", None))
    words = "since run 12, 41 days"
    assert plan.vague == 1
    assert reason(plan, failed("a", hand="a")) == words
    # Loops within loops.
    assert reason(plan, failed("a", "b", hand="ab")) == words
    assert reason(plan, failed("a", "c", hand="ac")) is None
    for label in "cde":
        assert reason(plan, failed(label, hand=label)) is None
    assert reason(plan, failed("a", hand="a", failure=TYPE)) is None
    assert reason(plan, failed("a", hand="a", failure=VALUE.beside(TYPE))) is None
    assert reason(plan, failed("a", hand="a", failure=None)) is None
    assert reason(plan, failed("a", hand="a", key="other")) is None
    # One of several, or nobody's.
    assert reason(plan, failed("a", "b")) is None
    assert reason(plan, failed("a", "b", hand="a", when="teardown")) is None
    assert reason(plan, failed()) is None
    assert reason(plan, Observation("call", "failed", failure=VALUE)) is None
    # Of one alone it can be told.
    assert reason(plan, failed("a")) == words
    assert reason(a_plan(), failed("a", hand="a")) is None


def test_several_runs_are_told_each_once():
    plan = a_plan(a_known("a"), a_known("b", number=7), a_known("c"))
    told = reason(plan, failed("a", "b", "c", hand="abc"))
    assert told == "since run 12, 41 days; since run 7, 41 days"


def test_what_was_not_seen_to_fail_for_longest_comes_first():
    failing = {"cpu": {"t": ["c", "a", "x"]}}
    plan = a_plan(*map(a_known, "abcd"), failing=failing)
    assert [*plan.known["cpu"]["t"]] == ["b", "d", "c", "a"]


def test_what_fails_as_is_known_is_not_run_again_in_every_run():
    own = [a_known("a"), a_known("b", TYPE), a_known("c", None)]
    failing = {"cpu": {"t": ["a", "b", "c", "e"]}, "cuda": {"t": ["a"]}}
    known = known_from(map(a_known, "abcd"), own, failing, now=0.0)
    assert known.without(failing) == {"cpu": {"t": ["b", "c", "e"]}, "cuda": {"t": ["a"]}}
    assert Known().without(failing) is failing
    only = known_from([a_known("a")], [a_known("a")], {}, now=0.0)
    assert only.without({"cpu": {"t": ["a"]}}) == {"cpu": {}}


def test_the_numbers_of_a_run():
    plan = a_plan(*(a_known(label, key=key) for label in "ab" for key in "tuvw"))
    tally = Tally()

    def test(key, *entered, hand=(), outcome="failed", failure=VALUE, function="f", when="call"):
        payload = a_payload(*entered, hand=hand, key=key, function=function)
        one = Observation(when, outcome, samples=payload, failure=failure)
        for observation in (one, Observation("teardown", "passed", samples=payload)):
            tally.add(f"{key}[{hand}]", observation)

    test("t", "a", hand="a")
    test("t", "c", hand="c")
    test("u", "a", hand="a", failure=TYPE)
    test("u", "b", hand="b", outcome="passed", failure=None)
    test("u", "d", hand="d", outcome="passed", failure=None)
    test("v", "a", "b", function=None)
    test("w", "a", hand="a", failure=None)
    test("w", "b", hand="b", outcome="skipped", failure=None)
    found = compare(plan, tally)
    assert [cell[:2] for cell in found.known] == [("t", "a")]
    assert [cell[:2] for cell in found.new] == [("t", "c"), ("u", "a"), ("w", "a")]
    assert [*found.suspect] == [("v", "cpu")]
    assert [cell[:2] for cell in found.mended] == [("u", "b")]
    assert found.line == "1 known failure, 4 new, 1 mended"


def test_one_of_several_that_were_expected_to_fail_is_no_failure():
    payload = a_payload("a", "b")
    tally = Tally()
    tally.add("t", Observation("call", "skipped", xfail=True, samples=payload))
    finished = tally.add("t", Observation("teardown", "passed", samples=payload))
    assert {*finished.cells.values()} >= {"suspect"}
    assert compare(a_plan(a_known("a")), tally).suspect == ()


def test_without_any_sample_no_cell_has_failed():
    assert failures([Observation("call", "failed")]) == {}


def test_what_several_phases_say_of_a_cell_is_all_of_it():
    tally = Tally()
    payload = a_payload("a", hand="a", function="f")
    tally.add("t", Observation("call", "failed", samples=payload, failure=VALUE))
    late = failure_of(OSError("x"), "teardown")
    finished = tally.add("t", Observation("teardown", "failed", samples=payload, failure=late))
    both = Failure(("OSError in teardown", "ValueError"), "no")
    assert finished.failures == {Cell("t", "a", "cpu"): both} == tally.failures
    # Where a part of it is not known, nothing is.
    again = Tally()
    again.add("t", Observation("call", "failed", samples=payload, failure=None))
    finished = again.add("t", Observation("teardown", "failed", samples=payload, failure=late))
    assert finished.failures == {Cell("t", "a", "cpu"): None}


def test_of_attempts_that_are_repeated_the_last_one_says_how():
    tally = Tally()
    for attempt, failure in ((1, VALUE), (2, TYPE)):
        payload = a_payload("a", hand="a", function="f") | {"attempt": attempt}
        rerun = attempt == 1
        tally.add("t", Observation("call", "failed", samples=payload, failure=failure, rerun=rerun))
        finished = tally.add("t", Observation("teardown", "passed", samples=payload))
    assert finished.failures == {Cell("t", "a", "cpu"): TYPE} == tally.failures


def test_a_crash_is_a_way_of_its_own():
    tally = Tally()
    payload = a_payload("a", hand="a", function="f", phase="call")
    finished = tally.add("t", Observation("crash", "failed", samples=payload, failure=VALUE))
    assert finished.failures == {Cell("t", "a", "cpu"): CRASH}
