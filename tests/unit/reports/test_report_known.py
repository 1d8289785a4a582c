"""A report against a baseline: which failures are known, in every format."""

from __future__ import annotations

import json
import re
from importlib import resources

import pytest

from dtype_sampler.ledger.coverage import assess
from dtype_sampler.ledger.failures import CRASH, Failure
from dtype_sampler.ledger.outcomes import Cell
from dtype_sampler.ledger.records import CellRecord, FailureRecord, KnownFailure, Mark, RunRecord
from dtype_sampler.ledger.records import TestRecord as Record
from dtype_sampler.reports.ledger.data import report, summary
from dtype_sampler.reports.ledger.html import render
from dtype_sampler.reports.ledger.known import against, before_the_last
from dtype_sampler.reports.ledger.table import support_table
from dtype_sampler.reports.ledger.table import text as table_text
from dtype_sampler.reports.ledger.text import markdown, text
from dtype_sampler.reports.ledger.totals import totals

VALUE, TYPE = Failure(("ValueError",), "no"), Failure(("TypeError",))
OLD = RunRecord("old", 1.0, 1, "given", "rotate", 7, commit="abcdef123")
RUN = RunRecord("run", 2.0, 2, "given", "rotate", 8)


def cell(label, *outcomes, key="t.py::t"):
    """What came of a cell in the runs `a`, `b` and so on."""
    marks = [
        CellRecord.of(Cell(key, label, "cpu"), key, Mark(float(at), "abc"[at], outcome))
        for at, outcome in enumerate(outcomes)
    ]
    record = marks[0]
    for one in marks[1:]:
        record = record.merged(one)
    return record


def coverage_of(*cells, ways):
    """Tests of what these cells declare; ways: (label, run) -> in which way it failed."""
    keys = dict.fromkeys(one.cell.key for one in cells)
    tests = [
        Record(key, "cpu", tuple(c.cell.label for c in cells if c.cell.key == key), 9.0, 2)
        for key in keys
    ]
    return assess(tests, cells, failures=failures_of(*cells, ways=ways))


def failures_of(*cells, ways):
    return [
        FailureRecord(one.cell, run, float("abc".index(run)), way)
        for one in cells
        for (label, run), way in ways.items()
        if label == one.cell.label
    ]


def known(label, failure=VALUE, since=OLD, key="t.py::t", device="cpu"):
    return KnownFailure(Cell(key, label, device), "", failure, since, exact=True)


LISTED = [known("same"), known("other", TYPE), known("crash", CRASH), known("mended")]
LISTED += [known("vague", None), known("gone"), known("skipped")]
WAYS = {(label, "a"): VALUE for label in ("same", "other", "new", "vague")}
WAYS[("crash", "a")] = CRASH
FAILING = [cell(one, "failed") for one in ("same", "other", "new", "vague", "unsaid")]
CELLS = [*FAILING, cell("crash", "crashed"), cell("mended", "passed"), cell("skipped", "skipped")]


@pytest.fixture
def compared():
    coverage = coverage_of(*CELLS, ways=WAYS)
    return coverage, against(coverage, [*LISTED, known("unsaid")], "known.sqlite")


def test_known_is_what_fails_in_the_same_way(compared):
    _, comparison = compared
    assert [one.label for one in comparison.known] == ["same"]
    assert comparison.counts() == {
        "name": "known.sqlite",
        "known": 1,
        "new": 5,
        "mended": 1,
        "vague": 1,
    }


def test_one_of_several_is_never_known():
    suspects = [cell("a", "suspect"), cell("b", "suspect")]
    coverage = coverage_of(*suspects, ways={("a", "a"): VALUE})
    comparison = against(coverage, [known("a"), known("b")], "x")
    assert (dict(comparison.known), comparison.new, comparison.mended) == ({}, 1, 0)


