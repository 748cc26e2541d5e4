"""A console in a real Chromium: what it says to its server, what it hears, what it complains about, whom it asks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, Playwright, WebSocket

from servers import ServerProcess

CHROMIUM = Path("/usr/bin/chromium")
PATIENCE = 90_000
"""Milliseconds after which something that should happen counts as not happening."""
_ALONE = ("no-sandbox", "disable-quic", "no-first-run", "disable-background-networking", "disable-component-update",
          "disable-sync")  # fmt: skip


def launch(playwright: Playwright, *flags: str) -> Browser:
    """A browser that talks to nobody by itself."""
    return playwright.chromium.launch(executable_path=CHROMIUM, args=[f"--{flag}" for flag in (*_ALONE, *flags)])


def camera(pictures: Path | None = None) -> tuple[str, ...]:
    """Flags of a browser whose camera plays an .mjpeg file, or a pattern in which nobody is, and may be used unasked."""
    shown = () if pictures is None else (f"use-file-for-fake-video-capture={pictures}",)
    return ("use-fake-ui-for-media-stream", "use-fake-device-for-media-stream", *shown)


def pictures_of(clip: Path, target: Path) -> Path:
    """A clip as the .mjpeg that Chromium's made-up camera plays."""
    import av

    with av.open(str(clip)) as source, av.open(str(target), "w", format="mjpeg") as sink:
        stream = sink.add_stream("mjpeg", rate=30)
        stream.width, stream.height, stream.pix_fmt = 640, 480, "yuvj420p"
        for frame in source.decode(video=0):
            sink.mux(stream.encode(frame.reformat(640, 480, "yuvj420p")))
        sink.mux(stream.encode())
    return target


class Console:
    """One page, what it said to the server and what it heard, what it complained about and whom it asked."""

    def __init__(self, browser: Browser, server: ServerProcess, **context: Any) -> None:
        options: dict[str, Any] = {"viewport": {"width": 1360, "height": 860}} | context
        self.page: Page = browser.new_page(**options)
        self.page.set_default_timeout(PATIENCE)
        self.sent: list[dict[str, Any]] = []
        self.heard: list[dict[str, Any]] = []
        self.complaints: list[str] = []
        self.strangers: list[str] = []
        self._home = (server.url, "data:", f"blob:{server.url}")
        self.page.on("console", lambda said: self.complaints.append(said.text) if said.type == "error" else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self._visit(request.url))
        self.page.on("websocket", self._listen)
        self.page.goto(server.url)

    def _visit(self, url: str) -> None:
        if not url.startswith(self._home):
            self.strangers.append(url)

    def _listen(self, socket: WebSocket) -> None:
        self._visit(socket.url.replace("ws:", "http:"))
        socket.on("framesent", lambda text: self.sent.append(json.loads(text)))
        socket.on("framereceived", lambda text: self.heard.append(json.loads(text)))

    def state(self, name: str) -> None:
        # Selectors, not wait_for_function: that one needs eval, which the page's Content-Security-Policy forbids.
        self.page.wait_for_selector(f"#state[data-state={name}]")

    def choose(self, source: str) -> None:
        self.page.locator("#sources label", has_text=source).click()

    def play_file(self, poses: Path) -> None:
        self.choose("Pose file")
        self.page.set_input_files("#poses-file", poses)
        self.state("live")

    def until(self, found: Callable[[], object]) -> None:
        """Wait until `found` says so; what comes over the socket is seen while the page is asked."""
        for _ in range(PATIENCE // 50):
            if found():
                return
            self.page.wait_for_timeout(50)
        raise AssertionError("it never happened")

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [message for message in (*self.sent, *self.heard) if message["type"] == kind]

    def frames_of_the_last_session(self) -> list[dict[str, Any]]:
        """Its messages with frames."""
        last = max(i for i, message in enumerate(self.sent) if message["type"] == "session.start")
        return [message for message in self.sent[last:] if message["type"] == "frames"]
