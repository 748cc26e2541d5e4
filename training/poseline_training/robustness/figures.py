"""What is left of the figures under each condition.

Bent recordings go through the online path's own grid, step graphs and decoder, but side by side as far as the network is
concerned: the same scores, several times as fast. The adversary's go through the network that they were made against.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.progress import Progress

from poseline.formats.corpus import LabelledSequence
from poseline.manifest import ModelManifest
from poseline.online import open_converter
from poseline.pose import PoseSequence
from poseline.resampling import FrameGrid
from poseline.skeleton import Floats
from poseline.stepping import StepScorer
from poseline_training.corpus import common_labels, in_classes
from poseline_training.evaluate import headline
from poseline_training.network.localizer import Localizer
from poseline_training.robustness.adversary import HOLD, attack, chance, metric, moved_by, scorer_of
from poseline_training.robustness.conditions import CONDITIONS, CURVES, ONCE
from poseline_training.streaming import StreamedSequence, stream

Figures = dict[str, float]
"""`frame_map`, `segment_map_0.5`, `f1_50`."""
Results = dict[str, dict[str, dict[str, Figures]]]
"""Condition → severity as printed → set, or `mean` of the sets → figures."""

RADII = (5, 10, 20)
"""Millimetres."""
ONCE_ONLY = "without degrees"


def robustness(
    manifest: ModelManifest, scorer: StepScorer, sequences: Sequence[LabelledSequence], label_map: Path | None
) -> dict[str, Figures]:
    """The model card's conditions → figures of the same recordings."""
    found: dict[str, Figures] = {}
    for name, bend in CONDITIONS.items():
        rng = np.random.default_rng(0)
        bent = [replace(one, poses=bend(one.poses, rng)) for one in sequences]
        found[name] = _figures(stream_side_by_side(manifest, scorer, bent, label_map))
    return found


def measure(
    manifest: ModelManifest,
    scorer: StepScorer,
    network: Localizer | None,
    sets: Mapping[str, Sequence[LabelledSequence]],
    label_map: Path | None,
) -> Results:
    """Every condition at every severity, for every set and as their mean; each curve begins with the clean recordings.

    network: what the bundle was made from, for the adversary; None leaves that out. Its curves' clean figures are measured
    with the network, so they show whether it is the bundle's. Raises UnitUnknown for an adversary on pictures.
    """
    points = _points(manifest, scorer, label_map)
    if network is not None:
        points |= _adversaries(manifest, network.eval(), label_map)
    results: Results = {}
    with Progress(transient=True) as progress:
        task = progress.add_task("", total=len(points) * len(sets))
        for (condition, severity), figures in points.items():
            progress.update(task, description=f"{condition}: {severity}")
            found: dict[str, Figures] = {}
            for name, sequences in sets.items():
                found[name] = figures(sequences)
                progress.advance(task)
            results.setdefault(condition, {})[severity] = found | {"mean": _mean(list(found.values()))}
    for name, curve in CURVES.items():
        clean = {f"{curve.clean:g}": results[ONCE_ONLY]["as recorded"]}
        results[name] = dict(sorted((clean | results[name]).items(), key=lambda one: float(one[0])))
    return results


Point = Callable[[Sequence[LabelledSequence]], Figures]


def _points(manifest: ModelManifest, scorer: StepScorer, label_map: Path | None) -> dict[tuple[str, str], Point]:
    """(condition, severity) → how to measure it on one set. Every point throws the same dice."""

    def point(bent: Callable[[LabelledSequence, np.random.Generator], LabelledSequence]) -> Point:
        def figures(sequences: Sequence[LabelledSequence]) -> Figures:
            rng = np.random.default_rng(0)
            some = [bent(one, rng) for one in sequences]
            return _figures(stream_side_by_side(manifest, scorer, some, label_map))

        return figures

    points: dict[tuple[str, str], Point] = {}
    for name, bend in ONCE.items():
        points[ONCE_ONLY, name] = point(lambda one, rng, bend=bend: replace(one, poses=bend(one.poses, rng)))
    for name, curve in CURVES.items():
        for severity in curve.severities:
            points[name, f"{severity:g}"] = point(
                lambda one, rng, curve=curve, severity=severity: curve.bent(one, severity, rng)
            )
    return points


def _adversaries(manifest: ModelManifest, network: Localizer, label_map: Path | None) -> dict[tuple[str, str], Point]:
    score = scorer_of(network)

    def point(millimetres: float, hold: int, knowing: bool) -> Point:
        def moved(one: LabelledSequence, rng: np.random.Generator) -> LabelledSequence:
            poses, radius = metric(one), millimetres / 1000
            if not millimetres:
                return one
            labels = in_classes(one.labels, common_labels(one, label_map), manifest.classes)
            shift = attack(network, poses, labels, radius, rng, hold) if knowing else chance(poses, radius, rng, hold)
            return moved_by(one, poses, shift)

        def figures(sequences: Sequence[LabelledSequence]) -> Figures:
            rng = np.random.default_rng(0)
            return _figures([stream(manifest, score, moved(one, rng), label_map) for one in sequences])

        return figures

    points: dict[tuple[str, str], Point] = {}
    for knowing, who in ((True, "adversary"), (False, "at random")):
        for hold, held in ((1, ""), (HOLD, f" for {HOLD} frames")):
            for millimetres in (0, *RADII):
                points[f"joints moved{held} ({who}), mm", str(millimetres)] = point(millimetres, hold, knowing)
    return points


def stream_side_by_side(
    manifest: ModelManifest, scorer: StepScorer, sequences: Sequence[LabelledSequence], label_map: Path | None
) -> list[StreamedSequence]:
    """What `stream_all` says, with as many recordings in the network's batch as the scorer has slots."""
    spans = [_spans(manifest, one.poses) for one in sequences]
    scored = iter(_scored(scorer, [span for some in spans for span in some]))

    def score(poses: Floats) -> tuple[Floats, Floats]:
        scores, boundaries = next(scored)
        return scores[: len(poses)], boundaries[: len(poses)]

    return [stream(manifest, score, one, label_map) for one in sequences]


def _spans(manifest: ModelManifest, poses: PoseSequence) -> list[list[Floats]]:
    """The recording's grid frames; wherever the grid begins anew, so does the network."""
    convert = open_converter(manifest, poses.layout, poses.coordinates)
    native = convert(poses.joints, poses.confidence)
    grid = FrameGrid(manifest.fps, layout=manifest.native)
    spans: list[list[Floats]] = []
    for t, pose in zip(poses.timestamps.tolist(), native, strict=True):
        for frame in grid.push(t, pose).frames:
            if frame.first:
                spans.append([])
            spans[-1].append(frame.pose)
    return spans


def _scored(scorer: StepScorer, spans: Sequence[list[Floats]]) -> list[tuple[Floats, Floats]]:
    """Scores and boundaries of each span. The shorter ones stand still at their end: the past does not see it."""
    frames = max(map(len, spans))
    poses = np.stack([np.stack(span + [span[-1]] * (frames - len(span))) for span in spans])
    return list(zip(*scorer.replay(poses), strict=True))


def _figures(streamed: Sequence[StreamedSequence]) -> Figures:
    found = headline(streamed)
    return {name: found[name] for name in ("frame_map", "segment_map_0.5", "f1_50")}


def _mean(sets: Sequence[Figures]) -> Figures:
    return {key: float(np.mean([one[key] for one in sets])) for key in sets[0]}
