"""The console at work on poses that are known: played, decided by other thresholds, seen again, taken home."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from playwright.sync_api import Page

from browser import Console
from cutting import relayed
from poseline.formats import native, stream, tables
from poseline.formats.reading import ReadOptions
from servers import ServerProcess
from tiny_bundle import write_bundle

FINAL = "#lanes button.segment:not([disabled])"
_OUTSIDE = """[...document.querySelectorAll("button, input, label")]
  .filter((one) => one.offsetWidth && !one.closest("#lanes") && one.getBoundingClientRect().right > innerWidth)
  .map((one) => one.outerHTML)"""


def test_a_pose_file_is_played_and_its_timeline_taken_home(
    default_server: ServerProcess, console: Callable[..., Console], poses: Path, tmp_path: Path
) -> None:
    one = console(default_server)
    one.play_file(poses)
    one.state("ended")

    request = json.loads(poses.read_bytes())
    answer = httpx.post(default_server.url + "/v1/localize", json=request).json()
    timeline = native.read(_download(one.page, "#json", tmp_path).read_bytes())
    found = [(segment.label, segment.start, segment.end, segment.score) for segment in timeline.segments]
    assert found == [(one["label"], one["start"], one["end"], one["score"]) for one in answer["segments"]]
    assert len(found) >= 3
    assert (timeline.source, timeline.layout, timeline.fps) == ("actor seven.json", "body16", request["fps"])
    assert timeline.duration == pytest.approx(answer["duration"], abs=0.05)
    assert timeline.model is not None
    assert (timeline.model.name, timeline.model.digest) == (answer["model"]["name"], answer["model"]["digest"])
    assert timeline.thresholds is not None
    assert timeline.thresholds.min_score == one.of("session.started")[-1]["options"]["min_score"]

    assert tables.read_csv(_download(one.page, "#csv", tmp_path).read_bytes()) == timeline
    kept = stream.read(_download(one.page, "#ndjson", tmp_path), ReadOptions())
    assert [len(person) for person in kept.values()] == [len(request["tracks"][0]["keypoints"])]


def test_recorded_poses_can_be_played_again(
    default_server: ServerProcess, console: Callable[..., Console], poses: Path, tmp_path: Path
) -> None:
    request = json.loads(poses.read_bytes())
    track = request["tracks"][0]
    lines: list[dict[str, object]] = [{"layout": request["layout"], "coordinates": request["coordinates"]}]
    for i, kp in enumerate(track["keypoints"][:60]):
        lines.append({"t": 100 + i / 30, "people": [{"id": "a", "kp": kp}, {"id": "b", "kp": kp}]})
    recorded = tmp_path / "two.ndjson"
    recorded.write_text("".join(json.dumps(line) + "\n" for line in lines))

    one = console(default_server)
    one.play_file(recorded)
    one.state("ended")
    assert {track["track_id"] for track in one.of("track.started")[-2:]} == {"a", "b"}
    assert one.page.inner_text("#length").startswith("/ 0:0")  # the clock begins with the first frame


def test_a_message_never_holds_more_frames_than_the_protocol_allows(
    default_server: ServerProcess, console: Callable[..., Console], poses: Path, tmp_path: Path
) -> None:
    request = json.loads(poses.read_bytes())
    keypoints = request["tracks"][0]["keypoints"]
    lines: list[dict[str, object]] = [{"layout": request["layout"], "coordinates": request["coordinates"]}]
    lines += [{"t": i / 10_000, "people": [{"id": "a", "kp": keypoints[i // 100]}]} for i in range(2000)]
    fast = tmp_path / "fast.ndjson"
    fast.write_text("".join(json.dumps(line) + "\n" for line in lines))

    one = console(default_server)
    one.play_file(fast)
    one.state("ended")
    sizes = [len(message["frames"]) for message in one.frames_of_the_last_session()]
    assert max(sizes) == 64
    assert sum(sizes) == 2000


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "is not JSON"),
        ("{}", "does not say its layout"),
        ('{"layout": "coco99", "fps": 30, "tracks": [{"track_id": "p", "keypoints": [[]]}]}', "unknown layout"),
        ('{"layout": "body16", "tracks": [{"track_id": "p", "keypoints": [[]]}]}', "either fps or timestamps"),
        ('{"layout": "body16", "fps": 30, "tracks": []}', "nobody is in"),
        ('{"layout": "body16"}\n{"t": 1, "people": []}\n{"t": 1, "people": []}', "rising t"),
    ],
)
def test_a_file_that_is_none_is_refused_in_words(
    server: ServerProcess, console: Callable[..., Console], tmp_path: Path, text: str, why: str
) -> None:
    wrong = tmp_path / "wrong.json"
    wrong.write_text(text)
    one = console(server)
    one.choose("Pose file")
    one.page.set_input_files("#poses-file", wrong)
    one.page.wait_for_selector(f"#trouble:has-text('{why}')")
    one.complaints[:] = [text for text in one.complaints if "404" not in text]  # the layout that is unknown
    one.choose("Actor")
    one.state("live")


def test_sliders_change_the_running_session(default_server: ServerProcess, console: Callable[..., Console]) -> None:
    one = console(default_server)
    one.state("live")
    own = one.of("session.started")[-1]["options"]
    one.page.fill("#min_score", "0.9")
    one.until(lambda: one.of("session.updated"))
    assert one.of("session.update")[-1]["options"]["min_score"] == 0.9
    assert one.of("session.updated")[-1]["options"]["min_score"] == 0.9
    assert one.page.inner_text("#min_score-value") == "0.90"

    one.page.fill("#off_score", "0.95")  # over the other: which gives way
    one.until(lambda: len(one.of("session.updated")) == 2)
    effective = one.of("session.updated")[-1]["options"]
    assert (effective["min_score"], effective["off_score"]) == (0.95, 0.95)

    one.page.fill("#min_duration", "3")
    one.until(lambda: len(one.of("session.updated")) == 3)
    one.page.click("#next")  # the choice outlives the performance
    one.until(lambda: len(one.of("session.started")) == 2)
    assert one.of("session.started")[-1]["options"]["min_duration"] == 3
    one.page.click("#reset")
    one.until(lambda: len(one.of("session.updated")) == 4)
    names = ("min_score", "off_score", "min_duration")
    assert [one.of("session.updated")[-1]["options"][name] for name in names] == [own[name] for name in names]


def test_a_click_shows_a_segment_again(
    default_server: ServerProcess, console: Callable[..., Console], poses: Path
) -> None:
    one = console(default_server)
    one.play_file(poses)
    one.page.locator(FINAL).first.click()
    final = min(one.of("segment.final"), key=lambda segment: segment["start"])
    shown = one.page.inner_text("#replay-text")
    assert final["label"].replace("_", " ") in shown
    assert f"{final['start']:.1f} to {final['end']:.1f} s" in shown

    one.until(lambda: "Held" in one.page.inner_text("#state-text"))
    sent, cursor = len(one.of("frames")), _media_time(one.page, "--again")
    one.until(lambda: _media_time(one.page, "--again") != cursor)
    assert final["start"] - 0.5 <= _media_time(one.page, "--again") <= final["end"] + 0.5
    assert len(one.of("frames")) == sent  # the file waits meanwhile

    one.page.click("#back")
    one.until(lambda: len(one.of("frames")) > sent)
    one.state("ended")
    one.page.locator(FINAL).last.click()
    assert one.page.is_visible("#replay")


def test_everything_works_without_a_mouse(
    default_server: ServerProcess, console: Callable[..., Console], poses: Path
) -> None:
    one = console(default_server)
    page, keys = one.page, one.page.keyboard
    page.on("filechooser", lambda chooser: chooser.set_files(poses))
    one.state("live")
    keys.press("Space")
    page.wait_for_selector("#state-text:has-text('Paused')")
    keys.press("4")
    _tab_to(page, "#poses-file")
    keys.press("Enter")
    one.state("ended")

    _tab_to(page, "#min_score")
    keys.press("ArrowRight")
    _tab_to(page, FINAL)
    finals = page.inner_text("#finals")
    first = page.evaluate("document.activeElement.title")
    keys.press("End")
    last = page.evaluate("document.activeElement.title")
    assert int(finals) >= 3
    assert first != last
    keys.press("Enter")
    page.wait_for_selector(f"#replay-text:has-text('{last.split(',')[0]}')")
    keys.press("Escape")
    page.wait_for_selector("#replay", state="hidden")
    keys.press("?")
    assert page.is_visible("#keys")
    page.uncheck("#single")
    keys.press("Escape")
    keys.press("1")
    assert page.is_checked("[value=poses]")  # shortcuts are off


@pytest.mark.parametrize("source", ["Actor", "Webcam", "Video", "Pose file"])
def test_a_phone_has_room_for_it(
    server: ServerProcess, console: Callable[..., Console], source: str, poses: Path
) -> None:
    one = console(server, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    one.choose(source)
    if source == "Pose file":
        one.page.set_input_files("#poses-file", poses)
    if source in ("Actor", "Pose file"):
        one.page.wait_for_selector(FINAL)
    one.page.click("#teaching")
    one.page.wait_for_selector("#lesson")
    width = "Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)"
    assert one.page.evaluate(width) == 390
    assert one.page.evaluate(_OUTSIDE) == []


def test_without_its_parts_the_page_says_how_to_get_them(
    serve: Callable[..., ServerProcess], console: Callable[..., Console], tmp_path: Path
) -> None:
    folder = tmp_path / "pose"
    one = console(serve(pose=folder).ready())
    for source in ("Webcam", "Video"):
        one.choose(source)
        one.page.wait_for_selector("pre:has-text('poseline pose-model build')", state="visible")
        assert not one.page.is_visible("#camera")
    (folder / "tasks-vision" / "wasm").mkdir(parents=True)
    for name in ("pose_landmarker_full.task", "tasks-vision/vision_bundle.mjs"):
        (folder / name).touch()
    one.page.click("#again")
    one.page.wait_for_selector("#video-file", state="attached")
    one.page.wait_for_selector("[data-panel=video]", state="visible")
    one.choose("Actor")
    one.state("live")
    shutil.rmtree(folder)


def test_a_server_that_goes_is_said(serve: Callable[..., ServerProcess], console: Callable[..., Console]) -> None:
    gone = serve().ready()
    one = console(gone)
    one.state("live")
    gone.stop()
    one.page.wait_for_selector("#state[data-state=error]:has-text('Trying again')")
    one.until(lambda: "no connection" in one.page.inner_text("#state") or one.complaints)
    one.complaints.clear()  # the browser itself complains about sockets that it cannot open


def test_a_broken_line_does_not_end_the_session(server: ServerProcess, console: Callable[..., Console]) -> None:
    """The same session goes on: no segment is told twice, and what was under way when the line broke ends like any other."""
    with relayed(server.port) as line:
        one = console(SimpleNamespace(url=f"http://127.0.0.1:{line.port}"))  # type: ignore[arg-type]
        one.until(lambda: len([m for m in one.heard if m["type"] == "segment.final"]) >= 3)
        line.loop.call_soon_threadsafe(line.cut)
        one.until(lambda: [m for m in one.heard if m.get("resumed")])
        one.until(lambda: len([m for m in one.heard if m["type"] == "segment.final"]) >= 8)
        started = [m for m in one.heard if m["type"] == "session.started"]
        assert len({m["session_id"] for m in started}) == 1
        finals = [m["segment_id"] for m in one.heard if m["type"] == "segment.final"]
        assert len(finals) == len(set(finals))
        begun = {m["segment_id"] for m in one.heard if m["type"] == "segment.started"}
        over = {m["segment_id"] for m in one.heard if m["type"] in ("segment.final", "segment.retracted")}
        assert len(begun - over) <= 2, "what is still under way"
        one.complaints.clear()  # the browser itself complains about a socket that breaks


def test_the_console_says_where_the_model_does_not_know(
    serve: Callable[..., ServerProcess], console: Callable[..., Console], poses: Path, tmp_path: Path
) -> None:
    write_bundle(tmp_path / "models", unknown_below=0.999)
    one = console(serve(tmp_path / "models").ready())
    assert one.page.inner_text("#scores-of") == "Scores"
    one.play_file(poses)
    one.page.wait_for_selector("#unknown")
    assert any(message.get("unknown") for message in one.of("scores"))
    assert one.page.inner_text("#unknown") == "unknown"


def _tab_to(page: Page, selector: str) -> None:
    for _ in range(40):
        if page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"the Tab key never reached {selector}")


def _media_time(page: Page, name: str) -> float:
    return float(page.evaluate("(name) => document.getElementById('timeline').style.getPropertyValue(name)", name))


def _download(page: Page, button: str, folder: Path) -> Path:
    with page.expect_download() as download:
        page.click(button)
    target = folder / download.value.suggested_filename
    download.value.save_as(target)
    return target
