"""A session's books: what was received, dropped and acknowledged, and how busy it kept the engine. Sans-IO.

Frames are counted when they are accepted; acknowledgements, counted warnings and the totals leave through `post`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from time import monotonic

from msgspec import Struct

from poseline import protocol
from poseline_service.clock import ClockState, MediaClock, Verdict
from poseline_service.settings import ServiceSettings

_WARNINGS = {
    "late_frame": "frames came later than a newer one and were dropped",
    "duplicate_frame": "frames had the time of an earlier one and were dropped",
    "frames_dropped": "frames were dropped, because they came faster than they are scored",
    "track_limit": "people were ignored because too many tracks are alive",
    "clock_jump": "times the clock went back by more than gap_reset and ran on: everybody's tracks began anew",
    "one_place": "frames show people without ids in one place, who cannot be told apart: name them, or send where they are",
}


class Books(Struct, frozen=True):
    """What an account has written down, to travel. elapsed: seconds since the session began."""

    elapsed: float
    clock: ClockState
    client_seq: int
    received: int
    dropped: int
    grid_frames: int
    busy_seconds: float
    to_warn: dict[str, int]
    warned: list[str]


class Account:
    """The books of one session. fps: of the grid."""

    def __init__(
        self,
        settings: ServiceSettings,
        fps: float,
        post: Callable[[protocol.ServerMessage], None],
        clock: MediaClock,
        books: Books | None = None,
    ) -> None:
        self._ack_frames, self._ack_seconds = settings.ack_frames, settings.ack_seconds
        self._fps = fps
        self._post = post
        self._began = self._acked_at = monotonic()
        self.clock = clock
        self.client_seq = -1
        """The newest frame that came, dropped or not."""
        self._received = self._dropped = self._unacked = self._grid_frames = 0
        self._busy_since: float | None = None
        self._busy_seconds = 0.0
        self._to_warn: Counter[str] = Counter()
        self._warned: set[str] = set()
        if books:
            self._go_on(books)

    def _go_on(self, books: Books) -> None:
        self._began -= books.elapsed
        self.client_seq = books.client_seq
        self._received, self._dropped, self._grid_frames = books.received, books.dropped, books.grid_frames
        self._busy_seconds = books.busy_seconds
        self._to_warn, self._warned = Counter(books.to_warn), set(books.warned)

    def save(self) -> Books:
        return Books(
            monotonic() - self._began,
            self.clock.save(),
            self.client_seq,
            self._received,
            self._dropped,
            self._grid_frames,
            self._busy_seconds,
            dict(self._to_warn),
            sorted(self._warned),
        )

    @property
    def received(self) -> int:
        """Frames that came, dropped or not."""
        return self._received

    @property
    def last_t(self) -> float:
        """Media time of the newest accepted frame."""
        return self.clock.newest or 0.0

    def receive(self, t: float, client_seq: int) -> Verdict | None:
        """A frame came: whether it is dropped, and why, or begins on a clock that was set."""
        self._received += 1
        self._unacked += 1
        self.client_seq = client_seq
        verdict = self.clock.take(t)
        if verdict in ("late_frame", "duplicate_frame"):
            self._dropped += 1
        elif wrong := self.clock.wrong_rate():
            self._post(protocol.Warn(code="fps_mismatch", detail=wrong))
        return verdict

    def shed(self, client_seqs: Sequence[int]) -> None:
        """Frames came, and were dropped because there are too many: next after those that were received."""
        self._received += len(client_seqs)
        self._unacked += len(client_seqs)
        self._dropped += len(client_seqs)
        self.client_seq = client_seqs[-1]
        self.warn("frames_dropped", len(client_seqs))

    def accept(self, grid_frames: int) -> None:
        """Grid frames are on their way to the engine."""
        self._grid_frames += grid_frames
        if self._busy_since is None:
            self._busy_since = monotonic()

    def settle(self, pending: int) -> None:
        """Some of them came back."""
        if self._busy_since is not None:
            now = monotonic()
            self._busy_seconds += now - self._busy_since
            self._busy_since = now if pending else None

    # --- what the client is told ----------------------------------------------------------------------------------

    def warn(self, code: str, count: int = 1) -> None:
        """Count a warning: the first of its kind is told at once, the rest with the next acknowledgement."""
        self._to_warn[code] += count
        if code not in self._warned:
            self._warned.add(code)
            self._tell_warning(code)

    def _tell_warning(self, code: str) -> None:
        count = self._to_warn.pop(code)
        self._post(protocol.Warn(code=code, detail=f"{count} {_WARNINGS[code]}", count=count))

    def due(self, now: float) -> bool:
        """Asked at every frame, so that an acknowledgement leaves together with scores, and at every heartbeat."""
        return self._unacked >= self._ack_frames or (self._unacked > 0 and now - self._acked_at >= self._ack_seconds)

    @property
    def behind(self) -> bool:
        """Something came that was not acknowledged."""
        return self._unacked > 0

    def acknowledgement(self, pending: int) -> protocol.Ack:
        """Of everything that came so far; `pending` grid frames wait for the engine. What was counted is warned of."""
        for code in list(self._to_warn):
            self._tell_warning(code)
        media = self._grid_frames / self._fps
        self._unacked = 0
        self._acked_at = monotonic()
        return protocol.Ack(
            client_seq=self.client_seq,
            t=round(self.last_t, 6),
            queue_depth=pending,
            realtime_factor=round(self._busy_seconds / media, 4) if media else 0.0,
            dropped=self._dropped,
        )

    def totals(self, segments: int) -> protocol.SessionClosed:
        """The last word of a session that ended well."""
        return protocol.SessionClosed(
            frames_received=self._received,
            frames_processed=self._received - self._dropped,
            frames_dropped=self._dropped,
            media_seconds=round(self.clock.media, 6),
            wall_seconds=round(monotonic() - self._began, 3),
            segments=segments,
        )
