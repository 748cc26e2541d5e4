"""The model card beside a bundle: what it is for, what it learnt from, what was measured, two plots."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from poseline.bundle import ModelBundle
from poseline.formats.corpus import FPS
from poseline.manifest import ModelManifest
from poseline_training.config import EvaluationSet, ExportSettings
from poseline_training.evaluate import StreamedSequence

matplotlib.use("Agg")
import matplotlib.pyplot as plt

_CHOSEN = (
    "Thresholds of each class, chosen on validation recordings by its F1@50 there (smoothed over neighbouring thresholds; a "
    "class shown less than ten times, or that gains nothing, keeps those of all):"
)
_COLUMNS = (
    ("frame acc.", lambda m: m["frame_accuracy"]),
    ("macro F1", lambda m: m["frame_macro_f1"]),
    ("frame mAP", lambda m: m["frame_map"]),
    ("segment mAP@.1", lambda m: m["segment_map"]["0.1"]),
    ("@.3", lambda m: m["segment_map"]["0.3"]),
    ("@.5", lambda m: m["segment_map"]["0.5"]),
    ("F1@10", lambda m: m["f1"]["10"]),
    ("@25", lambda m: m["f1"]["25"]),
    ("@50", lambda m: m["f1"]["50"]),
    ("start p-AP .5 s", lambda m: m["start_p_ap"]["0.5"]),
    ("1 s", lambda m: m["start_p_ap"]["1.0"]),
)


def write_card(
    settings: ExportSettings, bundle: ModelBundle, streamed: dict[str, list[StreamedSequence]], parameters: int
) -> None:
    """README.md, confusion.png and timeline.png in the bundle's folder."""
    if streamed:
        pooled = [one for many in streamed.values() for one in many]
        _plot_confusion(pooled, bundle.manifest.classes, bundle.path / "confusion.png")
        _plot_timeline(next(iter(streamed.values()))[0], bundle.manifest.classes, bundle.path / "timeline.png")
    (bundle.path / "README.md").write_text(_text(settings, bundle, parameters))


def _text(settings: ExportSettings, bundle: ModelBundle, parameters: int) -> str:
    manifest = bundle.manifest
    sets = manifest.metrics["sets"]
    classes = ", ".join(manifest.classes[1:])
    research = (
        "Research use only: some of the recordings were given for research alone. " if manifest.research_only else ""
    )
    ability = (
        f"Causal, frame by frame at {manifest.fps:g} frames a second, {_look_ahead(manifest)}. Input: `{manifest.layout}`, "
        f"{' or '.join(manifest.spaces)}. {len(manifest.classes) - 1} actions and background: {classes}."
    )
    thresholds = manifest.decoding
    operation = (
        f"A segment opens at a score of {thresholds.min_score:.2g} and closes below {thresholds.off_score:.2g}; what is "
        f"shorter than {thresholds.min_duration:.2g} s is retracted."
    )
    if settings.temperature != 1:
        operation += f" Scores are calibrated on people held out (temperature {settings.temperature:.3g})."
    if manifest.unknown_below:
        operation += f' Where the best class scores less than {manifest.unknown_below:.2g}, the answer is "unknown".'
    method = (
        "Every sequence went through the online path; events are those that the service sends, with its one decoder. "
        f"All classes open. Fractions. {settings.caveat}"
    )
    parts = [
        f"# {manifest.name} (version {manifest.version})",
        manifest.description,
        f"**Licence of these weights: {manifest.license}.** {research}**Not a medical device.**",
        "## What it does",
        ability,
        f"{parameters / 1e6:.2f} M parameters; {manifest.state.bytes_per_stream / 1024:.1f} KiB of state per person.",
        operation,
        *([_chosen_table(chosen)] if (chosen := manifest.metrics.get("thresholds")) else []),
        "## Data",
        settings.data_notes.strip(),
        "## Measured",
        method,
        *(_table(one, sets[one.corpus]) for one in settings.evaluate),
    ]
    if len(sets) > 1:
        parts.append(_mean_table(sets))
    if sets:
        parts += ["![Confusion over frames](confusion.png)", "![One recording's timeline](timeline.png)"]
    if bent := manifest.metrics["robustness"]:
        parts += ["## What it bears", _robustness_table(bent)]
    parts += ["## Intended use and limits", settings.limits.strip()]
    return "\n\n".join(parts) + "\n"


def _chosen_table(chosen: dict[str, Any]) -> str:
    """Every class' thresholds, and what they are worth on the validation recordings on which they were chosen."""
    lines = [
        _CHOSEN,
        "",
        "| class | instances | opens | closes | F1@50 at those of all | at its own |",
        "|---|---|---|---|---|---|",
    ]
    for name, one in chosen.items():
        own = one["thresholds"]
        borders = ("as all", "as all") if own is None else (f"{own['min_score']:.2g}", f"{own['off_score']:.2g}")
        figures = ("" if one[key] is None else f"{one[key]:.3f}" for key in ("f1_shared", "f1"))
        lines.append(f"| {name} | {one['instances']} | {' | '.join((*borders, *figures))} |")
    return "\n".join(lines)


def _look_ahead(manifest: ModelManifest) -> str:
    if not manifest.look_ahead:
        return "no look-ahead"
    return (
        f"what it says of a frame said {manifest.look_ahead} frames ({manifest.look_ahead / manifest.fps:.2f} s) later"
    )


