"""How many runs each strategy needs until every cell has run once, by the real `choose`.

`python -m tests.benchmarks.simulation [--quick] [--svg PATH]`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import count
from math import ceil, comb
from pathlib import Path
from random import Random
from statistics import fmean

from tests.benchmarks.report import Result, Section, tell

from dtype_sampler.sampling.candidates import family_of
from dtype_sampler.sampling.rule import STRATEGIES, choose, runs_to_cover

REPETITIONS, QUICK = 50, 5
K = 3
# A mixed list as suites have them, and a pool of torch's own.
POOLS = {
    7: (
        *("float16", "bfloat16", "float32", "auto"),
        *("torch.float16", "torch.bfloat16", "torch.float32"),
    ),
    13: (
        *("torch.float16", "torch.bfloat16", "torch.float32", "torch.float64"),
        *("torch.float8_e4m3fn", "torch.float8_e5m2", "torch.complex64", "torch.complex128"),
        *("torch.int8", "torch.int32", "torch.int64", "torch.uint8", "torch.bool"),
    ),
}
# How many tests, and how much oftener than the largest suite each is simulated.
TESTS = {1: 100, 100: 10, 3000: 1}
LOST = 1 / 5

Curve = list[float]


@dataclass(frozen=True, slots=True)
class Case:
    """What is simulated. n: candidates of each test. lost: the chance that a run is lost."""

    n: int
    tests: int
    strategy: str
    lost: float = 0.0


CASES = [
    Case(n, tests, strategy, lost)
    for n in POOLS
    for tests in TESTS
    for strategy in STRATEGIES
    for lost in (0.0, LOST)
]


def simulate(case: Case, name: str) -> Curve:
    """The share of all cells that is on record after 0, 1, 2... runs, until all are.

    A lost run uses up a seed and leaves no record, so that nothing counts as covered by it.

    name: what the starting seed, the test keys and the losses are drawn from, the same for every
    strategy.
    """
    labels = POOLS[case.n]
    families = [family_of(label) for label in labels]
    random = Random(f"{case.n} {case.tests} {name}")
    first = random.randrange(2**32)
    verdicts: dict[str, dict[str, float]] = {
        f"tests/test_{name}.py::test_{first}_{i}": {} for i in range(case.tests)
    }
    curve = [0.0]
    cells = case.tests * case.n
    covered = 0
    for run in count():
        if random.random() >= case.lost:
            # A test whose cells have all run adds nothing: it is left out, to save time.
            for key, known in [kv for kv in verdicts.items() if len(kv[1]) < case.n]:
                before = len(known)
                chosen = choose(
                    seed=first + run,
                    strategy=case.strategy,
                    key=key,
                    labels=labels,
                    families=families,
                    k=K,
                    verdicts=known,
                )
                known.update(dict.fromkeys(chosen, float(run)))
                covered += len(known) - before
        curve.append(covered / cells)
        if covered == cells:
            return curve
    raise AssertionError


def expected(case: Case) -> tuple[float, int]:
    """The mean and the 95th percentile of the runs until all has run, by theory, not by `choose`.

    `rotate` is taken to be a window that moves on by k places a run, `oldest` to waste no place
    before all has run.
    """
    mean, p95 = 0.0, 0
    for runs, chance in enumerate(_chances(case)):
        if chance > 1 - 1e-9:
            return mean, p95
        mean += 1 - chance
        if chance < 0.95:
            p95 = runs + 1
    raise AssertionError


def _chances(case: Case) -> Iterator[float]:
    """The chance that all has run after 0, 1, 2... runs."""
    n, kept = case.n, 1 - case.lost
    if case.strategy == "rotate":
        everything = 2**n - 1
        masks = {0: 1.0}
        for run in count():
            yield masks.get(everything, 0.0)
            window = sum(1 << (run * K + place) % n for place in range(K))
            after: dict[int, float] = {}
            for mask, chance in masks.items():
                for new, share in ((mask | window, kept), (mask, case.lost)):
                    after[new] = after.get(new, 0.0) + chance * share
            masks = after
    for runs in count():
        yield sum(
            comb(runs, seen) * kept**seen * case.lost ** (runs - seen) * _without_loss(case, seen)
            for seen in range(runs + 1)
        )


@cache
def _without_loss(case: Case, runs: int) -> float:
    if case.strategy == "oldest":
        return float(runs >= runs_to_cover(case.n, K))
    # Inclusion and exclusion over the j candidates that no draw has met.
    one = sum(
        (-1) ** j * comb(case.n, j) * (comb(case.n - j, K) / comb(case.n, K)) ** runs
        for j in range(case.n + 1)
    )
    return min(max(one, 0.0), 1.0) ** case.tests


def measure(repetitions: int, tell: Callable[[str], None]) -> dict[Case, list[Curve]]:
    """Simulate each case: so many times for the largest suites, oftener for the smaller ones."""
    curves = {}
    for done, case in enumerate(CASES):
        tell(f"{done} of {len(CASES)} cases")
        curves[case] = [simulate(case, str(i)) for i in range(repetitions * TESTS[case.tests])]
    return curves


def mean_curve(curves: Sequence[Curve]) -> Curve:
    """The mean share after 0, 1, 2... runs; a simulation that has ended stays at 1."""
    length = max(map(len, curves))
    return [fmean(c[run] if run < len(c) else 1.0 for c in curves) for run in range(length)]


def run(folder: Path, repetitions: int, tell: Callable[[str], None]) -> Section:
    """Simulate, and put the measured runs beside the expected ones."""
    results = []
    for case, curves in measure(repetitions, tell).items():
        runs = [len(curve) - 1.0 for curve in curves]
        mean, p95 = expected(case)
        name = f"{case.n}, {case.tests:,}: {case.strategy}{', lost' if case.lost else ''}"
        beside = {"mean": fmean(runs), "exact": mean, "p95": _p95(runs), "exact p95": p95}
        results.append(Result(name, "runs", runs, beside=beside))
    return Section(
        f"simulation: runs until every cell has run, k={K}",
        f"Candidates, tests: strategy. {_METHOD}",
        results,
    )


_METHOD = (
    "Random starting seeds, fresh test keys; 'lost': each run is lost with probability 1/5."
    " Exact: by theory."
)


def _p95(numbers: Sequence[float]) -> float:
    return sorted(numbers)[ceil(0.95 * len(numbers)) - 1]


def lines(curves: dict[Case, list[Curve]]) -> Iterator[str]:
    """The table, for 80 columns: of each case mean and 95th percentile, expected in brackets."""
    yield f"Runs until every cell has run once, {K} a run: measured (expected)"
    yield f"{'':31}{'no run lost':^24}{'a fifth of the runs lost':^25}".rstrip()
    cells = "".join(f"{head:>13}{'p95':>11}" for head in ("mean", "mean"))
    yield f"{'n':>2}{'tests':>7}  {'strategy':8}{'times':>7}{cells}"
    for case, given in curves.items():
        if not case.lost:
            yield f"{case.n:>2}{case.tests:>7,}  {case.strategy:8}{len(given):>7,}" + "".join(
                _cells(Case(case.n, case.tests, case.strategy, lost), curves)
                for lost in (0.0, LOST)
            )


def _cells(case: Case, curves: dict[Case, list[Curve]]) -> str:
    runs = [len(curve) - 1 for curve in curves[case]]
    mean, p95 = expected(case)
    first, second = f"{fmean(runs):.2f} ({mean:.2f})", f"{_p95(runs):.0f} ({p95})"
    return f"{first:>15}{second:>9}"


def plot(curves: dict[Case, list[Curve]], path: Path) -> None:
    """Draw the coverage of the largest suites as an SVG. Needs matplotlib."""
    import matplotlib as mpl

    mpl.use("svg" if path.suffix == ".svg" else "agg")
    from matplotlib import pyplot as plt

    grey = "#444444"
    fonts = ["Helvetica", "Arial", "Liberation Sans", "DejaVu Sans"]
    mpl.rcParams.update({
        "svg.fonttype": "none", "svg.hashsalt": "dtype-sampler", "font.size": 10,
        "font.family": "sans-serif", "font.sans-serif": fonts, "axes.edgecolor": "#999999",
        "axes.labelcolor": grey, "xtick.color": grey, "ytick.color": grey,
    })  # fmt: skip
    # Okabe and Ito's colours. `oldest` lies on `rotate` where nothing is lost: both must show.
    looks = {
        "rotate": {"color": "#0072B2", "linewidth": 5.0},
        "oldest": {"color": "#E69F00", "linewidth": 1.8},
        "random": {"color": "#444444", "linewidth": 1.8},
    }
    figure, panels = plt.subplots(1, 2, figsize=(9.2, 4.4), sharey=True, facecolor="white")
    for panel, n in zip(panels, POOLS, strict=True):
        for lost in (0.0, LOST):
            for strategy, look in looks.items():
                case = Case(n, max(TESTS), strategy, lost)
                shares = [100 * share for share in mean_curve(curves[case])]
                style = {**look, "linewidth": 1.8, "dashes": (3, 1.5)} if lost else look
                label = f"{strategy}, a fifth of the runs lost" if lost else strategy
                panel.plot(range(1, len(shares)), shares[1:], label=label, **style)
                end, _ = expected(case)
                panel.plot(
                    *(end, 100, "o"), markersize=9 if strategy == "rotate" and not lost else 6,
                    color="white" if lost else look["color"], markeredgecolor=look["color"],
                    clip_on=False, zorder=5 + lost,
                )  # fmt: skip
                if strategy == "random" or (strategy == "rotate" and not lost):
                    shift, side = (-4, "left") if lost else (3, "right")
                    panel.annotate(
                        *(f"{end:.3g}", (end, 100), (shift, 8)),
                        textcoords="offset points", ha=side, color=grey, fontsize=9,
                    )  # fmt: skip
        panel.set_title(f"{n} candidates, {K} a run", color=grey, fontsize=11, pad=22)
        panel.set(xlabel="runs (logarithmic)", xscale="log", xlim=(1, 80), ylim=(0, 101))
        panel.set_xticks(ticks := [1, 2, 3, 5, 10, 20, 30, 50, 80], [str(tick) for tick in ticks])
        panel.minorticks_off()
        panel.grid(color="#E8E8E8", linewidth=0.8)
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("cells covered, in percent")
    panels[1].plot([], [], "o", color=grey, label="all covered: mean, by theory")
    panels[1].legend(loc="lower right", fontsize=9, labelcolor=grey, handlelength=3, framealpha=1)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)


def main() -> None:
    """Simulate, print the table, and draw the plot if asked to."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.simulation")
    parser.add_argument("--quick", action="store_true", help="few repetitions: a rough picture")
    parser.add_argument("--svg", type=Path, metavar="PATH", help="draw the coverage there")
    options = parser.parse_args()
    curves = measure(QUICK if options.quick else REPETITIONS, tell)
    tell("")
    print(*lines(curves), sep="\n")
    if options.svg:
        plot(curves, options.svg)


if __name__ == "__main__":
    main()
