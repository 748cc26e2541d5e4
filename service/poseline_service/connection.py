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
from secrets import token_hex
from time import monotonic
from typing import Any, cast

from msgspec import UNSET, structs
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import CONNECTING, OPEN

from poseline import protocol
from poseline.codec import CODECS, JSON, Codec
from poseline.errors import Draining, PoselineError, UnknownMessage
from poseline_service.errors import (
    InvalidText,
    ModelChanged,
    OutOfOrder,
    SessionDeleted,
    Silence,
    Superseded,
    WrongData,
)
from poseline_service.frames import BINARY, HEAD, TEXT, RationedProtocol, frame_size, framed, is_utf8, take_messages
from poseline_service.handshake import SCOPE, admit, choose, refusal
from poseline_service.keeping import Holding, SavedSession
from poseline_service.logging import log
from poseline_service.outbox import Outbox
from poseline_service.principals import Account, Principal
from poseline_service.problems import close_code, error_message
from poseline_service.runtime import Runtime
from poseline_service.sessions import Session
from poseline_service.tracks import LoadedModel
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
    """An upgrade, the socket that it became, and the session that goes on over it."""

    def __init__(
        self, runtime: Runtime, *, server_state: Any, left: Callable[[], None] = lambda: None, **_: Any
    ) -> None:
        """left: hears that the connection is lost."""
        self._runtime, self._uncount = runtime, left
        self._settings = runtime.settings
        self._siblings: set[Any] = server_state.connections  # uvicorn waits for them when it stops
        self._protocol = RationedProtocol(max_size=self._settings.message_bytes, select_subprotocol=choose)
        self._codec: Codec = JSON
        self._principal: Principal | None = None
        self._account: Account | None = None
        self._model: LoadedModel | None = None
        self._session: Session | None = None
        self._holding: Holding | None = None
        self._parted = False
        """The session has left the connection, or is about to."""
        self._deleted = False
        """Its owner wants it gone."""
        self._unconfirmed: Holding | None = None
        """The client has not yet shown that it has its new token."""
        self._early: list[protocol.ClientMessage] | None = None
        """What came while the session that is resumed was on its way."""
        self._unread = b""
        """What came and was not yet its turn, or is not all of a frame."""
        self._waits = self._lost = False
        self._fragments: list[bytes] = []
        self._text = False
        self._paused = self._unwritten = False
        self.writable = True
        self._began = self._heard = self._pinged = monotonic()
        self._alive = self._looked_at = self._began
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
        if self._model is not None:
            self._model.intake.hurry()
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
        if self._session is not None:
            self._session.advance()

    def connection_lost(self, exc: Exception | None) -> None:
        self._siblings.discard(self)
        self._uncount()
        self._lost = self.writable = True  # nobody need read any more what is said
        if self._model is None:
            return
        self._part()
        self._runtime.leave(self)
        assert self._account is not None  # it came with the model
        self._account.leave()
        close = self._protocol.close_sent or self._protocol.close_rcvd  # ours first: it names what was wrong
        code, reason = self._ended or (close.code if close else 1006, "disconnect")
        seconds = monotonic() - self._began
        log.info(
            "stream_closed", session_id=self._outbox.session_id, code=code, reason=reason, seconds=round(seconds, 3)
        )
        metrics, model = self._runtime.metrics, self._model.bundle.manifest.name
        metrics.ws_closes.labels(code if code in _KNOWN_CODES else "other").inc()
        metrics.sessions.labels(model, reason).inc()
        metrics.session_seconds.labels(model).observe(seconds)

    def _part(self) -> None:
        """The session is kept for whoever comes back, unless the other side knows that it is over."""
        session, holding, keeper = self._session, self._holding, self._runtime.keeper
        if session is None or holding is None or self._parted:
            return
        if session.over and self._protocol.close_rcvd is not None:
            self._forget()
        else:
            self._parted = True
            session.park(partial(keeper.leave, holding.name))

    def _forget(self) -> None:
        """The session is over, and nobody will come back."""
        assert self._session is not None
        assert self._holding is not None
        self._parted = True
        self._session.close()
        self._holding.forget()
        self._runtime.keeper.leave(self._holding.name)

    def shutdown(self) -> None:
        """uvicorn stops; what there was to say has been said while the runtime drained."""
        self._transport.close()

    # --- the handshake --------------------------------------------------------------------------------------------

    def _open(self, request: Request) -> None:
        self.hold(True)  # who is not let in yet has nothing to say
        self._runtime.keeper.run(self._let_in(request))

    async def _let_in(self, request: Request) -> None:
        try:
            model, principal = await admit(self._runtime, request)
            account = self._runtime.access.account(principal)
            account.enter()
        except PoselineError as error:
            log.info("stream_refused", code=error.code)
            self._protocol.send_response(refusal(error, request.path))
            self.flush()
            return
        response = self._protocol.accept(request)
        self._protocol.send_response(response)
        if response.status_code != 101 or self._lost:
            account.leave()
            self.flush()
            return
        self._model, self._principal, self._account = model, principal, account
        self._codec = CODECS.get(self._protocol.subprotocol or "", JSON)
        self._outbox = Outbox("ses_" + token_hex(16), self._codec, self._send)
        self._runtime.enter(self)
        self._looked_at = monotonic()
        session_id, subprotocol = self._outbox.session_id, self._codec.subprotocol
        log.info("stream_opened", session_id=session_id, subprotocol=subprotocol, owner=principal.owner)
        self.flush()
        self.hold(False)

    # --- messages -------------------------------------------------------------------------------------------------

    def _hear(self, frame: Frame) -> None:
        if self._model is None:  # it speaks before it was let in
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
        if self._ended is not None:
            return
        self._heard = self._alive
        try:
            if text != self._codec.text:
                came, expected = ("text", "binary") if text else ("binary", "text")
                raise WrongData(f"a {came} message came, {self._codec.subprotocol} is {expected}")
            if text and not is_utf8(data):
                raise InvalidText("the message is not UTF-8")
            message = self._codec.decode_client(data)
            if self._session is not None:
                self._session.receive(message)
                if self._unconfirmed is not None:
                    self._unconfirmed.confirm()
                    self._unconfirmed = None
            elif self._early is not None:
                self._early.append(message)
            elif isinstance(message, protocol.SessionClose):
                self.end(1000, "client")
            else:
                self._start(message)
        except UnknownMessage as error:  # a newer client: it learns that this server cannot, and goes on
            if self._session is None or self._session.over is None:  # else its last word has been said
                self._outbox.post(error_message(error, fatal=False))
        except PoselineError as error:
            self._refuse(error)

    def _start(self, message: protocol.ClientMessage) -> None:
        if not isinstance(message, protocol.SessionStart):
            raise OutOfOrder("the first message must be session.start")
        keeper = self._runtime.keeper
        if message.resume is not UNSET:
            self._early = []
            self.hold(True)
            keeper.run(self._resume(message.resume))
        else:
            self._go_on(message, keeper.begin(self._outbox.session_id, self._owner), None)

    def _go_on(self, start: protocol.SessionStart, holding: Holding, saved: SavedSession | None) -> None:
        assert self._model is not None  # the upgrade was granted
        assert self._account is not None
        self._outbox.copy = self._runtime.webhooks.of_session(start.webhooks, self._outbox.session_id, self._owner)
        metrics, spend = self._runtime.metrics, self._account.spend
        self._session = Session(start, self._model, self._settings, metrics, self._outbox, self, holding, spend, saved)
        self._holding = self._unconfirmed = holding
        self._runtime.keeper.enter(holding, self)

    @property
    def _owner(self) -> str:
        assert self._principal is not None  # the upgrade was granted
        return self._principal.owner

    async def _resume(self, asked: protocol.Resume) -> None:
        resumes = self._runtime.metrics.resumes
        try:
            holding, saved = await self._runtime.keeper.resume(asked, self._owner)
            if self._lost or self._ended is not None:
                return  # nothing has changed: it waits for the next to come
            self._take_over(holding, saved, asked.last_server_seq)
            resumes.labels("resumed").inc()
        except PoselineError as error:
            resumes.labels(error.code).inc()
            self._refuse(error)
        finally:
            early, self._early = self._early or [], None
            if not self._lost:
                self.hold(False)
        for message in early:
            if self._session is not None:
                self._session.receive(message)

    def _take_over(self, holding: Holding, saved: SavedSession, heard: int) -> None:
        """Raises ModelChanged, WrongData, Overloaded, StateError."""
        assert self._model is not None
        if saved.digest != self._model.bundle.digest:
            raise ModelChanged("another model answers here now; it cannot go on with this session")
        if saved.subprotocol != self._codec.subprotocol:
            raise WrongData(f"the session speaks {saved.subprotocol}, this connection {self._codec.subprotocol}")
        self._outbox = Outbox(saved.session_id, self._codec, self._send, saved.outbox)
        self._go_on(saved.start, holding, saved)
        session = self._session
        assert session is not None
        self._outbox.again(session.started(), heard)
        log.info("stream_resumed", session_id=saved.session_id)
        if session.over:
            self.end(*session.over)

    def _refuse(self, error: PoselineError) -> None:
        """What the client did ends its stream; what came before it was good, and is finished."""
        if self._session is not None:
            self._session.end("close", error)
        else:
            self._outbox.post(error_message(error, fatal=True))
            self.end(close_code(error), error.code)

    def _send(self, message: bytes) -> None:
        if self._lost or self._protocol.state is not OPEN:
            return
        self._protocol.writes.append(framed(message, TEXT if self._codec.text else BINARY))
        if not self._unwritten and self._model is not None:
            self._unwritten = True
            self._model.outlet.announce(self)

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

    # --- what the session and the runtime ask for -----------------------------------------------------------------

    def supersede(self) -> None:
        """Somebody resumes the session over another connection."""
        self._cut(Superseded("this session goes on over another connection"))

    def status(self) -> protocol.SessionStatus:
        """What its owner may see of the session, the newest finals included."""
        assert self._session is not None  # it is entered with its session
        return structs.replace(self._session.status(), finals=self._outbox.finals)

    def delete(self) -> None:
        """The session's owner does not want it any more: what was accepted is told, and nothing is kept."""
        assert self._session is not None
        self._deleted = True
        self._session.end("close", SessionDeleted("this session was deleted"))

    def _cut(self, error: PoselineError) -> None:
        """Leave the connection; the session is kept."""
        if self._session is None or self._holding is None:
            self._refuse(error)
            return
        ended = self._session.over  # then its last word has been said, and is only on its way to the store
        if ended is None:
            self._outbox.farewell(error_message(error, fatal=True))
        self._part()
        self.end(*(ended or (close_code(error), error.code)))

    def leave(self, error: PoselineError) -> None:
        """Once what was accepted is scored, leave the connection for that reason; the session is kept."""
        assert self._session is not None  # it asks
        self._parted = True
        self._session.park(partial(self._left, error))

    def _left(self, error: PoselineError) -> None:
        self._outbox.farewell(error_message(error, fatal=True))
        self._drained(close_code(error), error.code)

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
        """Close the socket once everything posted has left."""
        if self._ended is not None:
            return
        self._ended, self._ended_at = (code, reason), monotonic()
        if self._deleted and not self._parted:
            self._forget()
        self.hold(False)  # to hear the other side's close frame
        if self._protocol.state is OPEN:
            self._protocol.send_close(code, reason)
        self.flush()

    def drain(self, error: Draining) -> None:
        """The server goes away: what was accepted is still scored."""
        if self._ended is not None:
            return
        deadline, resume = self._settings.drain_seconds, self._runtime.keeper.durable and self._session is not None
        going = protocol.SessionDraining(deadline=deadline, resume=resume, retry_after=error.retry_after)
        self._outbox.post(going)
        if self._session is None:
            self.end(close_code(error), error.code)
        elif resume:  # another server goes on where this one stops
            self._parted = True
            self._session.park(partial(self._drained, close_code(error), error.code))
        else:
            self._session.end("drain", error)

    def _drained(self, code: int, reason: str) -> None:
        assert self._holding is not None
        self._runtime.keeper.leave(self._holding.name)
        self.end(code, reason)

    def _look_again(self, now: float) -> None:
        """A credential may have expired, or have been withdrawn, while the stream went on."""
        assert self._principal is not None
        self._looked_at = now
        try:
            self._runtime.access.check_still(self._principal, SCOPE)
        except PoselineError as error:
            self._cut(error)

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
        if self._session is None:
            if now - self._began > self._settings.start_seconds:
                self._refuse(Silence(f"no session.start came within {self._settings.start_seconds:g} seconds"))
            return
        self._session.tick(now)
        if now - self._looked_at > self._settings.recheck_seconds:
            self._look_again(now)
        if self._paused:
            return  # it is we who do not listen
        if now - self._heard > self._settings.idle_seconds:
            self._cut(Silence(f"no message came for {self._settings.idle_seconds:g} seconds"))
        elif now - self._alive > 2 * _PING_SECONDS:
            self.end(1011, "ping_timeout")
        elif now - max(self._alive, self._pinged) > _PING_SECONDS:
            self._pinged = now
            self._protocol.send_ping(b"")
            self.flush()
