"""Predictions of MMPose and rtmlib as JSON.

    {"meta_info", "instance_info": [{"frame_id", "instances": [{"keypoints": [[x, y] …], "keypoint_scores": [s …]}]}]}
    [{"frame_id", "instances": [...]}, …]        MMPoseInferencer, a video
    {"predictions": [[instance …], …]}           one list of instances a frame; or the outer list alone
    [{"keypoints": (N, V, 2), "scores": (N, V)}, …]         what rtmlib returns, frame by frame

Pixels. 17 joints are COCO's, 26 Halpe's; of 133 (whole body) the first 17 are kept, which are COCO's. Scores of SimCC models
pass 1 and are cut there. Instances are known by `track_id` where they have one, else by their place in the list.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import cast

import numpy as np
from msgspec import Struct

from poseline.errors import BadTimestamps, InputError, ShapeMismatch
from poseline.formats.reading import (
    IMAGE,
    FrameNumber,
    Gathering,
    ReadOptions,
    as_array,
    chosen_layout,
    convert,
    frame_clock,
    read_listing,
)
from poseline.pose import PoseSequence
from poseline.skeleton import Floats

_BY_COUNT = {17: "coco17", 26: "halpe26"}
_WHOLE_BODY, _BODY = 133, 17


class _Instance(Struct, frozen=True):
    keypoints: list[list[float]]
    keypoint_scores: list[float] | None = None
    track_id: int | str | None = None

    def pose(self, where: str) -> tuple[Floats, Floats]:
        """Joints (V, 2) and scores (V,). Raises InputError."""
        joints = as_array(self.keypoints, where)
        scores = (
            np.ones(len(joints), np.float32) if self.keypoint_scores is None else as_array(self.keypoint_scores, where)
        )
        if joints.ndim != 2 or joints.shape[1] != 2:
            raise ShapeMismatch(f"{where}: keypoints are not [x, y] each; MMPose's lifted 3D poses are not read")
        if len(scores) != len(joints):
            raise ShapeMismatch(f"{where}: {len(joints)} keypoints, but {len(scores)} keypoint_scores")
        return (joints[:_BODY], scores[:_BODY]) if len(joints) == _WHOLE_BODY else (joints, scores)


class _Frame(Struct, frozen=True):
    instances: list[_Instance]
    frame_id: FrameNumber | None = None


class _Arrays(Struct, frozen=True):
    """A frame as rtmlib's body models return it: keypoints (N, V, 2) and scores (N, V)."""

    keypoints: list[list[list[float]]]
    scores: list[list[float]]
    frame_id: FrameNumber | None = None


def read(path: Path, options: ReadOptions) -> dict[str, PoseSequence]:
    """A frame's `frame_id` (its place, where it has none) over `fps` is its time; ids that begin at 1 count from 0."""
    fps, gathering, joints = frame_clock(options, path), Gathering(path), 0
    frames = _frames(path)
    numbers = [place if frame.frame_id is None else frame.frame_id for place, frame in enumerate(frames)]
    first = 1 if numbers and numbers[0] == 1 else 0
    if any(following <= number for number, following in pairwise(numbers)):
        raise BadTimestamps(f"{path}: frame_id does not rise from frame to frame")
    for number, frame in zip(numbers, frames, strict=True):
        for n, instance in enumerate(frame.instances):
            where = f"{path}, frame {number}, instance {n}"
            pose, scores = instance.pose(where)
            if len(pose) != (joints := joints or len(pose)):
                raise ShapeMismatch(f"{where}: {len(pose)} joints, those before have {joints}")
            name = f"p{n}" if instance.track_id is None else f"id{instance.track_id}"
            gathering.add((number - first) / fps, name, pose, scores)
    return gathering.people(chosen_layout(options, joints, _BY_COUNT, str(path)), IMAGE)


def _frames(path: Path) -> list[_Frame]:
    """Raises InputError."""
    _, entries = read_listing(path, "instance_info", "predictions")
    return [_frame(one, f"{path}, entry {n}") for n, one in enumerate(entries)]


def _frame(entry: object, where: str) -> _Frame:
    """One frame, in whichever of the shapes. Raises InputError."""
    if isinstance(entry, list):
        return _Frame(convert(cast("object", entry), list[_Instance], where))
    fields = convert(entry, dict[str, object], where)
    if "instances" in fields:
        return convert(fields, _Frame, where)
    if "scores" in fields:
        arrays = convert(fields, _Arrays, where)
        if len(arrays.keypoints) != len(arrays.scores):
            raise ShapeMismatch(f"{where}: {len(arrays.keypoints)} people, but scores of {len(arrays.scores)}")
        people = zip(arrays.keypoints, arrays.scores, strict=True)
        return _Frame([_Instance(keypoints, scores) for keypoints, scores in people], arrays.frame_id)
    raise InputError(f"{where} is no frame: expected a list of instances, or an object with frame_id and instances")
