"""The report as plain data."""

from __future__ import annotations

from dtype_sampler.ledger.coverage import assess
from dtype_sampler.ledger.outcomes import Cell
from dtype_sampler.ledger.records import Observed, RunRecord
from dtype_sampler.ledger.records import TestRecord as Record
from dtype_sampler.reports.ledger import data


def test_a_history_says_which_of_several_runs_of_one_number_it_speaks_of():
    """Ledgers that are combined have counted their runs each for itself."""
    numbers = {"a": 1, "b": 1, "c": 2}
    runs = [
        RunRecord(uid, float(place), place, "given", "rotate", number=number)
        for place, (uid, number) in enumerate(numbers.items())
    ]
    cell = Cell("t", "x", "cpu")
    recent = {uid: [Observed(cell, "t", "passed", 1.0)] for uid in numbers}
    shown = data.report(assess([Record("t", "cpu", ("x",), 9.0, 1)], []), runs, {}, recent, now=9.0)
    (told,) = (cell["history"] for cell in shown["tests"][0]["cells"])
    assert told == [[2, "passed"], [1, "passed", 1], [1, "passed", 0]]
    assert [shown["runs"][place]["uid"] for _, _, place in told[1:]] == ["b", "a"]
