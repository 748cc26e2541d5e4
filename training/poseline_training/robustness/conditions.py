"""Ways to bend a recording, each a pure function of (poses, severity, rng); poses keep the source's own layout and clock.

`CURVES` are conditions by degrees, `ONCE` those that have none, `CONDITIONS` the model card's choice of both. Labels follow
the frame grid: frame k is second k / 30. Only a clock that runs wrong moves them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from poseline.formats.corpus import FPS, LabelledSequence
from poseline.pose import NATIVE, Coordinates, PoseConverter, PoseSequence
from poseline.skeleton import BODY16, Flags, Floats, SkeletonLayout
from poseline_training.extractor import MEDIAPIPE, extract

Bend = Callable[[PoseSequence, Generator], PoseSequence]

_FROM = {"arm": "elbow", "leg": "knee"}
_LIMBS = {f"{side} {limb}": f"{side}_{joint}" for limb, joint in _FROM.items() for side in ("left", "right")}


@dataclass(frozen=True)
class Curve:
    """A condition by degrees.

    bend: (poses, severity, rng) → poses. clean: the severity that leaves a recording as it was. wrong_clock: the severity
    is how fast everything seems to go by the client's clock, so labels go along.
    """

    bend: Callable[[PoseSequence, float, Generator], PoseSequence]
    severities: tuple[float, ...]
    clean: float = 0.0
    wrong_clock: bool = False

    def at(self, severity: float) -> Bend:
        return lambda poses, rng: self.bend(poses, severity, rng)

    def labels(self, labels: NDArray[np.int64], severity: float) -> NDArray[np.int64]:
        """The truth at every grid frame of the bent recording."""
        if not self.wrong_clock:
            return labels
        at = np.arange(0, len(labels) - 1 + 1e-9, severity)
        return labels[np.round(at).astype(int)]

    def bent(self, sequence: LabelledSequence, rng: Generator, severity: float) -> LabelledSequence:
        poses, labels = self.bend(sequence.poses, severity, rng), self.labels(sequence.labels, severity)
        return replace(sequence, poses=poses, labels=labels)


# --- what is seen ----------------------------------------------------------------------------------------------------


def _stretches(poses: PoseSequence, seconds: float, share: float, columns: int, rng: Generator) -> Flags:
    """(T, columns) true in stretches of that many seconds, which cover that share of the time; each column by itself."""
    since = (poses.timestamps - poses.timestamps[0])[:, None] / seconds + rng.random(columns)
    chosen = rng.random((int(since.max()) + 1, columns)) < share
    return chosen[since.astype(int), np.arange(columns)]


def _without(poses: PoseSequence, unseen: Flags) -> PoseSequence:
    return replace(poses, confidence=np.where(unseen, 0, poses.confidence).astype(np.float32))


def hide_joints(poses: PoseSequence, share: float, rng: Generator) -> PoseSequence:
    """Every joint but the first is unseen for that share of the time, half a second at a stretch."""
    unseen = _stretches(poses, 0.5, share, len(poses.layout.joints), rng)
    unseen[:, 0] = False
    return _without(poses, unseen)


def hide_limb(limb: str, poses: PoseSequence, share: float, rng: Generator) -> PoseSequence:
    """All of a limb from elbow or knee on is unseen for that share of the time, two seconds at a stretch; 1: throughout."""
    hidden = np.array([_LIMBS[limb] in _upwards(poses.layout, joint) for joint in range(len(poses.layout.joints))])
    return _without(poses, _stretches(poses, 2.0, share, 1, rng) & hidden)


def _upwards(layout: SkeletonLayout, joint: int) -> list[str]:
    """The landmarks of a joint and of all that it hangs on."""
    found: list[str] = []
    while joint >= 0:
        found.append(layout.landmark(layout.joints[joint]))
        joint = layout.parents[joint]
    return found


def _no_left_wrist(poses: PoseSequence, _: Generator) -> PoseSequence:
    return _without(poses, np.array([name == "left_wrist" for name in poses.layout.joints]))


# --- where the joints are --------------------------------------------------------------------------------------------


def shake(poses: PoseSequence, millimetres: float, rng: Generator) -> PoseSequence:
    """White noise on every coordinate of every joint, of that standard deviation."""
    white = rng.standard_normal(poses.joints.shape, dtype=np.float32)
    return replace(poses, joints=np.asarray(poses.joints + millimetres / 1000 * white, np.float32))


def yaw(poses: PoseSequence, degrees: float, _: Generator) -> PoseSequence:
    """Seen from another side: turned about the vertical axis."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return _turned(poses, [[c, 0, s], [0, 1, 0], [-s, 0, c]])


