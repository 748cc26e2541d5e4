"""From example recordings to an enrolled class, and to the file that keeps it beside its bundle.

`<bundle>/enrolled/<name>.json`, one file a class, is the one place where enrolled classes are kept: whoever opens the bundle
reads them, and servers that share the folder follow each other through it. The bundle's own files and digest stay what they
are.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex

import numpy as np
from msgspec import MsgspecError, Struct, json

from poseline.bundle import ModelBundle
from poseline.enrolment import EnrolledClass, Example, Vocabulary, enrol
from poseline.errors import (
    BundleError,
    EnrolmentUnavailable,
    InputError,
    MalformedMessage,
    PoselineError,
    TooManyClasses,
)
from poseline.online import open_converter
from poseline.pose import PoseSequence, has_scale
from poseline.resampling import FrameGrid
from poseline.stepping import StepScorer

FOLDER = "enrolled"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_STILL = 30
"""Frames for which the first pose is held before a recording and the last one after it. A network that has seen nothing yet
says other things; and a clip that is all action shows in this way what it is not: somebody who stands still."""


Marks = tuple[float, float]
"""From when to when, in seconds of a recording's clock."""
LONGEST = 60.0
"""Seconds of one example."""
_BEFORE, _AFTER = 15.0, 6.0
"""Seconds of a recording beside an example that are looked at: they show what it is not, and the network remembers some."""
_LEAST_SEEN = 0.5
"""Share of an example's frames in which somebody is to be seen."""


class Shown(Struct, frozen=True):
    """A recording of one person, and from when to when (seconds of its clock) it shows the class; None: its begin, its
    end."""

    poses: PoseSequence
    start: float | None = None
    end: float | None = None


def check_class_name(name: str) -> None:
    """Raises MalformedMessage."""
    if not _NAME.fullmatch(name):
        what = f"{name!r} is no name for a class: expected 1 to 64 letters, digits and _.-, first a letter or digit"
        raise MalformedMessage(what, param="name", code="invalid_message")


def learn(bundle: ModelBundle, scorer: StepScorer, name: str, shown: Iterable[Shown]) -> EnrolledClass:
    """The class that the recordings show. scorer: the bundle's own, with a slot to spare. Raises MalformedMessage,
    InputError, UnitUnknown, EnrolmentUnavailable, EngineFailure."""
    check_class_name(name)
    bank = bundle.bank()
    if bank is None:
        raise EnrolmentUnavailable(f"model {bundle.manifest.name} brings no bank of what else there is")
    recordings = list(shown)
    marks = [_marks(n, one, 1 / bundle.manifest.fps) for n, one in enumerate(recordings)]
    examples: list[Example] = []
    for n, one in enumerate(recordings):
        also = [marks[i] for i, other in enumerate(recordings) if i != n and _same(one, other)]
        examples.append(_example(bundle, scorer, n, one.poses, marks[n], also))
    return enrol(name, bundle.manifest.fingerprint, examples, bank, datetime.now(UTC))


def _same(one: Shown, other: Shown) -> bool:
    """Two stretches of one recording come as two recordings."""
    times, others = one.poses.timestamps, other.poses.timestamps
    return np.array_equal(times, others) and np.array_equal(one.poses.joints, other.poses.joints)


