"""What the engine's benchmark lets run: each function gives cases by name, ready for `clock.interleave`.

Motion is the scripted actor's, another moment of it for every stream. Streams that go through levels of several rates
stand at all their phases in equal numbers, as they do in service: a step then carries an average frame's work.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from itertools import cycle
from pathlib import Path

import numpy as np
import torch

from poseline.actor import perform
from poseline.bundle import ModelBundle
from poseline.decoding import DecodingOptions, SegmentDecoder
from poseline.pose import PoseConverter
from poseline.skeleton import BODY16, Floats
from poseline.stepping import StepScorer
from poseline_bench.clock import Case
from poseline_bench.rivals import VIEW, WINDOW, ComparedNetwork, Continual, Window, bundle_of
from poseline_service.engine import open_scorer
from poseline_training.network.localizer import Localizer

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)
MANY = 64
"""Streams that take turns."""
COMPARED = (1, 32)
"""Batches at which the engines are compared."""
CLASSES = (8, 34, 128, 512)
DECODED = 32
"""Batch at which the number of classes is varied."""
_GROUP = {WINDOW: 8, VIEW: 32}
"""Streams that a window rival runs at a time, by its frames: where it is fastest, its rows still in the cache."""
_FRAMES = 32
"""Frames of motion that a case goes round: enough to differ, few enough to stay in the cache."""
_ACT, _REST = 40, 50
"""Frames that a made-up action lasts, and the pause after it."""


class Streams:
    """`batch` streams side by side; a call is one frame of each."""

    def __init__(self, bundle: ModelBundle, scorer: StepScorer, batch: int) -> None:
        self._scorer = scorer
        self._slots = np.array([scorer.open() for _ in range(batch)])
        period = _period(bundle)
        for late in range(1, period):
            ahead = self._slots[np.arange(batch) % period >= late]
            if len(ahead):
                scorer.step(ahead, next(motion(len(ahead))))
        self._motion = motion(batch)

    def __call__(self) -> None:
        self._scorer.step(self._slots, next(self._motion))


def _period(bundle: ModelBundle) -> int:
    """Frames after which all levels run together again."""
    return math.lcm(*(level.every for level in bundle.manifest.state.levels))


@cache
def _performance() -> Floats:
    actor = perform(1, seconds=20).poses
    return PoseConverter(actor.layout, actor.coordinates)(actor.joints, actor.confidence)


def motion(batch: int) -> Iterator[Floats]:
    """Native poses (B, 16, 4), frame after frame, round and round."""
    poses = _performance()
    return cycle([poses[(frame + 7 * np.arange(batch)) % len(poses)] for frame in range(_FRAMES)])


def by_batch(bundle: ModelBundle) -> dict[str, Case]:
    """`step 1` … `step 128`: one step of the bundle's network, of all the streams that its scorer has."""
    return {f"step {batch}": Streams(bundle, open_scorer(bundle, batch), batch) for batch in BATCHES}


def in_turn(bundle: ModelBundle) -> Case:
    """One frame of one of `MANY` streams, and with the next call of the next: a server's batches while it is not busy."""
    scorer = open_scorer(bundle, MANY)
    streams = [Streams(bundle, scorer, 1) for _ in range(MANY)]
    for i, stream in enumerate(streams):
        for _ in range(i % _period(bundle)):
            stream()
    turn = cycle(streams)
    return lambda: next(turn)()


def same_network(bundle: ModelBundle, network: ComparedNetwork) -> dict[str, Case]:
    """`ours B`, `continual B`, `window B` and `view B`: one frame of B streams of the compared network.

    `view` is a window of only the frames that this network sees.
    """
    scorer = open_scorer(bundle, sum(COMPARED))
    cases: dict[str, Case] = {}
    for batch in COMPARED:
        cases[f"ours {batch}"] = Streams(bundle, scorer, batch)
        cases[f"continual {batch}"] = _continual(network, batch)
        cases[f"window {batch}"] = _window(network, batch, WINDOW)
        cases[f"view {batch}"] = _window(network, batch, VIEW)
    return cases


def _features(network: ComparedNetwork, batch: int, frames: int) -> torch.Tensor:
    """(B, frames, F), of each stream's own moment."""
    poses = motion(batch)
    return network.features(torch.from_numpy(np.stack([next(poses) for _ in range(frames)], axis=1)))


def _continual(network: ComparedNetwork, batch: int) -> Case:
    net = Continual(network)
    frames = cycle(one.contiguous() for one in _features(network, batch, _FRAMES).unbind(1))
    with torch.inference_mode():
        for _ in range(VIEW):
            net.step(next(frames))
    return lambda: net.step(next(frames))


def _window(network: ComparedNetwork, batch: int, frames: int) -> Case:
    net, groups = Window(network), _features(network, batch, frames).split(_GROUP[frames])
    return lambda: [net(one) for one in groups]


def by_classes(folder: Path) -> dict[str, Case]:
    """`step of K` and `decoding of K`: 32 streams of the default network with K classes (and background)."""
    cases: dict[str, Case] = {}
    for classes in CLASSES:
        torch.manual_seed(0)
        bundle = bundle_of(Localizer(BODY16, 1 + classes).eval(), folder / f"classes-{classes}")
        cases[f"step of {classes}"] = Streams(bundle, open_scorer(bundle, DECODED), DECODED)
        cases[f"decoding of {classes}"] = _decoding(classes)
    return cases


def _decoding(classes: int) -> Case:
    """A decoder of 32 tracks, each at its own moment of one action after another."""
    decoder = SegmentDecoder(DECODED, classes)
    slots = np.arange(DECODED)
    for slot in slots:
        decoder.open(int(slot), DecodingOptions())
    frames = cycle([_made_up(classes, frame) for frame in range(_ACT + _REST)])
    return lambda: decoder.push(slots, *next(frames))


def _made_up(classes: int, frame: int) -> tuple[Floats, Floats]:
    """Scores (B, 1 + K) and boundaries (B, 2) of streams that rest, then act, each in its class."""
    stream = np.arange(DECODED)
    moment = (frame + 11 * stream) % (_ACT + _REST)
    scores = np.full((DECODED, 1 + classes), 0.1 / classes, np.float32)
    scores[stream, np.where(moment < _ACT, 1 + stream % classes, 0)] = 0.9
    boundaries = np.stack([moment == 0, moment == _ACT - 1], axis=1) * np.float32(0.8)
    return scores, boundaries
