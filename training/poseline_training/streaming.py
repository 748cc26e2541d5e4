"""A labelled recording through the online path: what the service would have said, beside the truth."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from poseline.formats.corpus import FPS, LabelledSequence, runs
from poseline.manifest import ModelManifest
from poseline.online import StreamLocalizer
from poseline.pose import PoseSequence
from poseline.segments import SegmentEvent
from poseline.skeleton import Floats
from poseline.stepping import StepScorer
from poseline.whole import WholeScorer, localize_whole
from poseline_training.corpus import common_labels, in_classes
from poseline_training.metrics.native import NativeTruth
from poseline_training.metrics.segments import Detection, Truth
from poseline_training.metrics.starts import Start

Scorer = StepScorer | WholeScorer
"""A bundle's step graphs, or any network over whole recordings: grid and decoder are the same."""


@dataclass(frozen=True)
class StreamedSequence:
    """One sequence as the service saw it. labels (T,) in the model's classes; scores (T, 1 + K).

    natives: what was annotated, as far as the model has a class for it. Two strikes without a pause between them may be one
    run of a merged class, but they are two truths.
    """

    name: str
    labels: NDArray[np.int64]
    scores: Floats
    events: tuple[SegmentEvent, ...]
    person: str
    corpus: str
    natives: tuple[NativeTruth, ...]

    def as_background(self) -> StreamedSequence:
        """The same, as if nothing that was annotated were an action."""
        return replace(self, labels=np.zeros_like(self.labels), natives=())

    def ignored(self, start: float, end: float) -> bool:
        """Whether most of the span was left out by the annotators."""
        first = round(start * FPS)
        span = self.labels[first : max(round(end * FPS), first + 1)]
        return bool(len(span)) and bool((span < 0).mean() > 0.5)

    def finals(self) -> list[SegmentEvent]:
        return [e for e in self.events if e.phase == "final" and not self.ignored(e.start, e.end)]

    def detections(self) -> list[Detection]:
        return [(e.start, e.end, e.label_id, e.score) for e in self.finals()]

    def starts(self) -> list[Start]:
        started = [e for e in self.events if e.phase == "started" and not self.ignored(e.decided, e.decided)]
        return [(e.decided, e.label_id, e.score) for e in started]

    def truths(self) -> list[Truth]:
        return [(start, end, label) for start, end, label, _ in self.natives]


def stream(
    manifest: ModelManifest,
    scorer: Scorer,
    sequence: LabelledSequence,
    label_map: Path | None,
    look_ahead: int = 0,
) -> StreamedSequence:
    """One sequence through the online path. look_ahead: frames by which a whole scorer's answers lag behind."""
    scores: list[Floats] = []
    events = _events(manifest, scorer, sequence.poses, look_ahead, scores)
    names = common_labels(sequence, label_map)
    labels = in_classes(sequence.labels, names, manifest.classes)
    natives = [
        (start / FPS, end / FPS, int(labels[start]), sequence.classes[own])
        for start, end, own in runs(sequence.labels)
        if labels[start] > 0
    ]
    # The grid may lack the last frames of a source that is slower than it.
    return StreamedSequence(
        sequence.name,
        labels[: len(scores)],
        np.stack(scores[: len(labels)]),
        tuple(events),
        sequence.subject,
        sequence.corpus,
        tuple(natives),
    )


def stream_all(
    manifest: ModelManifest,
    scorer: Scorer,
    sequences: Sequence[LabelledSequence],
    label_map: Path | None,
    look_ahead: int = 0,
) -> list[StreamedSequence]:
    shown: Iterable[LabelledSequence] = track(sequences, f"streaming {sequences[0].corpus}", transient=True)
    return [stream(manifest, scorer, one, label_map, look_ahead) for one in shown]


def _events(
    manifest: ModelManifest, scorer: Scorer, poses: PoseSequence, look_ahead: int, scores: list[Floats]
) -> list[SegmentEvent]:
    """What is said of a recording; each grid frame's scores are appended to `scores`."""

    def keep(_: float, frame_scores: Floats) -> None:
        scores.append(frame_scores)

    if not isinstance(scorer, StepScorer):
        return localize_whole(manifest, scorer, poses, look_ahead=look_ahead, on_scores=keep)
    with StreamLocalizer(
        manifest, scorer, layout=poses.layout, coordinates=poses.coordinates, on_scores=keep
    ) as localizer:
        events = [event for frame in poses.frames() for event in localizer.push(frame)]
        return events + localizer.finish()
