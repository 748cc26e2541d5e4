"""The floor: a linear map of features at six lags."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poseline_training.network.levels import Level, Steps


class LinearTaps(nn.Module):
    """Features (B, T, F) → (B, T, 6·F): now and five lags (33 frames), nothing learnt; the head is the linear map."""

    LAGS = (4, 8, 16, 24, 32)

    def __init__(self, features: int) -> None:
        super().__init__()
        self.features = features
        self.width = features * (1 + len(self.LAGS))

    def forward(self, features: Tensor) -> Tensor:
        T = features.shape[1]
        return torch.cat([features, *(F.pad(features, (0, 0, lag, 0))[:, :T] for lag in self.LAGS)], -1)

    def steps(self, features: nn.Linear) -> Steps:
        reads = tuple(("features", lag) for lag in self.LAGS)
        level = Level("fast", 1, reads, ("features",), _Step(features))
        return Steps(self.features, (("features", max(self.LAGS)),), (level,))


class _Step(nn.Module):
    def __init__(self, features: nn.Linear) -> None:
        super().__init__()
        self.features = features

    def forward(self, pose: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(pose)
        return torch.cat([features, rows], -1), features
