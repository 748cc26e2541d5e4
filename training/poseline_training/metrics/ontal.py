"""Whole instances from a stream (On-TAL): segment AP of what was said for good, and how late it was said.

AP is ActivityNet's; the delay over the right ones, decision minus true end, is that of OAT (Kim et al., ECCV 2022).
"""

from __future__ import annotations

from poseline_training.metrics.segments import Detection, Truth, instances, interpolated_ap, match_segments

TIOUS = (0.3, 0.4, 0.5, 0.6, 0.7)
"""Those of THUMOS'14."""


def online_ap(
    detections: list[list[Detection]],
    decided: list[list[float]],
    truths: list[list[Truth]],
    label: int,
    threshold: float,
) -> tuple[float, list[float]]:
    """AP of one class, and the delays of the right ones in seconds. decided: when each detection was said."""
    matches = match_segments(detections, truths, label, threshold)
    ap = interpolated_ap([place >= 0 for *_, place in matches], instances(truths, label))
    return ap, [decided[k][i] - truths[k][place][1] for k, i, place in matches if place >= 0]
