"""What a replay says of a commit, and where it finds the commit's code: the pure part."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from dtype_sampler.commands.replaying import Replay, judged, search_path
from dtype_sampler.ledger.outcomes import OUTCOMES, Cell


@pytest.mark.parametrize(
    ("code", "outcome", "more", "expected"),
    [
        # The cell's own outcome counts, whatever else has gone wrong.
        (0, "passed", {}, ("good", "passed")),
        (1, "passed", {}, ("good", "passed")),
        (1, "xpassed", {}, ("good", "passed, though it was expected to fail")),
        (1, "failed", {}, ("bad", "failed")),
        # As a known failure is reported.
        (0, "failed", {}, ("bad", "failed")),
        (1, "crashed", {}, ("bad", "crashed")),
        (0, "xfailed", {}, ("skip", "failed as expected")),
        (1, "suspect", {}, ("skip", "something failed, maybe another dtype")),
        (0, "skipped", {}, ("skip", "skipped there")),
        # None: what failed was something else, or nothing ran.
        (1, None, {}, ("skip", "something failed before it came to it")),
        (0, None, {}, ("skip", "it did not run")),
        (2, None, {}, ("skip", "the tests can't be collected")),
        (3, None, {}, ("skip", "pytest failed")),
        (5, None, {}, ("skip", "there is no such test")),
        (77, None, {}, ("skip", "exit code 77")),
        (
            4,
            None,
            {"said": "____ ERROR collecting t.py ____"},
            ("skip", "the tests can't be collected"),
        ),
        (4, None, {"said": "ERROR: not found: /t.py::t"}, ("skip", "there is no such test")),
        (
            4,
            None,
            {"said": "ERROR: file or directory not found: t"},
            ("skip", "there is no such test"),
        ),
        (4, None, {"said": "ERROR: unknown candidate 'x'"}, ("skip", "no test has the dtype")),
        (4, None, {"said": "ERROR: usage: pytest"}, ("skip", "pytest refuses to run")),
        (4, None, {}, ("skip", "there is no such test, or pytest refuses to run")),
        (-11, None, {}, ("skip", "killed by SIGSEGV")),
        (-11, None, {"crashes": True}, ("bad", "killed by SIGSEGV")),
        (-11, "passed", {"crashes": True}, ("good", "passed")),
        # By a command that keeps no ledger here.
        (0, None, {"kept": False}, ("good", "passed")),
        (1, None, {"kept": False}, ("bad", "failed")),
        (5, None, {"kept": False}, ("skip", "there is no such test")),
        (125, None, {"kept": False}, ("skip", "exit code 125")),
        (139, None, {"kept": False}, ("skip", "killed by SIGSEGV")),
        (139, None, {"kept": False, "crashes": True}, ("skip", "killed by SIGSEGV")),
        (255, None, {"kept": False}, ("skip", "killed by signal 127")),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_verdicts(code, outcome, more, expected):
    assert judged(code, outcome, **{"kept": True, "crashes": False, **more}) == expected


def test_every_outcome_has_a_verdict():
    for outcome in sorted(OUTCOMES):
        word, _ = judged(0, outcome, kept=True, crashes=False)
        assert word == {"passed": "good", "xpassed": "good", "failed": "bad", "crashed": "bad"}.get(
            outcome, "skip"
        )


def test_the_line_names_this_dtype_and_no_other():
    cell = Cell("t.py::t", "float16", "cuda")
    replay = Replay(cell, "t.py::t[a b]", ("float16", "torch.float16"), 7)
    assert replay.line(replay.nodeid) == (
        'pytest "t.py::t[a b]" --dtype-seed=7 --dtype-only="\'float16\'" --dtype-device=cuda'
    )


def test_the_places_of_a_checkout_are_those_of_the_worktree(tmp_path):
    top, tree = tmp_path / "top", tmp_path / "room" / "tree"
    site = top / ".venv" / "lib" / "site-packages"
    other = tmp_path / "other"
    for folder in (top / "lib", site, other, top / "sub"):
        folder.mkdir(parents=True)
    found = search_path(
        top,
        tree,
        tree / "sub",
        known=[str(top / "lib"), str(site), str(other), "", str(top / "lib")],
        given=os.pathsep.join(["vendor", str(other), "../../other", str(top)]),
        start=top / "sub",
    )
    assert found == [
        str(tree / "lib"),
        str(tree / "sub" / "src"),
        str(tree / "src"),
        str(tree / "sub" / "vendor"),
        str(other),
        str(top / "sub" / "../../other"),
        str(tree),
    ]
    assert all(Path(path).is_absolute() for path in found)
