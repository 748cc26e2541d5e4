"""Two honest rivals behind the same interface: a GRU over frames, and a linear map of poses at six lags.

They are trained, exported, served and evaluated by the same commands as the default body.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poseline_training.network.graph import LinearBlock, composed
from poseline_training.network.levels import Level, Steps


class GruBody(nn.Module):
    """Features (B, T, F) → (B, T, width): a linear block and one GRU layer (the shape of MiniROAD's head)."""

    def __init__(self, features: int, width: int, dropout: float) -> None:
        super().__init__()
        self.width = width
        self.embed = LinearBlock(features, width)
        self.dropout = nn.Dropout(dropout)
        self.gru = nn.GRU(width, width, batch_first=True)

    def forward(self, features: Tensor) -> Tensor:
        return F.relu(self.gru(self.dropout(self.embed(features)))[0])

    def steps(self, features: nn.Linear) -> Steps:
        level = Level("fast", 1, (("hidden", 1),), ("hidden",), _GruStep(self, features))
        return Steps(self.width, (("hidden", 1),), (level,))


class _GruStep(nn.Module):
    def __init__(self, body: GruBody, features: nn.Linear) -> None:
        super().__init__()
        self.embed = composed(features, body.embed.folded())
        self.cell = nn.GRUCell(body.width, body.width)
        self.cell.load_state_dict({k.removesuffix("_l0"): v for k, v in body.gru.state_dict().items()})

    def forward(self, pose: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.cell(F.relu(self.embed(pose)), rows)
        return F.relu(hidden), hidden


class LinearTaps(nn.Module):
    """Features (B, T, F) → (B, T, 6·F): now and five lags, nothing learnt; the head is the linear map."""

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
        level = Level("fast", 1, reads, ("features",), _TapsStep(features))
        return Steps(self.features, (("features", max(self.LAGS)),), (level,))


class _TapsStep(nn.Module):
    def __init__(self, features: nn.Linear) -> None:
        super().__init__()
        self.features = features

    def forward(self, pose: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(pose)
        return torch.cat([features, rows], -1), features
