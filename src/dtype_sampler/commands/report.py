"""The command `dtype-sampler report`, and its gate."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dtype_sampler.commands.exits import FINE, GATE_MISSED
from dtype_sampler.commands.opening import place_of_baseline, spare
from dtype_sampler.commands.output import can_write, write, write_lines
from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.ledger.garbage import uncollected
from dtype_sampler.ledger.outcomes import SKIPPED, SUSPECT
from dtype_sampler.ledger.records import FAILURES
from dtype_sampler.ledger.secrets import redacted_word
from dtype_sampler.reports.words import count_of, visible
from dtype_sampler.session.settings import NO_BASELINE

if TYPE_CHECKING:
    from dtype_sampler.ledger.coverage import Coverage
    from dtype_sampler.ledger.places import Place
    from dtype_sampler.ledger.store import Store
    from dtype_sampler.reports.ledger.known import Comparison

# So many runs are shown one by one in the HTML page, which holds them all.
SHOWN_RUNS = 30
# So many of the cells that a gate misses are named.
SHOWN_MISSING = 20


@uncollected()  # records by the hundred thousand
def run(
    options: argparse.Namespace,
    open_ledger: Callable[[], Store],
    place_of: Callable[[str | None], Place],
) -> int:
    """Show the report; returns the exit code. Raises DtypeSamplerError.

    open_ledger: opens the one that the options name, or the default. place_of: where a ledger is
    that a text names; of None, the default.
    """
    from dtype_sampler.ledger.coverage import APART, assess
    from dtype_sampler.reports.ledger import data, table, text, totals

    now = time.time()
    baseline = _Baseline.of(options, place_of)
    store = open_ledger()
    try:
        spare(
            options.output,
            getattr(store, "path", None),
            None if baseline is None else baseline.path,
        )
        history = store.history(verdicts=False)
        coverage = assess(
            store.tests(),
            store.cells(costs=False),
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
        comparison = None if baseline is None else baseline.compared_with(coverage, store)
    finally:
        store.close()
    looked_at = options.output is None and sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if looked_at else None
    plain = not can_write(options.output, "✓✗")
    report: dict[str, Any] = {}
    # As JSON, tests are written one by one: all of them together may be of 500 MB.
    lazily = options.format == "json" and options.by is None
    if options.by is not None or options.format in ("json", "html"):
        report = data.report(
            coverage,
            runs,
            activity,
            recent,
            now=now,
            costs=costs,
            hidden=hidden,
            comparison=comparison,
            lazily=lazily,
        )
    if options.failing and report:
        failing = filter(_fails, report["tests"])
        report["tests"] = failing if lazily else list(failing)
    if options.by is not None:
        report["by"] = table.support_table(report["tests"], options.by)
    shown = ""
    if options.format == "json":
        write_lines(data.pieces(report), options.output)
    elif options.format == "html":
        from dtype_sampler.reports.ledger.html import render

        shown = render(report)
    elif options.by is not None and options.format == "markdown":
        shown = table.markdown(report["by"], ascii_only=plain)
    elif options.by is not None:
        shown = table.text(report["by"], width=width, ascii_only=plain)
    else:
        summary = data.summary(coverage, runs, costs, hidden, comparison)
        as_text = text.markdown
        if options.format == "text":
            known = None if comparison is None else comparison.known
            of_all = totals.totals(coverage, width, known)
            as_text = partial(text.text, width=width, totals=of_all)
        shown = as_text(
            coverage,
            summary,
            now=now,
            costs=costs,
            failing=options.failing,
            comparison=comparison,
        )
    if shown:
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
    skipped = coverage.apart(SKIPPED)
    if skipped and (report or options.output is not None):
        # Where the text says so itself, somebody has just read it.
        told = f"{count_of(skipped, 'cell')} that every run so far has skipped"
        sys.stderr.write(f"dtype-sampler: not counted: {told} (--skipped=missing counts them)\n")
    if coverage.percent >= wanted:
        return FINE
    missing = text.missing_lines(coverage)
    more = len(missing) - SHOWN_MISSING
    # Who has a baseline may think that it has a part in this.
    counted = "" if comparison is None else " (what fails is covered, known or not)"
    sys.stderr.write(
        f"dtype-sampler: {coverage.percent:.2f} % of the cells are covered{counted}, which is less"
        f" than {wanted:g} %; {len(missing)} {'is' if len(missing) == 1 else 'are'}"
        f" missing{', the worst of them' * (more > 0)}:\n"
    )
    sys.stderr.writelines(f"  {visible(line)}\n" for line in missing[:SHOWN_MISSING])
    if more > 0:
        sys.stderr.write(f"  ... and {more} more: --format=json has them all\n")
    if options.skipped != APART and any(line.endswith(f": {SKIPPED}") for line in missing):
        sys.stderr.write("  (what every run so far has skipped, --skipped=apart leaves out)\n")
    return GATE_MISSED


@dataclass(frozen=True, slots=True)
class _Baseline:
    """What a report is compared with. place: None for the ledger that is shown."""

    name: str
    how: str
    place: Place | None

    @classmethod
    def of(
        cls, options: argparse.Namespace, place_of: Callable[[str | None], Place]
    ) -> _Baseline | None:
        """The one that the options or the environment name, as pytest takes it; None if none is.

        Raises DtypeSamplerError.
        """
        how, text = "--baseline", options.baseline
        if text is None:
            how, text = "DTYPE_SAMPLER_BASELINE", os.environ.get("DTYPE_SAMPLER_BASELINE") or None
        if text is None or text == NO_BASELINE:
            return None
        place = place_of_baseline(text, how, place_of)
        if place is not None and place.is_same(place_of(options.ledger)):
            place = None
        return cls(redacted_word(text), how, place)

    @property
    def path(self) -> Path | None:
        """Its file, if it is one and not the one that is shown."""
        from dtype_sampler.ledger.places import FilePlace

        return self.place.path if isinstance(self.place, FilePlace) else None

    def compared_with(self, coverage: Coverage, store: Store) -> Comparison:
        """A report's failures against it. Raises DtypeSamplerError. store: what is shown."""
        from dtype_sampler.ledger.baseline import read_baseline
        from dtype_sampler.reports.ledger import known

        if self.place is None:
            before = known.before_the_last(coverage, store.known_failures(), store.failures())
            return known.against(coverage, before, self.name, own=True)
        try:
            return known.against(coverage, read_baseline(self.place), self.name)
        except DtypeSamplerError as error:
            raise DtypeSamplerError(f"{self.how}={self.name}: {error}") from None


def _fails(test: dict[str, Any]) -> bool:
    """Whether a cell of a test of the report failed at its last verdict, or may have."""
    return any(
        cell["last_verdict"] in FAILURES or cell["state"] == SUSPECT for cell in test["cells"]
    )
