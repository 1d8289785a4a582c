"""The page of many tests, and the table that is its first screen."""

from __future__ import annotations

import pytest
from shown_pages import CONTRASTS, A, B, H, count, made_report, names, settled, shot, small_report

from dtype_sampler.reports.ledger.table import support_table


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
