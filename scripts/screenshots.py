"""Every state of the console as a picture, for eyes: `make screenshots` writes them to screenshots/.

Each is taken in a real Chromium on a real server with the default model; those of the webcam and of a video need pose/ and
a clip and are left out, saying so, where these are absent. Printed besides: how long the page takes to its first view.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from playwright.sync_api import Playwright, sync_playwright

PROJECT = Path(__file__).parents[1]
sys.path[:0] = [str(PROJECT / "tests")]

from browser import Console, camera, launch, pictures_of  # noqa: E402 (the tests' own tools)
from servers import ServerProcess  # noqa: E402

TARGET = PROJECT / "screenshots"
CLIP = PROJECT.parent / "shared" / "data" / "video" / "asl_gestures_5.mp4"  # may be shown: CC BY 4.0, Intel
PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "has_touch": True, "is_mobile": True}
FINAL = "#lanes button.segment:not([disabled])"
FIRST_VIEW = """() => {
  const paint = performance.getEntriesByName('first-contentful-paint')[0].startTime;
  const loaded = performance.getEntriesByType('resource').map((one) => one.responseEnd);
  const bytes = performance.getEntriesByType('resource').reduce((sum, one) => sum + one.transferSize, 0);
  return [paint, Math.max(...loaded.filter(Boolean)), bytes];
}"""


class Album:
    """Opens consoles and keeps their pictures."""

    def __init__(self, playwright: Playwright, server: ServerProcess) -> None:
        self._playwright = playwright
        self._server = server

    def take(
        self, name: str, act: Callable[[Console], None], *flags: str, server: ServerProcess | None = None, **page: Any
    ) -> None:
        browser = launch(self._playwright, *flags)
        one = Console(browser, server or self._server, **page)
        act(one)
        path = TARGET / f"{name}.png"
        one.page.screenshot(path=path, full_page="is_mobile" in page)
        print(path.relative_to(PROJECT))
        browser.close()


def actor(seconds: float) -> Callable[[Console], None]:
    def act(one: Console) -> None:
        one.state("live")
        one.page.wait_for_timeout(1000 * seconds)

    return act


def ended(one: Console) -> None:
    one.state("ended")
    one.page.wait_for_timeout(1500)


def replayed(one: Console) -> None:
    actor(21)(one)
    one.page.locator(FINAL).nth(2).dispatch_event("click")  # a moving one, which Playwright would wait for
    one.page.mouse.move(0, 0)
    one.page.wait_for_timeout(900)


def panel(source: str) -> Callable[[Console], None]:
    def act(one: Console) -> None:
        one.state("live")
        one.choose(source)
        one.page.wait_for_timeout(600)

    return act


def keys(one: Console) -> None:
    actor(3)(one)
    one.page.keyboard.press("?")
    one.page.wait_for_timeout(300)


def refused(one: Console) -> None:
    panel("Webcam")(one)
    one.page.click("#camera")
    one.page.wait_for_selector("#trouble:not(:empty)")


def webcam(one: Console) -> None:
    panel("Webcam")(one)
    one.page.fill("#min_score", "0.15")
    one.page.click("#camera")
    one.state("live")
    one.page.wait_for_timeout(15_000)


def video(one: Console) -> None:
    panel("Video")(one)
    one.page.fill("#min_score", "0.15")
    one.page.set_input_files("#video-file", CLIP)
    one.state("live")
    one.page.wait_for_timeout(9000)


def video_again(one: Console) -> None:
    video(one)
    one.state("ended")
    one.page.locator(FINAL).first.click()
    one.page.wait_for_timeout(900)


def pose_file(one: Console) -> None:
    answer = one.page.request.get(one.page.url + "demo/actor.json?seed=11&seconds=40").json()
    track = {"track_id": "actor", "keypoints": answer["frames"]}
    request = {"layout": "body16", "fps": answer["fps"], "coordinates": answer["coordinates"], "tracks": [track]}
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(request, file)
        file.flush()
        one.play_file(Path(file.name))
        one.page.wait_for_timeout(16_000)


def first_view(playwright: Playwright, server: ServerProcess) -> None:
    browser = launch(playwright)
    times = []
    for _ in range(5):
        one = Console(browser, server)
        one.state("live")
        times.append(one.page.evaluate(FIRST_VIEW))
        one.page.close()
    browser.close()
    paint, loaded, size = sorted(times)[2]
    print(
        f"first view: painted after {paint:.0f} ms, all loaded after {loaded:.0f} ms ({size / 1024:.0f} KiB), median of 5"
    )


def main() -> None:
    TARGET.mkdir(exist_ok=True)
    server = ServerProcess(PROJECT / "models", pose=PROJECT / "pose").ready()
    bare = ServerProcess(PROJECT / "models", pose=TARGET / "absent").ready()
    gone = ServerProcess(PROJECT / "models").ready()

    def leave(one: Console) -> None:
        actor(8)(one)
        gone.stop()
        one.page.wait_for_selector("#state[data-state=error]")
        one.page.wait_for_timeout(2500)

    wanted = sys.argv[1:]
    with ExitStack() as stack:
        for one in (server, bare, gone):
            stack.callback(one.stop)
        playwright = stack.enter_context(sync_playwright())
        album = Album(playwright, server)
        pictures: dict[str, Callable[[], None]] = {}

        def add(name: str, act: Callable[[Console], None], *flags: str, **page: Any) -> None:
            pictures[name] = lambda: album.take(name, act, *flags, **page)

        add("actor-light", actor(21))
        add("actor-dark", actor(21), color_scheme="dark")
        add("actor-ended", ended)
        add("phone", actor(14), **PHONE)
        add("phone-dark", replayed, color_scheme="dark", **PHONE)
        add("replay", replayed)
        add("pose-file-asked", panel("Pose file"))
        add("pose-file", pose_file)
        add("keyboard", keys)
        add("no-vision-parts", panel("Webcam"), server=bare)
        add("server-gone", leave, server=gone)
        if (PROJECT / "pose" / "pose_landmarker_full.task").exists() and CLIP.exists():
            with tempfile.TemporaryDirectory() as folder:
                flags = camera(pictures_of(CLIP, Path(folder) / "camera.mjpeg"))
                add("webcam-asked", panel("Webcam"))
                add("no-camera", refused)
                add("webcam", webcam, *flags)
                add("webcam-dark", webcam, *flags, color_scheme="dark")
                add("webcam-phone", webcam, *flags, **PHONE)
                add("video", video)
                add("video-replay", video_again)
                _run(pictures, wanted)
        else:
            print("left out: webcam and video, which need pose/ and ../shared/data/video")
            _run(pictures, wanted)
        first_view(playwright, server)


def _run(pictures: dict[str, Callable[[], None]], wanted: list[str]) -> None:
    for name, take in pictures.items():
        if not wanted or name in wanted:
            take()


if __name__ == "__main__":
    main()
