"""The page of `dtype-sampler report` in a real browser."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from shown_pages import (
    CONTRASTS,
    HOSTILE,
    HOSTILE_NAME,
    LABELS,
    NOW,
    VERDICTS,
    A,
    B,
    H,
    count,
    focused,
    iso,
    made_cell,
    made_report,
    names,
    settled,
    shot,
    small_report,
    sync_api,
)

from dtype_sampler.reports.ledger.table import support_table


def test_all_labels_and_marks_are_there(opened):
    page = opened(made_report())

    heads = page.locator("#head [data-label]").all()
    assert {head.get_attribute("data-label") for head in heads} == set(LABELS)
    assert len(heads) == len(LABELS)
    marks = set(page.locator("#rows .mark").all_text_contents())
    assert marks <= set("✓✗!xXsu…–")  # noqa: RUF001 - as shown
    assert page.locator("#legend li").count() == 10 + 1 + 4
    assert page.locator("#chart svg").get_attribute("aria-label").startswith("Coverage went from ")


def test_filter(opened):
    page = opened(small_report())
    count(page, "4 of 4 tests in 3 modules")

    page.fill("#filter", "TESTA::")
    count(page, "1 of 4 tests in 1 module")
    assert names(page) == [A, "TestA::test_fine"]

    page.fill("#filter", "")
    page.select_option("#show", "failing")
    assert names(page) == [B, "test_failing"]
    page.select_option("#show", "never")
    assert names(page) == [A, "test_never"]
    page.select_option("#show", "suspect")
    count(page, "No test fits. Clear the filter to see all.")

    page.fill("#filter", "no such test")
    count(page, "No test fits. Clear the filter to see all.")
    assert not page.locator("#scroller").is_visible()
    page.fill("#filter", "")
    page.select_option("#show", "all")
    count(page, "4 of 4 tests in 3 modules")


def test_sort(opened):
    page = opened(small_report())

    in_a = [A, "test_never", "TestA::test_fine"]
    by_name = [*in_a, B, "test_failing", H, HOSTILE_NAME]
    worst_first = [B, "test_failing", *in_a, H, HOSTILE_NAME]
    assert names(page) == worst_first
    page.select_option("#sort", "coverage")
    assert names(page) == by_name
    page.select_option("#sort", "oldest")
    assert names(page) == [*in_a, B, "test_failing", H, HOSTILE_NAME]
    page.select_option("#sort", "name")
    assert names(page) == by_name
    page.select_option("#sort", "worst")
    assert names(page) == worst_first


def test_fold(opened):
    page = opened(small_report(), "sort=name")

    page.click("#close-all")
    assert names(page) == [A, B, H]
    page.get_by_text(B, exact=True).click()
    assert names(page) == [A, B, "test_failing", H]
    group = page.locator("#rows .group", has_text=B)
    assert group.get_attribute("aria-expanded") == "true"
    page.get_by_text(B, exact=True).click()
    assert names(page) == [A, B, H]

    # What a filter finds is shown, and its folds are its own.
    page.fill("#filter", "test_b")
    count(page, "1 of 4 tests in 1 module")
    assert names(page) == [B, "test_failing"]
    page.fill("#filter", "")
    count(page, "4 of 4 tests in 3 modules")
    assert names(page) == [A, B, H]
    page.click("#open-all")
    assert len(names(page)) == 7


@pytest.mark.parametrize(
    ("test", "label", "command"),
    [
        (
            "test_failing",
            "torch.float16",
            'pytest "tests/test_b.py::test_failing" --dtype-seed=1230 --dtype-only=torch.float16',
        ),
        (
            "test_never",
            "torch.float16",
            'pytest "tests/test_a.py::test_never[float16]" --dtype-seed=1230',
        ),
        (
            "test_never",
            "torch.float32",
            'pytest "tests/test_a.py::test_never" --dtype-only=torch.float32',
        ),
        (
            HOSTILE_NAME,
            "torch.float16",
            "pytest '"
            + HOSTILE.replace("'", "'\"'\"'")
            + "' --dtype-seed=1230 --dtype-only=torch.float16",
        ),
    ],
    ids=["loop", "item", "never", "hostile"],
)
def test_a_click_opens_the_panel(opened, test, label, command):
    page = opened(small_report())

    row = page.locator("#rows .test-row").filter(has=page.get_by_text(test, exact=True))
    row.locator(f"[aria-label^='{label}:']").click()

    assert page.locator("#panel").is_visible()
    assert page.locator("#command").text_content() == command
    assert label in page.locator("#panel-title").text_content()
    if test == "test_failing":
        assert page.locator("#panel tbody tr").count() == 3
        first = page.locator("#panel tbody tr").first.text_content()
        assert "41" in first
        assert "failed" in first
        assert "2026-11-24" in first
    assert page.evaluate("window.pwned") is None
    page.click("#close")
    assert not page.locator("#panel").is_visible()


def test_the_command_can_be_copied(opened):
    page = opened(small_report())
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])

    page.locator("#rows .cell").first.click()
    page.click("#copy")

    sync_api.expect(page.get_by_text("Copied.")).to_be_visible()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == page.locator("#command").text_content()


def test_keyboard(opened):
    page = opened(small_report(), "sort=name")

    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "filter"
    page.keyboard.type("/a")
    assert page.input_value("#filter") == "/a"
    page.fill("#filter", "")
    count(page, "4 of 4 tests in 3 modules")
    assert page.locator("#rows [tabindex='0']").count() == 1
    for _ in range(5):
        page.keyboard.press("Tab")
    # One stop in the grid: the first group.
    assert page.evaluate("document.activeElement.textContent").startswith(A)

    page.keyboard.press("ArrowDown")
    assert focused(page).startswith("torch.float16: passed")
    page.keyboard.press("ArrowRight")
    assert focused(page) == "torch.float32: never ran"
    page.keyboard.press("ArrowRight")
    assert focused(page) == "torch.float32: never ran"
    page.keyboard.press("ArrowDown")
    assert focused(page) == "torch.float32: passed 90 days ago"
    page.keyboard.press("Home")
    assert focused(page) == "torch.float16: passed 3 days ago"
    assert page.locator("#rows [tabindex='0']").count() == 1

    page.keyboard.press("Enter")
    assert page.locator("#panel").is_visible()
    assert page.evaluate("document.activeElement.id") == "copy"
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "copy"
    page.keyboard.press("Escape")
    settled(page)
    assert not page.locator("#panel").is_visible()
    assert focused(page) == "torch.float16: passed 3 days ago"

    page.keyboard.press("Control+Home")
    page.keyboard.press("ArrowLeft")
    assert names(page)[:2] == [A, B]
    page.keyboard.press("ArrowRight")
    assert names(page)[:2] == [A, "test_never"]
    page.keyboard.press("Enter")
    assert names(page)[:2] == [A, B]
    assert page.evaluate("document.activeElement.textContent").startswith(A)
    page.keyboard.press("Control+End")
    assert focused(page) == "torch.float32: not declared"
    page.keyboard.press("Enter")
    assert not page.locator("#panel").is_visible()


def test_the_active_cell_survives_scrolling(opened):
    page = opened(made_report(10, 20), height=700)
    page.locator("#rows .cell").first.click()
    page.keyboard.press("Escape")
    settled(page)
    label = focused(page)

    page.evaluate("document.getElementById('scroller').scrollTop = 1e6")
    settled(page)
    assert page.evaluate("document.querySelector('#rows > :last-child').dataset.row") == "209"
    assert focused(page) == label
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.closest('[data-row]').dataset.row") == "2"
    settled(page)
    rows = page.locator("#rows > *").evaluate_all("all => all.map((one) => +one.dataset.row)")
    assert rows[0] < 2
    assert rows == sorted(rows)


def test_the_focus_is_never_behind_what_sticks(opened):
    labels = [f"torch.float{n}" for n in range(40)]
    page = opened(made_report(4, 10, labels), width=1000, height=600)
    page.locator("#rows .cell").first.focus()
    for keys in (["End"], ["ArrowDown"] * 30, ["ArrowLeft"] * 30, ["ArrowUp"] * 25, ["Home"]):
        for key in keys:
            page.keyboard.press(key)
        settled(page)
        box = page.locator("#rows .cell:focus").bounding_box()
        # The page scrolls as well.
        pinned = page.locator("#rows .test").first.bounding_box()
        head = page.locator("#head").bounding_box()
        grid = page.locator("#scroller").bounding_box()
        assert box["x"] >= pinned["x"] + pinned["width"] - 1
        assert box["x"] + box["width"] <= grid["x"] + grid["width"]
        assert box["y"] >= head["y"] + head["height"] - 1
        assert box["y"] + box["height"] <= grid["y"] + grid["height"]
    page.keyboard.press("End")
    shot(page, "many-labels")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(opened, scheme):
    report = made_report(1, 8)
    for i, outcome in enumerate(sorted(VERDICTS)):
        ages = zip(LABELS, (0, 3, 20, 90), strict=False)
        report["tests"][i]["cells"] = [made_cell(label, outcome, days) for label, days in ages]
    page = opened(report, height=1600, scheme=scheme)
    page.click("#runs summary")

    found = page.evaluate(CONTRASTS)

    assert len(found) > 80
    assert [one for one in found if one[0] < 4.5] == []
    page.locator("#rows .cell").first.click()
    assert [one for one in page.evaluate(CONTRASTS) if one[0] < 4.5] == []
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(246, 247, 249)", "dark": "rgb(14, 17, 22)"}[scheme]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 768, 1600])
def test_widths(opened, width, scheme):
    page = opened(made_report(), width=width, scheme=scheme)

    over = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    assert over <= 0
    shot(page, f"{scheme}-{width}")
    cell = page.locator("#rows [data-state=failed]").first
    cell.scroll_into_view_if_needed()
    settled(page)
    assert cell.bounding_box()["width"] >= 24
    assert cell.bounding_box()["height"] >= 24
    cell.click()
    assert page.locator("#command").is_visible()
    over = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    assert over <= 0
    folder = os.environ.get("DTYPE_SAMPLER_SHOTS")
    if folder:
        page.screenshot(path=str(Path(folder) / f"{scheme}-{width}-panel.png"))


def test_many_tests(opened):
    page = opened(made_report(100, 50))
    count(page, "5,000 of 5,000 tests in 100 modules")
    shot(page, "many-closed")
    assert page.locator("#rows .test-row").count() == 0

    page.click("#open-all")
    assert page.locator("#rows .test-row").count() > 10
    assert page.locator("body *").count() < 3000
    page.evaluate("document.getElementById('scroller').scrollTop = 80_000")
    settled(page)
    assert page.evaluate("+document.querySelectorAll('#rows > *')[3].dataset.row") > 2000
    shot(page, "many-open")
    assert page.locator("body *").count() < 3000

    page.fill("#filter", "module_042")
    count(page, "50 of 5,000 tests in 1 module")
    assert names(page)[0] == "tests/models/test_module_042.py"
    page.locator("#rows .cell").first.click()
    assert "test_module_042" in page.locator("#command").text_content()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 768, 1280, 2200])
def test_the_first_screen_of_many_tests(opened, width, scheme):
    page = opened(made_report(101, 5), width=width, scheme=scheme)

    table = page.locator("#first")
    assert table.is_visible()
    box = page.locator("#first-section").bounding_box()
    assert box["y"] < 200
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    assert table.locator("tbody tr").count() == 101
    heads = table.locator("thead th").all_text_contents()
    plain = ["float16", "torch.float16", "bfloat16", "float32", "float64"]
    assert heads == ["Module", *plain, "float8_e4m3fnuz", "complex128"]
    states = set(table.locator("td").evaluate_all("all => all.map((one) => one.dataset.state)"))
    assert {"failed", "passed", "partly"} <= states
    # Head and names stay where they are.
    scroller = page.locator(".first-scroll")
    scroller.evaluate("one => one.scrollTo(1e6, 1e6)")
    corner, grid = table.locator("th").first.bounding_box(), scroller.bounding_box()
    assert abs(corner["x"] - grid["x"]) <= 2
    assert abs(corner["y"] - grid["y"]) <= 2
    assert corner["width"] <= 0.6 * grid["width"] or width > 768
    scroller.evaluate("one => one.scrollTo(0, 0)")
    shot(page, f"first-{scheme}-{width}")
    assert [one for one in page.evaluate(CONTRASTS) if one[0] < 4.5] == []

    table.get_by_text("test_module_042.py").click()
    count(page, "5 of 505 tests in 1 module")
    assert names(page)[0] == "tests/models/test_module_042.py"
    assert page.locator("#rows").is_visible()


def test_few_tests_have_no_first_screen_unless_it_is_asked_for(opened):
    report = made_report(100, 5)
    assert opened(report).locator("#first").count() == 0
    page = opened({**report, "by": support_table(report["tests"], "folder")})
    assert page.locator("#first th").all_text_contents()[-1] == "tests/models"
    assert page.locator("#first-title").text_content() == "Folders by dtypes"
    page.locator("#first a").click()
    count(page, "500 of 500 tests in 100 modules")


def test_the_first_screen_escapes_names_and_tells_devices_apart(opened):
    report = small_report()
    report["tests"].append({**report["tests"][3], "device": "cuda"})
    page = opened({**report, "by": support_table(report["tests"], "module")})
    assert page.evaluate("window.pwned") is None
    rows = page.locator("#first tbody tr")
    assert rows.last.locator("td").first.text_content() == "cuda"
    # The worst first, and in its name's own cell what is bad: columns may be out of view.
    assert rows.locator("th").all_text_contents() == [B, A, H, H]
    assert rows.first.locator("th").get_attribute("data-bad") == "1 failing"
    assert rows.first.locator("td").nth(1).text_content() == "✗ 1"
    assert rows.nth(1).locator("td").nth(1).text_content() == "✓ 2"
    assert rows.nth(1).locator("td").nth(2).text_content() == "✓ 1, – 1"  # noqa: RUF001 - as shown
    rows.last.locator("a").click()
    count(page, "1 of 5 tests in 1 module")


def test_a_report_without_cells_says_what_to_do(opened):
    report = made_report(0, 0, runs=0)
    page = opened(report)

    assert page.locator("#empty").is_visible()
    assert "No run with a known coverage yet." in page.locator("#chart").text_content()
    assert "– %" in page.title()  # noqa: RUF001 - as shown
    shot(page, "empty")


def test_what_is_optional_may_be_missing(opened):
    report = small_report()
    del report["runs"]
    for test in report["tests"]:
        for cell in test["cells"]:
            del cell["history"], cell["nodeid"]
    page = opened(report)

    page.locator("#rows .cell").first.click()
    assert "The ledger keeps no run" in page.locator("#panel").text_content()

    page = opened({**made_report(1, 1), "runs": [{"number": 1, "seed": 3, "started": iso(NOW)}]})
    page.click("#runs summary")
    sync_api.expect(page.locator("#runs tbody tr")).to_have_count(1)


def test_a_history_tells_a_tree_with_changes_from_its_commit(opened):
    report = small_report()
    cell = made_cell("torch.float16", "suspect", runs=0, history=[[2, "suspect"], [1, "passed"]])
    report["tests"] = [{"key": "t.py::test", "device": "cpu", "cells": [cell]}]
    commit, seed = "4a10a2ee0fe232e4", 3864894596
    report["runs"] = [
        {
            "number": number,
            "seed": seed,
            "started": iso(NOW),
            "commit": commit + "+" * (number == 2),
        }
        for number in (1, 2)
    ]
    page = opened(report)
    page.locator("#rows .cell").first.click()
    rows = page.locator("#panel tbody tr")
    assert rows.nth(0).locator("td").last.text_content() == "4a10a2e+"
    assert rows.nth(1).locator("td").last.text_content() == "4a10a2e"
    # Nothing of it is pushed out of sight.
    table = page.locator("#panel .scroll")
    assert table.evaluate("box => box.scrollWidth <= box.clientWidth")
    page.keyboard.press("Escape")
    settled(page)
    page.click("#runs summary")
    assert "4a10a2e+" in page.locator("#runs tbody tr").first.text_content()


def test_a_history_of_ledgers_that_were_combined_speaks_of_the_right_runs(opened):
    report = small_report()
    cell = made_cell("torch.float16", "passed", history=[[1, "passed", 1], [1, "failed", 0]])
    report["tests"] = [{"key": "t.py::test", "device": "cpu", "cells": [cell]}]
    report["runs"] = [{"number": 1, "seed": seed, "started": iso(NOW)} for seed in (71, 72)]
    page = opened(report)
    page.locator("#rows .cell").first.click()
    rows = page.locator("#panel tbody tr")
    assert [rows.nth(i).locator("td").nth(3).text_content() for i in (0, 1)] == ["72", "71"]


def test_what_can_not_be_covered_is_not_asked_for(opened):
    report = small_report()
    once = {"last_verdict": "passed", "last_verdict_at": iso(NOW), "covered": True}
    report["tests"] = [
        {"key": f"t.py::test_{name}", "device": "cpu", "cells": [cell]}
        for name, cell in (
            ("never_taken", made_cell("torch.float16", "unsupported")),
            ("taken_once", made_cell("torch.float16", "unsupported", **once)),
            ("stale", made_cell("torch.float16", "failed", 50, state="stale", covered=False)),
        )
    ]
    page = opened(report)

    assert page.locator("#rows .test .stats").all_text_contents() == ["0/1", "1/1", "0/0"]
    assert page.locator("#rows .mark").all_text_contents() == ["✗", "✓", "u"]
    page.locator("#rows .cell").nth(0).click()
    assert "too old" in page.locator("#panel").text_content()


def test_several_devices(opened):
    report = small_report()
    report["tests"].append({**report["tests"][0], "device": "cuda"})
    page = opened(report)

    page.select_option("#device", "cuda")
    count(page, "1 of 5 tests in 1 module")
    assert "cuda" in page.locator("#rows .test").text_content()


def measured_report():
    """The small one, some of whose cells and tests were measured."""
    report = small_report()
    failing, never, fine, hostile = report["tests"]
    for test, seconds, rest, cells in (
        (failing, 75.2, 2.0, (0.0042, 73.2)),
        (never, 0.44, 0.2, (0.12, None)),
        (fine, 3.5, None, (0.05, 3.45)),
    ):
        test.update(seconds=seconds, rest_seconds=rest)
        for cell, takes in zip(test["cells"], cells, strict=True):
            cell.update(seconds=takes, expected_seconds=0.12 if takes is None else takes)
    hostile.update(seconds=None, rest_seconds=None)
    report["summary"].update(matrix_seconds=79.14, next_seconds=None)
    return report


def test_without_durations_there_is_nothing_to_colour_by(opened):
    page = opened(small_report())
    assert not page.locator("#colour-label").is_visible()
    assert page.locator("#sort option:not([hidden])").count() == 4
    assert page.input_value("#sort") == "worst"


def test_the_summary_says_what_it_takes(opened):
    page = opened(measured_report())
    assert page.locator("[data-figure=matrix_seconds] dd").text_content() == "1m19s"
    assert page.locator("[data-figure=next_seconds] dd").text_content() == "unknown"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_by_cost(opened, scheme, width):
    page = opened(measured_report(), width=width, scheme=scheme)
    page.select_option("#colour", "cost")

    cells = page.locator("#rows .test-row").filter(has_text="test_failing").locator(".cell")
    assert [cell.get_attribute("data-cost") for cell in cells.all()] == ["0", "4"]
    assert cells.nth(0).text_content() == "✗4.2 ms"
    assert cells.nth(1).text_content() == "✓1m13s"
    assert cells.nth(0).get_attribute("aria-label") == (
        "torch.float16: failed 2 days ago, takes 4.2 ms"
    )
    unknown = page.locator("#rows .test-row").filter(has_text="test_never").locator(".cell").nth(1)
    assert unknown.get_attribute("data-cost") == "unknown"
    assert unknown.text_content() == "–"  # noqa: RUF001 - as shown
    faint, strong = (
        cells.nth(i).evaluate("cell => getComputedStyle(cell).backgroundColor") for i in (0, 1)
    )
    assert faint != strong
    assert page.locator("#legend li").count() == 1 + 5 + 1
    stats = page.locator("#rows .test-row").filter(has_text="test_failing").locator(".stats")
    assert stats.text_content() == "1m15s"
    assert page.locator("#rows .group", has_text=A).locator(".stats").text_content() == "3.9 s"
    assert page.locator("#rows .group", has_text=H).locator(".stats").text_content() == "unknown"
    shot(page, f"cost-{scheme}-{width}")

    page.select_option("#colour", "outcome")
    assert page.locator("#rows [data-cost]").count() == 0
    assert page.locator("#legend li").count() == 10 + 1 + 4


def test_the_longest_first(opened):
    page = opened(measured_report())
    page.select_option("#sort", "seconds")
    assert names(page) == [B, "test_failing", A, "TestA::test_fine", "test_never", H, HOSTILE_NAME]


def test_the_panel_says_what_a_cell_takes(opened):
    page = opened(measured_report())
    row = page.locator("#rows .test-row").filter(has_text="test_never")
    row.locator(".cell").nth(1).click()
    facts = page.locator("#panel .facts").text_content()
    assert "Takesunknown, about 120 ms is expected" in facts
    assert "The test besides200 ms" in facts
    page.click("#close")
    row.locator(".cell").nth(0).click()
    assert "Takes120 ms" in page.locator("#panel .facts").text_content()


def test_what_takes_next_to_nothing_fits_into_its_cell(opened):
    report = made_report(1, 3)
    for test in report["tests"]:
        for one in test["cells"]:
            one["seconds"] = 0.00004
    page = opened(report, "colour=cost", width=400)
    cells = page.locator("#rows .cell")
    assert set(cells.locator(".age").all_text_contents()) == {"< 0.1 ms"}
    over = """(all) => all.map((one) => {
      const [cell, mark, age] = [one, ...one.children].map((part) => part.getBoundingClientRect());
      return Math.max(cell.left - mark.left, age.right - cell.right);
    })"""
    assert max(cells.evaluate_all(over)) <= 0
