"""From a trained network to its step graphs: modules ready for export, and the state they need.

The first level gains the normalizer before the body and the heads behind it, and one more ring: the last two poses with
the running torso length. Everything is a pure function of (joints, rows).
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poseline_training.network.levels import Level, Steps
from poseline_training.network.localizer import Localizer
from poseline_training.network.normalizer import PoseNormalizer


class _FirstStep(nn.Module):
    """joints (B, V, 4), rows (B, (2 + taps) · width) → scores (B, 1 + K), boundaries (B, 2), vectors (B, D), rows
    (B, … · width)."""

    def __init__(self, network: Localizer, body: nn.Module, width: int) -> None:
        super().__init__()
        self.normalizer, self.body, self.width = network.normalizer, body, width
        self.reading, self.parts = network.normalizer.reading()
        self.classes = network.classify.out_features
        self.head = nn.Linear(network.classify.in_features, self.classes + 2)
        with torch.no_grad():
            self.head.weight.copy_(torch.cat([network.classify.weight, network.border.weight]))
            self.head.bias.copy_(torch.cat([network.classify.bias, network.border.bias]))

    def forward(self, joints: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        pose, pose_row, rows = self._normalize(joints.flatten(1), rows)
        vector, *written = self.body(pose, rows)
        logits, borders = self.head(vector).split([self.classes, 2], -1)
        return F.softmax(logits, dim=-1), torch.sigmoid(borders), vector, torch.cat([*pose_row, *written], -1)

    def _normalize(self, joints: Tensor, rows: Tensor) -> tuple[Tensor, list[Tensor], Tensor]:
        """The scaled pose with its confidence, the row to remember in pieces, and the body's rows.

        A pose's row is a 1 (rows that were never written are zero), the pose, torso length and count, and zeros that are
        handed on from row to row. Every piece is a split of something that is there: at batch 1 each slice or padding
        costs as much as a small matrix product.
        """
        norm: PoseNormalizer = self.normalizer
        n, W = 4 * norm.V, self.width
        seen, older, _, length, count, spare, rows = rows.split([1, n, W, 1, 1, W - n - 3, rows.shape[1] - 2 * W], -1)
        read = self.reading(torch.cat([joints, older], -1))
        now, moved, torso, neck, pelvis, confidence, one = read.split(self.parts, -1)
        torso = torch.linalg.vector_norm(torso, dim=-1, keepdim=True)
        length, count = norm.running_torso(torso, neck * pelvis, length, count)
        pose = torch.cat([*norm.scaled(now, moved, seen, length, count), confidence], -1)
        return pose, [one, joints, length, count, spare], rows


def deployed(network: Localizer) -> Steps:
    """The network frame by frame, in evaluation, batch norms folded."""
    network = network.eval()
    steps = network.body.steps(network.normalizer.folded())
    if network.normalizer.row > steps.width:
        raise ValueError(f"state rows of {steps.width} numbers cannot hold a pose's {network.normalizer.row}")
    first, *deeper = steps.levels
    first = Level(
        first.name,
        first.every,
        (("pose", 2), ("pose", 1), *first.reads),
        ("pose", *first.writes),
        _FirstStep(network, first.module, steps.width).eval(),
    )
    deeper = [replace(level, module=level.module.eval()) for level in deeper]
    return Steps(steps.width, (("pose", 2), *steps.rings), (first, *deeper))
