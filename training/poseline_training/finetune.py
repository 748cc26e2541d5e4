"""Localization from labels: the whole network, from scratch or from a pretrained body.

Keeps a running mean of the weights, which is what evaluation and export use.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from poseline.skeleton import BODY16
from poseline_training.config import FinetuneSettings
from poseline_training.corpus import TrainingData, load_training_data
from poseline_training.network.localizer import Localizer
from poseline_training.objective import class_weights, localization_loss
from poseline_training.pretrain import pretrained_weights
from poseline_training.running import RESOLVED, TrainingModule, checkpoint, make_trainer, start
from poseline_training.sampling import LabelledBatches


class Finetuning(TrainingModule):
    """One run: the network being trained, and its running mean."""

    weights: Tensor

    def __init__(self, settings: FinetuneSettings, classes: tuple[str, ...], weights: Tensor) -> None:
        super().__init__(settings, settings.weight_decay)
        self.finetuning = settings
        self.classes = classes
        network = settings.network
        self.network = Localizer(BODY16, len(classes), network.body, network.width, network.dropout)
        self.average = AveragedModel(
            self.network, multi_avg_fn=get_ema_multi_avg_fn(settings.average), use_buffers=True
        ).requires_grad_(False)
        self.register_buffer("weights", weights)

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        poses, labels = batch
        logits, borders = self.network(poses)
        settings = self.finetuning
        loss = localization_loss(
            logits, borders, labels, self.weights, settings.label_smoothing, settings.border_weight
        )
        known = labels >= 0
        right = (logits.argmax(-1) == labels)[known].float().mean()
        self.log_dict({"loss": loss, "frame_accuracy": right}, prog_bar=True)
        return loss

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        self.average.update_parameters(self.network)

    def on_save_checkpoint(self, checkpoint: dict[str, object]) -> None:
        checkpoint["classes"] = self.classes


def finetune(settings: FinetuneSettings, folder: Path, resume: bool = False) -> None:
    data: TrainingData = load_training_data(settings.data)
    weights = class_weights(data.class_shares(), settings.class_weight)
    trainer = make_trainer(settings, folder)
    module = Finetuning(settings, data.classes, weights)
    if settings.init:
        module.network.load_state_dict(pretrained_weights(settings.init), strict=False)
        module.average.module.load_state_dict(module.network.state_dict())
    start(trainer, module, LabelledBatches(data, settings, settings.context), folder, resume)


def finetuned(folder: Path) -> tuple[Localizer, tuple[str, ...]]:
    """A finished run's averaged network and its classes."""
    settings = FinetuneSettings.load(folder / RESOLVED)
    saved = torch.load(checkpoint(folder), map_location="cpu", weights_only=False)
    classes = tuple(saved["classes"])
    network = Localizer(BODY16, len(classes), settings.network.body, settings.network.width, settings.network.dropout)
    prefix = "average.module."
    network.load_state_dict({k.removeprefix(prefix): v for k, v in saved["state_dict"].items() if k.startswith(prefix)})
    return network.eval(), classes