def pitch(poses: PoseSequence, degrees: float, _: Generator) -> PoseSequence:
    """A camera that looks down without saying so: turned about the axis to the right."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return _turned(poses, [[1, 0, 0], [0, c, -s], [0, s, c]])


def _turned(poses: PoseSequence, matrix: list[list[float]]) -> PoseSequence:
    return replace(poses, joints=np.asarray(poses.joints @ np.array(matrix, np.float32), np.float32))


def _millimetres(poses: PoseSequence, _: Generator) -> PoseSequence:
    return replace(poses, joints=np.asarray((poses.joints + 5) * 1000, np.float32))


def _hip_centred(poses: PoseSequence, _: Generator) -> PoseSequence:
    return replace(poses, joints=poses.joints - poses.joints[:, :1])


def mirror(poses: PoseSequence, declared: bool) -> PoseSequence:
    """As a mirrored picture shows it: the other way round, and left is called right. Declared: the client says so."""
    axes = np.array([-1, 1, 1][: poses.joints.shape[2]], np.float32)
    sides = list(poses.layout.mirror)
    return replace(
        poses,
        joints=poses.joints[:, sides] * axes,
        confidence=poses.confidence[:, sides],
        coordinates=replace(poses.coordinates, mirrored=declared),
    )


# --- when frames come ------------------------------------------------------------------------------------------------


def drop_frames(poses: PoseSequence, percent: float, rng: Generator) -> PoseSequence:
    """That share of the frames, drawn at random, never comes; the others keep their times. The first one always comes."""
    come = rng.random(len(poses)) >= percent / 100
    come[0] = True
    return _frames(poses, come)


def hasten(poses: PoseSequence, speed: float, _: Generator) -> PoseSequence:
    """A client that is wrong about its frame rate: by its clock everything goes that many times as fast as it did."""
    return replace(poses, timestamps=poses.timestamps / speed)


def slow_down(poses: PoseSequence, fps: float, _: Generator) -> PoseSequence:
    """A source of that many frames a second, instead of the corpus' 30."""
    at = np.arange(0, (len(poses) - 1) / FPS + 1e-9, 1 / fps)
    before = np.minimum((at * FPS).astype(int), len(poses) - 2)
    share = (at * FPS - before).astype(np.float32)[:, None, None]
    joints = poses.joints[before] * (1 - share) + poses.joints[before + 1] * share
    return replace(poses, joints=np.asarray(joints, np.float32), confidence=poses.confidence[before], timestamps=at)


def _frames(poses: PoseSequence, which: Flags) -> PoseSequence:
    joints, confidence, times = (one[which] for one in (poses.joints, poses.confidence, poses.timestamps))
    return replace(poses, joints=joints, confidence=confidence, timestamps=times)


# --- who looks -------------------------------------------------------------------------------------------------------


def _native(poses: PoseSequence) -> Floats:
    return PoseConverter(poses.layout, poses.coordinates)(poses.joints, poses.confidence)


def _extracted(poses: PoseSequence, rng: Generator) -> PoseSequence:
    """By a simulated MediaPipe, from where the camera stood."""
    found = extract(_native(poses), MEDIAPIPE, rng)
    return replace(poses, joints=found[..., :3], confidence=found[..., 3], layout=BODY16, coordinates=NATIVE)


def _picture(poses: PoseSequence, _: Generator) -> PoseSequence:
    """What the sensor's own camera saw: 640 x 480, a lens of 525 pixels, x to the right, y down. Nothing else is told.

    A stitched stream may walk into its camera; then that steps back until nobody comes nearer than a metre.
    """
    native = _native(poses)
    depth = -native[..., 2:3]
    depth += max(0, 1 - depth.min())
    joints = [320, 240] + 525 * native[..., :2] * [1, -1] / depth
    flat = Coordinates("pixel", 2, "down")
    return replace(poses, joints=joints.astype(np.float32), confidence=native[..., 3], layout=BODY16, coordinates=flat)


CURVES: dict[str, Curve] = {
    "joints unseen, share of time": Curve(hide_joints, (0.05, 0.1, 0.2, 0.3, 0.5)),
    **{f"{limb} unseen, share of time": Curve(partial(hide_limb, limb), (0.25, 0.5, 1.0)) for limb in _LIMBS},
    "joint noise, mm": Curve(shake, (5, 10, 20, 40)),
    "frames dropped, %": Curve(drop_frames, (10, 30, 50)),
    "frames a second": Curve(slow_down, (10, 15, 60), clean=FPS),
    "claimed speed over true speed": Curve(hasten, (0.8, 1.25, 1.5, 2), clean=1, wrong_clock=True),
    "turned, degrees": Curve(yaw, (45, 90, 135, 180)),
    "camera pitched, degrees": Curve(pitch, (10, 20)),
}
"""Condition, with the unit of its severities → how."""

ONCE: dict[str, Bend] = {
    "as recorded": lambda poses, _: poses,
    "millimetres, 5 m away": _millimetres,
    "mirrored, undeclared": lambda poses, _: mirror(poses, declared=False),
    "mirrored, declared": lambda poses, _: mirror(poses, declared=True),
    "no root motion": _hip_centred,
    "left wrist never seen": _no_left_wrist,
    "a simulated MediaPipe": _extracted,
    "a picture, no depth (2D)": _picture,
}

CONDITIONS: dict[str, Bend] = {
    "as recorded": ONCE["as recorded"],
    "millimetres, 5 m away": ONCE["millimetres, 5 m away"],
    "turned by 45°": CURVES["turned, degrees"].at(45),
    "turned by 90°": CURVES["turned, degrees"].at(90),
    "turned by 180°": CURVES["turned, degrees"].at(180),
    "camera pitched by 10°": CURVES["camera pitched, degrees"].at(10),
    "mirrored, undeclared": ONCE["mirrored, undeclared"],
    "mirrored, declared": ONCE["mirrored, declared"],
    "no root motion": ONCE["no root motion"],
    "joints unseen a tenth of the time": CURVES["joints unseen, share of time"].at(0.1),
    "left wrist never seen": ONCE["left wrist never seen"],
    "joint noise of 1 cm": CURVES["joint noise, mm"].at(10),
    "a simulated MediaPipe": ONCE["a simulated MediaPipe"],
    "a picture, no depth (2D)": ONCE["a picture, no depth (2D)"],
    "10 frames a second": CURVES["frames a second"].at(10),
    "15 frames a second": CURVES["frames a second"].at(15),
    "60 frames a second": CURVES["frames a second"].at(60),
}
"""What the model card says of each set; the labels of all of them stay where they are."""
