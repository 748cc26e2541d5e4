"""Pretraining by snippet contrast, on poses without labels. What is kept is the query network's normalizer and body."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import Tensor

from poseline.skeleton import BODY16
from poseline_training.config import PretrainSettings
from poseline_training.contrast import (
    Queue,
    SnippetEncoder,
    info_nce,
    match,
    real_snippets,
    snippet_terms,
    some_snippets,
)
from poseline_training.corpus import load_training_data
from poseline_training.network.localizer import Localizer
from poseline_training.running import TrainingModule, checkpoint, make_trainer, start
from poseline_training.sampling import TwoViews

TRUNK = ("normalizer.", "body.")
"""What all tasks share of a network, by the beginnings of its weights' names."""


class Pretraining(TrainingModule):
    """Query and key encoders with their queues (MoCo; He et al., CVPR 2020)."""

    def __init__(self, settings: PretrainSettings) -> None:
        super().__init__(settings, settings.weight_decay)
        self.pretraining = settings
        network = Localizer(BODY16, 1, **settings.network.model_dump())
        network.classify.requires_grad_(False)
        network.border.requires_grad_(False)
        self.query = SnippetEncoder(network, settings.snippet)
        self.key = copy.deepcopy(self.query).requires_grad_(False)
        self.snippets = Queue(settings.queue, network.body.width)
        self.clips = Queue(settings.queue, network.body.width)

    @torch.no_grad()
    def _keys(self, poses: Tensor) -> tuple[Tensor, Tensor]:
        for slow, fast in zip(self.key.parameters(), self.query.parameters(), strict=True):
            slow.lerp_(fast, 1 - self.pretraining.momentum)
        return self.key(poses)

    def training_step(self, batch: tuple[Tensor, Tensor, Tensor], _: int) -> Tensor:
        strong, weak, real_frames = batch
        settings = self.pretraining
        features, projected = self.query(strong)
        key_features, keys = self._keys(weak)
        real = real_snippets(real_frames, settings.snippet)
        matched = match(features.detach(), key_features, real, settings.matching)
        positive, negatives = snippet_terms(projected, keys, matched, real, self.snippets.negatives())
        dense, nearest = info_nce(positive, negatives, settings.temperature)
        clip = self.query.clip(features, real)
        with torch.no_grad():
            key_clip = self.key.clip(key_features, real)
        whole, _nearest = info_nce((clip * key_clip).sum(-1), [clip @ self.clips.negatives().T], settings.temperature)
        self.snippets.push(some_snippets(keys, real))
        self.clips.push(key_clip)
        loss = whole + settings.dense_weight * dense
        self.log_dict({"loss": loss, "snippet_loss": dense, "clip_loss": whole, "snippet_top1": nearest}, prog_bar=True)
        return loss


def pretrain(settings: PretrainSettings, folder: Path, resume: bool = False) -> None:
    data = load_training_data(settings.data)
    trainer = make_trainer(settings, folder)
    start(trainer, Pretraining(settings), TwoViews(data, settings), folder, resume)


def pretrained_weights(path: Path) -> dict[str, Tensor]:
    """Normalizer and body of a pretraining run (its folder or its checkpoint), for a network of the same shape."""
    saved = torch.load(checkpoint(path) if path.is_dir() else path, map_location="cpu", weights_only=False)
    prefix = "query.network."
    named = {k.removeprefix(prefix): v for k, v in saved["state_dict"].items() if k.startswith(prefix)}
    return {k: v for k, v in named.items() if k.startswith(TRUNK)}
