"""Announced starts as alarms: how soon they tell of an action, and how often in vain.

An alarm is right if it is not taken back, and if at its moment an action of its class is under way, give or take `NEAR`
seconds, of which no earlier alarm has told; any other is false. An action's delay lasts from its start to the alarm that
tells of it; of one that no alarm tells of one learns when it is over, so its delay is its length. (Delays of the told ones
alone would shrink as a rule grows deaf.)
"""

from __future__ import annotations

from collections.abc import Sequence

from poseline_training.metrics.segments import Truth

NEAR = 0.5
"""Seconds: annotators differ by as much."""

Alarm = tuple[float, int, bool]
"""When it was told (seconds), label, and whether it was taken back."""


def alarm_figures(
    alarms: Sequence[Sequence[Alarm]], truths: Sequence[Sequence[Truth]], hours: float
) -> dict[str, float]:
    """Of recordings of that many hours in all: alarms in the order in which they were told, truths by start.

    alarms, false, revoked (of the false ones): how many. false_per_hour. told: share of the truths. delay: mean of all
    truths, seconds; delay_told: of the told ones, early ones negative.
    """
    count = false = revoked = 0
    delays: list[float] = []
    told: list[float] = []
    for said, true in zip(alarms, truths, strict=True):
        at: dict[int, float] = {}
        for t, label, back in said:
            place = None if back else _told_of(t, label, true, at)
            if place is not None:
                at[place] = t - true[place][0]
            count, false, revoked = count + 1, false + (place is None), revoked + back
        told += at.values()
        lengths = [end - start for start, end, _ in true]
        delays += [min(at.get(place, length), length) for place, length in enumerate(lengths)]
    return {
        "alarms": count,
        "false": false,
        "revoked": revoked,
        "false_per_hour": false / hours,
        "told": len(told) / len(delays) if delays else float("nan"),
        "delay": sum(delays) / len(delays) if delays else float("nan"),
        "delay_told": sum(told) / len(told) if told else float("nan"),
    }


def _told_of(t: float, label: int, truths: Sequence[Truth], told: dict[int, float]) -> int | None:
    """The first action of that class that is on at that moment and was not told of."""
    for place, (start, end, what) in enumerate(truths):
        if what == label and place not in told and start - NEAR <= t <= end + NEAR:
            return place
    return None
