"""What the ledger costs a trivial test in instructions, which nothing else on a machine changes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks.ledger import RUN_AIM, SUITE
from tests.benchmarks.measure import OTHERS_OFF, ROOT
from tests.benchmarks.report import Result, Section

PROGRAM = "valgrind"
REPETITIONS = QUICK = 1
# So many tests each: the difference is free of what a session takes at its start.
FEW, MANY = 200, 1200

# As `python -m pytest`. Valgrind slows a process down by about sixty: so does this the books, which
# would else make sixty transactions of what is one.
PYTEST = """
import sys
import pytest
from dtype_sampler.ledger import books
books._BETWEEN *= 60
sys.exit(pytest.console_main())
"""


def run(folder: Path, repetitions: int, tell: Callable[[str], None]) -> Section:
    """Count what runs of few tests and of many take, with the ledger and without."""
    suites = {}
    for count in (FEW, MANY):
        suite = suites[count] = folder / f"suite-{count}"
        suite.mkdir(parents=True)
        (suite / "pytest.ini").write_text("[pytest]\n")
        (suite / "test_it.py").write_text(SUITE.format(count=count))
    ratios, beside = [], {}
    for _ in range(repetitions):
        each = {}
        for side, arguments in (("with", ()), ("without", ("--no-dtype-ledger",))):
            taken = []
            for count, suite in suites.items():
                tell(f"{side} the ledger, {count} tests under valgrind")
                taken.append(_instructions(suite, *arguments))
            each[side] = (taken[1] - taken[0]) / (MANY - FEW)
        ratios.append(each["with"] / each["without"])
        beside = {f"million {side}": number / 1e6 for side, number in each.items()}
    return Section(
        "ledger: instructions",
        f"Instructions of a trivial sampled test with the ledger / with --no-dtype-ledger: runs of"
        f" {MANY:,} and of {FEW} tests under valgrind's callgrind, the difference divided by"
        f" {MANY - FEW:,}.",
        [Result("a trivial sampled test", "x", ratios, RUN_AIM, beside)],
    )


def _instructions(suite: Path, *arguments: str) -> int:
    for left in suite.glob(".dtype-ledger*"):
        left.unlink()
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    environment.pop("DTYPE_SAMPLER_LEDGER", None)
    written = suite.with_suffix(".callgrind")
    command = [
        *(PROGRAM, "--tool=callgrind", f"--callgrind-out-file={written}"),
        *(sys.executable, "-c", PYTEST, *OTHERS_OFF, "-q", *arguments),
        *(f"--rootdir={suite}", str(suite)),
    ]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    found = re.search(r"^(?:summary|totals): (\d+)", written.read_text(), re.MULTILINE)
    if found is None:
        raise RuntimeError(f"{written}: callgrind has counted nothing")
    return int(found[1])
