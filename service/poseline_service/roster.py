"""Who is in a session: the tracks that are alive, and what the client is told of them. Sans-IO.

People come with their first frame and leave when they are unseen for `gap_reset` seconds of media time, when the clock
jumps, or with the session. What is decided about them leaves through the outbox, a segment's partials as the client chose
when it began.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import inf

from msgspec import UNSET

from poseline import protocol
from poseline.errors import Overloaded, PoselineError
from poseline.pose import PoseSequence
from poseline.segments import Forced, SegmentEvent
from poseline_service.capturing import SessionCapture, Tap
from poseline_service.errors import NotRemembered
from poseline_service.keeping import SavedSession
from poseline_service.metrics import Metrics
from poseline_service.options import SessionOptions
from poseline_service.outbox import segment_message
from poseline_service.remembering import Memory, Remembrance
from poseline_service.tracks import LoadedModel, Track, TrackListener
from poseline_service.workers import Told

Post = Callable[[protocol.ServerMessage], None]


class Roster:
    """The people of one session, whose tracks tell `listener`. limit: tracks alive. Raises Overloaded, StateError where what
    was saved cannot go on here."""

    def __init__(
        self,
        model: LoadedModel,
        options: SessionOptions,
        limit: int,
        metrics: Metrics,
        post: Post,
        listener: TrackListener,
        saved: SavedSession | None,
        capture: SessionCapture | None,
        remembrance: Remembrance,
    ) -> None:
        self._model, self._options = model, options
        self._limit = limit
        self._segments = metrics.segments
        self._post = post
        self._listener: TrackListener | None = listener
        self._capture = capture
        self._remembrance = remembrance
        self.tracks: dict[str, Track] = {}
        self.opened = saved.opened if saved else 0
        """Tracks that there have been."""
        self.finals = saved.finals if saved else 0
        self.announced = set(saved.announced if saved else ())
        """Segments under way whose start the client was told: it hears how they end, whatever it chooses meanwhile."""
        self._all_here_until = -inf
        try:
            for state in saved.tracks if saved else ():
                self.tracks[state.name] = Track.restored(
                    state, model, options.of_track, listener, self._tap(state.number), self._memory()
                )
        except PoselineError:
            self.close()
            raise

    # --- who comes and goes ---------------------------------------------------------------------------------------

    def find(self, name: str, t: float) -> Track | None:
        """Somebody's track, a new one for a newcomer; None where there is no room for one."""
        if track := self.tracks.get(name):
            return track
        if len(self.tracks) >= self._limit or self._listener is None:
            return None
        try:
            number = self.opened + 1
            options, listener = self._options.of_track, self._listener
            track = Track(name, self._model, options, listener, number, self._tap(number), self._memory())
        except Overloaded:
            return None
        self.opened += 1
        self.tracks[name] = track
        self._post(protocol.TrackStarted(track_id=name, t=t))
        return track

    def _tap(self, number: int) -> Tap | None:
        return None if self._capture is None else self._capture.tap(number)

    def _memory(self) -> Memory:
        manifest = self._model.bundle.manifest
        return self._remembrance.of_track(manifest.fps, manifest.native)

    def remembered(self, name: str) -> PoseSequence:
        """The newest poses of somebody who is here. Raises NotRemembered."""
        track = self.tracks.get(name)
        if track is None or track.memory is None:
            raise NotRemembered(f"there is no track {name!r} in this session now")
        return track.memory.poses()

    def absent(self, now: float) -> list[Track]:
        """Who will have left when a frame of that media time comes."""
        if now <= self._all_here_until:
            return []
        gap, tracks = self._options.gap_reset, self.tracks.values()
        absent = [track for track in tracks if now - track.last_t > gap]
        if not absent:
            self._all_here_until = min((track.last_t for track in tracks), default=now) + gap
        return absent

    def leave(self, tracks: Iterable[Track], forced: Forced, reason: str) -> None:
        """Nothing of theirs is pending. Raises EngineFailure."""
        for track in tracks:
            del self.tracks[track.name]
            self.tell(track, *track.finish(forced))
            track.close()
            self._post(protocol.TrackEnded(track_id=track.name, t=round(track.last_t, 6), reason=reason))

    def leave_all(self, forced: Forced, reason: str) -> None:
        """As `leave`; who comes then begins anew, also at an earlier time."""
        self.leave(list(self.tracks.values()), forced, reason)
        self._all_here_until = -inf

    def close(self) -> None:
        """Give every lane back, and let go of whoever listened: nobody will come."""
        for track in self.tracks.values():
            track.close()
        self.tracks.clear()
        self._listener = None

    # --- what is decided about them -------------------------------------------------------------------------------

    def flush(self, name: str | None) -> None:
        """Close open segments of one track or all. A track that has just ended has nothing open. Raises EngineFailure."""
        for track in self.tracks.values():
            if name in (None, track.name):
                self.tell(track, *track.finish("flush"))

    def adjust(self, options: SessionOptions) -> None:
        """Other options for the frames that follow."""
        self._options = options
        for track in self.tracks.values():
            track.adjust(options.of_track)

    def tell(self, track: Track, told: Told, events: Sequence[SegmentEvent]) -> None:
        for t, top, unknown in told:
            self._post(protocol.Scores(t=round(t, 6), track_id=track.name, top=top, unknown=unknown or UNSET))
        for event in events:
            name = f"g{track.number}.{event.key + 1}"  # the same wherever the session goes on
            self.finals += event.phase == "final"
            self._segments.labels(self._model.bundle.manifest.name, event.label, event.phase).inc()
            if event.phase == "started" and self._options.partials:
                self.announced.add(name)
            if event.phase == "final" or name in self.announced:
                self._post(segment_message(event, name, track.name))
            if event.phase in ("final", "retracted"):
                self.announced.discard(name)
