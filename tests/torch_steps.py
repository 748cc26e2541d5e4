"""A network stepped frame by frame in torch, without a bundle: its folded levels behind the service's own `StepScorer`."""

from __future__ import annotations

import numpy as np
import torch

from poseline.stepping import StepScorer
from poseline_training.network.localizer import Localizer
from poseline_training.network.steps import deployed


def torch_scorer(network: Localizer, slots: int = 8) -> StepScorer:
    steps = deployed(network)
    modules = {level.name: level.module for level in steps.levels}

    def run(level: str, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        with torch.no_grad():
            out = modules[level](*(torch.from_numpy(value) for value in feeds.values()))
        return [one.numpy() for one in (out if isinstance(out, tuple) else (out,))]

    return StepScorer(steps.spec(), run, slots)
