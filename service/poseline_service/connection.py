"""`/v1/stream`: one WebSocket, from the upgrade to its close code.

uvicorn hands over every connection that asks for an upgrade (`ws=` of its configuration). Handshakes and frames are
`websockets`' sans-IO protocol, but for whole data messages (`frames`). Nothing on the way from a socket's bytes to the
session and back is a task or a queue, for at thousands of messages a second those cost more than the network. The
transport's own flow control is ours: a session that is held is not read, and one whose client does not read is not
`writable`.

Whoever may not be served is refused before the upgrade (`handshake`). `tick` keeps time for all connections at once:
silence, pings, acknowledgements, a closing handshake that never ends. Everything happens on the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any, cast

from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import CONNECTING, OPEN

from poseline.codec import CODECS, JSON
from poseline.errors import Draining, PoselineError
from poseline_service.conversation import Conversation
from poseline_service.errors import Silence
from poseline_service.frames import BINARY, HEAD, TEXT, RationedProtocol, frame_size, framed, take_messages
from poseline_service.handshake import Visitor, admit, refusal
from poseline_service.logging import log
from poseline_service.runtime import Runtime
from poseline_service.turns import AT_ONCE

_PING_SECONDS = 20.0
"""Between two pings, and until a silent peer counts as gone."""
_KNOWN_CODES = {1000, 1001, 1002, 1003, 1005, 1006, 1007, 1008, 1009, 1011, 1012, 1013} | {
    4400,
    4401,
    4404,
    4408,
    4409,
    4410,
    4422,
    4429,
}
"""Clients close with whatever they like; a metric's labels must not."""
_CLOSE_SECONDS = 10.0
"""For the other side to answer our close frame."""


def streams(runtime: Runtime) -> Any:
    """What uvicorn's configuration takes as `ws`: every upgrade becomes a `StreamConnection` of this runtime."""
    return partial(StreamConnection, runtime)


