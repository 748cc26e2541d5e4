"""Segment metrics: average precision at a temporal IoU (ActivityNet), and segmental F1@k (Lea et al., CVPR 2017).

A detection is (start, end, label, score); a truth (start, end, label). Both come as one list per sequence. A detection is
right if the still unmatched truth of its class that overlaps it most does so by at least the threshold.
"""

from __future__ import annotations

import numpy as np

from poseline.segments import temporal_iou

Detection = tuple[float, float, int, float]
Truth = tuple[float, float, int]


def interpolated_ap(hits: list[bool], positives: int) -> float:
    """Area under the interpolated precision-recall curve; `hits` in falling order of score."""
    if positives == 0:
        return float("nan")
    if not hits:
        return 0.0
    found = np.cumsum(hits)
    precision = found / np.arange(1, len(hits) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    recall = np.r_[0, found / positives]
    return float((np.diff(recall) * precision).sum())


def best_match(span: tuple[float, float], truths: list[Truth], label: int, used: set[int]) -> tuple[float, int]:
    """Largest tIoU with an unmatched truth of the class, and its place; (0, -1) without any overlap."""
    best, place = 0.0, -1
    for i, (start, end, other) in enumerate(truths):
        if other == label and i not in used and (overlap := temporal_iou(span, (start, end))) > best:
            best, place = overlap, i
    return best, place


def segment_ap(detections: list[list[Detection]], truths: list[list[Truth]], label: int, threshold: float) -> float:
    """AP of one class over all sequences at one tIoU."""
    ranked = sorted(
        ((score, k, start, end) for k, one in enumerate(detections) for start, end, c, score in one if c == label),
        reverse=True,
    )
    used: list[set[int]] = [set() for _ in truths]
    hits: list[bool] = []
    for _, k, start, end in ranked:
        overlap, place = best_match((start, end), truths[k], label, used[k])
        hits.append(overlap >= threshold)
        if hits[-1]:
            used[k].add(place)
    return interpolated_ap(hits, sum(c == label for one in truths for *_, c in one))


def segmental_f1(detections: list[list[Detection]], truths: list[list[Truth]], threshold: float) -> float:
    """F1@k over all classes; detections of classes that the split lacks are false ones."""
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
    return 2 * right / max(1, 2 * right + wrong + missed)
