"""Joint layouts and the one way from any of them to any other: a matrix.

A `SkeletonLayout` is a list of joint names with a tree. Vendors give the same word to different points (Kinect v2's
`neck` is above Kinect v1's `shoulder_center`; OpenPose's `neck` is the middle of the shoulders), so a layout may say
which *landmark* a joint name means. `conversion(a, b)` finds every landmark of `b` among those of `a`, directly or as
a weighted mean of others, and answers with a matrix (V_b, V_a); what cannot be found is a row of zeros, marked missing.

Joint names and orders: the vendors' own lists (sources in docs/protocol.md). Sides are always the person's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from numpy.typing import NDArray

from poseline.errors import LayoutMismatch, UnknownLayout

Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class SkeletonLayout:
    """Joint names in order, and the tree they form.

    joints: (V,) names. parents: (V,) index of each joint's parent, -1 for the root.
    landmarks: joint name -> the landmark it stands for, where that is not the name itself.
    """

    name: str
    joints: tuple[str, ...]
    parents: tuple[int, ...]
    landmarks: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def bones(self) -> tuple[tuple[int, int], ...]:
        """(child, parent) index pairs, 0-based."""
        return tuple((child, parent) for child, parent in enumerate(self.parents) if parent >= 0)

    @property
    def mirror(self) -> tuple[int, ...]:
        """Index permutation that swaps left and right; applying it twice is the identity.

        Raises LayoutMismatch where a joint of one side has no twin: only a custom layout can be so.
        """
        index = {name: i for i, name in enumerate(self.joints)}
        if lone := [name for name in self.joints if _other_side(name) not in index]:
            raise LayoutMismatch(
                f"layout {self.name} cannot be mirrored: {', '.join(lone)} without twin", param="layout"
            )
        return tuple(index[_other_side(name)] for name in self.joints)

    def landmark_index(self) -> dict[str, int]:
        return {self.landmarks.get(name, name): i for i, name in enumerate(self.joints)}


@dataclass(frozen=True)
class Conversion:
    """How to get one layout's joints from another's: `target = weights @ source`.

    weights: (V_target, V_source), rows sum to 1, or to 0 where `missing`.
    missing: (V_target,) True where the source has nothing to offer.
    approximate: some joint is a mean of others or missing, so the result is a likeness.
    """

    source: SkeletonLayout
    target: SkeletonLayout
    weights: Floats
    missing: Flags
    approximate: bool


def _other_side(name: str) -> str:
    if name.startswith("left_"):
        return "right_" + name[5:]
    if name.startswith("right_"):
        return "left_" + name[6:]
    if name.endswith("_left"):
        return name[:-4] + "right"
    if name.endswith("_right"):
        return name[:-5] + "left"
    return name


# Where a landmark is absent, the mean of others stands in: first list that the source can fill wins.
_STAND_INS: dict[str, tuple[tuple[str, ...], ...]] = {
    "pelvis": (("left_hip", "right_hip"),),
    "shoulder_center": (("left_shoulder", "right_shoulder"),),
    "spine": (("pelvis", "shoulder_center"),),
    "head": (("left_ear", "right_ear"), ("nose",)),
    "neck": (("shoulder_center", "head"),),
    "left_hand": (("left_wrist", "left_index"), ("left_wrist",)),
    "right_hand": (("right_wrist", "right_index"), ("right_wrist",)),
    "left_hand_tip": (("left_index",),),
    "right_hand_tip": (("right_index",),),
    "left_foot": (("left_foot_index",),),
    "right_foot": (("right_foot_index",),),
}
# A lone stand-in is exact only when it is the same landmark; these are likenesses.


def _weights(landmark: str, source: dict[str, int], size: int) -> tuple[Floats | None, bool]:
    """Row of weights for one landmark, and whether it is exact; None where the source cannot give it."""
    row = np.zeros(size, np.float32)
    if landmark in source:
        row[source[landmark]] = 1
        return row, True
    for parts in _STAND_INS.get(landmark, ()):
        rows = [_weights(part, source, size)[0] for part in parts if part != landmark]
        found = [r for r in rows if r is not None]
        if len(found) == len(parts):
            return np.stack(found).mean(axis=0).astype(np.float32), False
    return None, False


@cache
def _registered_conversion(source: str, target: str) -> Conversion:
    return _convert(LAYOUTS[source], LAYOUTS[target])


def _convert(source: SkeletonLayout, target: SkeletonLayout) -> Conversion:
    index = source.landmark_index()
    weights = np.zeros((len(target.joints), len(source.joints)), np.float32)
    missing = np.zeros(len(target.joints), np.bool_)
    exact = True
    for i, joint in enumerate(target.joints):
        row, same = _weights(target.landmarks.get(joint, joint), index, len(source.joints))
        exact &= same
        if row is None:
            missing[i] = True
        else:
            weights[i] = row
    weights.setflags(write=False)
    missing.setflags(write=False)
    return Conversion(source, target, weights, missing, not exact)


def conversion(source: SkeletonLayout, target: SkeletonLayout) -> Conversion:
    """The matrix from `source` to `target`.

    Raises LayoutMismatch where fewer than half of the target's joints can be had: such a pose would be a guess.
    """
    if LAYOUTS.get(source.name) is source and LAYOUTS.get(target.name) is target:
        found = _registered_conversion(source.name, target.name)
    else:
        found = _convert(source, target)
    if found.missing.mean() > 0.5:
        lacking = ", ".join(target.joints[i] for i in np.flatnonzero(found.missing))
        raise LayoutMismatch(f"layout {source.name} lacks most joints of {target.name}: {lacking}", param="layout")
    return found


def layout(name: str) -> SkeletonLayout:
    """The registered layout of that name. Raises UnknownLayout."""
    try:
        return LAYOUTS[name]
    except KeyError:
        raise UnknownLayout(f"unknown layout {name!r}; known: {', '.join(LAYOUTS)}", param="layout") from None


def _sides(*names: str) -> Iterable[str]:
    for name in names:
        yield f"left_{name}"
        yield f"right_{name}"


def _table(*layouts: SkeletonLayout) -> dict[str, SkeletonLayout]:
    return {one.name: one for one in layouts}


LAYOUTS: dict[str, SkeletonLayout] = _table(
    SkeletonLayout(
        "body16",
        ("pelvis", "spine", "neck", "head",
         "left_shoulder", "left_elbow", "left_wrist", "right_shoulder", "right_elbow", "right_wrist",
         "left_hip", "left_knee", "left_ankle", "right_hip", "right_knee", "right_ankle"),
        (-1, 0, 1, 2, 2, 4, 5, 2, 7, 8, 0, 10, 11, 0, 13, 14),
        {"neck": "shoulder_center"},
    ),
    SkeletonLayout(
        "kinect_v1_20",
        ("hip_center", "spine", "shoulder_center", "head",
         "left_shoulder", "left_elbow", "left_wrist", "left_hand",
         "right_shoulder", "right_elbow", "right_wrist", "right_hand",
         "left_hip", "left_knee", "left_ankle", "left_foot",
         "right_hip", "right_knee", "right_ankle", "right_foot"),
        (-1, 0, 1, 2, 2, 4, 5, 6, 2, 8, 9, 10, 0, 12, 13, 14, 0, 16, 17, 18),
        {"hip_center": "pelvis"},
    ),
    SkeletonLayout(
        "kinect_v2_25",
        ("spine_base", "spine_mid", "neck", "head",
         "left_shoulder", "left_elbow", "left_wrist", "left_hand",
         "right_shoulder", "right_elbow", "right_wrist", "right_hand",
         "left_hip", "left_knee", "left_ankle", "left_foot",
         "right_hip", "right_knee", "right_ankle", "right_foot",
         "spine_shoulder", "left_hand_tip", "left_thumb", "right_hand_tip", "right_thumb"),
        (1, 20, 20, 2, 20, 4, 5, 6, 20, 8, 9, 10, 0, 12, 13, 14, 0, 16, 17, 18, -1, 7, 7, 11, 11),
        {"spine_base": "pelvis", "spine_mid": "spine", "spine_shoulder": "shoulder_center"},
    ),
    SkeletonLayout(
        "coco17",
        ("nose", *_sides("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")),
        (-1, 0, 0, 1, 2, 0, 0, 5, 6, 7, 8, 5, 6, 11, 12, 13, 14),
    ),
    SkeletonLayout(
        "blazepose33",
        ("nose", "left_eye_inner", "left_eye", "left_eye_outer", "right_eye_inner", "right_eye", "right_eye_outer",
         "left_ear", "right_ear", "mouth_left", "mouth_right",
         *_sides("shoulder", "elbow", "wrist", "pinky", "index", "thumb", "hip", "knee", "ankle", "heel",
                 "foot_index")),
        (-1, 0, 1, 2, 0, 4, 5, 3, 6, 0, 0, 0, 0, 11, 12, 13, 14, 15, 16, 15, 16, 15, 16, 11, 12, 23, 24, 25, 26,
         27, 28, 27, 28),
    ),
)  # fmt: skip

BODY16 = LAYOUTS["body16"]
