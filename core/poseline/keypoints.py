"""Keypoints, from the wire's nested lists to arrays and back.

What enters is well-typed (the protocol saw to that) but may have the wrong number of joints, of coordinates, or numbers
that mean nothing; what leaves is joints (T, V, C), confidence (T, V), all finite, with 0 for a missing joint. The usual
case is one call of numpy; only what numpy refuses (nulls, ragged lists) is walked joint by joint, and that walk finds
the words for what is wrong and where.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from poseline.errors import BadTimestamps, MalformedMessage, ShapeMismatch, TooShort
from poseline.pose import Coordinates, PoseSequence, check_numbers
from poseline.protocol import (
    Keypoints,
    LocalizeRequest,
    TrackSpec,
    decode_keypoints,
    encode_keypoints,
)
from poseline.skeleton import Floats, SkeletonLayout
from poseline.translation import coordinates_of, layout_of

_SLICE = 1024
"""Frames read in one go: no single call then holds the interpreter for more than some milliseconds."""
_DECIMALS = 6
_LAST_FRAME = 10**9
"""A year at 30 frames a second: what begins later than that has a wrong clock."""


def read_keypoints(
    frames: Sequence[Keypoints], layout: SkeletonLayout, dims: int, track: str, first: int = 0
) -> tuple[Floats, Floats]:
    """Joints (T, V, C) and confidence (T, V) of one track; `first` is the number of its first frame, for messages.

    Raises ShapeMismatch, BadNumber, BadConfidence.
    """
    read = _rectangle(frames, len(layout.joints), dims)
    if read is None:
        read = np.array([_walk(kp, layout, dims, f"track {track}, frame {first + i}") for i, kp in enumerate(frames)])
    with np.errstate(over="ignore"):  # beyond float32 is beyond any room: it becomes infinity and is refused below
        numbers: Floats = read.astype(np.float32)
    joints = numbers[..., :dims]
    confidence = numbers[..., dims] if numbers.shape[-1] > dims else np.ones(joints.shape[:2], np.float32)
    check_numbers(joints, confidence, f" (track {track}, frames {first} to {first + len(frames) - 1})")
    return joints, confidence


def _rectangle(frames: Sequence[Keypoints], joints: int, dims: int) -> NDArray[np.float64] | None:
    """The numbers as numpy reads them, or None where they are not a full (T, V, dims or dims + 1)."""
    try:
        numbers = np.asarray(frames, np.float64)
    except (ValueError, TypeError):
        return None
    fits = numbers.ndim == 3 and numbers.shape[1] == joints and numbers.shape[2] in (dims, dims + 1)
    return numbers if fits else None


def _walk(kp: Keypoints, layout: SkeletonLayout, dims: int, where: str) -> list[list[float]]:
    """One pose with every joint as dims + 1 numbers: a missing one as zeros, one without confidence as sure."""
    if len(kp) != len(layout.joints):
        what = f"joint axis has {len(kp)} entries, layout {layout.name} has {len(layout.joints)} ({where})"
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
            what = f"joint {name} has {len(joint)} numbers, expected {dims}, or {dims + 1} with confidence ({where})"
            raise ShapeMismatch(what, param="keypoints")
    return pose


def read_tracks(request: LocalizeRequest) -> list[PoseSequence]:
    """Every track of a recording on the recording's clock.

    Raises TooShort, BadTimestamps, MalformedMessage and whatever layouts, coordinates and keypoints raise.
    """
    layout, coordinates = layout_of(request.layout), coordinates_of(request.coordinates)
    if not request.tracks:
        raise TooShort("the request holds no track", param="tracks")
    names = [track.track_id for track in request.tracks]
    if len(set(names)) != len(names):
        raise MalformedMessage("two tracks have the same track_id", param="tracks", code="invalid_message")
    clock = _clock(request)
    return [_read_track(track, _times(track, clock, request.fps), layout, coordinates) for track in request.tracks]


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


def _times(track: TrackSpec, clock: NDArray[np.float64] | None, fps: float | None) -> NDArray[np.float64]:
    """Media time of every frame of one track."""
    start, stop = track.start_frame, track.start_frame + len(track.keypoints)
    if not 0 <= start <= _LAST_FRAME:
        what = f"start_frame of track {track.track_id} is {start}, expected 0 to {_LAST_FRAME}"
        raise BadTimestamps(what, param="tracks")
    if clock is None:
        return np.arange(start, stop) / (fps or 1.0)
    if stop > len(clock):
        what = f"track {track.track_id} covers frames {start} to {stop - 1}, but there are {len(clock)} timestamps"
        raise BadTimestamps(what, param="timestamps")
    return clock[start:stop]


def _read_track(
    track: TrackSpec, times: NDArray[np.float64], layout: SkeletonLayout, coordinates: Coordinates
) -> PoseSequence:
    where, frames = f"track {track.track_id}", len(track.keypoints)
    if not frames:
        raise TooShort(f"{where} holds no frame", param="tracks")
    parts: list[tuple[Floats, Floats]] = []
    for i in range(0, frames, _SLICE):
        part = decode_keypoints(track.keypoints[i : i + _SLICE], f" ({where}, counted from frame {i})")
        parts.append(read_keypoints(part, layout, coordinates.dims, track.track_id, i))
    joints, confidence = (np.concatenate(part) for part in zip(*parts, strict=True))
    return PoseSequence(joints, confidence, times, layout, coordinates, track.track_id, where)


def write_keypoints(joints: Floats, confidence: Floats) -> list[Keypoints]:
    """Joints (T, V, C) and confidence (T, V) as the wire has them: null for a missing joint."""
    numbers = np.concatenate([joints, confidence[..., None]], axis=-1).astype(np.float64).round(_DECIMALS)
    frames: list[Keypoints] = numbers.tolist()
    for frame, joint in np.argwhere(confidence <= 0):
        frames[frame][joint] = None
    return frames


def write_tracks(people: Mapping[str, PoseSequence]) -> list[TrackSpec]:
    """The tracks of a recording whose people share one clock."""
    return [
        TrackSpec(name, encode_keypoints(write_keypoints(poses.joints, poses.confidence)))
        for name, poses in people.items()
    ]
