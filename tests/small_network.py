"""Small networks of the default's shape, exported for real, and what torch says."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

# torch and lightning warn of their own internals while they are imported.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import lightning  # noqa: F401
    import torch

from poseline.bundle import ModelBundle
from poseline.skeleton import BODY16
from poseline_training.config import ExportSettings
from poseline_training.export import write_bundle
from poseline_training.network.localizer import Body, Localizer

CLASSES = ("background", "one", "two", "three", "four")
WIDTH = 96

torch.set_num_threads(1)


@dataclass(frozen=True)
class Truth:
    """The torch network over full sequences: poses (N, T, V, 4) → scores (N, T, 1 + K), boundaries (N, T, 2)."""

    bundle: ModelBundle
    network: Localizer
    poses: np.ndarray
    scores: np.ndarray
    boundaries: np.ndarray


@dataclass(frozen=True)
class Twins:
    """A bundle of two networks, and both in torch. models: the folder that it is the default of."""

    models: Path
    bundle: ModelBundle
    causal: Localizer
    whole: Localizer


def motion(rng: np.random.Generator, streams: int, frames: int) -> np.ndarray:
    """A random walk of joints around a standing skeleton, some of them unseen for a while."""
    poses = rng.normal(0, 0.02, (streams, frames, 16, 4)).cumsum(1)
    poses[..., 1] += np.linspace(0, 1.6, 16)
    poses[..., 3] = rng.random((streams, frames, 16)) > 0.1
    return poses.astype(np.float32)


def made(rng: np.random.Generator, body: Body = "strided_u", look_aheads: tuple[int, ...] = (0,)) -> Localizer:
    """A network whose batch norms have seen something, and whose scores are far from uniform: a difference would show."""
    torch.manual_seed(3)
    network = Localizer(BODY16, len(CLASSES), body, WIDTH, look_aheads=look_aheads).train()
    for _ in range(20):
        network(torch.from_numpy(motion(rng, 4, 64)))
    with torch.no_grad():
        network.classify.weight.mul_(8)
    return network.eval()


def exported(
    folder: Path, network: Localizer, twin: Localizer | None = None, look_ahead: int = 0, **more: Any
) -> ModelBundle:
    """more: of `ExportSettings`."""
    settings = ExportSettings(
        name="small",
        run=Path(),
        output=folder,
        description="",
        license="Apache-2.0",
        research_only=False,
        license_text="Apache-2.0",
        look_ahead=look_ahead,
        **more,
    )
    return write_bundle(network, CLASSES, settings, Console(quiet=True), twin)


def said(network: Localizer, poses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What torch says of poses (N, T, V, 4), or (T, V, 4)."""
    batch = torch.from_numpy(poses if poses.ndim == 4 else poses[None])
    with torch.no_grad():
        logits, borders = network(batch)
    scores, boundaries = logits.softmax(-1).numpy(), borders.sigmoid().numpy()
    return (scores, boundaries) if poses.ndim == 4 else (scores[0], boundaries[0])
