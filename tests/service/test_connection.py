"""What sockets do to a connection that no client can be made to do at the right moment: a transport that does as told."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from websockets.frames import Frame as WireFrame
from websockets.frames import Opcode

from made_up import NATIVE, frames_of
from poseline.codec import MSGPACK
from poseline.errors import Draining
from poseline.protocol import Flush, Frame, Frames, Keepalive, Person, SessionClose, SessionStart, StreamOptions
from poseline_service.connection import StreamConnection
from poseline_service.runtime import Runtime
from poseline_service.sessions import Session
from poseline_service.settings import ServiceSettings
from servers import PATIENCE

HANDSHAKE = (
    b"GET /v1/stream HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Protocol: poseline.v1.msgpack\r\n\r\n"
)


class Transport:
    """As uvloop's: a write after the connection is lost raises."""

    def __init__(self) -> None:
        self.written = b""
        self.lost = self.closed = self.aborted = False
        self.reading = True

    def write(self, data: bytes) -> None:
        if self.lost:
            raise RuntimeError("the handler is closed")
        self.written += data

    def set_write_buffer_limits(self, high: int) -> None: ...

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed or self.aborted

    def abort(self) -> None:
        self.aborted = True


@asynccontextmanager
async def house(models: Path, **settings: Any) -> AsyncIterator[Runtime]:
    runtime = Runtime(ServiceSettings(models=models, load_limit=1e6, late_limit=1e6, **settings))
    await runtime.start()
    try:
        yield runtime
    finally:
        await runtime.stop()


def message(content: Any) -> bytes:
    return WireFrame(Opcode.BINARY, MSGPACK.encode(content)).serialize(mask=True)


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def connected(runtime: Runtime, **options: Any) -> tuple[StreamConnection, Transport]:
    connection, transport = StreamConnection(runtime, server_state=SimpleNamespace(connections=set())), Transport()
    connection.connection_made(transport)  # type: ignore[arg-type]
    connection.data_received(HANDSHAKE)
    await turns()
    start = SessionStart(layout="body16", coordinates=NATIVE, options=StreamOptions(**options))
    connection.data_received(message(start))
    return connection, transport


FRAMES = frames_of(5, 90)


async def test_a_ping_behind_a_message_is_answered_at_once(models: Path) -> None:
    async with house(models) as runtime:
        connection, transport = await connected(runtime)
        await turns()
        transport.written = b""
        connection.data_received(message(Keepalive()) + WireFrame(Opcode.PING, b"?").serialize(mask=True))
        assert transport.written == WireFrame(Opcode.PONG, b"?").serialize(mask=False)


async def test_a_violation_behind_a_message_is_answered_at_once(models: Path) -> None:
    async with house(models) as runtime:
        connection, transport = await connected(runtime)
        await turns()
        transport.written = b""
        connection.data_received(message(Keepalive()) + b"\x83\x80abcd")
        assert transport.written[2:4] == (1002).to_bytes(2)


async def test_who_is_lost_between_being_told_and_written_to_takes_nobody_along(models: Path) -> None:
    async with house(models) as runtime:
        gone, line = await connected(runtime)
        neighbour, other = await connected(runtime)
        await turns()
        other.written = b""
        for connection in (gone, neighbour):
            connection.data_received(message(Frames(0, FRAMES[:10])))
        line.lost = True
        gone.connection_lost(ConnectionResetError())
        await turns(20)
        assert b"track.started" in other.written
        neighbour.data_received(message(Frames(10, FRAMES[10:80])))
        await turns(20)
        assert b"segment.started" in other.written
        neighbour.connection_lost(None)


