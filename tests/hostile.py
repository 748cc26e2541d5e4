"""Clients that no library would be: raw sockets that say exactly what they are told, in whatever pieces."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import suppress
from typing import Any

from websockets.frames import Frame, Opcode

from poseline_bench.wire import server_frames
from servers import PATIENCE

UPGRADE = (
    b"GET /v1/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


class Raw:
    """One TCP connection. `address`: the loopback address that it comes from."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @staticmethod
    async def open(port: int, address: str = "127.0.0.1", receive_buffer: int | None = None) -> Raw:
        line = socket.socket()
        if receive_buffer is not None:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        line.bind((address, 0))
        line.setblocking(False)
        await asyncio.get_running_loop().sock_connect(line, ("127.0.0.1", port))
        return Raw(*await asyncio.open_connection(sock=line))

    async def send(self, data: bytes) -> None:
        with suppress(ConnectionError):  # reading will tell
            self.writer.write(data)
            await self.writer.drain()

    async def rest(self) -> bytes:
        """Whatever comes until the server ends the connection."""
        told = b""
        with suppress(ConnectionError):
            async with asyncio.timeout(PATIENCE):
                while data := await self.reader.read(65_536):
                    told += data
        self.drop()
        return told

    async def head(self) -> bytes:
        async with asyncio.timeout(PATIENCE):
            return await self.reader.readuntil(b"\r\n\r\n")

    def drop(self) -> None:
        self.writer.transport.abort()


def answers(told: bytes) -> list[tuple[int, str | None]]:
    """Status and problem code of each response in what a server said."""
    found: list[tuple[int, str | None]] = []
    for part in told.split(b"HTTP/1.1 ")[1:]:
        head, _, body = part.partition(b"\r\n\r\n")
        problem: Any = json.loads(body) if b"problem+json" in head else {}
        found.append((int(head[:3]), problem.get("code")))
    return found


async def close_code(port: int, *sent: bytes, subprotocol: str = "") -> int | None:
    """What the server closes a stream with that says these bytes; None where it just hangs up."""
    raw = await Raw.open(port)
    offer = f"Sec-WebSocket-Protocol: {subprotocol}\r\n".encode() if subprotocol else b""
    await raw.send(UPGRADE + offer + b"\r\n")
    assert (await raw.head()).startswith(b"HTTP/1.1 101")
    for data in sent:
        await raw.send(data)
    told = b""
    try:
        async with asyncio.timeout(PATIENCE):
            while data := await raw.reader.read(65_536):
                told += data
                for opcode, payload in server_frames(told)[0]:
                    if opcode == Opcode.CLOSE:
                        return int.from_bytes(payload[:2])
    except ConnectionError:
        pass
    finally:
        raw.drop()
    return None


def masked(opcode: Opcode, payload: bytes, *, fin: bool = True) -> bytes:
    return Frame(opcode, payload, fin).serialize(mask=True)
