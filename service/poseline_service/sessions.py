"""One stream: what its client asks for, step by step. Sans-IO, on the event loop.

Client messages enter in order and become *steps*: a frame that arrived, a flush, other options, the end. A step waits until
it can be done: a frame until the intake has read it and there is room for it, whatever closes segments or changes how they
are decided (a flush, other options, the end, a frame that finds somebody absent) until everything before it is scored. While
steps wait, the socket is held, unless the client chose otherwise (`overload`). What comes from the engine arrives through
the tracks and may let waiting steps go on. Who is in it stands in its `roster`. Everything that the client is to know
goes to the outbox.

`close` gives every lane back at any time. A failed engine ends the stream at once; any other end comes after all that was
accepted is scored, and ends every open segment.

A session outlives its connection: it is *saved* when that has broken, as one more step, and made again from what was saved
when its client comes back (`keeping`). Where states are kept outside this process, it is saved now and then besides: what is
acknowledged, and every final that is told, is then in a state that the next server can go on with.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf
from time import monotonic
from typing import Any, Protocol

from msgspec import UNSET, structs

from poseline import protocol
from poseline.errors import (
    BadTimestamps,
    Draining,
    EngineFailure,
    InputError,
    MalformedMessage,
    PoselineError,
    TooLarge,
)
from poseline.pose import PoseSequence
from poseline.segments import Forced, SegmentEvent
from poseline.translation import coordinates_of, layout_of
from poseline_service.account import Account
from poseline_service.capturing import Captures, SessionCapture
from poseline_service.clock import MediaClock
from poseline_service.errors import OutOfOrder, RateLimited, SessionDeleted, Superseded, TooFast
from poseline_service.intake import Arrival
from poseline_service.keeping import Holding, SavedSession
from poseline_service.metrics import Metrics
from poseline_service.options import SessionOptions
from poseline_service.outbox import Outbox
from poseline_service.overload import TokenBucket, take_oldest
from poseline_service.people import People
from poseline_service.problems import close_code, error_message
from poseline_service.remembering import Remembrance
from poseline_service.roster import Roster
from poseline_service.settings import ServiceSettings
from poseline_service.tracks import LATEST, LoadedModel, Track, no_scale, notices
from poseline_service.workers import Told

_RENEWALS = 4
"""Saves in the time for which a state is kept, where nothing else asks for one: the store may fail at some of them."""


_CAPTURE_OFF = protocol.Notice(
    "capture_off", "this server keeps no poses; the session goes on, and nothing of it is kept"
)


class Link(Protocol):
    """The socket, as far as a session cares."""

    @property
    def writable(self) -> bool:
        """The client takes what it is told."""
        ...

    def hold(self, on: bool) -> None:
        """Read no further until told to go on."""
        ...

    def leave(self, error: PoselineError) -> None:
        """Park the session, and then close the socket for that reason."""
        ...

    def end(self, code: int, reason: str) -> None:
        """Close the socket once everything posted has left."""
        ...


@dataclass(frozen=True, slots=True)
class _Flush:
    track_id: str | None


@dataclass(frozen=True, slots=True)
class _Update:
    options: Any


@dataclass(frozen=True, slots=True)
class _Save:
    pass


@dataclass(frozen=True, slots=True)
class _Leave:
    error: TooFast


@dataclass(frozen=True, slots=True)
class _End:
    forced: Forced
    code: int
    reason: str
    error: PoselineError | None = None


_Step = Arrival | _Flush | _Update | _Save | _Leave | _End


class Session:
    """A started stream, or one that goes on from `saved`. Raises on construction whatever is wrong with `session.start`; and
    Overloaded or StateError where what was saved cannot go on here."""

    def __init__(
        self,
        start: protocol.SessionStart,
        model: LoadedModel,
        settings: ServiceSettings,
        metrics: Metrics,
        outbox: Outbox,
        link: Link,
        holding: Holding,
        spend: Callable[[int], None],
        captures: Captures | None,
        remembrance: Remembrance,
        saved: SavedSession | None = None,
    ) -> None:
        self._spend = spend
        self._model = model.named(start.model)
        self._settings = settings
        self._metrics = metrics
        self._outbox = outbox
        self._link = link
        self._manifest = manifest = model.bundle.manifest
        if start.layout is UNSET:
            raise MalformedMessage("session.start lacks its layout", param="layout", code="invalid_message")
        if start.fps is not None and not start.fps > 0:
            raise InputError(f"fps is {start.fps:g}, expected more than 0", param="fps")
        self._layout = layout_of(start.layout)
        self.converter = model.converter(self._layout, coordinates_of(start.coordinates))
        refused = start.options.capture and captures is None
        choice = structs.replace(start.options, capture=False) if refused else start.options
        self._options = SessionOptions(choice, model.vocabulary)
        self._capture: SessionCapture | None = None
        if captures is not None and choice.capture:
            self._capture = captures.of(outbox.session_id, holding.owner, model.vocabulary, self._model.bundle.digest)
        self._intake = model.intake
        blocks = self._options.on_overload == "block"
        self._room = settings.queue_frames if blocks else settings.queue_frames // 2
        """Grid frames that may be pending; and, unless it blocks, steps that may wait."""
        fails = self._options.on_overload == "fail"
        self._allowance = TokenBucket(settings.frames_per_second, monotonic()) if fails else None

        self.unread: list[Arrival] = []
        self._steps: deque[_Step] = deque()
        self._held = False
        self._ending = self._failed = False
        self._pending = 0

        self._start = start
        self._holding = holding
        self._created = saved.status.created if saved else datetime.now(UTC)
        self._to_save = self._saving = False
        """A state is to be saved; one is on its way to the store."""
        self._renew_at = -inf
        """When it is to be saved though nothing has happened: what a store keeps expires, also while the session is open."""
        self._parting: Callable[[], None] | None = None
        """The connection is gone, or is to go: whom to tell when the session is saved."""
        self.over: tuple[int, str] | None = saved.over if saved else None
        """How the session ended (close code, reason), once all that there was to say has been posted."""
        gap_reset = self._options.gap_reset
        clock = MediaClock(gap_reset, start.fps, saved.books.clock if saved else None)
        self._account = Account(settings, manifest.fps, outbox.post, clock, saved.books if saved else None)
        self._people = People(
            self.converter.coordinates,
            gap_reset,
            settings.tracks_per_session,
            outbox.post,
            self._account.warn,
            saved.people if saved else None,
        )
        self._resumed = saved is not None
        self._done_with = self._account.client_seq
        if holding.durable:
            outbox.commit = self._commit
        limit = settings.tracks_per_session
        self._roster = Roster(
            self._model, self._options, limit, metrics, outbox.post, self, saved, self._capture, remembrance
        )
        if not saved:
            outbox.post(self.started())
            for notice in notices(self.converter, manifest.layout):
                self._warn(notice)
            if refused:
                self._warn(_CAPTURE_OFF)

    # --- what comes from the client -------------------------------------------------------------------------------

    def receive(self, message: protocol.ClientMessage) -> None:
        """Carry out a message, now or as soon as it can be. What is wrong with it ends the session."""
        if self._ending:
            return
        try:
            if type(message) is protocol.Frames:
                self._receive_frames(message.seq, message.frames)
            else:
                self._receive(message)
        except (InputError, RateLimited) as error:
            self.end("close", error)

    def _receive(self, message: protocol.ClientMessage) -> None:
        match message:
            case protocol.Flush():
                self._steps.append(_Flush(message.track_id))
                self.advance()
            case protocol.SessionUpdate():
                self._steps.append(_Update(message.options))
                self.advance()
            case protocol.SessionClose():
                self.end("close")
            case protocol.SessionStart():
                raise OutOfOrder("a second session.start came; a session starts once")
            case _:
                pass  # a keepalive

    def end(self, forced: Forced, error: PoselineError | None = None) -> None:
        """End the stream once everything accepted is scored. `drain` drops what waits and has not been accepted."""
        if self._ending:
            return
        self._ending = True
        if forced == "drain":
            self._drop_steps()
            self.unread = []
        code, reason = (1000, "client") if error is None else (close_code(error), error.code)
        self._steps.append(_End(forced, code, reason, error))
        self.advance()

    def refuse(self, arrival: Arrival, error: InputError) -> None:
        """The intake could not read this arrival: what came before it was good, and nothing after it counts."""
        if arrival not in self._steps:  # dropped meanwhile
            return
        while self._steps.pop() is not arrival:
            pass
        self._ending = False
        self.end("close", error)

    def _receive_frames(self, seq: int, frames: list[protocol.Frame]) -> None:
        """Raises BadTimestamps, TooLarge, MalformedMessage, QuotaExceeded; the frames before the one at fault are
        received."""
        limit = self._settings.frames_per_message
        if len(frames) > limit:
            what = f"a message holds {len(frames)} frames, the limit is {limit}"
            raise TooLarge(what, param="frames", code="too_many_frames")
        self._spend(max(0, seq + len(frames) - max(seq, self._done_with + 1)))
        for number, frame in enumerate(frames, seq):
            if number <= self._done_with:  # sent again after a resume
                self._drop("duplicate_frame")
                continue
            self._check(frame, number)
            if self._allowance is not None and not self._allowance.take(monotonic()):
                self._give_up(f"frames come at more than {self._settings.frames_per_second:g} a second")
                return
            arrival = Arrival(frame.t, number, frame.people)
            self._steps.append(arrival)
            if not self.unread:
                self._intake.announce(self)
            self.unread.append(arrival)

    def _check(self, frame: protocol.Frame, number: int) -> None:
        if not abs(frame.t) <= LATEST:
            what = f"frame {number} has t {frame.t:g}, expected at most ±{LATEST:g} seconds"
            raise BadTimestamps(what, param="t")
        limit = self._settings.people_per_frame
        if len(frame.people) > limit:
            what = f"frame {number} holds {len(frame.people)} people, the limit is {limit}"
            raise TooLarge(what, param="people", code="too_many_people")
        self._people.check(frame, number, self._roster.tracks)

    # --- steps ----------------------------------------------------------------------------------------------------

    def advance(self) -> None:
        """Do every step that can be done."""
        try:
            self._advance()
        except EngineFailure as error:  # where the network looks ahead, it has something to say at an end
            self.failed(None, error)

    def _advance(self) -> None:
        steps = self._steps
        while steps and self._can(steps[0]):
            step = steps.popleft()
            if type(step) is Arrival:
                self._push(step)
                self._acknowledge_if_due(monotonic())
            elif type(step) is _Flush:
                self._flush(step.track_id)
            elif type(step) is _Update:
                self._update(step.options)
            elif type(step) is _Save:
                self._save()
            elif type(step) is _Leave:
                self._link.leave(step.error)
            elif type(step) is _End:
                self._finish(step)
        stuck = bool(steps) and not (type(steps[0]) is Arrival and steps[0].poses is None)
        if stuck and self._options.on_overload != "block" and not self._ending:
            stuck = self._relieve()
        if stuck != self._held:
            self._held = stuck
            self._link.hold(stuck)

    def _relieve(self) -> bool:
        """Act as the client chose where too much waits; whether the socket is to be held all the same."""
        steps, room = self._steps, self._room
        if self.unread or len(steps) <= room:
            return False
        if self._options.on_overload == "fail":
            self._give_up("frames come faster than they are scored, or than what is said of them is read")
            return True
        if dropped := take_oldest(steps, len(steps) - room // 2):
            self._metrics.frames_dropped.labels("overload").inc(len(dropped))
            self._account.shed([arrival.number for arrival in dropped])
        return len(steps) > room  # flushes and updates, which nobody may drop

    def _give_up(self, why: str) -> None:
        """Part from the client once all that came is scored; it may come back."""
        if not self._ending:
            self._ending = True
            self._steps.append(_Leave(TooFast(why)))
            self.advance()

    def _drop_steps(self) -> None:
        self._steps.clear()
        self._to_save = False

    def _can(self, step: _Step) -> bool:
        if type(step) is _End:
            return self._pending == 0 and not self._saving  # what is acknowledged then is told before the last word
        if type(step) is _Save or type(step) is _Leave:
            return self._pending == 0
        if not self._link.writable:  # what answers the client waits until it reads
            return False
        if type(step) is not Arrival:
            return self._pending == 0
        if step.poses is None:
            return False
        if self._pending == 0:
            return True
        if self._pending >= self._room or self._account.clock.judge(step.t) == "clock_jump":
            return False
        return not self._roster.absent(step.t)

    def _push(self, step: Arrival) -> None:
        verdict = self._account.receive(step.t, step.number)
        if verdict == "clock_jump":
            self._account.warn(verdict)
            self._roster.leave_all("track_end", verdict)
            self._people.forget()
        elif verdict:
            self._drop(verdict)
            return
        else:
            self._roster.leave(self._roster.absent(step.t), "track_end", "absent")
        assert step.poses is not None  # or it could not be done yet
        for name, pose, whole in zip(self._people.names(step, step.poses), step.poses, step.whole, strict=True):
            track = None if name is None else self._roster.find(name, step.t)
            if track is None:
                if pose[:, 3].any():  # who shows nothing and has no name is nobody
                    self._drop("track_limit")
                continue
            push = track.push(step.t, pose, whole)
            if push.frames:
                self._pending += len(push.frames)
                self._account.accept(len(push.frames))
            elif push.dropped:
                self._drop(push.dropped)  # the same person twice in one frame
            if track.lacks_scale():
                self._warn(no_scale(track.name))

    def _drop(self, code: str) -> None:
        self._metrics.frames_dropped.labels(code.removesuffix("_frame")).inc()
        self._account.warn(code)

    def _flush(self, track_id: str | None) -> None:
        self._roster.flush(track_id)
        self._outbox.post(protocol.Flushed(t=round(self._account.last_t, 6)))

    def _update(self, changes: Any) -> None:
        """Other options for the frames that follow, or none and the reason why."""
        try:
            self._options = self._options.changed(changes)
        except InputError as error:
            self._outbox.post(error_message(error, fatal=False))
            return
        self._roster.adjust(self._options)
        self._outbox.post(protocol.SessionUpdated(options=self._options.effective()))

    def _finish(self, step: _End) -> None:
        """End every track, acknowledge every frame, and say the last word."""
        self._roster.leave_all(step.forced, step.forced)
        if self._account.behind:
            self._outbox.post(self._account.acknowledgement(0))
        if step.error is None or isinstance(step.error, Draining):
            self._outbox.post(self._account.totals(self._roster.finals))
        else:
            self._outbox.post(error_message(step.error, fatal=True))
        self.over = step.code, step.reason
        if self._holding.durable or self._parting:
            self._commit()  # the last words are to be in the state, too
        else:
            self._link.end(*self.over)

    # --- what comes from the engine -------------------------------------------------------------------------------

    def absorbed(self, track: Track, told: Told, events: Sequence[SegmentEvent]) -> None:
        self._pending -= 1
        if told or events:
            self._roster.tell(track, told, events)

    def settled(self, track: Track) -> None:
        self._account.settle(self._pending)
        if self._steps:
            self.advance()

    def broke(self, error: Exception) -> None:
        self.failed(None, EngineFailure(f"a session broke: {error!r}"))

    def failed(self, track: Track | None, error: PoselineError) -> None:
        """Nothing more can be scored: what waits is lost, and the client is told so at once."""
        if not self._failed:
            self._ending = self._failed = True
            self._drop_steps()
            self._outbox.post(error_message(error, fatal=True))
            self.close()
            self._link.end(close_code(error), error.code)
            self._part()

    # --- the whole ------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """To be called a few times a second (monotonic): acknowledge and save what was not for long."""
        if not self._ending:
            self._acknowledge_if_due(now)
            if self._holding.durable and now >= self._renew_at:
                self._commit()
            self.advance()

    def _acknowledge_if_due(self, now: float) -> None:
        if not self._account.due(now):
            return
        if self._holding.durable:
            self._commit()
        else:
            self._outbox.post(self._account.acknowledgement(self._pending))

    # --- to outlive a connection ----------------------------------------------------------------------------------

    def park(self, parted: Callable[[], None]) -> None:
        """The connection is gone, or is to go: save what was accepted once it is scored, give every lane back, and tell."""
        if self._failed:
            parted()
            return
        self._parting = parted
        if not self._ending:
            self._ending = True
            self._drop_steps()
            self.unread = []
        if not self._steps:  # else it is about to end, and is saved then
            self._commit()
        self.advance()

    def _commit(self) -> None:
        """Save as soon as nothing is pending."""
        if not self._to_save:
            self._to_save = True
            self._steps.appendleft(_Save())

    def _save(self) -> None:
        if self._saving:
            return  # again when it has arrived: states must come in order
        self._to_save, self._saving = False, True
        self._renew_at = monotonic() + self._holding.seconds / _RENEWALS
        acknowledgement = self._account.acknowledgement(0) if self._holding.durable and self._account.behind else None
        newest = self._outbox.newest

        def told(error: PoselineError | None) -> None:
            self._saved(error, newest, acknowledgement)

        self._holding.save(self._state(), told)
        if self._parting and not self._steps:
            self.close()  # nobody need wait for its lanes until the state has arrived

    def _state(self) -> SavedSession:
        return SavedSession(
            self._outbox.session_id,
            self._holding.owner,
            self.status(),
            self._model.bundle.digest,
            self._outbox.subprotocol,
            structs.replace(self._start, options=self._options.choice),
            self._account.save(),
            self._outbox.save(),
            [track.save() for track in self._roster.tracks.values()],
            self._roster.opened,
            sorted(self._roster.announced),
            self._roster.finals,
            self.over,
            self._people.save(),
        )

    def status(self) -> protocol.SessionStatus:
        """What its owner may see of it."""
        layout = self._start.layout
        return protocol.SessionStatus(
            session_id=self._outbox.session_id,
            state="closed" if self.over else "kept" if self._parting else "open",
            created=self._created,
            model=self._manifest.name,
            layout=layout if isinstance(layout, str) else self._layout.name,
            people=len(self._roster.tracks),
            t=round(self._account.last_t, 6),
            frames_received=self._account.received,
            segments=self._roster.finals,
        )

    def remembered(self, track_id: str) -> PoseSequence:
        """Raises NotRemembered."""
        return self._roster.remembered(track_id)

    def _saved(self, error: PoselineError | None, newest: int, acknowledgement: protocol.Ack | None) -> None:
        """A state has arrived in the store, or not."""
        self._saving = False
        if self._failed:
            return
        if isinstance(error, Superseded | SessionDeleted):
            if isinstance(error, SessionDeleted):  # elsewhere: what is decided is told, and goes nowhere else
                self._outbox.release(self._outbox.newest)
                if self._capture is not None:
                    self._capture.discard()
            self._outbox.commit = None
            self.failed(None, error)
            return
        # Who cannot save still tells: a client that waits for ever is worse off than one that may hear a final twice.
        self._outbox.release(newest if error is None else self._outbox.newest)
        if acknowledgement and error is None:
            self._outbox.post(acknowledgement)
        if self._to_save:
            self._steps.appendleft(_Save())
            self.advance()
            return
        if self.over is not None:
            self._link.end(*self.over)
        if self._steps:
            self.advance()
        else:
            self._part()

    def _part(self) -> None:
        if self._parting is not None:
            parted, self._parting = self._parting, None
            self.close()
            parted()

    def close(self) -> None:
        """Give every lane back; nothing that could wait for the store is posted any more."""
        self._ending = True
        self._drop_steps()
        self.unread = []
        self._roster.close()
        self._outbox.commit = None

    def started(self) -> protocol.SessionStarted:
        """What a client is told first, on every connection."""
        manifest, approximate = self._manifest, self.converter.approximate
        return protocol.SessionStarted(
            model=self._model.info(),
            classes=list(self._model.vocabulary.by_label_id),
            layout_conversion=protocol.LayoutConversion(self._layout.name, manifest.layout, approximate),
            limits=self._settings.limits(),
            algorithmic_latency=manifest.look_ahead / manifest.fps,
            hop=1 / manifest.fps,
            unknown_below=manifest.unknown_below,
            options=self._options.effective(),
            resume_token=self._holding.token,
            resume_ttl=self._holding.seconds,
            resumed=self._resumed,
            next_client_seq=self._account.client_seq + 1,
        )

    def _warn(self, notice: protocol.Notice) -> None:
        self._outbox.post(protocol.Warn(code=notice.code, detail=notice.detail))
