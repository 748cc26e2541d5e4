"""What rivals with attention share: attention of every frame to itself and the `span` frames before it, at a cost that grows
with the frames, not with their square (blocks of `span` frames, each against itself and the one before); what follows it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def feed_forward(width: int, dropout: float) -> nn.Sequential:
    """(…, width) → (…, width): what a transformer's block adds after its attention."""
    return nn.Sequential(
        nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width), nn.Dropout(dropout)
    )


def attention(queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
    """Softmax attention (…, I, H·D), (…, J, H·D) twice, and what is added to the logits, (H, I or 1, J) → (…, I, H·D).

    The softmax is made in float32 whatever the rest is made in.
    """
    heads = len(bias)
    queries, keys, values = (x.unflatten(-1, (heads, -1)).transpose(-2, -3) for x in (queries, keys, values))
    logits = (queries @ keys.transpose(-1, -2)).float() * queries.shape[-1] ** -0.5
    return ((logits + bias).softmax(-1).to(values.dtype) @ values).transpose(-2, -3).flatten(-2)


def blocks(x: Tensor, span: int) -> Tensor:
    """(B, T, …), T a multiple of span → (B, T / span, span, …)."""
    return x.unflatten(1, (-1, span))


def with_previous(x: Tensor) -> Tensor:
    """Blocks (B, N, span, …) → (B, N, 2·span, …): each behind the one before it; zeros before the first."""
    before = torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], 1)
    return torch.cat([before, x], 2)


def banded(bias: Tensor) -> Tensor:
    """What is added to the logits by age (…, span + 1) → by block (…, span, 2·span), -inf where a key is of the future or
    too old."""
    span = bias.shape[-1] - 1
    frames = torch.arange(2 * span, device=bias.device)
    age = frames[span:, None] - frames
    return bias[..., age.clamp(0, span)].masked_fill((age < 0) | (age > span), float("-inf"))
