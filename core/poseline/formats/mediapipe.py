"""Landmarks of MediaPipe Pose as people dump them, from Python and from JavaScript: JSON, one entry a frame.

    [frame, …]   or   {"frames": [frame, …], "fps": 30, "width": 640, "height": 480}
    frame        33 landmarks | a list of people of 33 landmarks each | null | an object that holds either under
                 world_landmarks, pose_world_landmarks, landmarks, pose_landmarks (or in camelCase: poseWorldLandmarks …)
    landmark     {"x", "y", "z", "visibility"} | [x, y, z] | [x, y, z, visibility]; or a frame's 99 or 132 numbers flat

World landmarks (metres, origin between the hips, y down) are taken wherever a file has them. Image landmarks (shares of the
picture, z on x' scale) need the picture's size: in the file, or by --image-size. Landmarks without a name are world
landmarks if the middle of the hips stays at the origin, which is how MediaPipe defines them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from msgspec import Struct, structs

from poseline.errors import BadTimestamps, InputError, ShapeMismatch
from poseline.formats.reading import (
    FrameNumber,
    Gathering,
    ReadOptions,
    as_array,
    convert,
    frame_clock,
    read_listing,
)
from poseline.pose import Coordinates, PoseSequence
from poseline.skeleton import Floats, layout

_JOINTS, _HIPS = 33, (23, 24)
_AT_ORIGIN = 0.05
"""Metres, or shares of the picture: a picture's corner is nowhere near the hips of a person in it."""
WORLD = Coordinates("world_m", 3, "down", "-z")
_BARE = ""
"""Stands for the name of landmarks that have none."""
_WORLD_NAMES = ("world_landmarks", "worldLandmarks", "pose_world_landmarks", "poseWorldLandmarks")
_IMAGE_NAMES = ("landmarks", "pose_landmarks", "poseLandmarks")
_SECONDS = {"t": 1.0, "time": 1.0, "timestamp_s": 1.0, "timestamp_ms": 1e-3, "timestampMs": 1e-3, "time_ms": 1e-3}
_NUMBERS = ("frame", "frame_id", "frame_index", "frameIndex", "frame_number", "frameNumber", "index")


class _Landmark(Struct, frozen=True, gc=False):
    """A number that JavaScript could not write (NaN) comes as null."""

    x: float | None
    y: float | None
    z: float | None = 0.0
    visibility: float | None = 1.0


class _Frame(NamedTuple):
    """One frame's fields, and where it stands."""

    fields: dict[str, object]
    where: str


def read(path: Path, options: ReadOptions) -> dict[str, PoseSequence]:
    head, frames = _frames(path)
    landmarks = _chosen(path, frames)
    times = _times(path, frames, head, options)
    found = [_people(landmark_list, frame.where) for landmark_list, frame in zip(landmarks, frames, strict=True)]
    world = _are_world(frames, found)
    gathering = Gathering(path)
    for t, people in zip(times, found, strict=True):
        for n, pose in enumerate(people):
            sure = pose[:, 3] if pose.shape[1] > 3 else np.ones(_JOINTS, np.float32)
            gathering.add(t, f"p{n}", pose[:, :3], sure)
    size = options.image_size or _size(path, head)
    return gathering.people(
        layout("blazepose33"), WORLD if world else Coordinates("normalized", 3, "down", image_size=size)
    )


def _size(path: Path, head: dict[str, object]) -> tuple[int, int] | None:
    if "width" not in head or "height" not in head:
        return None
    return convert((head["width"], head["height"]), tuple[int, int], f"{path}, width and height")


def _frames(path: Path) -> tuple[dict[str, object], list[_Frame]]:
    """What a file says of itself, and its frames; a frame that is no object becomes one with the bare landmarks in it."""
    head, entries = read_listing(path, "frames")
    frames: list[_Frame] = []
    for n, entry in enumerate(entries):
        where = f"{path}, frame {n}"
        fields = convert(cast("object", entry), dict[str, object], where) if isinstance(entry, dict) else {_BARE: entry}
        frames.append(_Frame({_BARE: fields} if "landmark" in fields else fields, where))
    return head, frames


def _chosen(path: Path, frames: Sequence[_Frame]) -> list[object]:
    """Of every frame what stands under the best name that the file uses; a frame without it shows nobody."""
    names = {name for frame in frames for name in frame.fields}
    for name in (_BARE, *_WORLD_NAMES, *_IMAGE_NAMES):
        if name in names:
            return [frame.fields.get(name) for frame in frames]
    raise InputError(f"{path}: no frame holds one of {', '.join((*_WORLD_NAMES, *_IMAGE_NAMES))}")


def _people(value: object, where: str) -> Floats:
    """(people, 33, 3 or 4) of a frame: x, y, z and perhaps visibility. Raises InputError."""
    try:
        poses = np.atleast_1d(as_array([] if value is None else _plain(value, where), where))
    except RecursionError:
        raise InputError(f"{where}: nested too deeply for landmarks") from None
    if not poses.size:
        return np.zeros((0, _JOINTS, 4), np.float32)
    if poses.shape[-1] in (_JOINTS * 3, _JOINTS * 4):
        poses = poses.reshape(*poses.shape[:-1], _JOINTS, -1)
    poses = poses[None] if poses.ndim == 2 else poses
    if poses.shape[1:] not in ((_JOINTS, 3), (_JOINTS, 4)):
        raise ShapeMismatch(f"{where}: numbers of shape {poses.shape}, expected {_JOINTS} landmarks a person")
    return poses


def _plain(value: object, where: str) -> Any:
    """Landmarks as nested lists of numbers, however they were written."""
    if isinstance(value, dict):
        fields = cast("dict[str, object]", value)
        if "landmark" in fields:  # as protobuf's own JSON has it
            return _plain(fields["landmark"], where)
        return [np.nan if one is None else one for one in structs.astuple(convert(fields, _Landmark, where))]
    if isinstance(value, list):
        return [_plain(one, where) for one in cast("list[object]", value)]
    return np.nan if value is None else value


def _are_world(frames: Sequence[_Frame], found: Iterable[Floats]) -> bool:
    names = {name for frame in frames for name in frame.fields}
    if _BARE not in names:
        return not names.isdisjoint(_WORLD_NAMES)
    hips = [pose[list(_HIPS), :2].mean(axis=0) for people in found for pose in people]
    return bool(hips) and bool((np.nanmedian(np.abs(hips), axis=0) < _AT_ORIGIN).all())


def _times(path: Path, frames: Sequence[_Frame], head: dict[str, object], options: ReadOptions) -> list[float]:
    """Seconds of every frame: its own time, else its number (its place, where it has none) over the rate."""
    names = {name for frame in frames for name in frame.fields}
    clock = next((name for name in _SECONDS if name in names), None)
    if options.fps is None and clock is not None:
        return [
            convert(frame.fields.get(clock), float, f"{frame.where}, {clock}") * _SECONDS[clock] for frame in frames
        ]
    if options.fps is None and "timestamp" in names:
        raise BadTimestamps(
            f"{path}: nobody knows the unit of 'timestamp'; give --fps, or call it timestamp_ms", param="fps"
        )
    own = convert(head.get("fps"), float, f"{path}, fps") if "fps" in head else None
    fps = frame_clock(options, path, own)
    number = next((name for name in _NUMBERS if name in names), None)
    if number is None:
        return [n / fps for n in range(len(frames))]
    kind = cast("type[int]", FrameNumber)
    return [convert(frame.fields.get(number), kind, f"{frame.where}, {number}") / fps for frame in frames]
