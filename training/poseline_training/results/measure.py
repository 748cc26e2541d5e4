"""One row: what a finished run, or a bundle made from it, is worth on all that results.yaml names."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from poseline.bundle import ModelBundle
from poseline.errors import InputError
from poseline.formats.corpus import LabelledSequence, read_corpus
from poseline.manifest import ModelManifest
from poseline_training.compose import recomposed
from poseline_training.config import DataSettings, EvaluationSet, FinetuneSettings
from poseline_training.corpus import common_labels, in_classes, is_foreign
from poseline_training.finetune import finetuned
from poseline_training.metrics.early import SHARES, recognition_accuracy
from poseline_training.metrics.native import native_recall
from poseline_training.results.figures import figures_of, negative_figures, rounded
from poseline_training.results.networks import multiply_adds, open_head, parameters
from poseline_training.results.settings import NegativeSettings, ResultsSettings, RowSettings
from poseline_training.running import COST, RESOLVED
from poseline_training.runtime import open_scorer
from poseline_training.streaming import Scorer, StreamedSequence, stream_all


@dataclass(frozen=True)
class Measured:
    """Who answers, and where recordings and their common labels come from. trained: the run's settings, where known."""

    manifest: ModelManifest
    scorer: Scorer
    data: DataSettings
    trained: FinetuneSettings | None

    def stream(self, sequences: list[LabelledSequence]) -> list[StreamedSequence]:
        return stream_all(
            self.manifest, self.scorer, sequences, self.data.label_map, look_ahead=self.manifest.look_ahead
        )


def measure(
    settings: ResultsSettings,
    name: str,
    run: Path | None = None,
    bundle: Path | None = None,
    look_ahead: int | None = None,
) -> dict[str, Any]:
    """The row called `name`. run: answers by its torch network over whole recordings. bundle: answers by its step graphs;
    with a run beside it, that tells what the bundle was trained on and cost. look_ahead: instead of the one that the
    settings give the row; a bundle has its own.

    A run's labels are its own configuration's: one that was trained on native labels is measured on those.

    Raises InputError, CorpusError, BundleError.
    """
    row = settings.row(name)
    head = row if look_ahead is None else row.model_copy(update={"look_ahead": look_ahead})
    measured = _open(settings, run, bundle, head)
    data, manifest = measured.data, measured.manifest
    chosen = [one for one in settings.sets if row.sets is None or one.corpus in row.sets]
    if not chosen:
        raise InputError(f"row {name} is to be measured on {', '.join(row.sets or ())}: no such set", param="sets")
    streamed = {one.corpus: measured.stream(read_corpus(data.root / one.corpus / f"{one.split}.npz")) for one in chosen}
    found = figures_of(streamed, manifest.classes, [one.corpus for one in chosen if one.real], settings.draws)
    for one in chosen:
        found["sets"][one.corpus] |= {"split": one.split, "native_classes": _native(streamed[one.corpus], manifest)}
    anew = {
        one.corpus: measured.stream(recomposed(data.root / one.corpus, one.split, one.seed))
        for one in settings.recomposed
        if one.corpus in streamed
    }
    return (
        {"name": name, "answers": "step graphs" if bundle else "torch, whole recordings"}
        | {"decoding": manifest.decoding.model_dump(), "temperature": None if bundle else row.temperature}
        | _facts(measured.trained, run)
        | {"look_ahead": manifest.look_ahead, "classes": len(manifest.classes)}
        | found
        | {"recomposed": figures_of(anew, manifest.classes, (), settings.draws) if anew else None}
        | {"trimmed": _trimmed(measured, settings.trimmed)}
        | {"negatives": {one.corpus: _negatives(measured, one) for one in settings.negatives}}
    )


def recordings(settings: ResultsSettings) -> dict[str, list[LabelledSequence]]:
    """The sets' test recordings, by corpus."""
    return {one.corpus: read_corpus(settings.data.root / one.corpus / f"{one.split}.npz") for one in settings.sets}


