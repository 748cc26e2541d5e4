"""The figures drawn: `batch.png`, `classes.png`, `engines.png`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # no screen: files are all that is made
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import ScalarFormatter

_OURS, _SECOND, _REST, _LIMIT = "#1f6f8b", "#d08a2e", "#9aa5ab", "#b3402f"


def draw(figures: dict[str, Any], folder: Path) -> None:
    """Write the engine's plots into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with _plot(folder / "batch.png", "What a stream-frame costs, by batch") as axes:
        _by_batch(axes, figures)
    with _plot(folder / "classes.png", "What a stream-frame costs, by number of classes (batch 32)") as axes:
        _by_classes(axes, figures["us_by_classes"])
    with _plot(folder / "engines.png", "The same network in other engines") as axes:
        _engines(axes, figures["us_same_network"])


@contextmanager
def _plot(path: Path, title: str) -> Iterator[Axes]:
    figure, axes = plt.subplots(figsize=(7, 3.8), layout="constrained")
    axes.set_title(title, loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.25)
    yield axes
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


def _by_batch(axes: Axes, figures: dict[str, Any]) -> None:
    batches, cost = zip(*((int(b), us) for b, us in figures["us_per_stream_frame"].items()), strict=True)
    axes.plot(batches, cost, marker="o", color=_OURS, label="measured")
    limit = figures["sgemm_limit_us"]
    axes.axhline(
        limit, color=_LIMIT, linestyle="--", label=f"sgemm at {figures['sgemm_gflops']:.0f} GFLOP/s: {limit:.1f} µs"
    )
    axes.set(
        xscale="log", yscale="log", xlabel="streams in a step", ylabel="µs per stream-frame", ylim=(5, 1.3 * max(cost))
    )
    axes.set_xticks(batches, [str(batch) for batch in batches])
    axes.yaxis.set_major_formatter(ScalarFormatter())
    for batch, us in zip(batches, cost, strict=True):
        axes.annotate(f"{us:.1f}", (batch, us), textcoords="offset points", xytext=(0, 7), ha="center", fontsize=8)
    axes.minorticks_off()
    axes.legend(frameon=False)


def _by_classes(axes: Axes, costs: dict[str, dict[str, float]]) -> None:
    step = np.array([one["step"] for one in costs.values()])
    decoding = np.array([one["decoding"] for one in costs.values()])
    axes.bar(list(costs), step, color=_OURS, width=0.55, label="scores")
    axes.bar(list(costs), decoding, bottom=step, color=_SECOND, width=0.55, label="decoding")
    for place, total in enumerate(step + decoding):
        axes.annotate(
            f"{total:.1f}", (place, total), textcoords="offset points", xytext=(0, 3), ha="center", fontsize=8
        )
    axes.set(xlabel="classes", ylabel="µs per stream-frame", ylim=(0, 1.3 * (step + decoding).max()))
    axes.legend(frameon=False, loc="upper left")


def _engines(axes: Axes, costs: dict[str, dict[str, float]]) -> None:
    batches = list(next(iter(costs.values())))
    place = np.arange(len(costs))
    for shift, batch, color in zip((-0.2, 0.2), batches, (_REST, _OURS), strict=True):
        cost = [one[batch] for one in costs.values()]
        bars = axes.bar(place + shift, cost, 0.38, color=color, label=f"batch {batch}")
        axes.bar_label(bars, [f"{us:.0f}" if us >= 100 else f"{us:.1f}" for us in cost], fontsize=8, padding=2)
    axes.set(yscale="log", ylabel="µs per stream-frame", ylim=(5, None))
    axes.set_xticks(place, [name.replace(", ", ",\n") for name in costs])
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.legend(frameon=False, loc="upper left")
