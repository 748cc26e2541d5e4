"""From example recordings to an enrolled class, and to the file that keeps it beside its bundle.

`<bundle>/enrolled/<name>.json`, one file a class, is the one place where enrolled classes are kept: whoever opens the bundle
reads them, and servers that share the folder follow each other through it. The bundle's own files and digest stay what they
are.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from msgspec import MsgspecError, Struct, json

from poseline.bundle import ModelBundle
from poseline.enrolment import EnrolledClass, Example, Vocabulary, enrol
from poseline.errors import BundleError, EnrolmentUnavailable, InputError, MalformedMessage
from poseline.online import open_converter
from poseline.pose import PoseSequence
from poseline.resampling import FrameGrid
from poseline.stepping import StepScorer

FOLDER = "enrolled"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_STILL = 30
"""Frames for which the first pose is held before a recording and the last one after it. A network that has seen nothing yet
says other things; and a clip that is all action shows in this way what it is not: somebody who stands still."""


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
    examples = [_example(bundle, scorer, n, one) for n, one in enumerate(recordings)]
    for i, one in enumerate(recordings):
        same = [j for j, other in enumerate(recordings) if j != i and _same(one.poses, other.poses)]
        examples[i] = examples[i]._replace(also=[examples[j][1:3] for j in same])
    return enrol(name, bundle.manifest.fingerprint, examples, bank, datetime.now(UTC))


def _same(one: PoseSequence, other: PoseSequence) -> bool:
    """Two stretches of one recording come as two recordings."""
    return np.array_equal(one.timestamps, other.timestamps) and np.array_equal(one.joints, other.joints)


def _example(bundle: ModelBundle, scorer: StepScorer, n: int, shown: Shown) -> Example:
    manifest, poses = bundle.manifest, shown.poses
    convert = open_converter(manifest, poses.layout, poses.coordinates)
    grid = FrameGrid(manifest.fps, layout=manifest.native)
    frames = [
        frame
        for t, pose in zip(poses.timestamps.tolist(), convert(poses.joints, poses.confidence), strict=True)
        for frame in grid.push(t, pose).frames
    ]
    if any(frame.first for frame in frames[1:]):
        raise InputError(f"example {n} has a gap in its time", param=f"examples.{n}")
    late = manifest.look_ahead  # frames by which a vector is about an earlier frame
    held = [frames[0].pose] * _STILL + [frame.pose for frame in frames] + [frames[-1].pose] * (_STILL + late)
    vectors = scorer.replay(np.stack(held)[None]).vectors[0, late:]
    times = np.array([frame.t for frame in frames])
    start, end = (times[0], times[-1] + 1 / manifest.fps)
    first = times[0] if shown.start is None else shown.start
    stop = end if shown.end is None else shown.end
    if not start - 0.5 <= first < stop <= end + 0.5:
        what = f"example {n} is marked from {first:g} to {stop:g} s, its recording lasts from {start:g} to {end:g}"
        raise InputError(what, param=f"examples.{n}")
    marked = np.flatnonzero((times >= first - 1e-6) & (times < stop - 1e-6)) + _STILL
    if not len(marked):
        raise InputError(f"example {n} marks no frame", param=f"examples.{n}")
    return Example(vectors, int(marked[0]), int(marked[-1]) + 1)


# --- files ------------------------------------------------------------------------------------------------------------


def folder_of(bundle: ModelBundle) -> Path:
    return bundle.path / FOLDER


def keep(folder: Path, one: EnrolledClass) -> None:
    """A file is whole or not there. Raises OSError."""
    folder.mkdir(exist_ok=True)
    beside = folder / f".{one.name}.{os.getpid()}"
    beside.write_bytes(json.format(json.encode(one)))
    beside.replace(folder / f"{one.name}.json")


def forget(folder: Path, name: str) -> None:
    """Raises OSError."""
    (folder / f"{name}.json").unlink(missing_ok=True)


def kept(folder: Path) -> dict[Path, int]:
    """The files of classes, and when each was last written (ns)."""
    return {path: path.stat().st_mtime_ns for path in sorted(folder.glob("[!.]*.json"))}


def read(path: Path) -> EnrolledClass:
    """Raises BundleError."""
    try:
        one = json.decode(path.read_bytes(), type=EnrolledClass)
    except (OSError, MsgspecError) as error:
        raise BundleError(f"{path}: {error}") from None
    if one.name != path.stem or not np.isfinite([*one.weights, one.bias]).all():
        raise BundleError(f"{path} does not hold the class of its name")
    return one


def vocabulary_of(bundle: ModelBundle) -> Vocabulary:
    """The bundle's own classes and those that were enrolled in it. Raises BundleError for a file that is none of its."""
    vocabulary = Vocabulary(bundle.manifest)
    for path in kept(folder_of(bundle)):
        try:
            vocabulary.put(read(path))
        except InputError as error:
            raise BundleError(f"{path}: {error.detail}") from None
    return vocabulary