def _open(settings: ResultsSettings, run: Path | None, bundle: Path | None, head: RowSettings) -> Measured:
    if run is None and bundle is None:
        raise InputError("there is nothing to measure: give a run, a bundle or both")
    trained = None if run is None else FinetuneSettings.load(run / RESOLVED)
    label_map = settings.data.label_map if trained is None else trained.data.label_map
    data = settings.data.model_copy(update={"label_map": label_map})
    if bundle is not None:
        opened = ModelBundle.open(bundle)
        return Measured(opened.manifest, open_scorer(opened), data, trained)
    assert run is not None
    manifest, scorer = open_head(run, head.look_ahead, head.temperature)
    return Measured(manifest.model_copy(update={"decoding": settings.decoding}), scorer, data, trained)


def _native(streamed: list[StreamedSequence], manifest: ModelManifest) -> Any:
    return rounded(
        native_recall([one.detections() for one in streamed], [one.natives for one in streamed], manifest.classes)
    )


def _trimmed(measured: Measured, sets: Sequence[EvaluationSet]) -> dict[str, Any]:
    """Online recognition of trimmed clips, each a stream of its own: corpus → share of the clip → share recognised."""
    found: dict[str, Any] = {}
    for one in sets:
        clips = measured.stream(read_corpus(measured.data.root / one.corpus / f"{one.split}.npz"))
        known = [clip for clip in clips if clip.labels.max() > 0]
        scores, labels = [clip.scores for clip in known], [clip.labels for clip in known]
        accuracy = {str(share): recognition_accuracy(scores, labels, share) for share in SHARES}
        found[one.corpus] = {"clips": len(known), "recognition_accuracy": accuracy}
    return rounded(found)


def _negatives(measured: Measured, negatives: NegativeSettings) -> dict[str, Any] | None:
    """None where the run has seen every manner that there is, or people of a set without manners.

    `seen` of a content: the run had it as background, in other manners and maybe by the same people.
    """
    sequences = [
        one
        for file in negatives.files
        for one in read_corpus(measured.data.root / negatives.corpus / f"{file}.npz")
        if is_foreign(in_classes(one.labels, common_labels(one, measured.data.label_map), measured.manifest.classes))
    ]
    every = {one.style for one in sequences}
    trained = _manners(measured.trained, negatives.corpus, every) if measured.trained else set[str]()
    unseen = [one for one in sequences if one.style not in trained]
    if not unseen:
        return None
    known = {_content(one) for one in sequences if one.style in trained}
    contents = [_content(one) for one in unseen]
    found = negative_figures(measured.stream(unseen), measured.manifest.classes, contents)
    for name, one in found["contents"].items():
        one["seen"] = name in known
    return {"styles": sorted({one.style for one in unseen} - {""})} | found


def _content(sequence: LabelledSequence) -> str:
    """What a recording of one thing shows, by the set's own name."""
    return sequence.classes[int(sequence.labels.max())]


def _manners(trained: FinetuneSettings, corpus: str, everything: set[str]) -> set[str]:
    """The manners of the corpus that the run was trained on, with labels or as background."""
    seen: set[str] = set()
    for one in trained.data.sets:
        if one.corpus == corpus:
            seen |= everything if one.styles is None else set(one.styles)
    return seen


def _facts(trained: FinetuneSettings | None, run: Path | None) -> dict[str, Any]:
    if trained is None or run is None:
        return dict.fromkeys(
            ("run", "body", "seed", "steps", "cpu_minutes", "parameters", "multiply_adds", "teachers", "init")
        )
    network, _ = finetuned(run)
    return {
        "run": run.name,
        "body": trained.network.body,
        "seed": trained.seed,
        "steps": trained.steps,
        "cpu_minutes": cpu_minutes(run, trained.steps),
        "parameters": parameters(network),
        "multiply_adds": multiply_adds(network),
        "teachers": [one.name for one in trained.teachers],
        "init": None if trained.init is None else trained.init.name,
    }


def cpu_minutes(run: Path, steps: int) -> float | None:
    """What a run of so many steps costs, at the price of a step that was paid: a killed process leaves no bill, and steps
    that were made twice are no part of the recipe. None where nothing was written down."""
    if not (run / COST).exists():
        return None
    cost = json.loads((run / COST).read_text())
    return round(cost["cpu_seconds"] / 60 * steps / cost["steps"], 1) if cost["steps"] else None
