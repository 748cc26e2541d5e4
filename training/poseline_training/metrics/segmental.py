"""Action segmentation's metrics of order and number: F1@k and the edit score (Lea et al., CVPR 2017, ECCV 2016).

Segments are the events' own, background is no segment. Detections and truths as in `segments`.
"""

from __future__ import annotations

from collections.abc import Sequence

from poseline_training.metrics.segments import Detection, Truth, best_match


def segmental_f1(detections: list[list[Detection]], truths: list[list[Truth]], threshold: float) -> float:
    """F1@k over all classes; detections of classes that the split lacks are false ones. NaN where nothing is true."""
    right = wrong = missed = 0
    for found, true in zip(detections, truths, strict=True):
        used: set[int] = set()
        for start, end, label, _ in found:
            overlap, place = best_match((start, end), true, label, used)
            if overlap >= threshold:
                used.add(place)
                right += 1
            else:
                wrong += 1
        missed += len(true) - len(used)
    return 2 * right / (2 * right + wrong + missed) if right + missed else float("nan")


def edit_score(found: Sequence[int], true: Sequence[int]) -> float:
    """1 - Levenshtein distance of two sequences of labels, in shares of the longer; 1 where both are empty."""
    longer = max(len(found), len(true))
    return 1 - _distance(found, true) / longer if longer else 1.0


def _distance(a: Sequence[int], b: Sequence[int]) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (x != y))
    return row[-1]
