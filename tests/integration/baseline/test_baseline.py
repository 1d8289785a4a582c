"""Runs against a baseline: what is known to fail is expected, and nothing new is hidden by it."""

from __future__ import annotations

import shutil
import xml.etree.ElementTree as ET

import pytest
from failing_suites import ENDING, GREEN, LEDGER, REASON, RED, SHAPES, count, told
from test_verdicts import ledger, needs_subtests, verdicts

from dtype_sampler.session import controller, expected


@pytest.mark.parametrize("name", SHAPES)
def test_what_is_known_is_expected_and_the_books_stay_true(suite, name):
    suite.shape(name)
    assert suite.baseline(b="V").ret == RED
    result = suite.run("--dtype-baseline=base.sqlite", "-rx", "--junitxml=x.xml", b="V")
    assert result.ret == GREEN
    told(result, known=1)
    count(result, failed=0, errors=0)
    result.stdout.fnmatch_lines([f"*XFAIL*test_it* - {REASON}"])
    cases = ET.parse(suite.path / "x.xml").iter("skipped")
    assert all(case.get("type") == "pytest.xfail" for case in cases)
    assert "known to fail: since run 1, " in (suite.path / "x.xml").read_text()
    # It has failed, and is told so, whatever pytest was told.
    assert suite.last() == {"a": "passed", "b": "failed", "c": "passed", "d": "passed"}
    assert verdicts(suite.project, suite.key)["b"] == "failed"


@pytest.mark.parametrize("name", SHAPES)
def test_beside_what_is_known_what_is_new_fails(suite, name):
    suite.shape(name)
    suite.run("--tb=no", b="V")
    suite.baseline(b="V", c="T")
    for new in "ad":
        result = suite.run("--dtype-baseline=base.sqlite", b="V", c="T", **{new: "V"})
        assert result.ret == RED
        last = suite.last()
        assert last[new] == "failed"
        if name in ENDING:
            # In front of those that are known.
            told(result, known=0, new=1)
            assert last["b"] == last["c"] == "not-reached"
        else:
            told(result, known=2, new=1)
            assert last["b"] == last["c"] == "failed"
        (suite.path / LEDGER).unlink()


def test_in_workers(suite):
    """All of it at once: workers take some seconds to begin."""
    pytest.importorskip("xdist")
    needs_subtests()
    numbered = {name: f"test_{number}" for number, name in enumerate(SHAPES)}
    sources: list[str] = []
    for name, number in numbered.items():
        source = SHAPES[name].replace("test_it", number)
        sources.append(source.replace("TestIt", f"Test{number}").replace("drawn", f"for_{number}"))
    suite.write(*sources)
    suite.baseline("-n1", b="V")
    args = ("--dtype-baseline=base.sqlite", "-rx", "-n2")
    result = suite.run(*args, "--junitxml=x.xml", b="V")
    assert result.ret == GREEN
    told(result, known=len(SHAPES))
    for number in numbered.values():
        result.stdout.fnmatch_lines([f"*XFAIL*::{number}* - {REASON}"])
    assert "known to fail: since run 1, " in (suite.path / "x.xml").read_text()
    result = suite.run(*args, b="V", c="V")
    assert result.ret == RED
    told(result, known=len(SHAPES) - len(ENDING), new=len(SHAPES))


@pytest.mark.parametrize("name", SHAPES)
def test_another_type_is_new(suite, name):
    suite.shape(name)
    suite.baseline(b="V")
    for how in ("T", "S"):
        result = suite.run("--dtype-baseline=base.sqlite", b=how)
        assert result.ret == RED, how
        told(result, new=1)
        assert suite.last()["b"] == "failed"


