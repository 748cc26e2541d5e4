import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poseline.errors import BadNumber, BadTimestamps, ShapeMismatch, TooShort, UnitUnknown
from poseline.pose import NATIVE, Coordinates, PoseConverter, PoseFrame, PoseSequence, has_scale
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
    np.testing.assert_array_equal(down[0, 0, :3], [1, -1, -1])


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


# --- the same person, however described --------------------------------------------------------------------------

HALF_TURN = {  # where the person's left, up and front lie, by y_axis and facing: right-handed axes leave no choice
    ("up", "+z"): ([1, 0, 0], [0, 1, 0], [0, 0, 1]),
    ("up", "-z"): ([-1, 0, 0], [0, 1, 0], [0, 0, -1]),
    ("down", "-z"): ([1, 0, 0], [0, -1, 0], [0, 0, -1]),
    ("down", "+z"): ([-1, 0, 0], [0, -1, 0], [0, 0, 1]),
}
LEFT, RIGHT = BODY16.joints.index("left_wrist"), BODY16.joints.index("right_wrist")
CONVENTIONS = st.sampled_from(sorted(HALF_TURN))


def person(seed: int) -> np.ndarray:
    """A native pose (16, 3): any posture, the left hand on the left, the right hand raised and in front."""
    joints = np.random.default_rng(seed).normal(size=(16, 3)).astype(np.float32)
    joints[LEFT], joints[RIGHT] = [0.6, 0.1, 0.0], [-0.3, 0.9, 0.4]
    return joints


def described(joints: np.ndarray, y_axis: str, facing: str, *, mirrored: bool = False) -> np.ndarray:
    """That person as a source of this convention tells it."""
    if mirrored:  # x of the image runs the other way, and the detector takes each hand for the other
        joints = (joints * [-1, 1, 1])[list(BODY16.mirror)]
    return (joints @ np.array(HALF_TURN[y_axis, facing])).astype(np.float32)


@given(st.integers(0, 2**32), CONVENTIONS, st.booleans())
def test_the_same_person_in_every_convention(seed: int, convention: tuple[str, str], mirrored: bool) -> None:
    y_axis, facing = convention
    coordinates = Coordinates("camera_m", 3, y_axis, facing, mirrored)  # type: ignore[arg-type]
    told = described(person(seed), y_axis, facing, mirrored=mirrored)
    out = PoseConverter(BODY16, coordinates)(told, np.ones(16, np.float32))
    np.testing.assert_allclose(out[:, :3], person(seed), atol=1e-6)
    seen = np.ones(16, np.float32)
    seen[3] = 0  # a missing joint goes another way through the converter
    np.testing.assert_allclose(PoseConverter(BODY16, coordinates)(told, seen)[4:, :3], person(seed)[4:], atol=1e-6)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("convention", HALF_TURN)
def test_no_body_becomes_left_handed(convention: tuple[str, str], mirrored: bool) -> None:
    """Axes are turned, never reflected; a mirrored image is reflected, back to what was before the mirror."""
    coordinates = Coordinates("world_m", 3, *convention, mirrored)  # type: ignore[arg-type]
    unit = np.broadcast_to(np.eye(3, dtype=np.float32)[:, None], (3, 16, 3))
    axes = PoseConverter(BODY16, coordinates)(unit, np.ones((3, 16), np.float32))[:, 0, :3]
    assert np.linalg.det(axes) == (-1 if mirrored else 1)


def test_a_person_before_a_camera() -> None:
    """Written out for the sources that people have: the person faces the camera and lifts the left hand."""
    confidence = np.ones((1, 16), np.float32)
    for coordinates, hand in (
        (Coordinates("camera_m", 3, "up", "-z"), [-0.6, 0.4, 2.0]),  # Kinect v2: x to the camera's left
        (Coordinates("camera_m", 3, "down", "-z"), [0.6, -0.4, 2.0]),  # Azure Kinect, MediaPipe: x right, y down
        (Coordinates("pixel", 2, "down", "-z"), [400, 100]),  # an image, its centre at (320, 240)
    ):
        joints = np.zeros((1, 16, coordinates.dims), np.float32)
        joints[0, :, :] = [0.0, 0.0, 2.0] if coordinates.dims == 3 else [320, 240]
        joints[0, LEFT] = hand
        out = PoseConverter(BODY16, coordinates)(joints, confidence)[0, :, :3]
        left, up, _ = out[LEFT] - out[0]
        assert left > 0
        assert up > 0


# --- pictures ----------------------------------------------------------------------------------------------------


def test_shares_of_an_image_become_of_one_unit() -> None:
    wide = Coordinates("normalized", 3, "down", image_size=(1280, 720))
    joints = np.full((1, 16, 3), [0.5, 0.25, 0.1], np.float32)
    for seen in (np.ones((1, 16), np.float32), np.r_[np.zeros(1), np.ones(15)].astype(np.float32)[None]):
        out = PoseConverter(BODY16, wide)(joints, seen)
        np.testing.assert_allclose(out[0, 1, :3], [640, -180, -128])  # z is scaled like x
    flat = PoseConverter(BODY16, Coordinates("normalized", 2, "down", image_size=(1280, 720)))
    np.testing.assert_allclose(flat(joints[..., :2], np.ones((1, 16), np.float32))[0, 1], [640, -180, 0, 1])


@given(st.integers(0, 2**32), st.tuples(st.integers(1, 4000), st.integers(1, 4000)), st.sampled_from([2, 3]))
def test_pixels_and_shares_of_the_same_image_are_the_same(seed: int, size: tuple[int, int], dims: int) -> None:
    pixels = np.random.default_rng(seed).uniform(0, 4000, (1, 16, dims)).astype(np.float32)
    shares = pixels / np.array([size[0], size[1], size[0]], np.float32)[:dims]
    seen = np.ones((1, 16), np.float32)
    ours = PoseConverter(BODY16, Coordinates("pixel", dims, "down"))(pixels, seen)
    np.testing.assert_allclose(
        PoseConverter(BODY16, Coordinates("normalized", dims, "down", image_size=size))(shares, seen), ours, rtol=1e-5
    )


def test_shares_of_an_unknown_image_are_refused() -> None:
    with pytest.raises(UnitUnknown, match="whose size is not given") as caught:
        PoseConverter(BODY16, Coordinates("normalized", 2, "down"))
    assert caught.value.param == "coordinates.image_size"


@pytest.mark.parametrize("size", [(0, 720), (1280, -1), (1280, 2**16 + 1)])
def test_an_impossible_image_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(UnitUnknown, match="image_size is") as caught:
        Coordinates("pixel", 2, image_size=size)
    assert caught.value.param == "coordinates.image_size"


def test_a_pose_without_both_ends_of_the_torso_has_no_scale() -> None:
    poses = np.ones((4, 16, 4), np.float32)
    poses[1, BODY16.joints.index("neck"), 3] = 0
    poses[2, BODY16.joints.index("pelvis"), 3] = 0
    poses[3, BODY16.joints.index("head"), 3] = 0
    assert has_scale(poses).tolist() == [True, False, False, True]
