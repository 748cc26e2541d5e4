"""From recordings and what people wrote about them to labelled sequences.

Poses go through the frame grid, as they would in a stream: a labelled sequence is what the network would see. Where nobody
is seen for longer than a stream's `gap_reset` the grid begins anew, and so does a sequence. Raises CorpusError for whatever
does not fit together, and says where.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray

from poseline.errors import CorpusError
from poseline.formats.corpus import FPS, LabelledSequence
from poseline.formats.people import Who
from poseline.pose import NATIVE, PoseConverter, PoseSequence, has_scale
from poseline.resampling import FrameGrid, GridFrame
from poseline.skeleton import BODY16, Floats
from poseline.timeline import Timeline, TimelineSegment

SLACK = 0.1
"""Seconds by which labels may overlap one another, or the recording's end: annotators' hands are not surer."""
_TORSO, _TORSOS = 0.5, (0.2, 1.0)
"""Metres of a torso; and those within which coordinates pass for metres. Others (pixels, millimetres) are scaled to it."""
_UPLOADED = re.compile(r"[0-9a-f]{8}-")
"""What Label Studio puts before the name of an uploaded file."""


@dataclass(frozen=True)
class Recorded:
    """One recording. people: by track; end: where its clock ends, in seconds; fps: of its source."""

    name: str
    people: Mapping[str, PoseSequence]
    end: float
    fps: float


@dataclass(frozen=True)
class Labels:
    """What one file says of one recording."""

    file: Path
    timeline: Timeline


@dataclass(frozen=True)
class Part:
    """One person of one recording. segments: by start, checked; where: for errors."""

    name: str
    poses: PoseSequence
    who: Who
    view: str
    segments: tuple[TimelineSegment, ...]
    where: str


Naming = Callable[[str, str], Who]
"""Recording and track → who it is."""


def by_recording(found: Iterable[Labels], recordings: Collection[str]) -> dict[str, Labels]:
    """Labels by the recording (a file's name without suffix) that they are of: the one that they name, else the one that
    is called like their file. Raises CorpusError for labels of no recording, and of one that has some already."""
    of: dict[str, Labels] = {}
    for one in found:
        name = labelled_name(one.timeline.source, one.file, recordings)
        if name in of:
            raise CorpusError(f"{one.file} labels {name}, which {of[name].file} labels already")
        of[name] = one
    return of


def labelled_name(source: str, file: Path, recordings: Collection[str]) -> str:
    """Which recording is meant by whom calls `source` (a path, a URL, an uploaded file) what he annotated in `file`.

    Raises CorpusError."""
    called = re.split(r"[/\\=]", unquote(source))[-1]
    for name in (called, Path(called).stem, Path(_UPLOADED.sub("", called, count=1)).stem, file.stem):
        if name in recordings:
            return name
    raise CorpusError(f"{file} labels {source or file.stem!r}, which is none of the {len(recordings)} recordings")


def parts_of(recorded: Recorded, labels: Labels, named: Naming) -> list[Part]:
    """Everybody of a recording, with what is said of them. Raises CorpusError."""
    where = f"{labels.file}, {recorded.name}"
    of: dict[str, list[TimelineSegment]] = {track: [] for track in recorded.people}
    for one in sorted(labels.timeline.segments, key=lambda one: one.start):
        of[_track_of(one, recorded, where)].append(one)
    parts: list[Part] = []
    for track, segments in of.items():
        _check_segments(segments, recorded.end, where)
        name = recorded.name if len(of) == 1 else f"{recorded.name}/{track}"
        who = named(recorded.name, track)
        parts.append(Part(name, recorded.people[track], who, who.view or recorded.name, tuple(segments), where))
    if len(parts) > len({part.who.person for part in parts}):
        raise CorpusError(f"{recorded.name} shows {len(parts)} people at once, of whom two have one name")
    return parts


def classes_of(parts: Iterable[Part], wanted: tuple[str, ...] | None, ignored: Collection[str]) -> tuple[str, ...]:
    """Background and the classes. Raises CorpusError for a label that is none of those that are wanted."""
    used = {one.label: part for part in parts for one in part.segments if one.label not in ignored}
    chosen = tuple(sorted(used)) if wanted is None else wanted
    if unknown := sorted(set(used) - set(chosen)):
        raise CorpusError(f"{used[unknown[0]].where}: label {unknown[0]!r} is none of {', '.join(chosen)}")
    if "background" in chosen:
        raise CorpusError("'background' is what is not labelled, and no label; see --ignore for what is to be left out")
    if not chosen:
        raise CorpusError("nothing is labelled")
    return "background", *chosen


def _track_of(segment: TimelineSegment, recorded: Recorded, where: str) -> str:
    """Whose a label is: its track's, or the only person's. Raises CorpusError."""
    if segment.track_id in recorded.people:
        return segment.track_id
    if len(recorded.people) == 1:
        return next(iter(recorded.people))
    known = ", ".join(recorded.people)
    raise CorpusError(f"{where}: {_told(segment)} is of {segment.track_id!r}, but those seen are {known}")


def _check_segments(segments: Sequence[TimelineSegment], end: float, where: str) -> None:
    """Segments of one person, by start. Raises CorpusError for one that ends before it begins, lies beyond the recording, or
    overlaps another."""
    for one in segments:
        if not one.end > one.start:
            raise CorpusError(f"{where}: {_told(one)} ends before it begins")
        if one.start < -SLACK or one.end > end + SLACK:
            raise CorpusError(f"{where}: {_told(one)} lies beyond the recording, which ends at {end:.2f} s")
    for one, other in pairwise(segments):
        if one.end > other.start + SLACK:
            raise CorpusError(f"{where}: {_told(one)} and {_told(other)} overlap; one person does one thing at a time")


def _told(one: TimelineSegment) -> str:
    return f"{one.label} ({one.start:.2f} to {one.end:.2f} s)"


def sequences_of(part: Part, classes: tuple[str, ...], ignored: Collection[str], corpus: str) -> list[LabelledSequence]:
    """A sequence for each stretch without a gap. classes: as `classes_of` gives them; frames of `ignored` labels are neither
    trained on nor scored."""
    poses, grid = part.poses, FrameGrid(FPS)
    native = PoseConverter(poses.layout, poses.coordinates)(poses.joints, poses.confidence)
    clock = poses.timestamps.tolist()
    frames = [frame for t, pose in zip(clock, native, strict=True) for frame in grid.push(t, pose).frames]
    starts = [n for n, frame in enumerate(frames) if frame.first]
    scale = _scale(native)
    found: list[LabelledSequence] = []
    for number, (first, stop) in enumerate(zip(starts, [*starts[1:], len(frames)], strict=True), 1):
        span = frames[first:stop]
        array = np.stack([frame.pose for frame in span])
        name = part.name if len(starts) == 1 else f"{part.name}@{number}"
        times = np.arange(len(span)) / FPS
        made = PoseSequence(array[..., :3] * np.float32(scale), array[..., 3], times, BODY16, NATIVE, name, part.where)
        labels = _labels(span, part.segments, classes, ignored)
        found.append(LabelledSequence(made, labels, classes, corpus, part.who.person, part.view))
    return found


def _scale(native: Floats) -> float:
    """What makes metres of the poses (T, 16, 4), roughly: no more is asked, for the network divides by the torso. 1 where
    they are metres, or nobody's torso is seen."""
    whole = native[has_scale(native)]
    if not len(whole):
        return 1.0
    ends = [whole[:, BODY16.joints.index(name), :3] for name in ("neck", "pelvis")]
    torso = float(np.median(np.linalg.norm(ends[0] - ends[1], axis=-1)))
    return 1.0 if torso == 0 or _TORSOS[0] <= torso <= _TORSOS[1] else _TORSO / torso


def _labels(
    span: Sequence[GridFrame], segments: Sequence[TimelineSegment], classes: tuple[str, ...], ignored: Collection[str]
) -> NDArray[np.int64]:
    """(T,) of the span's frames. Where a class follows itself, one frame of background keeps the two apart."""
    labels = np.zeros(len(span), np.int64)
    origin = span[0].t
    for one in segments:
        start, end = round((one.start - origin) * FPS), round((one.end - origin) * FPS)
        if end <= 0 or start >= len(span):
            continue
        start, end = max(start, 0), max(end, start + 1, 1)
        label = -1 if one.label in ignored else classes.index(one.label)
        if start > 1 and label > 0 and labels[start - 1] == label == labels[start - 2]:
            labels[start - 1] = 0
        labels[start:end] = label
    return labels
