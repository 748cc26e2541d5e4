"""People over time: who of this picture is who of the last. MediaPipe gives no identities.

Following itself is `poseline.tracking`'s; here is what pictures need besides: an extractor sees somebody who is not there
now and then, or one person twice.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from poseline import tracking
from poseline.pose import Coordinates, PoseConverter
from poseline.skeleton import Floats, layout
from poseline.tracking import areas, oks

UNSEEN = 1.0
"""Seconds after which a track ends."""
HITS = 3
"""Pictures in which somebody must be seen before a track is told: one or two are mostly no person."""
TWICE = 0.6
"""OKS from which two detections of one picture are the same person."""
_MOST = 64
"""Tracks at a time, false ones among them: the extractor finds four people a picture at most."""


class Tracker:
    """Names `p1`, `p2` … in the order in which people are first sure to be there. A name is never given twice."""

    def __init__(self) -> None:
        self._tracker = tracking.Tracker(UNSEEN, _MOST, depth=False)
        self._native = PoseConverter(layout("blazepose33"), Coordinates("pixel", 2, "down"))
        self._hits: dict[int, int] = {}
        self._names: dict[int, str] = {}
        self._named = 0

    def update(self, poses: Sequence[NDArray[np.float32]], t: float, aspect: float = 1.0) -> list[tuple[str, int]]:
        """poses: image landmarks (33, 4) of one picture; aspect: its width by its height.

        → (name, index of the pose) for everybody who is sure to be there, in the order of their names' birth.
        """
        found = np.stack([np.zeros((16, 4), np.float32), *(self._convert(pose, aspect) for pose in poses)])[1:]
        order = _without_doubles(found, [float(pose[:, 3].mean()) for pose in poses])
        numbers = self._tracker.update(found[order], t)
        alive = self._tracker.numbers
        self._hits = {number: self._hits.get(number, 0) + (number in numbers) for number in alive}
        self._names = {number: name for number, name in self._names.items() if number in self._hits}
        told: list[tuple[str, int]] = []
        for number, index in zip(numbers, order, strict=True):
            if number is None or self._hits[number] < HITS:
                continue
            if number not in self._names:
                self._named += 1
                self._names[number] = f"p{self._named}"
            told.append((self._names[number], index))
        return sorted(told, key=lambda one: int(one[0][1:]))

    def _convert(self, pose: NDArray[np.float32], aspect: float) -> Floats:
        """Where its joints are, in heights of the picture: MediaPipe places all of them, however unsure it is of some."""
        return self._native(pose[:, :2] * np.array((aspect, 1), np.float32), np.ones(len(pose), np.float32))


def _without_doubles(poses: Floats, sure: list[float]) -> list[int]:
    """poses (N, 16, 4) → indices, the surest first, without those that are somebody surer again."""
    size, seen = areas(poses[..., :3], poses[..., 3] > 0), poses[..., 3] > 0
    kept: list[int] = []
    for i in sorted(range(len(poses)), key=lambda i: -sure[i]):
        apart = ((poses[kept, :, :3] - poses[i, :, :3]) ** 2).sum(axis=-1)
        if (oks(apart, np.maximum(size[kept], size[i]), seen[kept] & seen[i]) < TWICE).all():
            kept.append(i)
    return kept
