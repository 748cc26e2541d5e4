"""What a server kept of a live session that had asked for it: one person's poses over half a minute at the most, and what
was said of them. A plain `.npz` (no pickles), compressed.

capture                    1, the format's version
poses, origin, step        int16 (T, V, 3) native joints: metres (or whatever unit came) are origin (3,) + step · poses
confidence                 uint8 (T, V), 255 is 1
times                      float64 (T,), seconds on the client's clock, without gaps
labels, scores             uint16 and float16 (T, N): the best classes of each frame, best first
segment_kinds, segment_labels, segment_spans, segment_scores      (S,), (S,), (S, 2) seconds, (S,): what was decided in that
                           time, as final or as retracted; a segment may have begun before
classes, layout, model     names of the classes by label, background first, "" where there is none; of the native layout; the
                           model's name, version, digest

Nothing in it says who it is, whose session it was, or what they called anybody.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from poseline.errors import InputError
from poseline.formats.arrays import BROKEN, Arrays, read_arrays
from poseline.formats.reading import ReadOptions
from poseline.pose import PoseSequence
from poseline.skeleton import Floats, layout

_VERSION = 1
_LEVELS = np.iinfo(np.uint16).max
_ZERO = np.iinfo(np.int16).min
Kind = Literal["final", "retracted"]


class CapturedSegment(Struct, frozen=True):
    """What was decided: seconds on the client's clock."""

    kind: Kind
    label: str
    start: float
    end: float
    score: float


@dataclass(frozen=True)
class Capture:
    """poses (T, V, 4) native, with confidence; times (T,); labels, scores (T, N); model: name, version, digest."""

    poses: Floats
    times: NDArray[np.float64]
    labels: NDArray[np.uint16]
    scores: Floats
    segments: tuple[CapturedSegment, ...]
    classes: tuple[str, ...]
    layout: str
    model: tuple[str, str, str]

    def sequence(self, name: str) -> PoseSequence:
        """Its poses, on the client's clock."""
        return PoseSequence(self.poses[..., :3], self.poses[..., 3], self.times, layout(self.layout), name=name)


def encode(capture: Capture) -> bytes:
    """Coordinates keep 1 / 65535 of the widest axis: a tenth of a millimetre of six metres."""
    joints = capture.poses[..., :3].astype(np.float64)
    low, high = joints.min((0, 1)), joints.max((0, 1))
    step = max(float((high - low).max()) / _LEVELS, np.finfo(np.float32).tiny)
    counts = np.rint((joints - low) / step)
    kinds, names, spans, scores = (
        [getattr(one, field) for one in capture.segments] for field in ("kind", "label", "start", "score")
    )
    file = io.BytesIO()
    np.savez_compressed(
        file,
        capture=np.array(_VERSION),
        poses=(counts + _ZERO).astype(np.int16),
        origin=low - step * _ZERO,
        step=np.array(step),
        confidence=np.rint(capture.poses[..., 3] * 255).astype(np.uint8),
        times=capture.times.astype(np.float64),
        labels=capture.labels.astype(np.uint16),
        scores=capture.scores.astype(np.float16),
        segment_kinds=np.array(kinds, str),
        segment_labels=np.array(names, str),
        segment_spans=np.array([spans, [one.end for one in capture.segments]], np.float64).T,
        segment_scores=np.array(scores, np.float64),
        classes=np.array(capture.classes, str),
        layout=np.array(capture.layout),
        model=np.array(capture.model, str),
    )
    return file.getvalue()


def read_capture(path: Path) -> Capture:
    """Raises InputError."""
    arrays = read_arrays(path)
    try:
        if int(arrays["capture"]) != _VERSION:
            raise InputError(f"{path} is a capture of version {arrays['capture']}, expected {_VERSION}")
        return _capture(arrays)
    except KeyError as error:
        raise InputError(f"{path} is no capture: it lacks {error}") from None
    except BROKEN as error:
        raise InputError(f"{path} is a damaged capture: {error}") from None


def _capture(arrays: Arrays) -> Capture:
    """Raises KeyError, ValueError."""
    joints = arrays["origin"] + arrays["step"] * arrays["poses"].astype(np.float64)
    confidence = arrays["confidence"].astype(np.float32) / 255
    frames = len(arrays["times"])
    if any(len(arrays[name]) != frames for name in ("poses", "confidence", "labels", "scores")):
        raise ValueError("poses, confidence, times, labels and scores are not of the same frames")
    name, version, digest = (str(one) for one in arrays["model"])
    segments = zip(
        arrays["segment_kinds"],
        arrays["segment_labels"],
        arrays["segment_spans"],
        arrays["segment_scores"],
        strict=True,
    )
    return Capture(
        np.concatenate([joints, confidence[..., None]], axis=2).astype(np.float32),
        arrays["times"].astype(np.float64),
        arrays["labels"].astype(np.uint16),
        arrays["scores"].astype(np.float32),
        tuple(
            CapturedSegment(cast(Kind, str(kind)), str(label), float(start), float(end), float(score))
            for kind, label, (start, end), score in segments
        ),
        tuple(str(one) for one in arrays["classes"]),
        str(arrays["layout"]),
        (name, version, digest),
    )


def read(path: Path, options: ReadOptions) -> dict[str, PoseSequence]:
    """Its one person, for `formats.poses`."""
    return {path.stem: read_capture(path).sequence(path.stem)}
