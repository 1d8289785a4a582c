"""`dtype-sampler bisect` on real repositories, which the tests make."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from dtype_sampler.commands.main import main
from dtype_sampler.ledger.outcomes import Cell
from dtype_sampler.ledger.records import Observed, RunRecord, TestRecord
from dtype_sampler.ledger.sqlite import SqliteStore

LEDGER = ".dtype-ledger.sqlite"
KEY = "tests/test_layers.py::test_mean"
LABELS = ("f16", "bf16", "f32")
# A module whose import tells that a replay goes on, and waits until somebody lets it.
WAITING = """
import os, socket
with socket.create_connection(("127.0.0.1", int(os.environ["WAIT_AT"]))) as other:
    other.recv(1)
"""

pytestmark = pytest.mark.skipif(
    subprocess.run(["git", "--version"], check=False, capture_output=True).returncode != 0,
    reason="needs git",
)


def source(module="layers", more=""):
    return f"""
from dtype_sampler import random_dtypes
from {module} import works
def test_mean():
    for dtype in random_dtypes(k=2, dtypes={list(LABELS)}):
        assert works(dtype)
{more}
"""


def works(*broken, more=""):
    return f"{more}\ndef works(dtype):\n    return dtype not in {broken}\n"


class Clone:
    """A repository of one branch, made by git's own importer. commits: their hashes, in order."""

    def __init__(self, folder: Path, history: list[dict[str, str | None]]) -> None:
        self.folder = folder
        self.commits: list[str] = []
        self.git("init", "-q", "-b", "main")
        stream = []
        for number, files in enumerate(history):
            stream.append(f"commit refs/heads/main\nmark :{number + 1}\n")
            # A minute apart, as a day of work is.
            stream.append(f"committer A Person <a@example.org> {1700000000 + 60 * number} +0000\n")
            words = f"Change {number}"
            stream.append(f"data {len(words)}\n{words}\n")
            for path, text in files.items():
                if text is None:
                    stream.append(f"D {path}\n")
                else:
                    size = len(text.encode())
                    stream.append(f"M 100644 inline {path}\ndata {size}\n{text}\n")
            stream.append("\n")
        self.git("fast-import", "--quiet", said="".join(stream))
        self.git("reset", "-q", "--hard", "main")
        # A bisection writes this file anew, whatever is in it.
        self.git("pack-refs", "--all")
        self.commits = self.git("rev-list", "--reverse", "main").split()

    def git(self, *arguments: str, said: str = "") -> str:
        done = subprocess.run(
            ["git", "-C", str(self.folder), *arguments],
            check=False,
            input=said,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, (arguments, done.stderr)
        return done.stdout

    def ledger(self, *runs, key=KEY, labels=LABELS, device="cpu", nodeid=None) -> None:
        """Write the ledger: runs of a commit, a seed, and label -> outcome."""
        store = SqliteStore.open(self.folder / LEDGER, create=True)
        for number, (commit, seed, outcomes) in enumerate(runs, 1):
            run = RunRecord(f"{number:032}", 1000.0 * number, seed, "given", "rotate")
            run = store.open_run(RunRecord(**{**_fields(run), "commit": commit}))
            at = 1000.0 * number
            tests = [TestRecord(key, device, labels, at, 2)]
            store.append(
                run.uid,
                tests,
                [
                    Observed(Cell(key, label, device), nodeid or key, outcome, at)
                    for label, outcome in outcomes.items()
                ],
            )
            store.close_run(run.finished(at + 1, {}), 200)
        store.close()

    def state(self) -> dict[str, object]:
        """All of it: every byte of every file, git's own included, and what git says of it."""
        files = {
            str(path.relative_to(self.folder)): path.read_bytes() if path.is_file() else None
            for path in sorted(self.folder.rglob("*"))
        }
        said = {
            " ".join(words): self.git("--no-optional-locks", *words)
            for words in (
                ("status", "--porcelain=v2", "--branch"),
                ("worktree", "list", "--porcelain"),
                ("for-each-ref",),
                ("stash", "list"),
            )
        }
        return {**files, **said}


def _fields(record):
    return {name: getattr(record, name) for name in record.__slots__}


@pytest.fixture
def cli(capsys, monkeypatch):
    """Runs `dtype-sampler bisect`: its exit code, output and errors."""
    for name in ("DTYPE_SAMPLER_LEDGER", "DTYPE_SAMPLER_SEED", "PYTEST_ADDOPTS", "PYTHONPATH"):
        monkeypatch.delenv(name, raising=False)
    # Each replay is a process, which has no use for the plugins of this environment.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

    def cli(*arguments):
        capsys.readouterr()
        try:
            code = main(["bisect", *map(str, arguments)])
        except SystemExit as end:
            code = end.code
        said = capsys.readouterr()
        return code, said.out, said.err

    return cli


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Makes a repository and goes there; its temporary files go where they can be counted."""
    room = tmp_path / "room"
    room.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(room))
    monkeypatch.setenv("TMPDIR", str(room))

    def made(*history):
        folder = tmp_path / "clone"
        folder.mkdir()
        monkeypatch.chdir(folder)
        return Clone(folder, list(history))

    yield made
    # But for what pytest itself leaves.
    assert [path for path in room.iterdir() if not path.name.startswith("pytest-of-")] == []


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


def test_thirty_commits(made, cli):
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

    code, out, err = cli(KEY, "--dtype", "bf16")

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
    assert tail.splitlines() == [
        f"{KEY} with bf16 on cpu began to fail with:",
        f"commit {commits[21]}",
        "author: A Person <a@example.org>",
        "date: 2023-11-14T22:34:20+00:00",
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


# The smallest history: it passes, and then it does not.
def turns(first=None, then=None):
    return (
        {
            ".gitignore": "*.sqlite\n",
            "conftest.py": "",
            "layers.py": works(),
            "tests/test_layers.py": source(),
            **(first or {}),
        },
        {"layers.py": works("bf16"), **(then or {})},
    )


def pass_then_fail(clone, **more):
    one, *_, other = clone.commits
    clone.ledger((one, 11, {"bf16": "passed"}), (other, 13, {"bf16": "failed"}), **more)


def culprit(out):
    """The hash of the commit that was found."""
    found = re.search(r"began to fail with:\ncommit ([0-9a-f]{40})\n", out)
    return found and found[1]


def test_the_one_that_fails_need_not_be_named(made, cli):
    clone = made(*turns())
    pass_then_fail(clone)
    code, out, err = cli(KEY)
    assert (code, culprit(out)) == (0, clone.commits[1]), err


def test_which_of_several(made, cli):
    clone = made(*turns())
    one, other = clone.commits
    clone.ledger(
        (one, 1, dict.fromkeys(LABELS, "passed")),
        (other, 2, {"f16": "failed", "bf16": "failed", "f32": "passed"}),
    )
    clone.ledger((other, 3, {"a": "suspect", "b": "suspect"}), key="t.py::test", labels=("a", "b"))
    fails = "\n  f16 on cpu: fails\n  bf16 on cpu: fails\n"
    assert cli(KEY) == (
        1,
        "",
        f"dtype-sampler: {KEY}: which one? Name it with --dtype:{fails}",
    )
    code, _, err = cli("t.py::test")
    assert code == 1
    assert err.endswith("  b on cpu: one of several that failed\n")


def test_what_is_wrong_is_said_in_one_message(made, cli, tmp_path, monkeypatch):
    clone = made(*turns())
    one, other = clone.commits
    clone.ledger((one, 1, {"f16": "passed", "torch.f16": "passed"}), labels=("f16", "torch.f16"))
    before = clone.state()

    def said(*arguments):
        code, out, err = cli(*arguments)
        assert (code, out) == (1, "")
        return err

    assert "did you mean tests/test_layers.py::test_mean?" in said("tests/test_layers::test_mean")
    assert "no dtype of it fails, as far as the ledger knows" in said(KEY)
    assert f"{KEY} has no dtype f64: it has f16, torch.f16" in said(KEY, "--dtype", "f64")
    assert "on no device of the type cuda" in said(KEY, "--device", "cuda")
    assert "f16 on cpu never failed" in said(KEY, "--dtype", "f16")
    assert "nowhere: this clone has no such commit" in said(
        *(KEY, "--dtype", "f16", "--bad", "nowhere")
    )
    assert "knows no failure, and so no seed" in said(*(KEY, "--dtype", "f16", "--bad", other))
    assert "--run: it is empty" in said(KEY, "--run", " ")
    assert "a replay needs a number" in said(KEY, "--seed", "next")
    assert "there is no ledger" in said(KEY, "--ledger", "none.sqlite")
    assert clone.state() == before
    monkeypatch.chdir(tmp_path)
    arguments = (KEY, "--dtype", "f16", "--ledger", tmp_path / "clone" / LEDGER)
    assert f"{tmp_path}: is in no working tree of git" in said(*arguments)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "there is no git on the path" in said(*arguments)


def test_a_commit_that_is_not_in_a_shallow_clone(made, cli, tmp_path, monkeypatch):
    clone = made(*turns(), {"more.txt": ""})
    one, *_, other = clone.commits
    folder = tmp_path / "shallow"
    subprocess.run(
        ["git", "clone", "-q", "--depth=1", clone.folder.as_uri(), str(folder)], check=True
    )
    pass_then_fail(clone)
    (clone.folder / LEDGER).rename(folder / LEDGER)
    monkeypatch.chdir(folder)
    code, _, err = cli(KEY)
    assert code == 1
    assert f"it passed in run 1, seed 11, commit {one[:7]}, which is not in this clone" in err
    assert "git fetch --unshallow" in err
    clone.git("branch", "old", one)
    subprocess.run(["git", "fetch", "-q", "--depth=1", "origin", "old"], cwd=folder, check=True)
    code, _, err = cli(KEY)
    assert code == 1
    assert f"is no ancestor of {other[:7]} (run 2), where it failed: this clone is shallow" in err


def test_a_pass_on_another_branch(made, cli):
    clone = made(*turns(), {"more.txt": ""})
    first, second, third = clone.commits
    clone.git("checkout", "-q", "-b", "aside", first)
    clone.git("-c", "user.name=A", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-mx")
    aside = clone.git("rev-parse", "HEAD").strip()
    clone.git("checkout", "-q", "main")
    runs = [(aside, 12, {"bf16": "passed"}), (third, 13, {"bf16": "failed"})]
    clone.ledger(*runs)
    code, _, err = cli(KEY)
    assert code == 1
    assert f"{aside[:7]}, where it passed (run 1), is no ancestor of {third[:7]} (run 2)" in err
    assert "they are on different branches" in err

    code, out, err = cli(KEY, "--good", first[:12])
    assert (code, culprit(out)) == (0, second), err
    assert f"passed: commit {first[:7]}, as you say" in out

    (clone.folder / LEDGER).unlink()
    clone.ledger((first, 11, {"bf16": "passed"}), *runs)
    code, out, err = cli(KEY)
    assert (code, culprit(out)) == (0, second), err
    assert f"run 2, seed 12, commit {aside[:7]}, is of no use: its commit is no ancestor" in err


def test_the_ledger_lacks_a_pass(made, cli):
    clone = made(*turns())
    clone.ledger((clone.commits[1], 13, {"bf16": "failed"}))
    code, out, err = cli(KEY)
    assert (code, out) == (1, "")
    assert "never passed before, as far as the ledger knows, since run 1" in err
    assert "name that with --good" in err


def test_the_ledger_lacks_a_pass_by_this_name(made, cli):
    clone = made(
        {"conftest.py": "", "layers.py": works(), "tests/test_old.py": source()},
        {"tests/test_old.py": None, "tests/test_layers.py": source()},
        {"layers.py": works("bf16")},
    )
    clone.ledger((clone.commits[2], 13, {"bf16": "failed"}))
    name = clone.commits[1][:7]
    code, _, err = cli(KEY)
    assert code == 1
    assert f"Its file has that name since commit {name}, and was tests/test_old.py before" in err
    code, out, err = cli(KEY, "--good", name)
    assert (code, culprit(out)) == (0, clone.commits[2]), err


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
def test_it_can_not_be_reproduced(made, cli, runs, words):
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
    code, _, err = cli(KEY)
    assert code == 1
    assert "dtype-sampler: can't reproduce: " in err
    for one in words:
        assert one in err
    assert f'         pytest "{KEY}" --dtype-seed=13 --dtype-only=bf16\n' in err
    assert clone.state() == before


def test_only_skipped_commits_are_left(made, cli):
    broken = {"layers.py": "def works(:\n"}
    clone = made(turns()[0], broken, {"more.txt": "", **broken}, {"layers.py": works("bf16")})
    pass_then_fail(clone)
    code, out, err = cli(KEY)
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


def test_what_fails_for_another_reason_is_not_taken_for_it(made, cli):
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
    code, out, err = cli(KEY)
    assert (code, culprit(out)) == (0, clone.commits[5]), err
    for number in (1, 2):
        line = next((one for one in err.splitlines() if f"Change {number}" in one), "")
        assert not line or line.endswith("skipped: something failed before it came to it")


def test_an_item_of_its_own_in_a_folder_below(made, cli, monkeypatch):
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
    code, out, err = cli(item)
    assert (code, culprit(out)) == (0, clone.commits[2]), err
    assert out.endswith(f'\npytest "{item}" --dtype-seed=13 --dtype-only=bf16\n')
    monkeypatch.chdir(clone.folder.parent)
    code, out, err = cli(key, "--ledger", "sub/" + LEDGER)
    assert (code, culprit(out)) == (0, clone.commits[2]), err


def test_what_a_replay_leaves_is_not_in_the_way(made, cli):
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
    code, out, err = cli(KEY)
    assert (code, culprit(out)) == (0, clone.commits[3]), err


def test_a_crash_is_looked_for_in_a_process_of_its_own(made, cli, monkeypatch):
    pytest.importorskip("xdist")
    monkeypatch.setenv("PYTEST_PLUGINS", "xdist")
    crash = "import os\ndef works(dtype):\n    return dtype != 'bf16' or os._exit(3)\n"
    clone = made(turns()[0], {"layers.py": works("f32")}, {"layers.py": crash}, {"more": ""})
    one, *_, other = clone.commits
    clone.ledger((one, 11, {"bf16": "passed"}), (other, 13, {"bf16": "crashed"}))
    code, out, err = cli(KEY)
    assert (code, culprit(out)) == (0, clone.commits[2]), err
    assert err.splitlines()[0].endswith(": crashed")


def test_it_has_passed_again_since(made, cli):
    clone = made(*turns(), {"layers.py": works()})
    words = zip(clone.commits, ("passed", "failed", "passed"), strict=True)
    clone.ledger(*((commit, seed, {"bf16": word}) for seed, (commit, word) in enumerate(words)))
    assert cli(KEY)[0] == 1
    code, out, err = cli(KEY, "--dtype", "bf16")
    assert (code, culprit(out)) == (0, clone.commits[1]), err
    assert "it has passed again since, in run 3, seed 2" in err


def test_a_test_that_git_does_not_know(made, cli):
    clone = made(*turns())
    one, other = clone.commits
    runs = [(one, 1, {"bf16": "passed"}), (other, 2, {"bf16": "failed"})]
    clone.ledger(*runs, key="else/test_it.py::test_it")
    code, _, err = cli("else/test_it.py::test_it")
    assert code == 1
    assert f"else/test_it.py: neither {one[:7]} nor {other[:7]} has such a file" in err


# -- Whose code is tested -------------------------------------------------------------------------


def src_layout():
    first, then = turns()
    first["src/layers.py"] = first.pop("layers.py")
    return first, {"more.txt": ""}, {"src/layers.py": then["layers.py"]}, {"more.txt": "more"}


@pytest.mark.parametrize("way", ["src", "python path", "editable"])
def test_each_commit_is_tested_with_its_own_code(made, cli, monkeypatch, tmp_path, way):
    """Also where the user's Python finds the package in the user's checkout."""
    clone = made(*src_layout())
    pass_then_fail(clone)
    if way == "python path":
        monkeypatch.setenv("PYTHONPATH", str(clone.folder / "src"))
    if way == "editable":
        # As pip leaves it: a line in a .pth file. The replays find it as this process does.
        site = tmp_path / "site-packages"
        site.mkdir()
        (site / "sitecustomize.py").write_text(
            f"import sys; sys.path.append({str(clone.folder / 'src')!r})"
        )
        monkeypatch.setenv("PYTHONPATH", str(site))
        monkeypatch.syspath_prepend(str(clone.folder / "src"))
    code, out, err = cli(KEY)
    assert (code, culprit(out)) == (0, clone.commits[2]), err


def test_code_that_can_not_be_the_commits_is_found_out(made, cli, monkeypatch, tmp_path):
    """As a build backend's own finder has it, which comes before all paths."""
    clone = made(*src_layout())
    pass_then_fail(clone)
    site = tmp_path / "site-packages"
    site.mkdir()
    finder = f"""
import sys
from importlib.machinery import PathFinder
class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "layers":
            return PathFinder.find_spec(name, [{str(clone.folder / "src")!r}])
sys.meta_path.insert(0, Finder)
"""
    (site / "sitecustomize.py").write_text(finder)
    monkeypatch.setenv("PYTHONPATH", str(site))
    code, out, err = cli(KEY)
    assert (code, culprit(out)) == (1, None), err
    file = clone.folder / "src" / "layers.py"
    assert "each commit would be tested with the same code: layers was imported from" in err
    assert str(file) in err
    assert "--run 'pip install" in err

    # Installed as a copy: no checkout has anything to do with it.
    (site / "layers.py").write_text(works("bf16"))
    (site / "sitecustomize.py").write_text(finder.replace(str(clone.folder / "src"), str(site)))
    code, out, err = cli(KEY)
    assert (code, culprit(out)) == (1, None), err
    assert f"layers was imported from {site / 'layers.py'}" in err


# -- By a command of the user's -------------------------------------------------------------------


PYTEST = f"{sys.executable} -m pytest -p dtype_sampler"


@pytest.mark.skipif(sys.platform == "win32", reason="a POSIX shell")
@pytest.mark.parametrize(
    "command",
    [
        PYTEST,
        f"{PYTEST} -q {{replay}} > /dev/null",
        # Where its ledger stays out of sight, there are exit codes.
        f"""sh -c '{PYTEST} -q "$0" "$1" "$2" --no-dtype-ledger' {{replay}}""",
    ],
)
def test_a_command(made, cli, command):
    clone = made(*src_layout())
    pass_then_fail(clone)
    before = clone.state()
    code, out, err = cli(KEY, "--run", command)
    assert (code, culprit(out)) == (0, clone.commits[2]), err
    assert KEY in out.splitlines()[-1]
    assert out.splitlines()[-1].startswith(command.split(" {replay}")[0])
    assert clone.state() == before


@pytest.mark.skipif(sys.platform == "win32", reason="a POSIX shell")
@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("exit 125; :", "it can't be replayed at {}: exit code 125"),
        ("kill -SEGV $$; :", "it can't be replayed at {}: killed by SIGSEGV"),
        ("no-such-program-at-all", "it can't be replayed at {}: exit code 127"),
    ],
)
def test_a_command_that_can_not_tell(made, cli, command, words):
    clone = made(*turns())
    pass_then_fail(clone)
    code, _, err = cli(KEY, "--run", command)
    assert code == 1
    assert words.format(clone.commits[1][:7]) in err


