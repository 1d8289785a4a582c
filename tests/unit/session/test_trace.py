"""What a dead process leaves, without any process."""

from __future__ import annotations

import os
import tempfile
from functools import partial

import pytest

from dtype_sampler.sampling.plan import RunPlan
from dtype_sampler.session.current import running
from dtype_sampler.session.running import RunningTest, running_test
from dtype_sampler.session.trace import Trace

ITEM = "t.py::test@group"


@pytest.fixture
def trace(tmp_path):
    with tempfile.TemporaryFile(buffering=0) as file:
        yield Trace(file)


def a_test(trace, execution=1):
    plan = RunPlan(1, "given", reseed=False)
    note = partial(trace.note, ITEM)
    test = RunningTest(plan, "t.py::test", full=True, execution=execution, note=note)
    test.begin_attempt()
    return test


def under_test(trace):
    words = trace.last_words(ITEM)
    return None if words is None else (words["under_test"], words["samples"][-1]["entered"])


def test_every_step_is_there_at_once(trace):
    test = a_test(trace)
    with running(test):
        sample = test.sample(None, ["a", "b" * 5000, "ü\udcff\n"], (), (), None)
        assert trace.last_words(ITEM) is None
        entered = []
        for label in sample:
            entered.append(label)
            assert under_test(trace) == ((label,), entered)
        assert under_test(trace) == ((), entered)
        # Further passes: shorter and longer lines over one another.
        for label in (*sample, *reversed(sample)):
            sample[list(sample).index(label)]
            assert under_test(trace) == ((label,), entered)


def test_the_payload_is_the_reports(trace):
    test = a_test(trace, execution=7)
    with running(test):
        test.begin_attempt()
        test.enter_phase("call")
        assert trace.last_words(ITEM) is None
        next(iter(test.sample(None, ["a", "b"], (), (), None)))
        words = trace.last_words(ITEM)
        assert (words["execution"], words["attempt"], words["phase"]) == (7, 2, "call")
        assert set(words) == {*test.to_wire(), "phase"}
        test.enter_phase("teardown")
        assert trace.last_words(ITEM)["phase"] == "teardown"


def test_another_items_words_are_not_told(trace):
    test = a_test(trace)
    with running(test):
        next(iter(test.sample(None, ["a"], (), (), None)))
    assert trace.last_words("t.py::other") is None
    trace.clear()
    assert trace.last_words(ITEM) is None


def test_a_fixture_that_is_set_up_is_told_with_the_test(trace):
    test = a_test(trace)
    with running(test), test.setting_up("t.py::fixture", None):
        for _ in running_test().sample(None, ["a", "b"], (), (), None):
            words = trace.last_words(ITEM)
            assert words["samples"][-1]["key"] == "t.py::fixture"
            assert len(words["under_test"]) == 1


def test_a_file_that_cant_be_written_fails_no_test(trace):
    test = a_test(trace)
    os.close(trace._file.fileno())
    try:
        with running(test):
            assert list(test.sample(None, ["a", "b"], (), (), None)) == ["a", "b"]
        assert trace.last_words(ITEM) is None
        trace.clear()
    finally:
        # The number is free: give it back to the file that closes it.
        os.dup2(os.open(os.devnull, os.O_RDWR), trace._file.fileno())


@pytest.mark.parametrize(
    "left", [b"", b"\n", b"{}\n", b"{}\n[]\n", b"[1]\n2\n", b"{\n\n", b"\xff\n\n"]
)
def test_what_cant_be_read_is_nothing(trace, left):
    trace._file.write(left)
    assert trace.last_words(ITEM) is None


def test_a_sample_tells_what_its_subtests_name():
    test = RunningTest(RunPlan(1, "given", reseed=False), "t", full=True)
    test.begin_attempt()

    class Odd:
        def __str__(self):
            return "odd"

        def __repr__(self):
            raise ValueError

    test.sample(None, ["a", "torch.float16", 1, Odd()], (), (), None)
    for parameters, named in (
        (["a"], ["a"]),
        (["'a'"], ["a"]),
        ([1], ["1"]),
        (["1", 2], ["1"]),
        (["float16"], ["torch.float16"]),
        (["'float16'"], ["torch.float16"]),
        (["odd"], ["odd"]),
        # Shown like all of its kind, as far as it can be shown.
        ([Odd()], ["odd"]),
        (["b", None, 2.0], []),
        (["a", "'torch.float16'"], ["a", "torch.float16"]),
    ):
        assert test.named_by(parameters) == named, parameters
