"""Clients that mean harm, each kind by itself in a process of its own: `python -m poseline_bench.attackers KIND PORT`.

They say `ready` once each has made a connection, go on until their standard input ends, and then print what became of all
connections as JSON. They come from
127.0.0.2, so that limits by address tell them from the streams that are measured, and their process is nice to the
machine's other processes: an attacker's CPU is no harm that a server could prevent.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import socket
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress

from poseline_bench.wire import JSON, PING, Script, client_frame

ADDRESS = "127.0.0.2"
NICE = 10
SLOW_READERS, HALF_OPEN, SLOW_HEADS = 200, 500, 500
_AT_ONCE = 16
"""Connections of a flood that are open at the same time."""
_PAUSE = 0.05
"""Seconds between two connections of one of them: 320 a second in all, where the server answers at once."""
_BOMBS_AT_ONCE = 2
_MANY_PINGS, _MANY_MESSAGES = 20_000, 10_000
_GET = b"GET /demo/actor.json?seconds=10 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"

Attack = Callable[["Line"], Awaitable[None]]


class Line:
    """One connection after another of one attacker; `became` counts how each ended. begun: one was made."""

    def __init__(self, port: int, became: Counter[str]) -> None:
        self.port, self.became = port, became
        self.begun = asyncio.Event()

    async def open(self, receive_buffer: int | None = None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        line = socket.socket()
        if receive_buffer is not None:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        line.bind((ADDRESS, 0))
        line.setblocking(False)
        await asyncio.get_running_loop().sock_connect(line, ("127.0.0.1", self.port))
        self.begun.set()
        return await asyncio.open_connection(sock=line)

    async def upgraded(self, script: Script) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Raises ConnectionError where it is not let in."""
        reader, writer = await self.open()
        writer.write(script.handshake(self.port))
        if b" 101 " not in await reader.readuntil(b"\r\n\r\n"):
            raise ConnectionError
        if script.start is not None:
            writer.write(script.start)
        return reader, writer

    async def say(self, data: bytes) -> None:
        """One connection that says this and listens until it is over; counts the answer's status."""
        reader, writer = await self.open()
        writer.write(data)
        with suppress(ConnectionError):
            self.became[await _status(reader)] += 1
        writer.transport.abort()


async def _status(reader: asyncio.StreamReader) -> str:
    head = await reader.read(64)
    return head[9:12].decode() if head.startswith(b"HTTP") else "closed"


async def _over(reader: asyncio.StreamReader) -> None:
    while await reader.read(65_536):
        pass


# --- what each kind does, with one connection ---------------------------------------------------------------------


async def _slow_reader(line: Line) -> None:
    """Asks for more than fits any buffer, and takes none of it."""
    _, writer = await line.open(receive_buffer=4096)
    for _ in range(8):
        writer.write(_GET)
    await _unread(line, writer)


async def _slow_listener(line: Line) -> None:
    """A stream that has each of its messages answered, and takes none of that."""
    _, writer = await line.upgraded(_QUIET)
    nonsense = client_frame(b'{"type":"nonsense"}', JSON.opcode)
    writer.transport.pause_reading()  # pyright: ignore[reportAttributeAccessIssue]
    for _ in range(_MANY_MESSAGES):
        writer.write(nonsense)
        await writer.drain()
    await _unread(line, writer)


async def _unread(line: Line, writer: asyncio.StreamWriter) -> None:
    writer.transport.pause_reading()  # pyright: ignore[reportAttributeAccessIssue]
    while not writer.transport.is_closing():
        await asyncio.sleep(1.0)
    line.became["cut"] += 1


async def _half_open(line: Line) -> None:
    reader, writer = await line.open()
    await _over(reader)
    line.became["cut"] += 1
    writer.transport.abort()


async def _slow_head(line: Line) -> None:
    reader, writer = await line.open()
    listening = asyncio.ensure_future(_over(reader))
    head = _QUIET.handshake(line.port)
    try:
        for byte in head:
            writer.write(bytes([byte]))
            done, _ = await asyncio.wait([listening], timeout=0.5)
            if done:
                break
        line.became["cut"] += listening.done()
    finally:
        listening.cancel()
        writer.transport.abort()


async def _header_flood(line: Line) -> None:
    await line.say(b"GET / HTTP/1.1\r\n" + b"X-Nothing: at all\r\n" * 10_000)
    await asyncio.sleep(_PAUSE)


async def _bomb(line: Line) -> None:
    head = (
        "POST /v1/localize HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        "Content-Type: application/json\r\nContent-Encoding: gzip\r\n"
        f"Content-Length: {len(_BOMB)}\r\nConnection: close\r\n\r\n"
    )
    await line.say(head.encode() + _BOMB)


async def _oversized(line: Line) -> None:
    reader, writer = await line.upgraded(_QUIET)
    writer.write(client_frame(bytes(300 * 1024), JSON.opcode))
    await _over(reader)
    line.became["cut"] += 1
    writer.transport.abort()
    await asyncio.sleep(_PAUSE)


async def _ping_flood(line: Line) -> None:
    reader, writer = await line.upgraded(_QUIET)
    writer.write(client_frame(b"", PING) * _MANY_PINGS)
    await _over(reader)
    line.became["cut"] += 1
    writer.transport.abort()
    await asyncio.sleep(_PAUSE)


async def _message_flood(line: Line) -> None:
    """Good messages, as fast as the server takes them."""
    _, writer = await line.upgraded(_QUIET)
    many = client_frame(b'{"type":"keepalive"}', JSON.opcode) * 1000
    while not writer.transport.is_closing():
        writer.write(many)
        await writer.drain()
        line.became["messages"] += 1000


_QUIET = Script(JSON, seconds=0.1)
_BOMB = gzip.compress(bytes(80 * 1024**2))
KINDS: dict[str, list[tuple[Attack, int]]] = {
    "slow readers": [(_slow_reader, SLOW_READERS // 2), (_slow_listener, SLOW_READERS // 2)],
    "half-open sockets": [(_half_open, HALF_OPEN)],
    "slow heads": [(_slow_head, SLOW_HEADS)],
    "header floods": [(_header_flood, _AT_ONCE)],
    "zip bombs": [(_bomb, _BOMBS_AT_ONCE)],
    "oversized messages": [(_oversized, _AT_ONCE)],
    "ping floods": [(_ping_flood, _AT_ONCE)],
    "message floods": [(_message_flood, 4)],
}
"""What each attack is made of: connections that do something, and how many are doing it at any time."""


async def _for_ever(attack: Attack, line: Line) -> None:
    while True:
        try:
            await attack(line)
        except (OSError, asyncio.IncompleteReadError):
            line.became["failed"] += 1
            await asyncio.sleep(_PAUSE)


async def _main(kind: str, port: int) -> None:
    became: Counter[str] = Counter()
    lines = [(attack, Line(port, became)) for attack, many in KINDS[kind] for _ in range(many)]
    tasks = [asyncio.create_task(_for_ever(attack, line)) for attack, line in lines]
    for _, line in lines:
        await line.begun.wait()
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    print(json.dumps(became))


if __name__ == "__main__":
    os.nice(NICE)
    asyncio.run(_main(sys.argv[1], int(sys.argv[2])))
