"""From irregular timestamps to the model's even grid. Push only.

A source frame goes in with its media time; out come the grid frames that it completes, each at origin + k / fps,
interpolated between the last two source frames. A grid frame waits for the first source frame at or after its time, so
a source on the grid is never delayed, and one off it by less than a source frame.

One rule each: a late or duplicate frame is dropped and named; a gap longer than `gap_reset` starts a new span (its
first frame says so, and nothing is invented in between); a missing joint keeps its last place for `HOLD` seconds, then
stands at its parent, with confidence 0 all the while.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from msgspec import Struct

from poseline.errors import StateError
from poseline.skeleton import BODY16, Floats, SkeletonLayout

HOLD = 0.5
"""Seconds for which a missing joint keeps the place where it was last seen."""

TOLERANCE = 0.003
"""Seconds by which a source frame may come before its grid time and still be it: clients round to milliseconds."""

_WHOLE = 0.9999
"""Share of the way to a source frame at which a grid frame simply is it: times on the grid differ by rounding alone."""


class GridFrame(Struct, frozen=True, gc=False):
    """One frame on the grid: time in seconds, native pose (16, 4); `first` of a span: nothing before it counts."""

    t: float
    pose: Floats
    first: bool


class GridPush(Struct, frozen=True, gc=False):
    frames: tuple[GridFrame, ...]
    dropped: Literal["late_frame", "duplicate_frame"] | None = None


class GridState(Struct, frozen=True):
    """All that a grid holds of its track, to travel."""

    origin: float
    next: int
    last_t: float | None
    last: bytes
    seen_at: bytes


class FrameGrid:
    """One track's grid. `fps` grid frames a second; `gap_reset` seconds."""

    def __init__(self, fps: float = 30.0, gap_reset: float = 2.0, layout: SkeletonLayout = BODY16) -> None:
        self.fps = fps
        self.gap_reset = gap_reset
        self._parents = layout.parents
        self._origin = 0.0
        self._next = 0
        self._last_t: float | None = None
        self._last = np.zeros((len(layout.joints), 4), np.float32)
        self._seen_at = np.full(len(layout.joints), -np.inf)

    @property
    def last_t(self) -> float | None:
        """Media time of the newest accepted source frame."""
        return self._last_t

    def push(self, t: float, pose: Floats, whole: bool | None = None) -> GridPush:
        """One source frame: media time in seconds and native pose (16, 4); whole: no joint is missing, if that is known."""
        last_t = self._last_t
        if last_t is not None and t <= last_t:
            return GridPush((), "duplicate_frame" if t == last_t else "late_frame")
        if last_t is None or t - last_t > self.gap_reset:
            self._seen_at[:] = -np.inf
            placed = self._place(t, pose, whole)
            self._origin, self._next = t, 1
            frames = (GridFrame(t, placed, first=True),)
        else:
            placed = self._place(t, pose, whole)
            frames = tuple(self._between(last_t, t, placed))
        self._last_t, self._last = t, placed
        return GridPush(frames)

    def _between(self, last_t: float, t: float, pose: Floats) -> list[GridFrame]:
        frames: list[GridFrame] = []
        while (at := self._origin + self._next / self.fps) <= t + TOLERANCE:
            share = min(max((at - last_t) / (t - last_t), 0.0), 1.0)
            mixed: Floats
            if share > _WHOLE:
                mixed = pose
            else:
                mixed = (self._last + share * (pose - self._last)).astype(np.float32)
                mixed[:, 3] = np.minimum(self._last[:, 3], pose[:, 3])
            frames.append(GridFrame(at, mixed, first=False))
            self._next += 1
        return frames

    def _place(self, t: float, pose: Floats, whole: bool | None) -> Floats:
        """The pose with its missing joints placed."""
        if whole or (whole is None and pose[:, 3].min() > 0):
            self._seen_at[:] = t
            return pose
        seen = pose[:, 3] > 0
        self._seen_at[seen] = t
        placed = pose.copy()
        for joint in np.flatnonzero(~seen):
            parent = self._parents[joint]
            if t - self._seen_at[joint] <= HOLD:
                placed[joint, :3] = self._last[joint, :3]
            elif parent >= 0:  # parents stand before their children, so this one is already placed
                placed[joint, :3] = placed[parent, :3]
            else:  # no root: the middle of what is seen
                placed[joint, :3] = pose[seen, :3].mean(axis=0) if seen.any() else self._last[joint, :3]
        return placed

    def save(self) -> GridState:
        return GridState(
            self._origin,
            self._next,
            self._last_t,
            self._last.astype("<f4").tobytes(),
            self._seen_at.astype("<f8").tobytes(),
        )

    def load(self, state: GridState) -> None:
        """Continue a saved track. Raises StateError."""
        V = len(self._parents)
        if len(state.last) != V * 4 * 4 or len(state.seen_at) != V * 8:
            raise StateError(f"the grid's part does not hold {V} joints")
        numbers = (state.origin, state.last_t or 0.0, *np.frombuffer(state.last, "<f4"))
        if not np.isfinite(numbers).all() or state.next < 0:
            raise StateError("the grid's part holds numbers that cannot be")
        self._origin, self._next, self._last_t = state.origin, state.next, state.last_t
        self._last = np.frombuffer(state.last, "<f4").reshape(V, 4).astype(np.float32)
        self._seen_at = np.frombuffer(state.seen_at, "<f8").astype(np.float64)
