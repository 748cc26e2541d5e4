"""The same network in three engines, so that a ratio says something of the engines and nothing of the architecture.

continual-inference (Hedegaard & Iosifidis, ECCV 2022 workshops) refuses dilation above 1, so what is compared is not
the default network but one that all three can run: our stem on the joint graph, six causal convolutions of three taps at
dilation 1, our heads, all at full rate, width 128, random weights. It sees 13 frames.

    ours        a bundle like any other: exported, then stepped by the service's own `StepScorer`, from raw poses
    continual   its `forward_step`, from features: the normalizer's work is given to it
    window      plain PyTorch over the newest 128 frames at every frame, from features too, and only the last row's heads

The rivals get our folded weights, so batch norms and residuals cost them nothing, and no state to keep apart: their
streams are a fixed set. All give the same scores (a test).
"""

from __future__ import annotations

from pathlib import Path

import continual as co
import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor, nn

from poseline.bundle import ModelBundle
from poseline.skeleton import BODY16
from poseline_training.config import ExportSettings
from poseline_training.export import write_bundle
from poseline_training.network.encoder import JointStem
from poseline_training.network.graph import TemporalConvolution
from poseline_training.network.levels import Level, Steps
from poseline_training.network.localizer import Localizer

WINDOW = 128
"""Frames that the window rival runs over: the default network's view, rounded up."""
DEPTH = 6
VIEW = 1 + DEPTH * (TemporalConvolution.TAPS - 1)
"""Frames that the compared network sees."""
CLASSES = 34


class FullRateStack(nn.Module):
    """Features (B, T, F) → vectors (B, T, width): the stem, then six causal convolutions at dilation 1."""

    def __init__(self, width: int = 128) -> None:
        super().__init__()
        self.width = width
        self.stem = JointStem(BODY16, width)
        self.convs = nn.ModuleList(TemporalConvolution(width, 1) for _ in range(DEPTH))

    def forward(self, features: Tensor) -> Tensor:
        return nn.Sequential(self.stem, *self.convs)(features)

    def steps(self, features: nn.Linear) -> Steps:
        names = [f"conv{i}" for i in range(DEPTH)]
        reads = tuple((name, age) for name in names for age in (2, 1))
        level = Level("fast", 1, reads, tuple(names), _StackStep(self, features))
        return Steps(self.width, tuple((name, 2) for name in names), (level,))


class _StackStep(nn.Module):
    def __init__(self, body: FullRateStack, features: nn.Linear) -> None:
        super().__init__()
        self.stem = body.stem.folded(features)
        self.convs = nn.ModuleList(conv.folded() for conv in body.convs)  # pyright: ignore[reportCallIssue]
        self.taps = 2 * body.width

    def forward(self, pose: Tensor, rows: Tensor) -> tuple[Tensor, ...]:
        vector, written = self.stem(pose), []
        for conv, older in zip(self.convs, rows.split(self.taps, -1), strict=True):
            written.append(vector)
            vector = F.relu(conv(torch.cat([older, vector], -1)))
        return vector, *written


class ComparedNetwork(Localizer):
    """Poses (B, T, V, 4) → logits: random weights, and batch norms that do something."""

    def __init__(self, seed: int = 0) -> None:
        torch.manual_seed(seed)
        super().__init__(BODY16, CLASSES)
        self.body = FullRateStack()
        for module in self.modules():
            if isinstance(module, nn.BatchNorm1d) and module.running_mean is not None:
                module.running_mean.normal_(0, 0.1)
        self.eval()

    def features(self, poses: Tensor) -> Tensor:
        """What the rivals are given: (B, T, V, 4) → (B, T, V·10)."""
        with torch.no_grad():
            return self.normalizer(poses)

    def layers(self) -> tuple[nn.Module, list[nn.Conv1d], nn.Linear]:
        """The deployed weights as PyTorch knows them: stem (N, V·10) → (N, width), convolutions with their residual, both
        heads as one."""
        same = nn.Linear(self.normalizer.size, self.normalizer.size)
        head = nn.Linear(self.body.width, CLASSES + 2)
        with torch.no_grad():
            same.weight.copy_(torch.eye(len(same.weight)))
            same.bias.zero_()
            head.weight.copy_(torch.cat([self.classify.weight, self.border.weight]))
            head.bias.copy_(torch.cat([self.classify.bias, self.border.bias]))
        convs = [_convolution(conv.folded()) for conv in self.body.convs]  # pyright: ignore[reportCallIssue]
        return self.body.stem.folded(same), convs, head


def _convolution(taps: nn.Linear) -> nn.Conv1d:
    width, inputs = taps.weight.shape
    conv = nn.Conv1d(width, width, inputs // width)
    with torch.no_grad():
        conv.weight.copy_(taps.weight.view(width, -1, width).transpose(1, 2))
        conv.bias.copy_(taps.bias)  # pyright: ignore[reportOptionalMemberAccess]
    return conv


def _probabilities(logits: Tensor) -> tuple[Tensor, Tensor]:
    return logits[:, :CLASSES].softmax(-1), logits[:, CLASSES:].sigmoid()


class Continual:
    """continual-inference: the state is in its modules, so one object serves one fixed set of streams."""

    def __init__(self, network: ComparedNetwork) -> None:
        stem, convs, head = network.layers()
        layers: list[nn.Module] = []
        for conv in convs:
            layers += [co.Conv1d.build_from(conv), nn.ReLU()]
        self.net = co.Sequential(co.Lambda(stem), *layers, co.Linear.build_from(head)).eval()

    def step(self, features: Tensor) -> tuple[Tensor, Tensor] | None:
        """One frame of each stream, (B, V·10) → scores (B, 1 + K), boundaries (B, 2); None before `VIEW` frames."""
        logits = self.net.forward_step(features)
        return _probabilities(logits) if isinstance(logits, Tensor) else None


class Window(nn.Module):
    """Plain PyTorch: features (B, frames, V·10) → scores and boundaries of the last frame. No padding, so a little less
    than all rows of all layers is computed."""

    def __init__(self, network: ComparedNetwork) -> None:
        super().__init__()
        self.stem, convs, self.head = network.layers()
        self.convs = nn.Sequential(*(nn.Sequential(conv, nn.ReLU()) for conv in convs))
        self.eval()

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        rows = self.stem(features.flatten(0, 1)).unflatten(0, features.shape[:2])
        rows = self.convs(rows.transpose(1, 2))
        return _probabilities(self.head(rows[:, :, -1]))


def bundle_of(network: Localizer, folder: Path) -> ModelBundle:
    """The network as a bundle of random weights, written by the workshop's own export and checked by it."""
    names = ("background", *(f"action{k}" for k in range(1, network.classify.out_features)))
    settings = ExportSettings(
        name=folder.name,
        run=folder,
        output=folder,
        description="random weights, for measuring",
        license="Apache-2.0",
        research_only=False,
        license_text="Apache-2.0",
    )
    return write_bundle(network, names, settings, Console(quiet=True))
