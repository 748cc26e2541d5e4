"""The newest poses of sessions that ask for it (`options.remember`), so that a stretch of a live stream can be shown as an
example of a class. In memory alone, for so many seconds, of tracks that are alive; all of a server's together are bounded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np

from poseline.pose import PoseSequence
from poseline.resampling import GridFrame
from poseline.skeleton import SkeletonLayout
from poseline_service.errors import NotRemembered

LONGEST = 120.0
"""Seconds that a session may ask for."""
_FRAME_BYTES = 16 * 4 * 4 + 200
"""Of one frame: a pose, and Python around it."""


class Remembrance:
    """What a server may remember in all. room: bytes that are still free."""

    def __init__(self, room: int) -> None:
        self.room = room

    def of_track(self, fps: float, native: SkeletonLayout) -> Memory:
        return Memory(self, fps, native)


class Memory:
    """One track's newest grid frames, as many as `keep` says. Where the server has no room left, older ones make it."""

    def __init__(self, all_: Remembrance, fps: float, native: SkeletonLayout) -> None:
        self._all = all_
        self._fps, self._native = fps, native
        self._most = 0
        self._frames: deque[tuple[float, bytes]] = deque()

    def keep(self, seconds: float) -> None:
        """From now on, for so long; 0: nothing."""
        self._most = round(seconds * self._fps)
        while len(self._frames) > self._most:
            self._forget_oldest()

    def pushed(self, frames: Sequence[GridFrame]) -> None:
        if not self._most:
            return
        for frame in frames:
            if frame.first:  # what was before has nothing to do with what comes
                self.clear()
            while self._frames and (len(self._frames) >= self._most or self._all.room < _FRAME_BYTES):
                self._forget_oldest()
            if self._all.room >= _FRAME_BYTES:
                self._all.room -= _FRAME_BYTES
                self._frames.append((frame.t, frame.pose.astype("<f4", copy=False).tobytes()))

    def poses(self) -> PoseSequence:
        """All that is remembered: native poses on the grid. Raises NotRemembered."""
        if not self._frames:
            what = "its session did not ask for it (options.remember), or others fill the room"
            raise NotRemembered(f"nothing of this track is remembered: {what}")
        times, poses = zip(*self._frames, strict=True)
        joints = np.frombuffer(b"".join(poses), "<f4").reshape(len(times), len(self._native.joints), 4)
        return PoseSequence(joints[..., :3], joints[..., 3], np.array(times), self._native)

    def clear(self) -> None:
        while self._frames:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        self._frames.popleft()
        self._all.room += _FRAME_BYTES
