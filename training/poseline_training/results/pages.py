"""docs/results.md: made from the rows and from what results.yaml says of them; never edited by hand."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from poseline_training.results import plots, tables
from poseline_training.results.counting import counting
from poseline_training.results.enrolment import enrolment
from poseline_training.results.rows import CALIBRATION, EARLY, OPERATING, PROTOCOLS, STARTS, Rows
from poseline_training.results.settings import AimSettings, GroupSettings, ResultsSettings
from poseline_training.robustness import plot as robustness

_MADE = "<!-- Made by `poseline results` from docs/results/ and training/configs/results.yaml; edit those. -->"

_DRAW = {"points": plots.points, "look_ahead": plots.look_ahead, "reliability": plots.reliability}
"""Pictures of rows."""
_DRAW_KEPT = {"robustness": robustness.plot, "alarms": plots.alarms}
"""Pictures of a file of their own name."""
_COLUMNS = {
    "operating": OPERATING,
    "calibration": CALIBRATION,
    "early": EARLY,
    "protocols": PROTOCOLS,
    "starts": STARTS,
}
"""Tables of one line a row, and nothing else."""


def write_page(settings: ResultsSettings, folder: Path, output: Path) -> None:
    """The page, and its pictures beside `folder`, which holds the rows; `folds/`, `robustness.json`, `giveaways.json`,
    `alarms.json`, `counting.json` and `enrolment.json` lie beside it too."""
    page = _Page(Rows(folder), folder.parent, output.parent, settings.aims)
    parts = ["# Results", _MADE, settings.words.strip()]
    for group in settings.groups:
        parts += [f"## {group.title}", group.words.strip(), page.table(group), page.picture(group)]
    output.write_text("\n\n".join(one for one in parts if one) + "\n")


class _Page:
    def __init__(self, rows: Rows, kept: Path, folder: Path, aims: Sequence[AimSettings]) -> None:
        self._rows, self._kept, self._folder, self._aims = rows, kept, folder, aims

    def table(self, group: GroupSettings) -> str:
        rows, names, of = self._rows, group.rows, group.of
        match group.table:
            case "figures":
                size = tables.costs(rows, names) if group.costs else ""
                return "\n\n".join(one for one in (tables.of_figures(rows, names, of), size) if one)
            case "sets":
                return tables.sets(rows, names)
            case "aims":
                return tables.aims(rows, names, self._aims)
            case "won_back":
                return tables.won_back(rows, names, of)
            case "trimmed":
                return tables.trimmed(rows, names, of)
            case "negatives":
                return tables.negatives(rows, names, of)
            case "native":
                return tables.native(rows, names, of)
            case "recomposed":
                return tables.recomposed(rows, names, of)
            case "left_out":
                return tables.left_out(rows, names[1:], names[0])
            case "folds":
                return tables.folds({name: self._read(f"folds/{name}.json") for name in names}, of)
            case "tail":
                return tables.tail({name: self._read(f"folds/{name}.json") for name in names})
            case "robustness":
                return tables.robustness(self._read("robustness.json"))
            case "giveaways":
                return tables.giveaways(self._read("giveaways.json"))
            case "counting":
                return counting(self._read("counting.json"))
            case "enrolment":
                return enrolment(self._read("enrolment.json"))
            case "alarms":
                return tables.alarms(self._read("alarms.json"))
            case columns:
                return tables.of_figures(rows, names, of, _COLUMNS[columns])

    def picture(self, group: GroupSettings) -> str:
        path = self._kept / f"{re.sub(r'[^a-z0-9]+', '-', group.title.lower()).strip('-')}.png"
        kept = self._read(f"{group.plot}.json") if group.plot in _DRAW_KEPT else None
        if group.plot and kept is not None:
            _DRAW_KEPT[group.plot](kept, path)
        elif group.plot in _DRAW and any(self._rows.get(name) for name in group.rows):
            _DRAW[group.plot](self._rows, group.rows, group.of[0], path)
        else:
            return ""
        return f"![{group.title}]({Path(os.path.relpath(path, self._folder)).as_posix()})"

    def _read(self, name: str) -> Any:
        path = self._kept / name
        return json.loads(path.read_text()) if path.exists() else None
