import numpy as np
import pytest

from poseline.errors import LayoutMismatch, UnknownLayout
from poseline.skeleton import LAYOUTS, SkeletonLayout, conversion, layout


@pytest.mark.parametrize("name", LAYOUTS)
def test_layout_is_a_tree_with_distinct_joints(name: str) -> None:
    one = layout(name)
    assert len(set(one.joints)) == len(one.joints) == len(one.parents)
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


@pytest.mark.parametrize("source", LAYOUTS)
@pytest.mark.parametrize("target", LAYOUTS)
def test_every_conversion_is_a_mean_or_missing(source: str, target: str) -> None:
    if target == "blazepose33" and source != "blazepose33" and source != "coco17":
        with pytest.raises(LayoutMismatch, match="lacks most joints"):  # a face and hands from a body
            conversion(layout(source), layout(target))
        return
    found = conversion(layout(source), layout(target))
    np.testing.assert_allclose(found.weights.sum(axis=1), np.where(found.missing, 0, 1), atol=1e-6)
    assert (found.weights >= 0).all()


@pytest.mark.parametrize("source", LAYOUTS)
def test_every_layout_reaches_the_served_one_completely(source: str) -> None:
    assert not conversion(layout(source), layout("body16")).missing.any()


def test_same_layout_is_the_identity_and_exact() -> None:
    found = conversion(layout("coco17"), layout("coco17"))
    assert (found.weights == np.eye(17)).all()
    assert not found.approximate


def test_kinect_v1_conversion_picks_the_common_joints() -> None:
    found = conversion(layout("kinect_v1_20"), layout("body16"))
    assert not found.approximate
    assert found.weights.argmax(1).tolist() == [0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 12, 13, 14, 16, 17, 18]


def test_kinect_v2_neck_is_not_the_shoulder_centre() -> None:
    found = conversion(layout("kinect_v2_25"), layout("body16"))
    assert found.weights[layout("body16").joints.index("neck")].argmax() == 20  # spine_shoulder


def test_coco_to_body16_by_hand() -> None:
    found = conversion(layout("coco17"), layout("body16"))
    weights = dict(zip(layout("body16").joints, found.weights, strict=True))
    assert np.flatnonzero(weights["pelvis"]).tolist() == [11, 12]
    assert np.flatnonzero(weights["neck"]).tolist() == [5, 6]
    assert np.flatnonzero(weights["spine"]).tolist() == [5, 6, 11, 12]
    assert np.flatnonzero(weights["head"]).tolist() == [3, 4]
    assert weights["left_wrist"][9] == 1
    assert found.approximate


def test_blazepose_to_coco_is_the_published_list() -> None:
    found = conversion(layout("blazepose33"), layout("coco17"))
    assert found.weights.argmax(1).tolist() == [0, 2, 5, 7, 8, 11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28]
    assert not found.approximate


def test_blazepose_to_kinect_v2_means() -> None:
    weights = conversion(layout("blazepose33"), layout("kinect_v2_25")).weights
    assert np.flatnonzero(weights[0]).tolist() == [23, 24]
    assert np.flatnonzero(weights[20]).tolist() == [11, 12]
    assert weights[7][15] == weights[7][19] == 0.5  # left hand: between wrist and index


def test_unknown_layout_is_named() -> None:
    with pytest.raises(UnknownLayout, match="unknown layout 'coco18'; known: body16"):
        layout("coco18")


def test_too_poor_a_layout_is_refused() -> None:
    hand = SkeletonLayout("hand", ("wrist", "thumb"), (-1, 0))
    with pytest.raises(LayoutMismatch, match="layout hand lacks most joints of body16"):
        conversion(hand, layout("body16"))
