"""Repetitions: moving to and fro is counted, wandering is not; slots, memory, travel."""

import numpy as np
import pytest

from poseline.counting import RepetitionCounter
from poseline.errors import StateError

WIDTH = 128
RNG = np.random.default_rng(3)
AXES = RNG.standard_normal((3, WIDTH)).astype(np.float32)


def turns(n: int, period: int, noise: float = 0.1) -> np.ndarray:
    """(n · period, WIDTH) a vector that goes round n times, its second harmonic included."""
    at = np.arange(n * period) * 2 * np.pi / period
    along = np.stack([np.cos(at), 0.5 * np.sin(at), 0.4 * np.cos(2 * at)], axis=1).astype(np.float32)
    return along @ AXES + noise * RNG.standard_normal((len(at), WIDTH)).astype(np.float32)


def feed(counter: RepetitionCounter, slot: int, vectors: np.ndarray, first: int = 0) -> int:
    slots = np.array([slot])
    for n, vector in enumerate(vectors):
        counter.push(slots, np.array([first + n]), vector[None])
    return first + len(vectors)


def counted(vectors: np.ndarray) -> int:
    counter = RepetitionCounter(1)
    return counter.count(0, feed(counter, 0, vectors), 0, len(vectors))


@pytest.mark.parametrize("period", [40, 75, 120])
def test_turns_are_counted(period: int) -> None:
    assert [counted(turns(n, period)) for n in range(1, 9)] == list(range(1, 9))


def test_a_changing_tempo_and_a_slow_drift_do_not_disturb() -> None:
    vectors = np.concatenate([turns(1, period) for period in (60, 70, 55, 80, 65)])
    drift = np.linspace(0, 1, len(vectors), dtype=np.float32)[:, None] * RNG.standard_normal(WIDTH).astype(np.float32)
    assert counted(vectors + drift) == 5


def test_what_does_not_come_back_happened_once() -> None:
    noise = RNG.standard_normal((600, WIDTH)).astype(np.float32)
    still = np.ones((300, WIDTH), np.float32)
    once = np.linspace(0, 1, 90, dtype=np.float32)[:, None] * AXES[0]
    assert [counted(one) for one in (noise, np.cumsum(noise, axis=0), still, once, turns(1, 12), still[:0])] == [1] * 6


def test_only_the_stretch_asked_for_is_counted() -> None:
    counter = RepetitionCounter(1)
    frames = feed(counter, 0, np.concatenate([turns(2, 90), turns(6, 60), turns(1, 100)]))
    assert counter.count(0, frames, 180, 540) == 6


def test_slots_side_by_side_are_what_each_is_alone() -> None:
    streams = [turns(n, 48) for n in (3, 5, 8)]
    together, offsets = RepetitionCounter(4), [0, 7, 30]
    for t in range(max(map(len, streams)) + max(offsets)):
        rows = [i for i, one in enumerate(streams) if 0 <= t - offsets[i] < len(one)]
        if rows:
            vectors = np.stack([streams[i][t - offsets[i]] for i in rows])
            together.push(np.array(rows) + 1, np.array([t - offsets[i] for i in rows]), vectors)
    assert [together.count(i + 1, len(one), 0, len(one)) for i, one in enumerate(streams)] == [3, 5, 8]


def test_what_lasted_longer_than_is_remembered_is_reckoned_from_its_rest() -> None:
    assert counted(turns(30, 60)) == pytest.approx(30, abs=1)


def test_a_saved_track_goes_on_exactly() -> None:
    vectors = np.concatenate([turns(2, 80), turns(7, 66)])
    start, cut = 160, 391
    whole, before, after = RepetitionCounter(1), RepetitionCounter(1), RepetitionCounter(2)
    feed(whole, 0, vectors)
    feed(after, 1, turns(9, 33))  # the slot's former owner
    saved = before.save(0, feed(before, 0, vectors[:cut]), start)
    after.load(1, cut, saved)
    feed(after, 1, vectors[cut:], cut)
    for end in range(start + 20, len(vectors), 29):
        assert after.count(1, len(vectors), start, end) == whole.count(0, len(vectors), start, end)
    assert after.count(1, len(vectors), start, len(vectors)) == 7
    assert len(before.save(0, cut, 0)) <= 8192 >= len(whole.save(0, len(vectors), 0))


@pytest.mark.parametrize("damaged", [b"1", b"\x00" * 32 * 257, b"\x00\x7c" * 16])
def test_a_state_that_cannot_be_is_refused(damaged: bytes) -> None:
    with pytest.raises(StateError, match="counter"):
        RepetitionCounter(1).load(0, 5000, damaged)
    with pytest.raises(StateError, match="counter"):
        RepetitionCounter(1).load(0, 4, b"\x00" * 64)
