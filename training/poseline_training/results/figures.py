"""Figures of several sets side by side, their means, and intervals over persons."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from poseline.formats.corpus import FPS
from poseline_training.evaluate import headline, report
from poseline_training.metrics.bootstrap import Statistic, bootstrap
from poseline_training.streaming import StreamedSequence

Figures = dict[str, Any]
"""As `evaluate.report` gives them."""

_DIGITS = 4
_NEGATIVE = ("sequences", "seconds", "false_alarms_per_hour", "retracted")


def figures_of(
    sets: Mapping[str, Sequence[StreamedSequence]], classes: tuple[str, ...], real: Collection[str], draws: int
) -> Figures:
    """`sets`: name → figures. `means`: `all` → their means, and `real` → the means of those sets. Each with `intervals`:
    figure → (low, high), of `draws` draws of persons; none if `draws` is 0."""
    statistic = _remembering(headline)
    found = {name: report(streamed, classes) for name, streamed in sets.items()}
    means = {"all": list(sets)} | ({"real": kept} if (kept := [name for name in sets if name in real]) else {})
    return rounded(
        {
            "sets": {
                name: one | {"intervals": _intervals([sets[name]], statistic, draws)} for name, one in found.items()
            },
            "means": {
                name: mean_of([found[one] for one in many])
                | {"intervals": _intervals([sets[one] for one in many], statistic, draws)}
                for name, many in means.items()
            },
        }
    )


def negative_figures(
    streamed: Sequence[StreamedSequence], classes: tuple[str, ...], contents: Sequence[str] = ()
) -> Figures:
    """Of recordings that hold no class at all: every final is false. `said`: class → finals. contents: what each recording
    shows, under which name seconds and finals are told too."""
    quiet = [one.as_background() for one in streamed]
    figures = report(quiet, classes)
    finals = [event.label for one in quiet for event in one.finals()]
    said = {name: finals.count(name) for name in sorted(set(finals), key=lambda one: (-finals.count(one), one))}
    shown: dict[str, dict[str, float]] = {}
    for name, one in sorted(zip(contents, quiet, strict=bool(contents)), key=lambda both: both[0]):
        of_it = shown.setdefault(name, {"seconds": 0.0, "finals": 0})
        of_it["seconds"] += len(one.labels) / FPS
        of_it["finals"] += len(one.finals())
    return rounded({name: figures[name] for name in _NEGATIVE} | {"said": said, "contents": shown})


def mean_of(reports: Sequence[Figures]) -> Figures:
    """Means of every number that all have; None where one of them could not be measured. Figures of single classes and bins
    are left out: sets do not share them."""
    found: Figures = {}
    for name, first in reports[0].items():
        values = [one[name] for one in reports]
        if name in ("classes", "native_classes", "reliability", "intervals"):
            continue
        if isinstance(first, Mapping):
            found[name] = mean_of(values)
        else:
            found[name] = None if any(value is None for value in values) else float(np.mean(values))
    return found


def _intervals(
    sets: Sequence[Sequence[StreamedSequence]], statistic: Statistic[StreamedSequence], draws: int
) -> dict[str, list[float]]:
    if not draws:
        return {}
    return {name: [one.low, one.high] for name, one in bootstrap(sets, statistic, draws).items()}


def _remembering(statistic: Statistic[StreamedSequence]) -> Statistic[StreamedSequence]:
    """The same, each draw reckoned once: a set's own interval and those of the means draw the same few persons."""
    known: dict[tuple[int, ...], Mapping[str, float]] = {}

    def remembered(drawn: Sequence[StreamedSequence]) -> Mapping[str, float]:
        key = tuple(map(id, drawn))
        if key not in known:
            known[key] = statistic(drawn)
        return known[key]

    return remembered


def rounded(value: Any) -> Any:
    """To four digits, None for NaN: what is kept is read by people, and compared by git."""
    if isinstance(value, Mapping):
        return {key: rounded(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(one) for one in value]
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, _DIGITS)
    return value
