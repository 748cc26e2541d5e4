"""The stem: one vector per frame from the joint graph. Stateless, so it costs no memory per stream.

Joints are flattened early: keeping the joint graph through the temporal layers costs 5 to 11 times the time and 12 to
40 times the state, and trains no better on our data.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from poseline.skeleton import SkeletonLayout
from poseline_training.network.graph import GraphConvolution, LinearBlock, composed


def by_joint(features: Tensor, V: int) -> Tensor:
    """The normalizer's features (…, V·9 + V) with each joint's ten numbers side by side."""
    motion = features[..., : V * 9].unflatten(-1, (V, 9))
    return torch.cat([motion, features[..., V * 9 :].unsqueeze(-1)], -1).flatten(-2)


def composed_by_joint(features: nn.Linear, layer: nn.Linear, V: int) -> nn.Linear:
    """The one linear layer that equals `layer(by_joint(features(x), V))`."""
    reordered = nn.Linear(layer.in_features, layer.out_features)
    weight = torch.zeros_like(layer.weight)
    weight[:, by_joint(torch.arange(V * 10).float(), V).long()] = layer.weight.detach()
    reordered.weight, reordered.bias = nn.Parameter(weight), layer.bias
    return composed(features, reordered)


class JointStem(nn.Module):
    """Features (B, T, V·10) → vectors (B, T, width): two graph convolutions, then all joints at once."""

    def __init__(self, layout: SkeletonLayout, width: int, channels: tuple[int, int] = (16, 32)) -> None:
        super().__init__()
        self.V = len(layout.joints)
        self.narrow = GraphConvolution(layout, 10, channels[0])
        self.wide = GraphConvolution(layout, channels[0], channels[1])
        self.out = LinearBlock(self.V * channels[1], width)

    def forward(self, features: Tensor) -> Tensor:
        B, T, _ = features.shape
        hidden = self.wide(self.narrow(by_joint(features, self.V).flatten(0, 1)))
        return self.out(hidden).view(B, T, -1)

    def folded(self, features: nn.Linear) -> nn.Sequential:
        """What `features` is applied to → (B, width): batch norms folded, `features` and the joint order with them."""
        narrow = composed_by_joint(features, self.narrow.folded(), self.V)
        return nn.Sequential(narrow, nn.ReLU(), self.wide.step(), self.out.folded(), nn.ReLU())
