"""Thresholds of each class, chosen on validation recordings: by its F1 at tIoU .5 of what the shipped decoder says of them.

The network answers once; every candidate is a slot of one decoder, which is fed the same answers. A class' F1 is smoothed
over neighbouring candidates, for a few recordings make a rugged curve, and its threshold moves only where that gains
something; where a class is hardly shown, it stays. Closing follows opening at the ratio of the manifest's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from poseline.decoding import DecodingOptions, Thresholds
from poseline.formats.corpus import LabelledSequence
from poseline.manifest import ModelManifest
from poseline.stepping import StepScorer
from poseline_training.metrics.segmental import segmental_f1
from poseline_training.results.alarms import events_by
from poseline_training.robustness.figures import spans_with_scores, stream_side_by_side
from poseline_training.streaming import StreamedSequence

_STEPS = np.array((0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9))
_FEWEST = 10
"""Instances below which nothing is chosen: of five by one person, what gained there lost on test people as often."""
_GAIN = 0.01
"""Least gain of the smoothed F1 that moves a threshold."""


@dataclass(frozen=True)
class Choice:
    """One class: instances in validation; its F1@50 there at the thresholds of all, and at its own; None: those of all."""

    instances: int
    f1_shared: float | None
    f1: float | None
    thresholds: Thresholds | None


def choose_thresholds(
    manifest: ModelManifest, scorer: StepScorer, recordings: Sequence[LabelledSequence], label_map: Path | None
) -> dict[str, Choice]:
    """Class → what was chosen for it, of all classes but background."""
    shipped = manifest.decoding
    lowering = shipped.off_score / shipped.min_score
    steps = sorted({*_STEPS.tolist(), shipped.min_score})
    points = [Thresholds(min_score=on, off_score=on * lowering) for on in steps]
    said = _said(manifest, scorer, recordings, label_map, [_of_all(shipped, one) for one in points])
    shared = steps.index(shipped.min_score)
    return {name: _choice(said, label, points, shared) for label, name in enumerate(manifest.classes) if label}


def _of_all(shipped: DecodingOptions, one: Thresholds) -> DecodingOptions:
    return DecodingOptions.model_validate(shipped.model_dump() | one.model_dump() | {"thresholds": {}})


def _said(
    manifest: ModelManifest,
    scorer: StepScorer,
    recordings: Sequence[LabelledSequence],
    label_map: Path | None,
    options: Sequence[DecodingOptions],
) -> list[list[StreamedSequence]]:
    """By the options: every recording as they decide it."""
    streamed = stream_side_by_side(manifest, scorer, recordings, label_map)
    spans = spans_with_scores(manifest, scorer, recordings)
    said: list[list[StreamedSequence]] = [[] for _ in options]
    for recording, some in zip(streamed, spans, strict=True):
        for one, events in zip(said, events_by(manifest, options, some), strict=True):
            one.append(replace(recording, events=tuple(events)))
    return said


def _choice(said: Sequence[list[StreamedSequence]], label: int, points: Sequence[Thresholds], shared: int) -> Choice:
    instances = sum(truth[2] == label for one in said[0] for truth in one.truths())
    if not instances:
        return Choice(0, None, None, None)
    f1 = [_class_f1(one, label) for one in said]
    smooth = np.convolve(np.pad(f1, 1, mode="edge"), np.ones(3) / 3, "valid")
    best = max(range(len(points)), key=lambda n: (round(float(smooth[n]), 6), -abs(n - shared)))
    if instances < _FEWEST or smooth[best] < smooth[shared] + _GAIN:
        return Choice(instances, f1[shared], f1[shared], None)
    return Choice(instances, f1[shared], f1[best], points[best])


def _class_f1(streamed: Sequence[StreamedSequence], label: int) -> float:
    found = [[one for one in each.detections() if one[2] == label] for each in streamed]
    return segmental_f1(found, [[one for one in each.truths() if one[2] == label] for each in streamed], 0.5)
