"""A pose extractor, simulated: what one makes of a person whom a depth sensor saw. Pure functions of (poses, rng).

Poses (T, 16, 4), native: x, y, z, confidence; the camera looks along -z, so z is depth. `extract` is a 3D extractor such
as MediaPipe: hips always in the middle, depth too shallow and wandering, hidden limbs guessed, frames without anybody.
`flatten` is a picture: a perspective view, and no depth at all.

`MEDIAPIPE` has the errors of MediaPipe's full model (0.10.33, world landmarks), estimated by `estimate` from five video
clips (docs/extractors.md). There is no truth beside those clips; what tells the errors is what a body cannot do: jump
between two frames (jitter: what differs from the mean of both neighbours) and change the length of its bones (depth).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from poseline.pose import PoseSequence
from poseline.resampling import HOLD
from poseline.skeleton import BODY16, Floats

_FPS = 30
_AT = {name: i for i, name in enumerate(BODY16.joints)}
_LIMBS = [
    [_AT[f"{side}_{joint}"] for joint in limb]
    for side in ("left", "right")
    for limb in (("elbow", "wrist"), ("knee", "ankle"))
]
_REACH = np.ones(len(_AT), np.float32)
for _limb in _LIMBS:
    _REACH[_limb] = 1.5, 2.0
"""How much larger a joint's error is than the trunk's: errors grow along a limb."""
_DEPTHS = 1.5
"""Of the jitter: the depth of a landmark is guessed, its place in the picture is seen (measured: 1.3 to 2.5 times)."""


_BURST = 30


@dataclass(frozen=True)
class ExtractorNoise:
    """What an extractor does to a pose; lengths in metres for a person of ordinary size.

    jitter: standard deviation from frame to frame, in the picture's plane. bursts: share of frames with jitter `_BURST`
    times as large. wander: standard deviation of slow errors of depth. wander_seconds: how slow. depth: least and most of
    the true depth that is told, one value for a clip. hidden: share of the time for which a limb is hidden: a guess of
    low confidence. lost: share of frames without anybody, a few at a time.
    """

    jitter: float
    bursts: float
    wander: float
    wander_seconds: float
    depth: tuple[float, float]
    hidden: float
    lost: float

    def times(self, factor: float) -> ExtractorNoise:
        """Errors larger or smaller, depth as it was."""
        return ExtractorNoise(
            self.jitter * factor,
            self.bursts * factor,
            self.wander * factor,
            self.wander_seconds,
            self.depth,
            self.hidden * factor,
            self.lost * factor,
        )


MEDIAPIPE = ExtractorNoise(
    jitter=0.0012, bursts=0.03, wander=0.025, wander_seconds=0.5, depth=(0.6, 1.0), hidden=0.2, lost=0.02
)


def extract(poses: Floats, noise: ExtractorNoise, rng: Generator) -> Floats:
    """As a 3D extractor would have given them: (T, 16, 4) → (T, 16, 4), about the pelvis."""
    T = len(poses)
    joints, confidence = poses[..., :3] - poses[:, :1, :3], poses[..., 3].copy()
    joints = _as_derived(joints)
    joints[..., 2] *= rng.uniform(*noise.depth)
    joints[..., 2] += _slow(T, noise, rng) * (noise.wander * _REACH)
    burst = np.where(rng.random((T, 1)) < noise.bursts, _BURST, 1)
    white = rng.standard_normal(joints.shape, dtype=np.float32)
    joints += white * (noise.jitter * burst * _REACH)[..., None] * np.array([1, 1, _DEPTHS], np.float32)
    for limb in _LIMBS:
        for start, end in _spans(T, noise.hidden, rng.uniform(0.5, 2.0), rng):
            error = np.stack([_slow(end - start, noise, rng)[:, limb] for _ in range(3)], axis=-1)
            joints[start:end, limb] += error * np.array([0.05, 0.05, 0.1], np.float32)
            confidence[start:end, limb] *= rng.uniform(0.05, 0.5)
    joints -= joints[:, :1]
    out = np.concatenate([joints, confidence[..., None]], axis=-1).astype(np.float32)
    for start, end in _spans(T, noise.lost, rng.uniform(0.03, HOLD), rng):
        if start > 0 and end < T:  # what was not there is bridged by the grid
            share = (np.arange(1, end - start + 1, dtype=np.float32) / (end - start + 1))[:, None, None]
            out[start:end] = out[start - 1] * (1 - share) + out[end] * share
    return out


def flatten(poses: Floats, distance: float, height: float) -> Floats:
    """A picture of the clip, in which its middle is `distance` metres away and the lens `height` above the pelvis there.

    x and y in the scale that they have at that distance; z = 0.
    """
    middle = poses[:, 0, :3].mean(axis=0)
    joints = poses[..., :3] - middle
    nearer = np.maximum(1 - joints[..., 2:] / distance, 0.2)  # nobody stands in the lens
    flat = poses.copy()
    flat[..., :2] = (joints[..., :2] - [0, height]) / nearer
    flat[..., 2] = 0
    return flat


def estimate(poses: PoseSequence) -> dict[str, float]:
    """What tells an extractor's errors in a recording of its own: metres, and shares.

    jitter, jitter_depth: robust standard deviation (1.48 times the median of absolute values) of a joint against the mean
    of its neighbours in time, divided by √1.5, which is what that mean adds. burst: root mean square of the same over it.
    bones: standard deviation of limbs' lengths over their mean. hidden: share of joints of confidence below one half.
    """
    joints, names = poses.joints, [f"{side}_{joint}" for side in ("left", "right") for joint in _CHAIN]
    at = [poses.layout.joints.index(name) for name in names]
    jumps = (joints[1:-1] - (joints[:-2] + joints[2:]) / 2)[:, at] / 1.5**0.5
    jitter = 1.4826 * np.median(np.abs(jumps), axis=(0, 1))
    lengths = [
        np.linalg.norm(joints[:, at[i]] - joints[:, at[i + 1]], axis=-1)
        for i in range(len(at) - 1)
        if names[i + 1].split("_")[1] not in ("shoulder", "hip")
    ]
    return {
        "jitter": float(jitter[:2].mean()),
        "jitter_depth": float(jitter[2]),
        "burst": float(np.sqrt((jumps[..., :2] ** 2).mean()) / max(jitter[:2].mean(), 1e-9)),
        "bones": float(np.mean([one.std() / one.mean() for one in lengths])),
        "hidden": float((poses.confidence[:, at] < 0.5).mean()),
    }


_CHAIN = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")


def _as_derived(joints: Floats) -> Floats:
    """The trunk's own joints where an extractor without a spine has them: means of shoulders and hips."""
    joints = joints.copy()
    hips = (joints[:, _AT["left_hip"]] + joints[:, _AT["right_hip"]]) / 2
    shoulders = (joints[:, _AT["left_shoulder"]] + joints[:, _AT["right_shoulder"]]) / 2
    joints[:, _AT["pelvis"]], joints[:, _AT["neck"]] = hips, shoulders
    joints[:, _AT["spine"]] = (hips + shoulders) / 2
    return joints


def _slow(T: int, noise: ExtractorNoise, rng: Generator) -> Floats:
    """Errors (T, 16) of standard deviation about 1 that come and go within `wander_seconds`."""
    step = noise.wander_seconds * _FPS
    knots = rng.standard_normal((int(T / step) + 2, len(_AT)), dtype=np.float32) * 1.25  # what mixing takes away
    at = np.arange(T) / step + rng.random()
    before = np.minimum(at.astype(int), len(knots) - 2)
    share = (at - before).astype(np.float32)[:, None]
    return np.asarray(knots[before] * (1 - share) + knots[before + 1] * share, np.float32)


def _spans(T: int, share: float, seconds: float, rng: Generator) -> list[tuple[int, int]]:
    """Stretches of `seconds` that cover about that share of T frames."""
    length = max(1, round(seconds * _FPS))
    starts: NDArray[np.int64] = np.flatnonzero(rng.random(T) < share / length)
    return [(int(start), min(T, int(start) + length)) for start in starts]
