"""The whole network: normalizer, body, heads. `forward` gives logits; probabilities are made where they are needed.

A head says what is being done `look_ahead` frames ago: it has seen that much more. All heads share one body, so one training
serves every choice of accuracy against delay; which head is used is chosen when a bundle is made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from poseline.skeleton import SkeletonLayout
from poseline_training.network.fusion import StridedU
from poseline_training.network.normalizer import PoseNormalizer
from poseline_training.network.rivals.gru import GruBody
from poseline_training.network.rivals.linear import LinearTaps
from poseline_training.network.rivals.skateformer import SkateformerBody
from poseline_training.network.rivals.stgcn import StgcnBody
from poseline_training.network.rivals.tcn import TcnBody
from poseline_training.network.rivals.transformer import TransformerBody

Body = Literal["strided_u", "centred_u", "gru", "linear", "tcn", "transformer", "stgcn", "skateformer"]
AnyBody = StridedU | GruBody | LinearTaps | TcnBody | TransformerBody | StgcnBody | SkateformerBody

BODIES: dict[Body, Callable[[SkeletonLayout, int, int, float], AnyBody]] = {
    "strided_u": lambda layout, _, width, dropout: StridedU(layout, width, dropout),
    "centred_u": lambda layout, _, width, dropout: StridedU(layout, width, dropout, causal=False),
    "gru": lambda _, features, width, dropout: GruBody(features, width, dropout),
    "linear": lambda _, features, width, dropout: LinearTaps(features),
    "tcn": lambda layout, _, width, dropout: TcnBody(layout, width, dropout),
    "transformer": lambda layout, _, width, dropout: TransformerBody(layout, width, dropout),
    "stgcn": lambda layout, _, width, dropout: StgcnBody(layout, width, dropout),
    "skateformer": lambda layout, _, width, dropout: SkateformerBody(layout, width, dropout),
}
"""Body → how to make one from layout, features per frame, width and dropout."""


class Localizer(nn.Module):
    """Poses (B, T, V, 4) → class logits (B, T, 1 + K) and boundary logits (B, T, 2) (start, end).

    Causal, but for the body `centred_u`, which sees the future as well as the past. look_aheads: frames, one head each.
    """

    def __init__(
        self,
        layout: SkeletonLayout,
        classes: int,
        body: Body = "strided_u",
        width: int = 128,
        dropout: float = 0.25,
        look_aheads: tuple[int, ...] = (0,),
    ) -> None:
        super().__init__()
        self.made_with: dict[str, Any] = {"body": body, "width": width, "dropout": dropout}
        """Beside layout, classes and look-aheads."""
        self.causal = body != "centred_u"
        self.classes, self.look_aheads = classes, look_aheads
        self.normalizer = PoseNormalizer(layout, self.causal)
        self.body = BODIES[body](layout, self.normalizer.size, width, dropout)
        self.dropout = nn.Dropout(0.0 if body == "linear" else dropout)
        self.classify = nn.Linear(self.body.width, len(look_aheads) * classes)
        self.border = nn.Linear(self.body.width, len(look_aheads) * 2)

    def encode(self, poses: Tensor) -> Tensor:
        """(B, T, V, 4) → one vector per frame (B, T, width)."""
        return self.body(self.normalizer(poses))

    def heads(self, poses: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Class and boundary logits of every head, in the order of `look_aheads`."""
        return self.heads_of(self.encode(poses))

    def heads_of(self, vectors: Tensor) -> list[tuple[Tensor, Tensor]]:
        """The same, of what `encode` gives."""
        vectors = self.dropout(vectors)
        classes, borders = self.classify(vectors), self.border(vectors)
        return list(zip(classes.split(self.classes, -1), borders.split(2, -1), strict=True))

    def forward(self, poses: Tensor) -> tuple[Tensor, Tensor]:
        """The first head's."""
        return self.heads(poses)[0]

    def select(self, look_ahead: int) -> None:
        """Keep the head of that look-ahead alone. Raises ValueError."""
        if look_ahead not in self.look_aheads:
            raise ValueError(f"trained for look-ahead {', '.join(map(str, self.look_aheads))}, not {look_ahead}")
        at = self.look_aheads.index(look_ahead)
        self.look_aheads = (look_ahead,)
        for name, outputs in (("classify", self.classes), ("border", 2)):
            every = getattr(self, name)
            one = nn.Linear(every.in_features, outputs)
            with torch.no_grad():
                one.weight.copy_(every.weight[at * outputs : (at + 1) * outputs])
                one.bias.copy_(every.bias[at * outputs : (at + 1) * outputs])
            setattr(self, name, one)

    def temper(self, temperature: float) -> None:
        """Divide the class logits, in the weights: at no cost (temperature scaling, Guo et al., ICML 2017)."""
        with torch.no_grad():
            self.classify.weight.div_(temperature)
            self.classify.bias.div_(temperature)