def test_another_device_is_told():
    coverage = coverage_of(cell("a", "failed"), ways={("a", "a"): VALUE})
    comparison = against(coverage, [known("a", device="cuda")], "x")
    assert list(comparison.notes()) == [
        "baseline x: 0 known failures, 1 new, 0 mended",
        "the baseline knows no failure on these devices, only on cuda",
    ]
    assert list(against(coverage, [], "x").notes())[1:] == []


@pytest.mark.parametrize(
    ("outcomes", "ways", "since", "found"),
    [
        # In one run it is new, and from there on it is known.
        (("failed",), {"a": VALUE}, "a", None),
        (("failed", "failed"), {"a": VALUE, "b": VALUE}, "a", VALUE),
        # In the way in which it failed before, which the last run may have changed.
        (("failed", "failed"), {"a": VALUE, "b": TYPE}, "a", VALUE),
        (("failed", "failed", "failed"), {"a": VALUE, "b": TYPE, "c": TYPE}, "a", TYPE),
        # What has passed since was known no more.
        (("failed", "passed", "failed"), {"a": VALUE, "c": VALUE}, "c", None),
        # What is skipped is as it was.
        (("failed", "skipped", "failed"), {"a": VALUE, "c": VALUE}, "a", VALUE),
        # Nobody has kept in which way.
        (("failed", "failed"), {"b": VALUE}, "a", "vague"),
        # It fails no more.
        (("failed", "passed"), {"a": VALUE}, "a", None),
    ],
)
def test_a_ledger_s_own_is_what_it_knew_before_the_last_run(outcomes, ways, since, found):
    one = cell("d", *outcomes)
    by_run = {("d", run): way for run, way in ways.items()}
    coverage = coverage_of(one, ways=by_run)
    own = [known("d", VALUE, RunRecord(since, 0.0, 1, "given", "rotate"))] if one.failing else []
    own.append(known("of another test", key="u"))
    before = before_the_last(coverage, own, failures_of(one, ways=by_run))
    assert [each.failure for each in before] == {None: [], "vague": [None]}.get(found, [found])
    comparison = against(coverage, before, "ledger", own=True)
    assert comparison.mended is None
    assert "mended" not in next(iter(comparison.notes()))


def test_text_and_markdown(compared):
    coverage, comparison = compared
    told = summary(coverage, [RUN], comparison=comparison)
    shown = text(coverage, told, now=86401.0, width=None, comparison=comparison)
    lines = shown.splitlines()
    assert lines[:2] == [
        (
            "7 of 8 cells covered (87.50 %), 0 never ran, 1 skipped, 5 failing (1 of them known),"
            " 1 crashed"
        ),
        "baseline known.sqlite: 1 known failure, 5 new, 1 mended",
    ]
    assert lines[2].startswith("of 1 failing cell the baseline does not say in which way it fails")
    assert lines[lines.index("         known to fail: same") + 1] == (
        "           same: ValueError: no; since run 7, 1 day, commit abcdef1"
    )
    # What is new comes first, and nothing is left out.
    assert (
        "         failing: other, new, vague, unsaid"
        in lines[: lines.index("         crashed: crash")]
    )
    page = markdown(coverage, told, now=86401.0, comparison=comparison)
    assert "known to fail: same;" in page
    assert "since run 7, 1 day, commit abcdef1" in page
    assert "5 failing (1 of them known), 1 crashed" in page


def test_what_is_new_comes_first_and_totals_count_both():
    cells = [cell("a", "failed", key="m.py::old"), cell("b", "failed", key="m.py::old")]
    cells.append(cell("b", "failed", key="n.py::new"))
    coverage = coverage_of(*cells, ways={("a", "a"): VALUE, ("b", "a"): VALUE})
    comparison = against(coverage, [known("a", key="m.py::old"), known("b", key="m.py::old")], "x")
    shown = text(
        coverage,
        summary(coverage, [], comparison=comparison),
        now=9.0,
        width=None,
        totals=totals(coverage, None, comparison.known),
        comparison=comparison,
    )
    assert shown.index(" %  n.py::new") < shown.index(" %  m.py::old")
    assert shown.index("  n.py\n") < shown.index("  m.py\n")
    assert (
        "covered  failing  known  never ran  dtype\n 1 of 1        1      1          0  a" in shown
    )
    made = report(coverage, [], {}, {}, now=9.0, comparison=comparison)
    assert [test["key"] for test in made["tests"]] == ["n.py::new", "m.py::old"]
    # Without a baseline the one with the most failures comes first.
    assert next(iter(report(coverage, [], {}, {}, now=9.0)["tests"]))["key"] == "m.py::old"


