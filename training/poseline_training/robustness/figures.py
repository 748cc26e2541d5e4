"""What is left of the figures under each condition.

Bent recordings go through the online path's own grid, step graphs and decoder, but side by side as far as the network is
concerned: the same scores, several times as fast. The adversary's go through the network that they were made against.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.random import Generator
from rich.progress import Progress

from poseline.formats.corpus import LabelledSequence
from poseline.manifest import ModelManifest
from poseline.online import open_converter
from poseline.pose import PoseSequence
from poseline.resampling import GridFrame
from poseline.skeleton import Floats
from poseline.stepping import StepScorer
from poseline.whole import grid_frames, spans_of
from poseline_training.corpus import common_labels, in_classes
from poseline_training.evaluate import headline
from poseline_training.network.localizer import Localizer
from poseline_training.robustness.adversary import MOVES, RADII, Move, metric, moved_by, scorer_of
from poseline_training.robustness.conditions import CONDITIONS, CURVES, ONCE, Bend
from poseline_training.streaming import StreamedSequence, stream, stream_all

Figures = dict[str, float]
"""`frame_map`, `segment_map_0.5`, `f1_50`."""
Results = dict[str, dict[str, dict[str, Figures]]]
"""Condition → severity as printed → set, or `mean` of the sets → figures."""

Change = Callable[[LabelledSequence, Generator], LabelledSequence]
Tell = Callable[[Sequence[LabelledSequence]], list[StreamedSequence]]

ONCE_ONLY = "without degrees"
AS_RECORDED = "as recorded"
BY_NETWORK = "as recorded, by the torch network"


def robustness(
    manifest: ModelManifest, scorer: StepScorer, sequences: Sequence[LabelledSequence], label_map: Path | None
) -> dict[str, Figures]:
    """The model card's conditions → figures of the same recordings."""
    tell = partial(stream_side_by_side, manifest, scorer, label_map=label_map)
    return {name: _figures(tell, _once(bend), sequences) for name, bend in CONDITIONS.items()}


def measure(
    manifest: ModelManifest,
    scorer: StepScorer,
    network: Localizer | None,
    sets: Mapping[str, Sequence[LabelledSequence]],
    label_map: Path | None,
) -> Results:
    """Every condition at every severity, for every set and as their mean; each curve holds the clean recordings too.

    network: what the bundle was made from, for the adversary; None leaves that out. The clean end of its curves is measured
    with the network and stands beside the bundle's own: they are equal where the one was made from the other. Raises
    UnitUnknown for an adversary on pictures.
    """
    points = _points(manifest, scorer, label_map)
    if network is not None:
        points |= _moves(manifest, network.eval(), label_map)
    results: Results = {}
    with Progress(transient=True) as progress:
        task = progress.add_task("", total=len(points) * len(sets))
        for (condition, severity), (tell, change) in points.items():
            progress.update(task, description=f"{condition}: {severity}")
            found: dict[str, Figures] = {}
            for name, sequences in sets.items():
                found[name] = _figures(tell, change, sequences)
                progress.advance(task)
            results.setdefault(condition, {})[severity] = found | {"mean": _mean(list(found.values()))}
    for name, curve in CURVES.items():
        results[name] = _with_clean(results[name], curve.clean, results[ONCE_ONLY][AS_RECORDED])
    if network is not None:
        for name in MOVES:
            results[name] = _with_clean(results[name], 0, results[ONCE_ONLY][BY_NETWORK])
    return results


def _with_clean(
    curve: dict[str, dict[str, Figures]], severity: float, clean: dict[str, Figures]
) -> dict[str, dict[str, Figures]]:
    return dict(sorted({**curve, f"{severity:g}": clean}.items(), key=lambda one: float(one[0])))


Points = dict[tuple[str, str], tuple[Tell, Change]]
"""(condition, severity) → how to change recordings, and who tells what is seen in them."""


