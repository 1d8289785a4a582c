"""syrupy: what a sampled run does not compare is unused to it, and an update would delete it."""

from __future__ import annotations

import pytest

PACKAGE = "syrupy"
SUITE = """
import pytest

@pytest.mark.random_dtypes("dtype", [*"abcd"], k=2)
def test_items(dtype, snapshot):
    assert dtype * 3 == snapshot

def test_loop(random_dtypes, snapshot):
    for dtype in random_dtypes(dtypes=[*"abcd"], k=2):
        assert dtype * 3 == snapshot(name=dtype)
"""


@pytest.fixture
def suite(neighbourhood):
    neighbourhood.file("test_it", SUITE)
    result = neighbourhood.run("--all-dtypes", "--snapshot-update", packages=(PACKAGE,))
    result.assert_outcomes(passed=5)
    assert snapshots(neighbourhood) == 8
    return neighbourhood


def snapshots(neighbourhood):
    (file,) = (neighbourhood.path / "__snapshots__").iterdir()
    return file.read_text(encoding="utf-8").count("# name: ")


def test_a_sampled_run_needs_an_option(suite):
    """As docs/how-to/with-other-plugins.md has it. The tests pass in either case."""
    for args, code in (
        ([], pytest.ExitCode.TESTS_FAILED),
        (["--snapshot-warn-unused"], pytest.ExitCode.OK),
        (["--snapshot-disable-unused"], pytest.ExitCode.OK),
    ):
        result = suite.run("--dtype-seed=1", *args, packages=(PACKAGE,))
        result.assert_outcomes(passed=3, deselected=2)
        assert result.ret == code, args
        assert all(len(outcomes) == 2 for outcomes in suite.books().values())
    assert set(suite.verdicts()["test_it.py::test_items"].values()) == {"passed"}


@pytest.mark.parametrize(
    ("args", "left"),
    [
        (["--snapshot-update"], 4),
        (["--snapshot-update", "--snapshot-disable-unused"], 8),
        (["--snapshot-update", "--all-dtypes"], 8),
    ],
)
def test_an_update_deletes_what_was_not_in_the_sample(suite, args, left):
    result = suite.run("--dtype-seed=1", *args, packages=(PACKAGE,))
    assert result.ret == 0
    assert snapshots(suite) == left
    assert len(suite.books()["test_it.py::test_loop"]) == (4 if "--all-dtypes" in args else 2)


def test_a_replay_never_updates(suite):
    suite.file(
        "test_it",
        SUITE.replace("dtype * 3 ==", "assert_false(dtype) and dtype * 3 ==")
        + "\ndef assert_false(dtype): assert dtype != 'a'; return True\n",
    )
    result = suite.run("--all-dtypes", "--snapshot-update", packages=(PACKAGE,))
    lines = [line for line in result.outlines if line.startswith(("same", "this dtype"))]
    assert len(lines) == 4
    assert not any("--snapshot" in line for line in lines)
    assert suite.books()["test_it.py::test_items"]["a"] == "failed"
