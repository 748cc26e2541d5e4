"""The causal U in time: three rates, each level held for the next finer one.

    frame rate   vector ─ conv ──────────────────────────── fuse ─ out      `fast`: every frame
                            └ pair ─ conv ────────── fuse ──┘ held          `mid`: every 2nd
                                      └ pair ─ conv×4 ─┘ held               `deep`: every 4th

Deep rows are held: a finer level uses the newest one that an *earlier* frame completed. So a frame's scores wait for
nothing, the deeper levels run after the scores are out, and each level is a pure function of rows → rows.
The view is 127 frames (4.2 s); the newest pose is always fresh, level 1 is 1–2 frames old, level 2 up to 6.

U-shaped multi-scale fusion after BSN++ and SnipCLR (arXiv 2512.16504), made causal, with stride instead of dilation:
a third of the state and two thirds of the time at equal accuracy (docs/adr/0001).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poseline.skeleton import SkeletonLayout
from poseline_training.network.encoder import JointStem
from poseline_training.network.graph import LinearBlock, TemporalConvolution
from poseline_training.network.levels import Level, Steps

_DILATIONS = (1, 2, 4, 8)
REACH = 72
"""Frames on either side beyond which the centred U sees nothing: 68 before and 66 after, rounded up to whole fours."""


def hold(rows: Tensor, length: int, causal: bool = True) -> Tensor:
    """Rows at half rate (B, N, D) → what the finer level sees (B, length, D): each row from the step after the one that
    completed it, zeros before the first. Not causal: each row where it belongs."""
    return F.pad(rows.repeat_interleave(2, 1), (0, 0, 2 * causal, 0))[:, :length]


def pairs(rows: Tensor) -> Tensor:
    """(B, T, D) → (B, T // 2, 2·D)."""
    return rows.unflatten(1, (-1, 2)).flatten(2)


class StridedU(nn.Module):
    """Features (B, T, F) → vectors (B, T, width).

    Not causal, it is the twin that tells the price of causality: the same layers and parameters, every convolution centred
    and nothing held back, so it sees two seconds on either side (`REACH`).
    """

    def __init__(self, layout: SkeletonLayout, width: int, dropout: float, causal: bool = True) -> None:
        super().__init__()
        self.width, self.causal = width, causal
        self.stem = JointStem(layout, width)
        self.conv0 = TemporalConvolution(width, 1, causal)
        self.down1, self.conv1 = LinearBlock(2 * width, width), TemporalConvolution(width, 1, causal)
        self.down2 = LinearBlock(2 * width, width)
        self.conv2 = nn.ModuleList(TemporalConvolution(width, d, causal) for d in _DILATIONS)
        self.up1, self.up0 = LinearBlock(2 * width, width), LinearBlock(2 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Tensor) -> Tensor:
        T = features.shape[1]
        features = F.pad(features, (0, 0, 0, (T + 3) // 4 * 4 - T))  # so written that an export can follow
        h0 = self.conv0(self.stem(features))
        h1 = self.conv1(self.down1(pairs(h0)))
        h2 = self.down2(pairs(h1))
        for conv in self.conv2:
            h2 = conv(h2)
        u1 = self.up1(torch.cat([h1, self.dropout(hold(h2, h1.shape[1], self.causal))], -1))
        u0 = self.up0(torch.cat([h0, self.dropout(hold(u1, h0.shape[1], self.causal))], -1))
        return u0[:, :T]

    def steps(self, features: nn.Linear) -> Steps:
        deep_rings = tuple((f"deep{i}", 2 * d) for i, d in enumerate(_DILATIONS))
        deep_taps = tuple((name, age) for name, length in deep_rings for age in (length, length // 2))
        return Steps(
            width=self.width,
            rings=(("stem", 2), ("h0", 2), ("down1", 2), ("h1", 2), ("u1", 1), *deep_rings, ("h2", 1)),
            levels=(
                Level("fast", 1, (("stem", 2), ("stem", 1), ("u1", 1)), ("stem", "h0"), _Fast(self, features)),
                Level(
                    "mid",
                    2,
                    (("h0", 2), ("h0", 1), ("down1", 2), ("down1", 1), ("h2", 1)),
                    ("down1", "h1", "u1"),
                    _Mid(self),
                ),
                Level(
                    "deep",
                    4,
                    (("h1", 2), ("h1", 1), *deep_taps),
                    (*(name for name, _ in deep_rings), "h2"),
                    _Deep(self),
                ),
            ),
        )


class _Fast(nn.Module):
    def __init__(self, body: StridedU, features: nn.Linear) -> None:
        super().__init__()
        self.stem, self.conv, self.up = body.stem.folded(features), body.conv0.folded(), body.up0.folded()
        self.widths = [2 * body.width, body.width]

    def forward(self, pose: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        vector = self.stem(pose)
        taps, deeper = rows.split(self.widths, -1)
        h0 = F.relu(self.conv(torch.cat([taps, vector], -1)))
        u0 = F.relu(self.up(torch.cat([h0, deeper], -1)))
        return u0, vector, h0


class _Mid(nn.Module):
    def __init__(self, body: StridedU) -> None:
        super().__init__()
        self.down, self.conv, self.up = body.down1.folded(), body.conv1.folded(), body.up1.folded()
        self.widths = [2 * body.width, 2 * body.width, body.width]

    def forward(self, rows: Tensor) -> Tensor:
        pair, taps, deeper = rows.split(self.widths, -1)
        down = F.relu(self.down(pair))
        h1 = F.relu(self.conv(torch.cat([taps, down], -1)))
        u1 = F.relu(self.up(torch.cat([h1, deeper], -1)))
        return torch.cat([down, h1, u1], -1)


class _Deep(nn.Module):
    def __init__(self, body: StridedU) -> None:
        super().__init__()
        self.down = body.down2.folded()
        self.convs = nn.ModuleList(conv.folded() for conv in body.conv2)  # pyright: ignore[reportCallIssue]
        self.pair = 2 * body.width

    def forward(self, rows: Tensor) -> Tensor:
        pair, *taps = rows.split(self.pair, -1)
        h = F.relu(self.down(pair))
        written = []
        for conv, older in zip(self.convs, taps, strict=True):
            written.append(h)
            h = F.relu(conv(torch.cat([older, h], -1)))
        return torch.cat([*written, h], -1)
