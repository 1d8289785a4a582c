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
    VERDICTS,
    A,
    B,
    H,
    count,
    focused,
    made_cell,
    made_report,
    names,
    settled,
    shot,
    small_report,
    sync_api,
)


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