# -- What is seen of it on the way -----------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="a terminal of POSIX")
def test_a_terminal_has_one_line_of_progress(made, cli):
    clone = made(*turns())
    pass_then_fail(clone)
    master, slave = os.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "dtype_sampler", "bisect", KEY],
        stdout=subprocess.PIPE,
        stderr=slave,
        text=True,
    ) as process:
        os.close(slave)
        shown = b""
        # The other end is closed when the process is gone, which Linux says by an error.
        with suppress(OSError):
            while part := os.read(master, 4096):
                shown += part
        out, _ = process.communicate()
    os.close(master)
    assert process.returncode == 0
    assert culprit(out) == clone.commits[1]
    assert b"\n" not in shown
    assert shown.startswith(b"\rbisecting 0/1 [")
    assert clone.commits[1][:7].encode() in shown
    # It is gone afterwards.
    assert shown.split(b"\r")[-2].isspace()


# -- Interrupted ----------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize(
    ("number", "code", "group"),
    [
        (signal.SIGINT, 130, False),
        # As a terminal does it.
        (signal.SIGINT, 130, True),
        (signal.SIGTERM, 143, False),
        (signal.SIGHUP, 129, False),
    ],
)
def test_an_interrupt_leaves_nothing_behind(made, cli, monkeypatch, number, code, group):
    clone = made(
        turns(first={"conftest.py": WAITING})[0],
        *({f"{n}.txt": ""} for n in range(4)),
        {"layers.py": works("bf16")},
    )
    pass_then_fail(clone)
    before = clone.state()
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("WAIT_AT", str(server.getsockname()[1]))
        with subprocess.Popen(
            [sys.executable, "-m", "dtype_sampler", "bisect", KEY],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
            # Both ends, and then in the midst of git's own bisection.
            for _ in range(2):
                with server.accept()[0] as replay:
                    replay.send(b"x")
            replay, _ = server.accept()
            assert "refs/bisect" not in clone.git("for-each-ref")
            assert clone.git("worktree", "list").count("\n") == 2
            if group:
                os.killpg(process.pid, number)
            else:
                process.send_signal(number)
            _, err = process.communicate()
            # The replay is gone as well: nobody holds the other end.
            with replay:
                assert replay.recv(1) == b""
    assert process.returncode == code
    assert err.splitlines()[-1] in ("dtype-sampler: interrupted", "dtype-sampler: terminated")
    assert clone.state() == before
