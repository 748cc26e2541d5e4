"""How busy this process is, measured; and whether one stream more would still be served in time.

What limits a server is its event loop's thread. But the share of a core that it uses says little: with few streams the loop
turns often and each frame pays for a turn of its own; with many, frames share turns. What counts is what a frame costs once
batches are full, for that is all that a frame can be made to cost. It is known roughly from the start (what the engine was
measured to need, and what is around it) and better as soon as batches have been full. Times frames a second, streams that
have just been let in included, it is the load.

An event loop that is late, for whatever reason, is full too: somebody else may have the core. Recordings take what is left
over and yield to streams batch by batch, so they do not count.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from time import monotonic, thread_time

AROUND = 40e-6
"""Seconds that a frame costs around the engine when batches are full, until that has been measured (docs/performance.md)."""
_SETTLING = 1.5
"""Seconds for which a new stream is charged what streams are taken to send, for its frames are not yet measured."""
_SMOOTHING = 0.3
"""Weight of the newest measurement: with four a second, the last second counts most."""
_FULL = 32.0
"""Frames a job from which batches count as full: beyond it they get hardly cheaper."""


class LoadMonitor:
    """One per event loop, and called in its thread.

    fps: frames a second that a new stream is taken to send. limit: share of a core at which no further stream fits. late:
    seconds that the heartbeat may lag.
    """

    def __init__(
        self,
        *,
        fps: float = 30.0,
        limit: float = 0.75,
        late: float = 0.05,
        clock: Callable[[], float] = monotonic,
        cpu: Callable[[], float] = thread_time,
    ) -> None:
        self._fps, self._limit, self._late = fps, limit, late
        self._clock, self._cpu = clock, cpu
        self._last = (clock(), cpu(), 0, 0, 0)
        self._newcomers: deque[float] = deque()
        self._rate = 0.0
        self.cost = AROUND
        """Seconds of CPU per frame when batches are full."""
        self.lag = 0.0
        """Seconds by which the event loop was late at the last heartbeats."""

    def expect(self, engine: float) -> None:
        """The engine was measured to need so many seconds per frame of a full batch."""
        self.cost = AROUND + engine

    def beat(self, lag: float, streamed: int, frames: int, jobs: int) -> None:
        """A heartbeat, `lag` seconds late; since the beginning: frames accepted of streams, scored of all, and jobs."""
        now = (self._clock(), self._cpu(), streamed, frames, jobs)
        seconds, cpu, of_streams, of_all, in_jobs = (a - b for a, b in zip(now, self._last, strict=True))
        self._last = now
        if seconds <= 0:
            return
        self._rate += _SMOOTHING * (of_streams / seconds - self._rate)
        self.lag += _SMOOTHING * (lag - self.lag)
        if in_jobs and of_all / in_jobs >= _FULL and of_streams > 0.8 * of_all:  # a recording's frames pass no socket
            self.cost += _SMOOTHING * (cpu / of_all - self.cost)
        while self._newcomers and now[0] - self._newcomers[0] > _SETTLING:
            self._newcomers.popleft()

    def welcome(self) -> None:
        """A stream was let in."""
        self._newcomers.append(self._clock())

    @property
    def busy(self) -> float:
        """Share of a core that streams need, the newest ones included."""
        return (self._rate + len(self._newcomers) * self._fps) * self.cost

    @property
    def full(self) -> str | None:
        """Why one stream more would not be served in time, or None."""
        if self.busy + self._fps * self.cost > self._limit:
            return f"streams need {self.busy:.0%} of a core, the limit is {self._limit:.0%}"
        if self.lag > self._late:
            return f"this server is {1000 * self.lag:.0f} ms behind, the limit is {1000 * self._late:.0f} ms"
        return None
