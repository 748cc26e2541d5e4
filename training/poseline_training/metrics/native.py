"""What merged classes hide: which of a set's own classes are found under the name that the model has for them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from poseline.segments import temporal_iou
from poseline_training.metrics.segments import Detection

NativeTruth = tuple[float, float, int, str]
"""start, end, the model's label, the set's own name."""


def native_recall(
    detections: list[list[Detection]],
    truths: Sequence[Sequence[NativeTruth]],
    classes: tuple[str, ...],
    threshold: float = 0.5,
) -> dict[str, dict[str, Any]]:
    """Own name → the model's class, instances, share that a detection of that class overlaps by the threshold."""
    found: dict[str, list[bool]] = defaultdict(list)
    merged: dict[str, str] = {}
    for said, true in zip(detections, truths, strict=True):
        for start, end, label, name in true:
            merged[name] = classes[label]
            found[name].append(
                any(one[2] == label and temporal_iou(one[:2], (start, end)) >= threshold for one in said)
            )
    return {
        name: {"class": merged[name], "instances": len(hits), "found": sum(hits) / len(hits)}
        for name, hits in found.items()
    }
