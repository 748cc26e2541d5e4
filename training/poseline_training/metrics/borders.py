"""How near the borders come: SL- and EL-score (Li et al., ECCV 2016, as VA-JCR evaluates them).

A true start at s of an action d seconds long earns exp(-|p - s| / d), p the nearest start of a detection of its class
within a second; nothing where there is none. Ends alike.
"""

from __future__ import annotations

import math

from poseline_training.metrics.segments import Detection, Truth

REACH = 1.0
"""Seconds: 30 frames of 30 a second."""


def border_scores(detections: list[list[Detection]], truths: list[list[Truth]], label: int) -> tuple[float, float]:
    """SL and EL of one class, means over its instances."""
    scores = [
        tuple(
            _score([one[side] for one in found if one[2] == label], truth[side], truth[1] - truth[0]) for side in (0, 1)
        )
        for found, true in zip(detections, truths, strict=True)
        for truth in true
        if truth[2] == label
    ]
    if not scores:
        return float("nan"), float("nan")
    return sum(start for start, _ in scores) / len(scores), sum(end for _, end in scores) / len(scores)


def _score(found: list[float], true: float, length: float) -> float:
    distance = min((abs(t - true) for t in found), default=math.inf)
    return math.exp(-distance / length) if distance <= REACH else 0.0
