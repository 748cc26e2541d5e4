"""`poseline stream` with videos and cameras: a real server, real HTTP, real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from made_videos import write_video
from poseline.protocol import ServerMessage, SessionClosed
from poseline_video.live import stream_live
from poseline_video.media import open_file
from poseline_video.wire import ExtractionLimits
from poseline_video.worker import newest
from servers import ServerProcess


def stream(server: ServerProcess, source: Path | str, pose: Path, *args: str) -> list[dict[str, object]]:
    roots = os.pathsep.join(path for path in sys.path if path)
    env = os.environ | {"PYTHONPATH": roots, "NO_COLOR": "1"}
    command = [sys.executable, "-m", "poseline_cli", "stream", str(source), "--url", server.ws, "--format", "json"]
    done = subprocess.run(
        [*command, "--pose", str(pose.parent), *args], env=env, capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@contextmanager
def camera(path: Path, pictures_at_once: int) -> Iterator[str]:
    """A network camera that sends MPEG-TS over HTTP, a bit at a time, and then hangs up."""
    data = path.read_bytes()

    class Camera(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "video/mp2t")
            self.end_headers()
            for at in range(0, len(data), 188 * pictures_at_once):
                self.wfile.write(data[at : at + 188 * pictures_at_once])
                time.sleep(0.01)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Camera)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/camera"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_every_frame_of_a_real_video_arrives(
    server: ServerProcess, pose_model: Path, clip: Callable[[str], Path]
) -> None:
    heard = stream(server, clip("ntu_A001_drink_water.avi"), pose_model, "--speed", "max")
    assert heard[0]["type"] == "session.started"
    assert [one["track_id"] for one in heard if one["type"] == "track.started"] == ["p1"]
    assert heard[-1]["type"] == "session.closed"
    assert heard[-1]["media_seconds"] == pytest.approx(3.4)


def test_a_video_without_anybody_streams_to_its_end(server: ServerProcess, pose_model: Path, tmp_path: Path) -> None:
    heard = stream(server, write_video(tmp_path / "a.mp4", 30), pose_model)
    assert {one["type"] for one in heard} >= {"session.started", "session.closed"}
    assert not [one for one in heard if one["type"] == "track.started"]


def test_what_a_file_is_said_to_be_outweighs_its_name(server: ServerProcess, pose_model: Path, tmp_path: Path) -> None:
    """For `stream` as for `localize`."""
    video = write_video(tmp_path / "a.avi", 30)
    with pytest.raises(AssertionError, match=r"a.avi, line 1 is not text|where the number of frames"):
        stream(server, video, pose_model, "--input-format", "ntu")
    heard = stream(server, video.rename(tmp_path / "a.txt"), pose_model, "--input-format", "video")
    assert heard[-1]["type"] == "session.closed"


def test_a_slideshow_is_silent_for_longer_than_a_server_waits(
    serve: Callable[..., ServerProcess], pose_model: Path, tmp_path: Path
) -> None:
    server = serve(idle_seconds=2).ready()
    heard: list[ServerMessage] = []
    slides = write_video(tmp_path / "slides.mkv", [0.0, 5.0])
    stream_live(slides, url=server.ws, model=pose_model, keepalive=0.2, heard=heard.append)
    assert isinstance(heard[-1], SessionClosed)
    assert heard[-1].frames_processed == 2


@pytest.mark.parametrize("paced", [True, False])
def test_the_last_picture_is_looked_at_however_busy_one_was(tmp_path: Path, paced: bool) -> None:
    with open_file(write_video(tmp_path / "a.mkv", [0.0, 0.05, 0.1]), ExtractionLimits()) as video:
        pictures = newest(video, paced=paced)
        looked_at = [next(pictures).t]
        time.sleep(1.0)  # for that long at the first: by then the others have come, and the end
        looked_at += [picture.t for picture in pictures]
    assert looked_at[-1] == pytest.approx(0.1)


@pytest.mark.parametrize("speed", ["1", "max"])
def test_a_files_limits_hold_in_a_stream(server: ServerProcess, pose_model: Path, tmp_path: Path, speed: str) -> None:
    with pytest.raises(AssertionError, match="media_too_long: longer than the 7200 s"):
        stream(server, write_video(tmp_path / "a.mkv", [0.0, 0.033, 90_000.0]), pose_model, "--speed", speed)


def test_a_network_camera(server: ServerProcess, pose_model: Path, tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.ts", 150, (160, 120), format_="mpegts")
    with camera(path, 20) as url:
        heard = stream(server, url, pose_model)
    assert heard[-1]["type"] == "session.closed"


def test_a_camera_that_is_not_there(server: ServerProcess, pose_model: Path) -> None:
    with pytest.raises(AssertionError, match="unsupported_media: there is no camera /dev/video93"):
        stream(server, "webcam:93", pose_model)
    with pytest.raises(AssertionError, match="media_damaged: it cannot be opened"):
        stream(server, "rtsp://127.0.0.1:9/none", pose_model)
    with pytest.raises(AssertionError, match="invalid_input: --speed is '3'"):
        stream(server, "webcam", pose_model, "--speed", "3")
