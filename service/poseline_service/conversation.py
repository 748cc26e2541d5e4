"""What is said over one connection: the messages, the session that they begin or go on with, and how the two part.

A session outlives the connection (`keeping`), so they part in several ways: the line broke, the client is silent, its
credential has expired, another connection resumes the session, the server goes, its owner deletes it. Each leaves the
session saved, ended or forgotten, and the socket closed with a code that tells the client what to do. How messages travel
is `connection`'s affair.
"""

from __future__ import annotations

from functools import partial
from secrets import token_hex
from time import monotonic
from typing import Protocol

from msgspec import UNSET

from poseline import protocol
from poseline.codec import Codec
from poseline.errors import Draining, PoselineError, UnknownMessage
from poseline.pose import PoseSequence
from poseline_service.errors import (
    InvalidText,
    ModelChanged,
    OutOfOrder,
    SessionDeleted,
    Silence,
    Superseded,
    WrongData,
)
from poseline_service.frames import is_utf8
from poseline_service.handshake import SCOPE, Visitor
from poseline_service.keeping import Holding, SavedSession
from poseline_service.logging import log
from poseline_service.outbox import Outbox
from poseline_service.problems import close_code, error_message
from poseline_service.runtime import Runtime
from poseline_service.sessions import Session


class Line(Protocol):
    """The socket, as far as a conversation cares."""

    @property
    def writable(self) -> bool:
        """The client takes what it is told."""
        ...

    @property
    def open(self) -> bool:
        """It is neither lost nor about to be closed."""
        ...

    @property
    def goodbye_heard(self) -> bool:
        """The other side has closed it, and so knows how the session went."""
        ...

    def send(self, message: bytes) -> None: ...

    def hold(self, on: bool) -> None:
        """Read no further until told to go on."""
        ...

    def end(self, code: int, reason: str) -> None:
        """Close it once everything that was sent has left."""
        ...

    def abandon(self) -> None:
        """Leave at once, whatever is still to be sent."""
        ...


