"""What the server held during a soak, drawn: `soak.png`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # no screen: files are all that is made
import matplotlib.pyplot as plt

_SHOWN = {"rss_mb": "memory, MB", "tasks": "tasks", "fds": "descriptors", "sessions": "streams"}


def draw(figures: dict[str, Any], folder: Path) -> None:
    """Write the plot into the folder: one panel a quantity over minutes, from zero; where it began, dotted."""
    folder.mkdir(parents=True, exist_ok=True)
    samples = figures["samples"]
    minutes = [t / 60 for t in samples["t"]]
    figure, panels = plt.subplots(2, 2, figsize=(8, 4.4), layout="constrained", sharex=True)
    for axes, (name, title) in zip(panels.flat, _SHOWN.items(), strict=True):
        axes.plot(minutes, samples[name], color="#1f6f8b", linewidth=1)
        axes.axhline(figures["before"][name], color="#b3402f", linestyle=":", linewidth=1)
        axes.set_title(f"{title} ({figures['slopes'][name]:+.3g} an hour)", loc="left", fontsize=10)
        axes.set_ylim(bottom=0)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.25)
    for axes in panels[1]:
        axes.set_xlabel("minutes")
    figure.savefig(folder / "soak.png", dpi=110, metadata={"Software": None})
    plt.close(figure)
