"""Small multiples: frame mAP against severity, one line a set and their mean; what has no degrees, as dots below."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes

from poseline_training.robustness.figures import ONCE_ONLY, Results

matplotlib.use("Agg")
import matplotlib.pyplot as plt

_COLUMNS = 4
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's, which the colour-blind tell apart; markers tell them apart in grey."""
_MARKERS = "os^Dvx"


def plot(results: Results, path: Path) -> None:
    """`measure`'s results as one picture; the suffix of `path` says of what kind."""
    curves = {name: found for name, found in results.items() if name != ONCE_ONLY}
    rows = -(-len(curves) // _COLUMNS)
    figure = plt.figure(figsize=(11, 2.1 * rows + 3), layout="constrained")
    grid = figure.add_gridspec(rows + 1, _COLUMNS, height_ratios=[2.1] * rows + [3])
    for i, (name, found) in enumerate(curves.items()):
        axes = figure.add_subplot(grid[i // _COLUMNS, i % _COLUMNS])
        _curve(axes, found)
        axes.set_xlabel(name, fontsize=8)
        if i % _COLUMNS == 0:
            axes.set_ylabel("frame mAP", fontsize=8)
    once = figure.add_subplot(grid[rows, :])
    _dots(once, results[ONCE_ONLY])
    once.set_xlabel("frame mAP", fontsize=8)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), fontsize=8, frameon=False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _curve(axes: Axes, found: dict[str, dict[str, dict[str, float]]]) -> None:
    at = [float(severity) for severity in found]
    for name, look in _looks(found).items():
        axes.plot(at, [one[name]["frame_map"] for one in found.values()], label=name, markersize=3.5, **look)
    axes.set_ylim(0, 1)
    axes.set_xticks(at, [f"{one:g}".lstrip("0") or "0" for one in at])  # .05 is narrower than 0.05
    axes.tick_params(labelsize=7)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)


def _dots(axes: Axes, found: dict[str, dict[str, dict[str, float]]]) -> None:
    for name, look in _looks(found).items():
        at = [one[name]["frame_map"] for one in found.values()]
        axes.plot(at, range(len(found)), **look).pop().set_linestyle("")
    axes.set_yticks(range(len(found)), list(found), fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.tick_params(axis="x", labelsize=7)
    axes.grid(axis="both", color="#dddddd", linewidth=0.6)


def _looks(found: dict[str, dict[str, dict[str, float]]]) -> dict[str, dict[str, Any]]:
    """Set → how its line looks; the mean comes last, on top of the others."""
    names = [name for name in next(iter(found.values())) if name != "mean"]
    looks: dict[str, dict[str, Any]] = {
        name: {"color": _COLOURS[i % 6], "marker": _MARKERS[i % 6], "linewidth": 1.0} for i, name in enumerate(names)
    }
    return looks | {"mean": {"color": "black", "marker": "*", "linewidth": 2.0}}
