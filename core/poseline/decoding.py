"""Scores in, decisions about segments out. Push only, vectorised over the classes.

Per class: a region begins where its score crosses `off` upwards and is *open* once it has reached `on` (that is the
`started` event, with its start moved to the start boundary's peak nearby). It closes when the score has stayed below
`off` for more than `off_hang`; then it is final (its end moved to the end boundary's peak nearby), or retracted if it
was shorter than `min_duration`. Longer than `max_duration`: final by force, and a new region may begin.

A final is decided once. The decoder holds nothing of a region but its running sums, so its size never grows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from poseline.segments import Forced, Phase
from poseline.skeleton import Floats

_BORDER_REACH = 10
"""Frames around a border in which the boundary head is looked up, as far as they have been seen."""
_BORDER_PEAK = 0.25
"""Least boundary probability that moves a border: below it the head says nothing."""
_MEMORY = 64
"""Frames of boundary probabilities kept: more than two reaches and the longest `off_hang`."""


class DecodingOptions(BaseModel):
    """How scores become segments. Durations in seconds.

    min_score: score that opens a segment. off_score: score below which it begins to close.
    min_duration: a score that holds less long is retracted. off_hang: how long a score may dip without ending the
    segment. max_duration: a score that holds longer is cut. Both are of the scores' own span; the boundary head then
    moves each border by a third of a second at the most. updates: seconds between `updated` events; 0 means none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_score: float = Field(default=0.4, gt=0, le=1)
    off_score: float = Field(default=0.2, gt=0, le=1)
    min_duration: float = Field(default=16 / 30, ge=0, le=60)
    off_hang: float = Field(default=3 / 30, ge=0, le=1.5)
    max_duration: float = Field(default=60.0, gt=0, le=3600)
    updates: float = Field(default=0.0, ge=0, le=60)

    @model_validator(mode="after")
    def _ordered(self) -> DecodingOptions:
        if self.off_score > self.min_score:
            raise ValueError(f"off_score {self.off_score} is above min_score {self.min_score}")
        if self.min_duration > self.max_duration:
            raise ValueError(f"min_duration {self.min_duration} is above max_duration {self.max_duration}")
        return self


@dataclass(frozen=True, slots=True)
class Decision:
    """One phase of one segment, in frames of the decoder's own count (half-open); `label` is the class index."""

    phase: Phase
    key: int
    label: int
    start: int
    end: int
    score: float
    decided: int
    forced: Forced = "none"


