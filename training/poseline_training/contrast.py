"""Skeleton-snippet contrast (after DenseCL and SnipCLR, arXiv 2512.16504, with the release's defects undone).

Two views of a clip go through a query network and its slowly following key network. A snippet's projection must find
the same snippet of the other view among the snippets of other clips (a true FIFO) and the far snippets of its own clip;
beside it the usual global contrast of whole clips. Snippets that are padding, or lack their past, carry no loss.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poseline_training.network.localizer import Localizer

_PAST = 2
"""First snippets of a crop without loss: their past is missing."""
_NEAR = 2
"""Snippets of the same clip this close are no negatives: they show the same movement."""
_NEW_PER_BATCH = 64
"""Snippets that enter the queue per batch."""


class SnippetEncoder(nn.Module):
    """A network's frame vectors, averaged over snippets and projected."""

    def __init__(self, network: Localizer, snippet: int) -> None:
        super().__init__()
        self.network, self.snippet = network, snippet
        width = network.body.width
        self.dense = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
        self.whole = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))

    def forward(self, poses: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, V, 4) → snippet features (B, N, D) and their unit projections (B, N, D)."""
        features = self.network.encode(poses).unflatten(1, (-1, self.snippet)).mean(2).float()
        return features, F.normalize(self.dense(features).float(), dim=-1)

    def clip(self, features: Tensor, real: Tensor) -> Tensor:
        """Snippet features (B, N, D), (B, N) which are real → unit projection of the clip (B, D)."""
        weight = real.float().unsqueeze(-1)
        mean = (features * weight).sum(1) / weight.sum(1).clamp(min=1)
        return F.normalize(self.whole(mean).float(), dim=-1)


class Queue(nn.Module):
    """The last `length` vectors seen, oldest out first."""

    vectors: Tensor
    at: Tensor

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        self.register_buffer("vectors", F.normalize(torch.randn(length, width), dim=1))
        self.register_buffer("at", torch.zeros((), dtype=torch.long))

    def negatives(self) -> Tensor:
        """(length, width), a copy: the queue moves on before the gradient is taken."""
        return self.vectors.clone()

    @torch.no_grad()
    def push(self, new: Tensor) -> None:
        places = (torch.arange(len(new), device=new.device) + self.at) % len(self.vectors)
        self.vectors[places] = new.to(self.vectors.dtype)
        self.at.copy_((self.at + len(new)) % len(self.vectors))


def info_nce(positive: Tensor, negatives: list[Tensor], temperature: float) -> tuple[Tensor, Tensor]:
    """positive (N,), negatives each (N, ·) similarities → loss, and how often the positive is the nearest."""
    logits = torch.cat([positive.unsqueeze(-1), *negatives], -1) / temperature
    nearest = (logits.argmax(-1) == 0).float().mean()
    return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device)), nearest


def match(query: Tensor, key: Tensor, real: Tensor, matching: str) -> Tensor:
    """For each query snippet the index (B, N) of its positive among the key's: the same time, or the most similar."""
    B, N, _ = query.shape
    if matching == "time":
        return torch.arange(N, device=query.device).expand(B, N)
    similar = F.normalize(query, dim=-1) @ F.normalize(key, dim=-1).transpose(1, 2)
    return similar.masked_fill(~real[:, None], -torch.inf).argmax(-1)


def real_snippets(real_frames: Tensor, snippet: int) -> Tensor:
    """(B, T) → (B, N): snippets without padding that have their past."""
    real = real_frames.unflatten(1, (-1, snippet)).all(-1)
    real[:, :_PAST] = False
    return real


def snippet_terms(
    query: Tensor, key: Tensor, matched: Tensor, real: Tensor, queue: Tensor
) -> tuple[Tensor, list[Tensor]]:
    """Similarities of the real query snippets: to their positive (M,), and to negatives [(M, queue), (M, N)]."""
    D = key.shape[-1]
    positive = (query * key.gather(1, matched.unsqueeze(-1).expand(-1, -1, D))).sum(-1)
    own = query @ key.transpose(1, 2)
    place = torch.arange(key.shape[1], device=key.device)
    near = (place - matched.unsqueeze(-1)).abs() <= _NEAR
    own = own.masked_fill(near | ~real.unsqueeze(1), -1e4)
    return positive[real], [query[real] @ queue.T, own[real]]


def some_snippets(keys: Tensor, real: Tensor) -> Tensor:
    """A random few of the real key snippets, for the queue."""
    found = keys[real]
    return found[torch.randperm(len(found), device=found.device)[:_NEW_PER_BATCH]]
