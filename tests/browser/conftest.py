"""The HTML pages in a real browser. Skips where there is none, or fails with `CI` set.

Uses Playwright's own Chromium, or else one that is installed (`DTYPE_SAMPLER_CHROMIUM` names it).
With `DTYPE_SAMPLER_SHOTS` naming a folder, pictures of the page are left there.
"""

from __future__ import annotations

import os
import shutil

import pytest
from shown_pages import settled, sync_api

from dtype_sampler.reports.ledger.html import render

# The names that Chromium is installed by.
NAMES = ("chromium", "chromium-browser", "chromium-headless-shell", "google-chrome")


@pytest.fixture(scope="session")
def browser():
    paths = [os.environ.get("DTYPE_SAMPLER_CHROMIUM"), None]
    paths += [shutil.which(name) for name in NAMES]
    # A container has no sandbox of its own to offer; the page is ours.
    options = {"args": ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []}
    with sync_api.sync_playwright() as playwright:
        for path in dict.fromkeys([paths[0] or paths[1], *paths[1:]]):
            try:
                launched = playwright.chromium.launch(executable_path=path, **options)
            except sync_api.Error as error:
                reason = str(error).strip().splitlines()[0]
                continue
            yield launched
            launched.close()
            return
        # Where nobody reads what was skipped, a test that never runs would pass for ever.
        without = pytest.fail if os.environ.get("CI") else pytest.skip
        without(f"no browser can be launched: {reason}")


@pytest.fixture
def opened(browser, tmp_path):
    """Opens the page of a report; in the end nothing may have gone wrong or been loaded."""
    errors, requests, contexts = [], [], []

    def open_(report, view="", width=1280, height=900, scheme="light"):
        file = tmp_path / "report.html"
        shown = report if isinstance(report, str) else render(report)
        file.write_text(shown, encoding="utf-8")
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(120_000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on(
            "console",
            lambda said: errors.append(said.text) if said.type in ("error", "warning") else None,
        )
        page.on("request", lambda request: requests.append(request.url))
        page.goto(f"{file.as_uri()}#{view}" if view else file.as_uri())
        settled(page)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert errors == []
    asked = [url for url in requests if not url.startswith(("file:", "data:"))]
    assert asked == []
    assert len([url for url in requests if url.startswith("file:")]) == len(contexts)