class Conversation:
    """One visitor's, by one codec. `session_id` names it until a session that is resumed gives it its own name."""

    def __init__(self, runtime: Runtime, visitor: Visitor, codec: Codec, line: Line) -> None:
        self._runtime, self._settings = runtime, runtime.settings
        self._visitor = visitor
        self._codec = codec
        self._line = line
        self._outbox = Outbox("ses_" + token_hex(16), codec, line.send)
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
        self._began = self._looked_at = monotonic()

    @property
    def session_id(self) -> str:
        return self._outbox.session_id

    # --- messages -------------------------------------------------------------------------------------------------

    def receive(self, text: bool, data: bytes) -> None:
        """One message, as it came. What is wrong with it ends the session."""
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

    def advance(self) -> None:
        """The client reads again what it is told."""
        if self._session is not None:
            self._session.advance()

    def _start(self, message: protocol.ClientMessage) -> None:
        if not isinstance(message, protocol.SessionStart):
            raise OutOfOrder("the first message must be session.start")
        keeper = self._runtime.keeper
        if message.resume is not UNSET:
            self._early = []
            self.hold(True)
            keeper.run(self._resume(message.resume))
        else:
            self._go_on(message, keeper.begin(self.session_id, self._visitor.owner), None)

    def _go_on(self, start: protocol.SessionStart, holding: Holding, saved: SavedSession | None) -> Session:
        visitor, runtime = self._visitor, self._runtime
        self._outbox.copy = runtime.webhooks.of_session(start.webhooks, self.session_id, visitor.owner)
        model, metrics, spend = visitor.model, runtime.metrics, visitor.account.spend
        session = Session(
            start,
            model,
            self._settings,
            metrics,
            self._outbox,
            self,
            holding,
            spend,
            runtime.captures,
            runtime.remembrance,
            saved,
        )
        self._session, self._holding, self._unconfirmed = session, holding, holding
        runtime.keeper.enter(holding, self)
        return session

    async def _resume(self, asked: protocol.Resume) -> None:
        resumes = self._runtime.metrics.resumes
        try:
            holding, saved = await self._runtime.keeper.resume(asked, self._visitor.owner)
            if not self._line.open:
                return  # nothing has changed: it waits for the next to come
            self._take_over(holding, saved, asked.last_server_seq)
            resumes.labels("resumed").inc()
        except PoselineError as error:
            resumes.labels(error.code).inc()
            self._refuse(error)
        finally:
            early, self._early = self._early or [], None
            self.hold(False)
        for message in early:
            if self._session is not None:
                self._session.receive(message)

    def _take_over(self, holding: Holding, saved: SavedSession, heard: int) -> None:
        """Raises ModelChanged, WrongData, Overloaded, StateError."""
        if saved.digest != self._visitor.model.bundle.digest:
            raise ModelChanged("another model answers here now; it cannot go on with this session")
        if saved.subprotocol != self._codec.subprotocol:
            raise WrongData(f"the session speaks {saved.subprotocol}, this connection {self._codec.subprotocol}")
        self._outbox = Outbox(saved.session_id, self._codec, self._line.send, saved.outbox)
        session = self._go_on(saved.start, holding, saved)
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

    # --- what the session asks for (`sessions.Link`) --------------------------------------------------------------

    @property
    def writable(self) -> bool:
        return self._line.writable

    def hold(self, on: bool) -> None:
        self._line.hold(on)

    def leave(self, error: PoselineError) -> None:
        """Once what was accepted is scored, leave the connection for that reason; the session is kept."""
        assert self._session is not None  # it asks
        self._parted = True
        self._session.park(partial(self._left, error))

    def _left(self, error: PoselineError) -> None:
        self._outbox.farewell(error_message(error, fatal=True))
        self._saved(error)

    def end(self, code: int, reason: str) -> None:
        """Close the socket once everything posted has left."""
        if not self._line.open:
            return
        if self._deleted and not self._parted:
            self._forget()
        self._line.end(code, reason)

    # --- how the two part -----------------------------------------------------------------------------------------

    def part(self) -> None:
        """The session is kept for whoever comes back, unless the other side knows that it is over."""
        session = self._session
        if session is None or self._parted:
            return
        if self._deleted or (session.over and self._line.goodbye_heard):
            self._forget()
        else:
            self._parted = True
            session.park(self._let_go)

    def _forget(self) -> None:
        """The session is over, and nobody will come back."""
        assert self._session is not None
        assert self._holding is not None
        self._parted = True
        self._session.close()
        self._holding.forget()
        self._let_go()

    def _let_go(self) -> None:
        """The session goes on here no more. What it holds is free at once: a cycle would wait for a rare search."""
        assert self._holding is not None
        self._runtime.keeper.leave(self._holding)
        self._session = self._unconfirmed = None

    def cut(self, error: PoselineError) -> None:
        """Leave the connection; the session is kept."""
        if self._session is None or self._holding is None:
            self._refuse(error)
            return
        ended = self._session.over  # then its last word has been said, and is only on its way to the store
        if ended is None:
            self._outbox.farewell(error_message(error, fatal=True))
        self.part()
        self.end(*(ended or (close_code(error), error.code)))

    def drain(self, error: Draining) -> None:
        """The server goes away: what was accepted is still scored."""
        deadline, resume = self._settings.drain_seconds, self._runtime.keeper.durable and self._session is not None
        going = protocol.SessionDraining(deadline=deadline, resume=resume, retry_after=error.retry_after)
        self._outbox.post(going)
        if self._session is None:
            self.end(close_code(error), error.code)
        elif resume:  # another server goes on where this one stops
            self._parted = True
            self._session.park(partial(self._saved, error))
        else:
            self._session.end("drain", error)

    def _saved(self, error: PoselineError) -> None:
        self._let_go()
        self.end(close_code(error), error.code)

    def tick(self, now: float) -> None:
        """To be called a few times a second, with the monotonic clock."""
        if self._session is None:
            if now - self._began > self._settings.start_seconds:
                self._refuse(Silence(f"no session.start came within {self._settings.start_seconds:g} seconds"))
            return
        self._session.tick(now)
        if now - self._looked_at > self._settings.recheck_seconds:
            self._look_again(now)

    def _look_again(self, now: float) -> None:
        """A credential may have expired, or have been withdrawn, while the stream went on."""
        self._looked_at = now
        try:
            self._runtime.access.check_still(self._visitor.principal, SCOPE)
        except PoselineError as error:
            self.cut(error)

    # --- what others ask for (`keeping.Holder`) -------------------------------------------------------------------

    def supersede(self) -> None:
        """Somebody resumes the session over another connection."""
        self.cut(Superseded("this session goes on over another connection"))

    def status(self) -> protocol.SessionStatus:
        assert self._session is not None  # it is entered with its session
        return self._session.status()

    @property
    def finals(self) -> list[protocol.SegmentFinal]:
        return self._outbox.finals

    def remembered(self, track_id: str) -> PoseSequence:
        assert self._session is not None
        return self._session.remembered(track_id)

    def delete(self) -> None:
        """The session's owner does not want it any more: what was accepted is told, and nothing is kept."""
        assert self._session is not None
        self._deleted = True
        self._session.end("close", SessionDeleted("this session was deleted"))

    def abandon(self) -> None:
        self._line.abandon()
