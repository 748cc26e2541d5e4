"""Keypoints, from the wire's nested lists or packed bytes to arrays and back.

What enters is well-typed (the codec saw to that) but may have the wrong number of joints, of coordinates, or numbers that
mean nothing; what leaves is poses (N, V, C + 1): joints and their confidence, all finite, and all zero for a missing joint.
The usual case is a few calls of numpy for all poses of a message; only what numpy refuses (nulls, ragged lists) is walked
joint by joint, and that walk finds the words for what is wrong and where.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import cast

import numpy as np
from numpy.typing import NDArray

from poseline.codec import JSON, Codec
from poseline.errors import BadTimestamps, MalformedMessage, ShapeMismatch, TooShort
from poseline.pose import FARTHEST, PoseSequence, check_numbers
from poseline.protocol import Keypoints, LocalizeRequest, TrackSpec
from poseline.skeleton import Floats, SkeletonLayout
from poseline.translation import coordinates_of, layout_of

_SLICE = 1024
"""Frames read in one go: no single call then holds the interpreter for more than some milliseconds."""
_DECIMALS = 6
_LAST_FRAME = 10**9
"""A year at 30 frames a second: what begins later than that has a wrong clock."""


Where = Callable[[int], str]
"""Where the i-th pose stands, in words that can end an error's message."""


def read_keypoints(poses: Sequence[Keypoints | bytes], layout: SkeletonLayout, dims: int, where: Where) -> Floats:
    """(N, V, dims + 1): joints, and their confidence last; a missing joint is all zero.

    Raises ShapeMismatch, BadNumber, BadConfidence.
    """
    if isinstance(poses[0], bytes) and all(isinstance(pose, bytes) for pose in poses):
        numbers = _unpack(cast(Sequence[bytes], poses), layout, dims, where)
    else:
        numbers = _rectangle(poses, len(layout.joints), dims)
        if numbers is None:
            numbers = np.stack([_read_one(pose, layout, dims, where, i) for i, pose in enumerate(poses)])
    low, high = _bounds(dims)
    good = (numbers >= low) & (numbers <= high)
    if not good.all():
        i = int(np.argmin(good.all(axis=(1, 2))))
        check_numbers(numbers[i, :, :dims], numbers[i, :, dims], where(i))
    return numbers


@cache
def _bounds(dims: int) -> tuple[Floats, Floats]:
    """(dims + 1,) lowest and highest number of a joint; `check_numbers` has the words for what is beyond them."""
    high = np.full(dims + 1, FARTHEST, np.float32)
    high[dims] = 1
    low = -high
    low[dims] = 0
    return low, high


def _unpack(poses: Sequence[bytes], layout: SkeletonLayout, dims: int, where: Where) -> Floats:
    size = _packed_size(layout, dims)
    for i, pose in enumerate(poses):
        if len(pose) != size:
            what = f"packed keypoints have {len(pose)} bytes, layout {layout.name} in {dims} dimensions has {size}"
            raise ShapeMismatch(what + where(i), param="keypoints")
    numbers = np.frombuffer(b"".join(poses), "<f4").reshape(-1, len(layout.joints), dims + 1)
    if np.isnan(numbers.max()):
        missing = np.isnan(numbers).any(axis=-1, keepdims=True)
        numbers = np.where(missing, np.float32(0), numbers)
    return numbers


def _rectangle(poses: Sequence[Keypoints | bytes], V: int, dims: int) -> Floats | None:
    """The numbers as numpy reads them, or None where they are not a full (N, V, dims or dims + 1)."""
    try:
        with np.errstate(over="ignore"):  # beyond float32 is beyond any room: it becomes infinity and is refused
            numbers = np.asarray(poses, np.float32)
    except (ValueError, TypeError):
        return None
    if numbers.shape[1:] == (V, dims):
        return np.concatenate([numbers, np.ones((len(numbers), V, 1), np.float32)], axis=-1)
    return numbers if numbers.shape[1:] == (V, dims + 1) else None


def _read_one(pose: Keypoints | bytes, layout: SkeletonLayout, dims: int, where: Where, i: int) -> Floats:
    """(V, dims + 1) of one pose, whichever way it is written."""
    if isinstance(pose, bytes):
        return _unpack([pose], layout, dims, lambda _: where(i))[0]
    with np.errstate(over="ignore"):
        return np.array(_walk(pose, layout, dims, where(i)), np.float32)


def _walk(kp: Keypoints, layout: SkeletonLayout, dims: int, where: str) -> list[list[float]]:
    """One pose with every joint as dims + 1 numbers: a missing one as zeros, one without confidence as sure."""
    if len(kp) != len(layout.joints):
        what = f"joint axis has {len(kp)} entries, layout {layout.name} has {len(layout.joints)}{where}"
        raise ShapeMismatch(what, param="keypoints")
    pose: list[list[float]] = []
    for name, joint in zip(layout.joints, kp, strict=True):
        if joint is None:
            pose.append([0.0] * (dims + 1))
        elif len(joint) == dims + 1:
            pose.append(joint)
        elif len(joint) == dims:
            pose.append([*joint, 1.0])
        else:
            what = f"joint {name} has {len(joint)} numbers, expected {dims}, or {dims + 1} with confidence{where}"
            raise ShapeMismatch(what, param="keypoints")
    return pose


