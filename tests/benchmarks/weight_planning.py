"""What planning costs: which key goes where, without reading a tensor.

`python -m tests.benchmarks.weight_planning [--quick] [--svg PATH]`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from statistics import median

from tests.benchmarks import weight_models
from tests.benchmarks.measure import interleave
from tests.benchmarks.report import Result, Section, tell

from dtype_sampler.weights import plan_load

NEEDS = "transformers"
REPETITIONS, QUICK = 9, 2
MOE_AIM, PLAIN_AIM = 1 / 12, 1 / 25
PLAIN = 18_424
SIZES = (500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000, 200_000)
# 10,000 and more keys take transformers seconds.
THEIR_SIZES = SIZES[:6]


def run(folder: Path, repetitions: int, tell: Callable[[str], None]) -> Section:
    """Plan both kinds of checkpoint on both sides; then one after the other of growing size."""
    results = []
    plain = weight_models.plain_keys(PLAIN)
    for name, keys, targets, moe, aim in (
        ("mixture of experts", *weight_models.moe_keys(), True, MOE_AIM),
        ("plain keys", plain, plain, False, PLAIN_AIM),
    ):
        sides = {
            "ours": _ours(keys, targets, moe=moe),
            "transformers": weight_models.their_planning(keys, targets, moe=moe),
            "dict": lambda keys=keys: {key: key for key in keys},
        }
        named = f"{name}, {len(keys):,}"
        results += weight_models.against(named, sides, {"transformers": aim}, repetitions, tell)
    for kind, per_key in growth(repetitions, tell).items():
        if kind != "transformers":
            smallest = per_key[min(per_key)]
            for size in (min(per_key), 20_000, max(per_key)):
                name = f"{kind}, {size:,}: per key / at {min(per_key)}"
                results.append(Result(name, "x", [per_key[size] / smallest]))
    return Section(
        "weight planning: against transformers",
        "Times by the clock as multiples of transformers' convert_and_load_state_dict_in_model,"
        " with nothing behind its functions that read and convert, and of a dict comprehension"
        f" over the keys; {repetitions} rounds in turn in one process; cpu: the same of CPU time."
        " Both sides have the same rules, transformers' own for all checkpoints among them. Then"
        " CPU time per key, as a multiple of that with the fewest keys.",
        results,
    )


def _ours(keys: list[str], targets: list[str], *, moe: bool) -> Callable[[], object]:
    rules = [*(weight_models.EXPERTS if moe else ()), *weight_models.LEGACY]
    return lambda: plan_load(keys, targets, rules, base_model_prefix=weight_models.PREFIX)


def growth(repetitions: int, tell: Callable[[str], None]) -> dict[str, dict[int, float]]:
    """CPU time per key in us, by size, for each kind."""
    sides: dict[tuple[str, int], Callable[[], object]] = {}
    for size in SIZES:
        plain = weight_models.plain_keys(size)
        # 393 keys a layer, of which 384 are experts'.
        here, there = weight_models.moe_keys(layers=max(round(size / 393), 1))
        sides["plain keys", size] = _ours(plain, plain, moe=False)
        sides["mixture of experts", size] = _ours(here, there, moe=True)
        if size in THEIR_SIZES:
            call = weight_models.their_planning(here, there, moe=True)
            sides["transformers", size] = call
    given = interleave(
        {f"{kind}, {size}": weight_models.timed(call) for (kind, size), call in sides.items()},
        max(repetitions // 3, 1),
        tell,
    )
    found: dict[str, dict[int, float]] = {}
    for kind, size in sides:
        keys = size if kind == "plain keys" else 3 + 393 * max(round(size / 393), 1)
        taken = median(time.cpu for time in given[f"{kind}, {size}"])
        found.setdefault(kind, {})[size] = 1e6 * taken / keys
    return found


def plot(per_key: dict[str, dict[int, float]], path: Path) -> None:
    """Draw the time per key over the number of keys as an SVG. Needs matplotlib."""
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
    colours = {"plain keys": "#0072B2", "mixture of experts": "#E69F00", "transformers": grey}
    figure, panel = plt.subplots(figsize=(7.2, 3.6), facecolor="white")
    least = min(per_key["plain keys"].values())
    for kind, colour in colours.items():
        sizes = list(per_key[kind])
        times = [per_key[kind][size] / least for size in sizes]
        label = "mixture of experts, transformers" if kind == "transformers" else kind
        panel.plot(sizes, times, "o-", color=colour, label=label, markersize=4)
    panel.set(xscale="log", yscale="log", xlabel="keys of the checkpoint")
    panel.set_ylabel("time per key, as a multiple\nof the least for plain keys")
    panel.set_xticks(ticks := [500, 2000, 10_000, 50_000, 200_000], [f"{n:,}" for n in ticks])
    panel.set_yticks(ticks := [1, 3, 10, 30, 100], [str(n) for n in ticks])
    panel.minorticks_off()
    panel.grid(color="#E8E8E8", linewidth=0.8)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(loc="center right", fontsize=9, labelcolor=grey, framealpha=1)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)


def main() -> None:
    """Measure the growth, print it, and draw it if asked to."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.weight_planning")
    parser.add_argument("--quick", action="store_true", help="few repetitions: a rough picture")
    parser.add_argument("--svg", type=Path, metavar="PATH", help="draw the growth there")
    options = parser.parse_args()
    per_key = growth(QUICK if options.quick else 3 * REPETITIONS, tell)
    tell("")
    for kind, times in per_key.items():
        print(kind, *(f"{size:,}: {taken:.2f} us" for size, taken in times.items()), sep="\n  ")
    if options.svg:
        plot(per_key, options.svg)


if __name__ == "__main__":
    main()
