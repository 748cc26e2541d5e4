"""How often the action of a segment was repeated, from the network's vectors: online, in constant memory.

Whoever repeats a movement leads the network's vector back and forth along one line, the first principal component of the
segment's vectors. A repetition is one way there and back: a swing beyond half a standard deviation on both sides of the
mean, a Schmitt trigger, so that noise about the mean counts nothing. That alone would count any slow wandering, too. So the
vectors must come back as well: at a lag of about one repetition they are more like themselves than vectors drawn at random,
as YIN has it for the pitch of a voice (de Cheveigné & Kawahara, YIN, a fundamental frequency estimator for speech and music,
JASA 111, 2002); else it is one action. Both limits were chosen on people of training (docs/results.md).

Nothing is reckoned until a count is told of. A frame costs one product for the whole batch, every fourth frame of a track;
what is kept of a track is its last half minute of such samples.

What comes back in less than a second the vectors hardly show: they are slower than a clap. Such a segment counts as one.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from poseline.errors import StateError
from poseline.skeleton import Floats

_EVERY = 4
"""Frames between two samples."""
_SAMPLES = 256
"""Samples kept of a track: 34 seconds at 30 frames a second."""
_SHADOWS = 16
"""Numbers kept of a vector."""
_LEAST = 15
"""Samples of two of the shortest repetitions that are seen: two seconds. What is shorter need not be looked at."""
_SMOOTH = 3
"""Samples of the running mean along the line."""
_SWING = 0.5
"""Standard deviations from the mean by which a swing goes beyond it."""
_RETURN = 0.9
"""Largest distance from one repetition to the next, as a share of what samples drawn at random have."""
_TEMPO = 0.3
"""Share by which the lag at which they are nearest may differ from the mean repetition."""


@cache
def _projection(width: int) -> Floats:
    """Vectors (…, width) → shadows (…, _SHADOWS): cosines over the channels, which are in no order, so that it is as good
    as a random projection (Johnson & Lindenstrauss 1984) and the same everywhere."""
    at, waves = np.arange(width)[:, None], np.arange(1, _SHADOWS + 1)
    return np.cos(np.pi * (2 * at + 1) * waves / (2 * width)).astype(np.float32)


class RepetitionCounter:
    """The vectors of up to `slots` tracks, each in its slot, and the count of any stretch that is still remembered.

    Frames count from a span's beginning; the caller knows how many of them a slot has been given.
    """

    def __init__(self, slots: int) -> None:
        self._ring = np.zeros((slots, _SAMPLES, _SHADOWS), np.float16)

    def push(self, slots: NDArray[np.int64], t: NDArray[np.int64], vectors: Floats) -> None:
        """Frame t (B,) of each of the (distinct) slots: finite vectors (B, D)."""
        due = np.flatnonzero(t % _EVERY == 0)
        if len(due):
            shadows = vectors[due] @ _projection(vectors.shape[1])
            self._ring[slots[due], t[due] // _EVERY % _SAMPLES] = shadows

    def count(self, slot: int, frames: int, start: int, end: int) -> int:
        """Repetitions from frame `start` to `end`, 1 or more, where the slot has been given so many frames.

        Of what lasted longer than is remembered, the beginning counts as if its pace had been that of the rest.
        """
        first, stop = _sample(start), _sample(min(end, frames))
        kept = max(first, _sample(frames) - _SAMPLES)
        if stop - kept < _LEAST:
            return 1
        found = repetitions(self._recall(slot, kept, stop))
        return found if found == 1 else round(found * (stop - first) / (stop - kept))

    def _recall(self, slot: int, first: int, stop: int) -> NDArray[np.float64]:
        return self._ring[slot, np.arange(first, stop) % _SAMPLES].astype(np.float64)

    def save(self, slot: int, frames: int, since: int) -> bytes:
        """What the slot holds of the frames from `since` on, where it has been given so many."""
        stop = _sample(frames)
        kept = max(_sample(max(since, 0)), stop - _SAMPLES)
        return self._ring[slot, np.arange(kept, stop) % _SAMPLES].astype("<f2").tobytes()

    def load(self, slot: int, frames: int, saved: bytes) -> None:
        """Continue a saved track that has been given so many frames. Raises StateError."""
        stop, row = _sample(frames), _SHADOWS * 2
        n = len(saved) // row
        samples = np.frombuffer(saved[: n * row], "<f2").reshape(n, _SHADOWS)
        if len(saved) % row or n > min(stop, _SAMPLES) or not np.isfinite(samples).all():
            raise StateError(f"the counter's part does not fit: {len(saved)} bytes after {frames} frames")
        self._ring[slot, np.arange(stop - n, stop) % _SAMPLES] = samples


def _sample(frame: int) -> int:
    """The first sample at or after a frame."""
    return -(-frame // _EVERY)


def repetitions(samples: NDArray[np.float64]) -> int:
    """How often what was sampled evenly, (T, D), was repeated; 1 where nothing comes back."""
    if not np.isfinite(samples).all():  # larger than a half can hold: nothing that a network of ours says
        return 1
    centred = samples - samples.mean(axis=0)
    found = there_and_back(centred)
    if found < 2:
        return 1
    T, lag = len(centred), len(centred) / found
    first, last = max(1, int(lag * (1 - _TEMPO))), min(T - 1, int(lag * (1 + _TEMPO)) + 1)
    return found if min(distances(centred, range(first, last + 1))) <= _RETURN else 1


def there_and_back(centred: NDArray[np.float64]) -> int:
    """Swings to both sides along the first principal component of (T, D), whose mean is 0."""
    _, axes = np.linalg.eigh(centred.T @ centred)
    along = np.convolve(centred @ axes[:, -1], np.full(_SMOOTH, 1 / _SMOOTH), "same")
    swing = _SWING * along.std()
    sides = (along > swing).astype(np.int64) - (along < -swing)
    sides = sides[sides != 0]
    return (1 + int(np.count_nonzero(np.diff(sides)))) // 2  # runs on one side, then on the other


def distances(centred: NDArray[np.float64], lags: Iterable[int]) -> list[float]:
    """Mean squared distance of samples so far apart, as a share of what independent ones would have: (T, D), lags < T."""
    energy = np.concatenate([[0.0], np.cumsum((centred**2).sum(axis=1))])
    T = len(centred)
    return [
        float(((centred[p:] - centred[:-p]) ** 2).sum() / max(energy[T] - energy[p] + energy[T - p], 1e-12))
        for p in lags
    ]
