"""A causal temporal convolution network of two stages, after MS-TCN (Abu Farha and Gall, "MS-TCN: Multi-Stage Temporal
Convolutional Network for Action Segmentation", CVPR 2019).

Kept: full rate throughout, residual layers of a dilated convolution of 3 taps, ReLU and a linear map, dilation doubling,
and a second stage that refines the first. Changed: every convolution sees the past only, those of the refinement too; the
frames' vectors come from the default's joint stem, so only time is compared; batch norm after the dilated convolution, as
everywhere here. Left out: the stages' own predictions and losses (stage 2 reads stage 1's vectors, not its softmax), the
smoothing loss, two of four stages and the dilations above 32 (crops are 256 frames, the view of both stages 253).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poseline.skeleton import SkeletonLayout
from poseline_training.network.encoder import JointStem
from poseline_training.network.graph import LinearBlock
from poseline_training.network.levels import Level, Steps

_DILATIONS = (1, 2, 4, 8, 16, 32)
_STAGES = 2


class TcnBody(nn.Module):
    """Features (B, T, F) → vectors (B, T, width)."""

    def __init__(self, layout: SkeletonLayout, width: int, dropout: float) -> None:
        super().__init__()
        self.width = width
        self.stem = JointStem(layout, width)
        self.layers = nn.ModuleList(_DilatedLayer(width, d, dropout) for _ in range(_STAGES) for d in _DILATIONS)

    def forward(self, features: Tensor) -> Tensor:
        x = self.stem(features)
        for layer in self.layers:
            x = layer(x)
        return F.relu(x)

    def steps(self, features: nn.Linear) -> Steps:
        rings = tuple((f"stage{s}_{d}", 2 * d) for s in range(1, _STAGES + 1) for d in _DILATIONS)
        reads = tuple((name, age) for name, length in rings for age in (length, length // 2))
        level = Level("fast", 1, reads, tuple(name for name, _ in rings), _Step(self, features))
        return Steps(self.width, rings, (level,))


class _DilatedLayer(nn.Module):
    """Rows (B, T, D) → (B, T, D): what is added to them is a function of the row, of one `dilation` ago and one twice
    that; zeros before the first."""

    def __init__(self, width: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.dilation = dilation
        self.conv = LinearBlock(3 * width, width)
        self.out = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        T, d = x.shape[1], self.dilation
        padded = F.pad(x, (0, 0, 2 * d, 0))
        taps = torch.cat([padded[:, j * d : j * d + T] for j in range(3)], -1)
        return x + self.dropout(self.out(self.conv(taps)))

    def folded(self) -> nn.Sequential:
        """Oldest, middle and current row side by side → what is added to the current one."""
        return nn.Sequential(self.conv.folded(), nn.ReLU(), self.out)


class _Step(nn.Module):
    def __init__(self, body: TcnBody, features: nn.Linear) -> None:
        super().__init__()
        self.stem = body.stem.folded(features)
        self.layers = nn.ModuleList(layer.folded() for layer in body.layers)  # pyright: ignore[reportCallIssue]
        self.pair = 2 * body.width

    def forward(self, pose: Tensor, rows: Tensor) -> tuple[Tensor, ...]:
        x = self.stem(pose)
        written: list[Tensor] = []
        for layer, older in zip(self.layers, rows.split(self.pair, -1), strict=True):
            written.append(x)
            x = x + layer(torch.cat([older, x], -1))
        return F.relu(x), *written
