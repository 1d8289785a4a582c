"""Runs against a baseline: what is known to fail is expected, and nothing new is hidden by it."""

from __future__ import annotations

import json
import shutil
import sqlite3
import xml.etree.ElementTree as ET
from contextlib import closing
from pathlib import Path

import pytest
from test_verdicts import ledger, needs_subtests, verdicts

from dtype_sampler.commands.main import main
from dtype_sampler.ledger import schema
from dtype_sampler.ledger.sqlite import SqliteStore
from dtype_sampler.reports.ledger import data
from dtype_sampler.session import controller, expected

LEDGER = ".dtype-ledger.sqlite"
GREEN, RED = pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED
# `how.json` says of each dtype what it raises, and in which phase.
HEAD = """
import itertools, json, os, pathlib, pytest, unittest
from dtype_sampler import random_dtypes as ask

HOW = json.loads((pathlib.Path(__file__).parent / "how.json").read_text())
TYPES = {"V": ValueError, "T": TypeError, "S": type("Sub", (ValueError,), {})}
ABCD = [*"abcd"]

def boom(d, phase="call"):
    how = HOW.get(d, "")
    if how == "crash" and phase == "call":
        os._exit(3)
    if how.partition(" ")[0] in TYPES and (how.partition(" ")[2] or "call") == phase:
        raise TYPES[how[0]](f"no {d}\\n1234")
"""
SHAPES = {
    "loop": """
def test_it(random_dtypes):
    for d in random_dtypes(k=4, dtypes=ABCD): boom(d)
""",
    "subtests": """
def test_it(random_dtypes, subtests):
    for d in random_dtypes(k=4, dtypes=ABCD):
        with subtests.test(d=d): boom(d)
""",
    "subtests without a name": """
def test_it(random_dtypes, subtests):
    for d in random_dtypes(k=4, dtypes=ABCD):
        with subtests.test(): boom(d)
""",
    "product": """
def test_it(random_dtypes, subtests):
    for d, n in itertools.product(random_dtypes(k=4, dtypes=ABCD), [1, 2]):
        with subtests.test(d=d, n=n): boom(d)
""",
    "marker": """
@pytest.mark.random_dtypes("d", ABCD, k=4)
def test_it(d): boom(d)
""",
    "argument": """
@pytest.mark.parametrize("sampled", ABCD)
def test_it(sampled): boom(sampled)
""",
    "unittest": """
class TestIt(unittest.TestCase):
    def test_it(self):
        for d in ask(k=4, dtypes=ABCD): boom(d)
""",
    "subTest": """
class TestIt(unittest.TestCase):
    def test_it(self):
        for d in ask(k=4, dtypes=ABCD):
            with self.subTest(d=d): boom(d)
""",
    "subTest of all": """
class TestIt(unittest.TestCase):
    def test_it(self):
        for d in list(ask(k=4, dtypes=ABCD)):
            with self.subTest(d): boom(d)
""",
    "shared": """
@pytest.fixture(scope="module")
def drawn(random_dtypes): return random_dtypes(k=4, dtypes=ABCD)
def test_it(drawn):
    for d in drawn: boom(d)
""",
}
# In these a failure ends the test.
ENDING = {"loop", "unittest", "shared"}
REASON = "known to fail: since run 1, * second*"


class Suite:
    """A project whose tests fail as they are told."""

    def __init__(self, project):
        self.project = project
        self.path = project.pytester.path
        project.ini(dtype_sampler_argnames="sampled", dtype_sampler_k="4")

    def write(self, *sources):
        self.project.file("test_it", HEAD + "\n".join(sources))

    def shape(self, name):
        if "sub" in name or name == "product":
            needs_subtests()
        self.write(SHAPES[name])
        self.key = f"test_it.py::{'TestIt::' * ('TestIt' in SHAPES[name])}test_it"

    def run(self, *args, **how):
        (self.path / "how.json").write_text(json.dumps(how))
        return self.project.run(*args)

    def baseline(self, *args, **how):
        """Run, and put the ledger aside as a baseline."""
        result = self.run(*args, "--tb=no", **how)
        (self.path / LEDGER).rename(self.path / "base.sqlite")
        return result

    def last(self):
        return ledger(self.project, self.key)[-1]


