"""What gives stitched streams away: how far simple statistics alone tell action from background, and bridges from recorded
frames. Two baselines to stand beside whatever a model reaches on such streams.

`python -m poseline_training.giveaways --data DIR --json FILE` measures the stitched sets as shipped and composed anew, and
real recordings beside them (docs/streams.md).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from poseline.formats.corpus import FPS, LabelledSequence, read_corpus
from poseline.skeleton import BODY16, Flags, Floats
from poseline_training.compose import composed_anew
from poseline_training.corpus import native
from poseline_training.metrics.frames import frame_ap
from poseline_training.streams import Stitched, taken_apart

WINDOW = 9
"""Frames of the causal means: 0.3 s."""
LOOK_AHEAD = 10
"""Frames to either side of the speed that may look ahead: 0.7 s in all."""
LAST_FRAMES = 12
"""Of each clip, for the control: about as long as bridges are."""
STATISTICS = ("speed", "acceleration", "jerk", "flicker", "bones", "travel", "unevenness")
STITCHED = ("nw_ucla", "utd_mhad")
REAL = ("utkinect", "precog")
SEEDS = (1, 2, 3)
_TINY = 1e-4
"""Below what sensors tell: it keeps logarithms and ratios of stillness finite."""

Doubles = NDArray[np.float64]


def statistics(poses: Floats) -> Doubles:
    """(T, 16, 4) native → (T, 7) in the order of `STATISTICS`: causal means over `WINDOW` frames, in metres and seconds.

    speed, acceleration, jerk: of the joints about the pelvis, means over joints. flicker: distance from the mean of the
    neighbours in time, median over joints and axes. bones: change of their lengths. travel: speed of the pelvis.
    unevenness: |log| of the ratio of squared accelerations in even frames to those in odd ones, which is large where a slow
    sensor's frames were interpolated.
    """
    joints = poses[..., :3].astype(np.float64)
    velocity, acceleration, jerk = (_derivative(joints - joints[:, :1], order) for order in (1, 2, 3))
    parents = np.array(BODY16.parents[1:])
    lengths = np.linalg.norm(joints[:, 1:] - joints[:, parents], axis=-1)
    energy = (acceleration**2).sum(axis=(1, 2))
    even = np.arange(len(joints)) % 2 == 0
    evens, odds = (_causal_mean(np.where(side, energy, 0)) + _TINY for side in (even, ~even))
    return np.stack(
        [
            *(_causal_mean(np.linalg.norm(one, axis=-1).mean(axis=1)) for one in (velocity, acceleration, jerk)),
            _causal_mean(np.median(np.abs(acceleration[:, 1:]), axis=(1, 2)) / (2 * FPS**2)),
            _causal_mean(np.abs(_derivative(lengths, 1)).mean(axis=1)),
            _causal_mean(np.linalg.norm(_derivative(joints[:, 0], 1), axis=-1)),
            np.abs(np.log(evens / odds)),
        ],
        axis=1,
    )


def _derivative(values: Doubles, order: int) -> Doubles:
    """Looking back; as long as `values`, which stand still before they begin."""
    return np.diff(values, order, axis=0, prepend=np.repeat(values[:1], order, axis=0)) * FPS**order


def _causal_mean(values: Doubles) -> Doubles:
    return _mean_over(values, WINDOW - 1, 0)


def _mean_over(values: Doubles, back: int, ahead: int) -> Doubles:
    """Means over so many frames back and ahead, or as many as there are."""
    sums = np.cumsum(np.r_[0, values])
    at = np.arange(len(values))
    start, end = np.maximum(0, at - back), np.minimum(len(values), at + ahead + 1)
    return (sums[end] - sums[start]) / (end - start)


def auc(scores: Doubles, true: Flags) -> float:
    """Area under the ROC curve: how often a true frame scores higher than another one, ties counting half (Mann-Whitney)."""
    _, at, counts = np.unique(scores, return_inverse=True, return_counts=True)
    rank = (np.cumsum(counts) - (counts - 1) / 2)[at]
    positive = int(true.sum())
    return float((rank[true].sum() - positive * (positive + 1) / 2) / (positive * (len(true) - positive)))


class Detector:
    """Logistic regression on the statistics' logarithms, their squares and products: Newton's method, ridge 1."""

    def __init__(self, features: Doubles, true: Flags) -> None:
        logs = np.log(features + _TINY)
        self._mean, self._spread = logs.mean(axis=0), logs.std(axis=0)
        terms = self._terms(features)
        self._weights = np.zeros(terms.shape[1])
        for _ in range(12):
            chance = 1 / (1 + np.exp(-terms @ self._weights))
            curvature = (terms * (chance * (1 - chance))[:, None]).T @ terms + np.eye(terms.shape[1])
            slope = terms.T @ (true - chance) - self._weights
            self._weights += np.linalg.solve(curvature, slope)

    def __call__(self, features: Doubles) -> Doubles:
        """(N,) log odds."""
        return self._terms(features) @ self._weights

    def _terms(self, features: Doubles) -> Doubles:
        z = np.clip((np.log(features + _TINY) - self._mean) / self._spread, -4, 4)
        i, j = np.triu_indices(z.shape[1])
        return np.c_[np.ones(len(z)), z, z[:, i] * z[:, j]]


@dataclass(frozen=True)
class Frames:
    """All frames of some stitched streams: statistics (N, 7), whether background, a bridge, among a clip's last."""

    features: Doubles
    background: Flags
    bridges: Flags
    last: Flags

    @classmethod
    def of(cls, streams: Iterable[Stitched]) -> Frames:
        found = [
            (statistics(native(one.stream)), one.stream.labels == 0, one.bridges(), one.last_frames(LAST_FRAMES))
            for one in streams
        ]
        return cls(*(np.concatenate(column) for column in zip(*found, strict=True)))


