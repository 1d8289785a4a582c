"""What reports say of what things take."""

from __future__ import annotations

import pytest

from dtype_sampler.ledger.costs import UNMEASURED, Costs
from dtype_sampler.ledger.coverage import assess
from dtype_sampler.ledger.outcomes import Cell
from dtype_sampler.ledger.outlook import next_sample
from dtype_sampler.ledger.records import CellRecord, Mark, RunRecord, TestRecord
from dtype_sampler.reports.ledger import costs as told
from dtype_sampler.reports.ledger.data import report, summary
from dtype_sampler.reports.ledger.text import markdown, text
from dtype_sampler.reports.words import lasting


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "unknown"),
        (0.0, "< 0.1 ms"),
        (0.00042, "0.4 ms"),
        (0.0123, "12 ms"),
        (0.99949, "999 ms"),
        (0.9995, "1.0 s"),
        (3.24, "3.2 s"),
        (9.949, "9.9 s"),
        (9.95, "10 s"),
        (59.4, "59 s"),
        (59.5, "1m00s"),
        (580.0, "9m40s"),
        (3599.4, "59m59s"),
        (3599.5, "1h00m"),
        (7500.0, "2h05m"),
        (360_000.0, "100h00m"),
    ],
)
def test_how_long_something_takes(seconds, words):
    assert lasting(seconds) == words


def a_test(key, labels, *outcomes, lane="", run="u", k=2, nodeid="n"):
    cells = [
        CellRecord.of(Cell(key, label, "cpu"), nodeid, Mark(10.0, run, outcome))
        for label, outcome in zip(labels, outcomes, strict=False)
        if outcome is not None
    ]
    return TestRecord(key, "cpu", tuple(labels), 10.0, k), cells


def assessed(*some):
    return assess([test for test, _ in some], [cell for _, cells in some for cell in cells])


RUN = RunRecord("u", 5.0, 1, "given", "rotate", number=1, lane="")
COSTS = Costs(
    {("t", "cpu"): {"a": 1.0, "b": 2.0, "c": 4.0, "d": 8.0}, ("u", "cpu"): {"a": 60.0}},
    {("t", "cpu"): 0.5, ("u", "cpu"): 3.0},
)
STATE = assessed(
    a_test("t", "abcd", "passed", "passed", None, "passed"),
    a_test("u", "ab", "passed", "unsupported"),
)


def test_the_summary_has_seconds():
    found = summary(STATE, [RUN], COSTS)
    assert found["matrix_seconds"] == 15 + 0.5 + 60 + 3
    # Seed 2 of t takes the two that seed 1 does not, and u what it can.
    sample = {key: labels for key, _, labels in next_sample(STATE, [RUN], {})}
    assert sample["u"] == ("a",)
    assert len(sample["t"]) == 2
    seconds = sum(COSTS.cells["t", "cpu"][label] for label in sample["t"]) + 0.5 + 63
    assert found["next_seconds"] == seconds
    assert (found["measured"], found["unmeasured"]) == (5, 0)


def test_what_fails_is_in_the_next_sample():
    state = assessed(a_test("t", "abcd", "failed", "failed", "failed", "failed", k=1))
    ((_, _, labels),) = next_sample(state, [RUN], {})
    assert labels == ("a", "b", "c", "d")


def test_a_run_of_all_dtypes_is_followed_by_one_of_all():
    state = assessed(a_test("t", "abcd", "passed", k=1))
    run = RunRecord("u", 5.0, 1, "given", "all", number=1, lane="")
    assert next_sample(state, [run], {}) == [("t", "cpu", ("a", "b", "c", "d"))]


def test_where_no_seed_decides_the_next_sample_is_unknown():
    state = assessed(a_test("t", "ab", "passed"))
    run = RunRecord("u", 5.0, 1, "given", "another", number=1, lane="")
    found = told.figures(state, COSTS, next_sample(state, [run], {}))
    assert (found["next_seconds"], found["matrix_seconds"]) == (None, 3.5)
    assert told.note(found | {"cells": 2}) == "the full matrix about 3.5 s"


def test_another_selection_s_tests_are_not_in_the_next_sample_of_this_one():
    state = assessed(a_test("t", "ab", "passed"), a_test("u", "ab", "passed", run="v"))
    other = RunRecord("v", 4.0, 1, "given", "rotate", number=1, lane="elsewhere")
    assert [key for key, _, _ in next_sample(state, [other, RUN], {})] == ["t"]
    assert next_sample(state, [], {}) == []


def test_what_a_mark_skips_costs_nothing():
    state = assessed(a_test("t", "ab", "passed", "skipped", nodeid=""))
    (taken,) = told.every_cell(state.tests)
    assert taken == ("t", "cpu", ("a",))


def test_nothing_known_is_unknown_and_no_zero():
    found = summary(STATE, [RUN])
    assert (found["matrix_seconds"], found["next_seconds"]) == (None, None)
    shown = text(STATE, found, now=100.0, width=100)
    assert (
        "what the next sample and the full matrix take is unknown: no cell was measured yet"
        in shown
    )
    assert "takes longest" not in shown
    cells = report(STATE, [RUN], {}, {}, now=100.0)["tests"][0]
    assert (cells["seconds"], cells["rest_seconds"]) == (None, None)
    assert (cells["cells"][0]["seconds"], cells["cells"][0]["expected_seconds"]) == (None, None)
    assert told.of_test(STATE.tests[1], UNMEASURED, ("a",)) == (
        "takes: a unknown, unknown besides; with every dtype about unknown,"
        " the next sample about unknown"
    )


