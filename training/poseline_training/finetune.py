"""Localization from labels: the whole network, from scratch, from a pretrained body, or new heads on a bundle's
trunk.

Keeps a running mean of the weights, which is what evaluation and export use.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn import Parameter
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from poseline.bundle import ModelBundle
from poseline.errors import InputError
from poseline.skeleton import BODY16
from poseline_training.config import FinetuneSettings, NetworkSettings
from poseline_training.corpus import TrainingData, load_training_data
from poseline_training.network.localizer import Localizer
from poseline_training.objective import (
    IGNORE,
    Taught,
    class_weights,
    distillation_loss,
    late,
    localization_loss,
    supervised_contrast,
)
from poseline_training.pretrain import TRUNK, pretrained_weights
from poseline_training.running import RESOLVED, Pace, TrainingModule, checkpoint, make_trainer, start, warmup_cosine
from poseline_training.sampling import LabelledBatches
from poseline_training.weights import read_weights

_CONTRASTED = 384
"""Frames of actions, and of background, that are contrasted in a step."""
_OTHERS = 0.25
"""Share of the loss of all heads but the first, which is the one that most will use."""


class Finetuning(TrainingModule):
    """One run: the network being trained, and its running mean."""

    weights: Tensor
    shift: Tensor

    def __init__(
        self, settings: FinetuneSettings, classes: tuple[str, ...], shares: Tensor, teachers: Sequence[Localizer] = ()
    ) -> None:
        super().__init__(settings, settings.weight_decay)
        self.finetuning = settings
        self.classes = classes
        network, weights = settings.network, class_weights(shares, settings.class_weight)
        self.network = Localizer(BODY16, len(classes), **network.model_dump())
        self.average = AveragedModel(
            self.network, multi_avg_fn=get_ema_multi_avg_fn(settings.average), use_buffers=True
        ).requires_grad_(False)
        if settings.contrast:  # where vectors are contrasted; nothing of it is kept
            width = self.network.body.width
            self.project = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width // 2))
        self.register_buffer("weights", weights)
        self.register_buffer("shift", settings.prior * shares.clamp(min=1e-4).log())
        # Out of sight of the optimiser and of checkpoints: they have runs of their own.
        self._teachers = [teacher.requires_grad_(False) for teacher in teachers]

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        poses, labels = batch
        taught = self._taught(poses)
        vectors = self.network.encode(poses)
        heads = self.network.heads_of(vectors)
        losses = [
            self._loss(logits + self.shift, borders, late(labels, look_ahead, IGNORE), taught, look_ahead)
            for (logits, borders), look_ahead in zip(heads, self.network.look_aheads, strict=True)
        ]
        loss = losses[0]
        if others := losses[1:]:
            loss = (1 - _OTHERS) * loss + _OTHERS * torch.stack(others).mean()
        if self.finetuning.contrast:
            loss = loss + self.finetuning.contrast * self._contrast(vectors, labels)
        known = labels >= 0
        right = (heads[0][0].argmax(-1) == labels)[known].float().mean()
        self.log_dict({"loss": loss, "frame_accuracy": right}, prog_bar=True)
        return loss

    def _contrast(self, vectors: Tensor, labels: Tensor) -> Tensor:
        """Over some frames of the batch, drawn anew: half of them of actions."""
        drawn = [
            some[torch.randperm(len(some), device=some.device)[:_CONTRASTED]]
            for some in (torch.nonzero(labels.flatten() > 0)[:, 0], torch.nonzero(labels.flatten() == 0)[:, 0])
        ]
        chosen = torch.cat(drawn)
        projected = F.normalize(self.project(vectors.flatten(0, 1)[chosen]).float(), dim=-1)
        return supervised_contrast(
            projected, labels.flatten()[chosen], chosen // labels.shape[1], self.finetuning.contrast_temperature
        )

    def _loss(self, logits: Tensor, borders: Tensor, labels: Tensor, taught: Taught | None, look_ahead: int) -> Tensor:
        settings = self.finetuning
        own = localization_loss(logits, borders, labels, self.weights, settings.label_smoothing, settings.border_weight)
        if taught is None:
            return own
        then = Taught(*(late(one, look_ahead, 0.0) for one in taught))
        classes, ends = distillation_loss(logits, borders, then, (labels >= 0).float())
        return (1 - settings.teaching) * own + settings.teaching * (classes + settings.border_weight * ends)

    @torch.no_grad()
    def _taught(self, poses: Tensor) -> Taught | None:
        if not self._teachers:
            return None
        said = [teacher.to(poses.device)(poses) for teacher in self._teachers]
        classes = torch.stack([logits.float().softmax(-1) for logits, _ in said]).mean(0)
        return Taught(classes, torch.stack([borders.float().sigmoid() for _, borders in said]).mean(0))

    def paces(self) -> list[tuple[list[Parameter], Pace]]:
        """Without a trunk all go alike; with one, it waits while it is frozen and goes at its own rate from then on."""
        settings = self.finetuning
        if settings.trunk is None:
            return super().paces()

        def trunk(step: int) -> float:
            return (
                0.0 if step < settings.frozen * settings.steps else settings.trunk_rate * warmup_cosine(settings, step)
            )

        kept = tuple(f"network.{part}" for part in TRUNK)
        named = [(name, value) for name, value in self.named_parameters() if value.requires_grad]
        old, new = ([value for name, value in named if name.startswith(kept) == of_trunk] for of_trunk in (True, False))
        return [(old, trunk), (new, lambda step: warmup_cosine(settings, step))]

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        self.average.update_parameters(self.network)

    def on_save_checkpoint(self, checkpoint: dict[str, object]) -> None:
        checkpoint["classes"] = self.classes


def finetune(settings: FinetuneSettings, folder: Path, resume: bool = False) -> None:
    """Raises InputError, BundleError for a trunk that is none, and CorpusError."""
    begin = _beginning(settings)
    if begin.network:
        settings = settings.model_copy(update={"network": begin.network})
    data: TrainingData = load_training_data(settings.data)
    shares = torch.tensor(data.class_shares(), dtype=torch.float32)
    trainer = make_trainer(settings, folder)
    module = Finetuning(settings, data.classes, shares, _teachers(settings.teachers, data.classes))
    if begin.weights:
        module.network.load_state_dict(begin.weights, strict=False)
        module.average.module.load_state_dict(module.network.state_dict())
    start(trainer, module, LabelledBatches(data, settings), folder, resume)


class _Beginning(NamedTuple):
    """Weights of normalizer and body to begin with, and the network's settings where they are those of a trunk."""

    weights: dict[str, Tensor] | None = None
    network: NetworkSettings | None = None


