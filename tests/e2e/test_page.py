"""The console as it opens: the actor performs, and finished segments reach the timeline."""

from __future__ import annotations

from collections.abc import Callable

from browser import Console
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
