"""Readers of poses on made-up files of each format: numbers, layout, clock, missing joints; and files that are wrong."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from poseline.codec import encode
from poseline.errors import BadTimestamps, InputError, LayoutMismatch, ShapeMismatch, TooLarge, TooShort, UnknownLayout
from poseline.formats import reading
from poseline.formats.poses import POSE_FORMATS, format_of, read_poses
from poseline.formats.reading import IMAGE, KINECT, ReadOptions
from poseline.formats.trc import joint_of
from poseline.formats.videos import MEDIA_TYPES, is_video
from poseline.pose import Coordinates, PoseConverter, PoseSequence
from poseline.remote import timeline
from poseline.skeleton import layout

FRAMES = 6
FPS = ReadOptions(fps=25.0)
WORLD = Coordinates("world_m", 3, "down", "-z")


def numbers(*shape: int, seed: int = 3) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32).round(4)


def write(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def alone(people: dict[str, PoseSequence]) -> PoseSequence:
    [one] = people.values()
    return one


# --- MediaPipe ---------------------------------------------------------------------------------------------------


def world_landmarks() -> np.ndarray[Any, np.dtype[np.float32]]:
    """(frames, 33, 4) with the middle of the hips at the origin, as MediaPipe has it."""
    pose = numbers(FRAMES, 33, 4)
    pose[..., 3] = np.abs(pose[..., 3])
    pose[:, :, :3] -= pose[:, 23:25, :3].mean(axis=1, keepdims=True)
    return pose.round(4)


def as_objects(pose: np.ndarray[Any, Any]) -> list[dict[str, float]]:
    return [dict(zip(("x", "y", "z", "visibility"), joint, strict=True)) for joint in pose.tolist()]


MEDIAPIPE: dict[str, Callable[[np.ndarray[Any, Any]], object]] = {
    "lists": lambda poses: poses.tolist(),
    "flat": lambda poses: poses.reshape(FRAMES, 132).tolist(),
    "objects": lambda poses: [as_objects(one) for one in poses],
    "people": lambda poses: [[as_objects(one)] for one in poses],
    "python": lambda poses: [{"frame": n, "pose_world_landmarks": as_objects(one), "pose_landmarks": None}
                             for n, one in enumerate(poses)],
    "javascript": lambda poses: {"frames": [{"poseWorldLandmarks": [as_objects(one)], "timestampMs": n * 40}
                                            for n, one in enumerate(poses)]},
    "tasks": lambda poses: [{"t": n / 25, "landmarks": [as_objects(one + 9)], "worldLandmarks": [as_objects(one)]}
                            for n, one in enumerate(poses)],
    "protobuf": lambda poses: [{"landmark": as_objects(one)} for one in poses],
}  # fmt: skip


@pytest.mark.parametrize("shape", MEDIAPIPE)
def test_mediapipe_as_people_dump_it(tmp_path: Path, shape: str) -> None:
    poses = world_landmarks()
    path = write(tmp_path / "dump.json", MEDIAPIPE[shape](poses))
    own_clock = shape in ("javascript", "tasks")
    one = alone(read_poses(path, options=ReadOptions() if own_clock else FPS))
    np.testing.assert_allclose(one.joints, poses[..., :3])
    np.testing.assert_allclose(one.confidence, poses[..., 3])
    np.testing.assert_allclose(one.timestamps, np.arange(FRAMES) / 25)
    assert (one.layout, one.coordinates) == (layout("blazepose33"), WORLD)


def test_mediapipe_of_two_and_of_nobody(tmp_path: Path) -> None:
    poses = world_landmarks()
    frames = [[], None, {"world_landmarks": [as_objects(poses[2]), as_objects(poses[3])]}]
    frames = [{"world_landmarks": one} if not isinstance(one, dict) else one for one in frames]
    people = read_poses(write(tmp_path / "two.json", frames), options=FPS)
    assert {name: one.timestamps.tolist() for name, one in people.items()} == {"p0": [0.08], "p1": [0.08]}
    with pytest.raises(TooShort, match="nobody"):
        read_poses(write(tmp_path / "none.json", [{"landmarks": None}]), options=FPS)


def test_mediapipe_image_landmarks_are_shares_of_a_picture(tmp_path: Path) -> None:
    poses = np.abs(numbers(FRAMES, 33, 4))
    path = write(tmp_path / "image.json", [{"pose_landmarks": as_objects(one)} for one in poses])
    assert alone(read_poses(path, options=FPS)).coordinates.image_size is None
    one = alone(read_poses(path, options=FPS._replace(image_size=(640, 480))))
    assert one.coordinates == Coordinates("normalized", 3, "down", image_size=(640, 480))
    document = {"fps": 25, "width": 1280, "height": 720, "frames": [as_objects(one) for one in poses]}
    own = alone(read_poses(write(tmp_path / "own.json", document)))
    assert own.coordinates == Coordinates("normalized", 3, "down", image_size=(1280, 720))
    assert own.timestamps[1] == pytest.approx(0.04)


def test_mediapipe_joints_without_numbers_are_missing(tmp_path: Path) -> None:
    """NaN as Python writes it, null as JavaScript does."""
    frames = [as_objects(one) for one in world_landmarks()]
    frames[1][5]["x"] = float("nan")
    frames[2][6]["y"] = None  # pyright: ignore[reportArgumentType]
    frames[3][7]["visibility"] = 1.25
    one = alone(read_poses(write(tmp_path / "gaps.json", frames), options=FPS))
    assert np.argwhere(one.confidence == 0).tolist() == [[1, 5], [2, 6]]
    assert one.confidence[3, 7] == 1


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([[[1, 2, 3]] * 32], r"frame 0: numbers of shape \(1, 32, 3\), expected 33 landmarks"),
        ([[[1, 2, 3]] * 32 + [[1, 2]]], "frame 0: expected numbers"),
        ([{"pose_landmarks": [{"x": 1}] * 33}], "frame 0: Object missing required field `y`"),
        ([{"visibility": 1}], "no frame holds one of world_landmarks"),
        ({"landmarks": 3}, "neither a list, nor an object with frames"),
        ([{"landmarks": None, "timestamp": 3}], "unit of 'timestamp'"),
        ([{"landmarks": [], "frame": "x"}], "frame 0, frame"),
        ([{"landmarks": [], "frame": int("9" * 400)}], "frame 0, frame"),
        ([{"landmarks": {"landmark": 1}}], r"frame 0: numbers of shape \(1,\)"),
    ],
)
def test_mediapipe_that_is_none(tmp_path: Path, frames: object, message: str) -> None:
    unit = "timestamp" in message
    with pytest.raises(InputError, match=message):
        read_poses(write(tmp_path / "bad.json", frames), "mediapipe", ReadOptions() if unit else FPS)


@pytest.mark.parametrize("depth", [70, 600, 900])
def test_mediapipe_that_is_nested_too_deeply(tmp_path: Path, depth: int) -> None:
    with pytest.raises(InputError, match=r"frame 0: |not JSON"):
        read_poses(write(tmp_path / "deep.json", "[" * depth + "1" + "]" * depth), "mediapipe", FPS)


# --- OpenPose ----------------------------------------------------------------------------------------------------


def openpose_folder(folder: Path, joints: int, people: int = 2, ids: bool = False) -> np.ndarray[Any, Any]:
    poses = np.abs(numbers(FRAMES, people, joints, 3)) * (1000, 1000, 1)
    poses[2, 0, 4] = 0
    folder.mkdir()
    for n, frame in enumerate(poses):
        told = [
            {
                "person_id": [people - i if ids else -1],
                "pose_keypoints_2d": pose.ravel().tolist(),
                "face_keypoints_2d": [],
            }
            for i, pose in enumerate(frame)
        ]
        write(folder / f"walk_{n + 10:012}_keypoints.json", {"version": 1.3, "people": told})
    return poses


@pytest.mark.parametrize(("joints", "name"), [(25, "body25"), (18, "openpose18")])
def test_openpose(tmp_path: Path, joints: int, name: str) -> None:
    poses = openpose_folder(tmp_path / "out", joints)
    people = read_poses(tmp_path / "out", options=FPS)
    assert list(people) == ["p0", "p1"]
    for n, one in enumerate(people.values()):
        np.testing.assert_allclose(one.joints, poses[:, n, :, :2], rtol=1e-6)
        np.testing.assert_allclose(one.confidence, poses[:, n, :, 2], rtol=1e-6)
        assert (one.layout, one.coordinates) == (layout(name), IMAGE)
        assert one.timestamps.tolist() == pytest.approx((np.arange(FRAMES) + 10) / 25)
    assert people["p0"].confidence[2, 4] == 0


def test_openpose_that_tracked(tmp_path: Path) -> None:
    openpose_folder(tmp_path / "out", 25, ids=True)
    assert list(read_poses(tmp_path / "out", options=FPS)) == ["id2", "id1"]


def test_openpose_folders_that_are_wrong(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    openpose_folder(folder, 25)
    with pytest.raises(BadTimestamps, match="has no clock: say with --fps"):
        read_poses(folder)
    with pytest.raises(ShapeMismatch, match="25 joints, layout coco17 has 17"):
        read_poses(folder, options=FPS._replace(layout="coco17"))
    write(folder / "run_000000000012_keypoints.json", {"people": []})
    with pytest.raises(InputError, match="are both frame 12"):
        read_poses(folder, options=FPS)
    (folder / "run_000000000012_keypoints.json").unlink()
    write(folder / "walk_000000000012_keypoints.json", {"people": [{"pose_keypoints_2d": [1, 2, 3, 4]}]})
    with pytest.raises(InputError, match=r"000012_keypoints.json, person 0: 4 numbers"):
        read_poses(folder, options=FPS)
    write(folder / "walk_000000000012_keypoints.json", "{")
    with pytest.raises(InputError, match=r"000012_keypoints.json is not JSON"):
        read_poses(folder, options=FPS)
    with pytest.raises(InputError, match="is no folder"):
        read_poses(folder / "walk_000000000013_keypoints.json", options=FPS)


# --- MMPose ------------------------------------------------------------------------------------------------------


def instances(poses: np.ndarray[Any, Any]) -> list[dict[str, object]]:
    return [{"keypoints": pose[:, :2].tolist(), "keypoint_scores": pose[:, 2].tolist(), "bbox": [[0, 0, 9, 9]]}
            for pose in poses]  # fmt: skip


MMPOSE: dict[str, Callable[[np.ndarray[Any, Any]], object]] = {
    "demo": lambda poses: {"meta_info": {"dataset_name": "coco"}, "instance_info": [
        {"frame_id": n + 1, "instances": instances(frame)} for n, frame in enumerate(poses)]},
    "inferencer": lambda poses: [{"frame_id": n, "instances": instances(frame)} for n, frame in enumerate(poses)],
    "predictions": lambda poses: {"predictions": [instances(frame) for frame in poses]},
    "rtmlib": lambda poses: [{"keypoints": frame[..., :2].tolist(), "scores": frame[..., 2].tolist()} for frame in poses],
}  # fmt: skip


@pytest.mark.parametrize("shape", MMPOSE)
@pytest.mark.parametrize(("joints", "name"), [(17, "coco17"), (26, "halpe26"), (133, "coco17")])
def test_mmpose(tmp_path: Path, shape: str, joints: int, name: str) -> None:
    poses = np.abs(numbers(FRAMES, 2, joints, 3)) * (1000, 1000, 2)
    people = read_poses(write(tmp_path / "pred.json", MMPOSE[shape](poses)), options=FPS)
    kept = poses[:, :, :17] if joints == 133 else poses
    for n, one in enumerate(people.values()):
        np.testing.assert_allclose(one.joints, kept[:, n, :, :2], rtol=1e-6)
        np.testing.assert_allclose(one.confidence, np.minimum(kept[:, n, :, 2], 1), rtol=1e-6)
        assert (one.layout, one.coordinates) == (layout(name), IMAGE)
        assert one.timestamps.tolist() == pytest.approx(np.arange(FRAMES) / 25)
    assert list(people) == ["p0", "p1"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([[{"keypoints": [[1, 2, 3]] * 17}]], "lifted 3D"),
        ([[{"keypoints": [[1, 2]] * 16}]], r"16 joints, expected 17 \(coco17\), 26 \(halpe26\)"),
        ([[{"keypoints": [[1, 2]] * 17, "keypoint_scores": [1]}]], "17 keypoints, but 1 keypoint_scores"),
        ([{"keypoints": [[1, 2]] * 17, "keypoint_scores": [1] * 17}], "entry 0 is no frame"),
        ([{"frame_id": 3, "instances": []}, {"frame_id": 3, "instances": []}], "frame_id does not rise"),
        ([{"frame_id": int("9" * 400), "instances": []}], r"entry 0: .*frame_id|entry 0: Number out of range"),
        ({"meta_info": 1}, "neither a list, nor an object with instance_info or predictions"),
        ([{"keypoints": [], "scores": [[1]]}], "0 people, but scores of 1"),
    ],
)
def test_mmpose_that_is_none(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_poses(write(tmp_path / "bad.json", content), "mmpose", FPS)


# --- Kinect ------------------------------------------------------------------------------------------------------


def ntu_text(poses: np.ndarray[Any, Any], state: Callable[[int], int] = lambda joint: 2) -> str:
    lines = [str(len(poses))]
    for frame in poses:
        lines.append(str(len(frame)))
        for n, joints in enumerate(frame):
            lines += [f"7205759403792{n} 0 1 1 1 1 0 0.02 -0.2 2", "25"]
            lines += [
                f"{x} {y} {z} 278.1 190.5 1036 520.2 0.2 0.03 0.9 -0.04 {state(j)}"
                for j, (x, y, z) in enumerate(joints)
            ]
    return "\n".join(lines) + "\n"


def test_ntu(tmp_path: Path) -> None:
    poses = numbers(FRAMES, 2, 25, 3)
    text = ntu_text(poses, lambda joint: {3: 0, 4: 1}.get(joint, 2))
    people = read_poses(write(tmp_path / "S001C001P001R001A001.skeleton", text))
    assert list(people) == ["p72057594037920", "p72057594037921"]
    for n, one in enumerate(people.values()):
        np.testing.assert_array_equal(one.joints[:, 5:], poses[:, n, 5:])
        assert one.confidence[0, 2:6].tolist() == [1, 0, 0.5, 1]
        assert (one.layout, one.coordinates) == (layout("kinect_v2_25"), KINECT)
        assert one.timestamps.tolist() == pytest.approx(np.arange(FRAMES) / 30)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda lines: lines[:40], "ends where a joint should come"),
        (lambda lines: [*lines[:3], "20", *lines[4:]], "line 4: a body of 20 joints"),
        (lambda lines: [*lines[:5], "1 2 3", *lines[6:]], "line 6: 3 numbers, a joint has 12"),
        (lambda lines: [*lines[:5], "x" + lines[5], *lines[6:]], "line 29: expected numbers"),
        (lambda lines: ["-1", *lines[1:]], "line 1: '-1' where the number of frames"),
        (lambda lines: ["9" * 30, *lines[1:]], "line 1: '99999999999999999999' where"),
        (lambda lines: ["0"], "nobody is seen"),
    ],
)
def test_ntu_that_is_broken(tmp_path: Path, spoil: Callable[[list[str]], list[str]], message: str) -> None:
    lines = spoil(ntu_text(numbers(FRAMES, 1, 25, 3)).splitlines())
    with pytest.raises(InputError, match=message):
        read_poses(write(tmp_path / "bad.skeleton", "\n".join(lines)))


def test_pku(tmp_path: Path) -> None:
    """The second person comes later; zeros stand for nobody."""
    poses = numbers(FRAMES, 2, 75)
    poses[:3, 1] = 0
    path = write(tmp_path / "0002-M.txt", "\n".join(" ".join(map(str, frame.ravel().tolist())) for frame in poses))
    first, second = read_poses(path).values()
    np.testing.assert_array_equal(first.joints.reshape(FRAMES, -1), poses[:, 0])
    np.testing.assert_array_equal(second.joints.reshape(3, -1), poses[3:, 1])
    assert second.timestamps.tolist() == pytest.approx(np.arange(3, 6) / 30)
    assert (first.layout, first.coordinates) == (layout("kinect_v2_25"), KINECT)
    with pytest.raises(InputError, match=r"short.txt, line 2: 149 numbers, a frame of PKU-MMD has 150"):
        read_poses(write(tmp_path / "short.txt", "1 " * 150 + "\n" + "1 " * 149))


# --- markers -----------------------------------------------------------------------------------------------------

MARKERS = ["Hip", "RHip", "RKnee", "RAnkle", "LHip", "LKnee", "LAnkle", "Neck", "Head", "Nose",
           "RShoulder", "RElbow", "RWrist", "LShoulder", "LElbow", "LWrist"]  # fmt: skip


def trc_text(poses: np.ndarray[Any, Any], units: str = "mm", markers: list[str] = MARKERS) -> str:
    head = ["PathFileType\t4\t(X/Y/Z)\twalk.trc",
            "DataRate\tCameraRate\tNumFrames\tNumMarkers\tUnits\tOrigDataRate\tOrigDataStartFrame\tOrigNumFrames",
            f"50\t50\t{len(poses)}\t{len(markers)}\t{units}\t50\t1\t{len(poses)}",
            "Frame#\tTime\t" + "\t\t\t".join(markers) + "\t\t",
            "\t\t" + "\t".join(f"{axis}{n}" for n in range(1, len(markers) + 1) for axis in "XYZ"), ""]  # fmt: skip
    rows = [f"{n + 1}\t{n / 50:.6f}\t" + "\t".join(f"{x:.4f}" for x in pose.ravel()) for n, pose in enumerate(poses)]
    return "\n".join([*head, *rows]) + "\n"


@pytest.mark.parametrize(("units", "size"), [("mm", 1000), ("cm", 100), ("m", 1)])
def test_trc(tmp_path: Path, units: str, size: int) -> None:
    poses = numbers(FRAMES, 16, 3)
    one = alone(read_poses(write(tmp_path / "walk.trc", trc_text(poses * size, units))))
    np.testing.assert_allclose(one.joints, poses, atol=1e-4)
    assert one.timestamps.tolist() == pytest.approx(np.arange(FRAMES) / 50)
    assert one.layout.joints[:5] == ("pelvis", "right_hip", "right_knee", "right_ankle", "left_hip")
    assert one.coordinates == Coordinates("world_m", 3, "up", "+z")
    native = PoseConverter(one.layout, one.coordinates)(one.joints, one.confidence)
    assert (native[..., 3] == 1).sum(axis=1).tolist() == [16] * FRAMES


def test_trc_markers_that_were_lost(tmp_path: Path) -> None:
    """An empty cell, a NaN, and a line that ends early."""
    lines = trc_text(numbers(FRAMES, 16, 3)).splitlines()
    cells = lines[7].split("\t")
    cells[2:5], cells[6] = ["", "", ""], "NaN"
    lines[7] = "\t".join(cells)
    lines[8] = "\t".join(lines[8].split("\t")[:-3])
    one = alone(read_poses(write(tmp_path / "lost.trc", "\n".join(lines))))
    assert np.argwhere(one.confidence == 0).tolist() == [[1, 0], [1, 1], [2, 15]]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("PathFileType", "Path", "PathFileType should begin line 1"),
        ("\tmm\t", "\tfeet\t", "Units are 'feet', expected m, cm, mm"),
        ("RHip", "LHip", "left_hip more than once"),
        ("\t16\t", "\t17\t", "16 markers, NumMarkers says 17"),
        ("\n1\t0.000000\t", "\n1\t0.000000\t1\t", "line 7: 49 numbers, 16 markers have 48"),
        ("\n2\t0.020000", "\n2\t0.000000", "p0 at 0 s follows 0 s"),
        ("\n2\t0.02", "\n2\tx0.02", "line 8: expected numbers"),
    ],
)
def test_trc_that_is_wrong(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_poses(write(tmp_path / "bad.trc", trc_text(numbers(FRAMES, 16, 3)).replace(old, new, 1)))


def test_markers_of_another_set_are_too_few_joints(tmp_path: Path) -> None:
    one = alone(read_poses(write(tmp_path / "set.trc", trc_text(numbers(2, 3, 3), markers=["C7", "LASI", "RHip"]))))
    with pytest.raises(LayoutMismatch, match="lacks most joints"):
        PoseConverter(one.layout, one.coordinates)


def test_spellings_of_markers() -> None:
    told = ["R.Hip", "left knee", "R_BigToe", "LeftShoulder", "midHip", "LASI", "Rib", "right_wrist"]
    assert [joint_of(name) for name in told] == [
        "right_hip", "left_knee", "right_big_toe", "left_shoulder", "pelvis", "LASI", "Rib", "right_wrist"]  # fmt: skip


# --- our own -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("people", [None, 2])
@pytest.mark.parametrize(("channels", "dims"), [(2, 2), (3, 3), (4, 3), (3, 2)])
def test_arrays(tmp_path: Path, people: int | None, channels: int, dims: int) -> None:
    poses = np.abs(numbers(*([people] if people else []), FRAMES, 17, channels))
    poses[..., 1, 5, 0] = np.nan
    np.savez(tmp_path / "a.npz", keypoints=poses, fps=25.0, layout="coco17", dims=dims)
    found = read_poses(tmp_path / "a.npz")
    assert list(found) == [f"p{n}" for n in range(people or 1)]
    for one, own in zip(found.values(), poses if people else [poses], strict=True):
        np.testing.assert_array_equal(one.joints, np.where(np.isnan(own[..., :1]), 0, own[..., :dims]))
        sure = own[..., dims] if channels > dims else np.ones((FRAMES, 17), np.float32)
        np.testing.assert_array_equal(one.confidence, np.where(np.isnan(own[..., 0]), 0, sure))
        assert one.coordinates == (IMAGE if dims == 2 else Coordinates())
        assert one.timestamps.tolist() == pytest.approx(np.arange(FRAMES) / 25)


def test_arrays_say_what_they_are(tmp_path: Path) -> None:
    times = np.array([0.0, 0.1, 0.25, 0.3, 0.4, 0.5])
    names = [f"left_{n}" for n in range(4)]
    np.savez(tmp_path / "a.npz", joints=numbers(2, FRAMES, 4, 3), confidence=np.full((2, FRAMES, 4), 0.5), timestamps=times,
             layout=names, space="world_m", y_axis="down", facing="+z", track_ids=["anna", "ben"])  # fmt: skip
    anna, ben = read_poses(tmp_path / "a.npz").values()
    assert (anna.name, ben.name, anna.layout.joints) == ("anna", "ben", tuple(names))
    assert anna.coordinates == Coordinates("world_m", 3, "down", "+z")
    np.testing.assert_array_equal(anna.timestamps, times)
    assert ben.confidence.max() == 0.5


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"layout": None}, ShapeMismatch, "17 joints, expected a layout; or name one with --layout"),
        ({"layout": "coco18"}, UnknownLayout, "coco18"),
        ({"fps": None}, BadTimestamps, "--fps"),
        ({"fps": 0.0}, BadTimestamps, "fps is 0"),
        ({"keypoints": numbers(17, 3)}, ShapeMismatch, r"float32 \(17, 3\), expected numbers"),
        ({"keypoints": numbers(2, 17, 6)}, ShapeMismatch, "6 numbers a joint, expected 3 or 4"),
        ({"keypoints": np.array([["a"]])}, ShapeMismatch, "<U1"),
        ({"timestamps": np.arange(5)}, BadTimestamps, "5 timestamps"),
        ({"facing": "north"}, InputError, r"facing is 'north', expected \+z or -z"),
        ({"track_ids": ["a", "a"]}, InputError, "track_ids are 2 names"),
        ({"keypoints": np.array([{}], object)}, InputError, "not a numpy archive"),
    ],
)
def test_arrays_that_are_wrong(tmp_path: Path, changes: dict[str, Any], kind: type[InputError], message: str) -> None:
    given = {"keypoints": numbers(FRAMES, 17, 3), "fps": 25.0, "layout": "coco17", **changes}
    np.savez(tmp_path / "a.npz", **{name: value for name, value in given.items() if value is not None})
    with pytest.raises(kind, match=message):
        read_poses(tmp_path / "a.npz")


@pytest.mark.parametrize("shape", [(999_999_999_999, 16, 3), (2, 16, 3), (-1, 16, 3)])
@pytest.mark.parametrize("corpus", [False, True])
def test_arrays_that_claim_what_they_do_not_hold(tmp_path: Path, shape: tuple[int, ...], corpus: bool) -> None:
    """Memory is taken for what is there, never for what a header says."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
    path = tmp_path / "liar.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("joints.npy", header.getvalue() + bytes(4 * 16 * 3))
    with pytest.raises(InputError, match=r"not a numpy archive: joints.npy claims float32"):
        read_poses(path, "corpus" if corpus else "npz", FPS)


