"""What all readers of poses share: limits, files read within them, and people gathered frame by frame.

A reader holds no more than a file's bytes, what they decode to, and the poses found. Each has a limit, so a huge or
malicious file is refused (TooLarge) instead of filling the memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, BinaryIO, NamedTuple, TypeVar, cast

import msgspec
import numpy as np
from numpy.typing import ArrayLike

from poseline.errors import BadTimestamps, InputError, ShapeMismatch, TooLarge, TooShort
from poseline.pose import Coordinates, PoseSequence
from poseline.skeleton import Floats, SkeletonLayout, layout

T = TypeVar("T")

MAX_BYTES = 128 * 2**20
"""Bytes of one file: half an hour of MediaPipe's landmarks as JSON, many hours of plainer formats."""
MAX_LINE = 2**20
"""Bytes of one line, or of one file of a folder: 16 people of 133 joints are a tenth of it."""
MAX_NUMBERS = 10**8
"""Numbers of all poses together: seven hours of one person's 33 landmarks at 30 frames a second, 400 MB."""
MAX_PEOPLE = 64
FrameNumber = Annotated[int, msgspec.Meta(ge=-(2**53), le=2**53)]
"""As many as a float can count, for it is divided by the rate."""
KINECT_FPS = 30.0
"""Both Kinects give 30 frames a second, and their data sets say so nowhere in the files."""
KINECT = Coordinates("camera_m", 3, "up", "-z")
IMAGE = Coordinates("pixel", 2, "down")


class ReadOptions(NamedTuple):
    """What the caller adds to a file. fps: its clock, needed where it has none, else instead of its own. layout: name of
    the joints' layout, where the file leaves it open. image_size: width and height of the picture, where the file has shares
    of it and does not say. sequence: which one of a corpus file."""

    fps: float | None = None
    layout: str | None = None
    image_size: tuple[int, int] | None = None
    sequence: str | None = None


def read_bytes(path: Path, most: int | None = None) -> bytes:
    """The whole file, of `MAX_BYTES` unless `most` says fewer. Raises InputError, TooLarge."""
    most = MAX_BYTES if most is None else most
    with _open(path) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise TooLarge(f"{path} has more than {most} bytes; cut it into parts")
    return data


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise InputError(f"{path} is missing") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Line number (from 1) and text, without the line's end. Raises InputError, TooLarge."""
    size = 0
    with _open(path) as file:
        for number in range(1, MAX_BYTES):
            line = file.readline(MAX_LINE + 1)
            size += len(line)
            if not line:
                return
            if len(line) > MAX_LINE or size > MAX_BYTES:
                what = f"has more than {MAX_LINE} bytes" if len(line) > MAX_LINE else f"passes {MAX_BYTES} bytes in all"
                raise TooLarge(f"{path}, line {number} {what}")
            try:
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError:
                raise InputError(f"{path}, line {number} is not text in UTF-8") from None


def read_json(path: Path, kind: type[T], most: int | None = None) -> T:
    """A file's JSON as that type, with the NaN that Python's own writer puts into it. Raises InputError, TooLarge."""
    try:
        return convert(json.loads(read_bytes(path, most)), kind, str(path))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON: {error}") from None


def read_listing(path: Path, *names: str) -> tuple[dict[str, object], list[object]]:
    """A file that is a list, or an object that holds one under the first of `names` that it has: the object (empty for a
    bare list) and the list. Raises InputError, TooLarge."""
    found = read_json(path, object)
    if isinstance(found, list):
        return {}, cast("list[object]", found)
    head = convert(found, dict[str, object], str(path))
    name = next((name for name in names if name in head), None)
    if name is None:
        raise InputError(f"{path}: neither a list, nor an object with {' or '.join(names)}")
    return head, convert(head[name], list[object], f"{path}, {name}")


def convert(value: object, kind: type[T], where: str) -> T:
    """What JSON gave, as that type. Raises InputError."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise InputError(f"{where}: {error}") from None


def frame_clock(options: ReadOptions, path: Path, own: float | None = None) -> float:
    """Frames a second: the caller's, else the format's own. Raises BadTimestamps."""
    fps = own if options.fps is None else options.fps
    if fps is None:
        raise BadTimestamps(f"{path} has no clock: say with --fps how many frames a second it has", param="fps")
    if not 0 < fps <= 1000:
        raise BadTimestamps(f"{path}: fps is {fps:g}, expected more than 0 and at most 1000", param="fps")
    return fps


def chosen_layout(options: ReadOptions, count: int, by_count: dict[int, str], where: str) -> SkeletonLayout:
    """The layout that the caller names, else the format's usual one of so many joints. Raises InputError."""
    name = options.layout or by_count.get(count)
    if name is None:
        known = ", ".join(f"{size} ({usual})" for size, usual in by_count.items())
        raise ShapeMismatch(f"{where}: {count} joints, expected {known or 'a layout'}; or name one with --layout")
    found = layout(name)
    if len(found.joints) != count:
        raise ShapeMismatch(f"{where}: {count} joints, layout {name} has {len(found.joints)}", param="layout")
    return found


def as_array(values: ArrayLike, where: str) -> Floats:
    """Numbers of one pose; what is none raises InputError."""
    try:
        with np.errstate(over="ignore"):
            return np.asarray(values, np.float32)
    except (ValueError, TypeError, OverflowError):
        raise InputError(f"{where}: expected numbers, equally many a joint") from None


class Gathering:
    """People while they are read, frame by frame in rising time. Everybody has one layout and one kind of coordinates."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._numbers = 0
        self._poses: dict[str, list[Floats]] = {}
        self._times: dict[str, list[float]] = {}

    def add(self, t: float, person: str, joints: Floats, confidence: Floats) -> None:
        """Joints (V, C), confidence (V,), brought within 0..1. A joint that is not finite is missing, and a pose without
        any joint is nobody. Raises as `put` does."""
        seen = np.isfinite(joints).all(axis=-1) & (confidence > 0)
        if seen.any():
            pose = np.concatenate([joints, np.minimum(confidence, 1)[:, None]], axis=-1).astype(np.float32)
            pose[~seen] = 0
            self.put(t, person, pose)

    def put(self, t: float, person: str, pose: Floats) -> None:
        """One pose (V, C + 1), confidence last. Raises BadTimestamps, TooLarge."""
        times = self._times.setdefault(person, [])
        if times and not t > times[-1]:
            what = f"{person} at {t:g} s follows {times[-1]:g} s; a person comes once a frame, in rising time"
            raise BadTimestamps(f"{self._path}: {what}")
        times.append(t)
        self._poses.setdefault(person, []).append(pose)
        self._numbers += pose.size
        if len(self._times) > MAX_PEOPLE:
            raise TooLarge(f"{self._path} holds more than {MAX_PEOPLE} people", code="too_many_tracks")
        if self._numbers > MAX_NUMBERS:
            raise TooLarge(f"{self._path} holds more than {MAX_NUMBERS} numbers at {t:g} s; cut it into parts")

    def people(self, layout: SkeletonLayout, coordinates: Coordinates) -> dict[str, PoseSequence]:
        """Raises TooShort where nobody was seen, and what poses raise."""
        if not self._poses:
            raise TooShort(f"nobody is seen in {self._path}")
        found: dict[str, PoseSequence] = {}
        for name, poses in self._poses.items():
            array = np.stack(poses)
            where = f"{self._path}, {name}"
            times = np.array(self._times[name])
            found[name] = PoseSequence(array[..., :-1], array[..., -1], times, layout, coordinates, name, where)
        return found
