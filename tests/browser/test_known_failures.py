"""What a baseline knows to fail is told from what is new, and nothing of it is hidden."""

from __future__ import annotations

import pytest
from shown_pages import CONTRASTS, count, made_cell, made_report, names, shot

SINCE = {
    "run": 3,
    "uid": "u",
    "at": "2026-11-01T00:00:00Z",
    "commit": "fedcba987654",
    "exact": True,
}
OLD, NEW = "tests/test_old.py::test_old", "tests/test_new.py::test_new"
FINE = "tests/test_old.py::test_fine"


def compared_report(device="cpu"):
    """Two failures that are known, in the module with most failures, and one that is new."""
    report = made_report(0, 0)

    def test(key, *cells):
        report["tests"].append({"key": key, "device": device, "cells": list(cells)})

    def failed(key, label, known):
        return made_cell(label, "failed", 2, key, known=known)

    test(OLD, failed(OLD, "torch.float16", SINCE), failed(OLD, "torch.bfloat16", SINCE))
    test(NEW, failed(NEW, "torch.float16", None), made_cell("torch.bfloat16", None, known=None))
    test(FINE, made_cell("torch.float16", "passed", 2, FINE, known=None))
    baseline = {"name": "main.sqlite", "known": 2, "new": 1, "mended": 0, "vague": 0}
    report["summary"].update(failing=3, suspect=0, never_ran=1, baseline=baseline)
    return report


def test_known_failures_have_a_sign_and_a_filter_of_their_own(opened):
    page = opened(compared_report())
    links = page.locator(".headline a")
    assert [one.split() for one in links.all_text_contents()] == [
        ["3", "failing", "2", "of", "them", "known"],
        ["1", "new"],
        ["1", "never", "ran"],
    ]
    # What is new comes first, though there is less of it.
    a, b = "tests/test_new.py", "tests/test_old.py"
    assert names(page) == [a, "test_new", b, "test_old", "test_fine"]
    bad = page.locator("#rows .group .bad")
    assert bad.all_text_contents() == ["1 new", "2 known"]
    signs = page.locator("#rows .cell[data-state=known]")
    assert signs.all_text_contents() == ["k2d", "k2d"]
    assert page.locator("#legend").text_content().count("failed, as is known") == 1

    for show, tests in (("failing", 2), ("new", 1), ("known", 1), ("never", 1)):
        page.select_option("#show", show)
        count(page, f"{tests} of 3 tests in {tests} module{'s' * (tests > 1)}")
    links.nth(1).click()
    assert names(page) == [a, "test_new"]
    page.select_option("#show", "all")

    signs.first.click()
    panel = page.locator("#panel")
    assert panel.locator("h2").text_content().endswith("torch.float16: failed, as is known")
    assert "since run 3 of the baseline main.sqlite, 2026-11-01 00:00 UTC" in panel.text_content()
    assert "commit fedcba9" in panel.text_content()
    # Of this cell nothing is new.
    assert "new" not in panel.text_content()
    assert page.locator("#command").text_content() == (
        f'pytest "{OLD}" --dtype-seed=1230 --dtype-only=torch.float16 --dtype-baseline=none'
    )


@pytest.mark.parametrize(("width", "scheme"), [(400, "dark"), (1280, "light")])
def test_they_can_be_told_apart_at_all_widths(opened, width, scheme):
    page = opened(compared_report(), "groups=closed", width=width, scheme=scheme)
    sums = page.locator("#rows .sum[data-state]")
    states = sums.evaluate_all("all => all.map((one) => one.dataset.state)")
    assert states == ["failed", "never", "known", "known"]
    assert "1 failed, as is known, 1 passed; 100 %" in sums.nth(2).get_attribute("aria-label")
    shot(page, f"known-closed-{scheme}-{width}")
    page.click("#open-all")
    assert page.locator("#rows .cell[data-state=known]").count() == 2
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    assert [one for one in page.evaluate(CONTRASTS) if one[0] < 4.5] == []
    shot(page, f"known-{scheme}-{width}")


def test_a_replay_names_a_device_that_is_not_the_usual_one(opened):
    page = opened(compared_report("cuda"))
    page.locator("#rows .cell").nth(1).click()
    assert page.locator("#command").text_content() == (
        f'pytest "{NEW}" --dtype-only=torch.bfloat16 --dtype-device=cuda'
    )
