"""What a user meets at the shipped thresholds, beside the areas under curves.

A final is right if it overlaps a still unmatched truth of its class by tIoU .5; its errors are absolute seconds.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from poseline_training.metrics.segments import Truth, best_match

_TIOU = 0.5
_TOUCH = 0.1
"""A final that overlaps no truth of its class even by this much is a false alarm."""

Final = tuple[float, float, int, float]
"""start, end, label, and when it was decided."""


def operating_point(
    finals: Sequence[Sequence[Final]], truths: Sequence[list[Truth]], started: int, retracted: int, minutes: float
) -> dict[str, float]:
    """found: share of truths with a right final. start_error, end_error: medians, seconds. final_delay: mean seconds
    from the true end to the decision. false_per_minute: finals that touch no truth. retracted: share of the starts."""
    starts: list[float] = []
    ends: list[float] = []
    delays: list[float] = []
    false = 0
    for said, true in zip(finals, truths, strict=True):
        used: set[int] = set()
        for start, end, label, decided in said:
            overlap, place = best_match((start, end), true, label, used)
            false += best_match((start, end), true, label, set())[0] < _TOUCH
            if overlap >= _TIOU:
                used.add(place)
                starts.append(abs(start - true[place][0]))
                ends.append(abs(end - true[place][1]))
                delays.append(decided - true[place][1])
    total = sum(map(len, truths))
    return {
        "found": len(starts) / max(1, total),
        "start_error": float(np.median(starts)) if starts else float("nan"),
        "end_error": float(np.median(ends)) if ends else float("nan"),
        "final_delay": float(np.mean(delays)) if delays else float("nan"),
        "false_per_minute": false / minutes,
        "retracted": retracted / max(1, started),
    }
