"""Skeletons of Kinect v2 as two data sets write them: NTU RGB+D's `.skeleton` and PKU-MMD's `.txt`.

Both hold 25 joints in metres of the camera (y up, z away from it) and run at 30 frames a second. NTU names bodies and says
how well each joint was tracked; PKU-MMD has a line of 150 numbers a frame: two persons × 25 joints × (x, y, z), zeros for an
absent one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from poseline.errors import InputError
from poseline.formats.reading import KINECT, KINECT_FPS, Gathering, ReadOptions, as_array, frame_clock, read_lines
from poseline.pose import PoseSequence
from poseline.skeleton import layout

_JOINTS = 25
_BODY, _JOINT = 10, 12
"""Numbers of a body's and of a joint's line in a `.skeleton`; the last of a joint's is its tracking state."""


def read_ntu(path: Path, options: ReadOptions) -> dict[str, PoseSequence]:
    fps, lines, gathering = frame_clock(options, path, KINECT_FPS), _Lines(path), Gathering(path)
    for frame in range(lines.count("the number of frames")):
        for _ in range(lines.count("the number of bodies")):
            person = f"p{lines.words(_BODY, 'a body')[0]}"
            if (joints := lines.count("the number of joints")) != _JOINTS:
                raise InputError(f"{lines.where}: a body of {joints} joints, expected {_JOINTS}")
            rows = [lines.words(_JOINT, "a joint") for _ in range(_JOINTS)]
            numbers = as_array([row[:3] for row in rows], lines.where)
            states = as_array([row[-1] for row in rows], lines.where)
            sure = np.clip(np.nan_to_num(states), 0, 2).astype(np.float32) / np.float32(
                2
            )  # not tracked, inferred, tracked
            gathering.add(frame / fps, person, numbers, sure)
    return gathering.people(layout("kinect_v2_25"), KINECT)


class _Lines:
    """The lines of a `.skeleton`, one after another."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: Iterator[tuple[int, str]] = read_lines(path)
        self.where = str(path)

    def words(self, expected: int, what: str) -> list[str]:
        """Raises InputError."""
        number, line = next(self._lines, (0, ""))
        if not number:
            raise InputError(f"{self._path} ends where {what} should come")
        self.where = f"{self._path}, line {number}"
        words = line.split()
        if len(words) != expected:
            raise InputError(f"{self.where}: {len(words)} numbers, {what} has {expected}")
        return words

    def count(self, what: str) -> int:
        word = self.words(1, what)[0]
        if not word.isdecimal() or len(word) > 9:
            raise InputError(f"{self.where}: {word[:20]!r} where {what} should stand")
        return int(word)


def read_pku(path: Path, options: ReadOptions) -> dict[str, PoseSequence]:
    fps, gathering = frame_clock(options, path, KINECT_FPS), Gathering(path)
    for number, line in read_lines(path):
        words, where = line.replace(",", " ").split(), f"{path}, line {number}"
        if not words:
            continue
        if len(words) != 2 * _JOINTS * 3:
            raise InputError(f"{where}: {len(words)} numbers, a frame of PKU-MMD has {2 * _JOINTS * 3}")
        for n, joints in enumerate(as_array(words, where).reshape(2, _JOINTS, 3)):
            gathering.add((number - 1) / fps, f"p{n}", joints, np.any(joints, axis=-1).astype(np.float32))
    return gathering.people(layout("kinect_v2_25"), KINECT)
