"""How the ledger stands once a run has ended: whether its gate passes, and what comes next."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dtype_sampler.sampling.plan import RunPlan
from dtype_sampler.sampling.steering import Steered
from dtype_sampler.session import terminal
from dtype_sampler.session.settings import Settings

if TYPE_CHECKING:
    from dtype_sampler.ledger.books import Books
    from dtype_sampler.ledger.coverage import Coverage
    from dtype_sampler.ledger.records import RunRecord
    from dtype_sampler.session.known import Compared

# So many tests with cells that never ran are looked at for the steps that their seeds go in.
_LOOKED_AT = 200


class Afterwards:
    """How a ledger stands after a run.

    reach: by test key and device, the labels that the run's selection leaves of each test it takes.
    strategy: of the run's samples, as `RunRecord` has it. steered: what it took by a budget.
    """

    def __init__(
        self,
        books: Books,
        settings: Settings,
        plan: RunPlan,
        reach: Mapping[tuple[str, str], Collection[str]],
        strategy: str,
        steered: Steered | None,
    ) -> None:
        self._books = books
        self._settings = settings
        self._plan = plan
        self._reach = reach
        self._strategy = strategy
        self._steered = steered
        # None if the ledger can't tell; and what the next runs come to, in lines.
        self.coverage: Coverage | None = None
        self.ahead: list[terminal.Line] = []

    def look(self, devices: Collection[str], compared: Compared | None = None) -> None:
        """Ask the ledger. devices: the types of device that this run had; of none, it asks of all.
        compared: what the run comes to against its baseline.

        Writes the summary of GitHub's step, where that is wanted.
        """
        summary = os.environ.get("GITHUB_STEP_SUMMARY") if self._settings.step_summary else None
        self.coverage, runs = self._books.state(devices or None, whole=bool(summary))
        if self.coverage is None:
            return
        if summary:
            self._write_step_summary(Path(summary), self.coverage, runs, compared)
        if self._books.run is not None:
            self.ahead = self._look_ahead(self.coverage, self._books.run, runs)

    @property
    def misses_gate(self) -> bool:
        """Whether `--dtype-fail-under` is not met."""
        wanted = self._settings.fail_under
        return wanted is not None and (
            self.coverage is None
            or self.coverage.nothing_to_judge() is not None
            or self.coverage.percent < wanted
        )

    def _look_ahead(
        self, coverage: Coverage, run: RunRecord, runs: Sequence[RunRecord]
    ) -> list[terminal.Line]:
        """What the next runs of this selection come to, in lines."""
        from dtype_sampler.ledger import outlook

        everything = self._plan.all_dtypes or bool(self._plan.only)
        # A seed that was given speaks of others that will be; those of a lane go on by themselves.
        stuck = []
        if self._strategy == "rotate" and not everything:
            waiting = [
                state
                for state in coverage.tests
                if state.never_ran and (state.test.key, state.test.device) in self._reach
            ][:_LOOKED_AT]
            past = self._books.seeds([state.test for state in waiting]) if len(runs) > 1 else []
            for state, seeds in zip(waiting, past, strict=False):
                met = [seed for seed, steady in seeds if steady or not run.in_series]
                if found := outlook.out_of_step(state, met):
                    stuck.append(found)
        first = outlook.seed_following(run, runs)
        ahead = outlook.foresee(
            coverage,
            self._reach,
            first,
            "all" if everything else self._strategy,
            but={(one.state.test.key, one.state.test.device) for one in stuck},
        )
        if self._steered is not None:
            ahead = replace(ahead, runs=self._steered.taken.runs)
        elif self._plan.part:
            # What other parts take of a test, this one never will.
            ahead = replace(ahead, runs=None)
        return terminal.looking_ahead(ahead, stuck, first, in_series=run.in_series)

    def _write_step_summary(
        self,
        path: Path,
        coverage: Coverage,
        runs: Sequence[RunRecord],
        compared: Compared | None,
    ) -> None:
        from dtype_sampler.reports.ledger import data, text

        now = self._books.now()
        costs = self._books.costs()
        summary = data.summary(coverage, runs, costs)
        # Of this run alone: the rest of the ledger it did not compare.
        notes = [] if compared is None else [f"this run against its baseline: {compared.line}"]
        try:
            with path.open("a", encoding="utf-8", errors="backslashreplace") as file:
                room = text.STEP_SUMMARY_LIMIT - file.tell()
                shown = text.markdown(
                    coverage, summary, now=now, limit=room, costs=costs, notes=notes
                )
                file.write(shown)
        except OSError as error:
            self._books.problems.append(f"{path}: can't be written: {error.strerror}")
