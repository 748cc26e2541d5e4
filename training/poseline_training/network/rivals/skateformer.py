"""Partition attention over the skeleton and time, after SkateFormer (Do and Kim, "SkateFormer: Skeletal-Temporal Transformer
for Human Action Recognition", ECCV 2024).

Kept: a token per joint and frame; a quarter of the channels for each of the four relations of SkateFormer's partitions
(joints of one body part or the same joint of every part; neighbouring frames or distant ones), with a learnt bias per pair
of joints and age; an embedding per joint. Changed: where SkateFormer cuts a clip into partitions that see themselves whole,
each frame here sees itself and 8 earlier ones, in a row or every 8th (129 frames in two blocks), so nothing depends on
where a clip begins and nothing on the future. Left out: the graph and temporal convolutions beside the attention, its
sampling and embedding of frame numbers, and size (published: 8 blocks of 96 to 192 channels, 24 joints).

It has no step graphs and is evaluated whole: every joint's keys and values of 64 frames would be half a megabyte of state a
stream, 24 times the default's.
"""

from __future__ import annotations

from typing import Never

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poseline.errors import InputError
from poseline.skeleton import SkeletonLayout
from poseline_training.network.encoder import by_joint
from poseline_training.network.graph import LinearBlock
from poseline_training.network.rivals.windows import attention, banded, blocks, feed_forward, with_previous

_PARTS = (
    ("neck", "left_shoulder", "left_elbow", "left_wrist"),
    ("head", "right_shoulder", "right_elbow", "right_wrist"),
    ("pelvis", "left_hip", "left_knee", "left_ankle"),
    ("spine", "right_hip", "right_knee", "right_ankle"),
)
"""The four limbs, from the trunk outwards, with a joint of the trunk each."""
_SPAN = 8
"""Earlier frames that a frame sees; distant ones are as many frames apart."""
_CHANNELS, _BLOCKS = 32, 2


class SkateformerBody(nn.Module):
    """Features (B, T, V·10) → vectors (B, T, width)."""

    def __init__(self, layout: SkeletonLayout, width: int, dropout: float) -> None:
        super().__init__()
        self.width, self.V = width, len(layout.joints)
        self.order = [layout.joints.index(joint) for part in _PARTS for joint in part]
        if sorted(self.order) != list(range(self.V)):
            raise ValueError(f"layout {layout.name} is not four parts of four joints")
        self.embed = LinearBlock(10, _CHANNELS)
        self.joints = nn.Parameter(torch.randn(len(_PARTS), len(_PARTS[0]), _CHANNELS) * 0.02)
        self.blocks = nn.ModuleList(_Block(dropout) for _ in range(_BLOCKS))
        self.norm = nn.LayerNorm(_CHANNELS)
        self.lift = LinearBlock(_CHANNELS, width)

    def forward(self, features: Tensor) -> Tensor:
        T = features.shape[1]
        joints = by_joint(features, self.V).unflatten(-1, (self.V, -1))[:, :, self.order]
        x = self.embed(F.pad(joints, (0, 0, 0, 0, 0, -T % _SPAN**2))).unflatten(2, self.joints.shape[:2]) + self.joints
        for block in self.blocks:
            x = block(x)
        return self.lift(self.norm(x[:, :T])).mean((2, 3))

    def steps(self, features: nn.Linear) -> Never:
        raise InputError("the body skateformer has no step graphs: it is evaluated whole and cannot be exported")


class _Block(nn.Module):
    """Tokens (B, T, P, L, C), T a multiple of 64 → the same: partition attention and a feed-forward net, each added."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        members = len(_PARTS)  # of a partition: the joints of a part, or the parts of a joint
        self.read = nn.Sequential(nn.LayerNorm(_CHANNELS), nn.Linear(_CHANNELS, 3 * _CHANNELS))
        self.bias = nn.Parameter(torch.zeros(4, members, members, _SPAN + 1))
        self.mix = nn.Sequential(nn.Linear(_CHANNELS, _CHANNELS), nn.Dropout(dropout))
        self.feed = feed_forward(_CHANNELS, dropout)

    def forward(self, x: Tensor) -> Tensor:
        relations = self.read(x).unflatten(-1, (3, 4, -1)).movedim((-3, -2), (0, 1)).unbind(1)
        seen = [
            _partition_attention(own, bias, across=i % 2 == 1, distant=i >= 2)
            for i, (own, bias) in enumerate(zip(relations, self.bias, strict=True))
        ]
        x = x + self.mix(torch.cat(seen, -1))
        return x + self.feed(x)


def _partition_attention(relation: Tensor, bias: Tensor, across: bool, distant: bool) -> Tensor:
    """Queries, keys and values (3, B, T, P, L, c) and the bias (members, members, span + 1) → (B, T, P, L, c).

    across: the same joint of every part, not the joints of one. distant: every 8th frame, not each.
    """

    def partitions(x: Tensor) -> Tensor:
        """(batch, blocks, frames of a block, members, groups, c): members see one another."""
        x = x if across else x.transpose(2, 3)
        x = x.unflatten(1, (-1, _SPAN)).transpose(1, 2).flatten(0, 1) if distant else x
        return blocks(x, _SPAN)

    def tokens(x: Tensor) -> Tensor:
        """(batch, blocks, frames, members, groups, c) → (batch, blocks, groups, frames · members, c)."""
        return x.movedim(4, 2).flatten(3, 4)

    queries, keys, values = (partitions(one) for one in relation)
    members = queries.shape[3]
    by_token = banded(bias).permute(2, 0, 3, 1).reshape(1, _SPAN * members, 2 * _SPAN * members)
    seen = attention(tokens(queries), tokens(with_previous(keys)), tokens(with_previous(values)), by_token)
    x = seen.unflatten(3, (_SPAN, members)).movedim(2, 4).flatten(1, 2)
    x = x.unflatten(0, (-1, _SPAN)).transpose(1, 2).flatten(1, 2) if distant else x
    return x if across else x.transpose(2, 3)
