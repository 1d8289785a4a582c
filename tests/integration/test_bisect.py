"""`dtype-sampler bisect` on real repositories: what it finds, and what it says where it can't."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys

import pytest
from clones import KEY, LABELS, LEDGER, culprit, pass_then_fail, source, turns, works


def long_history():
    """Thirty commits, in which bf16 breaks with number 21, and other things beside it."""
    history = [{f"docs/{number}.txt": "words"} for number in range(30)]
    history[0] |= {"conftest.py": "", ".gitignore": "*.sqlite\n"}
    history[0] |= {"layers.py": works(), "tests/test_layers.py": source()}
    # The module has another name, and the test says so.
    history[8] |= {"layers.py": None, "norm.py": works()}
    history[8] |= {"tests/test_layers.py": source("norm")}
    # The test is elsewhere for three commits, in one of which even that does not pass.
    history[15] |= {"tests/test_layers.py": None, "tests/test_else.py": source("nowhere")}
    history[18] |= {"tests/test_else.py": None, "tests/test_layers.py": source("norm")}
    # Can't be imported.
    history[19] |= {"norm.py": "def works(:\n"}
    history[20] |= {"norm.py": works("f32")}
    history[21] |= {"norm.py": works("f32", "bf16")}
    history[23] |= {"tests/test_layers.py": source("norm", "def test_other(): assert False\n")}
    return history


@pytest.mark.usefixtures("unmeasured")
def test_thirty_commits(made, bisect):
    clone = made(*long_history())
    commits = clone.commits
    clone.ledger(
        (commits[1], 10, {"bf16": "failed"}),
        (commits[2], 11, {"bf16": "passed", "f32": "passed"}),
        (commits[22] + "+", 12, {"f16": "passed", "f32": "failed"}),
        (commits[28], 13, {"bf16": "failed", "f16": "not-reached"}),
        (commits[29], 14, {"bf16": "failed", "f16": "passed"}),
    )
    # Somebody is at work, and in a bisection of their own.
    clone.git("bisect", "start", commits[29], commits[0])
    (clone.folder / "norm.py").write_text("not committed")
    (clone.folder / "new.py").write_text("not added")
    (clone.folder / "staged.py").write_text("added")
    clone.git("add", "staged.py")
    before = clone.state()

    code, out, err = bisect(KEY, "--dtype", "bf16")

    assert code == 0, (out, err)
    assert clone.state() == before
    line = f'pytest "{KEY}" --dtype-seed=13 --dtype-only=bf16'
    head, tail = out.split("\n\n", 1)
    assert head.splitlines() == [
        f"{KEY} with bf16 on cpu, seed 13",
        f"passed: commit {commits[2][:7]}, run 2, 1970-01-01T00:33:20Z",
        f"failed: commit {commits[28][:7]}, run 4, 1970-01-01T01:06:40Z",
        f"26 commits from there to here; at each one: {line}",
    ]
    # Newer ones of git write UTC so.
    assert tail.replace("+00:00", "Z").splitlines() == [
        f"{KEY} with bf16 on cpu began to fail with:",
        f"commit {commits[21]}",
        "author: A Person <a@example.org>",
        "date: 2023-11-14T22:34:20Z",
        "",
        "    Change 21",
        "",
        f"to replay it there: git switch --detach {commits[21][:7]}",
        line,
    ]
    steps = [line for line in err.splitlines() if re.match(r"\d+: ", line)]
    assert steps[0] == f"1: {commits[28][:7]} Change 28: failed"
    assert steps[1] == f"2: {commits[2][:7]} Change 2: passed"
    told = {line.split()[1]: line.rpartition(": ")[2] for line in steps}
    assert len(told) == len(steps) <= 12
    expected = {commits[15]: "there is no such test", commits[19]: "the tests can't be collected"}
    for commit, words in expected.items():
        assert told.get(commit[:7], words) == words
    # One at least of what can't be tested was in the way, and was passed over.
    assert any("skipped: " in line for line in steps)
    assert told[commits[20][:7]] == "passed"
    assert told[commits[21][:7]] == "failed"


def test_the_one_that_fails_need_not_be_named(made, bisect):
    clone = made(*turns())
    pass_then_fail(clone)
    code, out, err = bisect(KEY)
    assert (code, culprit(out)) == (0, clone.commits[1]), err


def test_what_a_hook_of_git_sets_leads_nowhere(made, bisect, monkeypatch, tmp_path):
    clone = made(*turns())
    pass_then_fail(clone)
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "elsewhere"))
    code, out, err = bisect(KEY)
    assert (code, culprit(out)) == (0, clone.commits[1]), err


@pytest.mark.skipif(sys.platform == "win32", reason="puts a shell script in the place of git")
def test_nothing_hangs_on_the_words_of_git_bisect(made, bisect, monkeypatch, tmp_path):
    """Newer ones of git write "first 'bad' commit"."""
    real = shutil.which("git")
    other = tmp_path / "bin" / "git"
    other.parent.mkdir()
    other.write_text(
        f"""#!/bin/sh
