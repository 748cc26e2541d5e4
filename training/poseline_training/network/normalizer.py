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
            features = self.features(joints, earlier, seen, torso, count, confidence)
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
        known = ((confidence[:, self.neck] > 0) & (confidence[:, self.pelvis] > 0)).float().unsqueeze(-1)
        known = known * (now > 0).float()
        count = torch.clamp(count + known, max=TORSO_FRAMES)
        return length + known * (now - length) / torch.clamp(count, min=1), count

    def features(
        self, joints: Tensor, earlier: Tensor, seen: Tensor, torso: Tensor, count: Tensor, confidence: Tensor
    ) -> Tensor:
        """Before the batch norm. joints and earlier (…, V, 3), seen, torso and count (…, 1), confidence (…, V)."""
        root = joints[..., self.pelvis : self.pelvis + 1, :]
        now = (joints - root).flatten(-2)
        before = (earlier - root).flatten(-2)
        before = seen * before + (1 - seen) * now
        gain = torch.where(count > 0, _TORSO / torch.clamp(torso, min=1e-9), torch.zeros_like(torso))
        return torch.cat([gain * (torch.cat([now, before], -1) @ self.mix), confidence], -1)


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
