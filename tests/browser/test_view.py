"""What broke and what never ran is to be seen in ten seconds, at every width, and can be sent."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

import pytest
from shown_pages import (
    CONTRASTS,
    A,
    B,
    count,
    made_cell,
    made_report,
    names,
    settled,
    shot,
    small_report,
    sync_api,
)

PLAIN = ["torch.float16", "torch.bfloat16", "torch.float32", "torch.float64"]
WIDE = ["torch.int8", "torch.int16", "torch.int32", "torch.int64", "torch.uint8", "torch.bool"]
COMPLEX = ["torch.complex64", "torch.complex128"]
STRINGS = ["float16", "bfloat16", "auto"]
FAILING = {(1, 3): "torch.bool", (2, 5): "bfloat16", (11, 7): "torch.complex128"}


def mixed_report(modules=12, tests=20):
    """Of many tests, with pools of several kinds, four have a cell that failed."""
    report = made_report(0, 0)
    for m in range(modules):
        pool = (PLAIN, PLAIN + WIDE, STRINGS, PLAIN + COMPLEX)[m % 4]
        for t in range(tests):
            key = f"tests/models/test_module_{m:02}.py::test_{t:02}"
            bad = {(1, 3): "torch.bool", (2, 5): "bfloat16", (11, 7): "torch.complex128"}.get(
                (m, t)
            )
            report["tests"].append(
                {
                    "key": key,
                    "device": "cpu",
                    "cells": [
                        made_cell(label, "failed" if label == bad else "passed", 2, key)
                        for label in pool
                    ],
                }
            )
    crashed, never = report["tests"][-1], report["tests"][0]
    crashed["cells"][0] = made_cell("torch.float16", "crashed", 1, crashed["key"])
    never["cells"][2:] = [made_cell(label, None) for label in PLAIN[2:]]
    report["summary"].update(failing=4, suspect=0, never_ran=2, percent=99.0)
    return report


def heads(page):
    found = page.locator("#head [data-label]")
    return found.evaluate_all("all => all.map((one) => one.dataset.label)")


def at(page, view):
    """Waits until the address says this."""
    page.wait_for_url(lambda url: unquote(urlsplit(url).fragment) == view.removeprefix("#"))
    settled(page)


def in_view(page, locator):
    """Whether it can be seen without scrolling the map sideways."""
    box, grid = locator.bounding_box(), page.locator("#scroller").bounding_box()
    return grid["x"] <= box["x"] and box["x"] + box["width"] <= grid["x"] + grid["width"] + 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 800, 1280, 2200])
def test_what_failed_is_in_view(opened, width, scheme):
    page = opened(mixed_report(), width=width, scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    shot(page, f"mixed-{scheme}-{width}")

    first = page.locator(".headline li").first
    assert first.text_content().split() == ["4", "failing", "1", "of", "them", "crashed"]
    red, green, blue = page.evaluate(
        """(() => {
          const canvas = document.createElement("canvas").getContext("2d");
          const link = document.querySelector(".headline a");
          canvas.fillStyle = getComputedStyle(link).backgroundColor;
          canvas.fillRect(0, 0, 1, 1);
          return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
        })()"""
    )
    assert red > 1.5 * max(green, blue)
    first.locator("a").click()
    count(page, "4 of 240 tests in 3 modules")
    at(page, "#show=failing")
    assert page.locator("#map").bounding_box()["y"] < 300

    bad = page.locator("#rows :is([data-state=failed], [data-state=crashed])")
    assert bad.count() == 4
    for cell in bad.all():
        assert in_view(page, cell), cell.get_attribute("aria-label")
    # Where not all columns fit, it is said.
    assert page.locator("#narrowed").is_visible() == (width <= 800)
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    assert [one for one in page.evaluate(CONTRASTS) if one[0] < 4.5] == []
    shot(page, f"failing-{scheme}-{width}")


def test_just_the_columns_of_what_is_shown(opened):
    page = opened(mixed_report())
    ordered = ["float16", "torch.float16", "bfloat16", "torch.bfloat16", *PLAIN[2:]]
    assert heads(page) == [*ordered, *COMPLEX, *WIDE, "auto"]

    page.fill("#filter", "module_02")
    sync_api.expect(page.locator("#head [data-label]")).to_have_count(3)
    assert heads(page) == ["float16", "bfloat16", "auto"]
    row = page.locator("#rows .test-row").first
    assert row.locator(".cell").count() == 3
    page.fill("#filter", "module_00")
    sync_api.expect(page.locator("#head [data-label]")).to_have_count(4)
    assert heads(page) == PLAIN
    # The place in the map stays, though its column is another one.
    page.locator("#rows .cell").nth(2).focus()
    page.fill("#filter", "")
    count(page, "240 of 240 tests in 12 modules")
    assert page.locator("#rows [tabindex='0']").count() == 1


def test_a_window_that_becomes_narrow_shows_what_failed(opened):
    page = opened(mixed_report(), "show=failing", width=1280)
    assert len(heads(page)) > 10
    page.set_viewport_size({"width": 400, "height": 900})
    sync_api.expect(page.locator("#head [data-label]")).to_have_count(4)
    assert heads(page) == ["torch.float16", "bfloat16", "torch.complex128", "torch.bool"]
    # The name says it too, and leads to the cell.
    page.set_viewport_size({"width": 1280, "height": 900})
    sync_api.expect(page.locator("#narrowed")).to_be_hidden()


def test_where_columns_do_not_fit_the_name_says_which_failed(opened):
    report = mixed_report(4, 60)
    report["tests"][63]["cells"] += [made_cell(f"q{n}", "failed", 2) for n in range(40)]
    page = opened(report, "show=failing", width=800)
    named = page.locator("#rows .attention").first
    assert named.text_content() == "✗ bool +40"
    named.click()
    assert page.locator("#panel-title").text_content().endswith("torch.bool: failed")


def test_a_closed_module_shows_each_dtype(opened):
    page = opened(mixed_report())

    shown = names(page)
    assert shown[0] == "tests/models/test_module_11.py"  # two failing
    assert shown[1:4] == [f"tests/models/test_module_{m:02}.py" for m in (1, 2, 0)]
    assert page.locator("#rows .test-row").count() == 0
    assert page.locator("#of-groups").is_visible()
    rows = page.locator("#rows .group")
    said = (
        rows.nth(0)
        .locator(".sum[data-state]")
        .evaluate_all(
            "all => all.map((one) => [one.dataset.state, one.getAttribute('aria-label')])"
        )
    )
    assert said[0] == ["crashed", "torch.float16: 1 crashed, 19 passed; 100 % covered"]
    assert said[1] == ["passed", "torch.bfloat16: 20 passed; 100 % covered"]
    assert said[-1] == ["failed", "torch.complex128: 1 failed, 19 passed; 100 % covered"]
    never = rows.nth(3).locator(".sum[data-state=partly]")
    assert never.evaluate_all("all => all.map((one) => one.getAttribute('aria-label'))") == [
        f"{label}: 1 never ran, 19 passed; 95 % covered" for label in PLAIN[2:]
    ]
    # Not by its colour alone, nor by pointing at it.
    assert never.first.text_content() == "–195 %"  # noqa: RUF001 - as shown
    assert rows.nth(0).locator("[data-state=failed]").text_content() == "✗1100 %"

    # What no test of a module declares is empty; a click on any cell opens it.
    assert rows.nth(2).locator(".sum:not([data-state])").count() > 8
    rows.nth(2).locator("[data-state=failed]").click()
    assert page.locator("#rows .test-row").first.locator("[data-state=failed]").count() == 1
    rows.nth(0).locator(".name").focus()
    page.keyboard.press("ArrowRight")
    assert rows.nth(0).get_attribute("aria-expanded") == "true"


def test_the_view_is_in_the_address(opened):
    report = mixed_report()
    page = opened(report)
    page.select_option("#sort", "name")
    page.select_option("#show", "never")
    page.fill("#filter", "module_00")
    at(page, "#filter=module_00&show=never&sort=name")
    page.locator("#rows [data-state=never]").last.click()
    test = "tests/models/test_module_00.py::test_00"
    sent = f"filter=module_00&show=never&sort=name&test={test}&dtype=torch.float64"
    at(page, f"#{sent}")

    other = opened(report, sent)
    assert other.input_value("#filter") == "module_00"
    assert other.input_value("#sort") == "name"
    assert other.locator("#panel-title").text_content().endswith("torch.float64: never ran")
    other.keyboard.press("Escape")
    sync_api.expect(other.locator("#panel")).to_be_hidden()
    at(other, "#filter=module_00&show=never&sort=name")
    assert other.evaluate("document.activeElement.getAttribute('aria-label')") == (
        "torch.float64: never ran"
    )


def test_back_and_forward(opened):
    page = opened(mixed_report())
    begun = page.evaluate("history.length")
    page.locator(".headline a").first.click()
    count(page, "4 of 240 tests in 3 modules")
    page.locator("#rows [data-state=failed]").first.click()
    # A cell that was closed leaves no entry between two steps.
    page.click("#close")
    settled(page)
    assert not page.locator("#panel").is_visible()
    page.locator("#rows [data-state=crashed]").first.click()
    page.click("#close")
    settled(page)
    assert not page.locator("#panel").is_visible()
    page.locator("#filter").press_sequentially("module_02")
    count(page, "1 of 240 tests in 1 module")
    page.locator("#rows [data-state=failed]").first.click()
    assert page.evaluate("history.length") == begun + 3

    page.go_back()
    sync_api.expect(page.locator("#panel")).to_be_hidden()
    assert page.input_value("#filter") == "module_02"
    page.go_back()
    count(page, "4 of 240 tests in 3 modules")
    assert page.input_value("#filter") == ""
    page.go_back()
    count(page, "240 of 240 tests in 12 modules")
    page.go_forward()
    page.go_forward()
    count(page, "1 of 240 tests in 1 module")
    page.go_forward()
    sync_api.expect(page.locator("#panel-title")).to_contain_text("bfloat16: failed")


def test_a_panel_that_has_closed_interrupts_nobody_who_types(opened):
    page = opened(mixed_report(), "show=failing")
    page.locator("#rows [data-state=failed]").first.click()
    # Before the page is told that the panel has closed.
    page.evaluate(
        "document.getElementById('close').click(); document.getElementById('filter').focus()"
    )
    settled(page)
    assert page.evaluate("document.activeElement.id") == "filter"
    page.keyboard.type("module_02")
    count(page, "1 of 240 tests in 1 module")


def test_folds_are_in_the_address(opened):
    report = mixed_report()
    page = opened(report)
    page.locator("#rows .group b").nth(1).click()
    at(page, "#open=tests/models/test_module_01.py")
    page.click("#open-all")
    at(page, "#groups=open")
    page.locator("#rows .group b").first.click()
    at(page, "#groups=open&close=tests/models/test_module_11.py")
    shown = names(page)
    again = opened(report, page.evaluate("location.hash.slice(1)"))
    assert names(again) == shown
    assert len(shown) > 5
    page.click("#close-all")
    at(page, "")


def test_an_address_that_is_none_does_no_harm(opened):
    page = opened(small_report(), "show=nothing&sort=%FF&device=tpu&groups=1&test=t.py&dtype=x&%")
    count(page, "4 of 4 tests in 3 modules")
    assert page.locator("#lost").is_visible()
    assert not page.locator("#panel").is_visible()
    page.select_option("#show", "failing")
    at(page, "#show=failing")
    assert names(page) == [B, "test_failing"]


def parametrized(key, *nodeids):
    labels = ["torch.float16", "torch.float32"]
    cells = [
        made_cell(label, "passed" if nodeid else None, 1, nodeid)
        for label, nodeid in zip(labels, nodeids, strict=True)
    ]
    return {"key": key, "device": "cpu", "cells": cells}


@pytest.mark.parametrize(
    ("test", "command"),
    [
        # Items of one dtype each: what their node ids would be, nobody knows.
        (
            parametrized(f"{A}::test_x[eager-8]", f"{A}::test_x[float16-eager-8]", None),
            f'pytest "{A}::test_x" --dtype-only=torch.float32',
        ),
        # Nothing of it ever ran.
        (
            parametrized(f"{A}::TestIt::test_x[a::b[c]]", None, None),
            f'pytest "{A}::TestIt::test_x" --dtype-only=torch.float32',
        ),
        # A loop within the item: its key is its node id.
        (
            parametrized(f"{A}::test_x[eager]", f"{A}::test_x[eager]", None),
            f'pytest "{A}::test_x[eager]" --dtype-only=torch.float32',
        ),
    ],
    ids=["items", "never", "loop"],
)
def test_what_never_ran_can_be_run(opened, test, command):
    page = opened({**small_report(), "tests": [test]})
    page.locator("#rows .cell").nth(1).click()
    assert page.locator("#command").text_content() == command
    told = "all its other parameters" in page.locator("#panel").text_content()
    assert told == ("[" not in command)


def test_a_string_is_named_so_that_its_dtype_is_not_meant(opened):
    labels = ["bfloat16", "torch.bfloat16", "auto"]
    cells = [made_cell(label, None) for label in labels]
    page = opened(
        {**small_report(), "tests": [{"key": f"{A}::t", "device": "cpu", "cells": cells}]}
    )
    said = []
    for label in labels:
        page.locator(f"#rows .cell[aria-label^='{label}:']").click()
        said.append(page.locator("#command").text_content())
        page.click("#close")
    start = f'pytest "{A}::t" --dtype-only='
    assert said == [f"{start}\"'bfloat16'\"", f"{start}torch.bfloat16", f"{start}auto"]
