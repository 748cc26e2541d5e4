"""A recorded stream, NDJSON: a head that says what the numbers are, then a line a frame, as the protocol has them.

    {"layout": "blazepose33", "coordinates": {"space": "world_m", "y_axis": "down"}}      like a session.start
    {"t": 0.0, "people": [{"id": "p1", "kp": [[x, y, z, confidence], null, …]}]}          like a frame of `frames`

Written by whoever wants to keep what a camera saw; it has no end that could be missing. A person whose joints are all
null is there and unseen, as on the wire.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from poseline.errors import BadTimestamps, InputError
from poseline.formats.reading import Gathering, ReadOptions, frame_clock, read_lines
from poseline.keypoints import read_keypoints
from poseline.pose import PoseSequence
from poseline.protocol import CoordinatesSpec, CustomLayout, Frame
from poseline.translation import coordinates_of, layout_of

T = TypeVar("T")


class Head(Struct, frozen=True):
    """The fields of `session.start` that say what the numbers are; others are ignored."""

    layout: str | CustomLayout
    coordinates: CoordinatesSpec = CoordinatesSpec()


class RecordedStream(NamedTuple):
    """people by name, and times (T,) of all frames in seconds, also of those in which nobody was."""

    people: dict[str, PoseSequence]
    times: NDArray[np.float64]


def read(path: Path, options: ReadOptions) -> dict[str, PoseSequence]:
    return read_stream(path, options).people


def read_stream(path: Path, options: ReadOptions) -> RecordedStream:
    """A file has its own clock: `options.fps` counts its frames instead, evenly. Raises InputError and its kin."""
    lines = ((number, line) for number, line in read_lines(path) if line.strip())
    number, line = next(lines, (0, ""))
    head = _decode(line, Head, f"{path}, line {number or 1} (the head)")
    layout, coordinates = layout_of(options.layout or head.layout), coordinates_of(head.coordinates)
    gathering, times = Gathering(path), [-np.inf]
    for place, (number, line) in enumerate(lines):
        where = f"{path}, line {number}"
        frame = _decode(line, Frame, where)
        t = frame.t if options.fps is None else place / frame_clock(options, path)
        if not t > times[-1]:
            raise BadTimestamps(f"{where}: frames must rise in time, {t:g} follows {times[-1]:g}")
        times.append(t)
        for person in frame.people:
            if person.id is None:
                raise InputError(f"{where}: somebody has no id; in a recorded stream everybody has one")
            in_words = f" ({where}, {person.id})"
            pose = read_keypoints([person.kp], layout, coordinates.dims, lambda _, words=in_words: words)
            gathering.put(t, person.id, pose[0])
    return RecordedStream(gathering.people(layout, coordinates), np.array(times[1:]))


def _decode(line: str, kind: type[T], where: str) -> T:
    try:
        return msgspec.json.decode(line, type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InputError(f"{where}: {error}") from None
