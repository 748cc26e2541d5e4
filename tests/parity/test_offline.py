"""Mode `offline` over a real server, as a job, and at the command line: the whole recording's scores, the same decoder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from job_calls import JSON, accepted, found, over, submit
from poseline.codec import decode_response, encode
from poseline.online import localize
from poseline.pose import PoseSequence
from poseline.protocol import LocalizeOptions, LocalizeResponse
from poseline.remote import request_for
from poseline.translation import decoding_options, rounded
from poseline.whole import localize_whole
from poseline_service.engine import open_scorer
from servers import ServerProcess
from small_network import Twins, motion, said

OPTIONS = LocalizeOptions(mode="offline", min_score=0.4, off_score=0.3, min_duration=0.1)
SCORED = LocalizeOptions(
    mode="offline", min_score=0.4, off_score=0.3, min_duration=0.1, returns=["segments", "scores"], frame_scores_hz=30
)
ONLINE = LocalizeOptions(min_score=0.4, off_score=0.3, min_duration=0.1)
Found = list[tuple[str, float, float]]


@pytest.fixture(scope="module")
def server(twins: Twins) -> Iterator[ServerProcess]:
    process = ServerProcess(twins.models)
    try:
        yield process.ready()
    finally:
        assert "Traceback" not in process.stop()


def somebody(seed: int, frames: int = 300, away: float = 0.0) -> PoseSequence:
    """away: seconds for which they are not seen after a third of their frames."""
    poses = motion(np.random.default_rng(seed), 1, frames)[0]
    times = np.arange(frames) / 30 + away * (np.arange(frames) >= frames // 3)
    return PoseSequence(poses[..., :3], poses[..., 3], times)


def by_torch(twins: Twins, poses: PoseSequence, scores: list[tuple[float, np.ndarray]] | None = None) -> Found:
    manifest = twins.bundle.manifest
    events = localize_whole(
        manifest,
        lambda some: said(twins.whole, some),
        poses,
        decoding_options(OPTIONS, manifest.decoding),
        on_scores=None if scores is None else lambda t, one: scores.append((t, one)),
    )
    return sorted((one.label, *rounded(one)[:2]) for one in events if one.phase == "final")


def asked(server: ServerProcess, people: dict[str, PoseSequence], options: LocalizeOptions) -> LocalizeResponse:
    answer = httpx.post(
        f"{server.url}/v1/localize", content=encode(request_for(people, options)), headers=JSON, timeout=60
    )
    assert answer.status_code == 200, answer.text
    return decode_response(answer.content)


def of(answer: LocalizeResponse, track: str = "p1") -> Found:
    return sorted((one.label, one.start, one.end) for one in answer.segments if one.track_id == track)


def test_the_answer_is_the_recording_scored_at_once(server: ServerProcess, twins: Twins) -> None:
    told_of = 0
    for people in ({"p1": somebody(1), "p2": somebody(2)}, {"p1": somebody(3, away=5.0)}, {"p1": somebody(4, 1)}):
        answer = asked(server, people, SCORED)
        assert isinstance(answer.scores, list)
        for (name, poses), told in zip(people.items(), answer.scores, strict=True):
            scores: list[tuple[float, np.ndarray]] = []
            assert of(answer, name) == by_torch(twins, poses, scores)
            told_of += len(of(answer, name))
            assert told.t == [round(t, 6) for t, _ in scores]
            for (_, one), top in zip(scores, told.top, strict=True):
                assert [p for _, p in top] == pytest.approx(sorted(one.tolist(), reverse=True)[:5], abs=2e-4)
            assert told.unknown == [top[0][1] < 0.5 for top in told.top]
        assert answer.warnings == asked(server, people, ONLINE).warnings
    assert told_of > 5


def test_it_is_not_the_causal_network_that_answers(server: ServerProcess, twins: Twins) -> None:
    poses = somebody(1)
    manifest = twins.bundle.manifest
    events = localize(manifest, open_scorer(twins.bundle, 1), poses, decoding_options(ONLINE, manifest.decoding))
    causal = sorted((one.label, *rounded(one)[:2]) for one in events if one.phase == "final")
    assert of(asked(server, {"p1": poses}, ONLINE)) == causal
    assert of(asked(server, {"p1": poses}, OPTIONS)) != causal


def test_a_recording_of_several_chunks(server: ServerProcess, twins: Twins) -> None:
    """And its options are those of mode online."""
    poses = somebody(4, 2500)
    answer = asked(server, {"p1": poses}, OPTIONS)
    spec = twins.bundle.manifest.whole
    assert spec is not None
    assert len(poses) > spec.chunk
    assert len(of(answer)) > 10
    label = answer.segments[0].label
    some = LocalizeOptions(mode="offline", min_score=0.4, off_score=0.3, min_duration=0.1, classes=[label])
    assert of(asked(server, {"p1": poses}, some)) == [one for one in of(answer) if one[0] == label]


def test_a_job_says_the_same(server: ServerProcess) -> None:
    body = encode(request_for({"p1": somebody(5, 400)}, OPTIONS))
    path = accepted(submit(server, body))
    assert over(server, path)["state"] == "succeeded"
    at_once = httpx.post(f"{server.url}/v1/localize", content=body, headers=JSON, timeout=60)
    assert found(server, path) == decode_response(at_once.content).segments != []


def test_a_job_is_cancelled_between_chunks(server: ServerProcess) -> None:
    poses = somebody(6, 2000)
    hour = PoseSequence(poses.joints, poses.confidence, poses.timestamps * 50)  # the grid fills what lies between
    path = accepted(submit(server, encode(request_for({"p1": hour}, OPTIONS))))
    deadline = time.monotonic() + 60
    while (status := httpx.get(server.url + path).json())["progress"] <= 0.12:
        assert (status["state"] in ("queued", "running"), time.monotonic() < deadline) == (True, True), status
        time.sleep(0.01)
    assert httpx.delete(server.url + path).json()["state"] == "cancelled"
    assert asked(server, {"p1": somebody(5, 60)}, OPTIONS).segments is not None


def test_models_say_which_modes_they_have(server: ServerProcess) -> None:
    described = httpx.get(f"{server.url}/v1/models/default").json()
    assert described["modes"] == ["online", "offline"]
    assert "whole" not in described


def command(*args: str | Path) -> subprocess.CompletedProcess[str]:
    roots = os.pathsep.join(path for path in sys.path if path)
    call = [sys.executable, "-m", "poseline_cli", "localize", *map(str, args)]
    return subprocess.run(
        call, env=os.environ | {"PYTHONPATH": roots, "NO_COLOR": "1"}, capture_output=True, text=True, timeout=120
    )


def test_the_command_line_here_and_there(server: ServerProcess, twins: Twins, models: Path, tmp_path: Path) -> None:
    poses = somebody(7, 400)
    (tmp_path / "walk.json").write_bytes(encode(request_for({"p1": poses}, ONLINE)))
    (tmp_path / "asks.json").write_bytes(encode(request_for({"p1": poses}, OPTIONS)))
    told: list[list[tuple[str, float, float]]] = []
    for source, where in (
        ("walk.json", ("--mode", "offline", "--models", twins.models)),
        ("walk.json", ("--mode", "offline", "--url", server.url)),
        ("asks.json", ("--models", twins.models)),
        ("asks.json", ("--mode", "online", "--models", twins.models)),
    ):
        done = command(tmp_path / source, *where, "--format", "json")
        assert done.returncode == 0, done.stderr
        told.append(sorted((one["label"], one["start"], one["end"]) for one in json.loads(done.stdout)["segments"]))
    assert told[0] == told[1] == told[2] == by_torch(twins, poses) != told[3]
    refused = command(tmp_path / "asks.json", "--models", models)
    assert refused.returncode != 0
    assert "has no network for mode 'offline'" in refused.stderr
