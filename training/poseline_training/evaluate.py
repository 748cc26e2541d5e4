"""What the service would have said, scored: every metric of a split.

Frame metrics use the per-frame scores, segment metrics the finals, start metrics the `started` events (a retracted one
was said all the same). All the model's classes stay open, so a foreign class is an error. Frames and detections in stretches
that the annotators left out (-1) do not count. docs/metrics.md tells what each figure means.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from poseline.errors import CorpusError
from poseline.formats.corpus import FPS, LabelledSequence, read_corpus
from poseline.manifest import ModelManifest
from poseline.skeleton import Floats
from poseline_training.corpus import common_labels, in_classes, is_foreign
from poseline_training.metrics import early, line, ontal, pku, starts
from poseline_training.metrics.borders import border_scores
from poseline_training.metrics.calibration import class_error, selective, top_reliability
from poseline_training.metrics.frames import calibrated_ap, frame_accuracy, frame_ap, frame_f1
from poseline_training.metrics.native import native_recall
from poseline_training.metrics.operating import operating_point
from poseline_training.metrics.segmental import edit_score, segmental_f1
from poseline_training.metrics.segments import AVERAGE_TIOUS, Detection, Truth, segment_ap
from poseline_training.streaming import Scorer, StreamedSequence, stream_all

TIOUS = (0.1, 0.3, 0.5)
F1_TIOUS = {"10": 0.1, "25": 0.25, "50": 0.5}
START_SECONDS = (0.5, 1.0)
SELECTIVE = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Top scores below which the answer might be "unknown"."""


def evaluate(
    manifest: ModelManifest,
    scorer: Scorer,
    corpus: Path,
    split: str,
    label_map: Path | None,
    *,
    negatives: bool = False,
    styles: tuple[str, ...] | None = None,
    native: bool = False,
    look_ahead: int = 0,
) -> dict[str, Any]:
    """Stream `<corpus>/<split>.npz` and score it; several splits, separated by commas, are scored as one.

    negatives: only the recordings that hold none of the model's classes, as background throughout. styles: only
    recordings in these manners. native: add the recall of each of the set's own classes, `native_classes`.
    look_ahead: as for `streaming.stream`.
    """
    read = [one for name in split.split(",") for one in read_corpus(corpus / f"{name}.npz")]
    chosen = [one for one in read if styles is None or one.style in styles]
    if negatives:
        chosen = [one for one in chosen if is_foreign(_labels(manifest, one, label_map))]
    if not chosen:
        raise CorpusError(f"none of the {len(read)} recordings of {corpus.name}/{split} is of that style and kind")
    streamed = stream_all(manifest, scorer, chosen, label_map, look_ahead)
    if negatives:
        streamed = [one.as_background() for one in streamed]
    figures = report(streamed, manifest.classes)
    figures["left_out_classes"] = _left_out(manifest, chosen, label_map)
    if native:
        found = native_recall(
            [one.detections() for one in streamed], [one.natives for one in streamed], manifest.classes
        )
        figures["native_classes"] = found
    return figures


def report(streamed: Sequence[StreamedSequence], classes: tuple[str, ...]) -> dict[str, Any]:
    """Every metric of one split, as fractions and seconds; averages are over the classes that occur in it.

    What cannot be measured is None, such as averages over classes in a split without any. Raises CorpusError for a split of
    which no frame counts.
    """
    split = _Split(streamed)
    figures = {
        **_frames(split),
        **_segments(split),
        **_starts(split),
        **_operation(split),
        **_calibration(split),
        "sequences": len(streamed),
        "persons": len({one.person for one in streamed}),
        "seconds": sum(len(one.labels) for one in streamed) / FPS,
        "classes": {classes[c]: _class(split, c) for c in split.present},
    }
    return _strict(figures)


