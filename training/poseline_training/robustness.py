"""What the model claims to bear, as measurements: the same recordings, bent, through the online path.

Each condition is a pure function of a labelled sequence; poses stay in the source's own layout and clock, so everything
from the converter to the decoder is under test. Labels follow the frame grid: frame k is second k / 30.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from poseline.formats.corpus import FPS, LabelledSequence
from poseline.manifest import ModelManifest
from poseline.pose import NATIVE, Coordinates, PoseConverter, PoseSequence
from poseline.skeleton import BODY16, Floats
from poseline.stepping import StepScorer
from poseline_training.evaluate import report, stream_all
from poseline_training.extractor import MEDIAPIPE, extract

Bend = Callable[[PoseSequence, np.random.Generator], PoseSequence]


def _yaw(degrees: float) -> Bend:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]], np.float32)
    return lambda poses, _: replace(poses, joints=np.asarray(poses.joints @ turn, np.float32))


def _tilt(poses: PoseSequence, _: np.random.Generator) -> PoseSequence:
    c, s = np.cos(np.radians(10)), np.sin(np.radians(10))
    turn = np.array([[1, 0, 0], [0, c, -s], [0, s, c]], np.float32)
    return replace(poses, joints=np.asarray(poses.joints @ turn, np.float32))


def _millimetres(poses: PoseSequence, _: np.random.Generator) -> PoseSequence:
    return replace(poses, joints=np.asarray((poses.joints + 5) * 1000, np.float32))


def _hip_centred(poses: PoseSequence, _: np.random.Generator) -> PoseSequence:
    return replace(poses, joints=poses.joints - poses.joints[:, :1])


def _dropouts(poses: PoseSequence, rng: np.random.Generator) -> PoseSequence:
    """Every joint but the root is unseen for a tenth of the time, half a second at a stretch."""
    T, V = poses.confidence.shape
    starts = rng.random((T, V)) < 0.1 / 15
    unseen = (
        np.cumsum(starts, axis=0) - np.cumsum(np.roll(starts, 15, axis=0) * (np.arange(T) >= 15)[:, None], axis=0) > 0
    )
    unseen[:, 0] = False
    return replace(poses, confidence=np.where(unseen, 0, poses.confidence).astype(np.float32))


def _no_hands_seen(poses: PoseSequence, _: np.random.Generator) -> PoseSequence:
    confidence = poses.confidence.copy()
    confidence[:, [i for i, name in enumerate(poses.layout.joints) if name == "left_wrist"]] = 0
    return replace(poses, confidence=confidence)


def _noise(poses: PoseSequence, rng: np.random.Generator) -> PoseSequence:
    white = rng.standard_normal(poses.joints.shape, dtype=np.float32)
    return replace(poses, joints=np.asarray(poses.joints + 0.01 * white, np.float32))


def _rate(fps: float) -> Bend:
    def resample(poses: PoseSequence, _: np.random.Generator) -> PoseSequence:
        at = np.arange(0, (len(poses) - 1) / FPS + 1e-9, 1 / fps)
        before = np.minimum((at * FPS).astype(int), len(poses) - 2)
        share = (at * FPS - before).astype(np.float32)[:, None, None]
        joints = poses.joints[before] * (1 - share) + poses.joints[before + 1] * share
        return replace(poses, joints=np.asarray(joints, np.float32), confidence=poses.confidence[before], timestamps=at)

    return resample


def _native(poses: PoseSequence) -> Floats:
    return PoseConverter(poses.layout, poses.coordinates)(poses.joints, poses.confidence)


def _extracted(poses: PoseSequence, rng: np.random.Generator) -> PoseSequence:
    """By a simulated MediaPipe, from where the camera stood."""
    found = extract(_native(poses), MEDIAPIPE, rng)
    return replace(poses, joints=found[..., :3], confidence=found[..., 3], layout=BODY16, coordinates=NATIVE)


def _picture(poses: PoseSequence, _: np.random.Generator) -> PoseSequence:
    """What the sensor's own camera saw: 640 x 480, a lens of 525 pixels, x to the right, y down. Nothing else is told.

    A stitched stream may walk into its camera; then that steps back until nobody comes nearer than a metre.
    """
    native = _native(poses)
    depth = -native[..., 2:3]
    depth += max(0, 1 - depth.min())
    joints = [320, 240] + 525 * native[..., :2] * [1, -1] / depth
    flat = Coordinates("pixel", 2, "down")
    return replace(poses, joints=joints.astype(np.float32), confidence=native[..., 3], layout=BODY16, coordinates=flat)


CONDITIONS: dict[str, Bend] = {
    "as recorded": lambda poses, _: poses,
    "millimetres, 5 m away": _millimetres,
    "turned by 45°": _yaw(45),
    "turned by 90°": _yaw(90),
    "turned by 180°": _yaw(180),
    "camera pitched by 10°": _tilt,
    "no root motion": _hip_centred,
    "joints unseen a tenth of the time": _dropouts,
    "left wrist never seen": _no_hands_seen,
    "joint noise of 1 cm": _noise,
    "a simulated MediaPipe": _extracted,
    "a picture, no depth (2D)": _picture,
    "10 frames a second": _rate(10),
    "15 frames a second": _rate(15),
    "60 frames a second": _rate(60),
}


def robustness(
    manifest: ModelManifest, scorer: StepScorer, sequences: Sequence[LabelledSequence], label_map: Path | None
) -> dict[str, dict[str, Any]]:
    """Condition → frame mAP, segment mAP@.5, F1@50 of the same recordings."""
    found: dict[str, dict[str, Any]] = {}
    for name, bend in CONDITIONS.items():
        rng = np.random.default_rng(0)
        bent = [replace(one, poses=bend(one.poses, rng)) for one in sequences]
        figures = report(stream_all(manifest, scorer, bent, label_map), manifest.classes)
        found[name] = {
            "frame_map": figures["frame_map"],
            "segment_map_0.5": figures["segment_map"]["0.5"],
            "f1_50": figures["f1"]["50"],
        }
    return found
