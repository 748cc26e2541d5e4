"""Which stretches of what was recorded are worth a person's time: what the model is unsure of, what is unlike all else.

Uncertainty is the mean entropy of the scores. Diversity is a place in the space of the network's vectors: stretches are
taken one by one, each the farthest from all that were taken before (greedy k-center: Gonzalez, Clustering to minimize the
maximum intercluster distance, 1985; for labelling: Sener and Savarese, Active Learning for CNNs: a Core-Set Approach, 2018).
How both compare with picking at random: docs/loop.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from poseline.skeleton import Floats

Method = Literal["diversity", "both", "uncertainty", "random"]


def cut(frames: int, longest: int) -> list[tuple[int, int]]:
    """A recording of so many frames in stretches of much the same length, none over `longest`: [first, stop)."""
    borders = np.linspace(0, frames, -(-frames // longest) + 1).round().astype(int).tolist()
    return list(pairwise(borders))


def uncertainty(scores: Floats) -> float:
    """Mean entropy of scores (T, 1 + K), 1 where they say nothing at all."""
    p = np.clip(scores, 1e-9, 1.0)
    return float(-(p * np.log(p)).sum(axis=1).mean() / np.log(scores.shape[1]))


def pick(
    method: Method,
    places: Floats,
    unsure: Sequence[float],
    count: int,
    taken: Sequence[int] = (),
    seed: int = 0,
) -> list[int]:
    """At most `count` indices of stretches, the most informative first.

    places (N, D): the mean of each stretch's vectors; unsure (N,): uncertainty of each. taken: those that are labelled
    already, which are not picked again. seed: of `random` alone.
    """
    weights = np.asarray(unsure, np.float64)
    match method:
        case "diversity":
            return _farthest(places, np.ones(len(places)), count, taken)
        case "both":
            return _farthest(places, np.sqrt(weights), count, taken)
        case "uncertainty":
            order = np.argsort(-weights, kind="stable")
        case "random":
            order = np.random.default_rng(seed).permutation(len(places))
    return [n for n in order.tolist() if n not in set(taken)][:count]


def _farthest(places: Floats, weights: NDArray[np.float64], count: int, taken: Sequence[int]) -> list[int]:
    """Greedy k-center, distances weighted. The first of all is the one nearest to the middle."""
    if not len(places):
        return []
    centres = list(taken)
    picked: list[int] = []
    if not centres and count:
        picked.append(int(np.linalg.norm(places - places.mean(axis=0), axis=1).argmin()))
    nearest = np.full(len(places), np.inf)
    for n in [*centres, *picked]:
        nearest = np.minimum(nearest, np.linalg.norm(places - places[n], axis=1))
    while len(picked) < min(count, len(places) - len(centres)):
        value = nearest * weights
        value[[*centres, *picked]] = -1.0
        n = int(value.argmax())
        picked.append(n)
        nearest = np.minimum(nearest, np.linalg.norm(places - places[n], axis=1))
    return picked
