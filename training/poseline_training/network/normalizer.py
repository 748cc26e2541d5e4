"""From raw poses to features: the network's first layer, inside the exported graph.

In: native poses (…, V, 4) = x, y, z in any unit of length, confidence. Out: (…, V·9 + V) features: the joints about the
pelvis, their velocity over two frames (relative to the pelvis; the pelvis' own place holds the root velocity, which is
zero for hip-centred sources), the bones, all divided by the person's torso length; and the confidence.

The torso length is a running mean over the frames so far (an exponential one after `TORSO_FRAMES`), so scale, place and
unit fall out causally. Until neck and pelvis have been seen, a pose has no scale and its features are zero. Velocity is
taken over two frames because 15 fps sources, upsampled to 30, repeat themselves every second frame.
Not causal, the torso length is the mean over all frames at once.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from poseline.skeleton import SkeletonLayout
from poseline_training.network.graph import fold

TORSO_FRAMES = 300
"""Frames after which the running torso length becomes an exponential mean: ten seconds."""
_TORSO = 0.5
"""Metres of an adult's torso: the length at which features keep the scale of metres."""
_GAINS = {"joints": 2.0 * _TORSO, "velocity": 10.0 * _TORSO, "bones": 4.0 * _TORSO}
"""Bring the three kinds of features to metres and to a standard deviation of about one."""


class PoseNormalizer(nn.Module):
    """Poses (B, T, V, 4) → features (B, T, size)."""

    mix: Tensor

    def __init__(self, layout: SkeletonLayout, causal: bool = True) -> None:
        super().__init__()
        self.causal = causal
        self.V = len(layout.joints)
        self.neck, self.pelvis = layout.joints.index("neck"), layout.joints.index("pelvis")
        self.register_buffer("mix", _mixing(layout, self.pelvis), persistent=False)
        self.norm = nn.BatchNorm1d(self.size)

    @property
    def size(self) -> int:
        return self.V * 10

    @property
    def row(self) -> int:
        """Numbers that a stream keeps per frame: the pose, torso length, its count, and a 1: that the frame exists."""
        return 4 * self.V + 3

    def forward(self, poses: Tensor) -> Tensor:
        with torch.autocast(poses.device.type, enabled=False):
            joints, confidence = poses[..., :3], poses[..., 3]
            moved = torch.zeros_like(joints)
            moved[:, 2:] = joints[:, 2:] - joints[:, :-2]
            seen = torch.zeros_like(confidence[..., :1])
            seen[:, 2:] = 1
            now = joints - joints[..., self.pelvis : self.pelvis + 1, :]
            torso, count = self._torso_lengths(now[..., self.neck, :], confidence)
            scaled = self.scaled(now.flatten(-2), moved.flatten(-2), seen, torso, count)
            features = torch.cat([torch.cat(scaled, -1) @ self.mix, confidence], -1)
            return self.norm(features.flatten(0, 1)).view_as(features)

    @torch.no_grad()
    def _torso_lengths(self, torso: Tensor, confidence: Tensor) -> tuple[Tensor, Tensor]:
        """Running torso length and its count at every frame, (B, T, 1) each, from the torso vectors (B, T, 3)."""
        now = torch.linalg.vector_norm(torso, dim=-1, keepdim=True)
        sure = (confidence[..., self.neck] * confidence[..., self.pelvis]).unsqueeze(-1)
        if not self.causal:
            known = torch.sign(sure * now)
            count = known.sum(1, keepdim=True)
            return ((known * now).sum(1, keepdim=True) / count.clamp(min=1)).expand_as(now), count.expand_as(now)
        length, count = torch.zeros_like(now[:, 0]), torch.zeros_like(now[:, 0])
        lengths, counts = [], []
        for t in range(now.shape[1]):
            length, count = self.running_torso(now[:, t], sure[:, t], length, count)
            lengths.append(length)
            counts.append(count)
        return torch.stack(lengths, 1), torch.stack(counts, 1)

    def running_torso(self, now: Tensor, sure: Tensor, length: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
        """One frame more: torso length now, confidence of its two ends, length and count so far; all (B, 1)."""
        known = torch.sign(sure * now)
        count = torch.clamp(count + known, max=TORSO_FRAMES)
        return length + known * (now - length) / torch.clamp(count, min=1), count

    def scaled(self, now: Tensor, moved: Tensor, seen: Tensor, torso: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
        """Joints about the pelvis and their way over two frames, by torso length: (…, V·3) each.

        now and moved (…, V·3), seen, torso and count (…, 1). What was not seen two frames ago did not move.
        """
        gain = torch.clamp(count, max=1) / torch.clamp(torso, min=1e-9)
        return gain * now, gain * seen * moved

    def folded(self) -> nn.Linear:
        """(scaled, confidence) → features, batch norm included: one linear layer."""
        scaled, V = self.mix.shape[0], self.V
        weight = torch.zeros(scaled + V, self.size)
        weight[:scaled, : 9 * V] = self.mix
        weight[scaled:, 9 * V :] = torch.eye(V)
        return fold(weight, self.norm)

    def reading(self) -> tuple[nn.Linear, list[int]]:
        """What a step reads off two poses, as one linear layer of 0 and ±1, and the widths of its parts.

        (pose now, pose two frames ago), V·4 numbers each → now (V·3), moved (V·3), torso vector (3), confidence of neck
        and of pelvis (1, 1), confidence (V), and a 1. One product costs less than the dozen slices it stands for.
        """
        V = self.V
        pose = torch.eye(8 * V).view(8 * V, 2, V, 4)
        joints, earlier, confidence = pose[:, 0, :, :3], pose[:, 1, :, :3], pose[:, 0, :, 3]
        now = joints - joints[:, self.pelvis : self.pelvis + 1]
        ends = confidence[:, [self.neck, self.pelvis]]
        none = torch.zeros(8 * V, 1)
        parts = [now.flatten(1), (joints - earlier).flatten(1), now[:, self.neck], ends, confidence, none]
        reading = nn.Linear(8 * V, 7 * V + 6)
        reading.weight = nn.Parameter(torch.cat(parts, 1).T.contiguous())
        reading.bias = nn.Parameter(torch.eye(7 * V + 6)[-1])
        return reading, [3 * V, 3 * V, 3, 1, 1, V, 1]


def _mixing(layout: SkeletonLayout, pelvis: int) -> Tensor:
    """(2·V·3, V·9): joints, velocity and bones, joint by joint, from the joints now and the way they moved."""
    V = len(layout.joints)
    now, moved = torch.eye(2 * V)[:, :V], torch.eye(2 * V)[:, V:]
    velocity = moved - moved[:, pelvis : pelvis + 1]
    velocity[:, pelvis] = moved[:, pelvis]
    bones = torch.zeros_like(now)
    for child, parent in layout.bones:
        bones[:, child] = now[:, child] - now[:, parent]
    kinds = [_GAINS["joints"] * now, _GAINS["velocity"] * velocity, _GAINS["bones"] * bones]
    mixing = torch.einsum("uvk,cd->ucvkd", torch.stack(kinds, dim=-1), torch.eye(3))
    return mixing.reshape(2 * V * 3, V * 9)
