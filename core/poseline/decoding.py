"""Scores in, decisions about segments out. Push only, vectorised over tracks and classes.

Per track and class: a region begins where the score crosses `off` upwards and is *open* once it has reached `on` (that is
the `started` event, with its start moved to the start boundary's peak nearby). It closes when the score has stayed below
`off` for more than `off_hang`; then it is final (its end moved to the end boundary's peak nearby), or retracted if it
was shorter than `min_duration`. Longer than `max_duration`: final by force, and a new region may begin.

The boundary heads know better than a threshold. Whoever kicks twice in a row may never let the score of a kick fall: where
start and end both peak inside an open region, it is cut there, final, and the next of its class has begun. And a score may
linger: where the end has peaked and the score is below `on`, the region is closed without waiting for `off`.

When an open region is *told* of is a question of its own: as it opens, or once there is `evidence` enough for it. Nothing
else depends on that, so finals are the same to the last bit; what ends before it was told of is final directly, or never
heard of.

One `SegmentDecoder` decodes many tracks side by side, each in its slot with its own options. A frame costs a fixed number
of array operations for the whole batch, over the classes that are alive in it; only a decision, which is rare, costs
Python. A final is decided once. Nothing is held of a region but its running sums, so the decoder never grows.

Not thread-safe, but slots are independent: whoever touches different slots does not disturb.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from poseline.errors import StateError
from poseline.evidence import gathered, log_odds
from poseline.segments import Forced, Phase
from poseline.skeleton import Flags, Floats

_BORDER_REACH = 10
"""Frames around a border in which the boundary head is looked up, as far as they have been seen."""
_BORDER_PEAK = 0.25
"""Least boundary probability that moves a border: below it the head says nothing."""
_PEAK = 0.4
"""Least boundary probability that ends an open segment, or cuts it in two."""
_WAIT = 5
"""Frames on either side in which such a peak must be the highest: it is known to be one so much later."""
_LATE_END = 2
"""Frames by which the end's peak may come after that of the next start."""
_MEMORY = 64
"""Frames of boundary probabilities kept: more than two reaches and the longest `off_hang`."""

_REGION = np.dtype(
    [
        ("start", "<i8"),
        ("border", "<i8"),  # refined start, set when the segment opens
        ("last", "<i8"),  # last frame at or above off_score
        ("due", "<i8"),  # frame at which there is something to say of an open segment: an update, or its forced end
        ("key", "<i8"),
        ("total", "<f8"),
        ("total_at_last", "<f8"),
        ("peak", "<f4"),
        ("evidence", "<f4"),
        ("onset", "<f8"),  # what the start border makes of an announcement's score, set when the segment opens
        ("open", "?"),
        ("told", "?"),
    ]
)
_NEVER = np.iinfo(np.int64).max


class Thresholds(BaseModel):
    """min_score and off_score of one class."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_score: float = Field(gt=0, le=1)
    off_score: float = Field(gt=0, le=1)

    @model_validator(mode="after")
    def _ordered(self) -> Thresholds:
        if self.off_score > self.min_score:
            raise ValueError(f"off_score {self.off_score} is above min_score {self.min_score}")
        return self


class DecodingOptions(BaseModel):
    """How scores become segments. Durations in seconds.

    min_score: score that opens a segment. off_score: score below which it begins to close.
    min_duration: a score that holds less long is retracted. off_hang: how long a score may dip without ending the
    segment. max_duration: a score that holds longer is cut. Both are of the scores' own span; the boundary head then
    moves each border by a third of a second at the most. evidence: nats that must have come together for a segment before
    its start is told; 0 tells it as it opens, and finals do not depend on it. updates: seconds between `updated` events; 0
    means none. thresholds: by class name, where a class has scores of its own to open and close at.

    The defaults were chosen on people left out of training (docs/results.md).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_score: float = Field(default=0.5, gt=0, le=1)
    off_score: float = Field(default=0.3, gt=0, le=1)
    min_duration: float = Field(default=18 / 30, ge=0, le=60)
    off_hang: float = Field(default=3 / 30, ge=0, le=1.5)
    max_duration: float = Field(default=60.0, gt=0, le=3600)
    evidence: float = Field(default=0.0, ge=0, le=1000)
    updates: float = Field(default=0.0, ge=0, le=60)
    thresholds: dict[str, Thresholds] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _ordered(self) -> DecodingOptions:
        if self.off_score > self.min_score:
            raise ValueError(f"off_score {self.off_score} is above min_score {self.min_score}")
        if self.min_duration > self.max_duration:
            raise ValueError(f"min_duration {self.min_duration} is above max_duration {self.max_duration}")
        return self


