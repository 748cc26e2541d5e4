"""The stem: one vector per frame from the joint graph. Stateless, so it costs no memory per stream.

Joints are flattened early: keeping the joint graph through the temporal layers costs 5 to 11 times the time and 12 to
40 times the state, and trains no better on our data.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from poseline.skeleton import SkeletonLayout
from poseline_training.network.graph import GraphConvolution, LinearBlock, composed


class JointStem(nn.Module):
    """Features (B, T, V·10) → vectors (B, T, width): two graph convolutions, then all joints at once."""

    def __init__(self, layout: SkeletonLayout, width: int, channels: tuple[int, int] = (16, 32)) -> None:
        super().__init__()
        self.V = len(layout.joints)
        self.narrow = GraphConvolution(layout, 10, channels[0])
        self.wide = GraphConvolution(layout, channels[0], channels[1])
        self.out = LinearBlock(self.V * channels[1], width)

    def by_joint(self, features: Tensor) -> Tensor:
        """The normalizer's features (…, V·9 + V) with each joint's ten numbers side by side."""
        motion = features[..., : self.V * 9].unflatten(-1, (self.V, 9))
        return torch.cat([motion, features[..., self.V * 9 :].unsqueeze(-1)], -1).flatten(-2)

    def forward(self, features: Tensor) -> Tensor:
        B, T, _ = features.shape
        hidden = self.wide(self.narrow(self.by_joint(features).flatten(0, 1)))
        return self.out(hidden).view(B, T, -1)

    def folded(self, features: nn.Linear) -> nn.Sequential:
        """What `features` is applied to → (B, width): batch norms folded, `features` and the joint order with them."""
        narrow = self.narrow.folded()
        order = self.by_joint(torch.arange(self.V * 10).float()).long()
        weight = torch.zeros_like(narrow.weight)
        weight[:, order] = narrow.weight.detach()
        narrow.weight = nn.Parameter(weight)
        return nn.Sequential(composed(features, narrow), nn.ReLU(), self.wide.step(), self.out.folded(), nn.ReLU())