case " $* " in
    *" bisect "*) exec {shlex.quote(real)} "$@" >/dev/null 2>&1 ;;
    *) exec {shlex.quote(real)} "$@" ;;
esac
"""
    )
    other.chmod(0o755)
    clone = made(
        {"conftest.py": "", "layers.py": works(), "tests/test_layers.py": source()},
        {"layers.py": works("f16")},
        # As nothing can be imported here, it may have been this one or the next.
        {"layers.py": "def works(:"},
        {"layers.py": works("f16", "bf16")},
    )
    commits = clone.commits
    clone.ledger(
        (commits[0], 1, dict.fromkeys(LABELS, "passed")),
        (commits[3], 2, dict.fromkeys(LABELS, "failed")),
    )
    monkeypatch.setenv("PATH", f"{other.parent}{os.pathsep}{os.environ['PATH']}")
    code, out, err = bisect(KEY, "--dtype", "f16")
    assert (code, culprit(out)) == (0, commits[1]), err
    code, out, err = bisect(KEY, "--dtype", "bf16")
    told = re.findall(r"(?m)^  ([0-9a-f]{7}) ", out)
    assert (code, told) == (1, [commit[:7] for commit in reversed(commits[2:])]), err


@pytest.mark.parametrize(
    ("runs", "words"),
    [
        # It fails at the good end too: there are other data.
        (
            ((1, "", 11, "passed"), (2, "", 13, "failed")),
            ["in run 1, seed 11", "with seed 13, it failed", "with this one's random data"],
        ),
        # It passes at the bad end: what failed was never committed.
        (
            ((0, "", 11, "passed"), (0, "", 12, "passed"), (3, "+", 13, "failed")),
            ["in run 3, seed 13", "with seed 13, it passed", "(+): replayed is the commit"],
        ),
        (
            ((4, "", 11, "passed"), (5, "", 13, "failed")),
            ["but it can't be replayed at", "there is no such test"],
        ),
    ],
)  # fmt: skip
def test_it_can_not_be_reproduced(made, bisect, runs, words):
    clone = made(
        *turns(),
        {"more.txt": ""},
        {"layers.py": works()},
        {"tests/test_layers.py": source(more="def test_new(): pass")},
        {"tests/test_layers.py": "def test_new(): pass"},
    )
    clone.ledger(
        *((clone.commits[n] + dirty, seed, {"bf16": word}) for n, dirty, seed, word in runs)
    )
    before = clone.state()
    code, _, err = bisect(KEY)
    assert code == 1
    assert "dtype-sampler: can't reproduce: " in err
    for one in words:
        assert one in err
    assert f'         pytest "{KEY}" --dtype-seed=13 --dtype-only=bf16\n' in err
    assert clone.state() == before


def test_only_skipped_commits_are_left(made, bisect):
    broken = {"layers.py": "def works(:\n"}
    clone = made(turns()[0], broken, {"more.txt": "", **broken}, {"layers.py": works("bf16")})
    pass_then_fail(clone)
    code, out, err = bisect(KEY)
    assert code == 1
    assert culprit(out) is None
    told = out.split(f"which of these commits {KEY} began to fail with:\n")[1].splitlines()
    names = [commit[:7] for commit in clone.commits[1:]]
    why = "skipped: the tests can't be collected"
    assert sorted(told[:3]) == sorted(
        f"  {name} Change {n} ({why if n < 3 else 'it fails there'})"
        for n, name in enumerate(names, 1)
    )
    assert err.count(why) == 2


def test_what_fails_for_another_reason_is_not_taken_for_it(made, bisect):
    """In a fixture, before the loop, in another test, in another dtype, as it should."""
    fixture = "import pytest\n@pytest.fixture(autouse=True)\ndef broken(): assert 0\n"
    loop = "    for dtype in"
    clone = made(
        turns()[0],
        {"conftest.py": fixture},
        {
            "conftest.py": "",
            "tests/test_layers.py": source().replace(loop, f"    assert 0\n{loop}"),
        },
        {"tests/test_layers.py": source(more="def test_mean_too(): assert 0")},
        {"layers.py": works("f16")},
        {"layers.py": works("f16", "bf16")},
        {"layers.py": works("f16", "bf16"), "more.txt": ""},
    )
    pass_then_fail(clone)
    code, out, err = bisect(KEY)
    assert (code, culprit(out)) == (0, clone.commits[5]), err
    for number in (1, 2):
        line = next((one for one in err.splitlines() if f"Change {number}" in one), "")
        assert not line or line.endswith("skipped: something failed before it came to it")


def test_an_item_of_its_own_in_a_folder_below(made, bisect, monkeypatch):
    """The root directory of the tests is not that of the repository, and one item is one dtype."""
    items = f"""
