"""Runs against a baseline, beside marks and options of pytest's, other plugins, and samples."""

from __future__ import annotations

from contextlib import closing

import pytest
from failing_suites import ENDING, GREEN, REASON, RED, SHAPES, count, told

from dtype_sampler.ledger.sqlite import SqliteStore

# Marks and options of pytest's.


def test_marks_for_expected_failures_have_their_say_first(suite):
    suite.write(
        """
@pytest.mark.xfail(reason="as told")
@pytest.mark.random_dtypes("d", ABCD, k=4)
def test_it(d): boom(d)
@pytest.mark.xfail(False, reason="not here")
@pytest.mark.random_dtypes("d", ABCD, k=4)
def test_off(d): boom(d)
@pytest.mark.xfail(raises=TypeError)
@pytest.mark.random_dtypes("d", ABCD[:1], k=4)
def test_raises(d): raise ValueError
"""
    )
    suite.key = "test_it.py::test_it"
    (suite.path / "how.json").write_text("{}")
    suite.baseline("-p", "no:skipping", b="V")
    result = suite.run("--dtype-baseline=base.sqlite", "-rx", b="V")
    assert result.ret == GREEN
    result.stdout.fnmatch_lines(
        ["XFAIL test_it.py::test_it?b? - as told", f"XFAIL test_it.py::test_off?b? - {REASON}"]
    )
    told(result, known=2)
    assert suite.last()["b"] == "xfailed"


def test_a_strict_mark_that_passes_is_a_failure_like_others(suite):
    suite.write(
        """
@pytest.mark.xfail(strict=True, reason="soon")
@pytest.mark.random_dtypes("d", ABCD, k=4)
def test_it(d):
    if d != HOW.get("good"): raise ValueError
"""
    )
    suite.key = "test_it.py::test_it"
    assert suite.baseline(good="b").ret == RED
    with closing(SqliteStore.open(suite.path / "base.sqlite")) as store:
        (one,) = store.known_failures()
        assert str(one.failure) == "XPASS(strict): soon"
    result = suite.run("--dtype-baseline=base.sqlite", good="b")
    assert result.ret == GREEN
    told(result, known=1)
    assert suite.run("--dtype-baseline=base.sqlite", good="c").ret == RED


@pytest.mark.parametrize("args", [["-x"], ["--maxfail=1"], ["-x", "-n1"], ["--sw"]], ids=" ".join)
def test_a_known_failure_stops_no_session(suite, args):
    suite.write(SHAPES["marker"], "def test_last(): pass")
    suite.baseline(b="V")
    result = suite.run("--dtype-baseline=base.sqlite", *args, b="V")
    assert result.ret == GREEN
    count(result, passed=4, xfailed=1)
    result = suite.run("--dtype-baseline=base.sqlite", *args, "--dtype-seed=1", b="V", c="V")
    assert result.ret != GREEN
    assert result.parseoutcomes()["failed"] == 1


@pytest.mark.parametrize("name", ["subtests", "subTest", "product"])
def test_a_known_subtest_stops_no_session(suite, name):
    suite.shape(name)
    suite.baseline(b="V")
    result = suite.run("--dtype-baseline=base.sqlite", "-x", b="V")
    assert result.ret == GREEN
    assert suite.last() == {"a": "passed", "b": "failed", "c": "passed", "d": "passed"}


def test_a_known_failure_is_no_last_failure(suite):
    suite.shape("marker")
    suite.baseline(b="V")
    suite.run("--dtype-baseline=base.sqlite", "--tb=no", b="V", c="V")
    result = suite.run("--dtype-baseline=base.sqlite", "--lf", "--tb=no", b="V", c="V")
    count(result, failed=1, xfailed=0)


@pytest.mark.parametrize("name", ["marker", "loop", "subtests", "subTest"])
def test_a_known_failure_is_not_tried_again(suite, name):
    suite.shape(name)
    suite.baseline(b="V")
    args = ("rerunfailures", "--reruns=2")
    result = suite.run("--dtype-baseline=base.sqlite", *args, b="V")
    assert result.ret == GREEN
    count(result, rerun=0)
    result = suite.run("--dtype-baseline=base.sqlite", *args, b="V", c="V")
    assert result.ret == RED
    # Of unittest's subtests, and of those of pytest-subtests, rerunfailures does not hear.
    unheard = name == "subTest" or (name == "subtests" and pytest.version_tuple < (9,))
    count(result, rerun=0 if unheard else 2)
    told(result, known=int(name not in ENDING), new=1)


def test_of_several_attempts_the_last_counts(suite):
    pytest.importorskip("pytest_rerunfailures")
    suite.write(
        """
TRIES = []
@pytest.mark.random_dtypes("d", ABCD, k=4)
def test_it(d):
    if d == "b":
        TRIES.append(d)
        raise ValueError if len(TRIES) > 1 and HOW.get("b") == "again" else TypeError
"""
    )
    suite.key = "test_it.py::test_it"
    suite.run("--tb=no", "rerunfailures", "--reruns=1", b="again")
    result = suite.run("--dtype-baseline=ledger", "rerunfailures", "--reruns=1", b="again")
    assert result.ret == GREEN
    count(result, rerun=1, xfailed=1)
    told(result, known=1)
    result = suite.run("--dtype-baseline=ledger", "rerunfailures", "--reruns=1", b="never")
    assert result.ret == RED


