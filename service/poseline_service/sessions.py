"""One stream: who is in it and what was decided about them. Sans-IO.

Frames enter as typed structs, everything that the client is to know is posted to the outbox. What comes from the client
calls `Session` directly; what comes from the engine arrives through its tracks. A person unseen for `gap_reset` seconds
of media time has left. Whatever closes segments (`finish`, `flush`, a frame that finds someone `absent`) expects that
everything accepted is scored (`outbox.changes.until(session.idle)`); `close` gives every lane back at any time. Of a
failed engine the session only passes on the news: `fail` ends the stream.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from time import monotonic

from msgspec import to_builtins

from poseline import protocol
from poseline.errors import BadTimestamps, EngineFailure, InputError, Overloaded, TooLarge
from poseline.keypoints import read_keypoints
from poseline.online import OnlineLocalizer, class_mask, open_converter
from poseline.resampling import GridFrame
from poseline.segments import Forced, SegmentEvent
from poseline.skeleton import Floats
from poseline.translation import coordinates_of, decoding_options, layout_of
from poseline_service.metrics import Metrics
from poseline_service.outbox import Outbox, Pace, segment_message, top_scores
from poseline_service.settings import ServiceSettings
from poseline_service.tracks import LATEST, LoadedModel, Track, approximation, check_name

_WARNINGS = {
    "late_frame": "frames came later than a newer one and were dropped",
    "duplicate_frame": "frames had the time of an earlier one and were dropped",
    "track_limit": "people were ignored because too many tracks are alive",
}


class Session:
    """A started stream. Raises on construction whatever is wrong with `session.start`."""

    def __init__(
        self,
        start: protocol.SessionStart,
        model: LoadedModel,
        settings: ServiceSettings,
        metrics: Metrics,
        outbox: Outbox,
        fail: Callable[[EngineFailure], None],
    ) -> None:
        self._model = model.named(start.model)
        self._settings = settings
        self._metrics = metrics
        self._outbox = outbox
        self._manifest = manifest = model.bundle.manifest
        if start.fps is not None and not start.fps > 0:
            raise InputError(f"fps is {start.fps:g}, expected more than 0", param="fps")
        self._layout = layout_of(start.layout)
        self._coordinates = coordinates_of(start.coordinates)
        self._convert = open_converter(manifest, self._layout, self._coordinates)
        self._choice = start.options
        self._decoding = decoding_options(start.options, manifest.decoding)
        self._allowed = class_mask(manifest, start.options.classes)

        self._fail = fail
        self._tracks: dict[str, Track] = {}
        self._segment_ids: dict[tuple[Track, int], str] = {}
        self._paces: dict[Track, Pace] = {}
        self._segments = self._finals = 0

        self._began = monotonic()
        self._first_t: float | None = None
        self._last_t = 0.0
        self._received = self._late = self._grid_frames = 0
        self._busy_since: float | None = None
        self._busy_seconds = 0.0
        self._client_seq = -1
        self._unacked = 0
        self._acked_at = self._began
        self._to_warn: Counter[str] = Counter()
        self._warned: set[str] = set()
        self._post_started()

    @property
    def model_name(self) -> str:
        return self._manifest.name

    # --- what comes from the client -------------------------------------------------------------------------------

    def push(self, frame: protocol.Frame, client_seq: int) -> None:
        """One frame; where it finds someone absent, all before it must be scored.

        Raises MalformedMessage, BadTimestamps, ShapeMismatch, BadNumber, TooLarge; a frame that raises changes nothing.
        """
        people = self._read(frame, client_seq)
        self._received += 1
        self._unacked += 1
        self._client_seq = client_seq
        self._metrics.frames_received.labels(self.model_name).inc()
        if self._first_t is None:
            self._first_t = frame.t
        elif frame.t <= self._last_t:
            self._late += 1
            self._drop("duplicate_frame" if frame.t == self._last_t else "late_frame")
            return
        self._last_t = frame.t
        self._end_absent(frame.t)
        for name, pose in people:
            self._push_person(name, frame.t, pose)
        self._busy()

    def _read(self, frame: protocol.Frame, client_seq: int) -> list[tuple[str, Floats]]:
        """Everybody's name and native pose."""
        if not abs(frame.t) <= LATEST:
            raise BadTimestamps(
                f"frame {client_seq} has t {frame.t:g}, expected at most ±{LATEST:g} seconds", param="t"
            )
        limit = self._settings.people_per_frame
        if len(frame.people) > limit:
            what = f"frame {client_seq} holds {len(frame.people)} people, the limit is {limit}"
            raise TooLarge(what, param="people", code="too_many_people")
        people: list[tuple[str, Floats]] = []
        for person in frame.people:
            check_name(person.id, "id")
            kp = read_keypoints([person.kp], self._layout, self._coordinates.dims, person.id, client_seq)
            people.append((person.id, self._convert(kp[0][0], kp[1][0])))
        return people

    def _push_person(self, name: str, t: float, pose: Floats) -> None:
        track = self._tracks.get(name) or self._open(name, t)
        if track is None:
            self._drop("track_limit")
        elif dropped := track.push(t, pose).dropped:
            self._drop(dropped)  # the same person twice in one frame

    def _open(self, name: str, t: float) -> Track | None:
        """A track for a newcomer, or None where there is no room for one."""
        if len(self._tracks) >= self._settings.tracks_per_session:
            return None
        localizer = OnlineLocalizer(
            self._manifest, self._decoding, allowed=self._allowed, gap_reset=self._choice.gap_reset
        )
        try:
            track = Track(name, localizer, self._model.scheduler, self)
        except Overloaded:
            return None
        self._tracks[name] = track
        self._paces[track] = Pace(self._choice.scores_hz)
        self._outbox.post(protocol.TrackStarted(track_id=name, t=t))
        return track

    def _drop(self, code: str) -> None:
        self._metrics.frames_dropped.labels(code.removesuffix("_frame")).inc()
        self._to_warn[code] += 1
        if code not in self._warned:  # the first at once, the rest counted until the next ack
            self._warned.add(code)
            self._warn(code)

    def _warn(self, code: str) -> None:
        count = self._to_warn.pop(code)
        self._outbox.post(protocol.Warn(code=code, detail=f"{count} {_WARNINGS[code]}", count=count))

    def absent(self, now: float) -> list[Track]:
        """Who will have left when a frame of that media time comes."""
        gap = self._choice.gap_reset
        return [
            track
            for track in self._tracks.values()
            if (seen := track.localizer.last_t) is not None and now - seen > gap
        ]

    def _end_absent(self, now: float) -> None:
        for track in self.absent(now):
            del self._tracks[track.name]
            self._end(track, "track_end", "absent")

    def flush(self, track_id: str | None) -> None:
        """Close open segments of one track or all, and say so. A track that has just ended has nothing open."""
        for name, track in self._tracks.items():
            if track_id in (None, name):
                self._tell(track, track.localizer.finish("flush"))
        self._outbox.post(protocol.Flushed(t=round(self._last_t, 6)))

    def ack(self) -> None:
        """Say what was accepted, and what was dropped since the last time."""
        for code in list(self._to_warn):
            self._warn(code)
        media = self._grid_frames / self._manifest.fps
        self._outbox.post(
            protocol.Ack(
                client_seq=self._client_seq,
                t=round(self._last_t, 6),
                queue_depth=self.pending,
                realtime_factor=round(self._busy_seconds / media, 4) if media else 0.0,
                dropped=self._late,
            )
        )
        self._unacked = 0
        self._acked_at = monotonic()

    def ack_due(self) -> float | None:
        """The moment (monotonic) at which an ack should be sent; None while there is nothing to acknowledge."""
        if not self._unacked:
            return None
        return 0.0 if self._unacked >= self._settings.ack_frames else self._acked_at + self._settings.ack_seconds

    # --- what comes from the engine -------------------------------------------------------------------------------

    def absorbed(self, track: Track, frame: GridFrame, scores: Floats, events: Sequence[SegmentEvent]) -> None:
        self._grid_frames += 1
        if self._paces[track].takes(frame.t):
            self._outbox.post(protocol.Scores(t=round(frame.t, 6), track_id=track.name, top=top_scores(scores)))
        self._tell(track, events)

    def settled(self, track: Track) -> None:
        self._busy()
        self._outbox.changes.notify()

    def failed(self, track: Track, error: EngineFailure) -> None:
        self._fail(error)

    def _tell(self, track: Track, events: Sequence[SegmentEvent]) -> None:
        for event in events:
            key = (track, event.key)
            if key not in self._segment_ids:
                self._segments += 1
                self._segment_ids[key] = f"g{self._segments}"
            name = self._segment_ids[key]
            if event.phase in ("final", "retracted"):
                del self._segment_ids[key]
            self._finals += event.phase == "final"
            self._metrics.segments.labels(self.model_name, event.label, event.phase).inc()
            if event.phase == "final" or self._choice.partials != "none":
                self._outbox.post(segment_message(event, name, track.name))

    def _end(self, track: Track, forced: Forced, reason: str) -> None:
        self._tell(track, track.localizer.finish(forced))
        del self._paces[track]
        track.close()
        t = track.localizer.last_t
        self._outbox.post(protocol.TrackEnded(track_id=track.name, t=round(t or 0.0, 6), reason=reason))

    # --- the whole ------------------------------------------------------------------------------------------------

    @property
    def pending(self) -> int:
        """Grid frames that have no scores yet."""
        return sum(track.pending for track in self._tracks.values())

    def idle(self) -> bool:
        """Everything accepted is scored."""
        return not self.pending

    def has_room(self) -> bool:
        """The client may be read on."""
        return self.pending < self._settings.queue_frames and len(self._outbox) < self._settings.queue_messages

    def finish(self, forced: Forced) -> None:
        """End every track and acknowledge every frame. Everything accepted must be scored."""
        for track in self._tracks.values():
            self._end(track, forced, forced)
        self._tracks.clear()
        if self._unacked:
            self.ack()

    def post_totals(self) -> None:
        """The last word of a session that ended well."""
        media = 0.0 if self._first_t is None else self._last_t - self._first_t
        self._outbox.post(
            protocol.SessionClosed(
                frames_received=self._received,
                frames_processed=self._received - self._late,
                frames_dropped=self._late,
                media_seconds=round(media, 6),
                wall_seconds=round(monotonic() - self._began, 3),
                segments=self._finals,
            )
        )

    def close(self) -> None:
        """Give every lane back."""
        for track in self._tracks.values():
            track.close()
        self._tracks.clear()

    def _busy(self) -> None:
        """Keep the time during which frames of this session waited for the network."""
        now = monotonic()
        if self._busy_since is not None:
            self._busy_seconds += now - self._busy_since
        self._busy_since = now if self.pending else None

    def _post_started(self) -> None:
        manifest, convert = self._manifest, self._convert
        options = {name: value for name, value in self._decoding.model_dump().items() if name != "updates"}
        chosen = {name: to_builtins(getattr(self._choice, name)) for name in ("classes", "gap_reset", "partials")}
        self._outbox.post(
            protocol.SessionStarted(
                model=self._model.info(),
                classes=list(manifest.classes),
                layout_conversion=protocol.LayoutConversion(self._layout.name, manifest.layout, convert.approximate),
                limits=self._settings.limits(),
                algorithmic_latency=manifest.look_ahead / manifest.fps,
                hop=1 / manifest.fps,
                options=options
                | chosen
                | {"scores_hz": self._choice.scores_hz, "on_overload": self._choice.on_overload},
            )
        )
        if convert.approximate:
            detail = approximation(self._layout.name, manifest.layout)
            self._outbox.post(protocol.Warn(code="layout_approximate", detail=detail))
