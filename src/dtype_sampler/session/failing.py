"""What the report of a failure is given to say: the lines that replay it, and its history."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from dtype_sampler.ledger.outcomes import Cell
from dtype_sampler.sampling.plan import RunPlan
from dtype_sampler.session import terminal
from dtype_sampler.session.faults import told
from dtype_sampler.session.nodeids import argument_of_nodeid
from dtype_sampler.session.settings import Settings

if TYPE_CHECKING:
    from dtype_sampler.ledger.books import Books


class Failures:
    """The failures of one session.

    books: what knows their history; None if nothing does.
    """

    def __init__(
        self, config: pytest.Config, settings: Settings, plan: RunPlan, books: Books | None
    ) -> None:
        self._config = config
        self._settings = settings
        self._plan = plan
        self._books = books
        # As pytest found it: a test may change its environment.
        self._addopts = os.environ.get("PYTEST_ADDOPTS", "")
        self._common: dict[str, Any] | None = None
        # Node id -> the lines that its report was given.
        self._lines: dict[str, dict[str, None]] = {}
        # Those whose history is told once the run has ended.
        self._untold: list[tuple[pytest.TestReport, list[str], list[Cell]]] = []

    def add(self, report: pytest.TestReport, payload: Mapping[str, Any], *, ended: bool) -> None:
        """Have a report say how to see its failure again.

        payload: the report's own, with the labels that it is put down to. ended: as for
        `replay.lines`.
        """
        from dtype_sampler.session.replay import lines

        text = lines(
            payload,
            self._settings,
            self._plan,
            relative=partial(argument_of_nodeid, self._config),
            ended=ended,
            **self._invocation(),
        )
        if self._books is not None:
            cells = _cells_under_test(payload)
            if self._books.tells_late:
                self._untold.append((report, text.copy(), cells))
            else:
                text += terminal.histories(self._books.past(cells), self._books.now())
        report.sections.append((terminal.SECTION, "\n".join(text)))
        self._keep(report, text)

    def tell_histories(self) -> None:
        """Add what a ledger knows that was not to be asked before the end."""
        assert self._books is not None
        cells = list(dict.fromkeys(cell for _, _, cells in self._untold for cell in cells))
        past = {one[0]: one for one in self._books.past(cells)} if cells else {}
        for report, text, under_test in self._untold:
            lines = terminal.histories(
                (past[cell] for cell in under_test if cell in past), self._books.now()
            )
            section = (terminal.SECTION, "\n".join(text))
            if lines and section in report.sections:
                place = report.sections.index(section)
                report.sections[place] = (terminal.SECTION, "\n".join([*text, *lines]))
                self._keep(report, lines)

    def _keep(self, report: pytest.TestReport, lines: list[str]) -> None:
        # Of an attempt that was followed by another one, pytest shows nothing.
        if str(report.outcome) != "rerun":
            # The failing subtests of one dtype all say the same.
            self._lines.setdefault(report.nodeid, {}).update(dict.fromkeys(lines))

    def unseen(self) -> Iterator[str]:
        """What the summary shows of them, where pytest shows nothing of what reports say."""
        if self._lines and _sections_hidden(self._config):
            alone = self._config.option.tbstyle == "no"
            yield from terminal.replays(self._lines, alone=alone)

    def _invocation(self) -> dict[str, Any]:
        if self._common is None:
            self._common = {}
            with told(self._config, "reading the command line"):
                from dtype_sampler.session.invocation import for_replays

                self._common = for_replays(self._config, self._addopts)
        return self._common


def _cells_under_test(payload: Mapping[str, Any]) -> list[Cell]:
    return [
        Cell(sample["key"], label, sample["device"])
        for sample in payload["samples"]
        for label in sample["entered"]
        if label in payload["under_test"]
    ]


def _sections_hidden(config: pytest.Config) -> bool:
    """Whether pytest does not show the sections of failing reports."""
    style = config.option.tbstyle
    # pytest 9 began to show them with one line for each failure too.
    if style == "no" or (style == "line" and pytest.version_tuple < (9,)):
        return True
    shown = config.option.showcapture
    return shown != "all" and shown not in terminal.SECTION
