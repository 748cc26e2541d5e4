"""Crops for training: random stretches of recordings, and streams joined anew from pieces of them; and for evaluation,
stitched streams composed anew.

A recording is cut in the middle of its background gaps; pieces of one person (and view) are joined in random order, each
moved to where a bridge (`bridges`) leads from the last one. So the network sees far more orders and borders than were
recorded. Clips of stitched streams, whose own bridges give themselves away, can be put together again in the same way. Pure
functions of (sequences, rng).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import count, islice, pairwise
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from poseline.formats.corpus import FPS, LabelledSequence, runs
from poseline.pose import NATIVE, PoseSequence
from poseline.skeleton import BODY16, Floats
from poseline_training.bridges import Joiner, Piece
from poseline_training.corpus import TrainingSequence, TrainingSet, native
from poseline_training.streams import Stitched, taken_apart

_SHORTEST_PIECE = 8


def cut(sequences: tuple[TrainingSequence, ...]) -> list[list[Piece]]:
    """Pieces (poses, labels), one list per person."""
    people: dict[str, list[Piece]] = {}
    for one in sequences:
        actions = runs(one.labels)
        borders = [0, *((a[1] + b[0]) // 2 for a, b in pairwise(actions)), len(one.labels)]
        for start, end in pairwise(borders):
            if end - start > _SHORTEST_PIECE:
                people.setdefault(one.person, []).append((one.poses[start:end], one.labels[start:end]))
    return list(people.values())


def join(pieces: list[Piece], frames: int, rng: Generator) -> Piece:
    """`frames` frames of pieces in random order, bridged."""
    return join_prepared(Joiner(pieces), frames, rng)


def join_prepared(joiner: Joiner, frames: int, rng: Generator, chances: NDArray[np.float64] | None = None) -> Piece:
    """As `join`, of pieces that were looked at before. chances: of each piece; None = all alike."""
    drawn = (int(rng.choice(len(joiner.pieces), p=chances)) for _ in count())
    poses: list[Floats] = []
    labels: list[NDArray[np.int64]] = []
    have = 0
    for x, y in joiner.stream(joiner.nearest_first(drawn), rng):
        if not poses:  # a stream may begin anywhere in an action
            start = int(rng.integers(0, max(1, len(y) - _SHORTEST_PIECE)))
            x, y = x[start:], y[start:]
        poses.append(x)
        labels.append(y)
        have += len(y)
        if have >= frames:
            break
    return np.concatenate(poses)[:frames], np.concatenate(labels)[:frames]


class Cropper:
    """Random stretches of one set. weights: (1 + K,) `TrainingData.draw_weights`."""

    def __init__(self, training_set: TrainingSet, weights: NDArray[np.float64] | None = None) -> None:
        self._sequences = training_set.sequences
        self._restitch = training_set.restitch
        self._people = [Joiner(pieces) for pieces in cut(training_set.sequences)] if training_set.restitch else []
        self._piece_chances = [
            None if weights is None else _normalised([_rarity(y, weights) for _, y in one.pieces])
            for one in self._people
        ]
        self._chances = _normalised([len(s.labels) * _rarity(s.labels, weights) for s in self._sequences])

    def crop(self, frames: int, rng: Generator) -> tuple[Floats, NDArray[np.int64], bool]:
        """At most `frames` frames: poses (T, 16, 4), labels (T,), and whether they begin where the recording does."""
        if self._people and rng.random() < self._restitch:
            person = int(rng.integers(len(self._people)))
            poses, labels = join_prepared(self._people[person], frames, rng, self._piece_chances[person])
            return poses, labels, False
        one = self._sequences[rng.choice(len(self._sequences), p=self._chances)]
        T = len(one.labels)
        if frames >= T:
            return one.poses, one.labels, True
        # Reaching over both ends makes starts and ends of recordings as frequent as their middles.
        start = int(np.clip(rng.integers(-frames // 4, T - frames + frames // 4), 0, T - frames))
        return one.poses[start : start + frames], one.labels[start : start + frames], start == 0


def _rarity(labels: NDArray[np.int64], weights: NDArray[np.float64] | None) -> float:
    """Mean weight of the action frames; 1 where there are none."""
    action = labels[labels > 0]
    return float(weights[action].mean()) if weights is not None and len(action) else 1.0


def _normalised(weights: list[float]) -> NDArray[np.float64]:
    return np.array(weights) / sum(weights)


def recomposed(folder: Path, split: str, seed: int) -> list[LabelledSequence]:
    """As many streams of the same clips, in native poses: each clip once, with its idle margins, in another order and
    between other bridges (`bridges`). Raises CorpusError."""
    return [one.stream for one in composed_anew(taken_apart(folder, split), seed)]


def composed_anew(shipped: list[Stitched], seed: int) -> list[Stitched]:
    """Every person's clips in other streams: as many, of as many clips each."""
    rng = np.random.default_rng(seed)
    people: dict[tuple[str, str], list[Stitched]] = {}
    for one in shipped:
        people.setdefault((one.stream.subject, one.stream.view), []).append(one)
    return [made for streams in people.values() for made in _person(streams, rng)]


def _person(streams: list[Stitched], rng: Generator) -> Iterator[Stitched]:
    clips = [clip for one in streams for clip in one.clips]
    joiner = Joiner([(native(clip), clip.labels) for clip in clips])
    order = joiner.nearest_first(rng.permutation(len(clips)).tolist())
    for one in streams:
        chosen = list(islice(order, len(one.clips)))
        poses, labels = zip(*joiner.stream(chosen, rng), strict=True)
        ends = np.cumsum([0, *map(len, labels)])
        stream = _sequence(one.stream, np.concatenate(poses), np.concatenate(labels))
        # Every second part is a bridge.
        yield Stitched(stream, tuple(clips[i] for i in chosen), tuple(int(start) for start in ends[:-1:2]))


def _sequence(like: LabelledSequence, poses: Floats, labels: NDArray[np.int64]) -> LabelledSequence:
    clock = np.arange(len(poses)) / FPS
    where = f"{like.corpus}, composed anew"
    sequence = PoseSequence(poses[..., :3], poses[..., 3], clock, BODY16, NATIVE, f"{like.name}_recomposed", where)
    return replace(like, poses=sequence, labels=labels)
