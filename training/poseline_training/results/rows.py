"""Rows as they are kept: a JSON file each. What stands in a table is looked up here."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from poseline_training.metrics.early import SECONDS, SHARES

Row = Mapping[str, Any]


class Figure(NamedTuple):
    """A column: where the figure stands in a set's figures, and what its interval is called. online: it means nothing of a
    network that answers when everything is over."""

    title: str
    path: tuple[str, ...]
    interval: str | None = None
    online: bool = False


FIGURES = (
    Figure("frame mAP", ("frame_map",), "frame_map"),
    Figure("segment mAP@.5", ("segment_map", "0.5"), "segment_map_0.5"),
    Figure("F1@50", ("f1", "50"), "f1_50"),
    Figure("start p-AP .5 s", ("start_p_ap", "0.5"), "start_p_ap_0.5", online=True),
    Figure("1 s", ("start_p_ap", "1.0"), "start_p_ap_1.0", online=True),
    Figure("start delay, s", ("start_delay_mean",), "start_delay_mean", online=True),
)
OPERATING = (
    Figure("end to final p50, s", ("end_delay_p50",)),
    Figure("p95, s", ("end_delay_p95",), "end_delay_p95"),
    Figure("start error, s", ("start_error_median",)),
    Figure("end error, s", ("end_error_median",), "end_error_median"),
    Figure("false alarms an hour", ("false_alarms_per_hour",), "false_alarms_per_hour"),
    Figure("missed", ("missed",)),
    Figure("retracted", ("retracted",)),
)
EARLY = tuple(Figure(f"after {seconds} s", ("early_accuracy", str(seconds)), online=True) for seconds in SECONDS)
PROTOCOLS = (
    Figure("calibrated mAP", ("calibrated_frame_map",)),
    Figure("macro F1 of frames", ("frame_macro_f1",)),
    Figure("mAP, tIoU .5 to .95", ("segment_map_average",)),
    Figure("LINE mAP", ("line_map", "average")),
    Figure("PKU mAP_a .5", ("pku_map_action", "0.5")),
    Figure("mAP_v .5", ("pku_map_video", "0.5")),
    Figure("On-TAL mAP .5", ("on_tal", "0.5", "map")),
    Figure("delay, s", ("on_tal", "0.5", "delay")),
    Figure("F1@10", ("f1", "10")),
    Figure("F1@25", ("f1", "25")),
    Figure("edit", ("edit",)),
    Figure("SL", ("sl",)),
    Figure("EL", ("el",)),
)
STARTS = tuple(
    Figure(f"{float(seconds):g} s", ("start_p_ap_all", seconds), online=True)
    for seconds in ("0.1", "0.2", "0.33", "0.5", "1.0", "2.0", "3.0", "5.0", "10.0")
)
RECOGNITION = tuple(
    Figure("the whole clip" if share == 1 else f"{share:.0%} of the clip", ("recognition_accuracy", str(share)))
    for share in SHARES
)
CALIBRATION = (
    Figure("frame accuracy", ("frame_accuracy",)),
    Figure("ECE", ("ece",)),
    Figure("class-wise ECE", ("classwise_ece",)),
    Figure("answered from .4 on", ("selective", "0.4", "coverage")),
    Figure("right of those", ("selective", "0.4", "accuracy")),
    Figure("answered from .5 on", ("selective", "0.5", "coverage")),
    Figure("right of those", ("selective", "0.5", "accuracy")),
    Figure("answered from .8 on", ("selective", "0.8", "coverage")),
    Figure("right of those", ("selective", "0.8", "accuracy")),
)


class Rows:
    """The rows of a folder, by name."""

    def __init__(self, folder: Path) -> None:
        self._rows: dict[str, Row] = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}

    def get(self, name: str) -> list[Row]:
        """The row of that name, or the seeds NAME-s0, NAME-s1, …; none where nothing was measured."""
        if name in self._rows:
            return [self._rows[name]]
        seeds = [one for one in self._rows if one.startswith(f"{name}-s") and one[len(name) + 2 :].isdigit()]
        return [self._rows[one] for one in sorted(seeds, key=lambda one: int(one[len(name) + 2 :]))]


def write_row(row: Row, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(row, indent=1, allow_nan=False) + "\n")


def figures_of(row: Row, of: str) -> Row | None:
    """Of `all` or `real` sets' mean, or of a corpus; None where it was not measured."""
    return row["means"].get(of) or row["sets"].get(of)


def value_of(figures: Row | None, figure: Figure) -> float | None:
    found: Any = figures
    for key in figure.path:
        if found is None:
            return None
        found = found.get(key)
    return found


def interval_of(figures: Row | None, figure: Figure) -> tuple[float, float] | None:
    low, high = ((figures or {}).get("intervals") or {}).get(figure.interval) or (None, None)
    return None if low is None or high is None else (low, high)


def mean(values: Sequence[float | None]) -> float | None:
    """None where one of them is missing."""
    known = [one for one in values if one is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None
