"""Lines for the terminal. Pure text: the plugin writes them."""

from __future__ import annotations

from collections import Counter

from dtype_sampler.outcomes import UNSUPPORTED, VERDICTS, Tally
from dtype_sampler.plan import RunPlan

SECTION = "dtype-sampler"


def header(plan: RunPlan) -> str:
    """The line that says what decides this run's samples."""
    parts = [f"--dtype-seed={plan.seed} ({plan.seed_origin})"]
    if plan.all_dtypes:
        parts.append("all dtypes")
    else:
        parts.append(f"strategy={plan.strategy}, k={plan.k}")
    if plan.only:
        parts.append(f"only={','.join(plan.only)}")
    parts.append(f"device={plan.device or 'auto'}")
    return f"{SECTION}: {', '.join(parts)}"


def summary(plan: RunPlan, tally: Tally) -> list[str]:
    """What the run covered: one line, and one for each thing that is not to be missed."""
    cells = tally.cells()
    tests = len({cell.key for cell in cells})
    ran = sum(outcome in VERDICTS for outcome in cells.values())
    devices = ", ".join(sorted({cell.device for cell in cells}))
    lines = []
    if cells:
        words = "ran with all their dtypes" if plan.all_dtypes else "sampled"
        lines.append(
            f"{SECTION}: {_count(tests, 'test')} {words}, {ran} of {_count(len(cells), 'cell')}"
            f" ran on {devices} (--dtype-seed={plan.seed})"
        )
    passed_over = Counter(
        (cell.label, cell.device) for cell, outcome in cells.items() if outcome == UNSUPPORTED
    )
    for (label, device), times in passed_over.items():
        reason = tally.unsupported[label, device]
        lines.append(
            f"{SECTION}: {label} is not supported on {device},"
            f" {_count(times, 'cell')} passed over: {reason}"
        )
    for nodeid, labels in tally.crashed.items() if cells else ():
        lines.append(
            f"{SECTION}: {nodeid} crashed its worker"
            f"{' with ' * bool(labels)}{', '.join(labels)}; what all others ran counts"
        )
    return lines


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
