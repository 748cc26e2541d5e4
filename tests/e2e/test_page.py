"""The page in a real browser, on a real server: it goes live, and finished segments reach the timeline."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from servers import ServerProcess

CHROMIUM = Path("/usr/bin/chromium")
_ALONE = ("no-sandbox", "disable-quic", "no-first-run", "disable-background-networking", "disable-component-update",
          "disable-sync")  # fmt: skip
PATIENCE = 90_000
"""Milliseconds: a performance lasts a minute, and its end makes open segments final."""

pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no browser: {CHROMIUM} is absent")


@pytest.fixture
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=[f"--{flag}" for flag in _ALONE])
        yield chromium
        chromium.close()


def test_the_page_shows_the_segments_of_a_live_stream(server: ServerProcess, browser: Browser, tmp_path: Path) -> None:
    page = browser.new_page(viewport={"width": 1360, "height": 860})
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))

    page.goto(server.url)
    # Selectors, not wait_for_function: that one needs eval, which the page's Content-Security-Policy forbids.
    page.wait_for_selector("#state[data-state=live]", timeout=PATIENCE)
    page.wait_for_selector("#timeline:not([data-finals='0'])", timeout=PATIENCE)
    page.screenshot(path=tmp_path / "page.png")

    assert complaints == []
