"""The figures as a table: measured, target, verdict.

Costs in time are targets for a core whose sgemm reaches `TARGET_PEAK`; on another they are scaled by this run's own peak.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from functools import reduce
from typing import Any

from rich.console import Console
from rich.table import Table

TARGET_PEAK = 113.0
"""GFLOP/s of the core that the costs in time are promised for."""


@dataclass(frozen=True)
class Target:
    """One promised figure. key: where it stands in the figures. scaled: promised for a core of `TARGET_PEAK`."""

    name: str
    key: tuple[str, ...]
    bound: float
    at_most: bool = False
    scaled: bool = False

    def found(self, figures: dict[str, Any]) -> float | None:
        return reduce(operator.getitem, self.key, figures)  # pyright: ignore[reportReturnType, reportArgumentType]

    def here(self, figures: dict[str, Any]) -> float:
        """The bound on this core."""
        return self.bound * TARGET_PEAK / figures["sgemm_gflops"] if self.scaled else self.bound

    def met(self, figures: dict[str, Any]) -> bool | None:
        """None where it could not be measured."""
        found = self.found(figures)
        if found is None:
            return None
        return found <= self.here(figures) if self.at_most else found >= self.here(figures)


TARGETS = (
    Target("µs per stream-frame, batch 64", ("us_per_stream_frame", "64"), 10, at_most=True, scaled=True),
    Target("µs per stream-frame, batch 1", ("us_per_stream_frame", "1"), 60, at_most=True, scaled=True),
    Target("bytes of state per stream", ("state_bytes_per_stream",), 24576, at_most=True),
    Target("times continual-inference, batch 32", ("ratio_vs_continual_inference", "32"), 4),
    Target("times continual-inference, batch 1", ("ratio_vs_continual_inference", "1"), 10),
    Target("times PyTorch over 128 frames, batch 32", ("ratio_vs_window_rerun", "32"), 100),
    Target("two cores over one", ("two_core_scaling",), 1.8),
)


def show(figures: dict[str, Any], console: Console) -> None:
    """Print targets with verdicts, then what no target is set for."""
    title = f"{figures['model']}, one core of {figures['machine']['processor']}"
    shown = Table("", "measured", "target", "verdict", title=title)
    for target in TARGETS:
        shown.add_row(target.name, *row(target, figures))
    console.print(shown)
    costs = ", ".join(f"{cost:.1f} at {batch}" for batch, cost in figures["us_per_stream_frame"].items())
    console.print(f"µs per stream-frame by batch: {costs}; {figures['us_one_of_64_in_turn']:.1f} for one of 64 in turn")
    console.print(
        f"peak {figures['sgemm_gflops']:.1f} GFLOP/s (time targets are for {TARGET_PEAK:g}, scaled here); the network's "
        f"{figures['multiply_adds'] / 1e6:.3f} M multiply-adds take {figures['sgemm_limit_us']:.1f} µs at that: "
        f"{figures['sgemm_fraction_b64']:.0%} of the peak at batch 64"
    )


def row(target: Target, figures: dict[str, Any]) -> tuple[str, str, str]:
    """Measured, target, verdict."""
    found, met = target.found(figures), target.met(figures)
    here = target.here(figures)
    bound = f"{'≤' if target.at_most else '≥'} {here:.1f}" if here < 1000 else f"≤ {here:.0f}"
    if found is None:
        return "not measured", bound, "needs two cores"
    return f"{found:.3g}" if found < 1000 else f"{found:.0f}", bound, "met" if met else "missed"
