import numpy as np
import pytest

from poseline.errors import LayoutMismatch, UnknownLayout
from poseline.layouts import LAYOUTS, SkeletonLayout
from poseline.skeleton import BODY16, conversion, layout

Parts = tuple[int, ...]
"""Joints of which a joint is the mean, those that count twice named twice."""

LEFT_THEN_RIGHT = (5, 7, 9, 6, 8, 10, 11, 13, 15, 12, 14, 16)
RIGHT_THEN_LEFT = (5, 6, 7, 2, 3, 4, 11, 12, 13, 8, 9, 10)
TO_BODY16: dict[str, tuple[Parts | int, ...]] = {  # pelvis, spine, neck (between the shoulders), head, arms, legs
    "body16": tuple(range(16)),
    "kinect_v1_20": (0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 12, 13, 14, 16, 17, 18),
    "kinect_v2_25": (0, 1, 20, 3, 4, 5, 6, 8, 9, 10, 12, 13, 14, 16, 17, 18),
    "azure32": (0, (1, 2), (5, 12), 26, 5, 6, 7, 12, 13, 14, 18, 19, 20, 22, 23, 24),
    "smpl24": (0, 6, (16, 17), 15, 16, 18, 20, 17, 19, 21, 1, 4, 7, 2, 5, 8),
    "coco17": ((11, 12), (5, 6, 11, 12), (5, 6), (3, 4), *LEFT_THEN_RIGHT),
    "halpe26": (19, (18, 19), 18, (3, 4), *LEFT_THEN_RIGHT),
    "openpose18": ((8, 11), (1, 1, 8, 11), 1, (16, 17), *RIGHT_THEN_LEFT),
    "ros4hri18": ((8, 11), (1, 1, 8, 11), 1, (16, 17), *RIGHT_THEN_LEFT),
    "body25": (8, (1, 8), 1, (17, 18), 5, 6, 7, 2, 3, 4, 12, 13, 14, 9, 10, 11),
    "h36m17": (0, 7, 8, (9, 10), 11, 12, 13, 14, 15, 16, 4, 5, 6, 1, 2, 3),
    "blazepose33": (
        (23, 24), (11, 12, 23, 24), (11, 12), (7, 8), 11, 13, 15, 12, 14, 16, 23, 25, 27, 24, 26, 28
    ),
    "nvidia34": (0, 3, (20, 21), (18, 19), 20, 22, 24, 21, 23, 25, 1, 4, 7, 2, 5, 8),
}  # fmt: skip
EXACT = {"body16", "kinect_v1_20", "kinect_v2_25"}

PUBLISHED: dict[tuple[str, str], tuple[Parts | int | None, ...]] = {  # (from, to): None is missing
    ("blazepose33", "coco17"): (0, 2, 5, 7, 8, 11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28),
    ("body25", "coco17"): (0, 16, 15, 18, 17, 5, 2, 6, 3, 7, 4, 12, 9, 13, 10, 14, 11),
    ("openpose18", "coco17"): (0, 15, 14, 17, 16, 5, 2, 6, 3, 7, 4, 11, 8, 12, 9, 13, 10),
    ("halpe26", "coco17"): tuple(range(17)),
    ("azure32", "coco17"): (27, 28, 30, 29, 31, 5, 12, 6, 13, 7, 14, 18, 22, 19, 23, 20, 24),
    ("nvidia34", "coco17"): (15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 1, 2, 4, 5, 7, 8),
    ("ros4hri18", "coco17"): (0, 14, 15, 16, 17, 5, 2, 6, 3, 7, 4, 11, 8, 12, 9, 13, 10),
    ("coco17", "openpose18"): (0, (5, 6), 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3),
    ("halpe26", "body25"): (
        0, 18, 6, 8, 10, 5, 7, 9, 19, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3, 20, 22, 24, 21, 23, 25
    ),
    ("azure32", "kinect_v2_25"): (
        0, 1, 3, 26, 5, 6, 7, 8, 12, 13, 14, 15, 18, 19, 20, 21, 22, 23, 24, 25, 2, 9, 10, 16, 17
    ),
    ("smpl24", "kinect_v2_25"): (
        0, 3, 12, 15, 16, 18, 20, 22, 17, 19, 21, 23, 1, 4, 7, 10, 2, 5, 8, 11, 9, None, None, None, None
    ),
    ("coco17", "h36m17"): (
        (11, 12), 12, 14, 16, 11, 13, 15, (11, 12, 5, 6), (5, 6), 0, (1, 2), 5, 7, 9, 6, 8, 10
    ),
    ("blazepose33", "kinect_v2_25"): (
        (23, 24), (23, 24, 11, 12), (11, 11, 12, 12, 7, 7, 8, 8), (7, 8),
        11, 13, 15, (15, 19), 12, 14, 16, (16, 20), 23, 25, 27, 31, 24, 26, 28, 32, (11, 12), 19, 21, 20, 22
    ),
    ("coco17", "kinect_v2_25"): (
        (11, 12), (11, 12, 5, 6), (5, 5, 6, 6, 3, 3, 4, 4), (3, 4),
        5, 7, 9, None, 6, 8, 10, None, 11, 13, 15, None, 12, 14, 16, None, (5, 6), None, None, None, None
    ),
}  # fmt: skip
LIKENESSES = {"kinect_v2_25", "h36m17", "openpose18"}
"""Targets of `PUBLISHED` that are means of others or incomplete; the rest is exact."""