def headline(streamed: Sequence[StreamedSequence]) -> dict[str, float]:
    """The figures that are compared, quickly: a statistic to bootstrap. NaN for what cannot be measured."""
    split = _Split(streamed)
    ap, delays = _start_ap(split, START_SECONDS)
    at = split.operating_point
    return {
        "frame_map": _mean(frame_ap(split.scores, split.labels, c) for c in split.present),
        "segment_map_0.5": _mean(split.segment_aps(0.5).values()),
        "f1_50": segmental_f1(split.detections, split.truths, 0.5),
        **{f"start_p_ap_{within}": value for within, value in ap.items()},
        "start_delay_mean": _mean(delays),
        "end_delay_p95": at["final_delay_p95"],
        "end_error_median": at["end_error"],
        "false_alarms_per_hour": 60 * at["false_per_minute"],
    }


@dataclass(frozen=True)
class _Split:
    """A split as the metrics want it: frames that count in one array, the rest in a list per sequence."""

    streamed: Sequence[StreamedSequence]

    def __post_init__(self) -> None:
        if not len(self.labels):
            raise CorpusError("no frame of the split counts: every label is -1")

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        return np.concatenate([one.labels[one.labels >= 0] for one in self.streamed])

    @cached_property
    def scores(self) -> Floats:
        return np.concatenate([one.scores[one.labels >= 0] for one in self.streamed])

    @cached_property
    def present(self) -> list[int]:
        return [int(c) for c in np.unique(self.labels) if c > 0]

    @cached_property
    def truths(self) -> list[list[Truth]]:
        return [one.truths() for one in self.streamed]

    @cached_property
    def detections(self) -> list[list[Detection]]:
        return [one.detections() for one in self.streamed]

    @cached_property
    def decided(self) -> list[list[float]]:
        return [[e.decided for e in one.finals()] for one in self.streamed]

    @cached_property
    def operating_point(self) -> dict[str, float]:
        heard = [e for one in self.streamed for e in one.events if not one.ignored(e.start, e.end)]
        started, retracted = (sum(e.phase == phase for e in heard) for phase in ("started", "retracted"))
        finals = [[(e.start, e.end, e.label_id, e.decided) for e in one.finals()] for one in self.streamed]
        return operating_point(finals, self.truths, started, retracted, len(self.labels) / FPS / 60)

    def segment_aps(self, threshold: float) -> dict[int, float]:
        return {c: segment_ap(self.detections, self.truths, c, threshold) for c in self.present}


def _frames(split: _Split) -> dict[str, Any]:
    labels, scores = split.labels, split.scores
    return {
        "frame_accuracy": frame_accuracy(scores, labels),
        "background_share": float((labels == 0).mean()),
        "frame_macro_f1": _mean(frame_f1(scores, labels, c) for c in split.present),
        "frame_map": _mean(frame_ap(scores, labels, c) for c in split.present),
        "calibrated_frame_map": _mean(calibrated_ap(scores, labels, c) for c in split.present),
    }


def _segments(split: _Split) -> dict[str, Any]:
    found, true, present = split.detections, split.truths, split.present
    borders = [border_scores(found, true, c) for c in present]
    return {
        "segment_map": {str(t): _mean(split.segment_aps(t).values()) for t in TIOUS},
        "segment_map_average": _mean(_mean(split.segment_aps(t).values()) for t in AVERAGE_TIOUS),
        "line_map": _line(split),
        "pku_map_action": {str(t): _mean(pku.pku_action_ap(found, true, c, t) for c in present) for t in pku.THETAS},
        "pku_map_video": {str(t): pku.pku_video_map(found, true, t) for t in pku.THETAS},
        "on_tal": {str(t): _on_tal(split, t) for t in ontal.TIOUS},
        "f1": {name: segmental_f1(found, true, t) for name, t in F1_TIOUS.items()},
        "edit": _mean(edit_score(*pair) for pair in zip(_order(found), _order(true), strict=True)),
        "sl": _mean(start for start, _ in borders),
        "el": _mean(end for _, end in borders),
    }


def _order(segments: Sequence[Sequence[Detection | Truth]]) -> list[list[int]]:
    """Each sequence's labels, by start."""
    return [[one[2] for one in sorted(many)] for many in segments]


def _on_tal(split: _Split, threshold: float) -> dict[str, float]:
    scored = [ontal.online_ap(split.detections, split.decided, split.truths, c, threshold) for c in split.present]
    return {"map": _mean(ap for ap, _ in scored), "delay": _mean(d for _, delays in scored for d in delays)}


