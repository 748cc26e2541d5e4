"""Batches by number: batch n of a run is a pure function of (data, settings, seed, n), so a resumed run goes on exactly
where it stopped, whatever the number of worker processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from poseline.skeleton import Floats
from poseline_training.augment import augment, resample
from poseline_training.compose import Cropper
from poseline_training.config import FinetuneSettings, RunSettings
from poseline_training.corpus import TrainingData


class ClipMaker:
    """One random clip of `frames` frames: poses before augmentation, and labels."""

    def __init__(
        self,
        data: TrainingData,
        settings: RunSettings,
        context: int = 0,
        draw_weights: NDArray[np.float64] | None = None,
    ) -> None:
        self._settings = settings
        self._context = context
        self._croppers = [Cropper(one, draw_weights) for one in data.sets]
        weights = np.array([one.weight for one in data.sets])
        self._chances = weights / weights.sum()

    def clip(self, rng: Generator) -> tuple[Floats, NDArray[np.int64]]:
        frames = self._settings.frames
        tempo = rng.uniform(*self._settings.augment.tempo)
        cropper = self._croppers[rng.choice(len(self._croppers), p=self._chances)]
        poses, labels, from_start = cropper.crop(int(np.ceil(frames * tempo)) + 1, rng)
        poses, labels = resample(poses, labels, frames, tempo)
        if not from_start:
            labels = labels.copy()
            labels[: self._context] = -1
        return poses, labels


class LabelledBatches(Dataset[tuple[Tensor, Tensor]]):
    """Batch n: poses (B, T, 16, 4), labels (B, T)."""

    def __init__(self, data: TrainingData, settings: FinetuneSettings) -> None:
        self._clips = ClipMaker(data, settings, settings.context, data.draw_weights(settings.balance))
        self._settings = settings

    def __getitem__(self, n: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng((self._settings.seed, n))
        clips = [self._clips.clip(rng) for _ in range(self._settings.batch)]
        poses = np.stack([augment(x, self._settings.augment, rng) for x, _ in clips])
        return torch.from_numpy(poses), torch.from_numpy(np.stack([y for _, y in clips]))


class TwoViews(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Batch n: two views (B, T, 16, 4) of the same clips, the first bent further; (B, T) which frames are real."""

    def __init__(self, data: TrainingData, settings: RunSettings) -> None:
        self._clips = ClipMaker(data, settings)
        self._settings = settings

    def __getitem__(self, n: int) -> tuple[Tensor, Tensor, Tensor]:
        rng = np.random.default_rng((self._settings.seed, n))
        bend = self._settings.augment
        clips = [self._unpadded(rng) for _ in range(self._settings.batch)]
        strong = np.stack([augment(x, bend, rng, 1.8) for x, _ in clips])
        weak = np.stack([augment(x, bend, rng) for x, _ in clips])
        return torch.from_numpy(strong), torch.from_numpy(weak), torch.from_numpy(np.stack([y for _, y in clips]))

    def _unpadded(self, rng: Generator) -> tuple[Floats, NDArray[np.bool_]]:
        poses, _ = self._clips.clip(rng)
        moved = np.abs(np.diff(poses[..., :3], axis=0)).max(axis=(1, 2)) > 0
        real = np.arange(len(poses)) <= (np.flatnonzero(moved)[-1] + 1 if moved.any() else 0)
        return poses, real


class _Numbers(Sampler[int]):
    """The numbers of the batches that a run has still to see. Its length is the whole run's: so Lightning counts."""

    def __init__(self, steps: int, reached: Callable[[], int]) -> None:
        self._steps = steps
        self._reached = reached

    def __len__(self) -> int:
        return self._steps

    def __iter__(self) -> Iterator[int]:
        return iter(range(self._reached(), self._steps))


def loader(batches: Dataset[Any], settings: RunSettings, reached: Callable[[], int]) -> DataLoader[Any]:
    """Batches in order, made by `settings.workers` processes; `reached` tells how many steps the run has made."""
    return DataLoader(
        batches,
        batch_size=None,
        sampler=_Numbers(settings.steps, reached),
        num_workers=settings.workers,
        persistent_workers=settings.workers > 0,
        prefetch_factor=4 if settings.workers else None,
    )
