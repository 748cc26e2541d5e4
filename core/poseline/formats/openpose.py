"""OpenPose's `--write_json`: a folder of one file a frame, `<name>_<number>_keypoints.json`.

`people[].pose_keypoints_2d` is x, y, confidence joint by joint, in pixels: 25 joints are BODY_25, 18 are COCO. A joint at
(0, 0) with confidence 0 is missing. `person_id` is -1 unless OpenPose tracked, and then people are known by their place in
the list, which OpenPose does not keep from frame to frame: two people may swap.
"""

from __future__ import annotations

import re
from itertools import islice, pairwise
from pathlib import Path

from msgspec import Struct

from poseline.errors import InputError, TooLarge, TooShort
from poseline.formats.reading import (
    IMAGE,
    MAX_LINE,
    Gathering,
    ReadOptions,
    as_array,
    chosen_layout,
    frame_clock,
    read_json,
)
from poseline.pose import PoseSequence

_NUMBERED = re.compile(r"(\d{1,15})_keypoints\.json$")
_BY_COUNT = {25: "body25", 18: "openpose18"}
MAX_FILES = 216_000
"""Frames of one folder: two hours at 30 a second."""


def seems(path: Path) -> bool:
    """Whether it is such a folder, or one of its files: `read` then tells what to give instead."""
    names = islice(path.iterdir(), 1000) if path.is_dir() else [path]
    return any(_NUMBERED.search(one.name) for one in names)


class _Person(Struct, frozen=True):
    pose_keypoints_2d: list[float] = []
    person_id: list[int] | int = -1

    def name(self, place: int) -> str:
        numbers = self.person_id if isinstance(self.person_id, list) else [self.person_id]
        return f"id{numbers[0]}" if numbers and numbers[0] >= 0 else f"p{place}"


class _Frame(Struct, frozen=True):
    people: list[_Person]


def read(path: Path, options: ReadOptions) -> dict[str, PoseSequence]:
    """The frame's number in a file's name, over `fps`, is its time."""
    fps, gathering, joints = frame_clock(options, path), Gathering(path), 0
    for number, file in _frames(path):
        for n, person in enumerate(read_json(file, _Frame, MAX_LINE).people):
            numbers = as_array(person.pose_keypoints_2d, f"{file}, person {n}")
            if len(numbers) % 3:
                raise InputError(f"{file}, person {n}: {len(numbers)} numbers, expected x, y, confidence of each joint")
            pose = numbers.reshape(-1, 3)
            if not len(pose):
                continue
            if len(pose) != (joints := joints or len(pose)):
                raise InputError(f"{file}, person {n}: {len(pose)} joints, those before have {joints}")
            gathering.add(number / fps, person.name(n), pose[:, :2], pose[:, 2])
    if not joints:
        raise TooShort(f"{path}: no file holds a person with pose_keypoints_2d")
    return gathering.people(chosen_layout(options, joints, _BY_COUNT, str(path)), IMAGE)


def _frames(path: Path) -> list[tuple[int, Path]]:
    """Raises InputError, TooLarge."""
    if not path.is_dir():
        raise InputError(f"{path} is no folder: OpenPose writes one file a frame, give the folder that holds them")
    frames: list[tuple[int, Path]] = []
    for file in path.iterdir():
        if match := _NUMBERED.search(file.name):
            frames.append((int(match[1]), file))
        if len(frames) > MAX_FILES:
            raise TooLarge(f"{path} holds more than {MAX_FILES} frames", code="too_many_frames")
    frames.sort()
    for (number, one), (following, other) in pairwise(frames):
        if number == following:
            raise InputError(
                f"{path}: {one.name} and {other.name} are both frame {number}: two recordings in one folder?"
            )
    return frames
