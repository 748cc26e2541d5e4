"""What every training run does the same way: a folder with its resolved settings, Lightning's trainer with progress,
TensorBoard and checkpoints, seeds, going on where it stopped, and what all of it cost.
"""

from __future__ import annotations

import json
import math
import resource
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch.nn import Parameter
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import Dataset

from poseline_training.config import RunSettings
from poseline_training.sampling import loader

RESOLVED = "config.yaml"
COST = "cost.json"
Pace = Callable[[int], float]


def warmup_cosine(settings: RunSettings, step: int) -> float:
    """Share of the learning rate at `step`: linear warm-up, then half a cosine to nearly nothing."""
    done = step / settings.steps
    return min(1.0, done / settings.warmup + 0.02) * (0.5 * (1 + math.cos(math.pi * min(1.0, done))) + 0.005)


class TrainingModule(L.LightningModule):
    """Optimiser and schedule of every run."""

    def __init__(self, settings: RunSettings, weight_decay: float) -> None:
        super().__init__()
        self.settings = settings
        self._weight_decay = weight_decay
        self.steps_made = 0
        """By this process: a resumed run's step number is higher."""

    def on_train_batch_end(self, outputs: object, batch: object, batch_idx: int) -> None:
        self.steps_made += 1

    def on_train_batch_start(self, batch: object, batch_idx: int) -> None:
        """Dropout, like the batch itself, is a function of seed and step: a resumed run draws what it would have drawn."""
        torch.manual_seed(self.settings.seed * 1_000_003 + self.global_step)

    def paces(self) -> list[tuple[list[Parameter], Pace]]:
        """Groups of what is trained, each with its share of the learning rate by step."""
        return [([p for p in self.parameters() if p.requires_grad], lambda step: warmup_cosine(self.settings, step))]

    def configure_optimizers(self) -> OptimizerLRScheduler:
        groups, paces = zip(*self.paces(), strict=True)
        rate, decay = self.settings.learning_rate, self._weight_decay
        optimizer = AdamW([{"params": group} for group in groups], lr=rate, weight_decay=decay)
        schedule = LambdaLR(optimizer, list(paces))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def make_trainer(settings: RunSettings, folder: Path) -> L.Trainer:
    folder.mkdir(parents=True, exist_ok=True)
    settings.save(folder / RESOLVED)
    torch.set_num_threads(settings.threads)
    L.seed_everything(settings.seed, verbose=False)
    # Batches come by number and in order; Lightning's advice on shuffling and worker counts does not apply.
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    return L.Trainer(
        accelerator=settings.accelerator,
        devices=settings.devices,
        precision=settings.precision,
        max_steps=settings.steps,
        max_epochs=1,  # a run is one pass over its numbered batches
        gradient_clip_val=2.0,
        log_every_n_steps=25,
        logger=TensorBoardLogger(folder, name="", version=""),
        callbacks=[
            RichProgressBar(),
            ModelCheckpoint(
                folder, filename="last", every_n_train_steps=settings.checkpoint_every, enable_version_counter=False
            ),
        ],
        enable_model_summary=False,
        use_distributed_sampler=False,
    )


def checkpoint(folder: Path) -> Path:
    """The run's newest checkpoint."""
    return folder / "last.ckpt"


def start(trainer: L.Trainer, module: TrainingModule, batches: Dataset[Any], folder: Path, resume: bool) -> None:
    """Train, from the run's checkpoint where `resume` is set and one exists. What it cost is written even where it fails."""
    found = checkpoint(folder)
    resumed = resume and found.exists()
    if not resumed:
        (folder / COST).unlink(missing_ok=True)
    with _costing(folder, module):
        loaded = loader(batches, module.settings, lambda: trainer.global_step)
        trainer.fit(module, loaded, ckpt_path=str(found) if resumed else None)
    trainer.save_checkpoint(found, weights_only=False)


@contextmanager
def _costing(folder: Path, module: TrainingModule) -> Iterator[None]:
    """Add what is done inside to the run's `cost.json`: steps made, wall seconds, CPU seconds of this process and of those
    that made its batches; and with how many threads and such processes. A killed process leaves no record, so `steps` may
    be fewer than the run has: they are those that were paid."""
    begin, before = module.steps_made, _spent()
    try:
        yield
    finally:
        path = folder / COST
        done = json.loads(path.read_text()) if path.exists() else {}
        wall, cpu = (after - at for after, at in zip(_spent(), before, strict=True))
        cost = {
            "steps": done.get("steps", 0) + module.steps_made - begin,
            "wall_seconds": round(done.get("wall_seconds", 0.0) + wall, 2),
            "cpu_seconds": round(done.get("cpu_seconds", 0.0) + cpu, 2),
            "threads": module.settings.threads,
            "workers": module.settings.workers,
        }
        path.write_text(json.dumps(cost, indent=2) + "\n")


def _spent() -> tuple[float, float]:
    """Seconds by the clock, and of CPU by this process and by children that have ended."""
    usage = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return time.monotonic(), sum(one.ru_utime + one.ru_stime for one in usage)
