"""Sessions outlive their connections, and their server: finals exactly once, over real sockets, by real processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from cutting import Relay
from made_up import NATIVE, frames_of
from poseline import protocol
from poseline.blocking import SyncStreamClient
from poseline.client import ConnectionFailed, StreamClient
from poseline.codec import MSGPACK, Codec
from poseline.protocol import Frame, Frames, Resume, SegmentFinal, SegmentRetracted, SegmentStarted, SessionStart
from poseline.remote import play
from servers import PATIENCE, ServerProcess
from tiny_bundle import write_bundle

LENGTH = 900
Serve = Callable[..., ServerProcess]


def said(messages: list[protocol.ServerMessage]) -> list[tuple[Any, ...]]:
    """Finals, as they must be whatever happens to the line."""
    return [
        (one.segment_id, one.track_id, one.label, one.start, one.end, round(one.score, 3))
        for one in messages
        if isinstance(one, SegmentFinal)
    ]


async def conversation(ws: str, frames: list[Frame], chunk: int = 5, **options: Any) -> tuple[StreamClient, list[Any]]:
    wanted = protocol.StreamOptions(**options)
    async with StreamClient(ws, coordinates=NATIVE, options=wanted) as client:
        return client, [message async for message in play(client, frames, chunk=chunk)]


@pytest.fixture(scope="module")
def expected(server: ServerProcess) -> list[tuple[Any, ...]]:
    _, heard = asyncio.run(conversation(server.ws, frames_of(5, LENGTH)))
    assert len(said(heard)) > 15
    return said(heard)


# --- the line breaks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["memory", "redis"])
async def test_broken_lines_lose_no_final_and_double_none(
    where: str, serve: Serve, redis: str, expected: list[tuple[Any, ...]]
) -> None:
    server = serve(**({"state_url": redis} if where == "redis" else {})).ready()
    async with Relay(server.port, cut_after=[3000, 20_000, 700, 55_000, 90_000]) as line:
        client, heard = await conversation(line.ws, frames_of(5, LENGTH), partials="all", scores_hz=10)
    assert client.resumes >= 4
    assert said(heard) == expected
    numbers = [one.seq for one in heard]
    assert numbers == sorted(set(numbers)), "nothing is heard twice"
    if where == "memory":
        assert numbers == list(range(1, len(numbers) + 1)), "and nothing is missing"
    closed = heard[-1]
    assert isinstance(closed, protocol.SessionClosed)
    assert closed.frames_received - closed.frames_dropped <= LENGTH
    assert lives(heard)


def lives(heard: list[Any]) -> bool:
    """Every segment: started, then final or retracted, and then nothing."""
    over: set[str] = set()
    for one in heard:
        if not isinstance(one, protocol.OfSegment):
            continue
        assert one.segment_id not in over
        if isinstance(one, SegmentFinal | SegmentRetracted):
            over.add(one.segment_id)
    assert {one.segment_id for one in heard if isinstance(one, SegmentStarted)} <= over
    return True


async def test_an_update_and_a_flush_survive_a_broken_line(serve: Serve) -> None:
    frames = frames_of(5, 300)
    async with Relay(serve().ready().port) as line, StreamClient(line.ws, coordinates=NATIVE) as client:
        await client.send(frames[:60])
        line.cut()
        await client.update(min_score=0.9)
        await client.send(frames[60:120])
        await client.flush()
        line.cut()
        for start in range(120, 300, 60):
            await client.send(frames[start : start + 60])
        await client.close()
        heard = [message async for message in client]
    kinds = [type(one) for one in heard]
    assert kinds.count(protocol.SessionUpdated) == kinds.count(protocol.Flushed) == 1
    assert kinds.index(protocol.SessionUpdated) < kinds.index(protocol.Flushed)
    assert heard[-1].frames_processed >= 299


async def test_the_end_is_heard_by_who_was_cut_off_before_it(serve: Serve) -> None:
    server = serve().ready()
    async with session(server.ws) as (socket, started):
        await socket.send(MSGPACK.encode(Frames(0, frames_of(5, 64))))
        await socket.send(MSGPACK.encode(protocol.SessionClose()))
        socket.transport.abort()
    await asyncio.sleep(0.3)
    async with connect(server.ws, subprotocols=[MSGPACK.subprotocol], compression=None) as again:
        await again.send(MSGPACK.encode(SessionStart(resume=Resume(started.session_id, started.resume_token, 0))))
        heard = await everything(again)
    assert heard[0].resumed
    assert [one.seq for one in heard] == list(range(len(heard)))
    assert isinstance(heard[-1], protocol.SessionClosed)
    assert again.close_code == 1000


# --- the server dies, or goes ---------------------------------------------------------------------------------------


async def test_another_server_goes_on_where_one_was_killed(
    serve: Serve, redis: str, expected: list[tuple[Any, ...]]
) -> None:
    first, second = (serve(state_url=redis, ack_frames=16).ready() for _ in range(2))
    async with Relay(first.port) as line, StreamClient(line.ws, coordinates=NATIVE) as client:
        heard: list[Any] = []
        async for message in play(client, frames_of(5, LENGTH), chunk=5, speed=20):
            heard.append(message)
            if len(said(heard)) == 5 and first.process.poll() is None:
                line.target = second.port
                first.process.kill()
    assert client.resumes == 1
    assert said(heard) == expected
    assert lives_again(heard)


def lives_again(heard: list[Any]) -> bool:
    """As `lives`, but a start that no state held may be told once more by the next server."""
    over = [one.segment_id for one in heard if isinstance(one, SegmentFinal | SegmentRetracted)]
    assert len(over) == len(set(over))
    return True


async def test_a_server_that_goes_hands_its_sessions_over(
    serve: Serve, redis: str, expected: list[tuple[Any, ...]]
) -> None:
    first, second = (serve(state_url=redis).ready() for _ in range(2))
    async with Relay(first.port) as line, StreamClient(line.ws, coordinates=NATIVE) as client:
        heard: list[Any] = []
        async for message in play(client, frames_of(5, LENGTH), chunk=5, speed=20):
            heard.append(message)
            if len(said(heard)) == 5 and line.target == first.port:
                line.target = second.port
                first.signal()
    assert client.resumes == 1
    going = [one for one in heard if isinstance(one, protocol.SessionDraining)]
    assert [one.resume for one in going] == [True]
    assert said(heard) == expected
    assert lives(heard)


# --- who may, and when -----------------------------------------------------------------------------------------------


@asynccontextmanager
async def session(ws: str) -> AsyncIterator[tuple[ClientConnection, protocol.SessionStarted]]:
    async with connect(ws, subprotocols=[MSGPACK.subprotocol], compression=None) as socket:
        await socket.send(MSGPACK.encode(SessionStart(layout="body16", coordinates=NATIVE)))
        started = MSGPACK.decode_server(await socket.recv(decode=False))
        assert isinstance(started, protocol.SessionStarted)
        yield socket, started


async def everything(socket: ClientConnection) -> list[Any]:
    heard: list[Any] = []
    try:
        while True:
            heard.append(MSGPACK.decode_server(await socket.recv(decode=False)))
    except ConnectionClosed:
        return heard


async def resumed(ws: str, resume: Resume) -> tuple[list[Any], int | None]:
    async with connect(ws, subprotocols=[MSGPACK.subprotocol], compression=None) as socket:
        await socket.send(MSGPACK.encode(SessionStart(resume=resume)))
        heard = await everything(socket)
        return heard, socket.close_code


async def test_only_who_has_the_token_resumes(serve: Serve) -> None:
    server = serve().ready()
    async with session(server.ws) as (socket, started):
        socket.transport.abort()
    for name, token in ((started.session_id, "guessed"), ("ses_of_nobody", started.resume_token)):
        (error,), code = await resumed(server.ws, Resume(name, token, 0))
        assert (error.code, code) == ("unknown_session", 4404)


async def test_a_session_is_kept_for_a_while(serve: Serve) -> None:
    server = serve(resume_seconds=0.2).ready()
    async with session(server.ws) as (socket, started):
        assert started.resume_ttl == 0.2
        socket.transport.abort()
    await asyncio.sleep(0.6)
    (error,), code = await resumed(server.ws, Resume(started.session_id, started.resume_token, 0))
    assert (error.code, code) == ("session_expired", 4410)


async def test_who_heard_nothing_is_told_of_the_start_once(server: ServerProcess) -> None:
    """Message 0 holds the first token, which is no longer good: it is not repeated beside the new one."""
    async with session(server.ws) as (socket, started):
        await socket.send(MSGPACK.encode(Frames(0, frames_of(5, 60))))
        await socket.send(MSGPACK.encode(protocol.Flush()))
        while not isinstance(MSGPACK.decode_server(await socket.recv(decode=False)), protocol.Flushed):
            pass
        socket.transport.abort()
    async with connect(server.ws, subprotocols=[MSGPACK.subprotocol], compression=None) as again:
        await again.send(MSGPACK.encode(SessionStart(resume=Resume(started.session_id, started.resume_token, -1))))
        await again.send(MSGPACK.encode(protocol.SessionClose()))
        heard = await everything(again)
    assert [type(one) for one in heard].count(protocol.SessionStarted) == 1
    assert [one.seq for one in heard] == list(range(len(heard)))


@pytest.mark.parametrize("where", ["memory", "redis"])
async def test_whoever_resumes_an_open_session_supersedes_it(where: str, serve: Serve, redis: str) -> None:
    server = serve(**({"state_url": redis} if where == "redis" else {})).ready()
    async with session(server.ws) as (old, started):
        await old.send(MSGPACK.encode(Frames(0, frames_of(5, 60))))
        async with connect(server.ws, subprotocols=[MSGPACK.subprotocol], compression=None) as new:
            await new.send(MSGPACK.encode(SessionStart(resume=Resume(started.session_id, started.resume_token, 0))))
            again = MSGPACK.decode_server(await new.recv(decode=False))
            assert isinstance(again, protocol.SessionStarted)
            assert again.resumed
            assert again.resume_token != started.resume_token
            assert [one.code for one in await everything(old) if isinstance(one, protocol.ErrorMessage)] == [
                "superseded"
            ]
            assert old.close_code == 4409
            await new.send(MSGPACK.encode(Frames(again.next_client_seq, frames_of(5, 90)[again.next_client_seq :])))
            await new.send(MSGPACK.encode(protocol.SessionClose()))
            assert isinstance((await everything(new))[-1], protocol.SessionClosed)


async def test_a_server_cut_off_from_its_client_is_superseded_by_the_next(serve: Serve, redis: str) -> None:
    """The old server still holds the session, whose client has long gone on elsewhere; it must not save any more."""
    old, new = (serve(state_url=redis, ack_seconds=0.1, idle_seconds=60).ready() for _ in range(2))
    async with session(old.ws) as (stale, started):
        await stale.send(MSGPACK.encode(Frames(0, frames_of(5, 30))))
        await asyncio.sleep(0.6)
        async with connect(new.ws, subprotocols=[MSGPACK.subprotocol], compression=None) as socket:
            await socket.send(MSGPACK.encode(SessionStart(resume=Resume(started.session_id, started.resume_token, 0))))
            assert MSGPACK.decode_server(await socket.recv(decode=False)).resumed  # type: ignore[union-attr]
            await stale.send(MSGPACK.encode(Frames(30, frames_of(5, 60)[30:])))
            assert (await everything(stale))[-1].code == "superseded"
            assert stale.close_code == 4409
            await socket.send(MSGPACK.encode(protocol.SessionClose()))
            assert isinstance((await everything(socket))[-1], protocol.SessionClosed)


async def test_a_client_learns_that_its_session_is_gone(serve: Serve) -> None:
    server = serve(resume_seconds=0.1).ready()
    async with Relay(server.port) as line, StreamClient(line.ws, coordinates=NATIVE) as client:
        line.target = 1
        line.cut()
        await asyncio.sleep(0.7)
        line.target = server.port
        with pytest.raises(ConnectionFailed, match="1006"):
            async for _ in client:
                pass


async def test_a_credential_that_is_not_to_be_had_is_asked_for_again(server: ServerProcess) -> None:
    asked = 0

    def credential() -> str:
        nonlocal asked
        asked += 1
        if asked == 2:
            raise OSError("the issuer sleeps")
        return "good"

    async with Relay(server.port) as line, StreamClient(line.ws, coordinates=NATIVE, credential=credential) as client:
        line.cut()
        async with asyncio.timeout(PATIENCE):
            heard = [message async for message in play(client, frames_of(5, 60), chunk=5)]
    assert (client.resumes, asked) == (1, 3)
    assert isinstance(heard[-1], protocol.SessionClosed)


class Puzzled(Codec):
    """Understands how a session starts, and fails at what follows in a way that the client knows nothing of."""

    def __init__(self) -> None:
        super().__init__("json", msgspec.json, text=True)

    def decode_server(self, data: bytes) -> protocol.ServerMessage | None:
        message = super().decode_server(data)
        if not isinstance(message, protocol.SessionStarted):
            raise ZeroDivisionError
        return message


async def test_whatever_ends_the_reading_is_told(server: ServerProcess) -> None:
    async with StreamClient(server.ws, coordinates=NATIVE, codec=Puzzled()) as client, asyncio.timeout(PATIENCE):
        await client.flush()
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                await client.receive()
        await client.send(frames_of(5, 10))
    with SyncStreamClient(server.ws, coordinates=NATIVE, codec=Puzzled(), timeout=PATIENCE) as stream:
        stream.flush()
        for ask in (stream.receive, stream.receive, stream.flush):
            with pytest.raises(ZeroDivisionError):
                ask()


async def test_another_model_does_not_go_on(serve: Serve, redis: str, tmp_path: Path) -> None:
    write_bundle(tmp_path, unknown_below=0.2)
    first, other = serve(state_url=redis).ready(), serve(tmp_path, state_url=redis).ready()
    async with session(first.ws) as (socket, started):
        socket.transport.abort()
    await asyncio.sleep(0.3)
    (error,), code = await resumed(other.ws, Resume(started.session_id, started.resume_token, 0))
    assert (error.code, code) == ("model_changed", 4410)
