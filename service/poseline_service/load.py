"""How busy this process is, measured; and whether one stream more would still be served in time.

What limits a server is its event loop's thread. Its share of a core is read from the operating system's accounts, its
lateness from a heartbeat; both are known only after streams have begun to send. So streams that have just been let in are
charged what streams cost on average until the measurement has caught up with them, and a thousand that come in one second
are not all let in because none of them has cost anything yet.

Recordings take what is left over and yield to streams frame by frame, so only what streams cost counts against them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from time import monotonic, thread_time

FRAME_COST = 60e-6
"""Seconds of the loop's thread per frame, until frames have been measured (docs/performance.md)."""
_SETTLING = 1.5
"""Seconds for which a new stream is charged the average, for the measurement does not yet hold it."""
_SMOOTHING = 0.3
"""Weight of the newest measurement: with four a second, the last second counts most."""
_ENOUGH = 25
"""Frames in an interval from which the cost of one can be told."""


class LoadMonitor:
    """One per event loop; its thread calls. fps: frames that a stream is taken to send. limit: share of a core in use at
    which no further stream fits. late: seconds that the heartbeat may lag."""

    def __init__(
        self,
        *,
        fps: float = 30.0,
        limit: float = 0.85,
        late: float = 0.03,
        clock: Callable[[], float] = monotonic,
        cpu: Callable[[], float] = thread_time,
    ) -> None:
        self._fps, self._limit, self._late = fps, limit, late
        self._clock, self._cpu = clock, cpu
        self._at, self._used = clock(), cpu()
        self._live = self._all = 0
        self._newcomers: deque[float] = deque()
        self._cost = FRAME_COST
        self._busy = 0.0
        self.lag = 0.0
        """Seconds by which the event loop was late at the last heartbeats."""

    def beat(self, lag: float, live: int, everything: int) -> None:
        """A heartbeat, `lag` seconds late. live, everything: frames scored since the beginning."""
        now, used = self._clock(), self._cpu()
        seconds, cpu = now - self._at, used - self._used
        frames, streamed = everything - self._all, live - self._live
        self._at, self._used, self._live, self._all = now, used, live, everything
        if seconds <= 0:
            return
        share = streamed / frames if frames else 1.0
        self._busy += _SMOOTHING * (min(1.0, cpu / seconds) * share - self._busy)
        if frames >= _ENOUGH:
            self._cost += _SMOOTHING * (cpu / frames - self._cost)
        self.lag += _SMOOTHING * (lag - self.lag)
        while self._newcomers and now - self._newcomers[0] > _SETTLING:
            self._newcomers.popleft()

    def welcome(self) -> None:
        """A stream was let in."""
        self._newcomers.append(self._clock())

    @property
    def busy(self) -> float:
        """Share of a core that streams take, with what the newest ones will."""
        return self._busy + len(self._newcomers) * self._fps * self._cost

    @property
    def full(self) -> str | None:
        """Why one stream more would not be served in time, or None."""
        if self.busy + self._fps * self._cost > self._limit:
            return f"{self.busy:.0%} of a core is in use, the limit is {self._limit:.0%}"
        if self.lag > self._late:
            return f"this server is {1000 * self.lag:.0f} ms behind, the limit is {1000 * self._late:.0f} ms"
        return None
