"""Videos through `/v1/jobs`, with the real extractor in its process; made-up videos in which nobody is.

They need its model (`poseline pose-model build`) and are skipped, saying so, where it is absent.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import httpx
import numpy as np
import psutil
import pytest

import made_videos
from job_calls import accepted, children, files_in, over, reach
from poseline.codec import decode_response
from poseline.formats.timelines import FORMATS
from poseline_service.sources import POSE_MODEL
from servers import PATIENCE, ServerProcess

POSE = Path(__file__).parents[2] / "pose"

pytestmark = pytest.mark.skipif(
    not (POSE / POSE_MODEL).is_file(), reason="no pose model: make it with poseline pose-model build"
)


def write_video(path: Path, seconds: float, width: int = 320, height: int = 240) -> bytes:
    """A grey picture whose brightness wanders."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.width, stream.height = width, height
        for n in range(round(seconds * 30)):
            picture = np.full((height, width, 3), 60 + n % 120, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path.read_bytes()


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_video(tmp_path_factory.mktemp("videos") / "short.mp4", 1)


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Takes the extractor longer than any test lets it."""
    return write_video(tmp_path_factory.mktemp("videos") / "long.mp4", 120)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the server keeps its jobs' files."""
    return tmp_path_factory.mktemp("jobs")


@pytest.fixture(scope="module")
def server(models: Path, folder: Path) -> Iterator[ServerProcess]:
    process = ServerProcess(models, pose=POSE, job_folder=folder, video_seconds=400)
    try:
        yield process.ready()
    finally:
        process.stop()
    assert files_in(folder) == []


def send(server: ServerProcess, video: bytes, name: str = "clip.mp4", **request: object) -> str:
    files, data = {"file": (name, video, "video/mp4")}, {"request": json.dumps(request)}
    return accepted(httpx.post(f"{server.url}/v1/jobs", files=files, data=data, timeout=PATIENCE))


def extracting(server: ServerProcess, path: str) -> list[psutil.Process]:
    """Wait until pictures are looked at; the processes that do."""
    reach(server, path, "running")
    while not httpx.get(server.url + path).json()["progress"]:
        assert httpx.get(server.url + path).json()["state"] == "running"
    found = children(server)
    assert found
    return found


def test_a_video_without_anybody_has_no_segments(server: ServerProcess, short: bytes) -> None:
    path = send(server, short, "empty room.mp4", poses=True, id="room-7")
    status = over(server, path)
    assert (status["state"], status["kind"], status["source"]) == ("succeeded", "video", "empty room.mp4"), status
    answer = httpx.get(f"{server.url}{path}/result")
    said = decode_response(answer.content)
    assert 'filename="empty_room.json"' in answer.headers["content-disposition"]
    assert (said.id, said.segments) == ("room-7", [])
    assert [one.code for one in said.warnings] == ["nobody_seen"]
    assert said.duration == pytest.approx(1.0, abs=0.04)
    head, *frames = httpx.get(f"{server.url}{path}/poses").text.splitlines()
    assert json.loads(head)["layout"] == "blazepose33"
    assert [json.loads(frame)["people"] for frame in frames] == [[]] * 30
    csv = httpx.get(f"{server.url}{path}/result?format=csv")
    assert (csv.status_code, len(csv.text.splitlines())) == (200, 1)
    assert httpx.delete(server.url + path).status_code == 204


@pytest.mark.parametrize("times", [[*np.arange(30) / 30, *(1 + np.arange(20) / 10)], [0.0]], ids=["uneven", "single"])
def test_the_command_line_says_the_same_of_an_empty_room(
    server: ServerProcess, models: Path, tmp_path: Path, times: list[float]
) -> None:
    clip = made_videos.write_video(tmp_path / "room.mkv", times, (160, 120))
    path = send(server, clip.read_bytes(), "room.mkv")
    assert over(server, path)["state"] == "succeeded"
    for format in ("labelstudio", "elan"):
        wanted = httpx.get(f"{server.url}{path}/result?format={format}").content
        for where in (["--models", models], ["--url", server.url]):
            args = ["localize", clip, *where, "--pose", POSE, "--format", format]
            ran = subprocess.run(
                [sys.executable, "-W", "ignore", "-m", "poseline_cli", *map(str, args)],
                env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
                capture_output=True,
            )
            assert ran.returncode == 0, ran.stderr
            assert f"nobody was seen in {len(times)} pictures" in ran.stderr.decode()
            assert FORMATS[format].read(ran.stdout) == FORMATS[format].read(wanted)


def test_a_raw_body_is_a_video_too(server: ServerProcess, short: bytes) -> None:
    answer = httpx.post(
        f"{server.url}/v1/jobs?people=2", content=short, headers={"Content-Type": "application/octet-stream"}
    )
    path = accepted(answer)
    assert over(server, path)["state"] == "succeeded"
    kept = httpx.get(f"{server.url}{path}/poses")
    assert (kept.status_code, kept.json()["code"]) == (409, "no_result")


def test_the_same_is_the_same_bytes_and_the_same_request(server: ServerProcess, short: bytes) -> None:
    def post(name: str, **data: str) -> httpx.Response:
        files = {"file": (name, short, "video/mp4")}
        return httpx.post(f"{server.url}/v1/jobs", files=files, data=data, headers={"Idempotency-Key": "video"})

    first = accepted(post("a.mp4"))
    assert accepted(post("b.mp4", people="1", request='{"people": 3}')) == first
    other = post("a.mp4", people="2")
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_conflict")
    over(server, first)


def test_a_cancelled_video_leaves_no_process_and_no_file(
    server: ServerProcess, folder: Path, long: bytes, short: bytes
) -> None:
    running, queued = send(server, long), send(server, short)
    processes = extracting(server, running)
    assert httpx.get(server.url + queued).json()["state"] == "queued"
    status = httpx.delete(server.url + running, timeout=PATIENCE).json()
    assert status["state"] == "cancelled"
    assert 0 < status["progress"] < 1
    assert not any(one.is_running() for one in processes)
    assert over(server, queued)["state"] == "succeeded"
    assert children(server) == []
    assert not [path for path in files_in(folder) if path.name != "result.json"]


BAD = {
    "cut": "media_damaged",
    "a playlist": "unsupported_media",
    "too long": "media_too_long",
    "too wide": "media_too_large",
}


@pytest.mark.parametrize("damage", BAD)
def test_bad_media_fail_with_the_extractors_code(
    serve: Callable[..., ServerProcess], short: bytes, tmp_path: Path, damage: str
) -> None:
    videos = {
        "cut": short[: len(short) // 2],
        "a playlist": b"#EXTM3U\nhttp://127.0.0.1/\n" * 99,
        "too wide": write_video(tmp_path / "wide.mp4", 0.1, 4112, 32),
    }
    (folder := tmp_path / "jobs").mkdir()
    server = serve(pose=POSE, job_folder=folder, video_seconds=0.5 if damage == "too long" else 9).ready()
    status = over(server, send(server, videos.get(damage, short)))
    assert (status["state"], status["error"]["code"]) == ("failed", BAD[damage])
    assert str(tmp_path) not in status["error"]["detail"]
    assert (files_in(folder), children(server)) == ([], [])
    assert server.metrics()['poseline_jobs_total{kind="video",outcome="failed"}'] == 1


def test_a_killed_extractor_fails_its_job_and_no_more(server: ServerProcess, long: bytes, short: bytes) -> None:
    path = send(server, long)
    for process in extracting(server, path):
        process.kill()
    status = over(server, path)
    assert (status["state"], status["error"]["code"]) == ("failed", "extraction_failed")
    assert over(server, send(server, short))["state"] == "succeeded"


def test_two_workers_look_at_two_videos(serve: Callable[..., ServerProcess], long: bytes) -> None:
    server = serve(pose=POSE, video_workers=2, drain_seconds=1).ready()
    one, other, third = (send(server, long) for _ in range(3))
    reach(server, one, "running")
    reach(server, other, "running")
    assert httpx.get(server.url + third).json()["state"] == "queued"


def test_a_stopping_server_ends_its_extractors(
    serve: Callable[..., ServerProcess], long: bytes, tmp_path: Path
) -> None:
    server = serve(pose=POSE, job_folder=tmp_path, drain_seconds=1).ready()
    processes = extracting(server, send(server, long))
    log = server.stop()
    assert '"state": "cancelled", "code": "draining"' in log
    assert not any(one.is_running() for one in processes)
    assert list(tmp_path.iterdir()) == []
