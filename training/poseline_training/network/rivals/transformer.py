"""A windowed transformer with a short and a long memory, after LSTR (Xu et al., "Long Short-Term Transformer for Online
Action Detection", NeurIPS 2021) and TeSTra (Zhao and Krähenbühl, ECCV 2022).

Kept: frames attend to a short memory at full rate (themselves and the 64 frames before) and, by cross-attention, to a
compressed long memory of the past just behind it (32 rows of 4 frames each); both are sliding windows whose keys and values
are made once per frame, as TeSTra's are. Changed: the long memory is compressed by a strided linear map, not by learnt
queries over the whole of it, so that it streams at the cost of one row per 4 frames; places in a window are told by a
learnt bias per age; the frames' vectors come from the default's joint stem, so only time is compared. Keys from before the
stream's start are zero rows that are attended to like any other, as convolutions see zeros there. Left out: TeSTra's
exponential smoothing kernel, LSTR's anticipation tokens, and size (published: width 1 024, minutes of memory).

Two layers see 260 frames.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poseline.skeleton import SkeletonLayout
from poseline_training.network.encoder import JointStem
from poseline_training.network.graph import LinearBlock
from poseline_training.network.levels import Level, Steps
from poseline_training.network.rivals.windows import attention, banded, blocks, feed_forward, with_previous

_SHORT = 64
"""Frames of the short memory, the newest not counted."""
_RATE = 4
"""Frames per row of the long memory."""
_LONG, _SKIPPED = 32, _SHORT // _RATE
"""Rows of the long memory, and newer rows than those, which the short memory covers."""
_LAYERS, _HEADS = 2, 4


class TransformerBody(nn.Module):
    """Features (B, T, F) → vectors (B, T, width); width is a multiple of the 4 heads."""

    def __init__(self, layout: SkeletonLayout, width: int, dropout: float) -> None:
        super().__init__()
        self.width = width
        self.stem = JointStem(layout, width)
        self.compress = LinearBlock(_RATE * width, width)
        self.memory = nn.Linear(width, 2 * width)
        self.layers = nn.ModuleList(_Layer(width, dropout) for _ in range(_LAYERS))
        self.norm = nn.LayerNorm(width)

    def forward(self, features: Tensor) -> Tensor:
        T = features.shape[1]
        x = self.stem(F.pad(features, (0, 0, 0, -T % _SHORT)))
        rows = self.memory(self.compress(blocks(x, _RATE).flatten(2)))
        past = F.pad(rows, (0, 0, _LONG + _SKIPPED, 0)).unfold(1, _LONG, 1)[:, : rows.shape[1]]
        long_keys, long_values = past.transpose(2, 3).chunk(2, -1)

        def short(queries: Tensor, keys: Tensor, values: Tensor, by_age: Tensor) -> Tensor:
            keys, values = (with_previous(blocks(some, _SHORT)) for some in (keys, values))
            return attention(blocks(queries, _SHORT), keys, values, banded(by_age)).flatten(1, 2)

        def long(queries: Tensor, by_row: Tensor) -> Tensor:
            return attention(blocks(queries, _RATE), long_keys, long_values, by_row).flatten(1, 2)

        for layer in self.layers:
            x = layer(x, short, long)
        return self.norm(x)[:, :T]

    def steps(self, features: nn.Linear) -> Steps:
        own = [f"{kind}{i}" for i in range(1, _LAYERS + 1) for kind in ("keys", "values")]
        memory = ["long_keys", "long_values"]
        behind = range(_LONG + _SKIPPED, _SKIPPED, -1)
        reads = [(name, age) for name in own for age in range(1, _SHORT + 1)]
        reads += [(name, age) for name in memory for age in behind]
        return Steps(
            width=self.width,
            rings=(
                ("stem", _RATE),
                *((name, _SHORT) for name in own),
                *((name, _LONG + _SKIPPED) for name in memory),
            ),
            levels=(
                Level("fast", 1, tuple(reads), ("stem", *own), _Fast(self, features)),
                Level("long", _RATE, tuple(("stem", age) for age in range(_RATE, 0, -1)), tuple(memory), _Long(self)),
            ),
        )


class _Layer(nn.Module):
    """Attention to the short memory, to the long one, and a feed-forward net, each added to (…, D) behind a layer norm.

    short: queries, keys and values of the same frames, and biases by age → what is found; long: queries and biases by row →
    what is found; all (…, D).
    """

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.read = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 3 * width))
        self.by_age = nn.Parameter(torch.zeros(_HEADS, _SHORT + 1))
        self.found = nn.Sequential(nn.Linear(width, width), nn.Dropout(dropout))
        self.ask = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width))
        self.by_row = nn.Parameter(torch.zeros(_HEADS, 1, _LONG))
        self.recalled = nn.Sequential(nn.Linear(width, width), nn.Dropout(dropout))
        self.feed = feed_forward(width, dropout)

    def forward(
        self,
        x: Tensor,
        short: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor],
        long: Callable[[Tensor, Tensor], Tensor],
    ) -> Tensor:
        queries, keys, values = self.read(x).chunk(3, -1)
        x = x + self.found(short(queries, keys, values, self.by_age))
        x = x + self.recalled(long(self.ask(x), self.by_row))
        return x + self.feed(x)


class _Fast(nn.Module):
    def __init__(self, body: TransformerBody, features: nn.Linear) -> None:
        super().__init__()
        self.stem, self.layers, self.norm, self.width = body.stem.folded(features), body.layers, body.norm, body.width
        self.parts = [_SHORT] * (2 * len(body.layers)) + [_LONG, _LONG]

    def forward(self, pose: Tensor, rows: Tensor) -> tuple[Tensor, ...]:
        *own, long_keys, long_values = rows.unflatten(-1, (-1, self.width)).split(self.parts, 1)
        older = iter(own)
        x = self.stem(pose)
        written = [x]

        def short(queries: Tensor, keys: Tensor, values: Tensor, by_age: Tensor) -> Tensor:
            written.extend([keys, values])
            keys, values = (torch.cat([some[:, None], next(older)], 1) for some in (keys, values))
            return attention(queries[:, None], keys, values, by_age[:, None])[:, 0]

        def long(queries: Tensor, by_row: Tensor) -> Tensor:
            return attention(queries[:, None], long_keys, long_values, by_row)[:, 0]

        for layer in self.layers:
            x = layer(x, short, long)
        return self.norm(x), *written


class _Long(nn.Module):
    def __init__(self, body: TransformerBody) -> None:
        super().__init__()
        self.compress, self.memory = body.compress.folded(), body.memory

    def forward(self, rows: Tensor) -> Tensor:
        return self.memory(F.relu(self.compress(rows)))
