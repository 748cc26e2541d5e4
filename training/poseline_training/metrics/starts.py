"""Start detection (online detection of action starts): point-level AP and delay.

A start is (time, label, score), its time that of the decision, never dated back. It is right within ±d seconds of the
nearest still unmatched true start of its class (SimOn's rule); delay is decision minus truth, early ones negative.
"""

from __future__ import annotations

import math

from poseline_training.metrics.segments import interpolated_ap

OFFSETS = (0.1, 0.2, 0.33, 0.5, *map(float, range(1, 11)))
"""Seconds: SimOn's 1 to 10, and finer ones, for a second is long at 30 frames a second."""

Start = tuple[float, int, float]


def match_starts(
    found: list[list[Start]], true: list[list[tuple[float, int]]], label: int, within: float
) -> tuple[float, list[float]]:
    """p-AP of one class over all sequences, and the delays of the right ones, in seconds."""
    moments = [[t for t, c in one if c == label] for one in true]
    used: list[set[int]] = [set() for _ in true]
    ranked = sorted(((score, k, t) for k, one in enumerate(found) for t, c, score in one if c == label), reverse=True)
    hits: list[bool] = []
    delays: list[float] = []
    for _, k, t in ranked:
        free = [(abs(t - m), i) for i, m in enumerate(moments[k]) if i not in used[k]]
        distance, place = min(free, default=(math.inf, -1))
        hits.append(distance <= within)
        if hits[-1]:
            used[k].add(place)
            delays.append(t - moments[k][place])
    return interpolated_ap(hits, sum(map(len, moments))), delays