def read_tracks(request: LocalizeRequest, codec: Codec = JSON) -> list[PoseSequence]:
    """Every track of a recording on the recording's clock. codec: what the request came in.

    Raises TooShort, BadTimestamps, MalformedMessage and whatever layouts, coordinates and keypoints raise.
    """
    layout, coordinates = layout_of(request.layout), coordinates_of(request.coordinates)
    if not request.tracks:
        raise TooShort("the request holds no track", param="tracks")
    names = [track.track_id for track in request.tracks]
    if len(set(names)) != len(names):
        raise MalformedMessage("two tracks have the same track_id", param="tracks", code="invalid_message")
    clock = _clock(request)
    sequences: list[PoseSequence] = []
    for track, frames in zip(request.tracks, count_frames(request), strict=True):
        where = f"track {track.track_id}"
        if not frames:
            raise TooShort(f"{where} holds no frame", param="tracks")
        times = _times(track, frames, clock, request.fps)
        poses = _read_poses(track, frames, codec, layout, coordinates.dims, where)
        sequences.append(
            PoseSequence(poses[..., :-1], poses[..., -1], times, layout, coordinates, track.track_id, where)
        )
    return sequences


def count_frames(request: LocalizeRequest) -> list[int]:
    """Frames of every track, told before any is read. Raises ShapeMismatch, and what layouts and coordinates raise."""
    layout, dims = layout_of(request.layout), coordinates_of(request.coordinates).dims
    counts: list[int] = []
    for track in request.tracks:
        frames, left = len(track.keypoints), 0
        if isinstance(track.keypoints, bytes):
            frames, left = divmod(frames, size := _packed_size(layout, dims))
            if left:
                what = f"track {track.track_id} is {len(track.keypoints)} bytes of packed keypoints, no multiple of {size}:"
                what += f" layout {layout.name} in {dims} dimensions"
                raise ShapeMismatch(what, param="keypoints")
        counts.append(frames)
    return counts


def _packed_size(layout: SkeletonLayout, dims: int) -> int:
    """Bytes of one packed pose."""
    return len(layout.joints) * (dims + 1) * 4


def _clock(request: LocalizeRequest) -> NDArray[np.float64] | None:
    """The recording's timestamps; None where its `fps` is the clock."""
    if (request.fps is None) == (request.timestamps is None):
        given = "neither" if request.fps is None else "both"
        raise MalformedMessage(f"exactly one of fps and timestamps is needed, {given} came", code="invalid_message")
    if request.timestamps is not None:
        clock = np.asarray(request.timestamps, np.float64)
        falls = np.flatnonzero(np.diff(clock) <= 0)
        if len(falls):
            at = int(falls[0]) + 1
            what = f"timestamps must rise strictly: {clock[at]:g} follows {clock[at - 1]:g} at frame {at}"
            raise BadTimestamps(what, param="timestamps")
        return clock
    assert request.fps is not None
    if not 0 < request.fps <= 1000:
        raise BadTimestamps(f"fps is {request.fps:g}, expected more than 0 and at most 1000", param="fps")
    return None


def _times(track: TrackSpec, frames: int, clock: NDArray[np.float64] | None, fps: float | None) -> NDArray[np.float64]:
    """Media time of every frame of one track."""
    start, stop = track.start_frame, track.start_frame + frames
    if not 0 <= start <= _LAST_FRAME:
        what = f"start_frame of track {track.track_id} is {start}, expected 0 to {_LAST_FRAME}"
        raise BadTimestamps(what, param="tracks")
    if clock is None:
        return np.arange(start, stop) / (fps or 1.0)
    if stop > len(clock):
        what = f"track {track.track_id} covers frames {start} to {stop - 1}, but there are {len(clock)} timestamps"
        raise BadTimestamps(what, param="timestamps")
    return clock[start:stop]


def _read_poses(track: TrackSpec, frames: int, codec: Codec, layout: SkeletonLayout, dims: int, where: str) -> Floats:
    """(frames, V, dims + 1), a slice at a time."""
    packed, size = track.keypoints, _packed_size(layout, dims)
    parts: list[Floats] = []
    for begin in range(0, frames, _SLICE):
        end = min(begin + _SLICE, frames)
        poses: Sequence[Keypoints | bytes]
        if isinstance(packed, bytes):
            poses = [packed[i * size : (i + 1) * size] for i in range(begin, end)]
        else:
            poses = codec.decode_keypoints(packed[begin:end], f" ({where}, counted from frame {begin})")
        parts.append(read_keypoints(poses, layout, dims, lambda i, begin=begin: f" ({where}, frame {begin + i})"))
    return np.concatenate(parts)


def write_keypoints(joints: Floats, confidence: Floats) -> list[Keypoints]:
    """Joints (T, V, C) and confidence (T, V) as the wire has them: null for a missing joint."""
    numbers = np.concatenate([joints, confidence[..., None]], axis=-1).astype(np.float64).round(_DECIMALS)
    frames: list[Keypoints] = numbers.tolist()
    for frame, joint in np.argwhere(confidence <= 0):
        frames[frame][joint] = None
    return frames


def pack_keypoints(joints: Floats, confidence: Floats) -> list[bytes]:
    """The same packed: little-endian float32, NaN for a missing joint."""
    numbers = np.concatenate([joints, confidence[..., None]], axis=-1).astype("<f4")
    numbers[confidence <= 0] = np.nan
    return [frame.tobytes() for frame in numbers]


def write_tracks(people: Mapping[str, PoseSequence], codec: Codec = JSON) -> list[TrackSpec]:
    """The tracks of a recording whose people share one clock, for a request in that encoding; in MessagePack packed."""
    if codec.text:
        return [
            TrackSpec(name, codec.encode_keypoints(write_keypoints(poses.joints, poses.confidence)))
            for name, poses in people.items()
        ]
    return [TrackSpec(name, b"".join(pack_keypoints(poses.joints, poses.confidence))) for name, poses in people.items()]
