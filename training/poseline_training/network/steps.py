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
    """joints (B, V, 4), rows (B, (2 + taps) · width) → scores (B, 1 + K), boundaries (B, 2), rows (B, … · width)."""

    def __init__(self, network: Localizer, body: nn.Module, width: int) -> None:
        super().__init__()
        self.normalizer, self.body, self.width = network.normalizer, body, width
        matrix, self.parts = network.normalizer.reading()
        self.reading = nn.Parameter(matrix)  # a constant of the graph
        self.classes = network.classify.out_features
        self.head = nn.Linear(network.classify.in_features, self.classes + 2)
        with torch.no_grad():
            self.head.weight.copy_(torch.cat([network.classify.weight, network.border.weight]))
            self.head.bias.copy_(torch.cat([network.classify.bias, network.border.bias]))

    def forward(self, joints: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        W = self.width
        pose, pose_row = self._normalize(joints.flatten(1), rows[:, :W], rows[:, W : 2 * W])
        vector, written = self.body(pose, rows[:, 2 * W :])
        logits, borders = self.head(vector).split([self.classes, 2], -1)
        return F.softmax(logits, dim=-1), torch.sigmoid(borders), torch.cat([pose_row, written], -1)

    def _normalize(self, joints: Tensor, older: Tensor, newer: Tensor) -> tuple[Tensor, Tensor]:
        """The scaled pose with its confidence, and the row to remember."""
        norm: PoseNormalizer = self.normalizer
        n = 4 * norm.V
        both = torch.cat([joints, older[:, :n]], -1)
        now, moved, torso, neck, pelvis, confidence = (both @ self.reading).split(self.parts, -1)
        length = torch.linalg.vector_norm(torso, dim=-1, keepdim=True)
        length, count = norm.running_torso(length, neck * pelvis, newer[:, n : n + 1], newer[:, n + 1 : n + 2])
        scaled = norm.scaled(now, moved, older[:, n + 2 : n + 3], length, count)
        row = torch.cat([joints, length, count], -1)
        # Padded with ones: the first of them says that the row was written, for rows that were not are zero.
        return torch.cat([scaled, confidence], -1), F.pad(row, (0, self.width - row.shape[1]), value=1.0)


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
