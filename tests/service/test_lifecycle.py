"""From start-up to SIGTERM: readiness, the door, what disconnects leave behind, the numbers, and the polite end."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import httpx
import numpy as np
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from made_up import NATIVE, frames_of, recording, request_of
from poseline.bundle import GOLDEN, file_digest
from poseline.client import ConnectionFailed, StreamClient
from poseline.codec import encode
from poseline.protocol import (
    Ack,
    Frames,
    SegmentFinal,
    SegmentStarted,
    ServerMessage,
    SessionStart,
    StreamOptions,
)
from poseline.remote import localize, play, timeline
from servers import PATIENCE, ServerProcess

STUCK = 2.0
"""Seconds for which a client that is let send nothing counts as stuck."""


def corrupt_golden(models: Path, folder: Path) -> Path:
    """A copy of the tiny bundle, digests and all in order, whose network does not do what its golden samples say."""
    shutil.copytree(models, folder)
    path = folder / "tiny"
    with np.load(path / GOLDEN) as arrays:
        golden = dict(arrays)
    golden["scores"] = golden["scores"] + np.float32(0.01)
    np.savez(path / GOLDEN, **golden)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["files"][GOLDEN] = file_digest(path / GOLDEN)
    (path / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.mark.parametrize("damage", ["golden", "digest", "none there"])
def test_a_damaged_bundle_is_never_ready(
    serve: Callable[..., ServerProcess], models: Path, tmp_path: Path, damage: str
) -> None:
    folder = tmp_path / "models"
    if damage == "golden":
        corrupt_golden(models, folder)
    elif damage == "digest":
        shutil.copytree(models, folder)
        graph = folder / "tiny" / "fast.onnx"
        graph.write_bytes(graph.read_bytes() + b"x")
    server = serve(folder)
    server.wait_for("/livez")
    assert server.wait_for("/readyz", 503).json()["code"] == "model_loading"
    answer = httpx.post(server.url + "/localize", content=encode(request_of(1, 9)))
    assert (answer.status_code, answer.json()["code"]) == (503, "model_loading")
    log = server.stop()
    assert "model_refused" in log
    assert "model_ready" not in log


def test_a_misspelt_setting_is_refused(serve: Callable[..., ServerProcess]) -> None:
    server = serve(max_sesions=3)
    assert server.process.wait(30) == 1
    assert "POSELINE_MAX_SESIONS" in server.stop()


async def test_the_door_closes_when_the_house_is_full(serve: Callable[..., ServerProcess]) -> None:
    server = serve(max_sessions=1).ready()
    async with StreamClient(server.ws, coordinates=NATIVE):
        with pytest.raises(InvalidStatus) as refused:
            await connect(server.ws)
        response = refused.value.response
        assert response.status_code == 503
        assert json.loads(response.body or b"")["code"] == "overloaded"
        assert int(response.headers["Retry-After"]) >= 1
    await asyncio.to_thread(server.wait_for_metric, "poseline_sessions_active", 0)
    async with StreamClient(server.ws, coordinates=NATIVE):
        pass
    assert server.metrics()['poseline_session_rejections_total{reason="capacity"}'] == 1


async def test_slots_are_a_limit_of_their_own(serve: Callable[..., ServerProcess]) -> None:
    server = serve(slots=3).ready()  # as many as the golden samples need
    async with StreamClient(server.ws, coordinates=NATIVE) as client:
        for name in ("a", "b", "c"):
            await client.send(frames_of(1, 30, person=name, start=ord(name)))
        await asyncio.to_thread(server.wait_for_metric, "poseline_state_bytes", 3 * 5 * 8 * 4)
        answer = httpx.post(
            server.url + "/localize", content=encode(request_of(1, 9)), headers={"Content-Type": "application/json"}
        )
        assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")
        assert int(answer.headers["retry-after"]) >= 1


async def test_a_client_that_vanishes_leaves_nothing_behind(serve: Callable[..., ServerProcess]) -> None:
    server = serve().ready()
    for seed in range(5):
        client = await connect(server.ws)
        await client.send(encode(SessionStart(layout="body16", coordinates=NATIVE)), text=True)
        await client.recv()
        for i in range(0, 192, 64):
            await client.send(encode(Frames(i, frames_of(seed, 192)[i : i + 64])), text=True)
        client.transport.abort()
    await asyncio.to_thread(server.wait_for_metric, "poseline_sessions_active", 0)
    # What was accepted is still scored, to be kept for who comes back; then its lanes are free.
    await asyncio.to_thread(server.wait_for_metric, "poseline_state_bytes", 0)
    await asyncio.to_thread(server.wait_for_metric, 'poseline_queue_depth{model="tiny"}', 0)
    metrics = server.metrics()
    assert metrics['poseline_sessions_total{end_reason="disconnect",model="tiny"}'] == 5, server.stop()


async def test_the_numbers_are_true(serve: Callable[..., ServerProcess]) -> None:
    server = serve().ready()
    frames = frames_of(4, 240)
    async with StreamClient(server.ws, coordinates=NATIVE) as client:
        heard = [message async for message in play(client, [*frames, frames[0]], chunk=30)]
    answer = await asyncio.to_thread(localize, server.url + "/localize", request_of(4, 120))
    httpx.get(server.url + "/v1/models/gpt")
    await asyncio.to_thread(server.wait_for_metric, "poseline_sessions_active", 0)
    metrics = server.metrics()
    finals = sum(isinstance(one, SegmentFinal) for one in heard) + len(answer.segments)
    assert finals > 0
    assert metrics['poseline_frames_received_total{model="tiny"}'] == 241 + 120
    assert metrics['poseline_frames_dropped_total{reason="late"}'] == 1
    assert metrics['poseline_frame_latency_seconds_count{model="tiny"}'] == 240 + 120
    assert metrics['poseline_media_seconds_total{model="tiny"}'] == pytest.approx(12)
    assert metrics['poseline_sessions_total{end_reason="client",model="tiny"}'] == 1
    assert metrics['poseline_ws_closes_total{code="1000"}'] == 1
    found = {name: value for name, value in metrics.items() if name.startswith("poseline_segments_total")}
    assert sum(value for name, value in found.items() if 'phase="final"' in name) == finals
    assert metrics['poseline_http_requests_total{method="POST",route="/localize",status="200"}'] == 1
    assert metrics['poseline_http_requests_total{method="GET",route="/v1/models/{name}",status="404"}'] == 1
    assert (
        'poseline_model_info{layout="body16",model="tiny",model_version="1",provider="CPUExecutionProvider"}' in metrics
    )
    assert metrics["process_resident_memory_bytes"] < 250e6


async def rest(client: StreamClient) -> list[ServerMessage]:
    """What comes until the server closes."""
    heard: list[ServerMessage] = []
    with suppress(ConnectionFailed):
        async for message in client:
            heard.append(message)
    return heard


async def test_sigterm_lets_open_streams_finish(serve: Callable[..., ServerProcess]) -> None:
    server = serve().ready()
    frames = frames_of(5, 128)
    async with StreamClient(server.ws, coordinates=NATIVE, options=StreamOptions(scores_hz=30)) as client:
        await client.send(frames[:64])
        await client.send(frames[64:])
        heard = [client.started]
        while not isinstance(heard[-1], Ack):
            heard.append(await client.receive())  # type: ignore[arg-type]
        server.signal()
        heard += await rest(client)
    kinds = [type(one).__name__ for one in heard]
    assert kinds[-1] == "SessionClosed"
    assert "SessionDraining" in kinds
    assert [one.seq for one in heard] == list(range(len(heard)))
    started = {one.segment_id for one in heard if isinstance(one, SegmentStarted)}
    over = {one.segment_id for one in heard if hasattr(one, "segment_id")}
    assert started <= over
    scores = sum(kind == "Scores" for kind in kinds)
    assert scores == heard[-1].frames_received  # type: ignore[union-attr]
    assert scores in (64, 128)  # the second message may not have been read when the signal came
    assert await asyncio.to_thread(server.process.wait, 30) is not None


async def test_a_draining_server_takes_no_more(serve: Callable[..., ServerProcess]) -> None:
    server = serve().ready()
    async with connect(server.ws) as silent:  # has not begun: nothing to finish
        server.signal()
        with suppress(ConnectionClosed):
            async for _ in silent:
                pass
    assert silent.close_code == 1012
    assert await asyncio.to_thread(server.process.wait, 30) is not None
    assert "draining" in server.stop()


async def test_a_client_that_never_reads_cannot_hold_a_server_that_stops(serve: Callable[..., ServerProcess]) -> None:
    server = serve(drain_seconds=1).ready()
    options = StreamOptions(scores_hz=30)
    async with connect(server.ws, max_queue=1) as stuck:
        await stuck.send(encode(SessionStart(layout="body16", coordinates=NATIVE, options=options)), text=True)
        stuck.transport.pause_reading()
        crowd = timeline({f"p{n}": recording(n, 8192) for n in range(8)})
        with suppress(TimeoutError):  # until the server, whose words nobody takes, takes no more of ours
            for i in range(0, len(crowd), 32):
                async with asyncio.timeout(STUCK):
                    await stuck.send(encode(Frames(i, crowd[i : i + 32])), text=True)
            pytest.fail("the server took everything, so its outbox was never full")
        server.signal()
        await asyncio.to_thread(server.process.wait, PATIENCE)
        log = server.stop()
        assert "drain_incomplete" in log
        assert '"reason": "abandoned"' in log
        assert "Traceback" not in log
        stuck.transport.abort()


def test_a_busy_metrics_port_is_named(serve: Callable[..., ServerProcess]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = serve(metrics_port=port)
        assert server.process.wait(PATIENCE) == 1
    log = server.stop()
    assert f"POSELINE_METRICS_PORT {port} cannot be opened" in log
    assert "Traceback" not in log
    assert "serving" not in log


def test_a_busy_port_is_not_served(serve: Callable[..., ServerProcess]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = serve(port=port)
        assert server.process.wait(PATIENCE) == 1
    log = server.stop()
    assert f"POSELINE_PORT {port} cannot be opened" in log
    assert "Traceback" not in log
    assert '"event": "serving"' not in log
