"""Bending a clip: pure functions of (poses, rng). Poses (T, 16, 4): x, y, z, confidence; labels stay true.

What is bent is what the model promises to bear (`house.md` 4a): scale, yaw, tilt, bone lengths, tempo, noise, joints that
freeze or go missing, sources without root motion, slow sources, pose extractors, pictures without depth.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from poseline.resampling import HOLD
from poseline.skeleton import BODY16, Floats
from poseline_training.config import AugmentSettings
from poseline_training.extractor import MEDIAPIPE, extract, flatten

_MIRROR = list(BODY16.mirror)
_PARENTS = np.array([max(parent, 0) for parent in BODY16.parents])
_HOLD_FRAMES = round(HOLD * 30)


def resample(poses: Floats, labels: NDArray[np.int64], frames: int, tempo: float) -> tuple[Floats, NDArray[np.int64]]:
    """The clip at `tempo` times its speed, `frames` long; beyond its end it stands still and its labels are -1."""
    at = np.arange(frames) * tempo
    last = len(labels) - 1
    before = np.minimum(at.astype(int), last)
    after = np.minimum(before + 1, last)
    share = np.clip(at - before, 0, 1).astype(np.float32)[:, None, None]
    nearest = np.minimum(np.round(at).astype(int), last)
    mixed = np.asarray(poses[before] * (1 - share) + poses[after] * share, np.float32)
    return mixed, np.where(at <= last, labels[nearest], -1)


def slow_source(poses: Floats, rng: Generator) -> Floats:
    """As if the source had given 10 to 20 frames a second."""
    step = rng.uniform(1.5, 3.0)
    at = np.arange(len(poses)) / step
    source = np.minimum(np.round(np.arange(int(at[-1]) + 2) * step).astype(int), len(poses) - 1)
    before = at.astype(int)
    share = (at - before).astype(np.float32)[:, None, None]
    return np.asarray(poses[source[before]] * (1 - share) + poses[source[before + 1]] * share, np.float32)


def augment(poses: Floats, settings: AugmentSettings, rng: Generator, strength: float = 1.0) -> Floats:
    """A likeness of the clip: (T, 16, 4) → (T, 16, 4). `strength` scales small yaw, noise and the chance to freeze."""
    poses = poses.copy()
    if rng.random() < 0.5:
        poses = poses[:, _MIRROR] * np.array([-1, 1, 1, 1], np.float32)
    joints = poses[..., :3]
    if rng.random() < settings.hip_centred:
        joints = joints - joints[:, :1]
    joints = joints @ _turn(settings, rng, strength)
    joints = _other_bones(joints, settings.bones, rng)
    joints = _noise(joints, rng.uniform(0, settings.noise * strength), rng)
    poses[..., :3] = joints
    source = rng.random()
    if source < settings.extractor:
        poses = extract(poses, MEDIAPIPE.times(rng.uniform(0.3, 2)), rng)
    elif source < settings.extractor + settings.flat:
        poses = flatten(poses, rng.uniform(2, 6), rng.normal(0, 0.5))
    if rng.random() < settings.slow_source:
        poses = slow_source(poses, rng)
    if rng.random() < settings.freeze * strength:
        _freeze(poses, rng)
    if rng.random() < settings.doubt:
        poses[..., 3] *= rng.uniform(0.3, 1.0, (1, poses.shape[1])).astype(np.float32)
    if rng.random() < settings.missing:
        _lose(poses, rng)
    return poses


def _turn(settings: AugmentSettings, rng: Generator, strength: float) -> Floats:
    """Yaw, tilt, scale and stretch as one (3, 3) matrix, applied from the right."""
    yaw = rng.uniform(-180, 180) if rng.random() < settings.any_yaw else rng.uniform(-1, 1) * settings.yaw * strength
    a, b, c = np.radians([yaw, *rng.normal(0, settings.tilt, 2)])
    about_y = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    scale = rng.uniform(1 - settings.scale, 1 + settings.scale) * np.exp(rng.normal(0, settings.stretch, 3))
    return (about_y @ about_x @ about_z * scale).astype(np.float32)


def _other_bones(joints: Floats, spread: float, rng: Generator) -> Floats:
    """Bones of other lengths, left and right alike."""
    factor = np.exp(rng.normal(0, spread, len(_PARENTS))).astype(np.float32)
    factor = (factor + factor[_MIRROR]) / 2
    shift = (joints - joints[:, _PARENTS]) * (factor - 1)[:, None]
    for joint in range(1, len(_PARENTS)):  # a parent's shift moves all below it; parents come first
        shift[:, joint] += shift[:, _PARENTS[joint]]
    return np.asarray(joints + shift, np.float32)


def _noise(joints: Floats, spread: float, rng: Generator) -> Floats:
    """Smooth joint noise: white, averaged over three frames."""
    white = rng.standard_normal((len(joints) + 2, *joints.shape[1:]), dtype=np.float32)
    return np.asarray(joints + spread / 3**0.5 * (white[:-2] + white[1:-1] + white[2:]), np.float32)


def _some_joints(rng: Generator, frames: int, most: int) -> tuple[NDArray[np.int64], int, int]:
    joints = np.sort(rng.choice(len(_PARENTS) - 1, rng.integers(1, most + 1), replace=False)) + 1
    start = int(rng.integers(0, frames))
    return joints, start, min(frames, start + int(rng.integers(8, 64)))


def _freeze(poses: Floats, rng: Generator) -> None:
    """A sensor that keeps reporting an old place, relative to the pelvis."""
    joints, start, end = _some_joints(rng, len(poses), 3)
    offset = poses[start, joints, :3] - poses[start, 0, :3]
    poses[start:end, joints, :3] = poses[start:end, :1, :3] + offset


def _lose(poses: Floats, rng: Generator) -> None:
    """Joints that are not seen, placed as the frame grid places them."""
    joints, start, end = _some_joints(rng, len(poses), 5)
    held = min(end, start + _HOLD_FRAMES)
    if start > 0:
        poses[start:held, joints, :3] = poses[start - 1, joints, :3]
    else:
        held = start
    for joint in joints:
        poses[held:end, joint, :3] = poses[held:end, _PARENTS[joint], :3]
    poses[start:end, joints, 3] = 0