def _example(
    bundle: ModelBundle, scorer: StepScorer, n: int, poses: PoseSequence, marks: Marks, also: Sequence[Marks]
) -> Example:
    """The n-th. also: other stretches of the recording that show the class."""
    manifest, here = bundle.manifest, f"examples.{n}"
    start, stop = marks
    poses = _about(poses, start, stop)
    convert = open_converter(manifest, poses.layout, poses.coordinates)
    grid = FrameGrid(manifest.fps, layout=manifest.native)
    frames = [
        frame
        for t, pose in zip(poses.timestamps.tolist(), convert(poses.joints, poses.confidence), strict=True)
        for frame in grid.push(t, pose).frames
    ]
    if any(frame.first for frame in frames[1:]):
        raise InputError(f"example {n} has a gap in its time", param=here)
    seen = np.stack([frame.pose for frame in frames])
    times = np.array([frame.t for frame in frames])
    marked = np.flatnonzero((times >= start - 1e-6) & (times < stop - 1e-6))
    if not len(marked):
        raise InputError(f"example {n} marks no frame", param=here)
    if (share := has_scale(seen[marked], manifest.native).mean()) < _LEAST_SEEN:
        what = f"example {n} shows neck and pelvis in {share:.0%} of its frames, expected {_LEAST_SEEN:.0%} or more"
        raise InputError(what, param=here)
    late = manifest.look_ahead  # frames by which a vector is about an earlier frame
    held = np.concatenate([seen[:1].repeat(_STILL, 0), seen, seen[-1:].repeat(_STILL + late, 0)])
    vectors = scorer.replay(held[None]).vectors[0, late:]
    others = [(int(a) + _STILL, int(b) + _STILL) for a, b in (np.searchsorted(times, one) for one in also)]
    return Example(vectors, int(marked[0]) + _STILL, int(marked[-1]) + 1 + _STILL, others)


def _marks(n: int, shown: Shown, step: float) -> Marks:
    """From when to when the n-th shows the class. Raises InputError."""
    begin, end = float(shown.poses.timestamps[0]), float(shown.poses.timestamps[-1]) + step
    start = begin if shown.start is None else shown.start
    stop = end if shown.end is None else shown.end
    if not begin - 0.5 <= start < stop <= end + 0.5:
        what = f"example {n} is marked from {start:g} to {stop:g} s, its recording lasts from {begin:g} to {end:g}"
        raise InputError(what, param=f"examples.{n}")
    if stop - start > LONGEST:
        what = f"example {n} lasts {stop - start:.0f} s, the limit is {LONGEST:g}: mark where the class is shown"
        raise InputError(what, param=f"examples.{n}")
    return start, stop


def _about(poses: PoseSequence, start: float, stop: float) -> PoseSequence:
    """What is needed of a long recording."""
    near = (poses.timestamps >= start - _BEFORE) & (poses.timestamps <= stop + _AFTER)
    return replace(
        poses, joints=poses.joints[near], confidence=poses.confidence[near], timestamps=poses.timestamps[near]
    )


# --- files ------------------------------------------------------------------------------------------------------------


def folder_of(bundle: ModelBundle) -> Path:
    return bundle.path / FOLDER


def keep(folder: Path, one: EnrolledClass) -> None:
    """A file is whole or not there. Raises OSError."""
    folder.mkdir(exist_ok=True)
    beside = folder / f".{one.name}.{token_hex(8)}"
    try:
        with beside.open("wb") as file:
            file.write(json.format(json.encode(one)))
            file.flush()
            os.fsync(file.fileno())
        beside.replace(folder / f"{one.name}.json")
    finally:
        beside.unlink(missing_ok=True)


def forget(folder: Path, name: str) -> None:
    """Raises OSError."""
    (folder / f"{name}.json").unlink(missing_ok=True)


def kept(folder: Path) -> dict[Path, int]:
    """The files of classes, and when each was last written (ns)."""
    return {path: path.stat().st_mtime_ns for path in sorted(folder.glob("[!.]*.json"))}


def read(path: Path) -> EnrolledClass:
    """Raises BundleError."""
    try:
        check_class_name(path.stem)
        one = json.decode(path.read_bytes(), type=EnrolledClass)
    except (OSError, MsgspecError, MalformedMessage) as error:
        raise BundleError(f"{path}: {error}") from None
    if one.name != path.stem or not np.isfinite([*one.weights, one.bias]).all():
        raise BundleError(f"{path} does not hold the class of its name")
    return one


def vocabulary_of(bundle: ModelBundle, refused: Callable[[PoselineError], None]) -> Vocabulary:
    """The bundle's own classes and those that were enrolled in it. refused: hears of a file that holds none of its."""
    vocabulary = Vocabulary(bundle.manifest)
    for path in kept(folder_of(bundle)):
        try:
            vocabulary.put(read(path))
        except (BundleError, InputError, TooManyClasses) as error:
            refused(BundleError(f"{path} is left alone: {error.detail}"))
    return vocabulary
