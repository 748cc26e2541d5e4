"""What else there is: vectors of the motion that a network was trained on, for whoever enrols a class later.

A class is told from everything else by example; a user has examples of the class, the bundle brings those of the rest. What
is kept are the network's own vectors of some frames, no poses.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from poseline.skeleton import Floats
from poseline_training.config import FinetuneSettings
from poseline_training.corpus import load_training_data
from poseline_training.network.localizer import Localizer
from poseline_training.sampling import ClipMaker

_CLIPS = 512
_PER_CLIP = 8
"""Frames of each: neighbours say the same."""


def write_bank(network: Localizer, settings: FinetuneSettings, path: Path) -> None:
    """vectors float16 (N, D) and labels int16 (N,) in the run's classes, -1 unknown."""
    vectors, labels = draw_bank(network, settings)
    np.savez_compressed(path, vectors=vectors.astype(np.float16), labels=labels.astype(np.int16))


def draw_bank(network: Localizer, settings: FinetuneSettings) -> tuple[Floats, NDArray[np.int64]]:
    """Vectors (N, D) of frames drawn as in training, and their labels (N,)."""
    clips = ClipMaker(load_training_data(settings.data), settings)
    rng = np.random.default_rng(0)
    vectors, labels = [], []
    for _ in range(_CLIPS):
        poses, known = clips.clip(rng)
        some = rng.choice(np.arange(settings.context, len(poses)), _PER_CLIP, replace=False)
        with torch.no_grad():
            vectors.append(network.encode(torch.from_numpy(poses)[None])[0].numpy()[some])
        labels.append(known[some])
    return np.concatenate(vectors), np.concatenate(labels)
