from __future__ import annotations

import pytest

from dtype_sampler.ledger.coverage import NEVER, STALE, assess
from dtype_sampler.ledger.outcomes import Cell
from dtype_sampler.ledger.records import CellRecord, Mark, TestRecord
from dtype_sampler.reports.ledger.data import iso, report
from dtype_sampler.reports.ledger.data import summary as summary_of
from dtype_sampler.reports.ledger.text import markdown, missing_lines, text
from dtype_sampler.reports.words import age, short_commit, visible

DAY = 86400.0


def a_test(key="t", declared="abcd", device="cpu", k=2, always=()):
    return TestRecord(key, device, tuple(declared), 100 * DAY, k, always)


def cell(label, outcome, at=90 * DAY, key="t", device="cpu"):
    return CellRecord.of(Cell(key, label, device), f"{key}[{label}]", Mark(at, "u", outcome))


def states(coverage):
    return {one.cell.label: one.state for test in coverage.tests for one in test.cells}


def test_covered_means_a_verdict_whatever_it_said():
    outcomes = {"a": "passed", "b": "failed", "c": "xfailed", "d": "xpassed", "e": "crashed"}
    records = [cell(label, outcome) for label, outcome in outcomes.items()]
    coverage = assess([a_test(declared="abcde")], records)
    assert (coverage.covered, coverage.cells, coverage.percent) == (5, 5, 100)
    assert coverage.failing == 2


def test_what_is_not_covered_and_why():
    records = [cell("a", "skipped"), cell("b", "unsupported"), cell("c", "not-reached")]
    coverage = assess([a_test()], records)
    assert states(coverage) == {"a": "skipped", "b": "unsupported", "c": NEVER, "d": NEVER}
    # What a device refuses can't be covered, nor what every run skips, unless that is a miss.
    assert (coverage.covered, coverage.cells, coverage.percent) == (0, 2, 0)
    assert (coverage.apart("skipped"), coverage.apart("unsupported")) == (1, 1)
    assert [one.cell.label for one in coverage.tests[0].missing] == ["c", "d"]
    coverage = assess([a_test()], records, skipped="missing")
    assert (coverage.covered, coverage.cells, coverage.percent) == (0, 3, 0)
    assert (coverage.apart("skipped"), coverage.apart("unsupported")) == (0, 1)
    assert [one.cell.label for one in coverage.tests[0].missing] == ["a", "c", "d"]


def test_what_a_loop_skips_while_it_runs_others_is_missing_unless_that_is_apart():
    skipped = {"loop": "t", "item": "t[a]", "passed over": ""}
    for name, nodeid in skipped.items():
        records = [cell("a", "skipped")._replace(nodeid=nodeid), cell("b", "passed")]
        coverage = assess([a_test(declared="ab")], records)
        assert coverage.cells == (2 if name == "loop" else 1), name
        assert assess([a_test(declared="ab")], records, skipped="apart").cells == 1
        assert assess([a_test(declared="ab")], records, skipped="missing").cells == 2
    # Of a test that has never run at all, nobody is owed a part.
    records = [cell(label, "skipped")._replace(nodeid="t") for label in "ab"]
    coverage = assess([a_test(declared="abc")], records)
    assert (coverage.cells, coverage.apart("skipped")) == (1, 2)


def test_what_ran_once_and_is_skipped_now_counts():
    record = cell("a", "passed", at=1 * DAY).merged(cell("a", "skipped", at=99 * DAY))
    for since, covered in ((None, 1), (90 * DAY, 0)):
        coverage = assess([a_test(declared="a")], [record], since=since)
        assert (coverage.cells, coverage.covered) == (1, covered)


def test_a_skip_does_not_undo_a_verdict():
    record = cell("a", "passed").merged(cell("a", "skipped", at=91 * DAY))
    assert states(assess([a_test(declared="a")], [record])) == {"a": "covered"}
    assert states(assess([a_test(declared="a")], [record], since=90.5 * DAY)) == {"a": "skipped"}


def test_a_window():
    records = [cell("a", "passed", at=80 * DAY), cell("b", "passed", at=99 * DAY)]
    coverage = assess([a_test(declared="ab")], records, since=90 * DAY)
    assert states(coverage) == {"a": STALE, "b": "covered"}
    assert coverage.oldest.cell.label == "b"


def test_what_no_test_declares_any_more_does_not_count():
    coverage = assess([a_test(declared="a")], [cell("a", "passed"), cell("z", "failed")])
    assert (coverage.cells, coverage.failing) == (1, 0)


def test_devices_and_patterns():
    tests = [a_test("x/t"), a_test("y/t"), a_test("x/t", device="cuda")]
    assert len(assess(tests, [], device=["cuda"]).tests) == 1
    assert len(assess(tests, [], pattern="x/*").tests) == 2
    assert len(assess(tests, [], pattern="x/*", device=["cpu"]).tests) == 1


