"""A session's books: what was received, dropped and acknowledged, and how busy it kept the engine. Sans-IO.

Frames are counted when they are accepted; acknowledgements, counted warnings and the totals leave through `post`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Literal

from msgspec import Struct

from poseline import protocol
from poseline_service.settings import ServiceSettings

_WARNINGS = {
    "late_frame": "frames came later than a newer one and were dropped",
    "duplicate_frame": "frames had the time of an earlier one and were dropped",
    "frames_dropped": "frames were dropped, because they came faster than they are scored",
    "track_limit": "people were ignored because too many tracks are alive",
}


class Books(Struct, frozen=True):
    """What an account has written down, to travel. elapsed: seconds since the session began."""

    elapsed: float
    first_t: float | None
    last_t: float
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
        books: Books | None = None,
    ) -> None:
        self._ack_frames, self._ack_seconds = settings.ack_frames, settings.ack_seconds
        self._fps = fps
        self._post = post
        self._began = self._acked_at = monotonic()
        self._first_t: float | None = None
        self.last_t = 0.0
        """Media time of the newest accepted frame."""
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
        self._first_t, self.last_t, self.client_seq = books.first_t, books.last_t, books.client_seq
        self._received, self._dropped, self._grid_frames = books.received, books.dropped, books.grid_frames
        self._busy_seconds = books.busy_seconds
        self._to_warn, self._warned = Counter(books.to_warn), set(books.warned)

    def save(self) -> Books:
        return Books(
            monotonic() - self._began,
            self._first_t,
            self.last_t,
            self.client_seq,
            self._received,
            self._dropped,
            self._grid_frames,
            self._busy_seconds,
            dict(self._to_warn),
            sorted(self._warned),
        )

    def receive(self, t: float, client_seq: int) -> Literal["late_frame", "duplicate_frame"] | None:
        """A frame came; why it is to be dropped, if it is."""
        self._received += 1
        self._unacked += 1
        self.client_seq = client_seq
        if self._first_t is None:
            self._first_t = t
        elif t <= self.last_t:
            self._dropped += 1
            return "duplicate_frame" if t == self.last_t else "late_frame"
        self.last_t = t
        return None

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
        media = 0.0 if self._first_t is None else self.last_t - self._first_t
        return protocol.SessionClosed(
            frames_received=self._received,
            frames_processed=self._received - self._dropped,
            frames_dropped=self._dropped,
            media_seconds=round(media, 6),
            wall_seconds=round(monotonic() - self._began, 3),
            segments=segments,
        )
