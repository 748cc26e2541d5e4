"""What was found in one recording, with all that an export must say of it: the one thing that every writer writes.

A `Timeline` comes from a server's answer (`Timeline.from_response`), from finals of this very process
(`ranked`), or from a file (`formats.timelines`). Times are seconds on the recording's media clock, on which its first
frame usually stands at 0; intervals are half-open [start, end).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from msgspec import UNSET, Struct, structs
from numpy.typing import NDArray

from poseline.decoding import DecodingOptions
from poseline.protocol import DecodingChoice, FoundSegment, LocalizeResponse, ModelInfo
from poseline.translation import decoding_options

_CLOCK_STEPS = 1001
"""Frames that tell the rate of a clock."""


class TimelineSegment(Struct, frozen=True):
    """One action of one person. label_id: index of the label in the model's classes; None where a file does not say.
    repetitions: how often it was done; None where nobody counted, or a file does not say."""

    segment_id: str
    track_id: str
    label: str
    start: float
    end: float
    score: float = 1.0
    label_id: int | None = None
    repetitions: int | None = None

    @classmethod
    def of(cls, found: FoundSegment) -> TimelineSegment:
        """One of a server's answer."""
        return cls(
            found.segment_id,
            found.track_id,
            found.label,
            found.start,
            found.end,
            found.score,
            found.label_id,
            None if found.repetitions is UNSET else found.repetitions,
        )


class Timeline(Struct, frozen=True, kw_only=True):
    """The segments of one recording, sorted by start, then track, then label.

    source: the recording's name. duration: seconds. fps: rate of the *source's* frames, by which frame-based formats
    count. layout: name of the source's joint layout (`model.layout` is the model's own). thresholds: how scores became
    segments, every field filled. What a file of somebody else does not say is None.
    """

    source: str
    segments: tuple[TimelineSegment, ...]
    duration: float | None = None
    fps: float | None = None
    layout: str | None = None
    model: ModelInfo | None = None
    thresholds: DecodingChoice | None = None

    @classmethod
    def from_response(
        cls, response: LocalizeResponse, *, source: str, layout: str, fps: float, thresholds: DecodingChoice
    ) -> Timeline:
        """A server's answer; `thresholds` as `effective_thresholds` gives them."""
        return cls(
            source=source,
            segments=tuple(map(TimelineSegment.of, response.segments)),
            duration=response.duration,
            fps=fps,
            layout=layout,
            model=response.model,
            thresholds=thresholds,
        )


def effective_thresholds(asked: DecodingChoice, defaults: DecodingOptions) -> DecodingChoice:
    """What a caller asked for, completed by the model's own options. Raises InputError."""
    used = decoding_options(asked, defaults)
    filled = {name: getattr(used, name) for name in DecodingChoice.__struct_fields__ if hasattr(used, name)}
    return DecodingChoice(**filled, classes=asked.classes, gap_reset=asked.gap_reset)


def ranked(segments: Iterable[TimelineSegment], most: int | None = None) -> tuple[TimelineSegment, ...]:
    """The best `most` of them, in a timeline's order and numbered s1, s2, … in it."""
    best = sorted(segments, key=lambda one: -one.score)[:most]
    best.sort(key=lambda one: (one.start, one.track_id, one.label))
    return tuple(structs.replace(one, segment_id=f"s{n}") for n, one in enumerate(best, 1))


def recording_length(clocks: Iterable[NDArray[np.float64]], fps: float) -> float:
    """Seconds from the first frame of all tracks to the end of the last one, which lasts as long as frames do on average in
    the longest track, or 1 / fps. clocks: the timestamps of each track."""
    every = list(clocks)
    longest = max(every, key=len)
    last = (longest[-1] - longest[0]) / (len(longest) - 1) if len(longest) > 1 else 1 / fps
    return round(float(max(one[-1] for one in every) - min(one[0] for one in every) + last), 6)


def source_rate(told: float | None, clocks: Iterable[NDArray[np.float64]], otherwise: float) -> float:
    """Frames a second of a recording's source: as it says itself, else by the clock of its longest track, else as the
    network ran, for a single frame has no rate. clocks: as for `recording_length`."""
    return told or frame_rate(max(clocks, key=len)) or otherwise


def frame_rate(timestamps: NDArray[np.float64]) -> float | None:
    """Frames a second of a clock's first steps; None for a single frame.

    The mean of the steps that are like their median: without those over lost frames, and no worse for times that are
    rounded (in Matroska to milliseconds: 33, 33, 34).
    """
    steps = np.diff(timestamps[:_CLOCK_STEPS])
    if not len(steps):
        return None
    usual = np.median(steps)
    return round(float(1 / steps[np.abs(steps - usual) <= usual / 2].mean()), 6)