def test_nothing_is_no_success():
    coverage = assess([], [])
    assert (coverage.percent, coverage.oldest) == (0.0, None)


def test_the_worst_come_first():
    tests = [a_test(key, "ab") for key in ("covered", "never", "failing", "half")]
    records = [
        *(cell(label, "passed", key="covered") for label in "ab"),
        *(
            cell("a", outcome, key=key)
            for key, outcome in (("failing", "failed"), ("half", "passed"))
        ),
    ]
    order = [state.test.key for state in assess(tests, records).worst_first()]
    assert order == ["failing", "never", "half", "covered"]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-5, "0 seconds"), (1, "1 second"), (119, "1 minute"), (7200, "2 hours"), (3 * DAY, "3 days")],
)
def test_ages(seconds, words):
    assert age(seconds) == words


def test_commits():
    assert short_commit("0123456789") == "0123456"
    assert short_commit("0123456789+") == "0123456+"


def test_moments():
    assert iso(0) == "1970-01-01T00:00:00Z"
    assert iso(None) is None


def test_all_covered_is_said():
    coverage = assess([a_test(declared="a")], [cell("a", "passed")])
    summary = summary_of(coverage, [])
    assert "Every cell is covered" in text(coverage, summary, now=100 * DAY, width=80)
    assert "Every cell is covered" in markdown(coverage, summary, now=100 * DAY)
    assert summary["next_seed"] is None


def test_hostile_keys_stay_in_their_cell_of_the_table():
    coverage = assess([a_test("t[a|b`<img>`\n]", "x|y")], [])
    summary = summary_of(coverage, [])
    row = markdown(coverage, summary, now=100 * DAY).splitlines()[-1]
    assert row == "| 0 % | t\\[a\\|b\\`\\<img\\>\\` \\] (cpu) | never ran: x, \\|, y |"


def suspects(labels, at=90 * DAY, run="u"):
    return [
        CellRecord.of(Cell("t", label, "cpu"), f"t[{label}]", Mark(at, run, "suspect"))
        for label in labels
    ]


def test_a_suspect_is_not_covered_and_stays_in_sight():
    for later in ("skipped", "unsupported", "not-reached"):
        # Neither a pass of before nor what is no verdict hides it, whatever the window.
        records = [
            record.merged(cell(record.cell.label, "passed", at=80 * DAY)).merged(
                cell(record.cell.label, later, at=95 * DAY)
            )
            for record in suspects("ab")
        ]
        for since in (None, 99 * DAY):
            coverage = assess([a_test(declared="ab")], records, since=since)
            assert states(coverage) == {"a": "suspect", "b": "suspect"}
            assert (coverage.covered, coverage.failing, coverage.percent) == (0, 0, 0)
            assert coverage.oldest is None
    cleared = [*records[1:], records[0].merged(cell("a", "passed", at=96 * DAY))]
    assert states(assess([a_test(declared="ab")], cleared)) == {"a": "covered", "b": "suspect"}


def test_the_suspects_of_one_run_are_shown_together():
    records = [*suspects("ab"), *suspects("d", run="v"), cell("c", "failed")]
    coverage = assess([a_test()], records)
    assert [[one.cell.label for one in group] for group in coverage.tests[0].suspects] == [
        ["a", "b"],
        ["d"],
    ]
    summary = summary_of(coverage, [])
    assert (summary["suspect"], summary["failing"], summary["covered"]) == (3, 1, 1)
    shown = text(coverage, summary, now=100 * DAY, width=100)
    assert "1 of 4 cells covered (25.00 %), 0 never ran, 1 failing, 3 suspect" in shown
    assert "one of these did not pass: a, b\n" in shown
    assert "may not pass: d\n" in shown
    assert "one of these did not pass: a, b; may not pass: d" in markdown(
        coverage, summary, now=100 * DAY
    )
    assert missing_lines(coverage) == [
        "t a (cpu): suspect, one of a, b",
        "t b (cpu): suspect, one of a, b",
        "t d (cpu): suspect",
    ]
    cells = report(coverage, [], {}, {}, now=100 * DAY)["tests"][0]["cells"]
    assert [one["one_of"] for one in cells] == [["a", "b"], ["a", "b"], [], ["d"]]
    assert [one["last_verdict"] for one in cells] == [None, None, "failed", None]


def test_nothing_that_a_ledger_says_steers_a_terminal():
    assert visible("t.py::test[ä]\n\t") == "t.py::test[ä]\n\t"
    assert visible("a\tb\x1bc\n\n\u202ed") == "a\tb\\x1bc\n\n\\u202ed"
    assert visible("\x1b[31m\r\x9b\u202e\x00") == r"\x1b[31m\r\x9b\u202e\x00"
