"""A timeline as a picture: a row a label, tracks below one another, time to the right. Needs matplotlib."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from poseline.errors import InputError
from poseline.timeline import Timeline

_INK, _SOFT, _LINE, _BAND = "#1f2430", "#7a8291", "#e4e6ea", "#f6f7f9"
_COLOURS = (
    "#4c78c9",
    "#e08a3c",
    "#3fa37a",
    "#c9506b",
    "#8367c7",
    "#2f9fb0",
    "#b5852a",
    "#6b8e3d",
    "#b45aa8",
    "#5c6b8a",
)
_ROW, _REST, _WIDTH, _DPI = 0.32, 1.3, 11.0, 150
"""Inches of a row, of all that is no row, and of the whole across; dots an inch."""
_MOST_ROWS = 150
_THINNEST = 1 / 500
"""Share of the width that a segment takes at least, or it would not be seen."""

_Row = tuple[str, str]
"""Track and label."""


def draw(timeline: Timeline, path: Path) -> None:
    """Write a .png, .svg or .pdf. Raises InputError where that cannot be, or the picture would be too tall."""
    rows = sorted({(one.track_id, one.label) for one in timeline.segments})
    if len(rows) > _MOST_ROWS:
        raise InputError(f"the timeline has {len(rows)} rows of track and label, a picture holds {_MOST_ROWS}")
    figure = Figure((_WIDTH, _ROW * max(len(rows), 1) + _REST), layout="constrained")
    axes = figure.add_subplot()
    _frame(axes, timeline, rows)
    _segments(axes, timeline, rows)
    try:
        with rc_context({"svg.fonttype": "none", "svg.hashsalt": "poseline"}):
            figure.savefig(path, dpi=_DPI)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be drawn: {error}") from None


def _frame(axes: Axes, timeline: Timeline, rows: list[_Row]) -> None:
    """Everything but the segments: a band a track, names of rows, the clock, and what was asked whom."""
    begin = min([0.0, *(one.start for one in timeline.segments)])
    end = max([begin + 1, begin + (timeline.duration or 0), *(one.end for one in timeline.segments)])
    axes.set(xlim=(begin, end), ylim=(max(len(rows), 1) - 0.5, -0.5))
    tracks = [(track, len(list(same))) for track, same in groupby(rows, key=lambda row: row[0])]
    top = 0
    for number, (track, height) in enumerate(tracks):
        if number % 2 == 0 and len(tracks) > 1:
            axes.axhspan(top - 0.5, top + height - 0.5, color=_BAND, lw=0, zorder=0)
        if len(tracks) > 1:
            axes.annotate(
                track,
                (1, top + height / 2 - 0.5),
                (8, 0),
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
                va="center",
                color=_SOFT,
                fontsize=9,
                parse_math=False,
            )
        top += height
    axes.set_yticks(range(len(rows)), [label.replace("_", " ") for _, label in rows], color=_INK, fontsize=10)
    for name in axes.get_yticklabels():
        name.set_parse_math(False)
    axes.xaxis.set_major_locator(MaxNLocator(12, steps=[1, 2, 3, 5, 6, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: _clock(seconds, end)))
    axes.tick_params(length=0, labelcolor=_INK)
    axes.tick_params(axis="x", labelcolor=_SOFT, labelsize=9)
    axes.grid(axis="x", color=_LINE, lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    if not rows:
        axes.text(0.5, 0.5, "no action was found", transform=axes.transAxes, ha="center", va="center", color=_SOFT)
    axes.set_title(timeline.source, loc="left", fontsize=12, color=_INK, pad=12, parse_math=False)
    model = timeline.model
    said = "" if model is None else f"{model.name} {model.version}"
    axes.set_title(said, loc="right", fontsize=9, color=_SOFT, pad=12, parse_math=False)


def _segments(axes: Axes, timeline: Timeline, rows: list[_Row]) -> None:
    """The surer, the fuller the colour."""
    labels = sorted({label for _, label in rows})
    place = {row: n for n, row in enumerate(rows)}
    left, right = axes.get_xlim()
    for one in timeline.segments:
        span = (one.start, max(one.end - one.start, (right - left) * _THINNEST))
        colour = _COLOURS[labels.index(one.label) % len(_COLOURS)]
        below = place[one.track_id, one.label] - 0.32
        axes.broken_barh([span], (below, 0.64), facecolor=colour, alpha=0.3 + 0.7 * one.score, lw=0, zorder=2)
        axes.broken_barh([span], (below, 0.64), facecolor="none", edgecolor=colour, lw=1, zorder=3)


def _clock(seconds: float, longest: float) -> str:
    """`12 s` in short recordings, `2:05` in longer ones."""
    if longest < 120:
        return f"{seconds:g} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02}"
