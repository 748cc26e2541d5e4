"""Intervals of action on the media clock, and what is said about them while they happen.

Times are seconds, half-open [start, end). A segment event has one of four phases; a final is sent once, for good.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Phase = Literal["started", "updated", "final", "retracted"]
Forced = Literal["none", "flush", "close", "max_duration", "track_end", "drain"]


@dataclass(frozen=True, slots=True)
class Segment:
    """One action: `label` from `start` to `end` seconds, with a score in 0..1."""

    label: str
    start: float
    end: float
    score: float


@dataclass(frozen=True, slots=True)
class SegmentEvent:
    """What is said about one segment at one moment; every time is on the client's media clock, in seconds.

    key: number of the segment within its track; all events of one segment share it.
    label_id: class index (0 is background and never occurs).
    end: so far, for started and updated. decided: media time of the frame that led to this event.
    forced: why a final came before the action's own end ("none" where it did not).
    repetitions: how often the action was done (so far, for updated); None where nobody counted.
    """

    phase: Phase
    key: int
    label: str
    label_id: int
    start: float
    end: float
    score: float
    decided: float
    forced: Forced = "none"
    repetitions: int | None = None


def temporal_iou(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Temporal intersection over union of two half-open intervals; 0 where both are empty."""
    intersection = min(a[1], b[1]) - max(a[0], b[0])
    if intersection <= 0:
        return 0.0
    return intersection / (max(a[1], b[1]) - min(a[0], b[0]))
