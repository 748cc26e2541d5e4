"""What the service would have said: every sequence goes through the online path, and its events are scored.

Frame metrics use the per-frame scores, segment metrics the finals, start metrics the `started` events (a retracted one
is a false one). All the model's classes stay open, so a foreign class is an error. Frames and detections in stretches
that the annotators left out (-1) do not count.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from poseline.formats.corpus import FPS, LabelledSequence, read_corpus, runs
from poseline.manifest import ModelManifest
from poseline.online import StreamLocalizer
from poseline.resampling import GridFrame
from poseline.segments import SegmentEvent
from poseline.skeleton import Floats
from poseline.stepping import StepScorer
from poseline_training.corpus import common_labels, in_classes
from poseline_training.metrics.frames import frame_accuracy, frame_ap, frame_f1
from poseline_training.metrics.operating import operating_point
from poseline_training.metrics.segments import Detection, Truth, segment_ap, segmental_f1
from poseline_training.metrics.starts import Start, match_starts

TIOUS = (0.1, 0.3, 0.5)
F1_TIOUS = {"10": 0.1, "25": 0.25, "50": 0.5}
START_SECONDS = (0.5, 1.0)


@dataclass(frozen=True)
class StreamedSequence:
    """One sequence as the service saw it. labels (T,) in the model's classes; scores (T, 1 + K)."""

    name: str
    labels: NDArray[np.int64]
    scores: Floats
    events: tuple[SegmentEvent, ...]

    def ignored(self, start: float, end: float) -> bool:
        """Whether most of the span was left out by the annotators."""
        span = self.labels[int(start * FPS) : max(int(end * FPS), int(start * FPS) + 1)]
        return bool(len(span)) and bool((span < 0).mean() > 0.5)

    def detections(self) -> list[Detection]:
        finals = [e for e in self.events if e.phase == "final" and not self.ignored(e.start, e.end)]
        return [(e.start, e.end, e.label_id, e.score) for e in finals]

    def starts(self) -> list[Start]:
        started = [e for e in self.events if e.phase == "started" and not self.ignored(e.decided, e.decided)]
        return [(e.decided, e.label_id, e.score) for e in started]

    def truths(self) -> list[Truth]:
        return [(start / FPS, end / FPS, label) for start, end, label in runs(self.labels)]


def stream(
    manifest: ModelManifest, scorer: StepScorer, sequence: LabelledSequence, label_map: Path | None
) -> StreamedSequence:
    """One sequence through the online path."""
    scores: list[Floats] = []

    def keep(_: GridFrame, frame_scores: Floats) -> None:
        scores.append(frame_scores)

    poses = sequence.poses
    with StreamLocalizer(
        manifest, scorer, layout=poses.layout, coordinates=poses.coordinates, on_scores=keep
    ) as localizer:
        events = [event for frame in poses.frames() for event in localizer.push(frame)]
        events += localizer.finish()
    labels = in_classes(sequence.labels, common_labels(sequence, label_map), manifest.classes)
    # The grid may lack the last frames of a source that is slower than it.
    return StreamedSequence(sequence.name, labels[: len(scores)], np.stack(scores[: len(labels)]), tuple(events))


def stream_all(
    manifest: ModelManifest, scorer: StepScorer, sequences: Sequence[LabelledSequence], label_map: Path | None
) -> list[StreamedSequence]:
    shown: Iterable[LabelledSequence] = track(sequences, f"streaming {sequences[0].corpus}", transient=True)
    return [stream(manifest, scorer, one, label_map) for one in shown]


def report(streamed: Sequence[StreamedSequence], classes: tuple[str, ...]) -> dict[str, Any]:
    """Every metric of one split, as fractions and seconds; averages are over the classes that occur in it."""
    labels = np.concatenate([one.labels for one in streamed])
    known = labels >= 0
    labels, scores = labels[known], np.concatenate([one.scores for one in streamed])[known]
    present = [int(c) for c in np.unique(labels) if c > 0]
    truths, detections = [one.truths() for one in streamed], [one.detections() for one in streamed]
    ap = {t: {c: segment_ap(detections, truths, c, t) for c in present} for t in TIOUS}
    frame_aps = {c: frame_ap(scores, labels, c) for c in present}
    start_ap, delays = _starts(streamed, present)
    return {
        "frame_accuracy": frame_accuracy(scores, labels),
        "background_share": float((labels == 0).mean()),
        "frame_macro_f1": _mean(frame_f1(scores, labels, c) for c in present),
        "frame_map": _mean(frame_aps.values()),
        "segment_map": {str(t): _mean(ap[t].values()) for t in TIOUS},
        "f1": {name: segmental_f1(detections, truths, t) for name, t in F1_TIOUS.items()},
        "start_p_ap": start_ap,
        "start_delay_mean": _mean(delays),
        "operating_point": _operating_point(streamed, len(known) / FPS / 60),
        "sequences": len(streamed),
        "seconds": len(known) / FPS,
        "classes": {
            classes[c]: {
                "frame_ap": frame_aps[c],
                "segment_ap": {"0.5": ap[0.5][c]},
                "instances": sum(label == c for one in truths for *_, label in one),
            }
            for c in present
        },
    }


def _starts(streamed: Sequence[StreamedSequence], present: list[int]) -> tuple[dict[str, float], list[float]]:
    """p-AP at each tolerance, and the delays at the widest."""
    found = [one.starts() for one in streamed]
    true = [[(start, label) for start, _, label in one.truths()] for one in streamed]
    ap: dict[str, float] = {}
    delays: list[float] = []
    for within in START_SECONDS:
        matched = [match_starts(found, true, c, within) for c in present]
        ap[str(within)] = _mean(one for one, _ in matched)
        delays = [d for _, found_delays in matched for d in found_delays]
    return ap, delays


def _operating_point(streamed: Sequence[StreamedSequence], minutes: float) -> dict[str, float]:
    heard = [[e for e in one.events if not one.ignored(e.start, e.end)] for one in streamed]
    finals = [[(e.start, e.end, e.label_id, e.decided) for e in one if e.phase == "final"] for one in heard]
    started, retracted = (sum(e.phase == phase for one in heard for e in one) for phase in ("started", "retracted"))
    return operating_point(finals, [one.truths() for one in streamed], started, retracted, minutes)


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return float(np.mean(listed)) if listed else float("nan")


def evaluate(
    manifest: ModelManifest, scorer: StepScorer, corpus: Path, split: str, label_map: Path | None
) -> dict[str, Any]:
    """Stream `<corpus>/<split>.npz` and score it."""
    streamed = stream_all(manifest, scorer, read_corpus(corpus / f"{split}.npz"), label_map)
    return report(streamed, manifest.classes)
