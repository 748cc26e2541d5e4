"""From a finished run to a bundle: step graphs, manifest, golden samples, licence, measured model card.

The export reopens its own bundle with ONNX Runtime, streams the golden samples frame by frame, and refuses to finish
where that differs from the torch network over the full sequence by more than 1e-5.
"""

from __future__ import annotations

import logging
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from poseline.actor import perform
from poseline.bundle import GOLDEN, ModelBundle, file_digest
from poseline.formats.corpus import LabelledSequence, read_corpus
from poseline.manifest import ModelManifest
from poseline.pose import SPACES, PoseConverter
from poseline.skeleton import BODY16, Floats
from poseline.stepping import check_golden
from poseline_training.augment import augment
from poseline_training.card import write_card
from poseline_training.config import AugmentSettings, EvaluationSet, ExportSettings
from poseline_training.evaluate import StreamedSequence, evaluate, report, stream_all
from poseline_training.finetune import finetuned
from poseline_training.network.levels import Level, Steps
from poseline_training.network.localizer import Localizer
from poseline_training.network.steps import deployed
from poseline_training.robustness import robustness
from poseline_training.runtime import open_scorer

PARITY = 1e-5
_GOLDEN_SECONDS = 6.0
_PICTURES: dict[str, Any] = {"dims": (2, 3), "spaces": SPACES}


def export(settings: ExportSettings) -> ModelBundle:
    """Make the bundle beside its place and put it there when it has proved itself: a failed export harms no old one."""
    beside = settings.output.with_name(f".{settings.output.name}.new")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        _make(settings.model_copy(update={"output": beside}))
        shutil.rmtree(settings.output, ignore_errors=True)
        beside.rename(settings.output)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return ModelBundle.open(settings.output)


def _make(settings: ExportSettings) -> None:
    network, classes = finetuned(settings.run)
    bundle = write_bundle(network, classes, settings, Console(stderr=True))
    streamed = _stream(settings, bundle)
    metrics = _measure(settings, bundle, streamed)
    _save(bundle.manifest.model_copy(update={"metrics": metrics}), settings.output)
    bundle = ModelBundle.open(settings.output)
    write_card(settings, bundle, streamed, sum(p.numel() for p in network.parameters()))


def write_bundle(
    network: Localizer, classes: tuple[str, ...], settings: ExportSettings, console: Console
) -> ModelBundle:
    """The network as a bundle in `settings.output`, proved equal to it, nothing measured. Raises BundleError."""
    steps = deployed(network)
    folder = settings.output
    folder.mkdir(parents=True, exist_ok=True)
    for level in steps.levels:
        console.print(f"exporting {level.name} …")
        _write_graph(level, steps.width, folder / f"{level.name}.onnx")
    _write_golden(network, folder / GOLDEN)
    (folder / "LICENSE").write_text(settings.license_text)
    _save(_manifest(settings, steps, classes), folder)
    bundle = ModelBundle.open(folder)
    worst = check_golden(bundle, open_scorer(bundle), PARITY)
    console.print(f"ONNX Runtime frame by frame = torch over the full sequence: largest difference {worst:.1e}")
    return bundle


def _write_graph(level: Level, width: int, path: Path) -> None:
    batch = torch.export.Dim("batch", min=1, max=4096)
    rows = torch.zeros(2, len(level.reads) * width)
    first = level.every == 1
    inputs = (torch.zeros(2, len(BODY16.joints), 4), rows) if first else (rows,)
    names = ["joints", "rows"] if first else ["rows"]
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it names every library that it could have used
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own deprecations
        program = torch.onnx.export(
            level.module,
            inputs,
            input_names=names,
            output_names=["scores", "boundaries", "written"] if first else ["written"],
            dynamic_shapes=tuple({0: batch} for _ in inputs),
            dynamo=True,
            verbose=False,
        )
    assert program is not None  # dynamo=True always answers with a program
    program.save(str(path), external_data=False)


def _write_golden(network: Localizer, path: Path) -> None:
    """Scripted motion, bent as in training: poses with missing joints and doubtful ones among them."""
    rng = np.random.default_rng(7)
    poses: list[Floats] = []
    for seed in (1, 2, 3):
        actor = perform(seed, seconds=_GOLDEN_SECONDS).poses
        native = PoseConverter(actor.layout, actor.coordinates)(actor.joints, actor.confidence)
        poses.append(augment(native, AugmentSettings(missing=1.0, doubt=0.5), rng))
    stacked = np.stack(poses)
    with torch.no_grad():
        logits, borders = network(torch.from_numpy(stacked))
    np.savez_compressed(path, poses=stacked, scores=logits.softmax(-1).numpy(), boundaries=borders.sigmoid().numpy())


def _manifest(settings: ExportSettings, steps: Steps, classes: tuple[str, ...]) -> ModelManifest:
    state = steps.spec()
    files = [*(level.graph for level in state.levels), GOLDEN, "LICENSE"]
    return ModelManifest(
        name=settings.name,
        version=settings.version,
        description=settings.description,
        license=settings.license,
        research_only=settings.research_only,
        layout=BODY16.name,
        classes=classes,
        **(_PICTURES if settings.pictures else {}),
        state=state,
        files={name: file_digest(settings.output / name) for name in files},
    )


def _save(manifest: ModelManifest, folder: Path) -> None:
    (folder / "manifest.json").write_text(manifest.model_dump_json(indent=2) + "\n")


def _stream(settings: ExportSettings, bundle: ModelBundle) -> dict[str, list[StreamedSequence]]:
    """Corpus → its evaluation split, as the service would have seen it."""
    return {
        one.corpus: stream_all(bundle.manifest, open_scorer(bundle), _sequences(settings, one), settings.data.label_map)
        for one in settings.evaluate
    }


def _sequences(settings: ExportSettings, one: EvaluationSet) -> list[LabelledSequence]:
    return read_corpus(settings.data.root / one.corpus / f"{one.split}.npz")


def _measure(
    settings: ExportSettings, bundle: ModelBundle, streamed: dict[str, list[StreamedSequence]]
) -> dict[str, Any]:
    """`sets`: corpus → this bundle in full, the rivals in short. `robustness`: corpus → condition → figures."""
    data = settings.data
    sets: dict[str, Any] = {}
    for one in settings.evaluate:
        sets[one.corpus] = {
            "split": one.split,
            "poseline": report(streamed[one.corpus], bundle.manifest.classes),
        }
        for name, folder in settings.rivals.items():
            rival = ModelBundle.open(folder)
            measured = evaluate(rival.manifest, open_scorer(rival), data.root / one.corpus, one.split, data.label_map)
            measured.pop("classes")
            sets[one.corpus][name] = measured
    bent = {
        one.corpus: robustness(bundle.manifest, open_scorer(bundle), _sequences(settings, one), data.label_map)
        for one in settings.robustness
    }
    return {"sets": sets, "robustness": bent}
