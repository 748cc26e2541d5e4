"""The layouts themselves, against the vendors' lists, and the words in which people name joints."""

from __future__ import annotations

import numpy as np
import pytest

from poseline.errors import LayoutMismatch
from poseline.layouts import LAYOUTS, custom_layout
from poseline.skeleton import BODY16, conversion, layout, unknown_joints

MIRRORS_AND_PARENTS = {  # as published: flip list, and the tree (sources in docs/protocol.md)
    "coco17": (
        [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15],
        [-1, 0, 0, 1, 2, 0, 0, 5, 6, 7, 8, 5, 6, 11, 12, 13, 14],
    ),
    "blazepose33": (
        [0, 4, 5, 6, 1, 2, 3, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15, 18, 17, 20, 19, 22, 21, 24, 23, 26, 25, 28,
         27, 30, 29, 32, 31],
        [-1, 0, 1, 2, 0, 4, 5, 3, 6, 0, 0, 0, 0, 11, 12, 13, 14, 15, 16, 15, 16, 15, 16, 11, 12, 23, 24, 25, 26,
         27, 28, 27, 28],
    ),
    "body25": (
        [0, 1, 5, 6, 7, 2, 3, 4, 8, 12, 13, 14, 9, 10, 11, 16, 15, 18, 17, 22, 23, 24, 19, 20, 21],
        [1, -1, 1, 2, 3, 1, 5, 6, 1, 8, 9, 10, 8, 12, 13, 0, 0, 15, 16, 14, 19, 14, 11, 22, 11],
    ),
    "openpose18": (
        [0, 1, 5, 6, 7, 2, 3, 4, 11, 12, 13, 8, 9, 10, 15, 14, 17, 16],
        [1, -1, 1, 2, 3, 1, 5, 6, 1, 8, 9, 1, 11, 12, 0, 0, 14, 15],
    ),
    "ros4hri18": (
        [0, 1, 5, 6, 7, 2, 3, 4, 11, 12, 13, 8, 9, 10, 15, 14, 17, 16],
        [1, -1, 1, 2, 3, 1, 5, 6, 1, 8, 9, 1, 11, 12, 0, 0, 14, 15],
    ),
    "kinect_v2_25": (
        [0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 16, 17, 18, 19, 12, 13, 14, 15, 20, 23, 24, 21, 22],
        [1, 20, 20, 2, 20, 4, 5, 6, 20, 8, 9, 10, 0, 12, 13, 14, 0, 16, 17, 18, -1, 7, 7, 11, 11],
    ),
    "azure32": (
        [0, 1, 2, 3, 11, 12, 13, 14, 15, 16, 17, 4, 5, 6, 7, 8, 9, 10, 22, 23, 24, 25, 18, 19, 20, 21, 26, 27,
         30, 31, 28, 29],
        [-1, 0, 1, 2, 2, 4, 5, 6, 7, 8, 7, 2, 11, 12, 13, 14, 15, 14, 0, 18, 19, 20, 0, 22, 23, 24, 3, 26, 26,
         26, 26, 26],
    ),
    "smpl24": (
        [0, 2, 1, 3, 5, 4, 6, 8, 7, 9, 11, 10, 12, 14, 13, 15, 17, 16, 19, 18, 21, 20, 23, 22],
        [-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21],
    ),
    "halpe26": (
        [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15, 17, 18, 19, 21, 20, 23, 22, 25, 24],
        [17, 0, 0, 1, 2, 18, 18, 5, 6, 7, 8, 19, 19, 11, 12, 13, 14, 18, 19, -1, 15, 16, 20, 21, 15, 16],
    ),
    "h36m17": (
        [0, 4, 5, 6, 1, 2, 3, 7, 8, 9, 10, 14, 15, 16, 11, 12, 13],
        [-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 9, 8, 11, 12, 8, 14, 15],
    ),
    "nvidia34": (
        [0, 2, 1, 3, 5, 4, 6, 8, 7, 10, 9, 12, 11, 14, 13, 15, 17, 16, 19, 18, 21, 20, 23, 22, 25, 24, 27, 26,
         29, 28, 31, 30, 33, 32],
        [-1, 0, 0, 0, 1, 2, 3, 4, 5, 7, 8, 7, 8, 7, 8, 6, 15, 15, 15, 15, 6, 6, 20, 21, 22, 23, 24, 25, 24, 25,
         24, 25, 24, 25],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MIRRORS_AND_PARENTS)
def test_order_and_tree_are_the_published_ones(name: str) -> None:
    mirror, parents = MIRRORS_AND_PARENTS[name]
    assert list(layout(name).mirror) == mirror
    assert list(layout(name).parents) == parents


def test_every_layout_is_checked_against_a_published_one() -> None:
    assert set(LAYOUTS) - set(MIRRORS_AND_PARENTS) == {"body16", "kinect_v1_20"}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layout_is_a_tree_with_distinct_joints(name: str) -> None:
    one = layout(name)
    assert len(set(one.joints)) == len(one.joints) == len(one.parents)
    assert len({one.landmark(joint) for joint in one.joints}) == len(one.joints), "two joints are the same point"
    assert set(one.landmarks) <= set(one.joints)
    assert sum(parent < 0 for parent in one.parents) == 1
    for joint in range(len(one.joints)):
        seen = set()
        while joint >= 0:
            assert joint not in seen, "the tree has a cycle"
            seen.add(joint)
            joint = one.parents[joint]


@pytest.mark.parametrize("name", LAYOUTS)
def test_mirroring_twice_is_nothing(name: str) -> None:
    mirror = np.array(layout(name).mirror)
    assert (mirror[mirror] == np.arange(len(mirror))).all()
    assert (mirror != np.arange(len(mirror))).any()
    names = layout(name).joints
    swapped = {"left": "right", "right": "left"}
    for joint, twin in enumerate(mirror):
        words = [swapped.get(word, word) for word in names[joint].split("_")]
        assert names[twin] == "_".join(words)


# --- joints that somebody else names -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "known"),
    [
        ("LShoulder", "left_shoulder"),
        ("SHOULDER_LEFT", "left_shoulder"),
        ("left shoulder", "left_shoulder"),
        ("leftShoulder", "left_shoulder"),
        ("l_shoulder", "left_shoulder"),
        ("Right-Hip", "right_hip"),
        ("RBigToe", "right_big_toe"),
        (" Nose ", "nose"),
        ("NOSE", "nose"),
        ("SpineShoulder", "spine_shoulder"),
        ("L5", "l5"),
    ],
)
def test_spelling_does_not_matter(written: str, known: str) -> None:
    assert custom_layout([written]).joints == (known,)


