"""Classes that a model was not trained for, from one to five examples, without training.

A network reads its scores from one vector a frame, and what it has learnt of motion stands in that vector for other actions,
too. So a new class is one more read-out of it: a logistic regression that tells the frames of the examples from everything
else, which is a *bank* of vectors that the bundle brings and what surrounds the examples in their own recordings.

It answers in odds, o = g · exp(w·v + b), where g = min(1, √((1 - m) / m)) and m is the highest score of the classes that
were trained: what the model knows well is hardly something new. Its bias is moved so that it takes `FALSE_SHARE` of the
bank at odds of one: thresholds mean for it about what they mean for the others. Scores are o_c / (1 + Σ o) for the classes
that were enrolled; background, which is neither, is left with p_0 / (1 + Σ o); and those that were trained keep theirs, to
the last bit: who enrols a class changes no other. So a frame may be told to be both, and its scores may sum to more than
one. (docs/results.md has what that is worth.)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from poseline.errors import InputError, TooManyClasses
from poseline.manifest import ModelManifest
from poseline.skeleton import Flags, Floats

CAPACITY = 32
"""Classes that one model can have beside its own."""
EXAMPLES = 5
FALSE_SHARE = 0.01
_PENALTY = 0.1
"""Of the weights' square, beside the mean loss of a frame: chosen on people and sets left out of training."""
_STEPS = 20
_LEAD = 6
"""First frames of an example that are left out, at most a third of it: the network has not seen yet that it has begun."""
_MARGIN, _SURROUNDINGS = 8, 150
"""Frames beside an example that are neither, and those beyond which show what it is not."""
_SHORTEST = 8
_LARGEST_LOG_ODDS = 30.0
_SUREST = 1e-4
"""No score is nearer to certainty."""


class Example(NamedTuple):
    """A recording's vectors (T, D), and the frames `first` to `stop` of it that show the class. also: other stretches of it
    that do, in examples of their own."""

    vectors: Floats
    first: int
    stop: int
    also: Sequence[tuple[int, int]] = ()


class Bank(NamedTuple):
    """What else there is: vectors (N, D), and for each the highest score (N,) of a class that was trained."""

    vectors: Floats
    known: Floats


class EnrolledClass(Struct, frozen=True):
    """weights (D,) and bias of the read-out. model: the fingerprint of the network whose vectors it reads. frames: of
    the examples."""

    name: str
    model: str
    weights: list[float]
    bias: float
    examples: int
    frames: int
    created: datetime


def enrol(name: str, model: str, examples: Sequence[Example], bank: Bank, created: datetime) -> EnrolledClass:
    """Raises InputError."""
    if not 1 <= len(examples) <= EXAMPLES:
        raise InputError(f"{len(examples)} examples came, expected 1 to {EXAMPLES}", param="examples")
    shown = [_shown(n, one) for n, one in enumerate(examples)]
    others = np.concatenate([bank.vectors, *(_beside(one) for one in examples)])
    weights, bias = _read_out(np.concatenate(shown), others)
    of_bank = bank.vectors @ weights + bias + np.log(_novelty(bank.known))
    bias -= float(np.quantile(of_bank, 1 - FALSE_SHARE))
    frames = sum(map(len, shown))
    return EnrolledClass(name, model, weights.tolist(), bias, len(examples), frames, created)


def _novelty(known: Floats) -> Floats:
    """The factor of the odds where a trained class has that score."""
    known = np.clip(known, _SUREST, 1 - _SUREST)
    return np.minimum(1, np.sqrt((1 - known) / known))


