"""Layers that fold: each is a linear map, a batch norm and a ReLU, and is deployed without its batch norm.

`GraphConvolution` works on the joint graph with three learnable adjacency subsets (itself, its parent, its children), as
ST-GCN does (Yan et al., AAAI 2018). In training it is one dense (V·C_in, V·C_out) matrix: with 16 joints that is a single
well-fed matrix product. Deployed it is either that matrix, which other linear layers may be composed with, or a
`GraphStep`, which does less than a third of the work.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poseline.skeleton import SkeletonLayout


def fold(weight: Tensor, norm: nn.BatchNorm1d) -> nn.Linear:
    """The linear layer that equals `norm(x @ weight)` in evaluation; weight (in, out)."""
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None  # every norm here keeps running statistics
    assert variance is not None
    scale = norm.weight / torch.sqrt(variance + norm.eps)
    linear = nn.Linear(weight.shape[0], weight.shape[1])
    linear.weight = nn.Parameter((weight * scale).T.detach().clone())
    linear.bias = nn.Parameter((norm.bias - mean * scale).detach().clone())
    return linear


def composed(first: nn.Linear, second: nn.Linear) -> nn.Linear:
    """The one linear layer that equals `second(first(x))`."""
    both = nn.Linear(first.in_features, second.out_features)
    both.weight = nn.Parameter((second.weight @ first.weight).detach().clone())
    both.bias = nn.Parameter((second.weight @ first.bias + second.bias).detach().clone())
    return both


class LinearBlock(nn.Module):
    """(…, in) → (…, out): linear, batch norm over everything before the last axis, ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs, bias=False)
        self.norm = nn.BatchNorm1d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.linear(x.flatten(0, -2)))
        return F.relu(y).view(*x.shape[:-1], -1)

    def folded(self) -> nn.Linear:
        return fold(self.linear.weight.T, self.norm)


def adjacency(layout: SkeletonLayout) -> Tensor:
    """(3, V, V): itself, parent, children; each row sums to 1 where it has any neighbour."""
    V = len(layout.joints)
    subsets = torch.zeros(3, V, V)
    subsets[0] = torch.eye(V)
    for child, parent in layout.bones:
        subsets[1, parent, child] = 1
        subsets[2, child, parent] = 1
    return subsets / subsets.sum(2, keepdim=True).clamp(min=1)


class GraphConvolution(nn.Module):
    """(N, V·C_in) → (N, V·C_out) over the joint graph."""

    adjacency: Tensor

    def __init__(self, layout: SkeletonLayout, inputs: int, outputs: int) -> None:
        super().__init__()
        self.register_buffer("adjacency", adjacency(layout))
        self.offset = nn.Parameter(torch.zeros_like(self.adjacency))
        self.weight = nn.Parameter(torch.randn(3, inputs, outputs) * (2 / (3 * inputs)) ** 0.5)
        self.norm = nn.BatchNorm1d(len(layout.joints) * outputs)

    def dense(self) -> Tensor:
        """The whole map as one (V·C_in, V·C_out) matrix."""
        full = torch.einsum("kvu,kcd->ucvd", self.adjacency + self.offset, self.weight)
        return full.reshape(full.shape[0] * full.shape[1], -1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(x @ self.dense()))

    def folded(self) -> nn.Linear:
        return fold(self.dense(), self.norm)

    def step(self) -> GraphStep:
        return GraphStep(self)


class GraphStep(nn.Module):
    """A deployed `GraphConvolution`, ReLU and all: (B, V·C_in) → (B, V·C_out), neighbours first, then channels.

    With 16 joints, 16 and 32 channels that is 37 thousand multiply-adds for the dense matrix's 131 thousand, and 9 kB of
    weights for its 524 kB. The order of (joint, subset) makes every step a view of the one before: nothing is transposed.
    """

    def __init__(self, layer: GraphConvolution) -> None:
        super().__init__()
        subsets, inputs, outputs = layer.weight.shape
        self.V = layer.adjacency.shape[1]
        dense = fold(torch.eye(self.V * outputs), layer.norm)  # the batch norm alone: a scale and a shift
        with torch.no_grad():
            self.mixing = nn.Parameter((layer.adjacency + layer.offset).transpose(0, 1).reshape(-1, self.V))
            self.channels = nn.Parameter(layer.weight.reshape(subsets * inputs, outputs).clone())
            self.scale = nn.Parameter(dense.weight.diagonal().clone())
            self.shift = nn.Parameter(dense.bias.clone())

    def forward(self, x: Tensor) -> Tensor:
        neighbours = self.mixing @ x.view(x.shape[0], self.V, -1)
        joints = neighbours.view(-1, self.channels.shape[0]) @ self.channels
        return F.relu(joints.view(x.shape[0], -1) * self.scale + self.shift)


class TemporalConvolution(nn.Module):
    """Residual convolution of 3 taps at `dilation` over rows (B, T, D), zeros beyond both ends: of now and before, or, not
    causal, of before, now and after."""

    TAPS = 3

    def __init__(self, width: int, dilation: int, causal: bool = True) -> None:
        super().__init__()
        self.dilation, self.causal = dilation, causal
        self.linear = nn.Linear(self.TAPS * width, width, bias=False)
        self.norm = nn.BatchNorm1d(width)

    def forward(self, x: Tensor) -> Tensor:
        T, d = x.shape[1], self.dilation
        padded = F.pad(x, (0, 0, 2 * d, 0) if self.causal else (0, 0, d, d))
        taps = torch.cat([padded[:, j * d : j * d + T] for j in range(self.TAPS)], dim=-1)
        return F.relu(x + self.norm(self.linear(taps.flatten(0, 1))).view_as(x))

    def folded(self) -> nn.Linear:
        """The step: oldest, middle and current row side by side → the sum before the ReLU. The residual is the
        current tap's identity."""
        weight = self.linear.weight.T.detach().clone()
        linear = fold(weight, self.norm)
        width = linear.out_features
        with torch.no_grad():
            linear.weight[:, -width:] += torch.eye(width)
        return linear