def speed_only(streams: Iterable[LabelledSequence]) -> dict[str, float]:
    """Action against background by the body's speed alone.

    auc, ap: causal. auc_looking_ahead: of the speed over `LOOK_AHEAD` frames to either side. action: the share of frames.
    """
    features: list[Doubles] = []
    known: list[NDArray[np.int64]] = []
    for one in streams:
        joints = native(one)[..., :3].astype(np.float64)
        speed = np.linalg.norm(_derivative(joints - joints[:, :1], 1), axis=-1).mean(axis=1)
        both = np.stack([_causal_mean(speed), _mean_over(speed, LOOK_AHEAD, LOOK_AHEAD)], axis=1)
        features.append(both[one.labels >= 0])
        known.append(one.labels[one.labels >= 0])
    (causal, centred), action = np.concatenate(features).T, np.concatenate(known) > 0
    return {
        "auc": auc(causal, action),
        "ap": frame_ap(np.stack([-causal, causal], axis=1).astype(np.float32), action.astype(np.int64), 1),
        "auc_looking_ahead": auc(centred, action),
        "action": float(action.mean()),
    }


def bridge_detector(train: Frames, test: Frames) -> dict[str, Any]:
    """How well bridges are told from recorded frames: areas under ROC curves on `test`, detectors fitted to `train`.

    ratio: by acceleration over speed. detector: by all statistics. alone: by each. against_background: all statistics,
    bridges against recorded background only. control: all statistics, clips' last frames against all other recorded ones,
    which is what a stretch of real motion gives away by its place.
    """

    def fitted(column: str, where: tuple[Flags, Flags], columns: list[int]) -> float:
        (fit, judged), (fit_true, true) = where, (getattr(one, column) for one in (train, test))
        detector = Detector(train.features[fit][:, columns], fit_true[fit])
        return auc(detector(test.features[judged][:, columns]), true[judged])

    everything, every = (np.ones_like(train.bridges), np.ones_like(test.bridges)), list(range(len(STATISTICS)))
    return {
        "ratio": auc(test.features[:, 1] / (test.features[:, 0] + _TINY), test.bridges),
        "detector": fitted("bridges", everything, every),
        "against_background": fitted("bridges", (train.background, test.background), every),
        "control": fitted("last", (~train.bridges, ~test.bridges), every),
        "alone": {name: fitted("bridges", everything, [i]) for i, name in enumerate(STATISTICS)},
        "bridges_of_frames": float(test.bridges.mean()),
        "bridges_of_background": float(test.bridges[test.background].mean()),
    }


def measure(data: Path) -> dict[str, Any]:
    """All of it, of the corpora in `data`: set → how its streams came about → figures."""
    found: dict[str, Any] = {}
    for name in REAL:
        found[name] = {"recorded": {"speed_only": speed_only(read_corpus(data / name / "untrimmed_test.npz"))}}
    for name in STITCHED:
        shipped = [taken_apart(data / name, split) for split in ("train", "test")]
        anew = [[one for seed in SEEDS for one in composed_anew(streams, seed)] for streams in shipped]
        found[name] = {
            kind: {
                "speed_only": speed_only(one.stream for one in test),
                "bridges": bridge_detector(Frames.of(train), Frames.of(test)),
            }
            for kind, (train, test) in {"shipped": shipped, "recomposed": anew}.items()
        }
    return found


def giveaways(
    data: Annotated[Path, typer.Option(help="Folder of corpora.", exists=True)] = Path("../shared/data"),
    json_: Annotated[
        Path | None, typer.Option("--json", help="Write the figures here, instead of to the screen.")
    ] = None,
) -> None:
    """Measure how far bridges and speed alone give stitched streams away, as shipped and composed anew."""
    text = json.dumps(json.loads(json.dumps(measure(data)), parse_float=lambda one: round(float(one), 3)), indent=2)
    if json_:
        json_.parent.mkdir(parents=True, exist_ok=True)
        json_.write_text(text + "\n")
    else:
        typer.echo(text)


if __name__ == "__main__":
    typer.run(giveaways)
