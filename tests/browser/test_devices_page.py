"""The page of `dtype-sampler devices` in a real browser."""

from __future__ import annotations

import pytest
from shown_pages import CONTRASTS, shot

from dtype_sampler.reports.devices.html import render
from dtype_sampler.roundtrip.catalogue import TRIPS
from dtype_sampler.roundtrip.model import BROKEN, OK, UNSUPPORTED, Outcome, Survey


def survey():
    outcomes = [
        Outcome(
            "cpu",
            dtype,
            trip.name,
            UNSUPPORTED if trip.name == "numpy" else BROKEN if trip.name == "pickle" else OK,
            words="refused: no such scalar type" if trip.name == "numpy" else "",
        )
        for dtype in ("float16", "float8_e4m3fnuz", "float4_e2m1fn_x2")
        for trip in TRIPS
        if not trip.pairs
    ]
    return Survey("cpu", "A processor", "", {"torch": "2.13.0"}, tuple(outcomes), (), notes=())


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 800, 1280])
def test_it_does_not_scroll_into_nothing(opened, width, scheme):
    page = opened(render([survey()], {}, now=1.0), width=width, scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    shot(page, f"devices-{scheme}-{width}")

    # What a cell stands for can be read without pointing at it.
    told = page.locator("details", has_text="float8_e4m3fnuz")
    assert "unsupported" in told.locator("summary").text_content()
    told.locator("summary").click()
    assert told.get_by_text("refused: no such scalar type").is_visible()
    page.get_by_text("What the columns are").click()
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    assert [one for one in page.evaluate(CONTRASTS) if one[0] < 4.5] == []
