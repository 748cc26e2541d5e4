"""The whole server's figures as a table: measured, target, verdict; and whether the load generator stood in the way."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from poseline_bench.holding import LATE_MS, OTHERS
from poseline_bench.table import Target

TARGETS = (
    Target("µs per stream-frame, binary", ("binary", "cpu_us_per_stream_frame"), 60, at_most=True),
    Target("µs per stream-frame, JSON", ("json", "cpu_us_per_stream_frame"), 110, at_most=True),
    Target("µs per person-frame, 16 people a message", ("binary_16_per_message", "people"), 20, at_most=True),
    Target("µs per person-frame, 16 frames a message", ("binary_16_per_message", "frames"), 20, at_most=True),
    Target("streams at p99 ≤ 50 ms, binary", ("binary", "streams_at_p99_50ms"), 600),
    Target("streams at p99 ≤ 50 ms, JSON", ("json", "streams_at_p99_50ms"), 250),
    Target("ms to scores at twice the load, admitted, p99", ("overload", "admitted_p99_ms"), 60, at_most=True),
    Target("ms to a refusal, p99", ("overload", "refusal_p99_ms"), 100, at_most=True),
    Target("slots, tasks and descriptors left over by churn", ("churn", "left_over"), 0, at_most=True),
    Target("MB that churn leaves", ("churn", "rss_growth_mb"), 10, at_most=True),
)


def show(figures: dict[str, Any], console: Console) -> None:
    """Print targets with verdicts, then what puts them in proportion."""
    shown = Table("", "measured", "target", "verdict", title=f"{figures['model']}, {figures['cores']} cores")
    for target in TARGETS:
        if target.key[0] in figures:
            shown.add_row(target.name, *row(target, figures))
    console.print(shown)
    console.print(proportion(figures))
    for warning in warnings(figures):
        console.print(warning)


def row(target: Target, figures: dict[str, Any]) -> tuple[str, str, str]:
    """Measured, target, verdict."""
    found, met = target.found(figures), target.met(figures)
    bound = f"{'≤' if target.at_most else '≥'} {target.bound:g}"
    return ("none", bound, "not measured") if found is None else (f"{found:.4g}", bound, "met" if met else "missed")


def proportion(figures: dict[str, Any]) -> str:
    """What an engine and an echo alone would cost, and how the overload went."""
    overload = figures["overload"]
    return (
        f"engine alone {figures['engine_us']:.1f} µs, a bare echo {figures['echo_cpu_us_per_message'] or 0:.1f} µs; "
        f"overload: {overload['admitted']} of {overload['offered']} streams admitted, {overload['refused']} refusals, "
        f"{overload['lost']} lost, {overload['unanswered']} person-frames unanswered; {figures['seconds']:.0f} s in all"
    )


def warnings(figures: dict[str, Any]) -> list[str]:
    """What a reader must know before believing the figures."""
    found: list[str] = []
    late = figures["overload"]["generator_late_p99_ms"]
    if late is not None and late > LATE_MS:
        found.append(f"the load generator was {late:.1f} ms late (p99) in the overload: latencies hold its own share")
    for name in ("binary", "json"):
        for held in figures.get(name, {}).get("curve", ()):
            where = f"{name}, {held['streams']} streams"
            if held["late_ms"] > LATE_MS:
                found.append(f"{where}: the load generator was {held['late_ms']:.1f} ms late (p99)")
            if held["others"] > OTHERS:
                found.append(f"{where}: other processes had {held['others']:.1f} cores")
    return found