def test_json_only_gains_keys(compared):
    coverage, comparison = compared
    made = report(coverage, [RUN], {}, {}, now=9.0, comparison=comparison)
    plain = report(coverage, [RUN], {}, {}, now=9.0)
    made["by"] = support_table(made["tests"], "module")
    schema = resources.files("dtype_sampler.reports.ledger").joinpath("report.schema.json")
    schema = json.loads(schema.read_text(encoding="utf-8"))
    for one in (made, plain):
        pytest.importorskip("jsonschema").validate(one, schema)
    del made["by"]
    cells = made["tests"][0]["cells"]
    told = {one["label"]: one.pop("known") for one in cells}
    assert told.pop("same") == {
        "run": 7,
        "uid": "old",
        "at": "1970-01-01T00:00:01Z",
        "commit": "abcdef123",
        "exact": True,
    }
    assert set(told.values()) == {None}
    assert made["summary"].pop("baseline") == comparison.counts()
    assert made == plain


def test_a_table_counts_what_is_known_among_what_failed(compared):
    coverage, comparison = compared
    tests = report(coverage, [], {}, {}, now=9.0, comparison=comparison)["tests"]
    table = support_table(tests, "module")
    assert table["rows"][0]["cells"]["same"] == {"failed": 1, "known": 1}
    assert table["rows"][0]["cells"]["new"] == {"failed": 1}
    shown = table_text(table, width=None)
    assert "✗ 1 (1 k)" in shown
    assert shown.endswith(", k known to fail by the baseline\n")


def test_the_page_leads_to_what_is_new(compared):
    coverage, comparison = compared
    made = report(coverage, [], {}, {}, now=9.0, comparison=comparison)
    made["by"] = support_table(made["tests"], "module")
    page = render(made)
    (head,) = re.findall(r'<ul class="headline".*?</ul>', page, re.DOTALL)
    assert re.findall(r'data-show="(\w+)" data-state="(\w+)"', head) == [
        ("failing", "failed"),
        ("new", "failed"),
    ]
    assert "1 of them known, 1 of them crashed" in head
    assert "baseline known.sqlite." in page
    assert '<option value="known">' in page
    assert ">6 failing (1 known)<" in page.replace('data-bad="', ">").replace('"><a', "<")
    assert 'data-state="known" title="1 failed (1 of them known)">✗ 1 (1 k)<' in page
    assert '<div data-figure="known"><dt>of them known</dt><dd>1</dd></div>' in page
    assert '<div data-figure="mended">' in page


def test_a_page_of_nothing_but_known_failures_is_not_red():
    coverage = coverage_of(cell("a", "failed"), ways={("a", "a"): VALUE})
    comparison = against(coverage, [known("a")], "<b>", own=True)
    page = render(report(coverage, [], {}, {}, now=9.0, comparison=comparison))
    assert 'data-show="failing" data-state="known"' in page
    assert 'data-show="new"' not in page
    assert "baseline &lt;b&gt;." in page
    assert 'data-figure="mended"' not in page


def test_without_a_baseline_nothing_is_said_of_one():
    coverage = coverage_of(cell("a", "failed"), ways={("a", "a"): VALUE})
    page = render(report(coverage, [], {}, {}, now=9.0))
    assert 'value="known"' not in page
    assert 'data-figure="known"' not in page
    assert "known to fail" not in text(coverage, summary(coverage, []), now=9.0, width=None)
