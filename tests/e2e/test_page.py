"""The console as it opens: the actor performs, and finished segments reach the timeline."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from browser import Console
from poseline_service.keys import StoredKey, new_key, write_keys
from servers import ServerProcess


def test_the_page_shows_the_segments_of_a_live_stream(server: ServerProcess, console: Callable[..., Console]) -> None:
    page = console(server)
    page.state("live")
    page.page.wait_for_selector("#timeline:not([data-finals='0'])")


def test_the_video_parts_are_not_loaded_before_they_are_asked_for(
    server: ServerProcess, console: Callable[..., Console]
) -> None:
    page = console(server)
    asked: list[str] = []
    page.page.on("request", lambda request: asked.append(request.url))
    page.page.reload()
    page.state("live")
    assert any(url.endswith("/app.js") for url in asked)
    assert not [url for url in asked if "vision" in url or "picture" in url or "webcam" in url]


def test_a_server_with_keys_asks_for_one_and_is_shown_it(
    serve: Callable[..., ServerProcess], console: Callable[..., Console], tmp_path: Path
) -> None:
    key, hashed = new_key("page")
    write_keys(tmp_path / "keys.json", [StoredKey("page", hashed, ["stream"])])
    page = console(serve(keys=tmp_path / "keys.json").ready())
    page.page.fill("#key", "pk_wrong")
    page.page.click("#door button")
    page.page.wait_for_selector("#door-why:not(:empty)")
    page.page.fill("#key", key)
    page.page.click("#door button")
    page.state("live")
    page.page.wait_for_selector("#timeline:not([data-finals='0'])")
    told = [said for said in page.complaints if "401" in said]  # Chromium tells of every such answer
    assert told == page.complaints
    page.complaints.clear()
    assert all(key not in said for said in map(str, page.sent))
