"""The console on moving pictures, with the real pose extractor in the browser: what a camera or a video shows becomes poses
there, and nothing but poses goes out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from browser import Console, camera, pictures_of
from servers import ServerProcess

PROJECT = Path(__file__).parents[2]
CLIP = PROJECT.parent / "shared" / "data" / "video" / "asl_gestures_5.mp4"
MODEL = PROJECT / "pose" / "pose_landmarker_full.task"

extractor = pytest.mark.skipif(not MODEL.exists(), reason="pose/ is not built: poseline pose-model build")
clip = pytest.mark.skipif(not CLIP.exists(), reason="no clip: ../shared/data is absent")


@extractor
@clip
def test_a_camera_becomes_a_stream_of_poses(
    default_server: ServerProcess, console: Callable[..., Console], tmp_path: Path
) -> None:
    one = console(default_server, *camera(pictures_of(CLIP, tmp_path / "camera.mjpeg")))
    bodies: list[str] = []
    one.page.on("request", lambda request: bodies.append(request.url) if request.post_data_buffer else None)
    one.choose("Webcam")
    one.page.wait_for_selector("[data-panel=webcam]:has-text('No picture leaves the machine')")
    one.page.click("#camera")
    one.state("live")
    one.until(lambda: len(_seen(one)) >= 10)

    start = one.of("session.start")[-1]
    assert (start["layout"], start["coordinates"]) == (
        "blazepose33",
        {"space": "world_m", "dims": 3, "y_axis": "down", "facing": "-z"},
    )
    for _, kp in _seen(one):
        assert [len(joint) for joint in kp] == [4] * 33
        assert kp[0][1] < kp[23][1]  # y is down: the nose is over the hip
    frames = [frame for message in one.sent if message["type"] == "frames" for frame in message["frames"]]
    assert {name for frame in frames for name in frame} == {"t", "people"}
    assert bodies == []  # no request had a body: all that leaves goes through the socket
    assert one.page.evaluate("getComputedStyle(document.getElementById('frame')).transform").startswith("matrix(-1")
    # The eye sees a mirror, the data do not: a person who faces the camera has the left shoulder at +x of the picture.
    assert all(kp[11][0] > kp[12][0] for _, kp in _seen(one))

    one.page.click("#stop")
    one.state("ended")
    assert one.page.is_visible("#camera")
    assert one.page.evaluate("document.getElementById('picture').srcObject") is None


@extractor
def test_a_camera_that_sees_nobody_says_so(default_server: ServerProcess, console: Callable[..., Console]) -> None:
    one = console(default_server, *camera())
    one.choose("Webcam")
    one.page.click("#camera")
    one.page.wait_for_selector("#state-text:has-text('nobody in view')")
    assert one.of("frames")
    assert _seen(one) == []


@extractor
@pytest.mark.parametrize(
    ("flags", "why"),
    [((), "No camera was found"), (("use-fake-device-for-media-stream", "deny-permission-prompts"), "refused")],
)
def test_without_a_camera_the_page_lives_on(
    default_server: ServerProcess, console: Callable[..., Console], flags: tuple[str, ...], why: str
) -> None:
    one = console(default_server, *flags)
    one.choose("Webcam")
    one.page.click("#camera")
    one.page.wait_for_selector(f"#trouble:has-text('{why}')")
    assert one.page.is_visible("#camera")  # to try again
    one.choose("Actor")
    one.state("live")


@extractor
@clip
def test_a_video_file_is_searched_for_actions_and_sought(
    default_server: ServerProcess, console: Callable[..., Console]
) -> None:
    one = console(default_server)
    one.page.fill("#min_score", "0.05")  # what is found matters less here than that something is
    one.page.fill("#min_duration", "0")
    one.choose("Video")
    one.page.set_input_files("#video-file", CLIP)
    one.state("live")
    one.state("ended")

    times = [frame["t"] for message in one.frames_of_the_last_session() for frame in message["frames"]]
    duration = one.page.evaluate("document.getElementById('picture').duration")
    assert times == sorted(set(times))
    assert 0 <= times[0] < 2
    assert duration - 2 < times[-1] <= duration
    one.page.locator("#lanes button.segment:not([disabled])").first.click()
    final = min(
        (message for message in one.of("segment.final") if message["track_id"] == "person"),
        key=lambda segment: segment["start"],
    )
    assert one.page.get_attribute("#scene", "data-view") == "both"
    one.until(lambda: final["start"] - 0.5 <= _shown(one) <= final["end"] + 0.5)
    one.until(lambda: _is_drawn(one))
    one.page.keyboard.press("Escape")
    one.until(lambda: _shown(one) == pytest.approx(duration, abs=0.1))


@extractor
@clip
def test_the_chooser_says_what_a_file_is(
    default_server: ServerProcess, console: Callable[..., Console], tmp_path: Path
) -> None:
    """A system that knows no type for a video gives it none."""
    untold = tmp_path / "holiday"
    untold.write_bytes(CLIP.read_bytes())
    one = console(default_server)
    one.choose("Video")
    one.page.set_input_files("#video-file", untold)
    one.state("live")
    assert one.page.is_checked("[name=source][value=video]")


def _seen(one: Console) -> list[tuple[float, list[list[float]]]]:
    """When somebody was seen in a picture, and as what."""
    frames = [frame for message in one.of("frames") for frame in message["frames"]]
    return [(frame["t"], person["kp"]) for frame in frames for person in frame["people"] if person["id"] == "person"]


def _is_drawn(one: Console) -> bool:
    """Whether there is a limb on the stage, in the colour of left ones."""
    return bool(
        one.page.evaluate("""() => {
          const canvas = document.getElementById('stage');
          const accent = getComputedStyle(document.documentElement).getPropertyValue('--accent');
          const pen = new OffscreenCanvas(1, 1).getContext('2d');
          pen.fillStyle = accent;
          pen.fillRect(0, 0, 1, 1);
          const [r, g, b] = pen.getImageData(0, 0, 1, 1).data;
          const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
          let count = 0;
          for (let i = 0; i < data.length; i += 4) count += data[i] === r && data[i + 1] === g && data[i + 2] === b;
          return count > 500;
        }""")
    )


def _shown(one: Console) -> float:
    return float(one.page.evaluate("document.getElementById('picture').currentTime"))
