"""A line that can be cut: a TCP relay between clients and a server, which drops connections and changes its target."""

from __future__ import annotations

import asyncio
from contextlib import suppress


class Relay:
    """Relays to `port`; `cut_after` bytes from the client it drops the connection without a word, once for each entry."""

    loop: asyncio.AbstractEventLoop

    def __init__(self, port: int, cut_after: list[int] | None = None) -> None:
        self.target = port
        self.connections = 0
        self._cuts = list(cut_after or [])
        self._open: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Relay:
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self.ws = f"ws://127.0.0.1:{self.port}/v1/stream"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()

    def cut(self) -> None:
        """Drop whatever is connected now: both sides see the line go dead."""
        for writer in list(self._open):
            writer.transport.abort()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        budget = self._cuts.pop(0) if self._cuts else None
        try:
            upstream, up = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        self._open |= {writer, up}
        back = asyncio.create_task(self._pump(upstream, writer, None))
        await self._pump(reader, up, budget)
        for one in (writer, up):
            one.transport.abort()
            self._open.discard(one)
        back.cancel()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, budget: int | None) -> None:
        with suppress(OSError, asyncio.CancelledError):
            while data := await reader.read(4096):
                if budget is not None and (budget := budget - len(data)) <= 0:
                    return
                writer.write(data)
                await writer.drain()
            writer.write_eof()
