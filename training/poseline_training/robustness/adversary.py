"""Joints moved against the network, by no more than a given way each: how much worse than chance an error can be.

White box: projected gradient ascent (Madry et al., ICLR 2018) on the cross-entropy of the true classes, through the torch
network over the whole recording, so it knows weights, labels and future. Nothing else binds it: a joint may leap from one
side to the other between two frames, and bones may stretch; no sensor errs so. With `hold` a displacement stays for that
many frames, which takes the leaps away but not the knowledge. No gradient flows through the running torso length, so it is
a strong attack, not the strongest: a bound from one side.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from poseline.errors import UnitUnknown
from poseline.formats.corpus import LabelledSequence
from poseline.pose import NATIVE, PoseSequence
from poseline.skeleton import BODY16, Floats
from poseline.whole import WholeScorer
from poseline_training.corpus import native
from poseline_training.network.localizer import Localizer
from poseline_training.objective import IGNORE, late

STEPS = 10
"""Nearly all that there is: forty took 1.5 points more of frame mAP at 2 cm, .2 at 5 mm (`precog`, a short training)."""
RADII = (5, 10, 20)
"""Millimetres."""
HOLD = 8
"""Frames for which the smoothed variants keep a displacement."""


def attack(
    network: Localizer, poses: Floats, labels: NDArray[np.int64], radius: float, rng: Generator, hold: int = 1
) -> Floats:
    """Where to move joints so that the true classes' scores fall: (T, 16, 3), metres, at most `radius` for each joint.

    poses (T, 16, 4) native, on the network's grid, in metres. labels (T,) in the network's classes, -1 not to be attacked.
    Joints that are not seen stay. network: in evaluation mode; its first head is attacked.
    """
    moved, seen = torch.from_numpy(_knots(rng, poses, radius, hold)), torch.from_numpy(poses[..., 3:] > 0)
    # A random start lies inside the ball: its rim has no room for the first step.
    moved *= torch.from_numpy(rng.random((len(moved), len(BODY16.joints), 1), dtype=np.float32))
    clean, truth = torch.from_numpy(poses), late(torch.from_numpy(labels)[None], network.look_aheads[0], IGNORE)[0]
    for _ in range(STEPS):
        moved.requires_grad_()
        shift = _held(moved, len(poses), hold) * seen
        logits, _ = network(torch.cat([clean[..., :3] + shift, clean[..., 3:]], -1)[None])
        loss = F.cross_entropy(logits[0], truth, ignore_index=IGNORE, reduction="sum")
        (uphill,) = torch.autograd.grad(loss, moved)
        moved = _within(moved.detach() + 2.5 * radius / STEPS * F.normalize(uphill, dim=-1), radius)
    return np.asarray((_held(moved, len(poses), hold) * seen).numpy(), np.float32)


def chance(
    _: Localizer, poses: Floats, labels: NDArray[np.int64], radius: float, rng: Generator, hold: int = 1
) -> Floats:
    """The control, which knows nothing: every joint that is seen moved by `radius`, in any direction. (T, 16, 3)."""
    moved = torch.from_numpy(_knots(rng, poses, radius, hold))
    return np.asarray(_held(moved, len(poses), hold).numpy() * (poses[..., 3:] > 0), np.float32)


Move = Callable[[Localizer, Floats, NDArray[np.int64], float, Generator], Floats]
MOVES: dict[str, Move] = {
    "adversary, mm": attack,
    f"adversary, alike for {HOLD} frames, mm": partial(attack, hold=HOLD),
    "moved at random, mm": chance,
    f"moved at random, alike for {HOLD} frames, mm": partial(chance, hold=HOLD),
}


def metric(sequence: LabelledSequence) -> Floats:
    """The sequence's native poses (T, 16, 4), for displacements in metres. Raises UnitUnknown for a picture's."""
    coordinates = sequence.poses.coordinates
    if coordinates.dims != 3 or coordinates.space not in ("camera_m", "world_m"):
        raise UnitUnknown(f"joints are moved by metres, but {sequence.name} is in {coordinates.space}")
    return native(sequence)


def moved_by(sequence: LabelledSequence, poses: Floats, shift: Floats) -> LabelledSequence:
    """The sequence with native poses (T, 16, 4), displaced by (T, 16, 3)."""
    joints = np.asarray(poses[..., :3] + shift, np.float32)
    there = PoseSequence(joints, poses[..., 3], sequence.poses.timestamps, BODY16, NATIVE, sequence.name)
    return replace(sequence, poses=there)


def scorer_of(network: Localizer) -> WholeScorer:
    """The network's scores of a whole recording. It must be in evaluation mode."""

    @torch.no_grad()
    def score(poses: Floats) -> tuple[Floats, Floats]:
        logits, borders = network(torch.from_numpy(poses)[None])
        return logits[0].softmax(-1).numpy(), borders[0].sigmoid().numpy()

    return score


def _knots(rng: Generator, poses: Floats, radius: float, hold: int) -> Floats:
    """Displacements of length `radius` in random directions, one for every `hold` frames: (⌈T / hold⌉, 16, 3)."""
    away = rng.standard_normal((-(-len(poses) // hold), len(BODY16.joints), 3), dtype=np.float32)
    return np.asarray(radius * away / np.linalg.norm(away, axis=-1, keepdims=True), np.float32)


def _held(knots: Tensor, frames: int, hold: int) -> Tensor:
    return knots.repeat_interleave(hold, 0)[:frames]


def _within(moved: Tensor, radius: float) -> Tensor:
    length = torch.linalg.vector_norm(moved, dim=-1, keepdim=True)
    return moved * (radius / length.clamp(min=radius))
