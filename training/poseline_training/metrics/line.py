"""The mAP of the BABEL localization benchmark (Yu & Fujiwara, AAAI 2023; the LINE code, kept by SnipCLR).

It makes its own proposals from a recording's scores, knowing all of it: not what a stream has said, but what the same
scores are worth under that protocol. Its intervals are off by one at the end, truths shorter and proposals longer, and so
are ours, or figures would not compare. All in frames; scores (T,) of one class.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from poseline.formats.corpus import runs
from poseline.skeleton import Floats
from poseline_training.metrics.segments import interpolated_ap

TIOUS = (0.1, 0.2, 0.3, 0.4, 0.5)
_THRESHOLDS = (0.03, 0.035, 0.04, 0.045, 0.05)
_LEAST = 3
_FLANK = 0.25
_CONTRAST = 0.6
_SUPPRESSION = 0.2

Proposal = tuple[int, int, float]
"""start, end (half-open), score."""


def proposals(scores: Floats) -> list[Proposal]:
    """Runs above each threshold, scored by their mean against their flanks', suppressed where they overlap."""
    found = [
        (start, end + 1, _contrast(scores, start, end))
        for threshold in _THRESHOLDS
        for start, end, _ in runs((scores > threshold).astype(np.int64))
        if end - start >= _LEAST
    ]
    return _suppressed(found)


def line_ap(found: list[list[Proposal]], labels: list[NDArray[np.int64]], label: int, threshold: float) -> float:
    """AP of one class at one tIoU. found: its proposals, a list per sequence; labels: (T,) of each."""
    free = [[(start, end - 1) for start, end, c in runs(one) if c == label] for one in labels]
    positives = sum(map(len, free))
    ranked = sorted(((score, k, start, end) for k, one in enumerate(found) for start, end, score in one), reverse=True)
    hits: list[bool] = []
    for _, k, start, end in ranked:
        best = max(free[k], key=lambda truth: _overlap((start, end), truth), default=None)
        hits.append(best is not None and _overlap((start, end), best) >= threshold)
        if best is not None and hits[-1]:
            free[k].remove(best)
    return interpolated_ap(hits, positives)


def _contrast(scores: Floats, start: int, end: int) -> float:
    """Mean inside, one frame beyond the end included, less .6 of the mean of both flanks, a quarter of its length each."""
    flank = _FLANK * (end - start)
    before = scores[max(0, int(start - flank)) : start]
    after = scores[end + 1 : min(len(scores) - 1, int(end + flank + 1))]
    outside = np.r_[before, after]
    return float(scores[start : end + 1].mean() - _CONTRAST * (outside.mean() if len(outside) else 0.0))


def _suppressed(found: list[Proposal]) -> list[Proposal]:
    """Greedy, from the best: what it covers by more than a fifth of the other's length goes. Ends count as frames here."""
    kept: list[Proposal] = []
    left = sorted(found, key=lambda one: one[2], reverse=True)
    while left:
        best, *left = left
        kept.append(best)
        left = [
            one
            for one in left
            if min(best[1], one[1]) - max(best[0], one[0]) + 1 <= _SUPPRESSION * (one[1] - one[0] + 1)
        ]
    return kept


def _overlap(a: tuple[int, int], b: tuple[int, int]) -> float:
    """IoU of two sets of frames."""
    common = max(0, min(a[1], b[1]) - max(a[0], b[0]))
    return common / (a[1] - a[0] + b[1] - b[0] - common)
