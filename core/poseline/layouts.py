"""The joint layouts that are known: names in order, trees, and which point of the body each name means.

Vendors give the same word to different points: Kinect v2's `neck` is above Kinect v1's `shoulder_center`, OpenPose's is
the middle of the shoulders, Halpe's `head` is its top. So conversions go by *landmark*: a layout says which one a joint
stands for, where that is not its own name. What each landmark is, and what stands in where it is absent, is
`skeleton`'s affair.

Joint names and orders: the vendors' own lists (sources in docs/protocol.md). Sides are always the person's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from poseline.errors import LayoutMismatch


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

    def landmark(self, joint: str) -> str:
        return self.landmarks.get(joint, joint)


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


# --- joints that somebody else names ---------------------------------------------------------------------------------

_SIDES = {"l": "left", "left": "left", "r": "right", "right": "right"}
_WORDS = re.compile(r"[\s_.\-]+|(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_SYNONYMS = {
    **dict.fromkeys(("hip", "mid_hip", "hip_center", "center_hip", "spine_base", "root"), "pelvis"),
    **dict.fromkeys(("thorax", "mid_shoulder"), "shoulder_center"),
    **dict.fromkeys(("belly", "torso"), "spine"),
    "spine_naval": "spine_navel",
    "top_head": "head_top",
    "head_bottom": "upper_neck",
    **{f"{side}_handtip": f"{side}_hand_tip" for side in ("left", "right")},
}


def custom_layout(names: Iterable[str]) -> SkeletonLayout:
    """A layout of joints as a caller spells them: `LShoulder`, `SHOULDER_LEFT` and `left shoulder` are the same.

    Names that are not known are no landmark of anything, and so are never used. Raises LayoutMismatch for a joint that
    is named twice.
    """
    joints = [_spelled(name) for name in names]
    if twice := sorted({name for name in joints if joints.count(name) > 1}):
        raise LayoutMismatch(f"a custom layout names {', '.join(twice)} more than once", param="layout")
    landmarks = {name: _SYNONYMS[name] for name in joints if name in _SYNONYMS}
    return SkeletonLayout("custom", tuple(joints), (-1,) * len(joints), landmarks)


def _spelled(name: str) -> str:
    """In lower case, words joined by `_`, the side first."""
    words = [word.lower() for word in _WORDS.split(name.strip()) if word]
    sides = [_SIDES[word] for word in words if word in _SIDES]
    return "_".join([*sides, *(word for word in words if word not in _SIDES)])


# --- joints that vendors name ----------------------------------------------------------------------------------------


def _sides(*names: str) -> Iterable[str]:
    for name in names:
        yield f"left_{name}"
        yield f"right_{name}"


def _both(landmarks: Mapping[str, str]) -> dict[str, str]:
    """The same on either side."""
    return {f"{side}_{name}": f"{side}_{mark}" for side in ("left", "right") for name, mark in landmarks.items()}


def _table(*layouts: SkeletonLayout) -> dict[str, SkeletonLayout]:
    return {one.name: one for one in layouts}


_ARM, _LEG = ("shoulder", "elbow", "wrist"), ("hip", "knee", "ankle")
_LIMBS = tuple(_sides(*_ARM, *_LEG))
_COCO_FACE = ("nose", *_sides("eye", "ear"))
_RIGHT_ARM, _LEFT_ARM = (tuple(f"{side}_{one}" for one in _ARM) for side in ("right", "left"))
_RIGHT_LEG, _LEFT_LEG = (tuple(f"{side}_{one}" for one in _LEG) for side in ("right", "left"))

LAYOUTS: dict[str, SkeletonLayout] = _table(
    SkeletonLayout(
        "body16",
        ("pelvis", "spine", "neck", "head", *_LEFT_ARM, *_RIGHT_ARM, *_LEFT_LEG, *_RIGHT_LEG),
        (-1, 0, 1, 2, 2, 4, 5, 2, 7, 8, 0, 10, 11, 0, 13, 14),
        {"neck": "shoulder_center"},
    ),
    SkeletonLayout(
        "kinect_v1_20",
        ("hip_center", "spine", "shoulder_center", "head", *_LEFT_ARM, "left_hand", *_RIGHT_ARM, "right_hand",
         *_LEFT_LEG, "left_foot", *_RIGHT_LEG, "right_foot"),
        (-1, 0, 1, 2, 2, 4, 5, 6, 2, 8, 9, 10, 0, 12, 13, 14, 0, 16, 17, 18),
        {"hip_center": "pelvis"},
    ),
    SkeletonLayout(
        "kinect_v2_25",
        ("spine_base", "spine_mid", "neck", "head", *_LEFT_ARM, "left_hand", *_RIGHT_ARM, "right_hand",
         *_LEFT_LEG, "left_foot", *_RIGHT_LEG, "right_foot",
         "spine_shoulder", "left_hand_tip", "left_thumb", "right_hand_tip", "right_thumb"),
        (1, 20, 20, 2, 20, 4, 5, 6, 20, 8, 9, 10, 0, 12, 13, 14, 0, 16, 17, 18, -1, 7, 7, 11, 11),
        {"spine_base": "pelvis"},
    ),
    SkeletonLayout(
        "azure32",
        ("pelvis", "spine_navel", "spine_chest", "neck",
         "left_clavicle", *_LEFT_ARM, "left_hand", "left_handtip", "left_thumb",
         "right_clavicle", *_RIGHT_ARM, "right_hand", "right_handtip", "right_thumb",
         *_LEFT_LEG, "left_foot", *_RIGHT_LEG, "right_foot",
         "head", "nose", "left_eye", "left_ear", "right_eye", "right_ear"),
        (-1, 0, 1, 2, 2, 4, 5, 6, 7, 8, 7, 2, 11, 12, 13, 14, 15, 14, 0, 18, 19, 20, 0, 22, 23, 24, 3, 26, 26, 26, 26,
         26),
        _both({"handtip": "hand_tip"}),
    ),
    SkeletonLayout(
        "smpl24",
        ("pelvis", *_sides("hip"), "spine1", *_sides("knee"), "spine2", *_sides("ankle"), "spine3", *_sides("foot"),
         "neck", *_sides("collar"), "head", *_sides("shoulder", "elbow", "wrist", "hand")),
        (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21),
    ),
    SkeletonLayout(
        "coco17",
        (*_COCO_FACE, *_LIMBS),
        (-1, 0, 0, 1, 2, 0, 0, 5, 6, 7, 8, 5, 6, 11, 12, 13, 14),
    ),
    SkeletonLayout(
        "halpe26",
        (*_COCO_FACE, *_LIMBS, "head", "neck", "hip", *_sides("big_toe", "small_toe", "heel")),
        (17, 0, 0, 1, 2, 18, 18, 5, 6, 7, 8, 19, 19, 11, 12, 13, 14, 18, 19, -1, 15, 16, 20, 21, 15, 16),
        {"head": "head_top", "neck": "shoulder_center", "hip": "pelvis"},
    ),
    SkeletonLayout(
        "openpose18",
        ("nose", "neck", *_RIGHT_ARM, *_LEFT_ARM, *_RIGHT_LEG, *_LEFT_LEG,
         "right_eye", "left_eye", "right_ear", "left_ear"),
        (1, -1, 1, 2, 3, 1, 5, 6, 1, 8, 9, 1, 11, 12, 0, 0, 14, 15),
        {"neck": "shoulder_center"},
    ),
    SkeletonLayout(
        "ros4hri18",
        ("nose", "neck", *_RIGHT_ARM, *_LEFT_ARM, *_RIGHT_LEG, *_LEFT_LEG, *_sides("eye", "ear")),
        (1, -1, 1, 2, 3, 1, 5, 6, 1, 8, 9, 1, 11, 12, 0, 0, 14, 15),
        {"neck": "shoulder_center"},
    ),
    SkeletonLayout(
        "body25",
        ("nose", "neck", *_RIGHT_ARM, *_LEFT_ARM, "mid_hip", *_RIGHT_LEG, *_LEFT_LEG,
         "right_eye", "left_eye", "right_ear", "left_ear",
         "left_big_toe", "left_small_toe", "left_heel", "right_big_toe", "right_small_toe", "right_heel"),
        (1, -1, 1, 2, 3, 1, 5, 6, 1, 8, 9, 10, 8, 12, 13, 0, 0, 15, 16, 14, 19, 14, 11, 22, 11),
        {"neck": "shoulder_center", "mid_hip": "pelvis"},
    ),
    SkeletonLayout(
        "h36m17",
        ("root", "right_hip", "right_knee", "right_foot", "left_hip", "left_knee", "left_foot",
         "spine", "thorax", "neck_base", "head", *_LEFT_ARM, *_RIGHT_ARM),
        (-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 9, 8, 11, 12, 8, 14, 15),
        {"root": "pelvis", "thorax": "shoulder_center", "neck_base": "face", "head": "head_top",
         **_both({"foot": "ankle"})},
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
    SkeletonLayout(
        "nvidia34",
        ("pelvis", *_sides("hip"), "torso", *_sides("knee"), "neck", *_sides("ankle", "big_toe", "small_toe", "heel"),
         "nose", *_sides("eye", "ear", "shoulder", "elbow", "wrist", "pinky_knuckle", "middle_tip", "index_knuckle",
                         "thumb_tip")),
        (-1, 0, 0, 0, 1, 2, 3, 4, 5, 7, 8, 7, 8, 7, 8, 6, 15, 15, 15, 15, 6, 6, 20, 21, 22, 23, 24, 25, 24, 25, 24, 25,
         24, 25),
        {"torso": "spine", **_both({"pinky_knuckle": "pinky", "index_knuckle": "index", "middle_tip": "hand_tip"})},
    ),
)  # fmt: skip
