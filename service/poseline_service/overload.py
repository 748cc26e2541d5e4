"""Frames that come faster than they are scored: what `on_overload` of a session means.

`block`: the socket is read no further until there is room, so nothing is lost and nobody is turned away. Who cannot wait
chooses `drop_oldest` or `fail`. Then the socket is read all the while, and of `queue_frames` half are with the engine, which
gives nothing back, and half wait where they can still be dropped. When more wait, the older half of them goes: one stretch,
since short gaps are filled in on the grid, and frames dropped here and there would relieve nobody. Or else the client is
told so, and may come back. A rate alone is held against nobody but who asked to `fail`.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from poseline_service.intake import Arrival

BURST_SECONDS = 2.0
"""For which frames may have gathered: what was seen while a connection was made anew, or a Wi-Fi slept."""


class TokenBucket:
    """`rate` frames a second, and `BURST_SECONDS` of them at once. now: of the monotonic clock."""

    def __init__(self, rate: float, now: float) -> None:
        self._rate, self._then = rate, now
        self._most = self._tokens = rate * BURST_SECONDS

    def take(self, now: float) -> bool:
        """Whether one frame more may come."""
        self._tokens = min(self._most, self._tokens + (now - self._then) * self._rate)
        self._then = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


def take_oldest(steps: deque[Any], count: int) -> list[Arrival]:
    """Take as many frames out of what waits, oldest first. What is no frame stays, and so do frames still unread."""
    taken: list[Arrival] = []
    kept: list[Any] = []
    for step in steps:
        droppable = type(step) is Arrival and step.poses is not None
        (taken if droppable and len(taken) < count else kept).append(step)
    steps.clear()
    steps.extend(kept)
    return taken
