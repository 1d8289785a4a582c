"""Consecutive runs of tests that take all their dtypes at once: the books come to rest."""

from __future__ import annotations

import pytest
from test_verdicts import ledger, report, verdicts

KEY = "test_it.py::test"
# Each takes two of six; none is under test when one of them does not pass.
SUITES = {
    "one xfails": ("", "if d == 'b': pytest.xfail('as known')", {"b"}),
    "two xfail": ("", "if d in 'be': pytest.xfail('as known')", {*"be"}),
    "all xfail": ("", "pytest.xfail('as known')", {*"abcdef"}),
    "one fails as marked": ("@pytest.mark.xfail", "assert d != 'b'", {"b"}),
    "all fail as marked": ("@pytest.mark.xfail(strict=True)", "assert not d", {*"abcdef"}),
}


def make(project, name: str) -> None:
    mark, body, _ = SUITES[name]
    project.file(
        "test_it",
        f"""
        import pytest
        {mark}
        def test(random_dtypes):
            for d in list(random_dtypes(k=2, dtypes=[*"abcdef"])):
                {body}
        """,
    )


@pytest.mark.parametrize("keep", ["200", "3"])
@pytest.mark.parametrize("name", SUITES)
def test_an_expected_failure_of_one_of_several_comes_to_rest(project, name, keep):
    make(project, name)
    *_, xfailing = SUITES[name]
    others = "xpassed" if "marked" in name else "passed"
    told = {label: "xfailed" if label in xfailing else others for label in "abcdef"}
    project.ini(dtype_sampler_ledger_runs=keep)
    first = project.run("--dtype-seed=1", "--all-dtypes")
    assert set(verdicts(project, KEY).values()) == {"suspect"}
    assert report(project, "--fail-under=1").ret == 2
    assert "failed with" not in first.stdout.str()
    # One a run, each of them alone, until all are told.
    for _ in range(6):
        assert verdicts(project, KEY) != told
        project.run()
    assert report(project, "--fail-under=100").ret == 0
    for _ in range(9):
        project.run()
        assert verdicts(project, KEY) == told
        (*_, said) = ledger(project, KEY)
        # What xfails is alone, and the rest goes on beside each other.
        assert len(said) == 1 or not xfailing & set(said)
    assert report(project, "--fail-under=100").ret == 0


def test_what_never_ran_is_credited_with_no_expected_failure(project):
    make(project, "one xfails")
    project.run("--dtype-seed=1", "--dtype-only=a,b,c")
    assert verdicts(project, KEY) == dict.fromkeys("abc", "suspect")


def test_what_passes_again_runs_beside_the_others(project):
    make(project, "one xfails")
    for seed in range(1, 12):
        project.run(f"--dtype-seed={seed}")
    assert verdicts(project, KEY) == {**dict.fromkeys("acdef", "passed"), "b": "xfailed"}
    project.file("test_it", "def test(random_dtypes): list(random_dtypes(k=2, dtypes=[*'abcdef']))")
    for _ in range(12):
        project.run()
    assert set(verdicts(project, KEY).values()) == {"passed"}
    assert any("b" in said and len(said) == 2 for said in ledger(project, KEY)[11:])