def test_a_ledger_without_tests_says_nothing_of_costs():
    empty = assess([], [])
    assert told.note(summary(empty, [])) is None
    assert told.note({"cells": 3}) is None


def test_what_was_not_measured_is_counted():
    costs = Costs({("t", "cpu"): {"a": 1.0, "b": 3.0}}, {})
    found = summary(STATE, [RUN], costs)
    assert (found["measured"], found["unmeasured"]) == (2, 3)
    assert found["matrix_seconds"] == 1 + 3 + 2 + 2 + 2
    assert told.note(found).endswith(" (3 cells of it never measured)")
    assert told.note(found | {"next_seconds": None}).startswith("the full matrix about 10 s")
    several = told.note(found | {"selections": 2})
    assert several.startswith("the next sample of the selection that ran last takes about ")


def test_the_dearest_tests_come_first():
    found = summary(STATE, [RUN], COSTS)
    shown = text(STATE, found, now=100.0, width=None, costs=COSTS)
    assert shown.endswith(
        "What takes longest, with all its dtypes:\n"
        "   1m03s  u (cpu)\n"
        "          a 1m00s, 3.0 s besides\n"
        "    16 s  t (cpu)\n"
        "          d 8.0 s, c 4.0 s, b 2.0 s, 1 other 1.0 s, 500 ms besides\n"
    )
    rows = markdown(STATE, found, now=100.0, costs=COSTS).splitlines()
    assert "| 1m03s | u (cpu) | a 1m00s, 3.0 s besides |" in rows
    assert any(row.startswith("- the next sample takes about 1m") for row in rows)


def test_only_what_was_measured_is_told_as_dear():
    costs = Costs({("t", "cpu"): {"a": 1.0, "b": 3.0}}, {("t", "cpu"): 0.0})
    ((state, seconds, parts),) = told.dearest(STATE, costs)
    assert (state.test.key, seconds) == ("t", 8.0)
    assert parts == "b 3.0 s, a 1.0 s, 2 not measured"


def test_a_test_of_which_nothing_can_run_is_not_dear():
    # Its items were measured, as they were skipped.
    state = assessed(a_test("t", "ab", "skipped", "unsupported", nodeid=""))
    costs = Costs({("t", "cpu"): {"a": 0.0}}, {})
    assert told.dearest(state, costs) == []
    shown = text(state, summary(state, [RUN], costs), now=100.0, width=100, costs=costs)
    assert "takes longest" not in shown


def test_a_long_name_leaves_room_for_how_long_it_takes():
    state = assessed(a_test("x" * 200, "a", "passed"))
    costs = Costs({("x" * 200, "cpu"): {"a": 1.0}}, {})
    shown = text(state, summary(state, [RUN], costs), now=100.0, width=60, costs=costs)
    (line,) = [line for line in shown.splitlines() if line.endswith("(cpu)")]
    assert len(line) == 60
    assert line.startswith("   1.0 s  ...x")


def test_tests_of_one_name_can_be_told_apart_where_names_are_cut():
    keys = [f"tests/models/deep/test_module_{n}.py::test_{'x' * 90}[auto]" for n in (10, 11)]
    state = assessed(*(a_test(key, "a", "failed") for key in keys))
    shown = text(state, summary(state, [RUN]), now=100.0, width=60)
    lines = [line for line in shown.splitlines() if line.endswith("xx[auto] (cpu)")]
    assert [line[9:41] for line in lines] == [
        f"...eep/test_module_{n}.py::...xxx" for n in (10, 11)
    ]
    assert {len(line) for line in lines} == {59}
    short = assessed(a_test("a/very/" + "long/" * 20 + "test_y.py::test_it", "a", "failed"))
    shown = text(short, summary(short, [RUN]), now=100.0, width=60)
    assert "ong/long/test_y.py::test_it (cpu)\n" in shown


def test_a_test_in_a_line():
    assert told.of_test(STATE.tests[0], COSTS, ("a", "c")) == (
        "takes: a 1.0 s, b 2.0 s, c 4.0 s, d 8.0 s, 500 ms besides;"
        " with every dtype about 16 s, the next sample about 5.5 s"
    )
    assert told.of_test(STATE.tests[0], COSTS, ()).endswith("with every dtype about 16 s")


def test_json_has_each_cell_and_each_test():
    (dear, cheap) = sorted(
        report(STATE, [RUN], {}, {}, now=100.0, costs=COSTS)["tests"], key=lambda one: one["key"]
    )
    assert (dear["seconds"], dear["rest_seconds"]) == (15.5, 0.5)
    assert [cell["seconds"] for cell in dear["cells"]] == [1.0, 2.0, 4.0, 8.0]
    guessed = cheap["cells"][1]
    assert (guessed["seconds"], guessed["expected_seconds"]) == (None, 60.0)