def _points(manifest: ModelManifest, scorer: StepScorer, label_map: Path | None) -> Points:
    tell = partial(stream_side_by_side, manifest, scorer, label_map=label_map)
    once: Points = {(ONCE_ONLY, name): (tell, _once(bend)) for name, bend in ONCE.items()}
    return once | {
        (name, f"{severity:g}"): (tell, partial(curve.bent, severity=severity))
        for name, curve in CURVES.items()
        for severity in curve.severities
    }


def _moves(manifest: ModelManifest, network: Localizer, label_map: Path | None) -> Points:
    tell = partial(stream_all, manifest, scorer_of(network), label_map=label_map, look_ahead=network.look_aheads[0])

    def change(move: Move, millimetres: float) -> Change:
        def changed(one: LabelledSequence, rng: Generator) -> LabelledSequence:
            poses, labels = metric(one), in_classes(one.labels, common_labels(one, label_map), manifest.classes)
            return moved_by(one, poses, move(network, poses, labels, millimetres / 1000, rng))

        return changed

    once: Points = {(ONCE_ONLY, BY_NETWORK): (tell, lambda one, _: one)}
    return once | {
        (name, str(millimetres)): (tell, change(move, millimetres))
        for name, move in MOVES.items()
        for millimetres in RADII
    }


def _once(bend: Bend) -> Change:
    return lambda one, rng: replace(one, poses=bend(one.poses, rng))


def _figures(tell: Tell, change: Change, sequences: Sequence[LabelledSequence]) -> Figures:
    """Every point throws the same dice."""
    rng = np.random.default_rng(0)
    found = headline(tell([change(one, rng) for one in sequences]))
    return {name: found[name] for name in ("frame_map", "segment_map_0.5", "f1_50")}


def _mean(sets: Sequence[Figures]) -> Figures:
    return {key: float(np.mean([one[key] for one in sets])) for key in sets[0]}


# --- side by side ----------------------------------------------------------------------------------------------------


def stream_side_by_side(
    manifest: ModelManifest, scorer: StepScorer, sequences: Sequence[LabelledSequence], label_map: Path | None
) -> list[StreamedSequence]:
    """What `stream_all` says, with as many recordings in the network's batch as the scorer has slots."""
    found = spans_with_scores(manifest, scorer, sequences)
    scored = iter([(scores, boundaries) for some in found for _, scores, boundaries in some])

    def score(poses: Floats) -> tuple[Floats, Floats]:
        scores, boundaries = next(scored)
        return scores[: len(poses)], boundaries[: len(poses)]

    return [stream(manifest, score, one, label_map, manifest.look_ahead) for one in sequences]


def spans_with_scores(
    manifest: ModelManifest, scorer: StepScorer, sequences: Sequence[LabelledSequence]
) -> list[list[tuple[list[GridFrame], Floats, Floats]]]:
    """The spans of each recording, and what the network answers to their frames and, last pose held, to at least
    `look_ahead` more: scores (≥ T + L, 1 + K), boundaries (≥ T + L, 2)."""
    spans = [_spans(manifest, one.poses) for one in sequences]
    scored = iter(
        _scored(scorer, [[frame.pose for frame in span] for some in spans for span in some], manifest.look_ahead)
    )
    return [[(span, *next(scored)) for span in some] for some in spans]


def _spans(manifest: ModelManifest, poses: PoseSequence) -> list[list[GridFrame]]:
    """The recording's grid frames; wherever the grid begins anew, so does the network."""
    native = open_converter(manifest, poses.layout, poses.coordinates)(poses.joints, poses.confidence)
    return spans_of(grid_frames(manifest, poses.timestamps, native))


def _scored(scorer: StepScorer, spans: Sequence[list[Floats]], look_ahead: int) -> list[tuple[Floats, Floats]]:
    """Scores and boundaries of each span. Its last pose is held: for the look-ahead, and until the longest span is over."""
    frames = max(map(len, spans)) + look_ahead
    poses = np.stack([np.stack(span + [span[-1]] * (frames - len(span))) for span in spans])
    answer = scorer.replay(poses)
    return list(zip(answer.scores, answer.boundaries, strict=True))