def rows(parts: tuple[Parts | int | None, ...], joints: int) -> np.ndarray:
    """The matrix that such a list says."""
    every = [() if one is None else (one,) if isinstance(one, int) else one for one in parts]
    return np.array([np.eye(joints)[list(one)].mean(axis=0) if one else np.zeros(joints) for one in every])


@pytest.mark.parametrize("source", LAYOUTS)
def test_every_layout_reaches_the_served_one_joint_by_joint(source: str) -> None:
    found = conversion(layout(source), BODY16)
    np.testing.assert_allclose(found.weights, rows(TO_BODY16[source], len(layout(source).joints)), atol=1e-6)
    assert not found.missing.any()
    assert found.approximate == (source not in EXACT)


@pytest.mark.parametrize(("source", "target"), PUBLISHED)
def test_published_conversions(source: str, target: str) -> None:
    found, parts = conversion(layout(source), layout(target)), PUBLISHED[source, target]
    np.testing.assert_allclose(found.weights, rows(parts, len(layout(source).joints)), atol=1e-6)
    assert found.missing.tolist() == [one is None for one in parts]
    assert found.approximate == (target in LIKENESSES)


# Bodies from which no face, hand or clavicle can be had: fewer than half of the target's joints.
POOR = {
    "blazepose33": {"body16", "kinect_v1_20", "kinect_v2_25", "smpl24", "h36m17"},
    "nvidia34": {"body16", "kinect_v1_20", "smpl24", "h36m17"},
    "azure32": {"body16", "h36m17"},
}


REFUSED = [(source, target) for target, sources in POOR.items() for source in sorted(sources)]
POSSIBLE = [(source, target) for source in LAYOUTS for target in LAYOUTS if (source, target) not in REFUSED]


@pytest.mark.parametrize(("source", "target"), REFUSED)
def test_a_guess_is_refused(source: str, target: str) -> None:
    with pytest.raises(LayoutMismatch, match=f"layout {source} lacks most joints of {target}"):
        conversion(layout(source), layout(target))


@pytest.mark.parametrize(("source", "target"), POSSIBLE)
def test_every_conversion_is_a_mean_or_missing(source: str, target: str) -> None:
    found = conversion(layout(source), layout(target))
    np.testing.assert_allclose(found.weights.sum(axis=1), np.where(found.missing, 0, 1), atol=1e-6)
    assert (found.weights >= 0).all()
    assert found.missing.mean() <= 0.5


@pytest.mark.parametrize(("source", "target"), POSSIBLE)
def test_sides_stay_sides(source: str, target: str) -> None:
    """A mirrored body, converted, is the converted body mirrored."""
    weights = conversion(layout(source), layout(target)).weights
    np.testing.assert_allclose(weights[:, list(layout(source).mirror)], weights[list(layout(target).mirror)], atol=1e-6)


def test_unknown_layout_is_named() -> None:
    with pytest.raises(UnknownLayout, match="unknown layout 'coco18'; known: body16"):
        layout("coco18")


def test_too_poor_a_layout_is_refused() -> None:
    hand = SkeletonLayout("hand", ("wrist", "thumb"), (-1, 0))
    with pytest.raises(LayoutMismatch, match="layout hand lacks most joints of body16"):
        conversion(hand, layout("body16"))
