"""Intervals: persons are drawn with replacement, each with all of their recordings (cluster bootstrap).

Frames and recordings of one person are no independent draws; what one performance shows to three cameras is the same
performance. The statistic is of a set; over several sets it is the mean of theirs, persons drawn within each. Few persons
make few different draws: each is computed once, so that a thousand cost no more than those. Two persons have three draws,
and their interval is no more than the two persons side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from poseline.errors import CorpusError


class Someones(Protocol):
    """A recording that knows whose it is."""

    @property
    def corpus(self) -> str: ...
    @property
    def person(self) -> str: ...


One = TypeVar("One", bound=Someones)
Statistic = Callable[[Sequence[One]], Mapping[str, float]]
"""Figures of a list of recordings; any of them may come more than once."""


@dataclass(frozen=True)
class Interval:
    """The figure itself, and the percentile interval around it."""

    value: float
    low: float
    high: float


def by_person(recordings: Sequence[One]) -> dict[Hashable, list[One]]:
    """(corpus, person) → recordings, persons in order. Raises CorpusError where a corpus does not tell who it is."""
    groups: dict[Hashable, list[One]] = {}
    for one in sorted(recordings, key=lambda one: (one.corpus, one.person)):
        if not one.person:
            raise CorpusError(f"{one.corpus} does not tell its persons apart: there is nothing to draw from")
        groups.setdefault((one.corpus, one.person), []).append(one)
    return groups


def bootstrap(
    sets: Sequence[Sequence[One]],
    statistic: Statistic[One],
    draws: int = 1000,
    seed: int = 0,
    share: float = 0.95,
) -> dict[str, Interval]:
    """Interval of each figure of the statistic. Draws in which a figure is NaN are left out of its interval."""
    everybody, values = _values(sets, statistic, draws, seed)
    return {name: _interval(everybody[name], values[name], share) for name in everybody}


def paired_bootstrap(
    sets: Sequence[Sequence[One]],
    others: Sequence[Sequence[One]],
    statistic: Statistic[One],
    draws: int = 1000,
    seed: int = 0,
    share: float = 0.95,
) -> dict[str, Interval]:
    """Interval of the first system's figures less the second's, the same persons drawn for both.

    Raises CorpusError if the two did not see the same persons.
    """
    for ours, theirs in zip(sets, others, strict=True):
        if by_person(ours).keys() != by_person(theirs).keys():
            raise CorpusError("two systems are compared on different persons")
    mine, my_values = _values(sets, statistic, draws, seed)
    yours, your_values = _values(others, statistic, draws, seed)
    return {name: _interval(mine[name] - yours[name], my_values[name] - your_values[name], share) for name in mine}


def _values(
    sets: Sequence[Sequence[One]], statistic: Statistic[One], draws: int, seed: int
) -> tuple[dict[str, float], dict[str, NDArray[np.float64]]]:
    """The figures of everybody, and (draws,) of each draw, means over the sets."""
    rng = np.random.default_rng(seed)
    whole: list[Mapping[str, float]] = []
    drawn: list[list[Mapping[str, float]]] = []
    for recordings in sets:
        people = list(by_person(recordings).values())
        whole.append(statistic([one for person in people for one in person]))
        picks = np.sort(rng.integers(len(people), size=(draws, len(people))), axis=1)
        known = {
            tuple(pick): statistic([one for person in pick for one in people[person]])
            for pick in np.unique(picks, axis=0).tolist()
        }
        drawn.append([known[tuple(pick)] for pick in picks.tolist()])
    names = list(whole[0])
    values = {name: np.array([[one[name] for one in many] for many in drawn]).mean(0) for name in names}
    return {name: float(np.mean([one[name] for one in whole])) for name in names}, values


def _interval(value: float, values: NDArray[np.float64], share: float) -> Interval:
    measured = values[np.isfinite(values)]
    if not len(measured):
        return Interval(value, float("nan"), float("nan"))
    low, high = np.quantile(measured, [(1 - share) / 2, (1 + share) / 2])
    return Interval(value, float(low), float(high))
