"""`dtype-sampler bisect` on real repositories, which the tests make."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from dtype_sampler.commands.main import main
from dtype_sampler.ledger.outcomes import Cell
from dtype_sampler.ledger.records import Observed, RunRecord, TestRecord
from dtype_sampler.ledger.sqlite import SqliteStore

LEDGER = ".dtype-ledger.sqlite"
KEY = "tests/test_layers.py::test_mean"
LABELS = ("f16", "bf16", "f32")
# What tells of a replay that hangs until somebody lets it go on.
WAITING = """
import os, socket
def wait():
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
    assert list(room.iterdir()) == []


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
        f"passed: commit {commits[2][:10]}, run 2, 1970-01-01T00:33:20Z",
        f"failed: commit {commits[28][:10]}, run 4, 1970-01-01T01:06:40Z",
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
        f"to replay it there: git switch --detach {commits[21][:10]}",
        line,
    ]
    steps = [line for line in err.splitlines() if re.match(r"\d+: ", line)]
    assert steps[0] == f"1: {commits[28][:10]} Change 28: failed"
    assert steps[1] == f"2: {commits[2][:10]} Change 2: passed"
    told = {line.split()[1]: line.rpartition(": ")[2] for line in steps}
    assert len(told) == len(steps) <= 12
    expected = {commits[15]: "there is no such test", commits[19]: "the tests can't be collected"}
    for commit, words in expected.items():
        assert told.get(commit[:10], words) == words
    # One at least of what can't be tested was in the way, and was passed over.
    assert any("skipped: " in line for line in steps)
    assert told[commits[20][:10]] == "passed"
    assert told[commits[21][:10]] == "failed"
