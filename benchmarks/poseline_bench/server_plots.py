"""The whole server's figures drawn: `server-cost.png`, `server-latency.png`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # no screen: files are all that is made
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import ScalarFormatter

from poseline_bench.holding import PATIENCE_MS

_COLORS = {"binary": "#1f6f8b", "json": "#d08a2e"}
_LIMIT = "#b3402f"


def draw(figures: dict[str, Any], folder: Path) -> None:
    """Write both plots into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    curves = {name: figures[name]["curve"] for name in _COLORS if name in figures and figures[name]["curve"]}
    figure, axes = _plot("What a stream-frame costs the whole server", "µs of CPU per stream-frame")
    for name, curve in curves.items():
        axes.plot(_of(curve, "streams"), _of(curve, "cpu_us"), "o-", color=_COLORS[name], label=name)
    axes.axhline(figures["engine_us"], color=_LIMIT, linestyle="--", label="engine alone, batch 64")
    _save(figure, axes, folder / "server-cost.png")

    figure, axes = _plot("From the moment a frame is due to its scores", "ms")
    for name, curve in curves.items():
        for percent, style in (("p50_ms", "o:"), ("p99_ms", "o-")):
            label = f"{name}, {percent.removesuffix('_ms')}"
            axes.plot(_of(curve, "streams"), _of(curve, percent), style, color=_COLORS[name], label=label)
    axes.axhline(PATIENCE_MS, color=_LIMIT, linestyle="--", label=f"{PATIENCE_MS:g} ms")
    _save(figure, axes, folder / "server-latency.png")


def _of(curve: list[dict[str, float]], key: str) -> list[float]:
    return [held[key] for held in curve]


def _plot(title: str, ylabel: str) -> tuple[Any, Axes]:
    figure, axes = plt.subplots(figsize=(7, 3.8), layout="constrained")
    axes.set_title(title, loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.25)
    axes.set(xscale="log", yscale="log", xlabel="streams of 30 frames a second", ylabel=ylabel)
    return figure, axes


def _save(figure: Any, axes: Axes, path: Path) -> None:
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(ScalarFormatter())
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)
