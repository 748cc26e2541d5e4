"""A GRU over frames, as MiniROAD's (An et al., "MiniROAD: Minimal RNN Framework for Online Action Detection", ICCV 2023):
a linear embedding and one layer. Its published size is a linear of 2 048 and a state of 1 024.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from poseline_training.network.graph import LinearBlock, composed
from poseline_training.network.levels import Level, Steps


class GruBody(nn.Module):
    """Features (B, T, F) → (B, T, width): a linear block and one GRU layer."""

    def __init__(self, features: int, width: int, dropout: float) -> None:
        super().__init__()
        self.width = width
        self.embed = LinearBlock(features, width)
        self.dropout = nn.Dropout(dropout)
        self.gru = nn.GRU(width, width, batch_first=True)

    def forward(self, features: Tensor) -> Tensor:
        return F.relu(self.gru(self.dropout(self.embed(features)))[0])

    def steps(self, features: nn.Linear) -> Steps:
        level = Level("fast", 1, (("hidden", 1),), ("hidden",), _Step(self, features))
        return Steps(self.width, (("hidden", 1),), (level,))


class _Step(nn.Module):
    def __init__(self, body: GruBody, features: nn.Linear) -> None:
        super().__init__()
        self.embed = composed(features, body.embed.folded())
        self.cell = nn.GRUCell(body.width, body.width)
        self.cell.load_state_dict({k.removesuffix("_l0"): v for k, v in body.gru.state_dict().items()})

    def forward(self, pose: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.cell(F.relu(self.embed(pose)), rows)
        return F.relu(hidden), hidden
