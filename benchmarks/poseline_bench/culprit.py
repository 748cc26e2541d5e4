"""A client that does what a `Script` says over a raw socket, and watches what the server makes of it.

Whatever is said to the server, what it says must keep to docs/protocol.md: every message is one that the protocol knows,
numbered without gaps; nothing follows the end of a segment, a fatal error or `session.closed`; every error's and close's
code is in the document, and none of them is a fault of the server's own; and it never hangs. `Offence` is what breaks that.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from poseline.codec import CODECS
from poseline.errors import InputError, PoselineError
from poseline.protocol import (
    ErrorMessage,
    OfSegment,
    SegmentFinal,
    SegmentRetracted,
    ServerMessage,
    SessionClosed,
    SessionStarted,
)
from poseline_bench.mutations import CLOSE_CODES, End, Script, Token
from poseline_bench.wire import BINARY_DATA, CLOSE, PING, PONG, TEXT, Encoding, client_frame, server_frames

DOCUMENT = Path(__file__).parents[2] / "docs" / "protocol.md"
PATIENCE = 60.0
"""Seconds after which a server that neither answers nor closes hangs: many times its own limits, for busy machines."""
_FAULTS = {"internal"}
_FAULT_CODES = {1011}
_NO_CODE = 1005
"""What a close without a code counts as."""


class Offence(Exception):
    """The server broke a promise."""


@cache
def documented() -> tuple[frozenset[str], frozenset[int]]:
    """Codes of errors, and of closes, that docs/protocol.md knows. Raises InputError where that is not at hand."""
    try:
        text = DOCUMENT.read_text()
    except OSError:
        raise InputError("the fuzzer reads docs/protocol.md: it runs in a checkout") from None
    _, _, closes = text.partition("\n| close | `error` codes |")
    sent = {int(one) for one in re.findall(r"\b[14]\d{3}\b", closes)} - {1006}  # which no server sends
    return frozenset(re.findall(r"`(\w+)`", text)), frozenset(sent)


@dataclass
class Heard:
    """What one client was told, over all its connections."""

    token: str = ""
    former: str = ""
    session: str = ""
    last: int = -1
    over: set[str] = field(default_factory=set[str])
    """Segments that have ended."""
    outcomes: Counter[str] = field(default_factory=Counter[str])
    messages: int = 0
    """That were sent."""


async def misbehave(port: int, script: Script) -> Heard:
    """Do all that the script says. Raises Offence."""
    heard = Heard()
    try:
        async with asyncio.timeout(PATIENCE):
            await Line(port, script, heard).follow(script.sends, script.end)
            for token, lie in script.come_back:
                if not heard.session:
                    break
                sends = [_resume(heard, script.encoding, token, lie), *script.sends[1:]]
                await Line(port, script, heard).follow(sends, "cut")
    except TimeoutError:
        raise Offence(f"the server neither answered nor closed within {PATIENCE:g} seconds") from None
    return heard


def _resume(heard: Heard, encoding: Encoding, token: Token, lie: int) -> bytes:
    said = {"right": heard.token, "old": heard.former or heard.token, "wrong": "guessed"}[token]
    resume = {"session_id": heard.session, "token": said, "last_server_seq": max(-2, heard.last + lie)}
    return client_frame(encoding.encode({"type": "session.start", "resume": resume}), encoding.opcode)


class Line:
    """One connection."""

    def __init__(self, port: int, script: Script, heard: Heard) -> None:
        self._port, self._encoding, self._heard = port, script.encoding, heard
        self._codec = CODECS[script.encoding.subprotocol]
        self._close_codes = documented()[1] | {_NO_CODE, *(CLOSE_CODES if "closed" in script.kinds else ())}
        """A close of ours is answered with its own code."""
        self._rest = b""
        self._started = asyncio.Event()
        self._last = self._replayed = -1
        """Numbers: of the newest message on this line, and of the last of those that a resume repeats."""
        self._last_word = ""
        self._shut = False
        """Our half of the line is closed."""

    async def follow(self, sends: list[bytes], end: End) -> None:
        """Say all of it, and end so. Raises Offence."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(_handshake(self._port, self._encoding.subprotocol))
        head = await reader.readuntil(b"\r\n\r\n")
        if b" 101 " not in head[:16]:
            raise Offence(f"a stream was refused: {head[:60]!r}")
        try:
            if end == "deaf":
                await self._talk_deaf(writer, sends)
            else:
                await self._talk(reader, writer, sends, end)
        finally:
            writer.transport.abort()

    async def _talk_deaf(self, writer: asyncio.StreamWriter, sends: list[bytes]) -> None:
        """What the socket does not take at once is not said."""
        for data in sends:
            if writer.transport.get_write_buffer_size() or writer.transport.is_closing():
                break
            writer.write(data)
            self._heard.messages += 1
            await asyncio.sleep(0)
        self._heard.outcomes["left, without listening"] += 1

    async def _talk(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, sends: list[bytes], end: End
    ) -> None:
        reading = asyncio.create_task(self._read(reader, writer))
        try:
            for data in sends:
                if reading.done():
                    break
                writer.write(data)
                self._heard.messages += 1
                await _unless(reading, writer.drain())
                if end == "cut":  # or there would be nothing to come back to
                    await _unless(reading, self._started.wait())
            if end == "half" and not reading.done():
                self._shut = True
                writer.write_eof()
            if end == "cut" and not reading.done():
                self._heard.outcomes["left"] += 1
                reading.cancel()
            with suppress(asyncio.CancelledError):
                await reading
        finally:
            reading.cancel()

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Until the server closes. Raises Offence."""
        data = b" "
        while data:
            try:
                data = await reader.read(1 << 16)
            except ConnectionError:
                data = b""
            frames, self._rest = server_frames(self._rest + data)
            for opcode, payload in frames:
                if opcode in (TEXT, BINARY_DATA):
                    self.take(opcode, payload)
                elif opcode in (PING, CLOSE) and not self._shut:
                    writer.write(client_frame(payload, PONG if opcode == PING else CLOSE))
                if opcode == CLOSE:
                    self.closed(payload)
                    return
        self._heard.outcomes["cut by the server"] += 1

    # --- what it may say ------------------------------------------------------------------------------------------

    def closed(self, payload: bytes) -> None:
        code = int.from_bytes(payload[:2]) if payload else _NO_CODE
        if code in _FAULT_CODES or code not in self._close_codes:
            raise Offence(f"closed with {payload!r}")
        self._heard.outcomes[f"{code} {self._last_word}".strip()] += 1

    def take(self, opcode: int, payload: bytes) -> None:
        if opcode != self._encoding.opcode:
            raise Offence("a message of the other encoding")
        try:
            message = self._codec.decode_server(payload)
        except PoselineError as error:
            raise Offence(f"a message that is none: {error.detail}: {payload[:200]!r}") from None
        if message is None:
            raise Offence(f"a message that the protocol does not know: {payload[:200]!r}")
        if self._last_word:
            raise Offence(f"after {self._last_word} came {type(message).__name__}")
        self._check(message)

    def _check(self, message: ServerMessage) -> None:
        fatal = isinstance(message, ErrorMessage) and message.fatal
        if isinstance(message, ErrorMessage) and (message.code in _FAULTS or message.code not in documented()[0]):
            raise Offence(f"error {message.code}: {message.detail}")
        if isinstance(message, SessionStarted):
            self._begin(message)
        if not (isinstance(message, SessionStarted) and message.resumed):
            self._number(message.seq, type(message).__name__, fatal)
        if self._started.is_set() and message.seq > self._heard.last:  # else it is told again, after a resume
            self._heard.last = message.seq
            if isinstance(message, OfSegment):
                self._follow_up(message)
        if fatal or isinstance(message, SessionClosed):
            self._last_word = message.code if isinstance(message, ErrorMessage) else "session.closed"

    def _begin(self, message: SessionStarted) -> None:
        heard = self._heard
        if message.resumed and message.session_id != heard.session:
            raise Offence(f"another session was resumed: {message.session_id}")
        if not message.resumed:
            heard.over, heard.last = set(), -1
        heard.former, heard.token, heard.session = heard.token, message.resume_token, message.session_id
        self._replayed = message.server_seq if message.resumed else -1
        self._started.set()

    def _number(self, seq: int, kind: str, fatal: bool) -> None:
        """Without gaps; what a resume repeats may have some, and an error about the line alone repeats the newest."""
        last = self._last
        following = seq == max(last, self._replayed) + 1
        if not following and not last < seq <= self._replayed and not (fatal and seq == max(last, self._replayed, 0)):
            raise Offence(f"after message {last} came {seq} ({kind})")
        self._last = seq

    def _follow_up(self, message: OfSegment) -> None:
        over, name = self._heard.over, message.segment_id
        if name in over:
            raise Offence(f"{type(message).__name__} of {name}, which was over")
        if isinstance(message, SegmentFinal | SegmentRetracted):
            over.add(name)


async def _unless(reading: asyncio.Task[None], awaited: Coroutine[Any, Any, Any]) -> None:
    """Wait for it, or until there is nothing more to hear."""
    task = asyncio.ensure_future(awaited)
    await asyncio.wait((task, reading), return_when=asyncio.FIRST_COMPLETED)
    task.cancel()
    with suppress(asyncio.CancelledError, ConnectionError):
        await task


def _handshake(port: int, subprotocol: str) -> bytes:
    lines = (
        "GET /v1/stream HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        f"Sec-WebSocket-Protocol: {subprotocol}",
    )
    return "\r\n".join((*lines, "", "")).encode()
