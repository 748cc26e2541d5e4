"""The page's pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure as Picture

from poseline_training.results.rows import FIGURES, Rows, figures_of, interval_of, mean, value_of

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's, which the colour-blind tell apart."""
_FPS = 30


def points(rows: Rows, names: Sequence[str], of: str, path: Path) -> None:
    """Two figures of each row, a point a seed, with its interval over persons."""
    shown = [name for name in names if rows.get(name)]
    picture = Picture((9, 0.42 * len(shown) + 1.3), layout="constrained")
    for axes, figure in zip(picture.subplots(1, 2, sharey=True), FIGURES[:2], strict=True):
        for y, name in enumerate(shown):
            for i, row in enumerate(seeds := rows.get(name)):
                measured = figures_of(row, of)
                value, interval = value_of(measured, figure), interval_of(measured, figure)
                if value is None:
                    continue
                at = y + 0.16 * (i - (len(seeds) - 1) / 2)
                if interval:
                    axes.plot(interval, (at, at), color=_COLOURS[0], lw=1.5)
                axes.plot(value, at, "o", color=_COLOURS[1], ms=5)
        axes.set(title=figure.title, yticks=range(len(shown)), yticklabels=shown)
        axes.grid(axis="x", color="#e4e6ea")
    picture.axes[0].set_ylim(len(shown) - 0.5, -0.5)
    picture.savefig(path, dpi=100)


def look_ahead(rows: Rows, names: Sequence[str], of: str, path: Path) -> None:
    """Figures against the look-ahead of causal rows, means over seeds; networks that see everything as level lines."""
    picture = Picture((7, 3.6), layout="constrained")
    axes = picture.subplots()
    for colour, figure in zip(_COLOURS, FIGURES[:3], strict=False):
        curve: list[tuple[float, float]] = []
        for name in names:
            found = rows.get(name)
            value = mean([value_of(figures_of(row, of), figure) for row in found])
            if value is None:
                continue
            if found[0]["body"] == "centred_u":
                axes.axhline(value, color=colour, ls="--", lw=1)
                axes.annotate(name, (1, value), xycoords=("axes fraction", "data"), va="bottom", ha="right", fontsize=8)
            else:
                curve.append((found[0]["look_ahead"] / _FPS, value))
        axes.plot(*zip(*sorted(curve), strict=True) if curve else ((), ()), "o-", color=colour, label=figure.title)
    axes.set(xlabel="look-ahead, s")
    axes.grid(color="#e4e6ea")
    axes.legend(fontsize=8)
    picture.savefig(path, dpi=100)


def reliability(rows: Rows, names: Sequence[str], of: str, path: Path) -> None:
    """Share right against mean score, a small picture a set of the first row: bins are not averaged over sets."""
    row = next(iter(one for name in names for one in rows.get(name)))
    corpora = [name for name in row["sets"] if of in ("all", "real", name)]
    picture = Picture((3 * len(corpora), 3.1), layout="constrained")
    for axes, corpus in zip(picture.subplots(1, len(corpora), squeeze=False)[0], corpora, strict=True):
        bins = row["sets"][corpus]["reliability"]
        filled = [i for i, n in enumerate(bins["frames"]) if n]
        confidence, accuracy = ([bins[key][i] for i in filled] for key in ("confidence", "accuracy"))
        sizes = [220 * bins["frames"][i] / max(bins["frames"]) + 4 for i in filled]
        axes.plot((0, 1), (0, 1), color="#7a8291", lw=1)
        axes.plot(confidence, accuracy, color=_COLOURS[0], lw=1)
        axes.scatter(confidence, accuracy, s=sizes, color=_COLOURS[0], alpha=0.6)
        axes.set(title=corpus, xlabel="top score", xlim=(0, 1), ylim=(0, 1))
    picture.axes[0].set_ylabel("share right")
    picture.suptitle(f"{row['name']}: frames, as many as a point is large", fontsize=9)
    picture.savefig(path, dpi=100)


def alarms(results: Mapping[str, Mapping[str, Mapping[str, Any]]], path: Path) -> None:
    """Mean delay against false alarms an hour, a curve a rule with its thresholds beside the points, a panel a kind."""
    kinds = list(next(iter(next(iter(results.values())).values())))
    picture = Picture((4.6 * len(kinds), 3.8), layout="constrained")
    for axes, kind in zip(picture.subplots(1, len(kinds), squeeze=False)[0], kinds, strict=True):
        for colour, marker, (rule, points) in zip(_COLOURS, "os", results.items(), strict=False):
            at = [(found[kind]["false_per_hour"], found[kind]["delay"]) for found in points.values()]
            axes.plot(*zip(*at, strict=True), marker=marker, ms=4, color=colour, label=rule.replace("`", ""))
            for (x, y), threshold in zip(at, points, strict=True):
                axes.annotate(
                    threshold.removeprefix("0") or "0", (x, y), xytext=(3, 3), textcoords="offset points", fontsize=7
                )
        axes.set(title=kind, xlabel="false alarms an hour")
        axes.set_xlim(left=0)
        axes.grid(color="#e4e6ea")
    picture.axes[0].set_ylabel("mean delay, s")
    picture.axes[0].legend(fontsize=8)
    picture.savefig(path, dpi=100)
