import numpy as np
import pytest

from poseline.errors import BadNumber, BadTimestamps, ShapeMismatch, TooShort, UnitUnknown
from poseline.pose import NATIVE, Coordinates, PoseConverter, PoseFrame, PoseSequence
from poseline.skeleton import BODY16, layout


def sequence(T: int = 3, V: int = 16, C: int = 3, **changes: object) -> PoseSequence:
    values: dict[str, object] = {
        "joints": np.zeros((T, V, C), np.float32),
        "confidence": np.ones((T, V), np.float32),
        "timestamps": np.arange(T) / 30,
    }
    return PoseSequence(**(values | changes))  # type: ignore[arg-type]


def test_wrong_joint_count_says_what_came_and_what_was_expected() -> None:
    with pytest.raises(ShapeMismatch, match="joint axis has 18 entries, layout body16 has 16"):
        sequence(V=18)


def test_wrong_dimension() -> None:
    with pytest.raises(ShapeMismatch, match="coordinate axis has 2 entries, coordinates declare 3"):
        sequence(C=2)


def test_empty_sequence() -> None:
    with pytest.raises(TooShort, match="no frame"):
        sequence(T=0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_a_number(bad: float) -> None:
    joints = np.zeros((3, 16, 3), np.float32)
    joints[1, 2, 0] = bad
    with pytest.raises(BadNumber, match="not a finite number"):
        sequence(joints=joints)


@pytest.mark.parametrize("bad", [-0.1, 1.1, np.nan])
def test_confidence_out_of_range(bad: float) -> None:
    confidence = np.ones((3, 16), np.float32)
    confidence[0, 0] = bad
    with pytest.raises(BadNumber, match=r"outside 0\.\.1"):
        sequence(confidence=confidence)


@pytest.mark.parametrize("times", [[0, 1, 1], [0, 2, 1], [0, 1, np.nan]])
def test_timestamps_must_rise(times: list[float]) -> None:
    with pytest.raises(BadTimestamps, match="rise strictly"):
        sequence(timestamps=np.array(times, float))


def test_unknown_space() -> None:
    with pytest.raises(UnitUnknown, match="unknown space 'furlongs'"):
        Coordinates(space="furlongs")  # type: ignore[arg-type]


def test_native_poses_pass_unchanged() -> None:
    joints = np.random.default_rng(0).normal(size=(5, 16, 3)).astype(np.float32)
    out = PoseConverter(BODY16, NATIVE)(joints, np.ones((5, 16), np.float32))
    np.testing.assert_array_equal(out[..., :3], joints)
    assert (out[..., 3] == 1).all()


def test_a_camera_pose_is_turned_to_face_forward() -> None:
    joints = np.ones((1, 16, 3), np.float32)
    out = PoseConverter(BODY16, Coordinates("camera_m"))(joints, np.ones((1, 16), np.float32))
    np.testing.assert_array_equal(out[0, 0, :3], [-1, 1, -1])
    down = PoseConverter(BODY16, Coordinates("camera_m", y_axis="down"))(joints, np.ones((1, 16), np.float32))
    np.testing.assert_array_equal(down[0, 0, :3], [-1, -1, -1])


def test_mirrored_input_swaps_sides() -> None:
    joints = np.zeros((1, 16, 3), np.float32)
    left, right = BODY16.joints.index("left_wrist"), BODY16.joints.index("right_wrist")
    joints[0, left] = [0.5, 1, 0]
    mirrored = Coordinates("world_m", facing="+z", mirrored=True)
    out = PoseConverter(BODY16, mirrored)(joints, np.ones((1, 16), np.float32))
    np.testing.assert_array_equal(out[0, right, :3], [-0.5, 1, 0])
    np.testing.assert_array_equal(out[0, left, :3], 0)


def test_a_derived_joint_is_as_sure_as_its_least_sure_part() -> None:
    coco = layout("coco17")
    confidence = np.ones((1, 17), np.float32)
    confidence[0, coco.joints.index("left_hip")] = 0.25
    out = PoseConverter(coco, NATIVE)(np.zeros((1, 17, 3), np.float32), confidence)
    assert out[0, BODY16.joints.index("pelvis"), 3] == 0.25
    assert out[0, BODY16.joints.index("right_hip"), 3] == 1


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"t": float("nan")}, BadTimestamps),
        ({"joints": np.full((16, 3), np.nan)}, BadNumber),
        ({"joints": np.full((16, 3), 2e6)}, BadNumber),
        ({"confidence": np.full(16, 5.0)}, BadNumber),
        ({"joints": np.zeros(48)}, ShapeMismatch),
        ({"confidence": np.zeros(17)}, ShapeMismatch),
    ],
)
def test_a_frame_is_checked_when_it_is_made(change: dict[str, object], error: type[Exception]) -> None:
    """A robot pushes frames by itself: one NaN would otherwise stay in its stream's state for ever."""
    good: dict[str, object] = {"t": 0.0, "joints": np.zeros((16, 3)), "confidence": np.ones(16)}
    PoseFrame(**good)  # type: ignore[arg-type]
    with pytest.raises(error):
        PoseFrame(**(good | change))  # type: ignore[arg-type]


def test_lists_will_do() -> None:
    frame = PoseFrame(0.0, [[0.0, 1.0, 2.0]] * 16, [1.0] * 16)  # type: ignore[arg-type]
    assert frame.joints.shape == (16, 3)
    assert frame.joints.dtype == np.float32


@pytest.mark.parametrize("shape", [(20, 3), (16, 2)])
def test_a_pose_of_another_layout_or_dimension_is_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(ShapeMismatch, match=r"layout body16 in 3 dimensions has \(16, 3\)"):
        PoseConverter(BODY16, NATIVE)(np.zeros(shape, np.float32), np.ones(shape[0], np.float32))


def test_a_derived_joint_is_the_mean_of_the_parts_that_are_seen() -> None:
    coco = layout("coco17")
    joints, confidence = np.zeros((1, 17, 3), np.float32), np.ones((1, 17), np.float32)
    joints[0, 11], joints[0, 12] = [0.1, 0, 0], [-0.1, 0, 0]
    confidence[0, 12] = 0
    out = PoseConverter(coco, NATIVE)(joints, confidence)
    np.testing.assert_allclose(out[0, 0], [0.1, 0, 0, 1], atol=1e-6)
    confidence[0, 11] = 0
    assert PoseConverter(coco, NATIVE)(joints, confidence)[0, 0, 3] == 0
