"""`/v1/stream`: one WebSocket, from the door to its close code.

Whoever cannot be served is refused before the upgrade, by HTTP. After it three things go on side by side: a reader that
decodes messages and drives the `Session`, a writer that empties the outbox, and a future through which the engine's
failure or the server's shutdown interrupts. The first to end decides how the stream ends. The reader stops reading
while the session has no room: a client that sends faster than the network runs is slowed, never dropped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from secrets import token_hex
from time import monotonic

import structlog
from starlette.websockets import WebSocket, WebSocketDisconnect

from poseline import protocol
from poseline.errors import Draining, EngineFailure, PoselineError, TooLarge, UnknownMessage
from poseline.segments import Forced
from poseline_service.errors import BinaryMessage, OutOfOrder, Silence, UnsupportedSubprotocol
from poseline_service.logging import log
from poseline_service.outbox import Outbox
from poseline_service.problems import close_code, error_message, problem_response
from poseline_service.runtime import Runtime
from poseline_service.sessions import Session
from poseline_service.tracks import LoadedModel


async def stream(socket: WebSocket) -> None:
    """The route's handler."""
    runtime: Runtime = socket.app.state.runtime
    try:
        model = runtime.admit(stream=True).named(socket.query_params.get("model", "default"))
        offered = socket.scope["subprotocols"]
        if offered and protocol.SUBPROTOCOL not in offered:
            raise UnsupportedSubprotocol(f"subprotocols {', '.join(offered)} offered, expected {protocol.SUBPROTOCOL}")
    except PoselineError as error:
        log.info("stream_refused", code=error.code)
        await socket.send_denial_response(problem_response(error, socket.url.path, token_hex(8)))
        return
    connection = _Connection(socket, runtime, model)
    runtime.enter(connection)  # before the first await: the door counts whoever has passed it
    try:
        await socket.accept(subprotocol=protocol.SUBPROTOCOL if offered else None)
        await connection.run()
    finally:
        runtime.leave(connection)


