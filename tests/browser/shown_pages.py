"""What the tests of this folder show, and how they look at it."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

sync_api = pytest.importorskip("playwright.sync_api")
# No clock decides here: it is for a machine that does not answer at all.
sync_api.expect.set_options(timeout=120_000)

NOW = datetime(2026, 11, 24, 4, tzinfo=UTC)
LABELS = [
    "torch.float64",
    "torch.float32",
    "torch.float16",
    "torch.bfloat16",
    "torch.float8_e4m3fnuz",
    "torch.complex128",
    "float16",
]
OUTCOMES = [
    *["passed"] * 12,
    *("failed", "crashed", "xfailed", "xpassed", "skipped", "unsupported", "not-reached", None),
]
VERDICTS = {"passed", "failed", "crashed", "xfailed", "xpassed"}
HOSTILE = "tests/test_hostile.py::test_it[</script><img src=x onerror=window.pwned=1>'$\"]"


def iso(moment):
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def made_cell(label, outcome, days=0.0, nodeid=None, **more):
    verdict = outcome if outcome in VERDICTS else None
    at = iso(NOW - timedelta(days=days)) if verdict else None
    return {
        "label": label,
        "device": "cpu",
        "last_outcome": outcome,
        "last_verdict": verdict,
        "last_verdict_at": at,
        "last_passed_at": at if verdict == "passed" else None,
        "last_failed_at": at if verdict in ("failed", "crashed") else None,
        "seed": 1230 if outcome else None,
        "commit": "0123456789abcdef" if outcome else None,
        "runs": 3 if outcome else 0,
        "covered": verdict is not None,
        "nodeid": nodeid if outcome else None,
        "history": [[41, outcome], [40, "passed"], [3, "skipped"]] if outcome else [],
        **more,
    }


def made_report(modules=6, tests=5, labels=LABELS, runs=41):
    all_tests = []
    for m in range(modules):
        for t in range(tests):
            what = "forward" if t % 2 else "gradients_agree_with_reference"
            key = f"tests/models/test_module_{m:03}.py::TestModel{m}::test_{what}_{t:02}"
            n = m * tests + t
            cells = [
                made_cell(
                    label,
                    OUTCOMES[(n * 7 + 3 * i) % len(OUTCOMES)],
                    days=(n * 13 + i * 29) % 97 / 1.5,
                    nodeid=f"{key}[{label}]" if i % 2 else key,
                )
                for i, label in enumerate(labels)
            ]
            all_tests.append({"key": key, "device": "cpu", "cells": cells})
    cells = [cell for test in all_tests for cell in test["cells"]]
    covered = sum(cell["covered"] for cell in cells)
    return {
        "format": 1,
        "generated": iso(NOW),
        "summary": {
            "cells": len(cells),
            "covered": covered,
            "percent": round(100 * covered / max(1, len(cells)), 1),
            "never_ran": sum(cell["last_outcome"] is None for cell in cells),
            "failing": sum(cell["last_verdict"] in ("failed", "crashed") for cell in cells),
            "unsupported": sum(cell["last_outcome"] == "unsupported" for cell in cells),
            "skipped": sum(cell["last_outcome"] == "skipped" for cell in cells),
            "runs": runs,
            "next_seed": 1231,
        },
        "tests": all_tests,
        "runs": [
            {
                "number": number,
                "uid": f"{number:032x}",
                "started": iso(NOW - timedelta(days=runs - number, minutes=9)),
                "ended": iso(NOW - timedelta(days=runs - number)),
                "seed": 1189 + number,
                "strategy": "rotate",
                "commit": "0123456789abcdef",
                "host": "build-7",
                "counts": {"passed": 3, "failed": 1},
                "percent": round(80 * (1 - 0.93**number), 1),
            }
            for number in range(1, runs + 1)
        ],
    }


def small_report():
    """Two modules: one test with a failing cell, one with a cell that never ran, one without."""

    def test(key, *cells):
        return {"key": key, "device": "cpu", "cells": list(cells)}

    report = made_report(0, 0)
    report["tests"] = [
        test(
            "tests/test_b.py::test_failing",
            made_cell("torch.float16", "failed", 2, "tests/test_b.py::test_failing"),
            made_cell("torch.float32", "passed", 40, "tests/test_b.py::test_failing"),
        ),
        test(
            "tests/test_a.py::test_never",
            made_cell("torch.float16", "passed", 0, "tests/test_a.py::test_never[float16]"),
            made_cell("torch.float32", None),
        ),
        test(
            "tests/test_a.py::TestA::test_fine",
            made_cell("torch.float16", "passed", 3, "tests/test_a.py::TestA::test_fine"),
            made_cell("torch.float32", "passed", 90, "tests/test_a.py::TestA::test_fine"),
        ),
        test(HOSTILE, made_cell("torch.float16", "passed", 8, HOSTILE)),
    ]
    return report


A, B, H = "tests/test_a.py", "tests/test_b.py", "tests/test_hostile.py"
HOSTILE_NAME = HOSTILE.partition("::")[2]


def names(page):
    """The rows in view, in the order of the elements: modules, and names of tests."""
    return page.locator("#rows .group b, #rows .test .clip").all_text_contents()


def count(page, text):
    sync_api.expect(page.locator("#count")).to_have_text(text)
    settled(page)


def settled(page):
    """Lets the page do what it puts off: it draws anew in the frames after a scroll or a resize.

    Not by `wait_for_function`: asking a second time, it uses `eval`, which the page forbids.
    """
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def focused(page):
    return page.evaluate("document.activeElement.getAttribute('aria-label')")


def shot(page, name):
    folder = os.environ.get("DTYPE_SAMPLER_SHOTS")
    if folder:
        page.screenshot(path=str(Path(folder) / f"{name}.png"), full_page=True)


CONTRASTS = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const pixel = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const luminance = (rgb) => rgb.slice(0, 3).map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const rgba = pixel(getComputedStyle(e).backgroundColor);
      if (rgba[3] === 255) return rgba;
    }
    return pixel("#808080");
  };
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    const text = [...element.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!text || !element.getClientRects().length) continue;
    const style = getComputedStyle(element);
    const ink = element instanceof SVGElement ? style.fill : style.color;
    const [a, b] = [luminance(pixel(ink)), luminance(ground(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    found.push([ratio, element.textContent.slice(0, 40), element.tagName, ink]);
  }
  return found.sort((a, b) => a[0] - b[0]);
}"""