@pytest.mark.parametrize("name", SHAPES)
def test_what_is_known_and_passes_is_mended(suite, name):
    suite.shape(name)
    suite.run("--tb=no", b="V", c="V")
    # A loop that fails ends there: the other one is known from the second run on.
    result = suite.run("--dtype-baseline=ledger", b="V", c="V")
    assert result.ret == (RED if name in ENDING else GREEN)
    result = suite.run("--dtype-baseline=ledger", c="V")
    assert result.ret == GREEN
    told(result, known=1, mended=1)
    assert f"dtype-sampler: mended: {suite.key} with b" in result.outlines
    # From there on it is known no more.
    result = suite.run("--dtype-baseline=ledger", c="V")
    told(result, known=1)
    result = suite.run("--dtype-baseline=ledger", b="V", c="V")
    assert result.ret == RED
    assert suite.last()["b"] == "failed"


def test_a_list_can_be_strict(suite):
    suite.shape("marker")
    suite.baseline(b="V", c="V")
    args = ("--dtype-baseline=base.sqlite", "--dtype-fail-on-mended")
    assert suite.run(*args, b="V", c="V").ret == GREEN
    result = suite.run(*args, b="V")
    assert result.ret == RED
    count(result, failed=0)
    told(result, known=1, mended=1)
    assert "ERROR: --dtype-fail-on-mended: 1 cell known to fail passed" in result.outlines
    suite.project.ini(dtype_sampler_fail_on_mended="true", dtype_sampler_baseline="base.sqlite")
    assert suite.run(b="V").ret == RED
    # A run that compares nothing is no place for it, and says nothing.
    assert suite.run("--dtype-baseline=none", "--dtype-only=c").ret == GREEN


# Loops that end.


def test_a_loop_that_a_known_failure_ends_hides_only_what_is_known_too(suite):
    suite.shape("loop")
    suite.run("--tb=no", b="V")
    suite.run("--tb=no", b="V", d="V")
    # What was hidden first.
    assert suite.last() == {"a": "not-reached", "b": "not-reached", "c": "passed", "d": "failed"}
    result = suite.run("--dtype-baseline=ledger", b="V", d="V")
    assert result.ret == GREEN
    # What waits longest for a verdict, of those that are known.
    assert suite.last() == {"a": "passed", "b": "failed", "c": "passed", "d": "not-reached"}
    result.stdout.fnmatch_lines(["dtype-sampler: test_it.py::test_it: hidden behind b: d"])
    for _ in range(2):
        suite.run("--dtype-baseline=ledger", b="V", d="V")
    assert [run["d"] for run in ledger(suite.project, suite.key)[-2:]] == ["failed", "not-reached"]


@pytest.mark.parametrize("args", [["--all-dtypes"], ["--dtype-only=b,a,d,c"], ["randomly"]])
@pytest.mark.parametrize("name", ["loop", "shared", "marker"])
def test_whatever_is_asked_for_what_is_known_comes_last(suite, name, args):
    suite.shape(name)
    suite.baseline(b="V")
    result = suite.run("--dtype-baseline=base.sqlite", *args, b="V")
    assert result.ret == GREEN
    assert suite.last() == {"a": "passed", "b": "failed", "c": "passed", "d": "passed"}
    result = suite.run("--dtype-baseline=base.sqlite", *args, b="V", d="V")
    assert result.ret == RED
    assert suite.last()["d"] == "failed"


def test_known_failures_of_a_baseline_take_turns_too(suite):
    suite.shape("loop")
    suite.baseline("--dtype-only=b", b="V", c="V")
    shutil.move(suite.path / "base.sqlite", suite.path / LEDGER)
    suite.baseline("--dtype-only=c", b="V", c="V")
    reached = []
    for _ in range(4):
        assert suite.run("--dtype-baseline=base.sqlite", b="V", c="V").ret == GREEN
        reached += [label for label, outcome in suite.last().items() if outcome == "failed"]
    assert sorted(reached) == ["b", "b", "c", "c"]


# What can't be known.


