"""`/v1/sessions`: what is kept of a session is seen by its owner, for as long as it is kept, and gone when it is deleted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import valkey.asyncio
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from made_up import NATIVE, frames_of
from poseline import protocol
from poseline.codec import JSON
from poseline.protocol import Frames, SegmentFinal, SessionStart
from servers import PATIENCE, ServerProcess

Serve = Callable[..., ServerProcess]


@asynccontextmanager
async def session(ws: str) -> AsyncIterator[tuple[ClientConnection, protocol.SessionStarted]]:
    """A session of JSON messages, so that what is kept can be read as it was sent."""
    async with connect(ws, subprotocols=[JSON.subprotocol], compression=None) as socket:
        await socket.send(JSON.encode(SessionStart(layout="body16", coordinates=NATIVE)).decode())
        started = JSON.decode_server(await socket.recv(decode=False))
        assert isinstance(started, protocol.SessionStarted)
        yield socket, started


async def send(socket: ClientConnection, first: int, stop: int) -> None:
    for seq in range(first, stop, 10):
        await socket.send(JSON.encode(Frames(seq, frames_of(5, stop)[seq : seq + 10])).decode())


async def heard_until(socket: ClientConnection, enough: Callable[[Any], bool]) -> list[Any]:
    heard: list[Any] = []
    while not heard or not enough(heard[-1]):
        heard.append(JSON.decode_server(await socket.recv(decode=False)))
    return heard


async def everything(socket: ClientConnection) -> list[Any]:
    heard: list[Any] = []
    try:
        while True:
            heard.append(JSON.decode_server(await socket.recv(decode=False)))
    except ConnectionClosed:
        return heard


def acknowledged(seq: int) -> Callable[[Any], bool]:
    return lambda one: isinstance(one, protocol.Ack) and one.client_seq >= seq


def told(server: ServerProcess, name: str) -> dict[str, Any]:
    answer = httpx.get(f"{server.url}/v1/sessions/{name}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def listed(server: ServerProcess, name: str) -> dict[str, Any] | None:
    every = httpx.get(f"{server.url}/v1/sessions").json()["sessions"]
    return next((one for one in every if one["session_id"] == name), None)


async def reach(server: ServerProcess, name: str, state: str) -> dict[str, Any]:
    async with asyncio.timeout(PATIENCE):
        while (found := told(server, name))["state"] != state:
            await asyncio.sleep(0.02)
    return found


def missing(server: ServerProcess, name: str, method: str = "GET") -> bool:
    answer = httpx.request(method, f"{server.url}/v1/sessions/{name}")
    return answer.status_code == 404 and answer.json()["code"] == "unknown_session"


def delete(server: ServerProcess, name: str) -> None:
    assert httpx.delete(f"{server.url}/v1/sessions/{name}", timeout=PATIENCE).status_code == 204


@pytest.mark.parametrize("where", ["memory", "redis"])
async def test_what_is_kept_is_seen_until_it_is_deleted(where: str, serve: Serve, redis: str) -> None:
    server = serve(ack_frames=100, **({"state_url": redis} if where == "redis" else {})).ready()
    async with session(server.ws) as (socket, started):
        name = started.session_id
        await send(socket, 0, 300)
        heard = await heard_until(socket, acknowledged(299))
        # An acknowledgement may come before the last frames are scored.
        await asyncio.to_thread(server.wait_for_metric, 'poseline_queue_depth{model="tiny"}', 0)
        status = told(server, name)
        finals = [one for one in heard if isinstance(one, SegmentFinal)]
        while len(finals) < status["segments"]:
            finals.append((await heard_until(socket, lambda one: isinstance(one, SegmentFinal)))[-1])
        assert len(finals) > 3
        assert (status["state"], status["expires"], status["people"]) == ("open", None, 1)
        assert (status["model"], status["layout"]) == (started.model.name, "body16")
        assert (status["frames_received"], status["segments"]) == (300, len(finals))
        assert status["t"] == pytest.approx(299 / 30, abs=1e-3)
        written = [JSON.decode_server(json.dumps(one).encode()) for one in status["finals"]]
        assert written == finals
        socket.transport.abort()
    kept = await reach(server, name, "kept")
    assert kept["finals"] == status["finals"]
    assert kept["created"] == status["created"] < kept["expires"]
    del kept["finals"]
    assert listed(server, name) == kept
    delete(server, name)
    assert listed(server, name) is None
    assert missing(server, name)
    assert missing(server, name, "DELETE")
    async with connect(server.ws, subprotocols=[JSON.subprotocol], compression=None) as socket:
        resume = protocol.Resume(name, started.resume_token, 0)
        await socket.send(JSON.encode(SessionStart(resume=resume)).decode())
        (error,) = await everything(socket)
        assert (error.code, socket.close_code) == ("unknown_session", 4404)


async def test_a_session_that_is_deleted_while_it_is_open_ends(serve: Serve) -> None:
    server = serve().ready()
    async with session(server.ws) as (socket, started):
        await send(socket, 0, 90)
        await heard_until(socket, acknowledged(63))
        await asyncio.to_thread(delete, server, started.session_id)
        heard = await everything(socket)
    (error,) = [one for one in heard if isinstance(one, protocol.ErrorMessage)]
    assert (error.code, error.fatal, socket.close_code) == ("session_deleted", True, 4410)
    assert [one.forced for one in heard if isinstance(one, SegmentFinal)][-1] == "close", "what was open is told"
    assert heard[-1] is error
    assert missing(server, started.session_id)

    async with session(server.ws) as (socket, started):  # whose client does not hear how it ends
        await socket.send(JSON.encode(Frames(0, frames_of(5, 30))).decode())
        socket.transport.pause_reading()
        await socket.send(JSON.encode(protocol.SessionClose()).decode())
        await reach(server, started.session_id, "closed")  # or a reset might reach the server before what was sent
        socket.transport.abort()
    async with asyncio.timeout(PATIENCE):
        while told(server, started.session_id)["expires"] is None:
            await asyncio.sleep(0.02)
    delete(server, started.session_id)
    assert missing(server, started.session_id)


async def test_what_is_kept_is_forgotten_in_time(serve: Serve, redis: str) -> None:
    for where in ({}, {"state_url": redis}):
        server = serve(resume_seconds=1, **where).ready()
        async with session(server.ws) as (socket, started):
            socket.transport.abort()
        await reach(server, started.session_id, "kept")
        async with asyncio.timeout(PATIENCE):
            while not missing(server, started.session_id):
                await asyncio.sleep(0.1)
        assert listed(server, started.session_id) is None
    async with valkey.asyncio.Valkey.from_url(redis) as store:
        assert await store.hkeys(f"poseline:session:{started.session_id}") != [], "that it was there is known"
        assert not await store.exists(f"poseline:state:{started.session_id}")


async def test_a_session_is_deleted_wherever_it_is(serve: Serve, redis: str) -> None:
    """It goes on at one server, and another one is asked to forget it: nothing of it is left in the store."""
    here, there = (serve(state_url=redis, ack_frames=10).ready() for _ in range(2))
    async with session(here.ws) as (socket, started):
        name = started.session_id
        await send(socket, 0, 60)
        await heard_until(socket, acknowledged(59))
        assert (told(there, name)["state"], told(there, name)["frames_received"]) == ("open", 60)
        delete(there, name)
        assert missing(there, name)
        await send(socket, 60, 90)
        heard = await everything(socket)
    assert (heard[-1].code, heard[-1].fatal, socket.close_code) == ("session_deleted", True, 4410)
    assert missing(here, name)
    async with valkey.asyncio.Valkey.from_url(redis) as store:
        assert await store.hgetall(f"poseline:session:{name}") == {b"deleted": b""}
        assert await store.zscore("poseline:sessions:", name) is None


async def test_a_session_that_says_nothing_for_long_is_kept_all_the_same(serve: Serve, redis: str) -> None:
    """What a store keeps expires, also while the session is open: it is saved again and again though nothing happens."""
    server = serve(state_url=redis, resume_seconds=2).ready()
    async with session(server.ws) as (_, started), valkey.asyncio.Valkey.from_url(redis) as store:
        renewed, before = 0, -2
        async with asyncio.timeout(PATIENCE):
            while renewed < 3:
                left = await store.pttl(f"poseline:state:{started.session_id}")
                renewed += left > before
                before = left
                await asyncio.sleep(0.05)