def _beginning(settings: FinetuneSettings) -> _Beginning:
    if settings.trunk is None:
        return _Beginning(pretrained_weights(settings.init) if settings.init else None)
    if settings.init:
        raise InputError("init and trunk exclude each other: both are where training begins", param="trunk")
    network, shape = read_weights(ModelBundle.open(settings.trunk))
    weights = {name: value for name, value in network.state_dict().items() if name.startswith(TRUNK)}
    return _Beginning(weights, shape.model_copy(update={"look_aheads": settings.network.look_aheads}))


def _teachers(folders: tuple[Path, ...], classes: tuple[str, ...]) -> list[Localizer]:
    found = [finetuned(folder) for folder in folders]
    for folder, (_, known) in zip(folders, found, strict=True):
        if known != classes:
            raise InputError(f"teacher {folder} has other classes than its pupil", param="teachers")
    return [network for network, _ in found]


def finetuned(folder: Path) -> tuple[Localizer, tuple[str, ...]]:
    """A finished run's averaged network and its classes."""
    settings = FinetuneSettings.load(folder / RESOLVED)
    saved = torch.load(checkpoint(folder), map_location="cpu", weights_only=False)
    classes = tuple(saved["classes"])
    network = Localizer(BODY16, len(classes), **settings.network.model_dump())
    prefix = "average.module."
    network.load_state_dict({k.removeprefix(prefix): v for k, v in saved["state_dict"].items() if k.startswith(prefix)})
    return network.eval(), classes
