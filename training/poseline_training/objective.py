"""What finetuning minimises: frame cross-entropy over the classes, and binary cross-entropy at the borders."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORE = -1
_BORDER_REACH = 3
"""Frames on each side of a border over which its target falls to zero."""
_BORDER_WEIGHT = 4.0
"""Borders are rare: a positive counts this many times."""


def class_weights(shares: Tensor, exponent: float) -> Tensor:
    """(1 + K,) weights share^-exponent, of mean 1 over the frames."""
    weights = shares.clamp(min=1e-4) ** -exponent
    return weights / (weights * shares).sum()


def border_targets(labels: Tensor) -> Tensor:
    """(B, T) labels → (B, T, 2): triangles of ±3 frames around each start and each end (the first frame after)."""
    before, after = labels[:, :-1], labels[:, 1:]
    changes = (before != after) & (before != IGNORE) & (after != IGNORE)
    borders = torch.zeros(*labels.shape, 2, device=labels.device)
    borders[:, 1:, 0] = (changes & (after > 0)).float()
    borders[:, 1:, 1] = (changes & (before > 0)).float()
    shape = 1 - torch.arange(-_BORDER_REACH, _BORDER_REACH + 1, device=labels.device).abs() / (_BORDER_REACH + 1)
    padded = F.pad(borders.transpose(1, 2), (_BORDER_REACH, _BORDER_REACH))
    return (padded.unfold(2, len(shape), 1) * shape).amax(-1).transpose(1, 2)


class Taught(NamedTuple):
    """What teachers say of every frame: probabilities (B, T, 1 + K), and of borders (B, T, 2)."""

    classes: Tensor
    borders: Tensor


def late(x: Tensor, frames: int, fill: float) -> Tensor:
    """(B, T, …) as a head that speaks `frames` later must say it; `fill` before it has anything to say."""
    if frames == 0:
        return x
    gap = torch.full_like(x[:, :frames], fill)
    return torch.cat([gap, x[:, : x.shape[1] - frames]], 1)


def distillation_loss(logits: Tensor, border_logits: Tensor, taught: Taught, known: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropies against what teachers say, of classes and of borders, over the frames `known` (B, T)."""
    classes = -(taught.classes * F.log_softmax(logits.float(), -1)).sum(-1)
    borders = F.binary_cross_entropy_with_logits(border_logits.float(), taught.borders, reduction="none").mean(-1)
    count = known.sum().clamp(min=1)
    return (classes * known).sum() / count, (borders * known).sum() / count


def supervised_contrast(vectors: Tensor, labels: Tensor, crops: Tensor, temperature: float) -> Tensor:
    """Frames of one class are to be nearer to each other than to all others (Khosla et al., NeurIPS 2020).

    Unit vectors (N, D) with labels (N,) and the crop (N,) that each comes from. Neighbours in a crop are alike whatever is
    learnt, so pairs of one crop say nothing; and background is no class: its frames push, and pull nobody.
    """
    similar = vectors @ vectors.T / temperature
    other = crops[:, None] != crops[None]
    alike = other & (labels[:, None] == labels[None]) & (labels > 0)[:, None]
    log_share = similar - similar.masked_fill(~other, -torch.inf).logsumexp(1, keepdim=True)
    count = alike.sum(1)
    pulled = count > 0
    if not pulled.any():
        return vectors.sum() * 0
    return -((log_share * alike).sum(1)[pulled] / count[pulled]).mean()


def localization_loss(
    logits: Tensor, border_logits: Tensor, labels: Tensor, weights: Tensor, smoothing: float, border_weight: float
) -> Tensor:
    """logits (B, T, 1 + K), border_logits (B, T, 2), labels (B, T) with -1 ignored."""
    classes = F.cross_entropy(
        logits.flatten(0, 1).float(), labels.flatten(), weights, ignore_index=IGNORE, label_smoothing=smoothing
    )
    known = (labels != IGNORE).float()
    borders = F.binary_cross_entropy_with_logits(
        border_logits.float(),
        border_targets(labels),
        reduction="none",
        pos_weight=torch.tensor(_BORDER_WEIGHT, device=labels.device),
    )
    borders = (borders.mean(-1) * known).sum() / known.sum().clamp(min=1)
    return classes + border_weight * borders
