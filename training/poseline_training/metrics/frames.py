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
    the mean of the precision at every true frame, frames in falling order of score."""
    order = np.argsort(-scores[:, label], kind="stable")
    hits = labels[order] == label
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float(precision[hits].mean()) if hits.any() else float("nan")
