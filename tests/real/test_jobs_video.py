"""Each real clip through `POST /v1/jobs`, and the same timeline as the command line gives in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import httpx
import pytest

from job_calls import accepted, found, over
from poseline.formats.poses import read_poses
from poseline_service.sources import POSE_MODEL
from servers import ServerProcess

PROJECT = Path(__file__).parents[2]
POSE = PROJECT / "pose"
CLIPS = {
    "asl_gestures_5.mp4": 338,
    "lateral_raise_single.mp4": 540,
    "ntu_A001_drink_water.avi": 103,
    "outdoor_two_people.mp4": 230,
    "two_people_balance.mp4": 100,
    "walk_side_gaps.mp4": 401,
}
"""Pictures of each."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (POSE / POSE_MODEL).is_file(), reason="no pose model: make it with poseline pose-model build"
    ),
]


@pytest.fixture(scope="module")
def video_server() -> Iterator[ServerProcess]:
    process = ServerProcess(PROJECT / "models", pose=POSE)
    try:
        yield process.ready()
    finally:
        process.stop()


def send(server: ServerProcess, clip: Path, **request: object) -> str:
    with clip.open("rb") as file:
        files, data = {"file": (clip.name, file, "video/mp4")}, {"request": json.dumps(request)}
        return accepted(httpx.post(f"{server.url}/v1/jobs", files=files, data=data, timeout=60))


@pytest.mark.parametrize("name", CLIPS)
def test_every_clip_succeeds(video_server: ServerProcess, data: Path, tmp_path: Path, name: str) -> None:
    people = 2 if "two" in name else 1
    path = send(video_server, data / "video" / name, poses=True, people=people)
    status = over(video_server, path)
    assert (status["state"], status["source"]) == ("succeeded", name), status
    kept = tmp_path / "poses.ndjson"
    kept.write_bytes(httpx.get(f"{video_server.url}{path}/poses").content)
    frames = [json.loads(line) for line in kept.read_text().splitlines()[1:]]
    assert len(frames) == CLIPS[name]
    seen = read_poses(kept)
    assert seen
    times = {name: {float(t) for t in poses.timestamps} for name, poses in seen.items()}
    for frame in frames:
        for person in frame["people"]:
            assert frame["t"] in times[person["id"]]
            nose = person["image"][0]
            assert all(-0.5 < share < 1.5 for share in nose[:2])
    for one in found(video_server, path):
        assert one.track_id in seen
        assert 0 <= one.start_frame < one.end_frame <= CLIPS[name]
        assert frames[one.start_frame]["t"] == pytest.approx(one.start, abs=1 / 30)


def localized_here(clip: Path, form: str) -> Any:
    """What `poseline localize` prints of a video, in a process without anything on its PATH."""
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "poseline_cli", "localize", str(clip), "--format", form],
        env={"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "PATH": ""},
        cwd=PROJECT,
        capture_output=True,
        check=True,
    )
    return json.loads(ran.stdout)


def test_frames_are_counted_alike_where_they_are_uneven(
    video_server: ServerProcess, data: Path, tmp_path: Path
) -> None:
    """A camera that gives half as many pictures after seven seconds."""
    clip = tmp_path / "uneven.mp4"
    with av.open(str(data / "video" / "walk_side_gaps.mp4")) as source, av.open(str(clip), "w") as out:
        stream = out.add_stream("libx264", rate=30)
        stream.codec_context.time_base = Fraction(1, 30)
        stream.width, stream.height = source.streams.video[0].width, source.streams.video[0].height
        for n, picture in enumerate(source.decode(video=0)):
            if n > 360:
                break
            if n > 210 and n % 2:
                continue
            picture.pts, picture.time_base = n, Fraction(1, 30)
            out.mux(stream.encode(picture))
        out.mux(stream.encode(None))
    path = send(video_server, clip)
    printed = localized_here(clip, "labelstudio")
    assert over(video_server, path)["state"] == "succeeded"
    assert found(video_server, path)
    said = httpx.get(f"{video_server.url}{path}/result?format=labelstudio").content
    assert json.loads(said) == printed


@pytest.mark.parametrize("name", ["outdoor_two_people.mp4", "walk_side_gaps.mp4"])
def test_a_job_says_what_the_command_line_says(video_server: ServerProcess, data: Path, name: str) -> None:
    clip = data / "video" / name
    path = send(video_server, clip)
    printed = localized_here(clip, "json")
    keys = ("track_id", "label", "start", "end", "score")
    here = [[one[key] for key in keys] for one in printed["segments"]]
    assert over(video_server, path)["state"] == "succeeded"
    said = found(video_server, path)
    assert said
    assert [[getattr(one, key) for key in keys] for one in said] == here
