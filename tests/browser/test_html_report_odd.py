"""The page of reports that are empty, lack something, or are of several runs and devices."""

from __future__ import annotations

from shown_pages import (
    NOW,
    count,
    iso,
    made_cell,
    made_report,
    settled,
    shot,
    small_report,
    sync_api,
)


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
