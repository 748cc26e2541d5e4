"""A server whose model looks ahead: streams and recordings are told the same as in this process, at the same times."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from made_up import NATIVE, recording
from poseline.bundle import ModelBundle
from poseline.client import RemoteError, StreamClient
from poseline.online import StreamLocalizer
from poseline.pose import PoseSequence
from poseline.protocol import Flushed, LocalizeOptions, Scores, SegmentFinal, ServerMessage, StreamOptions
from poseline.remote import localize, play, request_for, timeline
from poseline.translation import rounded
from poseline_service.engine import open_scorer
from servers import ServerProcess
from tiny_bundle import write_bundle

LOOK_AHEAD = 7
Serve = Callable[..., ServerProcess]
Final = tuple[str, float, float]


@pytest.fixture(scope="module")
def late(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ModelBundle]:
    folder = tmp_path_factory.mktemp("late")
    return folder, write_bundle(folder, look_ahead=LOOK_AHEAD)


def broken(seed: int, frames: int = 200) -> PoseSequence:
    """Somebody who is away for ten seconds in the middle."""
    poses = recording(seed, frames)
    return PoseSequence(poses.joints, poses.confidence, poses.timestamps + 10.0 * (np.arange(frames) >= frames // 2))


def here(bundle: ModelBundle, poses: PoseSequence, flush: int | None = None) -> tuple[list[Final], list[float]]:
    """Finals and times of scores as this process has them."""
    times: list[float] = []
    with StreamLocalizer(
        bundle.manifest, open_scorer(bundle, 1), on_scores=lambda t, _: times.append(round(t, 6))
    ) as stream:
        events = []
        for n, frame in enumerate(poses.frames()):
            events += stream.push(frame)
            if n == flush:
                events += stream.finish()
        events += stream.finish()
    return [(one.label, *rounded(one)[:2]) for one in events if one.phase == "final"], times


def finals(heard: list[ServerMessage]) -> list[Final]:
    return [(one.label, one.start, one.end) for one in heard if isinstance(one, SegmentFinal)]


def times(heard: list[ServerMessage]) -> list[float]:
    return [one.t for one in heard if isinstance(one, Scores)]


async def streamed(server: ServerProcess, poses: PoseSequence, chunk: int) -> list[ServerMessage]:
    options = StreamOptions(scores_hz=30, look_ahead=round(LOOK_AHEAD / 30, 3))
    async with StreamClient(server.ws, coordinates=NATIVE, options=options) as client:
        assert client.started.algorithmic_latency == pytest.approx(LOOK_AHEAD / 30)
        assert client.started.options["look_ahead"] == pytest.approx(LOOK_AHEAD / 30, abs=1e-6)
        return [one async for one in play(client, timeline({"p1": poses}), chunk=chunk)]


@pytest.mark.parametrize("workers", [0, 2])
async def test_streams_and_recordings(serve: Serve, late: tuple[Path, ModelBundle], workers: int) -> None:
    folder, bundle = late
    server = serve(folder, workers=workers).ready()
    assert httpx.get(f"{server.url}/v1/models/default").json()["look_ahead"] == LOOK_AHEAD
    with pytest.raises(RemoteError, match=r"look_ahead is 0\.5 s; model tiny offers 0\.2333\d* s alone") as refused:
        await StreamClient(server.ws, coordinates=NATIVE, options=StreamOptions(look_ahead=0.5)).__aenter__()
    assert refused.value.code == "unsupported_option"
    people = {f"p{seed}": (recording(seed, 150 + seed) if seed % 2 else broken(seed)) for seed in range(6)}
    heard = await asyncio.gather(*(streamed(server, poses, n * 10 + 1) for n, poses in enumerate(people.values())))
    options = LocalizeOptions(returns=["segments", "scores"], frame_scores_hz=30)
    answers: dict[str, Any] = {}
    for name, poses in people.items():
        alone = request_for({name: poses}, options)
        answers[name] = await asyncio.to_thread(localize, server.url + "/v1/localize", alone)
    for messages, (name, poses) in zip(heard, people.items(), strict=True):
        expected, told = here(bundle, poses)
        assert finals(messages) == expected != []
        assert times(messages) == told
        assert len(told) == len(poses), "every frame is told of, the last ones too"
        answer = answers[name]
        assert sorted((one.label, one.start, one.end) for one in answer.segments) == sorted(expected)
        assert answer.scores[0].t == told
    await asyncio.to_thread(server.wait_for_metric, "poseline_state_bytes", 0)
    assert "Traceback" not in server.stop()


@pytest.mark.parametrize("workers", [0, 1])
async def test_a_flush_tells_what_is_known_and_goes_on(
    serve: Serve, late: tuple[Path, ModelBundle], workers: int
) -> None:
    folder, bundle = late
    server = serve(folder, workers=workers).ready()
    poses = recording(5, 300)
    frames = timeline({"p1": poses})
    async with StreamClient(server.ws, coordinates=NATIVE, options=StreamOptions(scores_hz=30)) as client:
        await client.send(frames[:60])
        await client.send(frames[60:101])
        await client.flush()
        for begin in range(101, 300, 50):
            await client.send(frames[begin : begin + 50])
        await client.close()
        heard = [one async for one in client]
    expected, told = here(bundle, poses, flush=100)
    assert finals(heard) == expected
    assert times(heard) == told == [round(n / 30, 6) for n in range(300)]
    flushed = next(n for n, one in enumerate(heard) if isinstance(one, Flushed))
    assert times(heard[:flushed]) == told[:101], "all frames that came before a flush are told of before it is over"
