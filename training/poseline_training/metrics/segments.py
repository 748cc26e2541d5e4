"""Average precision of segments at a temporal IoU, by the rule of ActivityNet.

A detection is (start, end, label, score); a truth (start, end, label). Both come as one list per sequence. In falling order
of score a detection takes the still free truth of its class that it overlaps most, if by at least the threshold.
"""

from __future__ import annotations

import numpy as np

from poseline.segments import temporal_iou

Detection = tuple[float, float, int, float]
Truth = tuple[float, float, int]

AVERAGE_TIOUS = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))
"""ActivityNet's average is over these."""


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
    """Largest tIoU with a free truth of the class, and its place; (0, -1) without any overlap."""
    best, place = 0.0, -1
    for i, (start, end, other) in enumerate(truths):
        if other == label and i not in used and (overlap := temporal_iou(span, (start, end))) > best:
            best, place = overlap, i
    return best, place


def match_segments(
    detections: list[list[Detection]], truths: list[list[Truth]], label: int, threshold: float
) -> list[tuple[int, int, int]]:
    """The class's detections in falling order of score: (sequence, place in it, place of its truth or -1)."""
    ranked = sorted(
        (
            (score, k, start, end, i)
            for k, one in enumerate(detections)
            for i, (start, end, c, score) in enumerate(one)
            if c == label
        ),
        reverse=True,
    )
    used: list[set[int]] = [set() for _ in truths]
    matches: list[tuple[int, int, int]] = []
    for _, k, start, end, i in ranked:
        overlap, place = best_match((start, end), truths[k], label, used[k])
        if overlap < threshold:
            place = -1
        else:
            used[k].add(place)
        matches.append((k, i, place))
    return matches


def instances(truths: list[list[Truth]], label: int) -> int:
    return sum(c == label for one in truths for *_, c in one)


def segment_ap(detections: list[list[Detection]], truths: list[list[Truth]], label: int, threshold: float) -> float:
    """AP of one class over all sequences at one tIoU, above 0."""
    matches = match_segments(detections, truths, label, threshold)
    return interpolated_ap([place >= 0 for *_, place in matches], instances(truths, label))