def test_one_of_several_is_never_known(suite):
    suite.write("def test_it():\n    for d in list(ask(k=4, dtypes=ABCD)): boom(d)\n")
    suite.key = "test_it.py::test_it"
    suite.baseline("--dtype-only=b", b="V")
    result = suite.run("--dtype-baseline=base.sqlite", b="V")
    assert result.ret == RED
    assert suite.last() == dict.fromkeys("abcd", "suspect")
    told(result, new=1)
    # One at a time it can be told.
    for _ in range(4):
        result = suite.run("--dtype-baseline=base.sqlite", b="V")
        assert result.ret == GREEN
    assert verdicts(suite.project, suite.key)["b"] == "failed"


@pytest.mark.parametrize("scope", ["function", "module"])
def test_what_fails_after_the_loop_is_of_none(suite, scope):
    suite.write(
        f"""
@pytest.fixture(scope={scope!r})
def late():
    yield
    boom("b", "teardown")
def test_it(random_dtypes, late):
    for d in random_dtypes(k=4, dtypes=ABCD): boom(d)
"""
    )
    suite.key = "test_it.py::test_it"
    suite.baseline(b="V teardown")
    assert suite.run("--dtype-baseline=base.sqlite", b="V teardown").ret == RED


def test_a_crash_is_new(suite):
    pytest.importorskip("xdist")
    suite.shape("marker")
    suite.baseline(b="V")
    result = suite.run("--dtype-baseline=base.sqlite", "-n1", b="crash")
    assert result.ret == RED
    told(result, new=1)
    (suite.path / LEDGER).unlink()
    # Nor is it known by another crash.
    suite.run("-n1", "--tb=no", b="crash")
    result = suite.run("--dtype-baseline=ledger", "-n1", b="crash")
    assert result.ret == RED
    told(result, new=1)
    result = suite.run("--dtype-baseline=ledger", b="V")
    assert result.ret == RED


PHASES = """
@pytest.fixture(autouse=True)
def around(sampled):
    boom(sampled, "setup")
    yield
    boom(sampled, "teardown")
@pytest.mark.parametrize("sampled", ABCD)
def test_it(sampled): boom(sampled)
"""


@pytest.mark.parametrize("phase", ["setup", "teardown"])
@pytest.mark.parametrize("workers", [(), ("rerunfailures", "--reruns=1")], ids=["", "reruns"])
def test_errors_of_setup_and_teardown_are_known_as_such(suite, phase, workers):
    suite.write(PHASES)
    suite.key = "test_it.py::test_it"
    result = suite.baseline(b=f"V {phase}")
    count(result, errors=1)
    result = suite.run("--dtype-baseline=base.sqlite", *workers, b=f"V {phase}")
    assert result.ret == GREEN
    count(result, errors=0, failed=0, xfailed=1)
    told(result, known=1)
    assert suite.last()["b"] == "failed"
    # The same type elsewhere is another failure.
    for other in {"setup", "call", "teardown"} - {phase}:
        result = suite.run("--dtype-baseline=base.sqlite", *workers, b=f"V {other}")
        assert result.ret == RED, other
        told(result, new=1)


def test_a_known_failure_does_not_cover_for_its_teardown(suite):
    source = PHASES.replace('boom(sampled, "teardown")', "late(sampled)").replace(
        "@pytest.fixture",
        "def late(d):\n    if HOW.get('late') == d: raise OSError\n@pytest.fixture",
    )
    suite.write(source)
    suite.key = "test_it.py::test_it"
    suite.baseline(b="V")
    result = suite.run("--dtype-baseline=base.sqlite", b="V", late="b")
    assert result.ret == RED
    count(result, xfailed=1, errors=1)
    told(result, new=1)
    # Nor the other way round: both together are known once both were seen.
    suite.run("--tb=no", b="V", late="b")
    result = suite.run("--dtype-baseline=ledger", b="V", late="b")
    assert result.ret == GREEN
    told(result, known=1)
    assert suite.run("--dtype-baseline=ledger", b="T", late="b").ret == RED


