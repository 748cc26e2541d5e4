"""An engine that breaks: who was in its job hears of it, nobody hangs, and the others live on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn

from made_up import NATIVE, frames_of, request_of
from poseline.bundle import ModelBundle
from poseline.client import RemoteError, StreamClient
from poseline.codec import encode
from poseline.protocol import Flushed, SegmentFinal
from poseline.remote import play
from poseline.stepping import StepScorer
from poseline_service import models as models_
from poseline_service.app import create_app
from poseline_service.connection import streams
from poseline_service.engine import LevelGraphs, open_scorer
from poseline_service.settings import ServiceSettings
from servers import free_ports

POISON = 1000.0


def brittle_scorer(bundle: ModelBundle, slots: int, device: str) -> StepScorer:
    """The bundle's network, which breaks on a joint at x = 1000."""
    graphs = LevelGraphs(bundle)

    def run(level: str, feeds: dict[str, Any]) -> Any:
        if (feeds.get("joints", np.zeros(1)) == POISON).any():
            raise RuntimeError("the network broke")
        return graphs(level, feeds)

    return StepScorer(bundle.manifest.state, run, slots)


@asynccontextmanager
async def serving(settings: ServiceSettings) -> AsyncIterator[str]:
    """The application in this very loop; its address."""
    app = create_app(settings)
    server = uvicorn.Server(
        uvicorn.Config(app, host=settings.host, port=settings.port, log_config=None, ws=streams(app.state.runtime))
    )
    task = asyncio.create_task(server.serve())
    address = f"{settings.host}:{settings.port}"
    async with httpx.AsyncClient() as http:
        async with asyncio.timeout(30):
            while not await answers(http, f"http://{address}/readyz"):
                await asyncio.sleep(0)
    try:
        yield address
    finally:
        server.should_exit = True
        await task


async def answers(http: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await http.get(url)).status_code == 200
    except httpx.TransportError:
        return False


async def test_failure_reaches_who_was_hit_and_no_other(monkeypatch: pytest.MonkeyPatch, models: Path) -> None:
    monkeypatch.setattr(models_, "open_scorer", brittle_scorer)
    settings = ServiceSettings(port=free_ports()[0], metrics_port=0, models=models, load_limit=1e6, late_limit=1e6)
    frames = frames_of(5, 120)
    poisoned = encode(request_of(1, 30)).replace(b"[[[", b"[[[1000.0,0,0,1],[", 1)
    async with serving(settings) as address, httpx.AsyncClient() as http:
        ws = f"ws://{address}/v1/stream"
        async with StreamClient(ws, coordinates=NATIVE) as bystander:
            await bystander.send(frames[:60])
            await until_acknowledged(bystander)  # its frames are not in the job that fails
            async with StreamClient(ws, coordinates=NATIVE) as victim:
                frame = frames_of(1, 1)[0]
                frame.people[0].kp[0] = [POISON, 0.0, 0.0, 1.0]
                await victim.send([frame])
                with pytest.raises(RemoteError) as caught:
                    await asyncio.wait_for(drained(victim), 30)
            assert caught.value.code == "internal"
            assert "broke" not in caught.value.detail  # the server's own affair

            headers = {"Content-Type": "application/json"}
            broken = await http.post(f"http://{address}/localize", content=poison(poisoned), headers=headers)
            assert (broken.status_code, broken.json()["code"]) == (500, "internal")

            await bystander.send(frames[60:])
            await bystander.close()
            heard = [message async for message in bystander]
        async with StreamClient(ws, coordinates=NATIVE) as alone:
            await alone.send(frames[:60])
            await until_acknowledged(alone)
            expected = [message async for message in play(alone, frames[60:])]
    pick = lambda messages: [one.start for one in messages if isinstance(one, SegmentFinal)]  # noqa: E731
    assert pick(heard) == pick(expected) != []


async def until_acknowledged(client: StreamClient) -> None:
    """Until everything sent is scored: a flush is answered after that."""
    await client.flush()
    while not isinstance(await client.receive(), Flushed):
        pass


def poison(body: bytes) -> bytes:
    """The request with its very first joint replaced."""
    head, _, tail = body.partition(b"[[[1000.0,0,0,1],[")
    return head + b"[[[1000.0,0,0,1]" + tail[tail.index(b"]") + 1 :]


async def drained(client: StreamClient) -> None:
    async for _ in client:
        pass


def test_the_scorer_answers_in_process(models: Path) -> None:
    from made_up import recording
    from poseline.bundle import find_bundle
    from poseline.online import localize

    bundle = find_bundle(models)
    events = localize(bundle.manifest, open_scorer(bundle, 1), recording(3, 120))
    assert any(event.phase == "final" for event in events)
