"""From a finished run to a bundle: step graphs, manifest, golden samples, licence, measured model card.

The export reopens its own bundle with ONNX Runtime, streams the golden samples frame by frame, and refuses to finish
where that differs from the torch network over the full sequence by more than 1e-5; a twin that sees the whole, by 1e-4.
"""

from __future__ import annotations

import logging
import shutil
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn

from poseline.actor import perform
from poseline.bundle import BANK, GOLDEN, ModelBundle, file_digest
from poseline.decoding import DecodingOptions
from poseline.errors import BundleError, InputError
from poseline.formats.corpus import LabelledSequence, read_corpus
from poseline.manifest import ModelManifest, WholeSpec
from poseline.pose import SPACES, PoseConverter
from poseline.skeleton import BODY16, Floats
from poseline.stepping import check_golden
from poseline.whole import check_whole
from poseline_training.augment import augment
from poseline_training.bank import write_bank
from poseline_training.card import write_card
from poseline_training.config import AugmentSettings, EvaluationSet, ExportSettings, FinetuneSettings
from poseline_training.evaluate import StreamedSequence, report, stream_all
from poseline_training.finetune import finetuned
from poseline_training.network.fusion import REACH
from poseline_training.network.levels import Level, Steps
from poseline_training.network.localizer import Localizer
from poseline_training.network.steps import deployed
from poseline_training.robustness import robustness
from poseline_training.running import RESOLVED
from poseline_training.runtime import open_scorer, open_whole
from poseline_training.thresholds import choose_thresholds
from poseline_training.weights import WEIGHTS, write_weights

PARITY, WHOLE_PARITY = 1e-5, 1e-4
WHOLE = "whole.onnx"
_CHUNK = 1800
"""Frames of a long recording in one run of the network that sees the whole: a minute."""
_CUTS = (1, 2, 3, 4, 69, 70, 71, 72)
"""Lengths at which it is compared with torch, beside that of the golden samples."""
_GOLDEN_SECONDS = 6.0
_PICTURES: dict[str, Any] = {"dims": (2, 3), "spaces": SPACES}


def export(settings: ExportSettings) -> ModelBundle:
    """Make the bundle beside its place and put it there when it has proved itself: a failed export harms no old one."""
    if settings.output.exists() and not (settings.output / "manifest.json").exists():
        raise InputError(f"{settings.output} is there already and is no bundle; name another folder", param="output")
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
    twin = None if settings.twin is None else _twin(settings.twin, classes)
    seen = FinetuneSettings.load(settings.run / RESOLVED)
    bundle = write_bundle(network, classes, settings, Console(stderr=True), twin, seen)
    bundle, chosen = _choose(settings, bundle)
    streamed = _stream(settings, bundle)
    metrics = _measure(settings, bundle, streamed) | chosen
    _save(bundle.manifest.model_copy(update={"metrics": metrics}), settings.output)
    bundle = ModelBundle.open(settings.output)
    write_card(settings, bundle, streamed, sum(p.numel() for p in network.parameters()))


def _twin(run: Path, classes: tuple[str, ...]) -> Localizer:
    """Raises InputError."""
    twin, known = finetuned(run)
    if twin.causal:
        raise InputError(f"the twin's run {run} is of a causal network; mode offline needs one with body centred_u")
    if known != classes:
        raise InputError(f"the twin's run {run} has other classes than the network's")
    return twin


def write_bundle(
    network: Localizer,
    classes: tuple[str, ...],
    settings: ExportSettings,
    console: Console,
    twin: Localizer | None = None,
    seen: FinetuneSettings | None = None,
) -> ModelBundle:
    """The network as a bundle in `settings.output`, proved equal to it, nothing measured.

    The networks become what is exported: of their heads the asked one stays, with its temperature in its weights. twin: the
    network for mode `offline`. seen: what the network was trained on, of which the bundle keeps a bank. Raises InputError
    for a head that was not trained, BundleError.
    """
    _select(network, settings.look_ahead)
    network.temper(settings.temperature)
    steps = deployed(network)
    folder = settings.output
    folder.mkdir(parents=True, exist_ok=True)
    for level in steps.levels:
        console.print(f"exporting {level.name} …")
        _write_level(level, steps.width, folder / f"{level.name}.onnx")
    if twin:
        console.print("exporting the network that sees the whole …")
        _select(twin, 0)
        twin.temper(settings.twin_temperature)
        _write_whole(twin, folder / WHOLE)
    _write_golden(network, twin, folder / GOLDEN)
    write_weights(network, folder / WEIGHTS)
    if seen:
        write_bank(network, seen, folder / BANK)
    (folder / "LICENSE").write_text(settings.license_text)
    _save(_manifest(settings, steps, classes, twin), folder)
    bundle = ModelBundle.open(folder)
    worst = check_golden(bundle, open_scorer(bundle), PARITY)
    console.print(f"ONNX Runtime frame by frame = torch over the full sequence: largest difference {worst:.1e}")
    if twin:
        console.print(f"ONNX Runtime over the whole = torch: largest difference {_check_twin(bundle, twin):.1e}")
    return bundle


def _select(network: Localizer, look_ahead: int) -> None:
    try:
        network.select(look_ahead)
    except ValueError as error:
        raise InputError(f"look_ahead: {error}", param="look_ahead") from None


def _write_level(level: Level, width: int, path: Path) -> None:
    batch = torch.export.Dim("batch", min=1, max=4096)
    rows = torch.zeros(2, len(level.reads) * width)
    first = level.every == 1
    inputs = (torch.zeros(2, len(BODY16.joints), 4), rows) if first else (rows,)
    names = ["joints", "rows"] if first else ["rows"]
    outputs = ["scores", "boundaries", "vectors", "written"] if first else ["written"]
    _write_graph(level.module, inputs, names, outputs, tuple({0: batch} for _ in inputs), path)


