"""PKU-MMD's own mAP_a and mAP_v (Liu et al., 2017), with the matching that its users corrected.

Unlike ActivityNet's rule, a detection belongs to the truth that it overlaps most, taken or not; several on one truth
count once, as right with the most confident of them and as one proposal each. Precision is read after a right proposal is
taken away, not before: the released programs do so, and figures made with them compare with no others.
"""

from __future__ import annotations

from collections import Counter

from poseline_training.metrics.segments import Detection, Truth, best_match

THETAS = (0.1, 0.3, 0.5)


def pku_ap(detections: list[list[Detection]], truths: list[list[Truth]], theta: float) -> float:
    """AP of all that is given: of one class for mAP_a, of one sequence (all classes) for mAP_v.

    Proposals are taken away in rising order of score; each loss of recall counts with the best precision so far.
    """
    positives = sum(map(len, truths))
    if positives == 0:
        return float("nan")
    ranked = sorted((score, k, start, end, c) for k, one in enumerate(detections) for start, end, c, score in one)
    owners: list[tuple[int, int] | None] = []
    for _, k, start, end, label in ranked:
        overlap, place = best_match((start, end), truths[k], label, set())
        owners.append((k, place) if overlap >= theta else None)
    holders = Counter(owner for owner in owners if owner)
    total, found, left = 0.0, len(holders), len(ranked)
    precision = found / left if left else 0.0
    for owner in owners:
        left -= 1
        if owner is None:
            continue
        holders[owner] -= 1
        lost = holders[owner] == 0
        found -= lost
        precision = max(precision, found / left if left else 0.0)
        total += precision * lost / positives
    return total


def pku_action_ap(detections: list[list[Detection]], truths: list[list[Truth]], label: int, theta: float) -> float:
    """One class over all sequences; mAP_a is its mean over classes."""
    return pku_ap(
        [[one for one in found if one[2] == label] for found in detections],
        [[one for one in true if one[2] == label] for true in truths],
        theta,
    )


def pku_video_map(detections: list[list[Detection]], truths: list[list[Truth]], theta: float) -> float:
    """mAP_v: the mean over sequences, their classes pooled. Sequences without action are left out."""
    aps = [pku_ap([found], [true], theta) for found, true in zip(detections, truths, strict=True) if true]
    return sum(aps) / len(aps) if aps else float("nan")