def _table(one: EvaluationSet, measured: dict[str, Any]) -> str:
    background = measured["poseline"]["background_share"]
    delay = measured["poseline"]["start_delay_mean"]
    rows = {name: m for name, m in measured.items() if name != "split"}
    at = measured["poseline"]["operating_point"]
    return (
        f"### {one.corpus} ({one.split}, {measured['poseline']['seconds'] / 60:.1f} minutes)\n\n"
        + _rows(rows)
        + f"\n\nAlways saying background would have frame accuracy {background:.3f} and nothing else. "
        f"At the shipped thresholds: {at['found']:.0%} of the actions have their final at tIoU .5, with median errors of "
        f"{_seconds(at['start_error'])} at the start and {_seconds(at['end_error'])} at the end; the final comes "
        f"{_seconds(at['final_delay'])} after the true end, a start {_seconds(delay)} after the true start (means); "
        f"{at['false_per_minute']:.1f} finals a minute touch no such action; {at['retracted']:.0%} of the starts are "
        "retracted."
    )


def _seconds(value: float | None) -> str:
    """None where nothing was right enough to be measured."""
    return "(not measured)" if value is None else f"{value:z.2f} s"


def _mean_table(metrics: dict[str, Any]) -> str:
    names = [name for name in next(iter(metrics.values())) if name != "split"]
    background = np.mean([m["poseline"]["background_share"] for m in metrics.values()])
    cells = {name: [np.mean([get(m[name]) for m in metrics.values()]) for _, get in _COLUMNS] for name in names}
    lines = [_header(), *(_line(name, values) for name, values in cells.items())]
    lines.append(_line("always background", [background, *([0.0] * (len(_COLUMNS) - 1))]))
    return f"### Mean of the {len(metrics)} sets\n\n" + "\n".join(lines)


def _robustness_table(bent: dict[str, Any]) -> str:
    """Frame mAP and segment mAP@.5 of the same recordings under each condition."""
    lines = [
        "The same test recordings, bent before they enter the service: frame mAP / segment mAP@.5.",
        "",
        "| | " + " | ".join(bent) + " |",
        "|---" * (len(bent) + 1) + "|",
    ]
    for condition in next(iter(bent.values())):
        figures = (one[condition] for one in bent.values())
        cells = " | ".join(f"{f['frame_map']:.3f} / {f['segment_map_0.5']:.3f}" for f in figures)
        lines.append(f"| {condition} | {cells} |")
    return "\n".join(lines)


def _rows(measured: dict[str, Any]) -> str:
    return "\n".join([_header(), *(_line(name, [get(m) for _, get in _COLUMNS]) for name, m in measured.items())])


def _header() -> str:
    return "| | " + " | ".join(name for name, _ in _COLUMNS) + " |\n|" + "---|" * (len(_COLUMNS) + 1)


def _line(name: str, values: list[Any]) -> str:
    return f"| {name} | " + " | ".join(f"{value:.3f}" for value in values) + " |"


def _plot_confusion(streamed: list[StreamedSequence], classes: tuple[str, ...], path: Path) -> None:
    labels = np.concatenate([one.labels for one in streamed])
    found = np.concatenate([one.scores for one in streamed]).argmax(1)[labels >= 0]
    labels = labels[labels >= 0]
    counts = np.zeros((len(classes), len(classes)))
    np.add.at(counts, (labels, found), 1)
    present = np.flatnonzero(counts.sum(1))
    shares = counts[present] / counts[present].sum(1, keepdims=True)
    figure, axes = plt.subplots(figsize=(11, 10), layout="constrained")
    image = axes.imshow(shares, cmap="magma", vmin=0, vmax=1)
    axes.set_yticks(range(len(present)), [classes[c] for c in present], fontsize=7)
    axes.set_xticks(range(len(classes)), classes, rotation=90, fontsize=7)
    axes.set_ylabel("true")
    axes.set_xlabel("highest score")
    axes.set_title("Share of each true class's frames, all evaluation sets")
    figure.colorbar(image, shrink=0.6)
    figure.savefig(path, dpi=80)
    plt.close(figure)


def _plot_timeline(one: StreamedSequence, classes: tuple[str, ...], path: Path) -> None:
    seconds = np.arange(len(one.labels)) / FPS
    shown = sorted({c for *_, c in one.truths()} | {c for _, _, c, _ in one.detections()})
    figure, axes = plt.subplots(figsize=(13, 0.42 * len(shown) + 1.2), layout="constrained")
    for row, c in enumerate(shown):
        axes.fill_between(seconds, row + 0.02, row + 0.02 + 0.6 * one.scores[:, c], color="#4c78a8", alpha=0.35, lw=0)
        for start, end, _ in (t for t in one.truths() if t[2] == c):
            axes.plot([start, end], [row + 0.9, row + 0.9], color="#333333", lw=4, solid_capstyle="butt")
        for start, end, _, _ in (d for d in one.detections() if d[2] == c):
            axes.plot([start, end], [row + 0.75, row + 0.75], color="#f58518", lw=4, solid_capstyle="butt")
    axes.set_yticks([row + 0.5 for row in range(len(shown))], [classes[c] for c in shown])
    axes.set_xlim(0, seconds[-1])
    axes.set_xlabel("seconds")
    axes.set_title(f"{one.name}: annotated (black), final segments (orange), scores (blue)")
    figure.savefig(path, dpi=80)
    plt.close(figure)