@pytest.fixture
def suite(project):
    return Suite(project)


def told(result, known=0, new=0, mended=0):
    failures = "known failure" if known == 1 else "known failures"
    line = f"dtype-sampler: {known} {failures}, {new} new, {mended} mended"
    assert line in result.outlines, result.stdout.str()


def count(result, **expected):
    found = result.parseoutcomes()
    assert {name: found.get(name, 0) for name in expected} == expected, found


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


# Since when, and from where.


def git(pytester, *words):
    pytester.run("git", "-c", "user.name=x", "-c", "user.email=x@x", *words)


def test_since_the_first_failure_after_the_last_pass(suite):
    suite.shape("marker")
    git(suite.project.pytester, "init", "-q")
    git(suite.project.pytester, "commit", "-q", "--allow-empty", "-m", "x")
    for how in ({"b": "V"}, {}, {"b": "V"}, {"b": "T"}):
        suite.run("--tb=no", **how)
    head = suite.project.pytester.run("git", "rev-parse", "HEAD").outlines[0][:7]
    result = suite.run("--dtype-baseline=ledger", "-rx", b="T")
    words = f"known to fail: since run 3, * second*, commit {head}*"
    result.stdout.fnmatch_lines([f"XFAIL test_it.py::test_it?b? - {words}"])
    # Once runs are folded away, nobody knows of those before.
    suite.project.ini(dtype_sampler_ledger_runs="2")
    suite.run("--tb=no", b="T")
    result = suite.run("--dtype-baseline=ledger", "-rx", b="T")
    result.stdout.fnmatch_lines(["XFAIL *: since run 5 or before, *"])


