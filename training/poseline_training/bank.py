"""What else there is: vectors of the motion that a network was trained on, for whoever enrols a class later.

A class is told from everything else by example; a user has examples of the class, the bundle brings those of the rest. What
is kept are the network's own vectors of some frames, no poses.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from poseline.enrolment import Bank
from poseline_training.config import FinetuneSettings
from poseline_training.corpus import load_training_data
from poseline_training.network.localizer import Localizer
from poseline_training.sampling import ClipMaker

_CLIPS = 512
_PER_CLIP = 8
"""Frames of each: neighbours say the same."""


def write_bank(network: Localizer, settings: FinetuneSettings, path: Path) -> None:
    """As float16. network: with its one head, as it will be exported."""
    bank = draw_bank(network, settings)
    np.savez_compressed(path, vectors=bank.vectors.astype(np.float16), known=bank.known.astype(np.float16))


def draw_bank(network: Localizer, settings: FinetuneSettings) -> Bank:
    """Of frames drawn as in training."""
    clips = ClipMaker(load_training_data(settings.data), settings)
    rng = np.random.default_rng(0)
    vectors: list[Tensor] = []
    for _ in range(_CLIPS):
        poses, _ = clips.clip(rng)
        some = rng.choice(np.arange(settings.context, len(poses)), _PER_CLIP, replace=False)
        with torch.no_grad():
            vectors.append(network.encode(torch.from_numpy(poses)[None])[0][some])
    drawn = torch.cat(vectors)
    with torch.no_grad():
        scores = network.heads_of(drawn[None])[0][0][0].softmax(-1)
    return Bank(drawn.numpy(), scores[:, 1:].amax(-1).numpy())
