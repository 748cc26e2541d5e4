"""The tables of how well repetitions are counted; scripts/measure_counting.py makes the figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from poseline_training.results.tables import MISSING, number, table

_WORDS = {"train": "People of training", "val": "People of validation", "test": "People of the test"}


def counting(results: Mapping[str, Any] | None) -> str:
    """Composed repetitions, a table for each group of people; the video; real segments."""
    if results is None:
        return MISSING
    parts: list[str] = []
    for split, ways in results["composed"].items():
        some = next(iter(ways.values()))
        header = ["", "mean error", *(f"{one} times" for one in some["by_times"]), "at most 1 off", "largest error",
                  "single ones counted as more"]  # fmt: skip
        lines = [
            [name, number(one["mean_error"]), *map(number, one["by_times"].values()), number(one["within_one"]),
             str(one["largest_error"]), number(one["single_wrong"])]
            for name, one in ways.items()
        ]  # fmt: skip
        parts += [f"**{_WORDS[split]}**, {some['streams']} streams of 2 to 10 repetitions", table(header, lines)]
    video = results["video"]
    lines = [[name, str(counted)] for name, counted in video["counted"].items()]
    parts += [f"**`{video['file']}`**: {video['true']} raises", table(["", "counted"], lines)]
    lines = [
        [name, str(sum(one["counts"].values())), number(one["seconds"], 1), _shared(one["counts"])]
        for name, one in results["real"].items()
    ]
    parts += ["**Real segments**, as annotated", table(["", "segments", "median, s", "counted as"], lines)]
    return "\n\n".join(parts)


def _shared(counts: Mapping[str, int]) -> str:
    """How many segments count as so many: `1: 12, 3: 2`."""
    return ", ".join(f"{times}: {counts[times]}" for times in sorted(counts, key=int))