@pytest.mark.parametrize(
    ("name", "how"),
    [
        *(("missing", "environment"), ("missing", "ini")),
        *((one, "line") for one in ("no ledger", "missing", "folder", "newer", "empty", "no file")),
    ],
)
def test_a_baseline_that_is_none_is_told_before_any_test_runs(suite, monkeypatch, name, how):
    suite.shape("marker")
    path = suite.path / "base.sqlite"
    expected = {
        "no ledger": "is no ledger (no SQLite file): name another, by --dtype-baseline of *",
        "missing": "there is no such file: name a ledger, or write ledger for the run's own",
        "folder": "is a folder: name a ledger, or write ledger for the run's own",
        "newer": f"was written by a newer dtype-sampler (schema {schema.VERSION + 1},*",
        "empty": "is empty, as no run has written to it: name a ledger, or write*",
        "no file": "is an empty file: name a ledger, or write ledger for the run's own",
    }[name]
    if name == "no ledger":
        path.write_text("known failures: none\n" * 20)
    elif name == "folder":
        path.mkdir()
    elif name == "no file":
        path.write_text("")
    elif name != "missing":
        SqliteStore.open(path, create=True).close()
    if name == "newer":
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    args, where = ["--dtype-baseline=base.sqlite"], "--dtype-baseline=base.sqlite"
    if how == "environment":
        args, where = [], "DTYPE_SAMPLER_BASELINE=base.sqlite"
        monkeypatch.setenv("DTYPE_SAMPLER_BASELINE", "base.sqlite")
    elif how == "ini":
        args, where = [], "dtype_sampler_baseline = base.sqlite (in the pytest configuration)"
        suite.project.ini(dtype_sampler_baseline="base.sqlite")
    before = path.read_bytes() if path.is_file() else None
    result = suite.run(*args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {where}: {path}: {expected}"])
    assert "Traceback" not in result.stderr.str() + result.stdout.str()
    assert (path.read_bytes() if path.is_file() else None) == before
    assert not (suite.path / LEDGER).exists()


@pytest.mark.parametrize("args", [["--collect-only"], ["--help"], ["--setup-plan"]])
def test_who_runs_no_test_is_not_told_of_it(suite, args):
    suite.shape("marker")
    result = suite.run("--dtype-baseline=missing.sqlite", *args)
    assert result.ret == GREEN
    assert "no such file" not in result.stdout.str() + result.stderr.str()


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


def test_wrong_settings(suite):
    suite.shape("marker")
    for args, message in (
        (["--dtype-baseline="], "--dtype-baseline=: it is empty: name a ledger,*"),
        (
            ["--dtype-baseline=ledger", "--no-dtype-ledger"],
            "--dtype-baseline=ledger: the run's own needs the ledger: leave out --no-dtype-ledger",
        ),
        (["--dtype-fail-on-mended"], "--dtype-fail-on-mended needs the list of what is known*"),
    ):
        result = suite.run(*args)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines([f"ERROR: {message}"])


def test_a_run_without_a_ledger_of_its_own_is_compared_too(suite):
    suite.shape("loop")
    suite.baseline(b="V")
    result = suite.run("--dtype-baseline=base.sqlite", "--no-dtype-ledger", b="V")
    assert result.ret == GREEN
    told(result, known=1)
    assert not (suite.path / LEDGER).exists()


def test_the_baseline_stays_as_it_is(suite):
    suite.shape("marker")
    suite.baseline(b="V")
    path = suite.path / "base.sqlite"
    before = path.read_bytes()
    path.chmod(0o400)
    suite.run("--dtype-baseline=base.sqlite", b="V")
    assert path.read_bytes() == before
    assert not list(suite.path.glob("base.sqlite?*"))


def test_of_an_older_ledger_nobody_knows_in_which_way_it_fails(suite):
    suite.shape("marker")
    suite.baseline(b="V")
    with closing(sqlite3.connect(suite.path / "base.sqlite")) as connection:
        connection.execute("DELETE FROM failures")
        connection.execute("DELETE FROM kinds")
        connection.commit()
    result = suite.run("--dtype-baseline=base.sqlite", b="V")
    assert result.ret == RED
    told(result, new=1)
    result.stdout.fnmatch_lines(
        ["dtype-sampler: of 1 failing cell the baseline does not say in which way it fails: *"]
    )


def test_a_baseline_of_another_device_is_told(suite):
    suite.shape("marker")
    suite.baseline(b="V")
    with closing(sqlite3.connect(suite.path / "base.sqlite")) as connection:
        connection.execute("UPDATE tests SET device = 'cuda'")
        connection.commit()
    result = suite.run("--dtype-baseline=base.sqlite", b="V")
    assert result.ret == RED
    told(result, new=1)
    line = "dtype-sampler: the baseline knows no failure on cpu, only on cuda"
    assert line in result.outlines


def test_the_header_says_what_is_compared(suite):
    suite.shape("marker")
    result = suite.run("--dtype-baseline=ledger")
    assert result.ret == GREEN
    result.stdout.fnmatch_lines(["dtype-sampler: *, baseline=ledger (nothing is known to fail)"])
    suite.baseline(b="V", c="V")
    result = suite.run("-q", "--dtype-baseline=base.sqlite")
    result.stdout.fnmatch_lines(["dtype-sampler: *, baseline=base.sqlite (2 known to fail)"])
    assert "baseline" not in suite.run("--dtype-baseline=none").stdout.str()


def test_a_path_that_is_the_runs_own_ledger_means_that(suite):
    suite.shape("marker")
    suite.run("--tb=no", b="V")
    assert suite.run(f"--dtype-baseline={LEDGER}", b="V").ret == GREEN
    assert suite.run(f"--dtype-baseline={LEDGER}").ret == GREEN
    assert suite.run(f"--dtype-baseline={LEDGER}", b="V").ret == RED


def test_what_is_kept_of_a_failure(suite):
    suite.write(
        """
class Odd(Exception):
    def __str__(self): raise RuntimeError
class Loud(Exception): pass
ERRORS = {
    "a": Odd(), "b": Loud("\\x1b[31mred\\x07\\ud800 " + "x" * 500),
    "c": ValueError("\\n\\n  first\\nsecond"),
    "d": BaseExceptionGroup("two", [TypeError("t"), ExceptionGroup("in", [Loud("l")])]),
}
@pytest.mark.random_dtypes("d", ABCD, k=4)
def test_it(d): raise ERRORS[d]
"""
    )
    suite.run("--tb=no")
    with closing(SqliteStore.open(suite.path / LEDGER)) as store:
        found = {one.cell.label: one.failure for one in store.known_failures()}
    assert found["a"] == (("test_it.Odd",), "")
    assert found["b"].types == ("test_it.Loud",)
    assert found["b"].message == ("[31mred \\ud800 " + "x" * 500)[:200]
    assert found["c"] == (("ValueError",), "first")
    assert found["d"] == (("TypeError", "test_it.Loud"), "t")
    assert suite.run("--dtype-baseline=ledger").ret == GREEN


def test_it_is_told_in_histories_and_reports(suite, capsys):
    suite.shape("marker")
    suite.run("--tb=no", b="V", c="T teardown")
    suite.run("--tb=no", b="T")
    suite.project.pytester.chdir()
    capsys.readouterr()
    assert main(["history", suite.key]) == 0
    newest, before = capsys.readouterr().out.splitlines()[1:3]
    assert newest.endswith(": a passed, b failed (TypeError: no b), c passed, d passed")
    assert "b failed (ValueError: no b)" in before
    assert main(["report"]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert lines[lines.index("failing: b") + 1] == "b: TypeError: no b"
    assert main(["report", "--format=markdown"]) == 0
    assert "failing: b; b: TypeError: no b |" in capsys.readouterr().out
    assert main(["report", "--format=json"]) == 0
    report = json.loads(capsys.readouterr().out)
    schema_path = Path(data.__file__).with_name("report.schema.json")
    pytest.importorskip("jsonschema").validate(report, json.loads(schema_path.read_text()))
    ways = {cell["label"]: cell["failure"] for cell in report["tests"][0]["cells"]}
    assert ways == {
        "a": None,
        "b": {"types": ["TypeError"], "message": "no b"},
        "c": None,
        "d": None,
    }
    assert main(["report", "--format=html"]) == 0
    assert "In which way" in capsys.readouterr().out


def test_reports_tell_what_is_known_as_the_run_did(suite, capsys, monkeypatch):
    suite.shape("marker")
    suite.baseline(b="V", c="V", d="V")
    step = suite.path / "step.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(step))
    options = "--dtype-baseline=base.sqlite", "-o", "dtype_sampler_step_summary=true"
    told(suite.run(*options, "--tb=no", b="V", c="T"), 1, 1, 1)
    assert "- this run against its baseline: 1 known failure, 1 new, 1 mended\n" in step.read_text()
    monkeypatch.delenv("GITHUB_STEP_SUMMARY")
    suite.project.pytester.chdir()
    (suite.path / "base.sqlite").chmod(0o400)

    def report(*args):
        capsys.readouterr()
        code = main(["report", *args])
        return code, *capsys.readouterr()

    _, plain, _ = report()
    code, shown, _ = report("--baseline=base.sqlite")
    assert code == 0
    lines = shown.splitlines()
    assert lines[0].endswith(", 2 failing (1 of them known)")
    assert lines[1] == "baseline base.sqlite: 1 known failure, 1 new, 1 mended"
    assert "         failing: c" in lines
    assert "           b: ValueError: no b; since run 1, " in shown
    assert not list(suite.path.glob("base.sqlite?*"))
    # As pytest takes it from the environment, and both can be told that there is none.
    monkeypatch.setenv("DTYPE_SAMPLER_BASELINE", "base.sqlite")
    assert report()[1].splitlines()[1] == lines[1]
    assert report("--baseline=none")[1].splitlines()[:1] == plain.splitlines()[:1]
    monkeypatch.setenv("DTYPE_SAMPLER_BASELINE", "gone.sqlite")
    code, _, err = report()
    assert (code, err.startswith("dtype-sampler: DTYPE_SAMPLER_BASELINE=gone.sqlite: ")) == (
        1,
        True,
    )
    monkeypatch.delenv("DTYPE_SAMPLER_BASELINE")
    for text, message in (
        ("", "--baseline=: it is empty: name a ledger"),
        ("https://x/y", "is nowhere that a ledger can be"),
        ("how.json", "--baseline=how.json: "),
        ("postgresql://u:hidden@h/d?x=1", "--baseline=postgresql://"),
    ):
        code, out, err = report(f"--baseline={text}")
        assert (code, out) == (1, "")
        assert message in err
        assert "hidden" not in err
    # It is not written over.
    code, _, err = report("--baseline=base.sqlite", "-o", "base.sqlite")
    assert (code, "is the ledger itself" in err) == (1, True)

    # The ledger's own: what it knew before each cell ran last, by name or by path.
    told(suite.run("--dtype-baseline=ledger", "--tb=no", b="V", c="V"), 1, 1)
    for name in ("ledger", LEDGER):
        _, shown, _ = report(f"--baseline={name}")
        assert shown.splitlines()[1] == f"baseline {name}: 1 known failure, 1 new"

    # A gate is for what is covered, and says so.
    suite.run("--dtype-ledger=part.sqlite", "--dtype-only=a,b")
    part = "--ledger=part.sqlite", "--fail-under=100"
    code, _, err = report(*part, "--baseline=base.sqlite")
    assert code == 2
    assert "50.00 % of the cells are covered (what fails is covered, known or not), which" in err
    assert "known" not in report(*part)[2]


def test_the_list_of_known_failures(suite, capsys):
    suite.write(SHAPES["marker"], SHAPES["loop"].replace("test_it", "test_loop"))
    suite.run("--tb=no", b="V", d="T")
    suite.project.pytester.chdir()

    def command(*args):
        capsys.readouterr()
        code = main(["known-failures", *args])
        return code, capsys.readouterr()

    code, shown = command()
    lines = [line.rpartition(", ")[0] or line for line in shown.out.splitlines()]
    assert (code, lines) == (
        0,
        [
            "test_it.py::test_it (cpu)",
            "  b: ValueError: no b; since run 1",
            "  d: TypeError: no d; since run 1",
            "test_it.py::test_loop (cpu)",
            "  b: ValueError: no b; since run 1",
            "3 known failures of 2 tests",
        ],
    )
    code, shown = command("--format=nodeids")
    assert shown.out.splitlines() == [
        "test_it.py::test_it[b]",
        "test_it.py::test_it[d]",
        "test_it.py::test_loop",
    ]
    code, shown = command("--format=json", "--tests=*loop", "--device=cpu", "-o", "known.json")
    (one,) = json.loads((suite.path / "known.json").read_text())["known_failures"]
    assert (one["key"], one["label"], one["types"]) == (
        "test_it.py::test_loop",
        "b",
        ["ValueError"],
    )
    assert (one["since"]["run"], one["since"]["exact"], one["message"]) == (1, True, "no b")
    assert command("--device=cuda")[1].out == "0 known failures of 0 tests\n"
    # Against a list that was kept.
    shutil.copyfile(suite.path / LEDGER, suite.path / "base.sqlite")
    args = ("--baseline=base.sqlite", "--fail-on-mended")
    assert command(*args)[0] == 0
    suite.run("--tb=no", b="V")
    code, shown = command(*args)
    assert code == 2
    assert "; mended" in shown.out
    assert shown.out.splitlines()[-1] == "3 known failures of 2 tests, 1 mended"
    assert shown.err == "dtype-sampler: 1 of the known failures passes by now\n"
    assert command("--baseline=base.sqlite")[0] == 0
    assert command("--fail-on-mended")[0] == 1
    code, shown = command("--baseline=nothing.sqlite")
    assert code == 1
    assert shown.err.startswith("dtype-sampler: nothing.sqlite: there is no such file: name ")
    # What that message offers.
    for word in ("ledger", "none"):
        code, shown = command(f"--baseline={word}", "--fail-on-mended")
        assert (code, shown.out.splitlines()[-1]) == (0, command()[1].out.splitlines()[-1])
    code, shown = command("--baseline= ")
    assert (code, shown.err.startswith("dtype-sampler: --baseline= : it is empty")) == (1, True)