class StreamConnection(asyncio.Protocol):
    """An upgrade, and the socket that it became."""

    def __init__(
        self, runtime: Runtime, *, server_state: Any, left: Callable[[], None] = lambda: None, **_: Any
    ) -> None:
        """left: hears that the connection is lost."""
        self._runtime, self._uncount = runtime, left
        self._settings = runtime.settings
        self._siblings: set[Any] = server_state.connections  # uvicorn waits for them when it stops
        self._protocol = RationedProtocol(max_size=self._settings.message_bytes)
        self._opcode = TEXT
        self._visitor: Visitor | None = None
        self._conversation: Conversation | None = None
        """Once the visitor has been let in."""
        self._unread = b""
        """What came and was not yet its turn, or is not all of a frame."""
        self._waits = self._lost = False
        self._fragments: list[bytes] = []
        self._text = False
        self._paused = self._unwritten = False
        self.writable = True
        self._began = self._heard = self._alive = self._pinged = monotonic()
        self._ended: tuple[int, str] | None = None
        self._ended_at = self._stuck_since = 0.0

    # --- the transport's side -------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=self._settings.unsent_bytes)
        self._siblings.add(self)

    def data_received(self, data: bytes) -> None:
        self._unread += data
        self._wait(not self._waits and self._read_share())

    def _wait(self, more: bool) -> None:
        """Where more has come than a share, it waits for its turn."""
        if more:
            self._waits = True
            self._read_socket()
            self._runtime.turns.add(self._next_share)

    def _next_share(self) -> bool:
        self._waits = self._read_share()
        if not self._waits:
            self._read_socket()
        return self._waits

    def _read_share(self) -> bool:
        """As much of what has come as a turn allows; whether more of it could be read at once."""
        data, left, limit = self._unread, AT_ONCE, self._settings.message_bytes
        self._unread = b""
        while data and left and not self._paused and not self._over:
            messages: list[tuple[int, bytes]] = []
            if self._protocol.state is not CONNECTING and not self._fragments:
                messages, data = take_messages(data, limit, left)
            if messages:
                left -= len(messages)
                self._alive = monotonic()
                for first, message in messages:
                    self._receive(first == TEXT, message)
                continue
            size = len(data) if self._protocol.state is CONNECTING else frame_size(data)
            if len(data) < size <= limit + HEAD:  # a larger one is refused by its head
                break
            left -= 1
            self._parse(data[:size])
            data = data[size:]
        if not self._over:
            self._unread = data
        if self._visitor is not None:
            self._visitor.model.intake.hurry()
        return not left and bool(self._unread)

    @property
    def _over(self) -> bool:
        """Nothing that comes now is looked at."""
        return self._lost or self._protocol.eof_sent

    def _parse(self, data: bytes) -> None:
        """A handshake, or a frame that is not a whole message."""
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Request):
                self._open(event)
            elif isinstance(event, Frame):
                self._hear(event)
        self.flush()

    def eof_received(self) -> None:
        self._protocol.receive_eof()

    def pause_writing(self) -> None:
        self.writable, self._stuck_since = False, monotonic()

    def resume_writing(self) -> None:
        self.writable = True
        if self._conversation is not None:
            self._conversation.advance()

    def connection_lost(self, exc: Exception | None) -> None:
        self._siblings.discard(self)
        self._uncount()
        self._lost = self.writable = True  # nobody need read any more what is said
        self._protocol.parser.close()  # it refers to its protocol: a cycle would wait for a rare search
        conversation, self._conversation = self._conversation, None
        if conversation is None or self._visitor is None:
            return
        conversation.part()
        self._runtime.leave(self)
        self._visitor.account.leave()
        close = self._protocol.close_sent or self._protocol.close_rcvd  # ours first: it names what was wrong
        code, reason = self._ended or (close.code if close else 1006, "disconnect")
        seconds, session_id = monotonic() - self._began, conversation.session_id
        log.info("stream_closed", session_id=session_id, code=code, reason=reason, seconds=round(seconds, 3))
        metrics, model = self._runtime.metrics, self._visitor.model.bundle.manifest.name
        metrics.ws_closes.labels(code if code in _KNOWN_CODES else "other").inc()
        metrics.sessions.labels(model, reason).inc()
        metrics.session_seconds.labels(model).observe(seconds)

    def shutdown(self) -> None:
        """uvicorn stops; what there was to say has been said while the runtime drained."""
        self._transport.close()

    # --- the handshake --------------------------------------------------------------------------------------------

    def _open(self, request: Request) -> None:
        self.hold(True)  # who is not let in yet has nothing to say
        self._runtime.keeper.run(self._let_in(request))

    async def _let_in(self, request: Request) -> None:
        try:
            visitor = await admit(self._runtime, request)
        except Exception as error:
            # A bug, too, must not leave a socket behind that nobody reads, counts or times.
            problem = error if isinstance(error, PoselineError) else PoselineError(repr(error))
            log.info("stream_refused", code=problem.code, exc_info=None if error is problem else error)
            self._protocol.send_response(refusal(problem, request.path))
            self.flush()
            return
        response = self._protocol.accept(request)
        self._protocol.send_response(response)
        if response.status_code != 101 or self._lost:
            visitor.account.leave()
            self.flush()
            return
        codec = CODECS.get(self._protocol.subprotocol or "", JSON)
        self._opcode = TEXT if codec.text else BINARY
        self._visitor, self._conversation = visitor, Conversation(self._runtime, visitor, codec, self)
        self._runtime.enter(self)
        session_id = self._conversation.session_id
        log.info("stream_opened", session_id=session_id, subprotocol=codec.subprotocol, owner=visitor.owner)
        self.flush()
        self.hold(False)

    # --- messages -------------------------------------------------------------------------------------------------

    def _hear(self, frame: Frame) -> None:
        if self._conversation is None:  # it speaks before it was let in
            self.abandon()
            return
        self._alive = monotonic()
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY):
            self._text = frame.opcode is Opcode.TEXT
        elif frame.opcode is not Opcode.CONT:
            return
        self._fragments.append(bytes(frame.data))
        if frame.fin:
            message, self._fragments = b"".join(self._fragments), []
            self._receive(self._text, message)

    def _receive(self, text: bool, data: bytes) -> None:
        if self._ended is not None or self._conversation is None:
            return
        self._heard = self._alive
        self._conversation.receive(text, data)

    def send(self, message: bytes) -> None:
        if self._lost or self._protocol.state is not OPEN:
            return
        self._protocol.writes.append(framed(message, self._opcode))
        if not self._unwritten and self._visitor is not None:
            self._unwritten = True
            self._visitor.model.outlet.announce(self)

    def flush(self) -> None:
        self._unwritten = False
        writes = self._protocol.data_to_send()
        if self._lost:
            return
        if len(writes) > 1:
            self._transport.write(b"".join(writes))
        elif writes and writes[0]:
            self._transport.write(writes[0])
        if writes and not writes[-1]:  # an empty one is the end
            self._transport.close()

    # --- what the conversation asks for (`conversation.Line`) -----------------------------------------------------

    @property
    def open(self) -> bool:
        return not self._lost and self._ended is None

    @property
    def goodbye_heard(self) -> bool:
        return self._protocol.close_rcvd is not None

    def hold(self, on: bool) -> None:
        if on == self._paused or self._lost:
            return
        self._paused = on
        self._read_socket()
        if not on:
            self._heard = self._alive = monotonic()  # it was we who did not listen
            self._wait(bool(self._unread) and not self._waits)

    def _read_socket(self) -> None:
        """Or not, as long as there is a reason."""
        if self._lost or self._transport.is_closing():
            return
        if self._paused or self._waits:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def end(self, code: int, reason: str) -> None:
        if self._ended is not None:
            return
        self._ended, self._ended_at = (code, reason), monotonic()
        self.hold(False)  # to hear the other side's close frame
        if self._protocol.state is OPEN:
            self._protocol.send_close(code, reason)
        self.flush()

    # --- what the runtime asks for (`runtime.OpenStream`) ---------------------------------------------------------

    def drain(self, error: Draining) -> None:
        """The server goes away: what was accepted is still scored."""
        if self._conversation is not None and self._ended is None:
            self._conversation.drain(error)

    def abandon(self) -> None:
        """Leave at once, whatever is still to be sent."""
        self._ended = (1006, "abandoned")
        self._transport.abort()

    def tick(self, now: float) -> None:
        """To be called a few times a second, with the monotonic clock."""
        self._protocol.small_frames = 0
        if not self.writable and now - self._stuck_since > self._settings.idle_seconds:
            self.abandon()  # it does not read what it is told
            return
        if self._ended is not None:
            if now - self._ended_at > _CLOSE_SECONDS and self.writable:
                self._transport.abort()
            return
        assert self._conversation is not None  # it has entered
        self._conversation.tick(now)
        if self._paused:
            return  # it is we who do not listen
        if now - self._heard > self._settings.idle_seconds:
            self._conversation.cut(Silence(f"no message came for {self._settings.idle_seconds:g} seconds"))
        elif now - self._alive > 2 * _PING_SECONDS:
            self.end(1011, "ping_timeout")
        elif now - max(self._alive, self._pinged) > _PING_SECONDS:
            self._pinged = now
            self._protocol.send_ping(b"")
            self.flush()