class SegmentDecoder:
    """The decoder of one track.

    classes: number of classes without background. allowed: (K,) which of them may be decided; None means all.
    """

    def __init__(
        self,
        classes: int,
        fps: float = 30.0,
        options: DecodingOptions | None = None,
        allowed: NDArray[np.bool_] | None = None,
    ) -> None:
        options = options or DecodingOptions()
        self.options = options
        self._allowed = allowed
        self._min = round(options.min_duration * fps)
        self._hang = round(options.off_hang * fps)
        self._max = max(1, round(options.max_duration * fps))
        self._update = round(options.updates * fps)
        self._keys = 0
        self._t = 0
        self._active = np.zeros(classes, np.bool_)
        self._open = np.zeros(classes, np.bool_)
        self._start = np.zeros(classes, np.int64)
        self._border = np.zeros(classes, np.int64)  # refined start, set when the segment opens
        self._last = np.zeros(classes, np.int64)  # last frame at or above off_score
        self._key = np.zeros(classes, np.int64)
        self._total = np.zeros(classes, np.float64)
        self._total_at_last = np.zeros(classes, np.float64)
        self._peak = np.zeros(classes, np.float32)
        self._boundaries = np.zeros((_MEMORY, 2), np.float32)

    def push(self, scores: Floats, boundaries: Floats) -> list[Decision]:
        """One frame: scores (1 + K,) with background first, boundaries (2,) = start and end probability."""
        t = self._t
        self._t += 1
        self._boundaries[t % _MEMORY] = boundaries
        p = scores[1:]
        above = p >= self.options.off_score
        if self._allowed is not None:
            above &= self._allowed
        if not above.any() and not self._active.any():
            return []
        fresh = above & ~self._active
        self._start[fresh] = t
        self._total[fresh] = 0
        self._peak[fresh] = 0
        self._active |= above
        self._total += p
        np.maximum(self._peak, p, out=self._peak)
        self._last[above] = t
        self._total_at_last[above] = self._total[above]

        decisions: list[Decision] = []
        for k in np.flatnonzero(self._active & (t - self._last > self._hang)):
            decisions += self._close(int(k), int(self._last[k]) + 1, "none")
        for k in np.flatnonzero(above & (p >= self.options.min_score) & ~self._open):
            decisions.append(self._begin(int(k), float(p[k])))
        if self._update:
            due = self._open & ((t - self._start) % self._update == self._update - 1)
            decisions += [self._so_far(int(k)) for k in np.flatnonzero(due)]
        for k in np.flatnonzero(self._open & (self._t - self._start >= self._max)):
            decisions += self._close(int(k), self._t, "max_duration")
        return decisions

    def flush(self, forced: Forced) -> list[Decision]:
        """Close whatever is open, now: the finals say why. Regions that never opened are forgotten."""
        decisions: list[Decision] = []
        for k in np.flatnonzero(self._active):
            decisions += self._close(int(k), int(self._last[k]) + 1, forced)
        return decisions

    def _begin(self, k: int, p: float) -> Decision:
        t = self._t - 1
        start = int(self._start[k])
        first = max(0, start - _BORDER_REACH)
        if self._open.any():  # a new action cannot have begun before the newest open one
            first = max(first, int(self._border[self._open].max()))
        stop = min(t, start + _BORDER_REACH) + 1
        self._border[k] = min(self._peak_frame(0, first, stop, start), t)
        self._key[k] = self._keys
        self._keys += 1
        self._open[k] = True
        # How sure the network is that an action of this class begins about now: the score, weighed by the start border.
        score = p * (0.3 + 0.7 * self._peak_value(0, max(0, t - _BORDER_REACH), t + 1))
        return Decision("started", int(self._key[k]), k + 1, int(self._border[k]), t + 1, score, t)

    def _so_far(self, k: int) -> Decision:
        t = self._t - 1
        mean = float(self._total[k]) / max(1, t + 1 - int(self._start[k]))
        return Decision("updated", int(self._key[k]), k + 1, int(self._border[k]), t + 1, mean, t)

    def _close(self, k: int, end: int, forced: Forced) -> list[Decision]:
        opened, start = bool(self._open[k]), int(self._start[k])
        self._active[k] = self._open[k] = False
        if not opened:
            return []
        border, t = int(self._border[k]), self._t - 1
        if end - start < self._min:
            score = float(self._peak[k])
            return [Decision("retracted", int(self._key[k]), k + 1, border, end, score, t, forced)]
        mean = float(self._total_at_last[k]) / (end - start)
        score = min(1.0, mean * float(self._peak[k]))
        if forced == "none":
            end = self._peak_frame(1, max(border + 2, end - _BORDER_REACH), t, end)
        end = max(end, border + 1)
        return [Decision("final", int(self._key[k]), k + 1, border, end, score, t, forced)]

    def _recall(self, side: int, first: int, stop: int) -> Floats:
        first = max(first, self._t - _MEMORY, 0)
        return self._boundaries[np.arange(first, max(stop, first)) % _MEMORY, side]

    def _peak_value(self, side: int, first: int, stop: int) -> float:
        window = self._recall(side, first, stop)
        return float(window.max()) if len(window) else 0.0

    def _peak_frame(self, side: int, first: int, stop: int, otherwise: int) -> int:
        """The frame in [first, stop) where the boundary head peaks, or `otherwise` where it says nothing."""
        first = max(first, self._t - _MEMORY, 0)
        window = self._recall(side, first, stop)
        if len(window) == 0 or window.max() < _BORDER_PEAK:
            return otherwise
        return first + int(window.argmax())