def test_a_subtest_fails_in_two_ways(suite):
    needs_subtests()
    suite.write(
        """
def test_it(random_dtypes, subtests):
    for d in random_dtypes(k=4, dtypes=ABCD):
        with subtests.test(d=d, n=1): boom(d)
        with subtests.test(d=d, n=2): assert HOW.get("two") != d
"""
    )
    suite.key = "test_it.py::test_it"
    suite.baseline(b="V")
    assert suite.run("--dtype-baseline=base.sqlite", b="V", two="b").ret == RED
    suite.run("--tb=no", b="V", two="b")
    assert suite.run("--dtype-baseline=ledger", b="V", two="b").ret == GREEN
    assert suite.run("--dtype-baseline=ledger", b="V").ret == GREEN
    assert suite.run("--dtype-baseline=ledger", two="b").ret == RED, "it was not seen by itself"


def test_a_subtest_that_names_another_dtype_speaks_for_that(suite):
    """What is under test is known to fail; what the subtest names is not, and the reverse."""
    needs_subtests()
    suite.write(
        """
def test_it(random_dtypes, subtests):
    sample = random_dtypes(k=4, dtypes=ABCD)
    list(sample)
    for d in ABCD:
        with subtests.test(d=d): boom(d)
"""
    )
    suite.key = "test_it.py::test_it"
    suite.baseline(b="V")
    assert suite.run("--dtype-baseline=base.sqlite", b="V").ret == GREEN
    assert suite.run("--dtype-baseline=base.sqlite", b="V", c="V").ret == RED


def test_loops_within_loops_are_known_if_both_are(suite):
    suite.write(
        """
def test_it(random_dtypes):
    for d in random_dtypes(k=4, dtypes=ABCD):
        for e in random_dtypes(k=2, dtypes=["x", "y"]):
            if e in HOW.get(d, ""): raise ValueError
"""
    )
    suite.key = "test_it.py::test_it"
    suite.baseline("--dtype-only=b,x", b="x")
    args = ("--dtype-baseline=base.sqlite", "--dtype-only=b,x,y")
    assert suite.run(*args, b="x").ret == GREEN
    assert suite.run(*args, b="y").ret == RED


# Faults of ours.


@pytest.mark.parametrize("name", ["marker", "loop", "subtests", "subTest"])
@pytest.mark.parametrize("where", ["reason", "failure_in", "_subtest_that_asks", "look_again"])
def test_a_fault_of_ours_hides_no_failure(suite, monkeypatch, name, where):
    def fault(*_args, **_kwargs):
        raise ZeroDivisionError("injected")

    suite.shape(name)
    suite.baseline(b="V")
    monkeypatch.setattr(expected, where, fault)
    result = suite.run("--dtype-baseline=base.sqlite", b="V")
    if where == "look_again" and "sub" not in name:
        # Of subtests alone.
        assert result.ret == GREEN
        return
    assert "injected" in result.stdout.str()
    assert "INTERNALERROR" not in result.stdout.str()
    if where != "look_again":
        assert result.ret == RED


def test_a_fault_in_showing_leaves_the_rest(suite, monkeypatch):
    suite.shape("marker")
    suite.baseline(b="V")
    monkeypatch.setattr(controller, "compare", lambda *_: 1 / 0)
    result = suite.run("--dtype-baseline=base.sqlite", b="V")
    assert result.ret == GREEN
    result.stdout.fnmatch_lines(["dtype-sampler: fault in comparing with the baseline: *"])
    # But no list is strict that nobody has looked at.
    args = ("--dtype-baseline=base.sqlite", "--dtype-fail-on-mended")
    assert suite.run(*args, b="V").ret == RED


def test_each_hook_is_guarded():
    for name in ("pytest_runtest_makereport", "pytest_report_teststatus"):
        code = vars(expected.KnownFailures)[name].__code__
        assert code.co_qualname.split(".")[-1] == "guard"
