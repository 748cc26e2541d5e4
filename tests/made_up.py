"""Made-up recordings that the tiny bundle finds segments in."""

from __future__ import annotations

import numpy as np

from poseline.pose import PoseSequence
from poseline.protocol import CoordinatesSpec, Frame, LocalizeRequest
from poseline.remote import request_for, timeline
from tiny_bundle import motion

NATIVE = CoordinatesSpec("world_m", 3, "up", "+z")


def recording(seed: int, frames: int = 300, fps: float = 30.0, start: float = 0.0) -> PoseSequence:
    poses = motion(np.random.default_rng(seed), frames)
    return PoseSequence(poses[..., :3], poses[..., 3], start + np.arange(frames) / fps)


def frames_of(seed: int, frames: int = 300, person: str = "p1", **kwargs: float) -> list[Frame]:
    return timeline({person: recording(seed, frames, **kwargs)})


def request_of(seed: int, frames: int = 300, person: str = "p1") -> LocalizeRequest:
    return request_for({person: recording(seed, frames)})