@dataclass(frozen=True, slots=True)
class Decision:
    """One phase of one segment, in frames of its span (half-open); `label` is the class index."""

    phase: Phase
    key: int
    label: int
    start: int
    end: int
    score: float
    decided: int
    forced: Forced = "none"


class DecoderState(Struct, frozen=True, omit_defaults=True):
    """What one slot holds, to travel: options are its owner's affair. enrolled: names of those of its classes that the model
    was not trained for, which may stand elsewhere where it travels to."""

    t: int
    keys: int
    boundaries: bytes
    classes: list[int]
    regions: bytes
    enrolled: dict[int, str] = {}


class SegmentDecoder:
    """The decoder of up to `slots` tracks. classes: number of classes without background, at the most."""

    def __init__(self, slots: int, classes: int, fps: float = 30.0) -> None:
        self.fps = fps
        self._t = np.zeros(slots, np.int64)
        self._keys = np.zeros(slots, np.int64)
        self._on = np.zeros((slots, classes), np.float32)
        self._off = np.zeros((slots, classes), np.float32)
        self._uneven = False
        """Some slot has thresholds of a class' own."""
        self._needed = np.zeros(slots, np.float32)
        """Evidence before a start is told, and the log odds at which a score is none."""
        self._neutral = np.zeros((slots, classes), np.float32)
        self._patient = False
        """Some slot needs evidence, or holds what is open and has not been told."""
        self._hang = np.zeros(slots, np.int64)
        self._lengths = np.zeros((slots, 3), np.int64)
        """Frames: the least that a segment lasts, the most, and how often it is told of (0: never)."""
        self._allowed = np.ones((slots, classes), np.bool_)
        self._choosy = False
        """Some slot allows not every class."""
        self._active = np.zeros((slots, classes), np.bool_)
        self._regions = np.zeros((slots, classes), _REGION)
        self._boundaries = np.zeros((slots, _MEMORY, 2), np.float32)

    def open(
        self, slot: int, options: DecodingOptions, allowed: Flags | None = None, names: Sequence[str] = ()
    ) -> None:
        """Give the slot to a new track. allowed: (K,) which classes may be decided; None means all. names: of the classes,
        by which `options.thresholds` calls them; who is not among them has none of its own."""
        self._keys[slot] = 0
        self.restart(slot)
        self.adjust(slot, options, allowed, names)

    def adjust(
        self, slot: int, options: DecodingOptions, allowed: Flags | None = None, names: Sequence[str] = ()
    ) -> None:
        """Other options from the next frame on. What is open stays open and ends by them."""
        self._on[slot], self._off[slot] = options.min_score, options.off_score
        for k, name in enumerate(names if options.thresholds else ()):
            if own := options.thresholds.get(name):
                self._on[slot, k], self._off[slot, k] = own.min_score, own.off_score
                self._uneven = True
        self._needed[slot], self._neutral[slot] = options.evidence, log_odds(self._on[slot])
        self._patient |= options.evidence > 0
        self._hang[slot] = round(options.off_hang * self.fps)
        least, most, update = options.min_duration, options.max_duration, options.updates
        self._lengths[slot] = round(least * self.fps), max(1, round(most * self.fps)), round(update * self.fps)
        self._choosy |= allowed is not None
        self._allowed[slot] = True if allowed is None else allowed
        self._regions["due"][slot] = 0  # when there is something to say of what is open is reckoned anew

    def restart(self, slot: int) -> None:
        """Begin a new span: nothing before it counts, but no key of the track comes twice."""
        self._t[slot] = 0
        self._active[slot] = False

    def frames(self, slots: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many frames of its span each slot has been given: (B,)."""
        return self._t[slots]

    def push(self, slots: NDArray[np.int64], scores: Floats, boundaries: Floats) -> list[tuple[int, Decision]]:
        """One frame of each of the (distinct) slots → decisions, each with its row.

        scores (B, 1 + K) with background first, of as many classes as have ever answered, boundaries (B, 2) = start and end
        probability. What is decided of one track comes in order; the order of tracks means nothing.
        """
        t = self._t[slots]
        self._t[slots] = t + 1
        self._boundaries[slots, t % _MEMORY] = boundaries
        K = scores.shape[1] - 1
        above = scores[:, 1:] >= (self._off[:, :K] if self._uneven else self._off[:, :1])[slots]
        if self._choosy:
            above &= self._allowed[:, :K][slots]
        rows, k = np.nonzero(above | self._active[:, :K][slots])
        if not len(rows):
            return []
        peaks = self._peaks(slots, t)
        return self._follow(
            slots, rows, k, t[rows], above[rows, k], scores[rows, k + 1], None if peaks is None else peaks[:, rows]
        )

    def _peaks(self, slots: NDArray[np.int64], t: NDArray[np.int64]) -> Flags | None:
        """(2, B) where `_WAIT` frames ago one action ended and another began, and where one ended; None: nowhere."""
        then = t - _WAIT
        likely = np.flatnonzero((self._boundaries[slots, then % _MEMORY] >= _PEAK).any(axis=1) & (then > 0))
        if not len(likely):
            return None
        found = np.zeros((2, len(slots)), np.bool_)
        for i in likely.tolist():
            slot, at = int(slots[i]), int(then[i])
            if self._is_peak(slot, 0, at):
                found[0, i] = self._recall(slot, 1, at - _BORDER_REACH, at + _LATE_END + 1).max() >= _PEAK
            found[1, i] = self._is_peak(slot, 1, at)
        return found

    def _is_peak(self, slot: int, side: int, at: int) -> bool:
        """Whether the boundary of that frame is high and the highest within `_WAIT` frames; of a plateau, its end."""
        here = self._boundaries[slot, at % _MEMORY, side]
        before, after = self._recall(slot, side, at - _WAIT, at), self._recall(slot, side, at + 1, at + _WAIT + 1)
        return bool(here >= _PEAK and here >= before.max() and here > after.max())

    def _follow(
        self,
        slots: NDArray[np.int64],
        rows: NDArray[np.int64],
        k: NDArray[np.int64],
        t: NDArray[np.int64],
        above: Flags,
        p: Floats,
        peaks: Flags | None,
    ) -> list[tuple[int, Decision]]:
        """One frame more of the regions alive: every argument but `slots` and `peaks` (N,), an entry for each of them."""
        at = slots[rows]
        region = self._regions[at, k]
        fresh = above & ~self._active[at, k]
        if fresh.any():
            self._active[at[fresh], k[fresh]] = True
            region[fresh] = 0
            region["start"][fresh] = t[fresh]
        region["total"] += p
        np.maximum(region["peak"], p, out=region["peak"])
        np.copyto(region["last"], t, where=above)
        np.copyto(region["total_at_last"], region["total"], where=above)
        if self._patient:
            region["evidence"] = gathered(region["evidence"], p, self._neutral[at, k])
        self._regions[at, k] = region

        ends = t - region["last"] > self._hang[at]
        high = p >= self._on[at, k]
        begins = high & above & ~region["open"]
        due = region["open"] & (t >= region["due"])
        tells = begins
        if self._patient:
            tells = above & (begins | region["open"] & ~region["told"]) & (region["evidence"] >= self._needed[at])
        decisions: list[tuple[int, Decision]] = []
        if peaks is not None:
            cuts, closes = peaks & region["open"] & (t - _WAIT - region["border"] >= self._lengths[at, 0])
            for i in np.flatnonzero(cuts & high):
                decisions += self._cut(int(rows[i]), at[i], k[i], float(p[i]))
                tells[i] = False
            for i in np.flatnonzero(closes & ~high & ~ends):
                decisions += self._close(rows[i], at[i], k[i], int(min(region["last"][i] + 1, t[i] - _WAIT)), "none")
                due[i] = tells[i] = False
        if not (ends | begins | due | tells).any():
            return decisions
        for i in np.flatnonzero(ends):
            decisions += self._close(rows[i], at[i], k[i], int(region["last"][i]) + 1, "none")
        for i in np.flatnonzero(begins):
            self._begin(at[i], k[i])
        for i in np.flatnonzero(tells):
            decisions.append((int(rows[i]), self._announce(at[i], k[i], float(p[i]))))
        for i in np.flatnonzero((due | begins) & ~ends):
            decisions += self._remind(rows[i], at[i], k[i])
        return decisions

    def flush(self, slot: int, forced: Forced) -> list[Decision]:
        """Close whatever is open in the slot, now: the finals say why. Regions that never opened are forgotten."""
        decisions: list[Decision] = []
        for k in np.flatnonzero(self._active[slot]).tolist():
            decisions += (one for _, one in self._close(0, slot, k, int(self._regions[slot, k]["last"]) + 1, forced))
        return decisions

    # --- one region ---------------------------------------------------------------------------------------------------

    def _begin(self, slot: int, k: int) -> None:
        region, t = self._regions[slot, k], int(self._t[slot]) - 1
        start = int(region["start"])
        first = max(0, start - _BORDER_REACH)
        others = self._regions[slot][self._active[slot]]
        if others["open"].any():  # a new action cannot have begun before the newest open one
            first = max(first, int(others["border"][others["open"]].max()))
        stop = min(t, start + _BORDER_REACH) + 1
        border = min(self._peak_frame(slot, 0, first, stop, start), t)
        region["border"], region["key"] = border, self._keys[slot]
        self._keys[slot] += 1
        window = self._recall(slot, 0, max(0, t - _BORDER_REACH), t + 1)
        region["onset"] = _onset(float(window.max(initial=0)))
        region["open"], region["told"] = True, False

    def _announce(self, slot: int, k: int, p: float) -> Decision:
        region, t = self._regions[slot, k], int(self._t[slot]) - 1
        region["told"] = True
        score = p * float(region["onset"])
        return Decision("started", int(region["key"]), int(k) + 1, int(region["border"]), t + 1, score, t)

    def _cut(self, row: int, slot: int, k: int, p: float) -> list[tuple[int, Decision]]:
        """The open segment ends where the next one of its class has begun, `_WAIT` frames ago."""
        region, t = self._regions[slot, k], int(self._t[slot]) - 1
        begin, label = t - _WAIT, int(k) + 1
        start, border = int(region["start"]), int(region["border"])
        end = self._peak_frame(slot, 1, max(border + 2, begin - _BORDER_REACH), begin, begin)
        mean, peak = float(region["total"]) / (t + 1 - start), float(region["peak"])
        score = min(1.0, mean * peak)
        ended = Decision("final", int(region["key"]), label, border, max(end, border + 1), score, t)
        key = int(self._keys[slot])
        self._keys[slot] = key + 1
        total = p * (_WAIT + 1)  # the score's course since then is not kept; it is what it is now
        region["start"], region["border"], region["key"], region["peak"] = begin, begin, key, p
        region["total"], region["total_at_last"], region["last"], region["due"] = total, total, t, 0
        region["onset"] = _onset(float(self._boundaries[slot, begin % _MEMORY, 0]))
        region["evidence"] = max(0.0, float(log_odds(p) - self._neutral[slot, k])) * (_WAIT + 1)
        region["told"] = False
        if region["evidence"] < self._needed[slot]:
            return [(row, ended)]
        return [(row, ended), (row, self._announce(slot, k, p))]

    def _remind(self, row: int, slot: int, k: int) -> list[tuple[int, Decision]]:
        """An open segment's update or forced end, if it is time for one; and when it will be."""
        region, t = self._regions[slot, k], int(self._t[slot]) - 1
        _, most, update = self._lengths[slot].tolist()
        start = int(region["start"])
        age = t + 1 - start
        told: list[tuple[int, Decision]] = []
        if update and age % update == 0 and region["told"]:
            mean, border = float(region["total"]) / age, int(region["border"])
            told.append((int(row), Decision("updated", int(region["key"]), int(k) + 1, border, t + 1, mean, t)))
        if age >= most:
            return told + self._close(row, slot, k, t + 1, "max_duration")
        next_update = age // update * update + update if update else _NEVER
        self._regions[slot, k]["due"] = start + min(most, next_update) - 1
        return told

    def _close(self, row: int, slot: int, k: int, end: int, forced: Forced) -> list[tuple[int, Decision]]:
        region, t = self._regions[slot, k].copy(), int(self._t[slot]) - 1
        self._active[slot, k] = False
        self._regions[slot, k]["open"] = False
        if not region["open"]:
            return []
        start, border, key, peak = (region[name].item() for name in ("start", "border", "key", "peak"))
        label = int(k) + 1
        if end - start < self._lengths[slot, 0]:
            return (
                []
                if not region["told"]
                else [(int(row), Decision("retracted", key, label, border, end, peak, t, forced))]
            )
        mean = float(region["total_at_last"]) / (int(region["last"]) + 1 - start)
        if forced == "none":
            end = self._peak_frame(slot, 1, max(border + 2, end - _BORDER_REACH), t, end)
        end = max(end, border + 1)
        return [(int(row), Decision("final", key, label, border, end, min(1.0, mean * peak), t, forced))]

    def _recall(self, slot: int, side: int, first: int, stop: int) -> Floats:
        first = max(first, int(self._t[slot]) - _MEMORY, 0)
        return self._boundaries[slot, np.arange(first, max(stop, first)) % _MEMORY, side]

    def _peak_frame(self, slot: int, side: int, first: int, stop: int, otherwise: int) -> int:
        """The frame in [first, stop) where the boundary head peaks, or `otherwise` where it says nothing."""
        first = max(first, int(self._t[slot]) - _MEMORY, 0)
        window = self._recall(slot, side, first, stop)
        if len(window) == 0 or window.max() < _BORDER_PEAK:
            return otherwise
        return first + int(window.argmax())

    # --- to travel ----------------------------------------------------------------------------------------------------

    def save(self, slot: int) -> DecoderState:
        """All that the slot holds of its track."""
        alive = np.flatnonzero(self._active[slot])
        return DecoderState(
            int(self._t[slot]),
            int(self._keys[slot]),
            self._boundaries[slot].astype("<f4").tobytes(),
            alive.tolist(),
            self._regions[slot, alive].tobytes(),
        )

    def load(self, slot: int, state: DecoderState) -> None:
        """Continue a saved track in a slot that was opened for it. Raises StateError."""
        K, N = self._active.shape[1], len(state.classes)
        fits = len(state.boundaries) == _MEMORY * 2 * 4 and len(state.regions) == N * _REGION.itemsize
        counts = (state.t, state.keys)
        if not fits or not all(0 <= count < 2**62 for count in counts) or any(not 0 <= k < K for k in state.classes):
            raise StateError(f"the decoder's part does not fit: {N} regions, of {K} classes here")
        self._t[slot], self._keys[slot] = state.t, state.keys
        self._boundaries[slot] = np.frombuffer(state.boundaries, "<f4").reshape(_MEMORY, 2)
        self._active[slot] = False
        self._active[slot, state.classes] = True
        self._regions[slot, state.classes] = regions = np.frombuffer(state.regions, _REGION)
        self._patient |= bool((regions["open"] & ~regions["told"]).any())


def _onset(border: float) -> float:
    """What a score counts as that of a start, by the probability of the start border about now."""
    return 0.3 + 0.7 * border