@pytest.mark.parametrize("last", ["", "def test_more(wide): pass\n"])
def test_fixtures_are_torn_down_beside_rerunfailures(suite, last):
    pytest.importorskip("pytest_rerunfailures")
    suite.write(
        """
@pytest.fixture(scope="module")
def wide():
    yield
    print("torn down")
@pytest.mark.random_dtypes("d", ["b"], k=4)
def test_it(wide, d): boom(d)
""",
        last,
    )
    suite.baseline(b="V")
    result = suite.run("--dtype-baseline=base.sqlite", "-s", "rerunfailures", "--reruns=1", b="V")
    assert result.ret == GREEN
    assert result.stdout.str().count("torn down") == 1


def test_hypothesis_finds_several(suite):
    pytest.importorskip("hypothesis")
    suite.write(
        """
from hypothesis import Phase, given, settings, strategies as st
@settings(database=None, deadline=None, derandomize=True, phases=[Phase.generate, Phase.shrink])
@given(st.integers(0, 3))
def test_it(place):
    boom(ask(k=4, dtypes=ABCD)[place])
"""
    )
    suite.key = "test_it.py::test_it"
    plugin = ("hypothesispytest",)
    suite.baseline(*plugin, b="V", c="T")
    args = ("--dtype-baseline=base.sqlite", *plugin)
    result = suite.run(*args, b="V", c="T")
    assert result.ret == GREEN
    told(result, known=2)
    assert suite.run(*args, b="V", c="T", d="V").ret == RED
    assert suite.run(*args, b="V", c="T", a="T").ret == RED
    assert suite.run(*args, b="S").ret == RED


# What runs.


def test_known_failures_are_not_run_on_top_of_every_sample(suite):
    suite.write(SHAPES["marker"].replace("k=4", "k=1"))
    suite.key = "test_it.py::test_it"
    suite.baseline("--all-dtypes", b="V")
    taken = []
    for number in range(4):
        args = ("--dtype-baseline=base.sqlite", f"--dtype-seed={number}")
        assert suite.run(*args, b="V").ret == GREEN
        taken.append(list(suite.last()))
    assert sorted(taken) == [["a"], ["b"], ["c"], ["d"]]
    # What is new is, and what is known fails in another way.
    first = next(label for (label,) in taken if label != "b")
    for how in ({"b": "V", first: "V"}, {"b": "T"}):
        failing = next(label for label in how if how[label] != "V" or label != "b")
        seed = taken.index([failing])
        result = suite.run("--dtype-baseline=base.sqlite", f"--dtype-seed={seed}", **how)
        assert result.ret == RED
        other = f"--dtype-seed={(seed + 1) % 4}"
        suite.run("--dtype-baseline=base.sqlite", other, "--tb=no", **how)
        assert failing in suite.last()
        suite.run("--dtype-baseline=base.sqlite", other, "--tb=no", b="V")


def test_with_its_own_ledger_too(suite):
    suite.write(SHAPES["marker"].replace("k=4", "k=1"))
    suite.key = "test_it.py::test_it"
    suite.run("--all-dtypes", "--tb=no", b="V")
    assert suite.run("--all-dtypes", "--dtype-baseline=ledger", b="V").ret == GREEN
    taken = []
    for number in range(4):
        suite.run("--dtype-baseline=ledger", f"--dtype-seed={number}", b="V")
        taken += suite.last()
    assert sorted(taken) == ["a", "b", "c", "d"]


def test_a_replay_line_fails_again(suite):
    suite.shape("marker")
    suite.baseline(b="V")
    suite.project.ini(dtype_sampler_baseline="ledger")
    result = suite.run(c="V", b="V")
    (line,) = [one for one in result.outlines if "this dtype only" in one and "[c]" in one]
    assert " --dtype-baseline=none" in line
    assert suite.run("--dtype-baseline=ledger", c="V", b="V").ret == GREEN
    words = line.partition("pytest ")[2].replace('"', "").split()
    assert suite.run(*words, c="V", b="V").ret == RED


def test_what_a_run_would_take_is_shown_as_it_is(suite):
    suite.write(SHAPES["marker"].replace("k=4", "k=1"))
    suite.run("--all-dtypes", "--tb=no", b="V")
    taken = []
    for number in range(4):
        args = ("--setup-plan", f"--dtype-seed={number}", "--dtype-baseline=ledger")
        result = suite.run(*args)
        result.stdout.fnmatch_lines(["*baseline=ledger (1 known to fail)"])
        taken += [line for line in result.outlines if "test_it.py::test_it[" in line]
    assert len(taken) == 4
