"""A small network of the default's shape, exported for real, and what torch says of a few long recordings."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
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
from poseline_training.network.localizer import Localizer

CLASSES = ("background", "one", "two", "three", "four")
WIDTH = 96
STREAMS, FRAMES = 6, 200

torch.set_num_threads(1)


@dataclass(frozen=True)
class Truth:
    """The torch network over full sequences: poses (N, T, V, 4) → scores (N, T, 1 + K), boundaries (N, T, 2)."""

    bundle: ModelBundle
    poses: np.ndarray
    scores: np.ndarray
    boundaries: np.ndarray


def motion(rng: np.random.Generator, streams: int, frames: int) -> np.ndarray:
    """A random walk of joints around a standing skeleton, some of them unseen for a while."""
    poses = rng.normal(0, 0.02, (streams, frames, 16, 4)).cumsum(1)
    poses[..., 1] += np.linspace(0, 1.6, 16)
    poses[..., 3] = rng.random((streams, frames, 16)) > 0.1
    return poses.astype(np.float32)


@pytest.fixture(scope="session")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    rng = np.random.default_rng(3)
    torch.manual_seed(3)
    network = Localizer(BODY16, len(CLASSES), "strided_u", WIDTH).train()
    for _ in range(20):  # batch norms that have seen something
        network(torch.from_numpy(motion(rng, 4, 64)))
    with torch.no_grad():
        network.classify.weight.mul_(8)  # scores far from uniform, so that a difference would show
    network.eval()
    folder = tmp_path_factory.mktemp("parity") / "small"
    settings = ExportSettings(
        name="small",
        run=Path(),
        output=folder,
        description="",
        license="Apache-2.0",
        research_only=False,
        license_text="Apache-2.0",
    )
    bundle = write_bundle(network, CLASSES, settings, Console(quiet=True))
    poses = motion(rng, STREAMS, FRAMES)
    with torch.no_grad():
        logits, borders = network(torch.from_numpy(poses))
    return Truth(bundle, poses, logits.softmax(-1).numpy(), borders.sigmoid().numpy())