class _Connection:
    """An accepted socket and what goes on over it."""

    def __init__(self, socket: WebSocket, runtime: Runtime, model: LoadedModel) -> None:
        self._socket = socket
        self._runtime = runtime
        self._settings = runtime.settings
        self._model = model
        self._outbox = Outbox("ses_" + token_hex(16))
        self._session: Session | None = None
        self._interrupt: asyncio.Future[PoselineError] = asyncio.get_running_loop().create_future()
        self._failure: EngineFailure | None = None
        self._all_posted = False
        self._patience = asyncio.timeout(None)
        self._began = monotonic()

    def interrupt(self, error: PoselineError) -> None:
        """End the stream from outside: the engine failed, or the server drains."""
        if isinstance(error, EngineFailure):
            self._failure = error
        if not self._interrupt.done():
            self._interrupt.set_result(error)
        self._outbox.changes.notify()

    def abandon(self) -> None:
        """Leave at once: the client does not read what is still to be sent."""
        with suppress(RuntimeError):  # it is just leaving by itself
            self._patience.reschedule(asyncio.get_running_loop().time())

    async def run(self) -> None:
        structlog.contextvars.bind_contextvars(session_id=self._outbox.session_id)
        log.info("stream_opened")
        writer = asyncio.create_task(self._write())
        reader = asyncio.create_task(self._read())
        try:
            async with self._patience:
                code, reason = await self._conduct(reader, writer)
                self._all_posted = True
                self._outbox.changes.notify()
                await writer
                await self._socket.close(code, reason)
        except WebSocketDisconnect as gone:
            code, reason = gone.code, "disconnect"
        except TimeoutError:
            code, reason = 1006, "abandoned"
        finally:
            if self._session:
                self._session.close()
            for task in (reader, writer):
                task.cancel()
            await asyncio.gather(reader, writer, return_exceptions=True)
        self._count(code, reason)

    def _count(self, code: int, reason: str) -> None:
        seconds = monotonic() - self._began
        log.info("stream_closed", code=code, reason=reason, seconds=round(seconds, 3))
        metrics, model = self._runtime.metrics, self._model.bundle.manifest.name
        metrics.ws_closes.labels(code).inc()
        metrics.sessions.labels(model, reason).inc()
        metrics.session_seconds.labels(model).observe(seconds)

    # --- how it ends ----------------------------------------------------------------------------------------------

    async def _conduct(self, reader: asyncio.Task[None], writer: asyncio.Task[None]) -> tuple[int, str]:
        """Until the stream has come to an end and its last message is posted: close code and reason."""
        try:
            await asyncio.wait({reader, writer, self._interrupt}, return_when=asyncio.FIRST_COMPLETED)
            if writer.done():
                writer.result()  # only a dead socket ends the writer before the end
            if self._interrupt.done():
                reader.cancel()
                await asyncio.wait({reader})
                return await self._give_way(self._interrupt.result())
            return await self._goodbye(reader)
        except PoselineError as error:
            self._outbox.post(error_message(error, fatal=True))
            return close_code(error), error.code

    async def _goodbye(self, reader: asyncio.Task[None]) -> tuple[int, str]:
        """The client has closed, has been silent, or has sent what cannot be used."""
        try:
            reader.result()
        except EngineFailure:
            raise
        except PoselineError:  # what came before it was good: every segment that began ends before the error
            await self._finish("close")
            raise
        await self._finish("close")
        if self._session:
            self._session.post_totals()
        return 1000, "client"

    async def _give_way(self, error: PoselineError) -> tuple[int, str]:
        """The server drains: what was accepted is still scored. The engine failed: nothing can be."""
        if not isinstance(error, Draining):
            raise error
        deadline = self._settings.drain_seconds
        self._outbox.post(
            protocol.SessionDraining(deadline=deadline, resume=False, retry_after=self._settings.retry_after)
        )
        await self._finish("drain")
        if self._session:
            self._session.post_totals()
        return close_code(error), error.code

    async def _finish(self, forced: Forced) -> None:
        """Score what was accepted and end every track."""
        if self._session:
            await self._until(self._session.idle)
            self._session.finish(forced)

    async def _until(self, ready: Callable[[], bool]) -> None:
        """Raises the engine's failure, should it fail meanwhile."""
        await self._outbox.changes.until(lambda: self._failure is not None or ready())
        if self._failure is not None:
            raise self._failure

    # --- the socket -----------------------------------------------------------------------------------------------

    async def _write(self) -> None:
        """Send what is posted, in order, until all is posted and sent."""
        outbox = self._outbox
        while True:
            await outbox.changes.until(lambda: len(outbox) > 0 or self._all_posted)
            if not len(outbox):
                return
            await self._socket.send_text(protocol.encode(outbox.first()).decode())
            outbox.sent()

    async def _hear(self, until: float) -> protocol.ClientMessage | None:
        """The next message, or None at the moment `until` (monotonic). Raises WebSocketDisconnect and what is wrong."""
        try:
            async with asyncio.timeout(max(0.0, until - monotonic())):
                event = await self._socket.receive()
        except TimeoutError:
            return None
        if event["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(event.get("code", 1005), event.get("reason"))
        if (text := event.get("text")) is None:
            raise BinaryMessage(f"a binary message came, {protocol.SUBPROTOCOL} is text")
        return protocol.decode_client(text)

    async def _read(self) -> None:
        """Drive the session by what the client sends, until it closes or something is wrong."""
        session = self._session = await self._start()
        heard = monotonic()
        while True:
            silence = heard + self._settings.idle_seconds
            ack_due = session.ack_due()
            try:
                message = await self._hear(silence if ack_due is None else min(ack_due, silence))
            except UnknownMessage as error:  # a newer client: it learns that this server cannot, and goes on
                self._outbox.post(error_message(error, fatal=False))
                heard = monotonic()
                continue
            if message is not None:
                heard = monotonic()
                if not await self._handle(session, message):
                    return
            elif monotonic() >= silence:
                raise Silence(f"no message came for {self._settings.idle_seconds:g} seconds")
            if (due := session.ack_due()) is not None and due <= monotonic():
                session.ack()

    async def _start(self) -> Session:
        message = await self._hear(monotonic() + self._settings.start_seconds)
        if message is None:
            raise Silence(f"no session.start came within {self._settings.start_seconds:g} seconds")
        if not isinstance(message, protocol.SessionStart):
            raise OutOfOrder("the first message must be session.start")
        return Session(message, self._model, self._settings, self._runtime.metrics, self._outbox, fail=self.interrupt)

    async def _handle(self, session: Session, message: protocol.ClientMessage) -> bool:
        """Carry out one message; False when it was the last."""
        match message:
            case protocol.Frames():
                await self._push(session, message)
            case protocol.Flush():
                await self._until(session.idle)
                session.flush(message.track_id)
            case protocol.Keepalive():
                pass
            case protocol.SessionClose():
                return False
            case protocol.SessionStart():
                raise OutOfOrder("a second session.start came; a session starts once")
        return True

    async def _push(self, session: Session, message: protocol.Frames) -> None:
        limit = self._settings.frames_per_message
        if len(message.frames) > limit:
            what = f"a message holds {len(message.frames)} frames, the limit is {limit}"
            raise TooLarge(what, param="frames", code="too_many_frames")
        for number, frame in enumerate(message.frames, message.seq):
            if session.absent(frame.t):
                await self._until(session.idle)
            session.push(frame, number)
            await self._until(session.has_room)
