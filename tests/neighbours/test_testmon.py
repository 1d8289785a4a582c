"""pytest-testmon: it hands objects of its own to pytest's hooks, and chooses by what changed."""

from __future__ import annotations

PACKAGE = "pytest-testmon"
SUITE = """
import pytest
import code_of_ours

@pytest.mark.random_dtypes("dtype", [*"abcd"], k=2)
def test_items(dtype):
    assert code_of_ours.works(dtype)

def test_plain():
    pass
"""


def faults(result):
    return [line for line in result.outlines if "fault in" in line]


def test_a_project_without_any_dtype(neighbourhood):
    neighbourhood.file("test_it", "def test(): pass")
    for _ in range(2):
        result = neighbourhood.run("--testmon", packages=(PACKAGE,))
        assert result.ret in (0, 5)
        assert faults(result) == []


def test_what_it_leaves_out_keeps_its_verdict(neighbourhood):
    neighbourhood.file("code_of_ours", "def works(dtype): return True")
    neighbourhood.file("test_it", SUITE)
    args = ("--testmon", "--dtype-seed=1")
    first = neighbourhood.run(*args, packages=(PACKAGE,))
    first.assert_outcomes(passed=3, deselected=2)
    key = "test_it.py::test_items"
    ran = neighbourhood.books()[key]
    assert list(ran.values()) == ["passed", "passed"]
    again = neighbourhood.run(*args, packages=(PACKAGE,))
    assert again.ret in (0, 5)
    assert faults(again) == []
    # What it leaves out keeps the verdict that it had.
    assert ran.items() <= neighbourhood.verdicts()[key].items()
    # A dtype that it has not met yet is a new test to it, and runs.
    neighbourhood.run("--testmon", "--dtype-seed=2", packages=(PACKAGE,))
    assert neighbourhood.verdicts()[key] == dict.fromkeys("abcd", "passed")


def test_what_has_changed_runs(neighbourhood):
    neighbourhood.file("code_of_ours", "def works(dtype): return True")
    neighbourhood.file("test_it", SUITE)
    neighbourhood.run("--testmon", "--all-dtypes", packages=(PACKAGE,))
    neighbourhood.file("code_of_ours", "def works(dtype): return dtype != 'c'")
    neighbourhood.run("--testmon", "--all-dtypes", packages=(PACKAGE,))
    assert neighbourhood.books() == {
        "test_it.py::test_items": {**dict.fromkeys("abd", "passed"), "c": "failed"}
    }
