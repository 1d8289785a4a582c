"""`pytest_dtype_sampler_outcome`: others hear of each cell once, and can do no harm."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import FrozenInstanceError, asdict, fields

import pytest

from dtype_sampler import CellOutcome
from dtype_sampler.ledger.sqlite import SqliteStore
from dtype_sampler.paths import DEFAULT_LEDGER
from dtype_sampler.session import telling

SUITE = """
import pytest

@pytest.mark.random_dtypes("dtype", [*"ab", pytest.param("c", marks=pytest.mark.skip)], k=3)
def test_items(dtype):
    assert dtype == "a", "no good"

def test_loop(random_dtypes):
    for d in random_dtypes(dtypes=[*"pqr"], k=3):
        if d == "q":
            raise OSError("gone")

def test_plain(): pass
"""
HEARD = """
import dataclasses, json, os, pathlib

def pytest_dtype_sampler_outcome(config, outcome):
    told = dataclasses.asdict(outcome)
    told["process"] = "worker" if hasattr(config, "workerinput") else "controller"
    with open("heard.jsonl", "a") as file:
        file.write(json.dumps(told) + "\\n")
"""
ARGS = ("--dtype-seed=3", "--all-dtypes")
# Test name and label -> outcome, failure.
EXPECTED = {
    ("test_items", "a"): ("passed", None, None),
    ("test_items", "b"): ("failed", "AssertionError", "no good"),
    ("test_items", "c"): ("skipped", None, None),
    ("test_loop", "p"): ("passed", None, None),
    ("test_loop", "q"): ("failed", "OSError", "gone"),
    ("test_loop", "r"): ("not-reached", None, None),
}


@pytest.fixture
def heard(project):
    """What the hook was told since this was asked last."""
    project.pytester.makeconftest(HEARD)
    path = project.pytester.path / "heard.jsonl"

    def heard():
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return [json.loads(line) for line in lines]

    return heard


def by_cell(told):
    found = {(one["key"].partition("::")[2], one["label"]): one for one in told}
    assert len(found) == len(told), "a cell was told twice"
    return found


def said(told):
    return {
        cell: (one["outcome"], one["failure_kind"], (one["failure_message"] or "").split("\n")[0])
        for cell, one in by_cell(told).items()
    }


def matches(told):
    expected = {cell: (what, kind, text or "") for cell, (what, kind, text) in EXPECTED.items()}
    found = said(told)
    # pytest adds what it knows of the assertion, depending on its version.
    return {
        cell: (what, kind, text.removeprefix("AssertionError: "))
        for cell, (what, kind, text) in found.items()
    } == expected


def test_each_cell_once_with_what_the_ledger_knows(project, heard):
    project.file("test_it", SUITE)
    project.run(*ARGS)
    told = heard()
    assert matches(told), said(told)
    with closing(SqliteStore.open(project.pytester.path / DEFAULT_LEDGER)) as store:
        (run,) = store.runs()
        known = {(o.cell.key, o.cell.label): o for o in store.observations(run.uid)}
    assert len(known) == len(told)
    for one in told:
        there = known[one["key"], one["label"]]
        assert (one["nodeid"], one["outcome"]) == (there.nodeid, there.outcome)
        if one["outcome"] != "skipped":  # which each item says again
            # The ledger keeps milliseconds.
            assert one["observed_at"] == pytest.approx(there.at, abs=0.01)
            assert one["duration"] == pytest.approx(there.duration, abs=0.01)
        assert (one["run"], one["run_number"], one["seed"]) == (run.uid, 1, 3)
        assert (one["device"], one["strategy"], one["attempt"]) == ("cpu", "all", 1)
        assert (one["worker"], one["process"]) == (None, "controller")
    assert by_cell(told)["test_items", "c"]["nodeid"] == ""
    assert by_cell(told)["test_items", "b"]["nodeid"] == "test_it.py::test_items[b]"


def test_without_a_ledger(project, heard):
    project.file("test_it", SUITE)
    project.run(*ARGS, "--no-dtype-ledger")
    told = heard()
    assert matches(told)
    assert {(one["run"], one["run_number"]) for one in told} == {(None, None)}
    assert not (project.pytester.path / DEFAULT_LEDGER).exists()


def test_under_xdist_the_controller_alone_is_told(project, heard):
    project.file("test_it", SUITE)
    project.run_process("-n2", *ARGS)
    told = heard()
    assert matches(told)
    assert {one["process"] for one in told} == {"controller"}
    ran = {one["worker"] for one in told}
    assert ran <= {"gw0", "gw1"}
    assert ran


def test_the_last_attempt_is_told_and_none_that_is_retried(project, heard):
    project.file(
        "test_it",
        """
        tries = []
        def test_flaky(random_dtypes):
            tries.append(1)
            for d in random_dtypes(dtypes=[*"ab"], k=2):
                assert len(tries) > 2 or d == "a"
        """,
    )
    project.run("rerunfailures", "--reruns=3", "--dtype-seed=0")
    told = heard()
    assert {cell: what for cell, (what, _, _) in said(told).items()} == {
        ("test_flaky", "a"): "passed",
        ("test_flaky", "b"): "passed",
    }
    assert {one["attempt"] for one in told} == {3}


def test_what_never_ended_is_told_at_the_end(project, heard):
    """Ctrl-C in the middle of a test: what it came to is all there will be."""
    project.file(
        "test_it",
        """
        def test_loop(random_dtypes):
            for d in random_dtypes(dtypes=[*"ab"], k=2, always=["a"]):
                pass
        def test_stops(random_dtypes):
            for d in random_dtypes(dtypes=[*"xy"], k=2): pass
            raise KeyboardInterrupt
        """,
    )
    # In a process of its own, which it ends.
    project.run_process("--dtype-seed=0")
    cells = by_cell(heard())
    with closing(SqliteStore.open(project.pytester.path / DEFAULT_LEDGER)) as store:
        (run,) = store.runs()
        known = {(o.cell.key.partition("::")[2], o.cell.label) for o in store.observations(run.uid)}
    assert set(cells) == known
    assert {cells["test_loop", label]["outcome"] for label in "ab"} == {"passed"}


class TestHooksThatRaise:
    """It is told whose fault it is; no test, no cell and no exit code hears of it."""

    def runs_as_without(self, project, raising, *args):
        project.file("test_it", SUITE)
        project.pytester.makeconftest(
            f"import pytest\ndef pytest_dtype_sampler_outcome(config, outcome):\n    {raising}\n"
        )
        result = project.run(*ARGS, *args)
        assert result.ret == pytest.ExitCode.TESTS_FAILED
        result.assert_outcomes(passed=2, failed=2, skipped=1)
        with closing(SqliteStore.open(project.pytester.path / DEFAULT_LEDGER)) as store:
            assert len(store.observations(store.runs()[-1].uid)) == len(EXPECTED)
        assert "fault in" not in result.stdout.str()
        return result

    def test_any_exception(self, project):
        raising = """
        if outcome.label == "a": raise pytest.UsageError("wrong")
        if outcome.label == "b": pytest.fail("this")
        if outcome.label == "c": pytest.skip("that")
        if outcome.label == "p": raise SystemExit("no postgresql://u:s3cret@h/x")
        if outcome.label == "q": raise __import__("asyncio").CancelledError("late")
        1 / 0
        """
        result = self.runs_as_without(project, raising, "-rs", "--tb=no")
        for line, error in enumerate(
            [
                "raised UsageError: wrong",
                "raised Failed: this",
                "raised Skipped: that",
                "raised SystemExit: no postgresql://u:***@h/x",
                "raised CancelledError: late",
                "raised ZeroDivisionError: division by zero",
            ],
            4,
        ):
            assert (
                f"dtype-sampler: pytest_dtype_sampler_outcome: conftest.py:{line} {error};"
                " the run and its ledger are as they would be without it"
            ) in result.outlines

    def test_with_a_gate_and_a_traceback(self, project):
        """A gate is about the ledger, which lacks nothing."""
        text = self.runs_as_without(project, "json.loads('{')", "-vv", "--dtype-fail-under=1")
        assert "NameError: name 'json' is not defined" in text.stdout.str()
        assert 'conftest.py", line 3, in pytest_dtype_sampler_outcome' in text.stdout.str()
        assert "can't be told" not in text.stdout.str()

    def test_without_a_terminal(self, project):
        project.file("test_it", SUITE)
        project.pytester.makeconftest(
            "def pytest_dtype_sampler_outcome(config, outcome):\n    1 / 0\n"
        )
        result = project.run(*ARGS, "-p", "no:terminal")
        result.stderr.fnmatch_lines("*pytest_dtype_sampler_outcome: conftest.py:2 raised 6 times*")

    def test_one_that_ends_the_session_on_purpose(self, project):
        project.file("test_it", SUITE)
        project.pytester.makeconftest(
            "import pytest\n"
            "def pytest_dtype_sampler_outcome(config, outcome):\n"
            "    pytest.exit('enough', returncode=7)\n"
        )
        result = project.run(*ARGS)
        assert result.ret == 7
        with closing(SqliteStore.open(project.pytester.path / DEFAULT_LEDGER)) as store:
            # The one whose end was told is in the books.
            seen = store.observations(store.runs()[-1].uid)
        assert {one.cell.label: one.outcome for one in seen} == {"a": "passed", "c": "skipped"}


def test_nothing_is_made_where_nobody_listens(project, monkeypatch):
    def made(**fields):
        raise AssertionError("nobody asked for it")

    monkeypatch.setattr(telling, "CellOutcome", made)
    project.file("test_it", SUITE)
    for args in ((), ("--no-dtype-ledger",)):
        result = project.run(*ARGS, *args)
        result.assert_outcomes(passed=2, failed=2, skipped=1)
        assert "AssertionError: nobody" not in result.stdout.str()


def test_a_misspelt_hook_is_pytests_matter(project):
    project.pytester.makeconftest("def pytest_dtype_sampler_outcomes(config, outcome): pass")
    result = project.run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR or "unknown hook" in result.stdout.str()


def test_the_record_is_frozen_and_only_grows():
    """What is here is a promise: add to the end, and change nothing."""
    told = [(field.name, field.type) for field in fields(CellOutcome)]
    assert told == [
        ("nodeid", "str"),
        ("key", "str"),
        ("label", "str"),
        ("device", "str"),
        ("outcome", "str"),
        ("duration", "float | None"),
        ("failure_kind", "str | None"),
        ("failure_message", "str | None"),
        ("observed_at", "float"),
        ("attempt", "int"),
        ("seed", "int"),
        ("strategy", "str"),
        ("worker", "str | None"),
        ("run", "str | None"),
        ("run_number", "int | None"),
    ]
    values = dict.fromkeys((field.name for field in fields(CellOutcome)), "")
    one = CellOutcome(**values)
    assert asdict(one) == values
    with pytest.raises(FrozenInstanceError):
        one.outcome = "passed"