import pytest
from layers import works
class TestLayers:
    @pytest.mark.random_dtypes("dtype", {list(LABELS)}, k=2)
    @pytest.mark.parametrize("size", [1, 2])
    def test_mean(self, size, dtype):
        assert works(dtype) or size == 1
"""
    clone = made(
        {"sub/pytest.ini": "[pytest]\n", "sub/test_it.py": items, "sub/layers.py": works()},
        {"sub/layers.py": works("f16")},
        {"sub/layers.py": works("f16", "bf16")},
        {"readme": ""},
    )
    key, item = "test_it.py::TestLayers::test_mean[2]", "test_it.py::TestLayers::test_mean[bf16-2]"
    clone.folder = clone.folder / "sub"
    pass_then_fail(clone, key=key, nodeid=item)
    monkeypatch.chdir(clone.folder)
    code, out, err = bisect(item)
    assert (code, culprit(out)) == (0, clone.commits[2]), err
    assert out.endswith(f'\npytest "{item}" --dtype-seed=13 --dtype-only=bf16\n')
    monkeypatch.chdir(clone.folder.parent)
    code, out, err = bisect(key, "--ledger", "sub/" + LEDGER)
    assert (code, culprit(out)) == (0, clone.commits[2]), err
    # What is to be pasted is named as seen from here.
    assert out.endswith(f'\npytest "sub/{item}" --dtype-seed=13 --dtype-only=bf16\n')


def test_what_a_replay_leaves_is_not_in_the_way(made, bisect):
    """A file that one commit's tests make is a tracked one of the next commit."""
    writes = "open('made.txt', 'w').write('x')"
    clone = made(
        turns(first={"conftest.py": writes, ".gitignore": "*.txt\n*.sqlite\n"})[0],
        {"more": ""},
        {"made.txt": "tracked"},
        {"layers.py": works("bf16")},
        {"more": "more"},
    )
    pass_then_fail(clone)
    code, out, err = bisect(KEY)
    assert (code, culprit(out)) == (0, clone.commits[3]), err


def test_a_crash_is_looked_for_in_a_process_of_its_own(made, bisect, monkeypatch):
    pytest.importorskip("xdist")
    monkeypatch.setenv("PYTEST_PLUGINS", "xdist")
    crash = "import os\ndef works(dtype):\n    return dtype != 'bf16' or os._exit(3)\n"
    clone = made(turns()[0], {"layers.py": works("f32")}, {"layers.py": crash}, {"more": ""})
    one, *_, other = clone.commits
    clone.ledger((one, 11, {"bf16": "passed"}), (other, 13, {"bf16": "crashed"}))
    code, out, err = bisect(KEY)
    assert (code, culprit(out)) == (0, clone.commits[2]), err
    assert err.splitlines()[0].endswith(": crashed")
