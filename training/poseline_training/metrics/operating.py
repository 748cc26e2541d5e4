"""What a user meets at the shipped thresholds, beside the areas under curves.

A final is right if it overlaps a still unmatched truth of its class by tIoU .5; its errors are absolute seconds. A final
that touches no truth of its class is a false alarm, a truth that no final of its class touches is missed: touching is
tIoU .1, so what is neither found nor missed was reported badly.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from poseline.segments import temporal_iou
from poseline_training.metrics.segments import Truth, best_match

_TIOU = 0.5
_TOUCH = 0.1

Final = tuple[float, float, int, float]
"""start, end, label, and when it was decided."""


def operating_point(
    finals: Sequence[Sequence[Final]], truths: Sequence[list[Truth]], started: int, retracted: int, minutes: float
) -> dict[str, float]:
    """found, missed: shares of the truths. start_error, end_error: medians, seconds. final_delay, …_p50, …_p95: mean and
    percentiles of the seconds from the true end to the decision. false_per_minute. retracted: share of the starts."""
    starts: list[float] = []
    ends: list[float] = []
    delays: list[float] = []
    false = missed = 0
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
        missed += sum(not _touched(truth, said) for truth in true)
    total = sum(map(len, truths))
    return {
        "found": len(starts) / total if total else float("nan"),
        "missed": missed / total if total else float("nan"),
        "start_error": _percentile(starts, 50),
        "end_error": _percentile(ends, 50),
        "final_delay": float(np.mean(delays)) if delays else float("nan"),
        "final_delay_p50": _percentile(delays, 50),
        "final_delay_p95": _percentile(delays, 95),
        "false_per_minute": false / minutes,
        "retracted": retracted / max(1, started),
    }


def _touched(truth: Truth, said: Sequence[Final]) -> bool:
    return any(label == truth[2] and temporal_iou((start, end), truth[:2]) >= _TOUCH for start, end, label, _ in said)


def _percentile(values: list[float], percent: float) -> float:
    return float(np.percentile(values, percent)) if values else float("nan")
