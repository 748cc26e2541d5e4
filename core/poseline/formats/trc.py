"""Marker files of motion capture, `.trc` (tab-separated): what OpenSim and Pose2Sim exchange.

    PathFileType  4  (X/Y/Z)  name
    DataRate  CameraRate  NumFrames  NumMarkers  Units  …          and their values on the next line
    Frame#  Time  <marker>  .  .  <marker>  .  .                   then a line X1 Y1 Z1 X2 …
    1  0.000  x  y  z  x  y  z  …                                  an empty cell or a NaN: the marker was not seen

Y is up, times are the file's own, units (m, cm, mm) become metres. One person. Markers named after joints are known in
most spellings (`RHip`, `right_hip`, `R.Hip`); others (anatomical marker sets) are ignored, and a file with too few known
ones is refused when the model is asked. Where the person faces is not in the file: +z is assumed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from poseline.errors import InputError, ShapeMismatch
from poseline.formats.reading import Gathering, ReadOptions, as_array, chosen_layout, frame_clock, read_lines
from poseline.pose import Coordinates, PoseSequence
from poseline.protocol import CustomLayout
from poseline.skeleton import SkeletonLayout
from poseline.translation import layout_of

_METRES = {"m": 1.0, "cm": 0.01, "mm": 0.001}
_LAB = Coordinates("world_m", 3, "up", "+z")
_SIDED = re.compile(r"^(left|right|l|r)[ _.-]*(?=[a-z])", re.IGNORECASE)
_PARTS = (
    "shoulder",
    "elbow",
    "wrist",
    "hip",
    "knee",
    "ankle",
    "heel",
    "eye",
    "ear",
    "big_toe",
    "small_toe",
    "hand",
    "foot",
)
_SPELLINGS = {"bigtoe": "big_toe", "smalltoe": "small_toe"}
_WHOLE = {"hip": "pelvis", "hips": "pelvis", "midhip": "pelvis", "chip": "pelvis", "cshoulder": "shoulder_center"}


def read(path: Path, options: ReadOptions) -> dict[str, PoseSequence]:
    lines = read_lines(path)
    scale, markers = _head(path, lines)
    gathering = Gathering(path)
    for place, (number, line) in enumerate(_rows(lines)):
        where = f"{path}, line {number}"
        cells = line.split("\t")
        joints = _numbers(cells[2 : 2 + 3 * len(markers)], where).reshape(-1)
        if len(joints) > 3 * len(markers) or any(cell.strip() for cell in cells[2 + 3 * len(markers) :]):
            raise ShapeMismatch(f"{where}: {len(cells) - 2} numbers, {len(markers)} markers have {3 * len(markers)}")
        pose = np.full((len(markers), 3), np.nan, np.float32)
        pose.reshape(-1)[: len(joints)] = joints * scale  # a marker lost at the line's end may leave no cells behind
        t = float(_numbers(cells[1:2], where)[0]) if options.fps is None else place / frame_clock(options, path)
        gathering.add(t, "p0", pose, np.ones(len(markers), np.float32))
    layout = chosen_layout(options, len(markers), {}, str(path)) if options.layout else _layout(markers)
    return gathering.people(layout, _LAB)


def _head(path: Path, lines: Iterator[tuple[int, str]]) -> tuple[float, list[str]]:
    """Metres of a unit, and the markers' names. Raises InputError."""
    head = [line.split("\t") for _, line in (next(lines, (0, "")) for _ in range(5))]
    if not head[0][0].strip().lower().startswith("pathfiletype") or not head[3][0].strip().lower().startswith("frame"):
        raise InputError(f"{path} is no .trc: PathFileType should begin line 1, and Frame# line 4")
    fields = dict(zip((name.strip() for name in head[1]), (value.strip() for value in head[2]), strict=False))
    unit = fields.get("Units", "").lower()
    if unit not in _METRES:
        raise InputError(f"{path}, line 3: Units are {fields.get('Units')!r}, expected {', '.join(_METRES)}")
    markers = [name.strip() for name in head[3][2:] if name.strip()]
    if not markers or fields.get("NumMarkers", str(len(markers))) != str(len(markers)):
        raise InputError(f"{path}, line 4: {len(markers)} markers, NumMarkers says {fields.get('NumMarkers')}")
    return _METRES[unit], markers


def _rows(lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """Data lines; an empty one stands between the head and them, or not."""
    return ((number, line) for number, line in lines if line.strip())


def _numbers(cells: Sequence[str], where: str) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return as_array([cell.strip() or "nan" for cell in cells], where)


def _layout(markers: Sequence[str]) -> SkeletonLayout:
    """Raises LayoutMismatch where two markers mean the same joint."""
    return layout_of(CustomLayout([joint_of(name) for name in markers]))


def joint_of(marker: str) -> str:
    """The joint's name as our layouts spell it: `RBigToe` → `right_big_toe`; what is not known stays as it is."""
    plain = re.sub(r"[ _.-]", "", marker).lower()
    if plain in _WHOLE:
        return _WHOLE[plain]
    if side := _SIDED.match(marker):
        part = re.sub(r"[ _.-]", "", marker[side.end() :]).lower()
        part = _SPELLINGS.get(part, part)
        if part in _PARTS:
            return f"{'left' if side[1][0] in 'lL' else 'right'}_{part}"
    return marker
