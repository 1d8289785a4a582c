"""What tests take, on the page of `dtype-sampler report`."""

from __future__ import annotations

import pytest
from shown_pages import HOSTILE_NAME, A, B, H, made_report, names, shot, small_report


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
