"""Tests of real models in three runs of consecutive seeds, and once with all dtypes.

All of it several times, as a clock tells little by one. Then what the ledger is for: a run by a
budget of time, and one of which a failure is known. From the root of the repository:
`python -m tests.realworld.demo [--first-seed=INT] [--rounds=INT]`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import mean, median
from tempfile import TemporaryDirectory
from textwrap import fill

ROOT = Path(__file__).parents[2]
TESTS = "tests/realworld/test_models.py"
WIDTH = 80


@dataclass(frozen=True)
class Result:
    """One test in one run. declared: its dtypes, by label. entered: those it ran with."""

    declared: tuple[str, ...]
    entered: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class Run:
    """One pytest process. tests: by the name of their class."""

    name: str
    exit_code: int
    seconds: float
    output: str
    tests: dict[str, Result]

    def entered(self, test: str) -> tuple[str, ...]:
        return self.tests[test].entered if test in self.tests else ()


def run_pytest(name: str, *options: str) -> Run:
    with TemporaryDirectory() as folder:
        record = Path(folder, "record.jsonl")
        plugins = ["-p", "dtype_sampler", "-p", "tests.realworld.recorder", f"--record={record}"]
        # No cache: `--dtype-seed=last` is to stay the last run of whoever looks at this demo.
        command = [sys.executable, "-m", "pytest", *plugins, "-p", "no:cacheprovider", "--color=no"]
        start = time.perf_counter()
        process = subprocess.run(
            [*command, TESTS, *options],
            cwd=ROOT,
            env=_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
        seconds = time.perf_counter() - start
        lines = record.read_text(encoding="utf-8").splitlines() if record.exists() else []
    tests = {}
    for line in map(json.loads, lines):
        tests[line["nodeid"].split("::")[1]] = Result(
            tuple(line["declared"]), tuple(line["entered"]), line["seconds"]
        )
    return Run(name, process.returncode, seconds, process.stdout, tests)


def _environment() -> dict[str, str]:
    """Ours, without the settings that would make a run other than its options say."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("DTYPE_SAMPLER_") and name != "PYTEST_ADDOPTS"
    } | {"PYTHONIOENCODING": "utf-8"}


def problems(sampled: Sequence[Run], full: Run) -> list[str]:
    """What is not as it should be: all tests pass, and the sampled runs together miss no dtype."""
    runs = [*sampled, full]
    wrong = [f"run {run.name}: pytest exited with {run.exit_code}" for run in runs if run.exit_code]
    if not full.tests:
        wrong.append(f"run {full.name}: no test ran")
    for name, test in full.tests.items():
        for label in test.declared:
            if not any(label in run.entered(name) for run in sampled):
                wrong.append(f"{name}: no sampled run took {label}")
            if label not in test.entered:
                wrong.append(f"{name}: run {full.name} did not take {label}")
        for run in sampled:
            if len(run.entered(name)) >= len(test.declared):
                wrong.append(f"{name}: run {run.name} took every dtype, which is no sample")
    return wrong


def labels_of(run: Run) -> list[str]:
    """The dtypes that any test declares."""
    return list(dict.fromkeys(label for test in run.tests.values() for label in test.declared))


def show_dtypes(sampled: Sequence[Run], full: Run) -> None:
    """Print a table: rows are dtypes, columns the runs of each test."""
    runs = [*sampled, full]
    print("\nWhich dtypes each run took\n")
    _print_row("", full.tests)
    _print_row("run", [" ".join(run.name for run in runs)] * len(full.tests))
    for label in labels_of(full):
        marks = [
            ["x" if label in run.entered(name) else "." for run in runs] for name in full.tests
        ]
        _print_row(label, map(" ".join, marks))
    covered = []
    for name, test in full.tests.items():
        taken = {label for run in sampled for label in run.entered(name)}
        covered.append(f"{len(taken)} of {len(test.declared)}")
    _print_row(f"runs {sampled[0].name} to {sampled[-1].name}", covered)


def show_times(loading: Run, rounds: Sequence[Sequence[Run]]) -> None:
    """Print a table: rows are runs, columns whole processes, all tests, each test.

    rounds: in each the same runs, the last of them that of all dtypes. Shown are medians, and how
    far the times of one run are apart: what is not longer than that by more says nothing.
    """
    *sampled, full = rounds[0]
    names = list(full.tests)

    def times(run: Run) -> list[float]:
        tests = [run.tests[name].seconds for name in names]
        return [run.seconds, sum(tests), *tests]

    def show(label: str, numbers: Iterable[float], unit: str = " ") -> None:
        _print_row(label, [f"{number:8.2f}{unit}" for number in numbers])

    # Of each run, a column for each time of which there is one in every round.
    columns = [list(zip(*map(times, same), strict=True)) for same in zip(*rounds, strict=True)]
    medians = [[median(column) for column in run] for run in columns]
    average = [mean(column) for column in zip(*medians[:-1], strict=True)]
    ratios = [a / b for a, b in zip(medians[-1], average, strict=True)]
    noise = [
        max(max(column) / min(column) for column in same) for same in zip(*columns, strict=True)
    ]
    print(f"\nHow long it took, in seconds by the clock: medians of {len(rounds)} rounds\n")
    _print_row("", [f"{head:>9}" for head in ("process", "all tests", *names)])
    for run, of_run in zip(sampled, medians[:-1], strict=True):
        show(f"run {run.name}", of_run)
    show(f"mean of {sampled[0].name} to {sampled[-1].name}", average)
    show(f"run {full.name}", medians[-1])
    show(f"{full.name} / mean", ratios, "x")
    if len(rounds) > 1:
        show("noise", noise, "x")
    ran = [sum(len(run.entered(name)) for name in names) for run in (full, sampled[0])]
    print()
    _print_text(
        f"Run {full.name} took {ran[0]} / {ran[1]} = {ran[0] / ran[1]:.2f}x as many dtypes as a"
        " sampled one. What all runs have to do alike is to build and save the models, and to load"
        f" torch and transformers: run {loading.name}, which ran no test, took"
        f" {loading.seconds:.2f} s."
    )
    print()
    if len(rounds) == 1:
        _print_text("One round can't tell what the plugin saves from what the machine did besides.")
    elif drowned := [
        name
        for name, ratio, spread in zip(("process", "all tests"), ratios, noise, strict=False)
        if ratio <= spread
    ]:
        _print_text(
            f"Noise, how far the times of one run are apart, is as large as what sampling saves"
            f" ({' and '.join(drowned)}): this machine is too busy for its times to say anything."
        )
    else:
        _print_text(
            "Noise is how far the times of one run are apart, at most: less than what is saved."
        )


