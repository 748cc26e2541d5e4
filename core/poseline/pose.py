"""Poses as they come in, and the one way into the model's own space.

A `PoseSequence` holds joints (T, V, C), confidence (T, V) and timestamps (T,) in seconds, checked on construction.
`Coordinates` says what the numbers mean. `PoseConverter` carries out layout, axes, facing and mirroring in one place:
out come native poses (T, 16, 4): x, y, z (right-handed, +y up, the person facing +z) and confidence 0..1.

A missing joint has confidence 0 and coordinates 0 until the frame grid places it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from poseline.errors import BadConfidence, BadNumber, BadTimestamps, ShapeMismatch, TooShort, UnitUnknown
from poseline.skeleton import BODY16, Flags, Floats, SkeletonLayout, conversion

Space = Literal["camera_m", "world_m", "pixel", "normalized"]
SPACES: tuple[Space, ...] = ("camera_m", "world_m", "pixel", "normalized")
Facing = Literal["+z", "-z"]
LARGEST_IMAGE = 2**16
"""Pixels a side: what image formats can hold."""


@dataclass(frozen=True)
class Coordinates:
    """What a pose's numbers mean.

    space: `camera_m`, `world_m` (metres; any other unit of length works too, the network divides by the torso), `pixel`, or
        `normalized` (shares of an image's width and height; a third coordinate is scaled like x).
    dims: 2 or 3; in two, depth is zero. y_axis: where +y points. The axes are right-handed, so it settles with
    facing, where a person looking at the camera looks, where +x points. mirrored: the camera image is mirrored.
    image_size: width and height in pixels, which `normalized` needs for its axes to be of one unit.

    Raises UnitUnknown, ShapeMismatch.
    """

    space: Space = "camera_m"
    dims: int = 3
    y_axis: Literal["up", "down"] = "up"
    facing: Facing = "-z"
    mirrored: bool = False
    image_size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.space not in SPACES:
            raise UnitUnknown(f"unknown space {self.space!r}; known: {', '.join(SPACES)}", param="coordinates.space")
        if self.dims not in (2, 3):
            raise ShapeMismatch(f"dims is {self.dims}, expected 2 or 3", param="coordinates.dims")
        if self.image_size is not None and not all(0 < side <= LARGEST_IMAGE for side in self.image_size):
            what = f"image_size is {self.image_size}, expected a width and a height of 1 to {LARGEST_IMAGE} pixels"
            raise UnitUnknown(what, param="coordinates.image_size")


NATIVE = Coordinates("world_m", 3, "up", "+z", False)


@dataclass(frozen=True)
class PoseFrame:
    """One person at one moment: joints (V, C), confidence (V,) in 0..1, time `t` in seconds.

    Lists become arrays. Raises ShapeMismatch, BadNumber, BadTimestamps.
    """

    t: float
    joints: Floats
    confidence: Floats

    def __post_init__(self) -> None:
        joints, confidence = np.asarray(self.joints, np.float32), np.asarray(self.confidence, np.float32)
        if joints.ndim != 2 or confidence.shape != joints.shape[:1]:
            raise ShapeMismatch(f"joints {joints.shape} and confidence {confidence.shape}, expected (V, C) and (V,)")
        if not np.isfinite(self.t):
            raise BadTimestamps(f"the time of a frame is {self.t}, expected seconds")
        check_numbers(joints, confidence, f" (at {self.t:g} s)")
        object.__setattr__(self, "joints", joints)
        object.__setattr__(self, "confidence", confidence)


@dataclass(frozen=True)
class PoseSequence:
    """One person over time. Missing joints have confidence 0.

    joints (T, V, C) float32; confidence (T, V) in 0..1; timestamps (T,) seconds, strictly rising.
    Raises ShapeMismatch, BadNumber, BadTimestamps, TooShort.
    """

    joints: Floats
    confidence: Floats
    timestamps: NDArray[np.float64]
    layout: SkeletonLayout = BODY16
    coordinates: Coordinates = NATIVE
    name: str = ""
    where: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        where = f" ({self.where})" if self.where else ""
        V, C = len(self.layout.joints), self.coordinates.dims
        if self.joints.ndim != 3:
            raise ShapeMismatch(f"joints have {self.joints.ndim} axes, expected 3: frames, joints, coordinates{where}")
        if len(self.joints) == 0:
            raise TooShort(f"the sequence holds no frame{where}")
        if self.joints.shape[1] != V:
            raise ShapeMismatch(
                f"joint axis has {self.joints.shape[1]} entries, layout {self.layout.name} has {V}{where}",
                param="keypoints",
            )
        if self.joints.shape[2] != C:
            raise ShapeMismatch(
                f"coordinate axis has {self.joints.shape[2]} entries, coordinates declare {C} dimensions{where}",
                param="keypoints",
            )
        if self.confidence.shape != self.joints.shape[:2] or self.timestamps.shape != self.joints.shape[:1]:
            raise ShapeMismatch(
                f"confidence or timestamps do not match {self.joints.shape[:2]} frames and joints{where}"
            )
        check_numbers(self.joints, self.confidence, where)
        rising = np.diff(self.timestamps) > 0
        if not np.isfinite(self.timestamps).all() or not rising.all():
            at = int(np.argmin(rising)) + 1 if len(rising) else 0
            raise BadTimestamps(f"timestamps must rise strictly; they do not at frame {at}{where}", param="timestamps")

    def __len__(self) -> int:
        return len(self.joints)

    @property
    def duration(self) -> float:
        """Seconds from the first to the last frame."""
        return float(self.timestamps[-1] - self.timestamps[0])

    def frames(self) -> list[PoseFrame]:
        return [
            PoseFrame(float(t), joints, confidence)
            for t, joints, confidence in zip(self.timestamps, self.joints, self.confidence, strict=True)
        ]


FARTHEST = 1e6
"""Largest coordinate, in any unit: a kilometre in millimetres. Beyond it squares leave float32."""


def check_numbers(joints: Floats, confidence: Floats, where: str = "") -> None:
    """Coordinates must be finite and within ±`FARTHEST`, confidences in 0..1. Raises BadNumber, BadConfidence."""
    if not np.isfinite(joints).all():
        raise BadNumber(f"a coordinate is not a finite number{where}", param="keypoints")
    if (np.abs(joints) > FARTHEST).any():
        raise BadNumber(f"a coordinate lies beyond ±{FARTHEST:g}{where}", param="keypoints")
    if not ((confidence >= 0) & (confidence <= 1)).all():
        raise BadConfidence(f"a confidence lies outside 0..1{where}", param="keypoints")


TORSO = ("pelvis", "neck")
"""Native joints between which a person is measured: until both are seen in one frame, a pose has no scale."""


def has_scale(poses: Floats, native: SkeletonLayout = BODY16) -> Flags:
    """(…,) which native poses (…, 16, 4) show both ends of the torso."""
    return poses[..., [native.joints.index(name) for name in TORSO], 3].min(axis=-1) > 0


def sequence_from_rate(joints: ArrayLike, fps: float, **kwargs: object) -> PoseSequence:
    """A PoseSequence from joints (T, V, C) alone: evenly timed at `fps`, everything seen."""
    array = np.asarray(joints, np.float32)
    return PoseSequence(
        array,
        np.ones(array.shape[:2], np.float32),
        np.arange(len(array)) / fps,
        **kwargs,  # pyright: ignore[reportArgumentType]
    )


def _turned(coordinates: Coordinates) -> Floats:
    """(3,) what each axis is multiplied by to be +y up, facing +z: half a turn about one axis, or none.

    A mirrored image is turned back by a reflection, together with the swap of sides.
    """
    y = -1 if coordinates.y_axis == "down" else 1
    z = -1 if coordinates.facing == "-z" else 1
    x = y * z * (-1 if coordinates.mirrored else 1)
    return np.array([x, y, z], np.float32)


def _unit(coordinates: Coordinates) -> Floats:
    """(3,) what each axis is multiplied by for all to be of one unit."""
    if coordinates.space != "normalized":
        return np.ones(3, np.float32)
    if coordinates.image_size is None:
        what = "normalized coordinates are shares of an image whose size is not given"
        raise UnitUnknown(what, param="coordinates.image_size")
    width, height = coordinates.image_size
    return np.array([width, height, width], np.float32)


class PoseConverter:
    """From one stream's layout and coordinates to native poses (…, 16, 4)."""

    def __init__(self, layout: SkeletonLayout, coordinates: Coordinates, native: SkeletonLayout = BODY16) -> None:
        """Raises LayoutMismatch; UnitUnknown where `normalized` comes without the image's size."""
        self.layout = layout
        self.coordinates = coordinates
        found = conversion(layout, native)
        self.approximate = found.approximate
        weights = found.weights
        if coordinates.mirrored:
            weights = weights[:, list(layout.mirror)]
        self._weights = weights
        self._uses: Flags = weights > 0
        self._axes = _turned(coordinates) * _unit(coordinates)
        self._matrix = self._whole()
        self._means = [(to, np.flatnonzero(parts)) for to, parts in enumerate(self._uses) if parts.sum() > 1]

    def _whole(self) -> Floats:
        """(V·(C + 1), 16·4): the map of a pose whose joints are all seen, but for the confidence of means."""
        V, C, joints = len(self.layout.joints), self.coordinates.dims, len(self._weights)
        matrix = np.zeros((V, C + 1, joints, 4), np.float32)
        for axis in range(C):
            matrix[:, axis, :, axis] = self._weights.T * self._axes[axis]
        matrix[:, C, :, 3] = self._uses.T / np.maximum(self._uses.sum(axis=1), 1)
        return matrix.reshape(V * (C + 1), joints * 4)

    def __call__(self, joints: Floats, confidence: Floats) -> Floats:
        """joints (…, V, C), confidence (…, V) → (…, 16, 4). Raises ShapeMismatch."""
        V, C = len(self.layout.joints), self.coordinates.dims
        if joints.shape[-2:] != (V, C):
            what = f"joints come as {joints.shape[-2:]}, layout {self.layout.name} in {C} dimensions has {(V, C)}"
            raise ShapeMismatch(what, param="keypoints")
        return self.convert(np.concatenate([joints, confidence[..., None]], axis=-1))

    def convert(self, poses: Floats) -> Floats:
        """poses (…, V, C + 1), confidence last → (…, 16, 4).

        A derived joint is the mean of those of its parts that are seen, and as sure as the least sure of them.
        """
        V, channels = poses.shape[-2:]
        if poses[..., -1].min(initial=1) <= 0:
            return self._convert_partly_seen(poses[..., :-1], poses[..., -1])
        out = (poses.reshape(-1, V * channels) @ self._matrix).reshape(*poses.shape[:-2], -1, 4)
        for joint, parts in self._means:
            out[..., joint, 3] = poses[..., parts, -1].min(axis=-1)
        return out

    def _convert_partly_seen(self, joints: Floats, confidence: Floats) -> Floats:
        out = np.zeros((*joints.shape[:-2], len(self._weights), 4), np.float32)
        parts = self._uses & (confidence > 0)[..., None, :]
        weights = self._weights * parts
        weights = weights / np.maximum(weights.sum(axis=-1, keepdims=True), 1e-9)
        out[..., : joints.shape[-1]] = weights @ joints
        out[..., :3] *= self._axes
        sure = np.where(parts, confidence[..., None, :], np.float32(1)).min(axis=-1)
        out[..., 3] = np.where(parts.any(axis=-1), sure, np.float32(0))
        return out
