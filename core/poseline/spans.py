"""From a network's answers to events on the media clock: which frame each answer is about, and when that was known.

A network with a look-ahead of L frames answers frame t of a span with the scores of frame t - L. One rule follows from that,
for streams and for whole recordings, and this is its home. The first L answers of a span are about nothing and are not told.
At an end (of the span, of the track, a flush) the last pose is held: the network is given it L times more, and what it
answers is about the last L frames, so nothing at the end is lost. A stream that goes on after a flush goes on from the poses
that were seen, never from held ones; the frames that a flush has told of are not told of again.

A segment's start and end, and a score's time, are those of the frames that they are about; `decided` is the time of the
newest frame seen, so measured delays include the look-ahead. Without look-ahead, all of this is nothing.

Not thread-safe, but slots are independent: whoever touches different slots does not disturb.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from poseline.decoding import Decision, DecoderState, DecodingOptions, SegmentDecoder
from poseline.enrolment import Vocabulary
from poseline.errors import StateError
from poseline.segments import Forced, SegmentEvent
from poseline.skeleton import Flags, Floats
from poseline.stepping import Slots


class Step(Struct, frozen=True):
    """What one frame of each of some tracks led to, or the end of one.

    scores: (N, 1 + K); rows, times: whose each of them is, and the media time of the frame that it is about. events: each
    with its row; those of one row in order. spoilt: rows whose scores are not finite (told as zeros), so that nothing which
    their slots say from here on can be trusted.
    """

    rows: Sequence[int]
    times: Sequence[float]
    scores: Floats
    events: list[tuple[int, SegmentEvent]]
    spoilt: list[int]


class SpanDecoder:
    """The decoder of up to `slots` tracks behind a network with that look-ahead (frames)."""

    def __init__(self, vocabulary: Vocabulary, slots: int, look_ahead: int) -> None:
        self._vocabulary = vocabulary
        self._fps = vocabulary.manifest.fps
        self._look_ahead = look_ahead
        self._decoder = SegmentDecoder(slots, len(vocabulary.names) - 1, self._fps)
        self._origin = np.zeros(slots, np.float64)
        """Media time of the span's first frame."""
        self._silent = np.full(slots, look_ahead, np.int64)
        """Answers to come that are about no frame, or about one that was told of."""

    def open(self, slot: int, options: DecodingOptions, allowed: Flags | None = None) -> None:
        """Give the slot to a new track, whose first span is still to begin."""
        self._decoder.open(slot, options, allowed, self._vocabulary.names[1:])
        self._silent[slot] = self._look_ahead

    def adjust(self, slot: int, options: DecodingOptions, allowed: Flags | None = None) -> None:
        """Other options from the next frame that is decided."""
        self._decoder.adjust(slot, options, allowed, self._vocabulary.names[1:])

    def begin(self, slot: int, t: float) -> None:
        """A new span, whose first frame is at media time t. What was open must have been finished."""
        self._decoder.restart(slot)
        self._origin[slot] = t
        self._silent[slot] = self._look_ahead

    def unheard(self, slot: int) -> int:
        """Frames seen whose scores have not come yet; at most the look-ahead."""
        return self._look_ahead - int(self._silent[slot])

    def push(self, slots: Slots, times: Sequence[float], scores: Floats, boundaries: Floats) -> Step:
        """What the network answers to one frame of each of the (distinct) slots: scores (B, 1 + K), boundaries (B, 2).

        times: media times of the frames that are answered.
        """
        scores, boundaries, spoilt = _finite(scores, boundaries)
        if self._look_ahead:
            return self._push_late(slots, scores, boundaries, spoilt)
        decided = self._decoder.push(slots, scores, boundaries)
        events = [(row, self._event(int(slots[row]), one, one.decided)) for row, one in decided]
        return Step(range(len(times)), times, scores, events, spoilt)

    def _push_late(self, slots: Slots, scores: Floats, boundaries: Floats, spoilt: list[int]) -> Step:
        silent = self._silent[slots]
        self._silent[slots] = np.maximum(silent - 1, 0)
        heard = np.flatnonzero(silent == 0)
        slots, scores = slots[heard], scores[heard]
        times, rows = self._times(slots), heard.tolist()
        decided = self._decoder.push(slots, scores, boundaries[heard])
        events = [(rows[n], self._event(int(slots[n]), one, one.decided + self._look_ahead)) for n, one in decided]
        return Step(rows, times, scores, events, spoilt)

    def finish(self, slot: int, held: tuple[Floats, Floats] | None, forced: Forced) -> Step:
        """Close what is open; the slot may be pushed to afterwards. All that is told has row 0.

        held: what the network answers where the last pose is held for `look_ahead` frames, scores (L, 1 + K) and boundaries
        (L, 2); needed where something is unheard.
        """
        unheard, alone = self.unheard(slot), np.array([slot])
        newest = int(self._decoder.frames(alone)[0]) + unheard - 1
        times: list[float] = []
        decided: list[tuple[int, Decision]] = []
        scores, spoilt = np.zeros((0, len(self._vocabulary.own)), np.float32), list[int]()
        if unheard:
            assert held is not None, "frames that were seen have no scores yet"
            scores, boundaries, spoilt = _finite(held[0][-unheard:], held[1][-unheard:])
            for n in range(unheard):
                times += self._times(alone)
                decided += self._decoder.push(alone, scores[n : n + 1], boundaries[n : n + 1])
            self._silent[slot] = self._look_ahead
        ended = [one for _, one in decided] + self._decoder.flush(slot, forced)
        events = [(0, self._event(slot, one, newest)) for one in ended]
        return Step([0] * unheard, times, scores, events, [0] if spoilt else [])

    def _times(self, slots: Slots) -> list[float]:
        """Media time of the frame of each slot that is decided next."""
        return (self._origin[slots] + self._decoder.frames(slots) / self._fps).tolist()

    def _event(self, slot: int, one: Decision, decided: int) -> SegmentEvent:
        """A decision in frames, as an event in seconds; decided: the newest frame seen."""
        fps, origin = self._fps, float(self._origin[slot])
        return SegmentEvent(
            one.phase,
            one.key,
            self._vocabulary.names[one.label],
            one.label,
            origin + one.start / fps,
            origin + one.end / fps,
            one.score,
            origin + decided / fps,
            one.forced,
        )

    # --- to travel ----------------------------------------------------------------------------------------------------

    def save(self, slot: int) -> tuple[float, int, DecoderState]:
        """All that the slot holds of its track: origin of the span, silent answers to come, decoder."""
        decoder = self._decoder.save(slot)
        own = len(self._vocabulary.own) - 1
        enrolled = {k: self._vocabulary.names[k + 1] for k in decoder.classes if k >= own}
        return float(self._origin[slot]), int(self._silent[slot]), replace(decoder, enrolled=enrolled)

    def load(self, slot: int, origin: float, silent: int, decoder: DecoderState) -> None:
        """Continue a saved track in a slot that was opened for it. Raises StateError."""
        if not isfinite(origin):
            raise StateError(f"the span begins at {origin}")
        if not 0 <= silent <= self._look_ahead:
            raise StateError(f"{silent} answers are to be silent, of a look-ahead of {self._look_ahead}")
        self._decoder.load(slot, self._here(decoder))
        self._origin[slot], self._silent[slot] = origin, silent

    def _here(self, decoder: DecoderState) -> DecoderState:
        """With the enrolled classes where they are here; what is open of one that is not, is forgotten."""
        if not decoder.enrolled:
            return decoder
        size, classes, regions = len(decoder.regions) // max(1, len(decoder.classes)), list[int](), b""
        for n, k in enumerate(decoder.classes):
            name = decoder.enrolled.get(k)
            label = k + 1 if name is None else self._vocabulary.find(name)
            if label is not None:
                classes.append(label - 1)
                regions += decoder.regions[n * size : (n + 1) * size]
        return replace(decoder, classes=classes, regions=regions)


def _finite(scores: Floats, boundaries: Floats) -> tuple[Floats, Floats, list[int]]:
    """Scores and boundaries with zeros in the rows that hold what is not finite; and those rows."""
    if isfinite(scores.sum() + boundaries.sum()):
        return scores, boundaries, []
    spoilt = np.flatnonzero(~np.isfinite(scores).all(axis=1) | ~np.isfinite(boundaries).all(axis=1)).tolist()
    scores, boundaries = scores.copy(), boundaries.copy()
    scores[spoilt], boundaries[spoilt] = 0, 0
    return scores, boundaries, spoilt
