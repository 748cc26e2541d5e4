"""The table of what classes from a few examples are worth; scripts/measure_enrolment.py makes the figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from poseline_training.results.tables import MISSING, number, table

_HEADER = [
    "network; classes enrolled one at a time", "examples", "frame AP", "time warping", "segment AP@.5", "@.3",
    "false alarms/h: same set", "motion capture", "frame mAP of the known classes",
]  # fmt: skip


def enrolment(results: Sequence[Mapping[str, Any]] | None) -> str:
    """A line for each network, set and number of examples."""
    if results is None:
        return MISSING
    lines: list[list[str]] = []
    for case in results:
        what = f"`{case['run']}`, `{case['corpus']}`: {', '.join(case['classes'])}"
        for count, one in case["examples"].items():
            known = case["old_frame_map"] if one is list(case["examples"].values())[-1] else None
            lines.append([
                what, count, number(one["frame_ap"]), number(one["warping_frame_ap"]), number(one["segment_ap"]),
                number(one["segment_ap_at_.3"]), number(one["false_an_hour_same_set"], 1),
                number(one["false_an_hour_motion_capture"], 1),
                f"{number(known['before'])} → {number(known['after'])}" if known else "",
            ])  # fmt: skip
            what = ""
    return table(_HEADER, lines)
