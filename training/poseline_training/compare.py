"""`poseline compare`: is the new bundle better than the old one? The same recordings through both, and an interval.

Only what both can say is compared: frames of classes that one of them lacks do not count for either. Persons are drawn with
replacement, the same for both, each with all of their recordings (`metrics.bootstrap`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from poseline.bundle import ModelBundle
from poseline.errors import CorpusError
from poseline.formats.corpus import FPS, read_corpus
from poseline_training.evaluate import headline
from poseline_training.metrics.bootstrap import Interval, by_person, paired_bootstrap
from poseline_training.runtime import open_scorer
from poseline_training.streaming import StreamedSequence, stream_all

Verdict = Literal["better", "worse", "no difference shown"]
DECIDES = "frame_map"
"""The figure whose interval is the verdict."""
_FEW = 5
"""Persons below which an interval is hardly more than the persons side by side."""


def compare(
    old: Annotated[Path, typer.Argument(help="Bundle that answers now.", exists=True)],
    new: Annotated[Path, typer.Argument(help="Bundle that might.", exists=True)],
    corpus: Annotated[Path, typer.Option(help="Corpus folder.", exists=True)],
    split: Annotated[str, typer.Option(help="File of the corpus, without .npz: untrimmed_test …; a,b: as one.")],
    label_map: Annotated[Path | None, typer.Option(help="JSON: corpus → class → common label; else its own.")] = None,
    draws: Annotated[int, typer.Option(help="Of persons, for the interval.", min=100)] = 1000,
    json_: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
) -> None:
    """Say which of two bundles is better on people whom neither has learnt from, and how sure that is. Worse exits 1."""
    bundles = ModelBundle.open(old), ModelBundle.open(new)
    streams, classes = streamed(bundles, corpus, split, label_map)
    values = [headline(one) for one in streams]
    found = paired_bootstrap([streams[1]], [streams[0]], headline, draws)
    people = len(by_person(streams[0]))
    decision = verdict(found[DECIDES], people)
    _tell(bundles, values, found)
    typer.echo(
        f"{bundles[1].path.name} is {decision} than {bundles[0].path.name}"
        if decision != "no difference shown"
        else f"no difference is shown between {bundles[1].path.name} and {bundles[0].path.name}"
    )
    typer.echo(f"({DECIDES}, 95 % interval of the difference over {people} persons; classes: {', '.join(classes)})")
    if people < _FEW:
        typer.echo(f"only {people} persons: the interval says little beyond them", err=True)
    if json_:
        figures = {
            name: {"old": a, "new": values[1][name], "difference": asdict(found[name])} for name, a in values[0].items()
        }
        json_.write_text(
            json.dumps({"verdict": decision, "persons": people, "classes": classes, "figures": figures}, indent=2)
        )
    if decision == "worse":
        raise typer.Exit(1)


def streamed(
    bundles: Sequence[ModelBundle], corpus: Path, split: str, label_map: Path | None
) -> tuple[list[list[StreamedSequence]], list[str]]:
    """A split through each bundle, with the frames that all of them have a class for; and these classes, but background.

    Raises CorpusError.
    """
    sequences = [one for name in split.split(",") for one in read_corpus(corpus / f"{name}.npz")]
    every = [stream_all(one.manifest, open_scorer(one), sequences, label_map) for one in bundles]
    kept: list[list[StreamedSequence]] = [[] for _ in bundles]
    for several in zip(*every, strict=True):
        frames = min(len(one.labels) for one in several)
        known = np.all([one.labels[:frames] >= 0 for one in several], axis=0)
        for place, one in zip(kept, several, strict=True):
            labels = np.where(known, one.labels[:frames], -1)
            natives = tuple(true for true in one.natives if labels[min(round(true[0] * FPS), frames - 1)] > 0)
            place.append(replace(one, labels=labels, scores=one.scores[:frames], natives=natives))
    manifest = bundles[0].manifest
    found = np.unique(np.concatenate([one.labels for one in kept[0]]))
    names = [manifest.classes[k] for k in found.tolist() if k > 0]
    if not names:
        raise CorpusError(f"{corpus.name}/{split} holds no class that both bundles have")
    return kept, names


def verdict(difference: Interval, people: int) -> Verdict:
    """By the interval alone: what it does not exclude is not said; and one person's has no width."""
    if people > 1 and difference.low > 0:
        return "better"
    return "worse" if people > 1 and difference.high < 0 else "no difference shown"


def _tell(bundles: Sequence[ModelBundle], values: Sequence[dict[str, float]], found: dict[str, Interval]) -> None:
    table = Table("", *(one.path.name for one in bundles), "difference", "95 %")
    for name, one in found.items():
        shown = (_number(value[name], "") for value in values)
        table.add_row(name, *shown, _number(one.value, "+"), f"{_number(one.low, '+')} to {_number(one.high, '+')}")
    Console().print(table)


def _number(value: float, sign: str) -> str:
    return f"{value:{sign}.3f}" if np.isfinite(value) else "-"