def _write_whole(twin: Localizer, path: Path) -> None:
    frames = torch.export.Dim("frames", min=2)
    poses = torch.zeros(1, 7, len(BODY16.joints), 4)  # a length that nothing divides
    _write_graph(_Whole(twin), (poses,), ["poses"], ["scores", "boundaries"], ({1: frames},), path)


class _Whole(nn.Module):
    """poses (1, T, V, 4) → scores (1, T, 1 + K), boundaries (1, T, 2)."""

    def __init__(self, network: Localizer) -> None:
        super().__init__()
        self.network = network.eval()

    def forward(self, poses: Tensor) -> tuple[Tensor, Tensor]:
        logits, borders = self.network(poses)
        return logits.softmax(-1), borders.sigmoid()


def _write_graph(
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    names: list[str],
    outputs: list[str],
    dynamic: tuple[dict[int, Any], ...],
    path: Path,
) -> None:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it names every library that it could have used
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own deprecations
        program = torch.onnx.export(
            module,
            inputs,
            input_names=names,
            output_names=outputs,
            dynamic_shapes=dynamic,
            dynamo=True,
            verbose=False,
        )
    assert program is not None  # dynamo=True always answers with a program
    program.save(str(path), external_data=False)


def _check_twin(bundle: ModelBundle, twin: Localizer) -> float:
    """The largest difference from torch, over the golden samples and over cuts of every remainder. Raises BundleError."""
    scorer = open_whole(bundle)
    assert scorer is not None
    worst = check_whole(bundle, scorer, WHOLE_PARITY)
    for frames in _CUTS:
        poses = bundle.golden().poses[0, :frames]
        with torch.no_grad():
            expected = _Whole(twin)(torch.from_numpy(poses)[None])
        for one, other in zip(scorer(poses), expected, strict=True):
            worst = max(worst, float(np.abs(one - other[0].numpy()).max()))
    if not worst <= WHOLE_PARITY:
        raise BundleError(f"{bundle.path}: the network that sees the whole differs from torch by {worst:.2e}")
    return worst


def _write_golden(network: Localizer, twin: Localizer | None, path: Path) -> None:
    """Scripted motion, bent as in training: poses with missing joints and doubtful ones among them."""
    rng = np.random.default_rng(7)
    poses: list[Floats] = []
    for seed in (1, 2, 3):
        actor = perform(seed, seconds=_GOLDEN_SECONDS).poses
        native = PoseConverter(actor.layout, actor.coordinates)(actor.joints, actor.confidence)
        poses.append(augment(native, AugmentSettings(missing=1.0, doubt=0.5), rng))
    golden = {"poses": np.stack(poses)}
    for prefix, one in (("", network), ("whole_", twin)):
        if one is not None:
            with torch.no_grad():
                scores, boundaries = _Whole(one)(torch.from_numpy(golden["poses"]))
            golden |= {f"{prefix}scores": scores.numpy(), f"{prefix}boundaries": boundaries.numpy()}
    with torch.no_grad():
        golden["vectors"] = network.encode(torch.from_numpy(golden["poses"])).numpy()
    np.savez_compressed(path, **golden)  # pyright: ignore[reportArgumentType]


def _manifest(
    settings: ExportSettings, steps: Steps, classes: tuple[str, ...], twin: Localizer | None
) -> ModelManifest:
    state = steps.spec()
    whole = WholeSpec(graph=WHOLE, reach=REACH, chunk=_CHUNK) if twin else None
    files = [*(level.graph for level in state.levels), *([whole.graph] if whole else []), GOLDEN, WEIGHTS, "LICENSE"]
    files += [BANK] if (settings.output / BANK).exists() else []
    return ModelManifest(
        name=settings.name,
        version=settings.version,
        description=settings.description,
        license=settings.license,
        research_only=settings.research_only,
        layout=BODY16.name,
        classes=classes,
        **(_PICTURES if settings.pictures else {}),
        look_ahead=settings.look_ahead,
        state=state,
        whole=whole,
        decoding=settings.decoding,
        unknown_below=settings.unknown_below,
        files={name: file_digest(settings.output / name) for name in files},
    )


def _choose(settings: ExportSettings, bundle: ModelBundle) -> tuple[ModelBundle, dict[str, Any]]:
    """The bundle with thresholds of single classes, and what the metrics shall say of them: `thresholds`."""
    if not settings.choose:
        return bundle, {}
    recordings = [sequence for one in settings.choose for sequence in _sequences(settings, one)]
    chosen = choose_thresholds(bundle.manifest, open_scorer(bundle), recordings, settings.data.label_map)
    own = {name: one.thresholds.model_dump() for name, one in chosen.items() if one.thresholds}
    decoding = DecodingOptions.model_validate(bundle.manifest.decoding.model_dump() | {"thresholds": own})
    _save(bundle.manifest.model_copy(update={"decoding": decoding}), settings.output)
    told = {name: asdict(one) | {"thresholds": own.get(name)} for name, one in chosen.items()}
    return ModelBundle.open(settings.output), {"thresholds": told}


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
    """`sets`: corpus → split and figures. `robustness`: corpus → condition → figures."""
    sets = {
        one.corpus: {"split": one.split, "poseline": report(streamed[one.corpus], bundle.manifest.classes)}
        for one in settings.evaluate
    }
    bent = {
        one.corpus: robustness(bundle.manifest, open_scorer(bundle), _sequences(settings, one), settings.data.label_map)
        for one in settings.robustness
    }
    return {"sets": sets, "robustness": bent}
