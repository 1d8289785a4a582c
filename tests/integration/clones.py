"""Repositories that the tests of `dtype-sampler bisect` make, and ledgers of them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from dtype_sampler.ledger.outcomes import Cell
from dtype_sampler.ledger.records import Observed, RunRecord, TestRecord
from dtype_sampler.ledger.sqlite import SqliteStore

LEDGER = ".dtype-ledger.sqlite"
KEY = "tests/test_layers.py::test_mean"
LABELS = ("f16", "bf16", "f32")


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