async def test_a_broken_session_ends_alone(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(models) as runtime:
        (sick, line), *others = [await connected(runtime) for _ in range(4)]
        await turns()
        push = Session._push

        def falter(session: Session, step: Any) -> None:
            if session is sick._conversation._session:
                raise ValueError("a bug")
            push(session, step)

        monkeypatch.setattr(Session, "_push", falter)
        for connection, _ in [(sick, line), *others]:
            connection.data_received(message(Frames(0, FRAMES[:60])))
        await turns(20)
        assert b"internal" in line.written
        assert (1011).to_bytes(2) in line.written
        assert all(b"segment.started" in transport.written for _, transport in others)
        for connection, _ in [(sick, line), *others]:
            connection.connection_lost(None)
        assert runtime.model().scheduler.lanes == 0


async def test_a_drain_is_not_turned_into_an_error_by_what_was_not_yet_read(models: Path) -> None:
    async with house(models) as runtime:
        connection, transport = await connected(runtime)
        await turns()
        connection.data_received(message(Frames(0, [Frame(0.0, [Person(id="p1", kp=b"")])])))
        connection.drain(Draining("going", retry_after=1.0))  # before the intake has seen the bad one
        await turns(20)
        assert b"session.closed" in transport.written
        assert (1012).to_bytes(2) in transport.written
        connection.connection_lost(None)


async def test_who_does_not_read_is_cut_off(models: Path) -> None:
    async with house(models, idle_seconds=1.0) as runtime:
        connection, transport = await connected(runtime)
        connection.pause_writing()
        connection.data_received(message(Frames(0, FRAMES[:10])))
        await turns(20)
        assert not transport.reading
        connection.tick(connection._stuck_since + 0.9)
        assert not transport.aborted
        connection.tick(connection._stuck_since + 1.1)
        assert transport.aborted
        connection.connection_lost(None)


async def test_reading_goes_on_when_the_client_does(models: Path) -> None:
    async with house(models) as runtime:
        connection, transport = await connected(runtime)
        connection.pause_writing()
        connection.data_received(message(Frames(0, FRAMES[:10])))
        await turns(20)
        assert not transport.reading
        connection.resume_writing()
        await turns(20)
        assert transport.reading
        assert b"track.started" in transport.written
        connection.connection_lost(None)


async def test_who_drops_the_oldest_is_read_while_it_does_not_read(models: Path) -> None:
    async with house(models, queue_frames=16) as runtime:
        connection, transport = await connected(runtime, on_overload="drop_oldest")
        connection.pause_writing()
        for begin in range(0, 90, 10):
            connection.data_received(message(Frames(begin, FRAMES[begin : begin + 10])))
            await turns(20)
            assert transport.reading
        assert b"frames_dropped" in transport.written
        assert b"track.started" not in transport.written
        transport.written = b""
        connection.resume_writing()
        await turns(20)
        connection.tick(connection._heard + 2.0)
        await turns(20)
        dropped = runtime.metrics.frames_dropped.labels("overload")._value.get()
        assert 90 - 8 <= dropped < 90, "at most eight wait"
        assert b"track.started" in transport.written
        assert MSGPACK.encode({"client_seq": 89})[1:] in transport.written
        connection.connection_lost(None)


async def test_flushes_cannot_be_dropped_so_too_many_of_them_are_not_read(models: Path) -> None:
    async with house(models, queue_frames=16) as runtime:
        connection, transport = await connected(runtime, on_overload="drop_oldest")
        connection.pause_writing()
        connection.data_received(message(Frames(0, FRAMES[:4])))
        await turns()
        for _ in range(20):
            connection.data_received(message(Flush()))
        assert not transport.reading
        connection.resume_writing()
        await turns(20)
        assert transport.reading
        assert transport.written.count(b"flushed") == 20
        connection.connection_lost(None)


@pytest.mark.parametrize("policy", ["block", "drop_oldest", "fail"])
async def test_who_is_lost_while_it_does_not_read_gives_its_lanes_back(models: Path, policy: str) -> None:
    """Its last frames are scored all the same: it was told that it need not send them again, or asked for the end."""
    async with house(models, queue_frames=16) as runtime:
        connection, _ = await connected(runtime, on_overload=policy)
        connection.data_received(message(Frames(0, FRAMES[:8])))
        await turns(20)
        assert runtime.model().scheduler.lanes == 1
        connection.pause_writing()
        connection.data_received(message(Frames(8, FRAMES[8:40])) + message(SessionClose()))
        await turns(20)
        connection.connection_lost(None)
        await turns(40)
        assert runtime.model().scheduler.lanes == 0


@pytest.mark.parametrize("size", [1, 7, 1000, 300_000])
async def test_bytes_may_come_in_any_pieces(models: Path, size: int) -> None:
    ping, half = WireFrame(Opcode.PING, b"?").serialize(mask=True), len(MSGPACK.encode(Frames(0, FRAMES[:40]))) // 2
    whole = MSGPACK.encode(Frames(40, FRAMES[40:90]))
    pieces = [
        message(Frames(0, FRAMES[:40])),
        WireFrame(Opcode.BINARY, whole[:half], fin=False).serialize(mask=True),
        ping,
        WireFrame(Opcode.CONT, whole[half:]).serialize(mask=True),
        *[message(Keepalive())] * 50,
        ping,
        message(SessionClose()),
    ]
    sent = b"".join(pieces)
    async with house(models) as runtime:
        connection, transport = await connected(runtime)
        await turns()
        for at in range(0, len(sent), size):
            connection.data_received(sent[at : at + size])
            if size > 1000:
                await turns()
        await turns(50)
        assert transport.written.count(WireFrame(Opcode.PONG, b"?").serialize(mask=False)) == 2
        assert b"session.closed" in transport.written
        assert (1000).to_bytes(2) in transport.written
        connection.connection_lost(None)


async def test_a_flood_waits_for_its_turn_and_nobody_for_it(models: Path) -> None:
    async with house(models) as runtime:
        flood, line = await connected(runtime)
        neighbour, other = await connected(runtime)
        await turns()
        other.written = b""
        flood.data_received(message(Keepalive()) * 20_000 + message(Frames(0, FRAMES[:10])))
        assert not line.reading  # as long as there is more than a turn's share
        neighbour.data_received(message(Frames(0, FRAMES[:10])))
        await turns(20)
        assert b"track.started" in other.written
        assert not line.reading
        assert b"track.started" not in line.written
        await eventually(lambda: b"track.started" in line.written)
        assert line.reading
        for connection in (flood, neighbour):
            connection.connection_lost(None)


async def eventually(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not what():
            await asyncio.sleep(0)


@pytest.mark.parametrize("last", [None, SessionClose(), SessionStart()], ids=["breaks", "closes", "is refused"])
async def test_what_a_connection_held_is_free_at_once(models: Path, last: Any) -> None:
    """Not only when cycles are searched for: thousands of dead sessions would wait for that, each with its messages."""
    async with house(models) as runtime:
        gc.collect()
        gc.disable()
        try:
            gone = [weakref.ref(one) for one in await held_by_who_goes(runtime, last)]
            await eventually(lambda: not [one() for one in gone if one() is not None])
        finally:
            gc.enable()


async def held_by_who_goes(runtime: Runtime, last: Any) -> list[Any]:
    """All that a stream consisted of, whose last message that is, or whose line broke."""
    connection, transport = await connected(runtime)
    await turns()
    connection.data_received(message(Frames(0, FRAMES[:40])))
    await asyncio.sleep(0.6)  # the heart has beaten for it
    conversation = connection._conversation
    assert conversation is not None
    session = conversation._session
    assert session is not None
    tracks = list(session._roster.tracks.values())
    assert tracks
    if last is not None:
        connection.data_received(message(last) + WireFrame(Opcode.CLOSE, b"\x03\xe8").serialize(mask=True))
        await eventually(lambda: transport.closed)
    connection.connection_lost(None)
    return [connection, conversation, conversation._outbox, session, *tracks]