def _shown(n: int, example: Example) -> Floats:
    frames = example.stop - example.first
    if frames < _SHORTEST:
        what = f"example {n} has {frames} frames on the model's grid, expected {_SHORTEST} or more"
        raise InputError(what, param=f"examples.{n}")
    return example.vectors[example.first + min(_LEAD, frames // 3) : example.stop]


def _beside(example: Example) -> Floats:
    frames = np.arange(len(example.vectors))
    near = (frames >= example.first - _MARGIN - _SURROUNDINGS) & (frames < example.stop + _MARGIN + _SURROUNDINGS)
    for first, stop in ((example.first, example.stop), *example.also):
        near &= (frames < first - _MARGIN) | (frames >= stop + _MARGIN)
    return example.vectors[near]


def _read_out(shown: Floats, others: Floats) -> tuple[NDArray[np.float64], float]:
    """Weights (D,) and bias of a penalised logistic regression in which both sides weigh the same (Newton's method; Hastie
    et al., The Elements of Statistical Learning, 4.4.1), of vectors scaled by the spread of `others`."""
    mean, spread = others.mean(0, dtype=np.float64), others.std(0, dtype=np.float64) + 1e-3
    x = np.concatenate([(np.concatenate([shown, others]) - mean) / spread, np.ones((len(shown) + len(others), 1))], 1)
    y = np.repeat([1.0, 0.0], [len(shown), len(others)])
    share = np.repeat([0.5 / len(shown), 0.5 / len(others)], [len(shown), len(others)])
    penalty = np.full(x.shape[1], 2 * _PENALTY)
    penalty[-1] = 1e-9
    w = np.zeros(x.shape[1])
    for _ in range(_STEPS):
        p = 1 / (1 + np.exp(-np.clip(x @ w, -_LARGEST_LOG_ODDS, _LARGEST_LOG_ODDS)))
        slope = x.T @ (share * (p - y)) + penalty * w
        bend = (x * (share * p * (1 - p))[:, None]).T @ x + np.diag(penalty)
        step = np.linalg.solve(bend, slope)
        w -= step
        if np.abs(step).max() < 1e-6:
            break
    weights = w[:-1] / spread
    return weights, float(w[-1] - mean @ weights)


def answer(scores: Floats, vectors: Floats, weights: Floats, bias: Floats) -> Floats:
    """Scores (B, 1 + K) of what was trained and vectors (B, D) → scores of all (B, 1 + K + n) for read-outs (D, n), (n,)."""
    odds = np.exp(np.minimum(vectors @ weights + bias, _LARGEST_LOG_ODDS))
    odds *= _novelty(scores[:, 1:].max(axis=1, keepdims=True))
    shares = 1 + odds.sum(axis=1, keepdims=True)
    return np.concatenate([scores[:, :1] / shares, scores[:, 1:], odds / shares], axis=1)


class Vocabulary:
    """The classes that answer: a model's own, and those enrolled since, which come and go while it runs.

    A class keeps its index, `label_id`, for as long as it is there. Engines in threads read what the event loop changes:
    what they read is replaced as a whole.
    """

    def __init__(self, manifest: ModelManifest) -> None:
        self.manifest = manifest
        self.own = manifest.classes
        self._model, self._size = manifest.fingerprint, manifest.state.width
        self._places: list[EnrolledClass | None] = [None] * CAPACITY
        self._free = deque(range(CAPACITY))
        """What was left longest ago is taken first: somebody may still have asked for the class that was there."""
        self._width = 0
        """Places that have ever been taken: a region that is open there must see its score fall."""
        self.names: tuple[str, ...] = (*manifest.classes, *[""] * CAPACITY)
        """By label_id; "" where there is none. A class that is gone keeps its name until its place is taken."""
        self._read_outs: tuple[Floats, Floats] | None = None

    @property
    def enrolled(self) -> list[EnrolledClass]:
        return [one for one in self._places if one]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of those that answer now, background first."""
        return (*self.own, *(one.name for one in self.enrolled))

    @property
    def by_label_id(self) -> tuple[str, ...]:
        """Those that answer now, each at its index; "" where a place has been left."""
        taken = [one.name if one else "" for one in self._places]
        while taken and not taken[-1]:
            taken.pop()
        return (*self.own, *taken)

    @property
    def full(self) -> bool:
        return not self._free

    def find(self, name: str) -> int | None:
        """Its label_id, if it answers now."""
        if name in self.own:
            return self.own.index(name)
        found = [i for i, one in enumerate(self._places) if one and one.name == name]
        return len(self.own) + found[0] if found else None

    def put(self, one: EnrolledClass) -> int:
        """Its label_id from now on; one of the same name is replaced. Raises InputError for a name of the model's own and
        for another model's class, TooManyClasses."""
        if one.name in self.own:
            raise InputError(f"{one.name!r} is one of the model's own classes", param="name")
        if one.model != self._model or len(one.weights) != self._size:
            raise InputError(f"class {one.name!r} was enrolled in another model")
        known = self.find(one.name)
        if known is None and not self._free:
            raise TooManyClasses(f"{CAPACITY} classes are enrolled, which is all there is room for")
        place = self._free.popleft() if known is None else known - len(self.own)
        self._places[place] = one
        self._width = max(self._width, place + 1)
        self._renew()
        return len(self.own) + place

    def drop(self, name: str) -> bool:
        """It answers no more: what is open of it ends as if its score had fallen. Whether it was there."""
        place = self.find(name)
        if place is None or place < len(self.own):
            return False
        self._places[place - len(self.own)] = None
        self._free.append(place - len(self.own))
        self._renew()
        return True

    def _renew(self) -> None:
        names = list(self.names)
        columns = [np.zeros(self._size, np.float32)] * self._width
        bias = np.full(self._width, -np.inf, np.float32)
        for i, one in enumerate(self._places):
            if one:
                names[len(self.own) + i] = one.name
                columns[i], bias[i] = np.array(one.weights, np.float32), one.bias
        self.names = tuple(names)
        self._read_outs = np.stack(columns, axis=1), bias

    def mask(self, classes: Sequence[str] | None) -> Flags | None:
        """(K + CAPACITY,) which classes may be decided. Raises InputError for a class that there is not."""
        if classes is None:
            return None
        if unknown := set(classes) - set(self.classes[1:]):
            what = f"model {self.manifest.name} has no class {', '.join(sorted(unknown))}"
            raise InputError(what, param="options.classes")
        return np.array([name in classes for name in self.names[1:]])

    def answer(self, scores: Floats, vectors: Floats) -> Floats:
        """Scores (B, 1 + K) and vectors (B, D) → scores of all (B, 1 + K + n), with zeros where a place is free."""
        if self._read_outs is None:
            return scores
        return answer(scores, vectors, *self._read_outs)
