"""Per-frame metrics. scores (N, 1 + K) probabilities with background first, labels (N,) without ignored frames."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from poseline.skeleton import Floats

Labels = NDArray[np.int64]


def frame_accuracy(scores: Floats, labels: Labels) -> float:
    """Share of frames whose highest score is right, background included."""
    return float((scores.argmax(1) == labels).mean())


def frame_f1(scores: Floats, labels: Labels, label: int) -> float:
    """F1 of one class over frames, deciding by the highest score."""
    found, true = scores.argmax(1) == label, labels == label
    return 2 * float((found & true).sum()) / max(1, int(found.sum() + true.sum()))


def frame_ap(scores: Floats, labels: Labels, label: int) -> float:
    """Average precision of one class over all frames, as online action detection reports it (LSTR, MiniROAD):
    the mean of the precision at every true frame, frames in falling order of score; equal scores count as one step."""
    right, wrong = _above(scores[:, label], labels == label)
    return float((right / (right + wrong)).mean()) if len(right) else float("nan")


def calibrated_ap(scores: Floats, labels: Labels, label: int) -> float:
    """cAP (De Geest et al., ECCV 2016): the same with precision TP / (TP + FP / w), w negatives to a positive, so that
    rare classes compare with common ones; a random ranking has about .5 whatever w."""
    hits = labels == label
    right, wrong = _above(scores[:, label], hits)
    if not len(right):
        return float("nan")
    if hits.all():
        return 1.0
    weight = (~hits).sum() / hits.sum()
    return float((right / (right + wrong / weight)).mean())


def _above(scores: Floats, hits: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For every true frame: how many true ones and how many others score at least as much."""
    falling = np.argsort(-scores, kind="stable")
    ranked, hits = -scores[falling], hits[falling]
    count = np.searchsorted(ranked, ranked[hits], side="right").astype(np.int64)
    right = np.cumsum(hits, dtype=np.int64)[count - 1]
    return right, count - right
