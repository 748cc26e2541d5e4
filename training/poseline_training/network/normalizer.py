"""From raw poses to features: the network's first layer, inside the exported graph.

In: native poses (…, V, 4) = x, y, z in any unit of length, confidence. Out: (…, V·9 + V) features: the joints about the
pelvis, their velocity over two frames (relative to the pelvis; the pelvis' own place holds the root velocity, which is
zero for hip-centred sources), the bones, all divided by the person's torso length; and the confidence.

The torso length is a running mean over the frames so far (an exponential one after `TORSO_FRAMES`), so scale, place and
unit fall out causally. Until neck and pelvis have been seen, a pose has no scale and its features are zero. Velocity is
taken over two frames because 15 fps sources, upsampled to 30, repeat themselves every second frame.
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
_GAINS = {"joints": 2.0, "velocity": 10.0, "bones": 4.0}
"""Bring the three kinds of features to a standard deviation of about one."""


class PoseNormalizer(nn.Module):
    """Poses (B, T, V, 4) → features (B, T, size)."""

    mix: Tensor

    def __init__(self, layout: SkeletonLayout) -> None:
        super().__init__()
        self.V = len(layout.joints)
        self.neck, self.pelvis = layout.joints.index("neck"), layout.joints.index("pelvis")
        self.register_buffer("mix", _mixing(layout, self.pelvis), persistent=False)
        self.norm = nn.BatchNorm1d(self.size)

    @property
    def size(self) -> int:
        return self.V * 10

    @property
    def row(self) -> int:
        """Numbers that a stream keeps per frame: the joints, torso length, its count, and that the frame exists."""
        return 3 * self.V + 3

    def forward(self, poses: Tensor) -> Tensor:
        with torch.autocast(poses.device.type, enabled=False):
            joints, confidence = poses[..., :3], poses[..., 3]
            earlier = torch.zeros_like(joints)
            earlier[:, 2:] = joints[:, :-2]
            seen = torch.zeros_like(confidence[..., :1])
            seen[:, 2:] = 1
            torso, count = self._torso_lengths(joints, confidence)
            pair = self.scaled_pair(joints, earlier, seen, torso, count)
            features = torch.cat([pair @ self.mix, confidence], -1)
            return self.norm(features.flatten(0, 1)).view_as(features)

    @torch.no_grad()
    def _torso_lengths(self, joints: Tensor, confidence: Tensor) -> tuple[Tensor, Tensor]:
        """Running torso length and its count at every frame: (B, T, 1) each."""
        length, count = torch.zeros_like(confidence[:, 0, :1]), torch.zeros_like(confidence[:, 0, :1])
        lengths, counts = [], []
        for t in range(joints.shape[1]):
            length, count = self.running_torso(joints[:, t], confidence[:, t], length, count)
            lengths.append(length)
            counts.append(count)
        return torch.stack(lengths, 1), torch.stack(counts, 1)

    def running_torso(self, joints: Tensor, confidence: Tensor, length: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
        """One frame more: joints (B, V, 3), confidence (B, V), length and count (B, 1) so far."""
        now = torch.linalg.vector_norm(joints[:, self.neck] - joints[:, self.pelvis], dim=-1, keepdim=True)
        both = confidence[:, self.neck : self.neck + 1] * confidence[:, self.pelvis : self.pelvis + 1]
        known = (both * now > 0).float()
        count = torch.clamp(count + known, max=TORSO_FRAMES)
        return length + known * (now - length) / torch.clamp(count, min=1), count

    def scaled_pair(self, joints: Tensor, earlier: Tensor, seen: Tensor, torso: Tensor, count: Tensor) -> Tensor:
        """The pose now and two frames earlier about the root now, by torso length: (…, 2·V·3).

        joints and earlier (…, V, 3), seen, torso and count (…, 1). What was not seen earlier did not move.
        """
        root = joints[..., self.pelvis : self.pelvis + 1, :]
        now = (joints - root).flatten(-2)
        before = now + seen * ((earlier - root).flatten(-2) - now)
        gain = torch.clamp(count, max=1) * _TORSO / torch.clamp(torso, min=1e-9)
        return gain * torch.cat([now, before], -1)

    def folded(self) -> nn.Linear:
        """(scaled pair, confidence) → features, batch norm included: one linear layer."""
        pair, V = self.mix.shape[0], self.V
        weight = torch.zeros(pair + V, self.size)
        weight[:pair, : 9 * V] = self.mix
        weight[pair:, 9 * V :] = torch.eye(V)
        return fold(weight, self.norm)


def _mixing(layout: SkeletonLayout, pelvis: int) -> Tensor:
    """(2·V·3, V·9): joints, velocity and bones, joint by joint, from the pose now and two frames earlier."""
    V = len(layout.joints)
    now, before = torch.eye(2 * V)[:, :V], torch.eye(2 * V)[:, V:]
    velocity = now - before
    relative = velocity - velocity[:, pelvis : pelvis + 1]
    relative[:, pelvis] = velocity[:, pelvis]
    bones = torch.zeros_like(now)
    for child, parent in layout.bones:
        bones[:, child] = now[:, child] - now[:, parent]
    scalar = torch.stack(
        [_GAINS["joints"] * now, _GAINS["velocity"] * relative, _GAINS["bones"] * bones], dim=-1
    )  # (2V, V, 3 kinds)
    mixing = torch.einsum("uvk,cd->ucvkd", scalar, torch.eye(3))
    return mixing.reshape(2 * V * 3, V * 9)
