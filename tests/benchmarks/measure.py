"""Running sides in turn, in processes of their own, and what came of it as numbers.

Unix only: the CPU time of a child process comes from `resource`.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

ROOT = Path(__file__).parents[2]

# Plugins that other people's environments have and that would add work, or files, to each side
# alike. The fewer there are, the larger is the share that is this plugin's.
_OTHERS = ("cacheprovider", "randomly", "xdist", "xdist.looponfail", "rerunfailures")
OTHERS_OFF = (*(f"-pno:{name}" for name in _OTHERS), "-pno:hypothesispytest")
PLUGIN_OFF = "-pno:dtype_sampler"

_NOT_INHERITED = ("PYTEST_", "DTYPE_SAMPLER_", "COVERAGE_", "PYTHONDONTWRITEBYTECODE")


@dataclass(frozen=True, slots=True)
class Usage:
    """What one process took. cpu: user and system time. output: its standard output."""

    wall: float
    cpu: float
    output: str


def interleave(
    sides: Mapping[str, Callable[[int], T]], repetitions: int, tell: Callable[[str], None]
) -> dict[str, list[T]]:
    """Run every side once a round, A B A B ..., and return what each gave, round by round.

    Each side gets the round's number. A first round, which fills the caches of bytecode and of the
    file system, is thrown away. Each round begins with another side, so that none of them always
    follows the same one.
    """
    names = list(sides)
    given: dict[str, list[T]] = {name: [] for name in names}
    for number in range(-1, repetitions):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            tell(f"{name}, {number + 1} of {repetitions}" if number >= 0 else f"{name}, warming up")
            result = sides[name](number)
            if number >= 0:
                given[name].append(result)
    return given


def pytest_process(arguments: Sequence[str], *, round_number: int) -> Usage:
    """Run pytest in a new process from the repository root, and measure the whole of it.

    Both sides of a round get the same hash seed, and every round another one. The environment is
    this one's without what is meant for this process's own pytest. Raises RuntimeError if pytest
    doesn't succeed.
    """
    environment = {k: v for k, v in os.environ.items() if not k.startswith(_NOT_INHERITED)}
    environment["PYTHONHASHSEED"] = str(round_number + 1)
    command = [sys.executable, "-m", "pytest", *OTHERS_OFF, *arguments]
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return Usage(wall, cpu, done.stdout)


def check_sides() -> None:
    """Raise RuntimeError unless the plugin is loaded on one side and absent on the other."""
    for arguments, loaded in (((), True), ((PLUGIN_OFF,), False)):
        told = pytest_process([*arguments, "--help"], round_number=0).output
        if ("--dtype-seed" in told) is not loaded:
            raise RuntimeError(f"the plugin is{' not' if loaded else ''} loaded with {arguments}")
