"""A row made again: what it needs is trained first, then the run itself, unless that is done."""

from __future__ import annotations

from pathlib import Path

import torch

from poseline.errors import InputError
from poseline_training.config import FinetuneSettings, PretrainSettings, RunSettings
from poseline_training.finetune import finetune
from poseline_training.pretrain import pretrain
from poseline_training.results.settings import experiment
from poseline_training.running import RESOLVED, checkpoint


def train(name: str, configs: Path, runs: Path) -> Path:
    """The finished run called `name`, in `runs`; trained, or gone on with, where it is not finished.

    `pretrain…` is pretraining, all else is finetuning. An `init` or teacher that is not finished is trained before, if it
    lies in `runs` and an experiment has its name. Raises InputError.
    """
    config, seed = experiment(name, configs)
    folder = runs / name
    if name.startswith("pretrain"):
        settings = PretrainSettings.load(config, seed=seed)
        if not finished(folder, settings):
            pretrain(settings, folder, resume=True)
        return folder
    settings = FinetuneSettings.load(config, seed=seed)
    if finished(folder, settings):
        return folder
    for needed in (*([settings.init] if settings.init else []), *settings.teachers):
        if needed.resolve().parent == runs.resolve():
            train(needed.name, configs, runs)
        elif not checkpoint(needed).exists():
            raise InputError(f"{name} needs the run {needed}, which is not there")
    finetune(settings, folder, resume=True)
    return folder


def finished(folder: Path, settings: RunSettings) -> bool:
    """Whether the run's checkpoint has made all steps. Raises InputError for a run of other settings: it is no such row."""
    resolved, path = folder / RESOLVED, checkpoint(folder)
    if resolved.exists() and type(settings).load(resolved) != settings:
        raise InputError(f"{folder} is a run of other settings; move it away")
    return path.exists() and torch.load(path, map_location="cpu", weights_only=False)["global_step"] >= settings.steps
