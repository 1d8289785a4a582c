"""Lines for the terminal. Pure text: the plugin writes them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from dtype_sampler.outcomes import UNSUPPORTED, VERDICTS, Cell, Tally
from dtype_sampler.plan import RunPlan
from dtype_sampler.settings import MAX_SEED, Settings

if TYPE_CHECKING:
    from dtype_sampler.ledger.books import Books
    from dtype_sampler.ledger.coverage import Coverage
    from dtype_sampler.ledger.records import CellRecord, RunRecord

# As `ledger.coverage` has it, which is not imported before there is a ledger to show.
NEVER = "never ran"

SECTION = "dtype-sampler"
# How the test keys of the checks that come with the plugin begin.
CHECKS = "dtype_sampler/checks/"


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
    checked = any(cell.key.startswith(CHECKS) for cell in cells)
    if checked and devices == "cpu" and plan.device is None:
        lines.append(f"{SECTION}: the checks ran for cpu only: torch finds no accelerator here")
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


def histories(
    past: Iterable[tuple[Cell, CellRecord | None, RunRecord | None]], now: float
) -> list[str]:
    """What the ledger knows of cells that failed, so that nobody blames an innocent change."""
    return [f"history: {cell.label} {_history(record, run, now)}" for cell, record, run in past]


def _history(record: CellRecord | None, run: RunRecord | None, now: float) -> str:
    if record is None or record.verdict is None:
        return "never ran before"
    if record.passed is None:
        return "never passed before"
    text = f"last passed {ago(record.passed.at, now)}"
    if run is None:
        return text
    commit = f", commit {short_commit(run.commit)}" if run.commit else ""
    return f"{text} in run {run.number}, seed {run.seed}{commit}"


def short_commit(commit: str) -> str:
    """The first seven digits of a commit, with the `+` of a dirty tree."""
    return commit[:7] + "+" * commit.endswith("+")


def age(seconds: float) -> str:
    """A time span in the largest unit that fits, such as `3 days`."""
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            return _count(int(seconds // length), unit)
    # Another machine's clock may be ahead.
    return _count(max(int(seconds), 0), "second")


def ago(at: float, now: float) -> str:
    """How long ago that was, for people."""
    return f"{age(now - at)} ago"


def ledger_summary(
    books: Books, coverage: Coverage | None, settings: Settings
) -> list[tuple[str, bool]]:
    """What the ledger comes to after this run: lines, and whether each is a matter of concern."""
    lines = []
    wanted = settings.fail_under
    if coverage is not None and coverage.tests and books.run is not None:
        devices = ", ".join(sorted({state.test.device for state in coverage.tests}))
        text = (
            f"{SECTION}: ledger: {coverage.covered} of {_count(coverage.cells, 'cell')} covered"
            f" on {devices}, {books.added} for the first time in this run"
        )
        oldest = coverage.oldest
        if oldest is not None and oldest.verdict_at is not None:
            text += f"; the oldest verdict is {age(books.now() - oldest.verdict_at)} old"
        lines.append((text, False))
        never = [test for test in coverage.tests if any(c.state == NEVER for c in test.cells)]
        if never:
            more = coverage.runs_needed((books.run.seed + 1) % (MAX_SEED + 1))
            text = (
                f"{SECTION}: ledger: {_count(len(never), 'test')}"
                f" {'has' if len(never) == 1 else 'have'} cells that never ran;"
                f" {_count(more, 'more run')} of consecutive seeds"
                f" {'covers' if more == 1 else 'cover'} them"
            )
            lines.append((text, False))
    lines += [(f"{SECTION}: ledger: {problem}", True) for problem in books.problems]
    if wanted is not None:
        if coverage is None:
            problem = "the ledger can't tell what is covered"
        else:
            missing = coverage.cells - coverage.covered
            problem = f"{coverage.percent:.2f} % of the cells are covered, {missing} are missing"
        if coverage is None or coverage.percent < wanted:
            lines.append((f"ERROR: --dtype-fail-under={wanted:g}: {problem}", True))
    return lines


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
