"""The whole network: normalizer, body, heads. `forward` gives logits; probabilities are made where they are needed."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from poseline.skeleton import SkeletonLayout
from poseline_training.network.baselines import GruBody, LinearTaps
from poseline_training.network.fusion import StridedU
from poseline_training.network.normalizer import PoseNormalizer

Body = Literal["strided_u", "gru", "linear"]


class Localizer(nn.Module):
    """Poses (B, T, V, 4) → class logits (B, T, 1 + K) and boundary logits (B, T, 2) (start, end), causal."""

    def __init__(
        self, layout: SkeletonLayout, classes: int, body: Body = "strided_u", width: int = 128, dropout: float = 0.25
    ) -> None:
        super().__init__()
        self.normalizer = PoseNormalizer(layout)
        features = self.normalizer.size
        if body == "strided_u":
            self.body = StridedU(layout, width, dropout)
        elif body == "gru":
            self.body = GruBody(features, width, dropout)
        else:
            self.body = LinearTaps(features)
        self.dropout = nn.Dropout(0.0 if body == "linear" else dropout)
        self.classify = nn.Linear(self.body.width, classes)
        self.border = nn.Linear(self.body.width, 2)

    def encode(self, poses: Tensor) -> Tensor:
        """(B, T, V, 4) → one vector per frame (B, T, width)."""
        return self.body(self.normalizer(poses))

    def forward(self, poses: Tensor) -> tuple[Tensor, Tensor]:
        vectors = self.dropout(self.encode(poses))
        return self.classify(vectors), self.border(vectors)