@pytest.mark.parametrize(
    ("written", "landmark"),
    [
        ("MidHip", "pelvis"),
        ("hip", "pelvis"),
        ("hip_center", "pelvis"),
        ("SpineBase", "pelvis"),
        ("root", "pelvis"),
        ("thorax", "shoulder_center"),
        ("belly", "spine"),
        ("torso", "spine"),
        ("SPINE_NAVAL", "spine_navel"),
        ("head_top", "head_top"),
        ("top_head", "head_top"),
        ("head_bottom", "upper_neck"),
        ("upper_neck", "upper_neck"),
        ("HANDTIP_LEFT", "left_hand_tip"),
        ("head", "head"),
        ("neck", "neck"),
    ],
)
def test_words_for_the_same_point(written: str, landmark: str) -> None:
    (joint,) = custom_layout([written]).joints
    assert custom_layout([written]).landmark(joint) == landmark


def test_a_joint_is_named_once_however_it_is_spelled() -> None:
    with pytest.raises(LayoutMismatch, match="names left_eye, nose more than once"):
        custom_layout(["nose", "Nose", "LEye", "left_eye", "head"])


def test_a_registered_layout_by_its_names_is_itself() -> None:
    """Where its words mean what they say: OpenPose's neck, Halpe's head and H36M's feet need their layout's name."""
    for name in ("body16", "kinect_v1_20", "kinect_v2_25", "azure32", "smpl24", "coco17", "blazepose33"):
        ours, theirs = conversion(layout(name), BODY16), conversion(custom_layout(layout(name).joints), BODY16)
        expected = ours.weights
        if name == "body16":  # its neck is the middle of the shoulders, which a custom layout's is not
            expected = expected.copy()
            expected[2] = np.eye(16)[[4, 7]].mean(axis=0)
        np.testing.assert_array_equal(theirs.weights, expected)