def test_a_recorded_stream(tmp_path: Path) -> None:
    """What a client sends is a file: head, and frames as they went; who comes late or leaves is seen at their own times."""
    poses = {name: PoseSequence(numbers(4, 33, 3, seed=n), np.ones((4, 33), np.float32), np.arange(4) / 25 + n / 5,
                                layout("blazepose33"), WORLD, name) for n, name in enumerate(("a", "b"))}  # fmt: skip
    head = {"type": "session.start", "layout": "blazepose33", "coordinates": {"space": "world_m", "y_axis": "down"}}
    lines = [json.dumps(head), *(encode(frame).decode() for frame in timeline(poses)), ""]
    path = write(tmp_path / "s.ndjson", "\n".join(lines))
    found = read_poses(path)
    for name, one in found.items():
        np.testing.assert_allclose(one.joints, poses[name].joints, atol=1e-6)
        np.testing.assert_array_equal(one.timestamps, poses[name].timestamps)
        assert one.coordinates == WORLD
    assert read_poses(path, options=FPS._replace(fps=10.0))["a"].timestamps.tolist() == [0.0, 0.1, 0.2, 0.3]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], r"line 1 \(the head\)"),
        (['{"coordinates": {}}'], "missing required field `layout`"),
        (['{"layout": "coco17"}', "{"], "line 2: "),
        (['{"layout": "coco17"}', '{"t": 0, "people": [{"id": "a", "kp": []}]}'], "joint axis has 0 .*line 2, a"),
        (['{"layout": "coco17"}', '{"t": 0, "people": [{"kp": []}]}'], "line 2: somebody has no id"),
        (['{"layout": "coco17"}', '{"t": 1, "people": []}', '{"t": 1, "people": []}'], "line 3: frames must rise"),
        (['{"layout": "coco17"}', '{"t": 1, "people": []}'], "nobody is seen"),
    ],
)
def test_a_recorded_stream_that_is_broken(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_poses(write(tmp_path / "s.jsonl", "\n".join(lines)))


# --- telling formats apart, and limits ---------------------------------------------------------------------------


def test_formats_are_told_apart(tmp_path: Path) -> None:
    openpose_folder(tmp_path / "out", 25)
    np.savez(tmp_path / "corpus.npz", seq_ptr=[0], joints=[0])
    np.savez(tmp_path / "plain.npz", joints=[0])
    np.savez(tmp_path / "capture.npz", capture=1)
    files = {
        "openpose": tmp_path / "out",
        "corpus": tmp_path / "corpus.npz",
        "npz": tmp_path / "plain.npz",
        "capture": tmp_path / "capture.npz",
        "json": write(tmp_path / "r.json", {"tracks": [{"track_id": "p1", "keypoints": []}], "layout": "coco17"}),
        "mmpose": write(tmp_path / "m.json", MMPOSE["demo"](numbers(1, 1, 17, 3))),
        "mediapipe": write(tmp_path / "l.JSON", MEDIAPIPE["tasks"](world_landmarks())),
        "ntu": write(tmp_path / "a.skeleton", ""),
        "pku": write(tmp_path / "a.txt", ""),
        "trc": write(tmp_path / "a.trc", ""),
        "ndjson": write(tmp_path / "a.jsonl", ""),
    }
    assert {name: format_of(path) for name, path in files.items()} == {name: name for name in POSE_FORMATS}


def test_videos_are_told_by_their_names_and_the_manual_lists_them() -> None:
    manual = (Path(__file__).parents[3] / "docs" / "files.md").read_text()
    [row] = [line for line in manual.splitlines() if line.startswith("| `video` |")]
    assert row.split("|")[2].strip().strip("`").split() == list(MEDIA_TYPES)
    assert is_video("holiday.MOV")
    assert is_video("dump.bin", "video")
    assert not is_video("holiday.mov", "ntu")
    assert not is_video("actor")


def test_what_cannot_be_told_names_the_candidates(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"could be json, openpose, mmpose, mediapipe, .*--input-format: json, corpus"):
        format_of(write(tmp_path / "x.json", {"a": 1}))
    with pytest.raises(InputError, match=r"could be corpus, capture, npz, but"):
        format_of(write(tmp_path / "x.npz", "no archive"))
    with pytest.raises(InputError, match=r"no format of poses has the suffix '\.bvh'; known: \.json, \.npz"):
        format_of(write(tmp_path / "x.bvh", ""))
    with pytest.raises(InputError, match="could be openpose"):
        format_of(tmp_path)
    with pytest.raises(InputError, match="is missing"):
        format_of(tmp_path / "nowhere.json")
    with pytest.raises(InputError, match="unknown input format 'bvh'"):
        read_poses(tmp_path / "x.bvh", "bvh")


@pytest.mark.parametrize("name", [name for name in POSE_FORMATS if name != "corpus"])
@pytest.mark.parametrize("data", [b"", b"\0\xff\xfe garbage \n" * 3, b"[" * 100_000, b"{}", b"[]", b"null", b"1e999"])
def test_garbage_is_an_error_of_ours(tmp_path: Path, name: str, data: bytes) -> None:
    path = tmp_path / "garbage"
    path.write_bytes(data)
    with pytest.raises(InputError):
        read_poses(path, name, FPS)


@pytest.mark.parametrize("name", [name for name in POSE_FORMATS if name != "corpus"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="nowhere"):
        read_poses(tmp_path / "nowhere", name, FPS)


def test_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ntu = write(tmp_path / "a.skeleton", ntu_text(numbers(FRAMES, 2, 25, 3)))
    dump = write(tmp_path / "a.json", MEDIAPIPE["lists"](world_landmarks()))
    monkeypatch.setattr(reading, "MAX_NUMBERS", FRAMES * 2 * 25 * 4 - 1)
    with pytest.raises(TooLarge, match=r"more than 1199 numbers at 0\.16"):
        read_poses(ntu)
    monkeypatch.setattr(reading, "MAX_PEOPLE", 1)
    with pytest.raises(TooLarge, match="more than 1 people"):
        read_poses(ntu)
    monkeypatch.setattr(reading, "MAX_BYTES", 5000)
    with pytest.raises(TooLarge, match=r"line .* passes 5000 bytes"):
        read_poses(ntu)
    monkeypatch.setattr(reading, "MAX_LINE", 20)
    with pytest.raises(TooLarge, match="line 3 has more than 20 bytes"):
        read_poses(ntu)
    with pytest.raises(TooLarge, match=r"a\.json has more than"):
        read_poses(dump, options=FPS)


def test_an_archive_that_would_grow_is_refused_before_it_does(tmp_path: Path) -> None:
    import zipfile

    with (
        zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("keypoints.npy", "w", force_zip64=True) as file,
    ):
        for _ in range(801):
            file.write(bytes(10**6))
    with pytest.raises(TooLarge, match="unpacks to more than"):
        read_poses(tmp_path / "bomb.npz", "npz", FPS)
