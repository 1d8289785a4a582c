"""pytest on somebody else's suite, in a process of its own, and what it ran and took."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Ran:
    """One test that ran. declared: its dtypes, by label. entered: those it ran with."""

    declared: tuple[str, ...]
    entered: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class Run:
    """One pytest process.

    seconds: by the clock. cpu: seconds of the processors, of xdist's workers too. tests: by node
    id.
    """

    exit_code: int
    seconds: float
    cpu: float
    output: str
    tests: dict[str, Ran]

    def count(self, what: str) -> int:
        """A number of pytest's last line, such as that of `subtests passed`."""
        words = self.output.splitlines()[-1].replace(",", " ").split()
        wanted = what.split()
        for i, word in enumerate(words):
            if word.isdigit() and words[i + 1 : i + 1 + len(wanted)] == wanted:
                return int(word)
        return 0


def run_pytest(folder: Path, *options: str, plugin: bool = True) -> Run:
    """Run pytest in *folder*; plugin: with ours, or without."""
    with TemporaryDirectory() as temporary:
        record = Path(temporary, "record.jsonl")
        plugins = ["-p", "dtype_sampler" if plugin else "no:dtype_sampler"]
        plugins += ["-p", "recorder", f"--record={record}", "--color=no"]
        before, start = _cpu(), time.perf_counter()
        process = subprocess.run(
            [sys.executable, "-m", "pytest", *plugins, *options],
            cwd=folder,
            env=_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
        seconds, cpu = time.perf_counter() - start, _cpu() - before
        lines = record.read_text(encoding="utf-8").splitlines() if record.exists() else []
    tests = {
        line["nodeid"]: Ran(tuple(line["declared"]), tuple(line["entered"]), line["seconds"])
        for line in map(json.loads, lines)
    }
    return Run(process.returncode, seconds, cpu, process.stdout, tests)


def _cpu() -> float:
    # Zero on Windows.
    used = os.times()
    return used.children_user + used.children_system


def _environment() -> dict[str, str]:
    """Ours, without what would make a run other than its options say, and without the hub."""
    path = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("DTYPE_SAMPLER_", "PYTEST_"))
    } | {
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_OFFLINE": "1",
        "PYTHONIOENCODING": "utf-8",
        "PYTHONPATH": path,
    }


def covered(runs: Sequence[Run]) -> dict[str, set[str]]:
    """Node id -> the labels that any of these runs took."""
    taken: dict[str, set[str]] = {}
    for run in runs:
        for nodeid, ran in run.tests.items():
            taken.setdefault(nodeid, set()).update(ran.entered)
    return taken
