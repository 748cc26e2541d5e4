"""`poseline localize`: a recording's actions, found by a server (`--url`) or by a bundle in this very process.

It lives in the top room because it alone joins a core reader with the service's engine; without `--url` it needs the
`service` extra, with it nothing but the core.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from msgspec import json
from rich.console import Console
from rich.table import Table

from poseline.bundle import ModelBundle, find_bundle
from poseline.cli import Recording, Seconds, Seed, Sequence, read_recording
from poseline.client import localize as localize_remotely
from poseline.online import localize as localize_here
from poseline.translation import decoding_options, rounded

_FIELDS = ("track_id", "label", "start", "end", "score")


class ResultFormat(StrEnum):
    json = "json"
    csv = "csv"
    text = "text"


Row = dict[str, str | float]


def localize(
    source: Annotated[str, typer.Argument(help="A corpus .npz, a localize request .json, or 'actor'.")],
    sequence: Sequence = None,
    url: Annotated[str | None, typer.Option(help="A server's /v1/localize; without it, this process does it.")] = None,
    model: Annotated[Path | None, typer.Option(help="Bundle folder for this process; else the default one.")] = None,
    models: Annotated[Path, typer.Option(envvar="POSELINE_MODELS", help="Folder of model bundles.")] = Path("models"),
    format: Annotated[ResultFormat, typer.Option(help="How segments are printed.")] = ResultFormat.text,
    seed: Seed = 0,
    seconds: Seconds = 60.0,
) -> None:
    """Find the actions of a recording."""
    recording = read_recording(source, sequence, seed, seconds)
    rows = list(_there(url, recording) if url else _here(model, models, recording))
    rows.sort(key=lambda row: (row["start"], row["track_id"], row["label"]))
    _print(rows, format)


def _there(url: str, recording: Recording) -> Iterable[Row]:
    for segment in localize_remotely(url, recording.request).segments:
        yield {name: getattr(segment, name) for name in _FIELDS}


def _here(model: Path | None, models: Path, recording: Recording) -> Iterable[Row]:
    from poseline_service.engine import open_scorer  # ONNX Runtime, only where it is to run

    bundle = ModelBundle.open(model) if model else find_bundle(models)
    scorer, options = open_scorer(bundle, slots=1), recording.request.options
    decoding = decoding_options(options, bundle.manifest.decoding)
    rows: list[Row] = []
    for name, poses in recording.people.items():
        for event in localize_here(
            bundle.manifest, scorer, poses, decoding, classes=options.classes, gap_reset=options.gap_reset
        ):
            if event.phase == "final":
                start, end, score = rounded(event)
                rows.append({"track_id": name, "label": event.label, "start": start, "end": end, "score": score})
    return sorted(rows, key=lambda row: -float(row["score"]))[: options.max_segments]


def _print(rows: list[Row], format: ResultFormat) -> None:
    match format:
        case ResultFormat.json:
            typer.echo(json.encode({"segments": rows}))
        case ResultFormat.csv:
            writer = csv.writer(sys.stdout)
            writer.writerow(_FIELDS)
            writer.writerows([row[name] for name in _FIELDS] for row in rows)
        case ResultFormat.text:
            table = Table(*_FIELDS)
            for row in rows:
                table.add_row(*(f"{row[name]:.2f}" if name in _FIELDS[2:] else str(row[name]) for name in _FIELDS))
            Console().print(table)
