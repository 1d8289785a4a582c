"""The command `dtype-sampler report`, and its gate."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dtype_sampler.commands.exits import FINE, GATE_MISSED
from dtype_sampler.commands.opening import spare
from dtype_sampler.commands.output import can_write, write
from dtype_sampler.ledger.outcomes import SUSPECT
from dtype_sampler.ledger.records import FAILURES
from dtype_sampler.reports.words import visible

if TYPE_CHECKING:
    from dtype_sampler.ledger.store import Store

# So many runs are shown one by one in the HTML page, which holds them all.
SHOWN_RUNS = 30
# So many of the cells that a gate misses are named.
SHOWN_MISSING = 20


def run(options: argparse.Namespace, open_ledger: Callable[[], Store]) -> int:
    """Show the report; returns the exit code. Raises DtypeSamplerError."""
    from dtype_sampler.ledger.coverage import assess
    from dtype_sampler.reports.ledger import data, table, text, totals

    now = time.time()
    store = open_ledger()
    try:
        spare(options.output, getattr(store, "path", None))
        history = store.history(verdicts=False)
        coverage = assess(
            store.tests(),
            store.cells(),
            device=options.device,
            pattern=options.tests,
            modules=options.module,
            since=None if options.max_age is None else now - options.max_age,
            skipped=options.skipped,
            alone=history.alone,
            failures=store.failures(last=True),
        )
        runs = store.runs()
        activity = store.activity() if options.format in ("json", "html") else {}
        shown_runs = runs[-SHOWN_RUNS:] if options.format == "html" else []
        recent = {run.uid: store.observations(run.uid) for run in shown_runs}
        costs, hidden = store.costs(), history.hidden
    finally:
        store.close()
    looked_at = options.output is None and sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if looked_at else None
    plain = not can_write(options.output, "✓✗")
    report: dict[str, Any] = {}
    if options.by is not None or options.format in ("json", "html"):
        report = data.report(coverage, runs, activity, recent, now=now, costs=costs, hidden=hidden)
    if options.failing and report:
        report["tests"] = [test for test in report["tests"] if _fails(test)]
    if options.by is not None:
        report["by"] = table.support_table(report["tests"], options.by)
    if options.format == "json":
        import json

        shown = json.dumps(report) + "\n"
    elif options.format == "html":
        from dtype_sampler.reports.ledger.html import render

        shown = render(report)
    elif options.by is not None and options.format == "markdown":
        shown = table.markdown(report["by"], ascii_only=plain)
    elif options.by is not None:
        shown = table.text(report["by"], width=width, ascii_only=plain)
    elif options.format == "markdown":
        summary = data.summary(coverage, runs, costs, hidden)
        shown = text.markdown(coverage, summary, now=now, costs=costs, failing=options.failing)
    else:
        summary = data.summary(coverage, runs, costs, hidden)
        shown = text.text(
            coverage,
            summary,
            now=now,
            width=width,
            costs=costs,
            totals=totals.totals(coverage, width),
            failing=options.failing,
        )
    write(shown, options.output)
    asked = options.device, options.tests, options.module
    if not coverage.tests and any(asked):
        nothing = coverage.nothing_to_judge(*asked)
        sys.stderr.write(f"dtype-sampler: {visible(str(nothing))}\n")
    wanted = options.fail_under
    if wanted is None and options.max_age is not None:
        wanted = 100.0
    if wanted is None:
        return FINE
    if (nothing := coverage.nothing_to_judge(*asked)) is not None:
        sys.stderr.write(f"dtype-sampler: the gate of {wanted:g} % is missed: {nothing}\n")
        return GATE_MISSED
    if coverage.percent >= wanted:
        return FINE
    missing = text.missing_lines(coverage)
    more = len(missing) - SHOWN_MISSING
    sys.stderr.write(
        f"dtype-sampler: {coverage.percent:.2f} % of the cells are covered, which is less than"
        f" {wanted:g} %; {len(missing)} {'is' if len(missing) == 1 else 'are'}"
        f" missing{', the worst of them' * (more > 0)}:\n"
    )
    sys.stderr.writelines(f"  {visible(line)}\n" for line in missing[:SHOWN_MISSING])
    if more > 0:
        sys.stderr.write(f"  ... and {more} more: --format=json has them all\n")
    return GATE_MISSED


def _fails(test: dict[str, Any]) -> bool:
    """Whether a cell of a test of the report failed at its last verdict, or may have."""
    return any(
        cell["last_verdict"] in FAILURES or cell["state"] == SUSPECT for cell in test["cells"]
    )
