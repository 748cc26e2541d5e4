"""A small causal ST-GCN: the joint graph is kept through all layers (Yan et al., "Spatial Temporal Graph Convolutional
Networks for Skeleton-Based Action Recognition", AAAI 2018; frame by frame as in Hedegaard et al., "Continual Spatio-Temporal
Graph Convolutional Networks", 2022).

Kept: layers of a graph convolution with three learnable adjacency subsets and a convolution over each joint's own past,
the mean over joints at the end. Changed: temporal kernels are causal, 3 taps with doubling dilation (127 frames of view)
for 9 taps and strides; the residual goes around the temporal kernel alone; channels widen once, before the mean. Left out:
size (published: 10 layers of 64 to 256 channels).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poseline.skeleton import SkeletonLayout
from poseline_training.network.encoder import by_joint, composed_by_joint
from poseline_training.network.graph import GraphConvolution, LinearBlock, TemporalConvolution
from poseline_training.network.levels import Level, Steps

_DILATIONS = (1, 2, 4, 8, 16, 32)
_CHANNELS = 24


class StgcnBody(nn.Module):
    """Features (B, T, V·10) → vectors (B, T, width)."""

    def __init__(self, layout: SkeletonLayout, width: int, dropout: float) -> None:
        super().__init__()
        self.V, self.width = len(layout.joints), width
        inputs = (10, *[_CHANNELS] * (len(_DILATIONS) - 1))
        self.space = nn.ModuleList(GraphConvolution(layout, size, _CHANNELS) for size in inputs)
        self.time = nn.ModuleList(TemporalConvolution(_CHANNELS, d) for d in _DILATIONS)
        self.dropout = nn.Dropout(dropout)
        self.lift = LinearBlock(_CHANNELS, width)

    def forward(self, features: Tensor) -> Tensor:
        x = by_joint(features, self.V)
        for space, time in zip(self.space, self.time, strict=True):
            x = self._over_time(time, space(x.flatten(0, 1)).view(*x.shape[:2], -1))
        return self.lift(self.dropout(x).unflatten(-1, (self.V, -1))).mean(-2)

    def _over_time(self, time: nn.Module, x: Tensor) -> Tensor:
        """(B, T, V·C) → the same, each joint by itself."""
        tracks = x.unflatten(-1, (self.V, -1)).transpose(1, 2)
        return time(tracks.flatten(0, 1)).view_as(tracks).transpose(1, 2).flatten(2)

    def steps(self, features: nn.Linear) -> Steps:
        rings = tuple((f"time{d}", 2 * d) for d in _DILATIONS)
        reads = tuple((name, age) for name, length in rings for age in (length, length // 2))
        level = Level("fast", 1, reads, tuple(name for name, _ in rings), _Step(self, features))
        return Steps(self.V * _CHANNELS, rings, (level,))


class _Step(nn.Module):
    def __init__(self, body: StgcnBody, features: nn.Linear) -> None:
        super().__init__()
        first, *deeper = body.space
        first = composed_by_joint(features, first.folded(), body.V)  # pyright: ignore[reportCallIssue]
        self.space = nn.ModuleList([nn.Sequential(first, nn.ReLU()), *(layer.step() for layer in deeper)])  # pyright: ignore[reportCallIssue]
        self.time = nn.ModuleList(layer.folded() for layer in body.time)  # pyright: ignore[reportCallIssue]
        self.lift, self.V = body.lift.folded(), body.V

    def forward(self, pose: Tensor, rows: Tensor) -> tuple[Tensor, ...]:
        older = rows.view(rows.shape[0], len(self.time), 2, self.V, -1).unbind(1)
        x = pose
        written: list[Tensor] = []
        for space, time, (past) in zip(self.space, self.time, older, strict=True):
            x = space(x)
            written.append(x)
            taps = torch.cat([*past.unbind(1), x.view(x.shape[0], self.V, -1)], -1)
            x = F.relu(time(taps)).flatten(1)
        return F.relu(self.lift(x.view(x.shape[0], self.V, -1))).mean(1), *written