COCO, LIMBS = LAYOUTS["coco17"].joints, LAYOUTS["coco17"].joints[5:]
FEET = ("left_big_toe", "left_small_toe", "left_heel", "right_big_toe", "right_small_toe", "right_heel")
FACE = [f"face-{i}" for i in range(68)]
HAND = ["wrist", *(f"{finger}_{i}" for finger in ("thumb", "index", "middle", "ring", "pinky") for i in range(1, 5))]
HANDS = [f"{side}_hand_{i}" for side in ("left", "right") for i in range(21)]

RARE: dict[str, tuple[list[str], list[tuple[int, ...]]]] = {
    # joints in their order, and what pelvis, spine, neck, head and the limbs are then means of
    "body25b": ([*COCO, "neck", "head", *FEET], [(11, 12), (5, 6, 11, 12), (5, 6), (18,)]),
    "posetrack17": (
        ["nose", "head_bottom", "head_top", "left_ear", "right_ear", *LIMBS],
        [(11, 12), (5, 6, 11, 12), (5, 6), (3, 4)],
    ),
    "crowdpose14": ([*LIMBS, "top_head", "neck"], [(6, 7), (0, 1, 6, 7), (0, 1), (12, 13)]),
    "aic14": (
        ["right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist",
         "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "head_top", "neck"],
        [(6, 9), (0, 3, 6, 9), (0, 3), (12, 13)],
    ),
    "mpii16": (
        ["right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "pelvis", "thorax",
         "upper_neck", "head_top", "right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow",
         "left_wrist"],
        [(6,), (6, 7), (7,), (8, 9)],
    ),
    "jhmdb15": (
        ["neck", "belly", "head", "right_shoulder", "left_shoulder", "right_hip", "left_hip", "right_elbow",
         "left_elbow", "right_knee", "left_knee", "right_wrist", "left_wrist", "right_ankle", "left_ankle"],
        [(5, 6), (1,), (3, 4), (2,)],
    ),
    "wholebody133": ([*COCO, *FEET, *FACE, *HANDS], [(11, 12), (5, 6, 11, 12), (5, 6), (3, 4)]),
    "halpe136": (
        [*COCO, "head_top", "neck", "hip", "left_big_toe", "right_big_toe", "left_small_toe", "right_small_toe",
         "left_heel", "right_heel", *FACE, *HANDS],
        [(19,), (5, 5, 6, 6, 19, 19, 19, 19), (5, 6), (3, 4)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RARE)
def test_rarer_layouts_come_by_their_joints_names(name: str) -> None:
    joints, trunk = RARE[name]
    found = conversion(custom_layout(joints), BODY16)
    limbs = [(joints.index(joint),) for joint in BODY16.joints[4:]]
    for weights, parts in zip(found.weights, [*trunk, *limbs], strict=True):
        np.testing.assert_allclose(weights, np.eye(len(joints))[list(parts)].mean(axis=0), atol=1e-6)
    assert found.approximate
    assert not found.missing.any()


def test_the_rarer_layouts_have_as_many_joints_as_their_names_say() -> None:
    for name, (joints, _) in RARE.items():
        assert str(len(joints)) == name.strip("abcdefghijklmnopqrstuvwxyz")


@pytest.mark.parametrize("side", ["", "left_"])
def test_a_hand_is_no_body(side: str) -> None:
    with pytest.raises(LayoutMismatch, match="layout custom lacks most joints of body16: pelvis, spine") as caught:
        conversion(custom_layout([side + joint for joint in HAND]), BODY16)
    assert caught.value.code == "layout_mismatch"


def test_joints_that_nobody_knows_are_named() -> None:
    joints = ["LShouldr", "left elbow", "head_bottom", "top_head", "HandTip Left", "tail", "LBigToe"]
    assert unknown_joints(custom_layout(joints)) == ("left_shouldr", "tail")
    assert not any(unknown_joints(one) for one in LAYOUTS.values())
