"""A plain `.npz` (no pickles): the arrays of one recording, for whoever has poses in numpy.

keypoints (or joints)   (T, V, C) or (M, T, V, C), float; C is 2 (x, y), 3 (x, y, z) or 4 (with confidence); a 2D pose
                        with confidence has C = 3 and says `dims` 2. NaN marks a missing joint
confidence              (T, V) or (M, T, V), optional, where it is not in the last column
fps or timestamps       a number, or (T,) seconds
layout                  name of a registered layout (or --layout), or the (V,) names of the joints
space, y_axis, facing, dims, mirrored, image_size      optional, as in docs/protocol.md; by default camera_m in three
                        dimensions and pixel in two
track_ids               (M,) names, optional
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from poseline.errors import BadTimestamps, InputError, ShapeMismatch, TooLarge
from poseline.formats.reading import MAX_NUMBERS, Gathering, ReadOptions, chosen_layout, frame_clock
from poseline.pose import Coordinates, PoseSequence
from poseline.protocol import CoordinatesSpec, CustomLayout
from poseline.skeleton import Floats, SkeletonLayout
from poseline.translation import coordinates_of, layout_of

_MAX_ARRAY = 8 * MAX_NUMBERS
"""Bytes that an archive may unpack to: `MAX_NUMBERS` as float64."""
BROKEN = (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)
"""What zip files and arrays raise that are none, or not whole; RuntimeError where they are encrypted."""
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
Arrays = Mapping[str, NDArray[Any]]


def read_arrays(path: Path) -> Arrays:
    """Raises InputError, TooLarge."""
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(one.file_size for one in archive.infolist()) > _MAX_ARRAY:
                raise TooLarge(f"{path} unpacks to more than {_MAX_ARRAY} bytes; cut it into parts")
            return dict(unpacked(archive))
    except FileNotFoundError:
        raise InputError(f"{path} is missing") from None
    except BROKEN as error:
        raise InputError(f"{path} is not a numpy archive: {error}") from None


def unpacked(archive: zipfile.ZipFile) -> Iterator[tuple[str, NDArray[Any]]]:
    """An archive's arrays by name. What an array's header claims must be there before memory is taken for it.

    Raises one of `BROKEN`.
    """
    for one in archive.infolist():
        if not one.filename.endswith(".npy"):
            continue
        with archive.open(one) as file:
            version = np.lib.format.read_magic(file)
            if version not in _HEADERS:
                raise ValueError(f"{one.filename} is of version {version} of numpy's format")
            shape, _, dtype = _HEADERS[version](file)
            if not dtype.hasobject and math.prod(shape) * dtype.itemsize != one.file_size - file.tell():
                raise ValueError(f"{one.filename} claims {dtype} {shape}, which is not what it holds")
        with archive.open(one) as file:
            yield one.filename.removesuffix(".npy"), np.lib.format.read_array(file, allow_pickle=False)


def names_in(path: Path) -> set[str]:
    """Names of an archive's arrays, none of which is read; empty where it is no archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {name.removesuffix(".npy") for name in archive.namelist()}
    except (OSError, zipfile.BadZipFile):
        return set()


def read(path: Path, options: ReadOptions) -> dict[str, PoseSequence]:
    arrays = read_arrays(path)
    joints, confidence, coordinates = _poses(path, arrays, options)
    layout = _layout(path, arrays, options, joints.shape[2])
    times = _times(path, arrays, options, joints.shape[1])
    names = [str(one) for one in np.ravel(arrays.get("track_ids", np.array([f"p{m}" for m in range(len(joints))])))]
    if len(names) != len(joints) or len(set(names)) != len(names):
        raise InputError(f"{path}: track_ids are {len(names)} names, expected {len(joints)} different ones")
    gathering = Gathering(path)
    for name, poses, sure in zip(names, joints, confidence, strict=True):
        for t, pose, how_sure in zip(times, poses, sure, strict=True):
            gathering.add(float(t), name, pose, how_sure)
    return gathering.people(layout, coordinates)