def _print_row(label: str, cells: Iterable[str]) -> None:
    print(f"  {label:<16}" + "".join(f"  {cell:<10}" for cell in cells).rstrip())


def _print_text(text: str, indent: int = 0) -> None:
    # What goes on in a second line is indented further, but for a text that has no indent at all.
    print(fill(text, WIDTH, initial_indent=" " * indent, subsequent_indent=" " * 2 * indent))


def steered(seconds: float) -> list[str]:
    """Runs that the ledger steers; returns what is not as it should be.

    seconds: what all tests take with all dtypes.
    """
    with TemporaryDirectory() as folder:
        ledger = f"--dtype-ledger={Path(folder, 'ledger.sqlite')}"
        full = _take("A", "--all-dtypes", ledger)
        budget = max(round(seconds / 2), 1)
        print()
        _print_text(f"Now the ledger knows what each dtype takes. Half of that is {budget} s:")
        half = _take("B", f"--dtype-budget={budget}s", ledger)
        print()
        _print_text("Now ViT is broken in float16, on purpose, and nobody has time to mend it:")
        broken = ("--all-dtypes", ledger, "-p", "tests.realworld.broken")
        red = _take("C", *broken, exit_code=1)
        print()
        _print_text("What the ledger knows to fail is expected from here on; what is new is red:")
        green = _take("D", *broken, "--dtype-baseline=ledger")
    return steering_problems(full, half, red, green)


def steering_problems(full: Run, half: Run, red: Run, green: Run) -> list[str]:
    """What is not as it should be of runs with all dtypes, by half of the time, with a model that
    is broken, and with the same one once that is known.
    """
    wrong = []
    for run, code in ((full, 0), (half, 0), (red, 1), (green, 0)):
        if run.exit_code != code:
            wrong.append(f"run {run.name}: pytest exited with {run.exit_code}, not {code}")
    cells = [sum(len(run.entered(name)) for name in full.tests) for run in (full, half)]
    if not 0 < cells[1] < cells[0]:
        wrong.append(f"run {half.name}: took {cells[1]} of {cells[0]} dtypes by half of the time")
    if " 0 new" not in green.output:
        wrong.append(f"run {green.name}: does not say that nothing is new")
    return wrong


def _take(name: str, *options: str, again: bool = False, exit_code: int = 0) -> Run:
    """Run pytest, and print what it says about dtypes, or all it says if it ends otherwise.

    again: it was told before, and is only timed. exit_code: what it is to end with.
    """
    if not again:
        print(f"\nrun {name}: pytest -p dtype_sampler {TESTS} {' '.join(options)}")
    run = run_pytest(name, *options)
    lines = run.output.splitlines()
    if run.exit_code != exit_code:
        print(run.output)
    elif not again:
        for line in (*(line for line in lines if line.startswith("dtype-sampler:")), lines[-1]):
            _print_text(line.strip("= "), indent=4)
    return run


def main(args: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.realworld.demo", description=__doc__)
    parser.add_argument("--first-seed", type=int, default=1, metavar="INT", help="default: 1")
    parser.add_argument("--rounds", type=int, default=3, metavar="INT", help="default: 3")
    options = parser.parse_args(args)
    seed = options.first_seed
    if options.rounds < 1:
        parser.error("--rounds: at least 1")
    # Whatever is piped is to be read as it comes: the runs take a while.
    sys.stdout.reconfigure(line_buffering=True)

    _print_text(
        f"Models of transformers {version('transformers')} on torch {version('torch')}: each test"
        " saves a model and loads it back in each of its dtypes, checking every bit. Three runs of"
        " consecutive seeds take a sample of the dtypes each, the last run takes all."
        f" Times are medians of {options.rounds} such rounds."
    )
    # First without a test: no run shall wait for a cold disk, or compile modules for the others.
    loading = _take("0", "--collect-only", "-q")
    if loading.exit_code:
        return 1
    rounds = []
    for number in range(options.rounds):
        again = number > 0
        if again:
            print(f"\nround {number + 1} of {options.rounds}")
        rounds.append(
            [
                *(_take(str(n), f"--dtype-seed={seed + n - 1}", again=again) for n in (1, 2, 3)),
                _take("all", "--all-dtypes", again=again),
            ]
        )
        *sampled, full = rounds[-1]
        wrong = problems(sampled, full)
        if not again and full.tests:
            show_dtypes(sampled, full)
        if wrong:
            break
    if not wrong:
        show_times(loading, rounds)
        wrong = steered(sum(test.seconds for test in full.tests.values()))
    print()
    for problem in wrong:
        print(f"PROBLEM: {problem}")
    if not wrong:
        _print_text(
            f"All tests passed. Runs {sampled[0].name} to {sampled[-1].name} together covered all"
            f" {len(labels_of(full))} dtypes of every test. What was broken on purpose was red"
            " once, and known from then on."
        )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