def _line(split: _Split) -> dict[str, float]:
    """At each tIoU, and their average. Proposals mostly in stretches that were left out do not count."""
    labels = [one.labels for one in split.streamed]
    aps: dict[float, list[float]] = {t: [] for t in line.TIOUS}
    for c in split.present:
        found = [
            [p for p in line.proposals(one.scores[:, c]) if not one.ignored(p[0] / FPS, p[1] / FPS)]
            for one in split.streamed
        ]
        for t, values in aps.items():
            values.append(line.line_ap(found, labels, c, t))
    means = {str(t): _mean(values) for t, values in aps.items()}
    return {**means, "average": _mean(means.values())}


def _starts(split: _Split) -> dict[str, Any]:
    ap, delays = _start_ap(split, START_SECONDS)
    scores = [one.scores for one in split.streamed]
    return {
        "start_p_ap": ap,
        "start_p_ap_all": _start_ap(split, starts.OFFSETS)[0],
        "start_delay_mean": _mean(delays),
        "early_accuracy": {str(s): early.early_accuracy(scores, split.truths, s) for s in early.SECONDS},
    }


def _start_ap(split: _Split, offsets: Sequence[float]) -> tuple[dict[str, float], list[float]]:
    """p-AP at each tolerance, and the delays at the last."""
    found = [one.starts() for one in split.streamed]
    true = [[(start, label) for start, _, label in one] for one in split.truths]
    ap: dict[str, float] = {}
    delays: list[float] = []
    for within in offsets:
        matched = [starts.match_starts(found, true, c, within) for c in split.present]
        ap[str(within)] = _mean(one for one, _ in matched)
        delays = [d for _, found_delays in matched for d in found_delays]
    return ap, delays


def _operation(split: _Split) -> dict[str, Any]:
    at = split.operating_point
    return {
        "end_delay_p50": at["final_delay_p50"],
        "end_delay_p95": at["final_delay_p95"],
        "start_error_median": at["start_error"],
        "end_error_median": at["end_error"],
        "false_alarms_per_hour": 60 * at["false_per_minute"],
        "missed": at["missed"],
        "retracted": at["retracted"],
        "operating_point": at,
    }


def _calibration(split: _Split) -> dict[str, Any]:
    labels, scores = split.labels, split.scores
    top = top_reliability(scores, labels)
    answers = {str(t): selective(scores, labels, t) for t in SELECTIVE}
    return {
        "ece": top.error(),
        "classwise_ece": _mean(class_error(scores, labels, c) for c in np.unique(labels).tolist()),
        "reliability": {
            "confidence": top.confidence.tolist(),
            "accuracy": top.accuracy.tolist(),
            "frames": top.frames.tolist(),
        },
        "selective": {name: {"coverage": share, "accuracy": right} for name, (share, right) in answers.items()},
    }


def _class(split: _Split, c: int) -> dict[str, Any]:
    return {
        "frame_ap": frame_ap(split.scores, split.labels, c),
        "segment_ap": {"0.5": segment_ap(split.detections, split.truths, c, 0.5)},
        "instances": sum(label == c for one in split.truths for *_, label in one),
    }


def _left_out(manifest: ModelManifest, sequences: Sequence[LabelledSequence], label_map: Path | None) -> list[str]:
    """The sequences' own classes that the model has no class for: frames of these do not count."""
    found: set[str] = set()
    for one in sequences:
        shown = [k for k in np.unique(one.labels).tolist() if k > 0]
        names = common_labels(one, label_map)
        found |= {one.classes[k] for k in shown if names[k] not in manifest.classes}
    return sorted(found)


def _labels(manifest: ModelManifest, sequence: LabelledSequence, label_map: Path | None) -> NDArray[np.int64]:
    return in_classes(sequence.labels, common_labels(sequence, label_map), manifest.classes)


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return float(np.mean(listed)) if listed else float("nan")


def _strict(value: Any) -> Any:
    """The same with None for NaN, which JSON does not know."""
    if isinstance(value, Mapping):
        return {key: _strict(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_strict(one) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value
