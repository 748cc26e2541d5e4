"""People over time: who of this picture is who of the last. MediaPipe gives no identities.

Poses are compared by object keypoint similarity (OKS), the measure of the COCO keypoint evaluation (cocodataset.org,
"Keypoint Evaluation"): the mean over joints of exp(-d² / (2 s² k²)), d the distance, s² the person's area, k twice the
joint's standard deviation among annotators. A track expects its person where it was last seen, moved on at its last
speed; expectation and sight are assigned to each other by the Hungarian method. The longer unseen, the wider it looks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from poseline.skeleton import layout

Floats = NDArray[np.float64]

UNSEEN = 1.0
"""Seconds after which a track ends."""
HITS = 3
"""Pictures in which somebody must be seen before a track is told: one or two are mostly no person."""
SAME = 0.15
"""Least OKS for the person that a track expects."""
TWICE = 0.6
"""OKS from which two detections of one picture are the same person."""
_WIDENING = 4.0
"""How many times its length a person may look larger after a second unseen."""
_SMOOTHING = 0.3
"""Weight of the newest step in a track's speed."""
_COASTING = 0.3
"""Seconds for which somebody unseen is expected to go on."""

# Standard deviations of the COCO key points, as its evaluation has them; the head is left to five of them.
_SIGMAS = {"nose": 0.026, "eye": 0.025, "ear": 0.035, "shoulder": 0.079, "elbow": 0.072}
_SIGMAS |= {"wrist": 0.062, "hip": 0.107, "knee": 0.087, "ankle": 0.089}
_SHARED = [name for name in layout("coco17").joints if name in layout("blazepose33").joints]
_JOINTS = [layout("blazepose33").joints.index(name) for name in _SHARED]
_K = np.array([2 * _SIGMAS[name.rpartition("_")[2]] for name in _SHARED])


def oks(one: Floats, many: Floats, area: Floats | float) -> Floats:
    """one (17, 2), many (N, 17, 2), area (N,) in the same unit squared → (N,) in 0..1."""
    squared = ((many - one) ** 2).sum(axis=-1)
    return np.exp(-squared / (2 * np.asarray(area)[..., None] * _K**2 + 1e-12)).mean(axis=-1)


@dataclass
class _Track:
    name: str | None
    joints: Floats
    seen: float
    speed: Floats
    hits: int = 1

    def expected(self, t: float) -> Floats:
        return self.joints + self.speed * min(t - self.seen, _COASTING)

    def area(self, t: float) -> float:
        return _area(self.joints) * (1 + _WIDENING * (t - self.seen)) ** 2

    def see(self, joints: Floats, t: float) -> None:
        step = (joints.mean(axis=0) - self.joints.mean(axis=0)) / max(t - self.seen, 1e-3)
        self.speed = self.speed + _SMOOTHING * (step - self.speed)
        self.joints, self.seen, self.hits = joints, t, self.hits + 1


class Tracker:
    """Names `p1`, `p2` … in the order in which people are first sure to be there. A name is never given twice."""

    def __init__(self) -> None:
        self._tracks: list[_Track] = []
        self._named = 0

    def update(self, poses: Sequence[NDArray[np.float32]], t: float, aspect: float = 1.0) -> list[tuple[str, int]]:
        """poses: image landmarks (33, 4) of one picture; aspect: its width by its height.

        → (name, index of the pose) for everybody who is sure to be there, in the order of their names' birth.
        """
        joints = [pose[_JOINTS, :2].astype(np.float64) * (aspect, 1.0) for pose in poses]
        order = _without_doubles(joints, [float(pose[_JOINTS, 3].mean()) for pose in poses])
        self._tracks = [track for track in self._tracks if t - track.seen <= UNSEEN]
        pairs = self._assign([joints[i] for i in order], t)
        told: list[tuple[str, int]] = []
        for at, index in enumerate(order):
            track = pairs.get(at)
            if track is None:
                track = _Track(None, joints[index], t, np.zeros(2))
                self._tracks.append(track)
            else:
                track.see(joints[index], t)
            if track.name is None and track.hits >= HITS:
                self._named += 1
                track.name = f"p{self._named}"
            if track.name is not None:
                told.append((track.name, index))
        return sorted(told, key=lambda one: int(one[0][1:]))

    def _assign(self, seen: list[Floats], t: float) -> dict[int, _Track]:
        """Index of what is seen → the track that expected it."""
        if not seen or not self._tracks:
            return {}
        array = np.stack(seen)
        alike = np.stack([oks(track.expected(t), array, track.area(t)) for track in self._tracks])
        rows, columns = linear_sum_assignment(-alike)
        return {int(c): self._tracks[r] for r, c in zip(rows, columns, strict=True) if alike[r, c] >= SAME}


def _without_doubles(joints: list[Floats], sure: list[float]) -> list[int]:
    """Indices, the surest first, without those that are somebody surer again."""
    kept: list[int] = []
    for i in sorted(range(len(joints)), key=lambda i: -sure[i]):
        areas = [max(_area(joints[k]), _area(joints[i])) for k in kept]
        if not kept or (oks(joints[i], np.stack([joints[k] for k in kept]), np.array(areas)) < TWICE).all():
            kept.append(i)
    return kept


def _area(joints: Floats) -> float:
    """Of the box around the joints; COCO takes the person's own, about half of it."""
    width, height = np.ptp(joints, axis=0)
    return float(max(width * height, 1e-6)) * 0.53
