"""The tables of docs/explanation/real-suites.md: what sampling saves in two real suites.

From the root of the repository: `python tests/realworld/times.py [transformers] [scipy]`, with
TRANSFORMERS_SDIST naming the folder that holds the sdist of transformers (`tox run -e suites`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import adoption
import installed
import runs

# What a variant is given on the command line; {seed} is another one in every round.
PLAIN = "unedited, without the plugin"
VARIANTS: Mapping[str, tuple[str, ...]] = {
    PLAIN: (),
    "all dtypes": ("--all-dtypes", "--no-dtype-ledger"),
    "a sample of 3": ("--dtype-seed={seed}",),
    "all dtypes, `-n 2`": ("--all-dtypes", "--no-dtype-ledger", "-n2"),
    "a sample of 3, `-n 2`": ("--dtype-seed={seed}", "-n2"),
}

Column = Callable[[runs.Run], float]


def measure(
    folders: Mapping[bool, Path], options: Sequence[str], rounds: int, first_seed: int
) -> dict[str, list[runs.Run]]:
    """Run every variant once in each round, one after the other, so that all share what disturbs.

    folders: whether the plugin is on -> the project. Raises SystemExit if a run fails.
    """
    taken: dict[str, list[runs.Run]] = {name: [] for name in VARIANTS}
    # Modules are compiled, and the disk is warm.
    runs.run_pytest(folders[True], *options, "--collect-only", "-q")
    for number in range(rounds):
        for name, more in VARIANTS.items():
            seed = first_seed + number
            # Each way of running keeps books of its own.
            ledger = f"--dtype-ledger={'n2' if '-n2' in more else 'alone'}.sqlite"
            given = [ledger, *(one.format(seed=seed) for one in more)] if name != PLAIN else more
            plugin = name != PLAIN
            run = runs.run_pytest(folders[plugin], *options, *given, plugin=plugin)
            print(f"  round {number + 1}, {name}: {run.seconds:.2f} s", file=sys.stderr)
            if run.exit_code:
                sys.exit(run.output)
            taken[name].append(run)
    return taken


def show(taken: Mapping[str, Sequence[runs.Run]], columns: Mapping[str, Column]) -> None:
    """Print a table in Markdown: rows are variants, cells medians over the rounds."""
    print("| | " + " | ".join(columns) + " |")
    print("| --- |" + " ---: |" * len(columns))
    for name, several in taken.items():
        cells = [median(map(column, several)) for column in columns.values()]
        shown = [f"{cell:.2f}" if isinstance(cell, float) else f"{cell:,}" for cell in cells]
        print(f"| {name} | " + " | ".join(shown) + " |")
    print()


def transformers(rounds: int, first_seed: int) -> None:
    sdist = adoption.find_sdist()
    if sdist is None:
        sys.exit(f"{adoption.SDIST} names no folder with the sdist of transformers")
    with TemporaryDirectory() as folder:
        folders = {False: Path(folder, "plain"), True: Path(folder, "adopted")}
        adoption.unpack(sdist, folders[False])
        adoption.adopt(sdist, folders[True])
        taken = measure(folders, ("-k", adoption.TEST), rounds, first_seed)

    def test(name: str) -> Column:
        def seconds(run: runs.Run) -> float:
            return next(ran.seconds for node, ran in run.tests.items() if f"{name}Model" in node)

        return seconds

    show(
        taken,
        {
            "D-FINE": test("DFine"),
            "Llama": test("Llama"),
            "ViT": test("ViT"),
            "process": lambda run: run.seconds,
            "CPU": lambda run: run.cpu,
            "subtests": lambda run: run.count("subtests passed"),
        },
    )


def scipy(rounds: int, first_seed: int) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        installed.make_project(folder)
        options = ("--pyargs", installed.PACKAGE, "-q", "-p", "no:cacheprovider")
        # Without the plugin its keys would be unknown to pytest, which warns of it.
        taken = measure({False: folder, True: folder}, options, rounds, first_seed)
    show(
        taken,
        {
            "items": lambda run: len(run.tests),
            "process": lambda run: run.seconds,
            "CPU": lambda run: run.cpu,
        },
    )


SUITES = {"transformers": transformers, "scipy": scipy}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help="default: all")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="default: 3")
    parser.add_argument("--first-seed", type=int, default=1, metavar="INT", help="default: 1")
    args = parser.parse_args()
    for name in args.suites or SUITES:
        if name not in SUITES:
            parser.error(f"{name!r} is none of {', '.join(SUITES)}")
        print(f"{name}, seconds, medians of {args.rounds} interleaved rounds\n", flush=True)
        SUITES[name](args.rounds, args.first_seed)


if __name__ == "__main__":
    main()