def _poses(path: Path, arrays: Arrays, options: ReadOptions) -> tuple[Floats, Floats, Coordinates]:
    """Joints (M, T, V, 2 or 3), confidence (M, T, V) and what the numbers mean."""
    name = "keypoints" if "keypoints" in arrays else "joints"
    if name not in arrays:
        raise InputError(f"{path} holds {', '.join(arrays) or 'nothing'}, but neither keypoints nor joints")
    poses = arrays[name]
    if poses.ndim not in (3, 4) or poses.dtype.kind not in "fiu":
        raise ShapeMismatch(
            f"{path}: {name} are {poses.dtype} {poses.shape}, expected numbers (T, V, C) or (M, T, V, C)"
        )
    poses = poses.astype(np.float32)
    poses = poses[None] if poses.ndim == 3 else poses
    channels = poses.shape[-1]
    dims = int(_one(path, arrays, "dims", 2 if channels == 2 else 3))
    if channels not in (dims, dims + 1):
        raise ShapeMismatch(
            f"{path}: {name} have {channels} numbers a joint, expected {dims} or {dims + 1} in {dims} dimensions"
        )
    if "confidence" in arrays:
        confidence = arrays["confidence"].astype(np.float32)
        confidence = confidence[None] if confidence.ndim == 2 else confidence
    else:
        confidence = poses[..., dims] if channels > dims else np.ones(poses.shape[:-1], np.float32)
    if confidence.shape != poses.shape[:-1]:
        raise ShapeMismatch(f"{path}: confidence is {confidence.shape}, expected {poses.shape[:-1]}")
    spec = CoordinatesSpec(
        space=str(_one(path, arrays, "space", "pixel" if dims == 2 else "camera_m")),
        dims=dims,
        y_axis=_word(path, arrays, "y_axis", ("up", "down"), None),
        facing=_word(path, arrays, "facing", ("+z", "-z"), "-z"),
        mirrored=bool(_one(path, arrays, "mirrored", False)),
        image_size=options.image_size or _size(path, arrays),
    )
    return poses[..., :dims], confidence, coordinates_of(spec)


def _size(path: Path, arrays: Arrays) -> tuple[int, int] | None:
    size = arrays.get("image_size")
    if size is None:
        return None
    if size.shape != (2,) or size.dtype.kind not in "iu":
        raise ShapeMismatch(f"{path}: image_size is {size.dtype} {size.shape}, expected two whole numbers")
    return int(size[0]), int(size[1])


def _one(path: Path, arrays: Arrays, name: str, default: Any) -> Any:
    """The one value of an array. Raises InputError."""
    array = arrays.get(name)
    if array is None:
        return default
    if array.size != 1:
        raise ShapeMismatch(f"{path}: {name} holds {array.size} values, expected one")
    return array.reshape(()).item()


def _word(path: Path, arrays: Arrays, name: str, known: tuple[str, ...], default: Any) -> Any:
    word = _one(path, arrays, name, default)
    if word is not default and word not in known:
        raise InputError(f"{path}: {name} is {word!r}, expected {' or '.join(known)}")
    return word


def _layout(path: Path, arrays: Arrays, options: ReadOptions, count: int) -> SkeletonLayout:
    names = arrays.get("layout")
    if options.layout is None and names is not None and names.size > 1:
        found = layout_of(CustomLayout([str(name) for name in np.ravel(names)]))
        if len(found.joints) != count:
            raise ShapeMismatch(f"{path}: {count} joints, but layout names {len(found.joints)}", param="layout")
        return found
    own = None if names is None else str(_one(path, arrays, "layout", None))
    return chosen_layout(options._replace(layout=options.layout or own), count, {}, str(path))


def _times(path: Path, arrays: Arrays, options: ReadOptions, frames: int) -> NDArray[np.float64]:
    if options.fps is None and "timestamps" in arrays:
        times = np.ravel(arrays["timestamps"])
        if len(times) != frames or times.dtype.kind not in "fiu":
            raise BadTimestamps(
                f"{path}: {len(times)} timestamps ({times.dtype}) for {frames} frames", param="timestamps"
            )
        return times.astype(np.float64)
    own = float(_one(path, arrays, "fps", 0)) if "fps" in arrays else None
    return np.arange(frames) / frame_clock(options, path, own)
