"""Bridges between pieces of motion that give themselves away as little as may be. Pure functions of (pieces, rng).

What tells a made-up stretch from a recorded one is its pace, how it sets off and arrives, bones that change their length,
noise that the sensor would not have made, and the sensor's clock (docs/streams.md). So a bridge follows the quintic of least
jerk (Flash & Hogan 1985) from the pose and velocity that one piece ends with to those that the next one begins with; bones
turn, joints do not move straight; it lasts as long as the way takes at some recorded moment's pace; and it carries the
fine structure of a recorded stretch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from poseline.skeleton import BODY16, Flags, Floats

FINE = 9
"""Frames of the running mean; what differs from it is fine structure: the sensor's noise, its clock, tremor."""
SHORTEST, LONGEST = 8, 45
"""Frames of a bridge."""
_FIT = 5
"""Frames to which the pose and the velocity of a piece's end are fitted."""
_HAND = 3
"""Pieces drawn at a time."""
_STRETCHES = 30
"""Stretches of noise drawn, of which the one of the nearest pace is taken."""
_PARENTS = np.array(BODY16.parents[1:])
_HORIZONTAL = [0, 2]

Piece = tuple[Floats, NDArray[np.int64]]
"""poses (T, 16, 4) native, labels (T,)."""


@dataclass(frozen=True)
class End:
    """How a piece begins or ends: joints (16, 3) without the noise of one frame, velocity (16, 3) in metres a frame."""

    joints: Floats
    velocity: Floats

    @classmethod
    def of(cls, poses: Floats, last: bool) -> End:
        """The first or the last frame of poses (T, 16, 4), on a straight line through those next to it."""
        near = poses[-_FIT:, :, :3] if last else poses[:_FIT, :, :3]
        at = np.arange(len(near), dtype=np.float32) - (len(near) - 1) / 2
        mean = near.mean(axis=0)
        slope = np.einsum("t,tjc->jc", at, near) / max(float(at @ at), 1.0)
        return cls(mean + slope * at[-1 if last else 0], np.asarray(slope, np.float32))


def path(before: End, after: End, frames: int) -> Floats:
    """The `frames` poses between two ends, (frames, 16, 3), and a last one: where `after` comes to lie.

    Bones turn and keep their length but for what differs between the ends; the pelvis rises or sinks to where `after` has
    it, and travels as far as the velocities at both ends carry it.
    """
    n = frames + 1
    s = np.arange(1, n + 1, dtype=np.float32) / n
    arrive = s**3 * (10 - 15 * s + 6 * s**2)
    leave = n * (s - 6 * s**3 + 8 * s**4 - 3 * s**5)
    brake = n * (-4 * s**3 + 7 * s**4 - 3 * s**5)
    basis = np.stack([1 - arrive, arrive, leave, brake], axis=1)

    def between(start: Floats, end: Floats, start_velocity: Floats, end_velocity: Floats) -> Floats:
        knots = np.stack([start, end, start_velocity, end_velocity])
        return np.asarray((basis @ knots.reshape(4, -1)).reshape(n, *start.shape), np.float32)

    target = before.joints[0] + (before.velocity[0] + after.velocity[0]) * (n / 2)
    target[1] = after.joints[0, 1]
    bones, next_bones = before.joints[1:] - before.joints[_PARENTS], after.joints[1:] - after.joints[_PARENTS]
    turning, next_turning = (one.velocity[1:] - one.velocity[_PARENTS] for one in (before, after))
    turned = between(bones, next_bones, turning, next_turning)
    length, next_length = (np.linalg.norm(one, axis=-1) for one in (bones, next_bones))
    wanted = length * (1 - arrive[:, None]) + next_length * arrive[:, None]
    # A bone that turns right round passes through nothing: there it may be short.
    turned *= (wanted / np.maximum(np.linalg.norm(turned, axis=-1), 0.3 * wanted + 1e-6))[..., None]
    out = np.empty((n, len(_PARENTS) + 1, 3), np.float32)
    out[:, 0] = between(before.joints[0], target, before.velocity[0], after.velocity[0])
    for joint, parent in enumerate(_PARENTS, start=1):  # parents come first
        out[:, joint] = out[:, parent] + turned[:, joint - 1]
    return out


def fine_structure(poses: Floats, between: Flags) -> Floats:
    """What differs from a running mean of `FINE` frames, and for frames `between` samples from the straight line between
    those: (T, 16, 4) → (T - FINE + 1, 16, 3)."""
    joints = poses[..., :3]
    sums = np.cumsum(joints, axis=0, dtype=np.float64)
    sums[FINE:] -= sums[:-FINE].copy()
    smooth = joints.copy()
    half = FINE // 2
    smooth[half:-half] = sums[FINE - 1 :] / FINE
    smooth = np.where(between[:, None, None], interpolated(joints, between), smooth)
    return np.asarray((joints - smooth)[half:-half], np.float32)


def paces(poses: Floats) -> Floats:
    """Mean speed of the joints about the pelvis, metres a frame, over `FINE` frames: (T, 16, 4) → (T - FINE + 1,)."""
    centred = poses[..., :3] - poses[:, :1, :3]
    ways = np.linalg.norm(centred[FINE - 1 :] - centred[: 1 - FINE], axis=-1)
    return np.asarray(ways.mean(axis=1) / (FINE - 1), np.float32)


def between_samples(poses: Floats) -> Flags:
    """(T,) which frames lie on the straight line between their neighbours: a slow sensor's, filled in by interpolation."""
    energy = np.full(len(poses), np.inf, np.float32)
    energy[1:-1] = (np.diff(poses[..., :3], 2, axis=0) ** 2).sum(axis=(1, 2))
    beside = np.minimum(np.r_[0, energy[:-1]], np.r_[energy[1:], 0])
    return energy < 0.05 * beside


def interpolated(joints: Floats, between: Flags) -> Floats:
    """Frames `between` samples put on the straight line between those."""
    samples = np.flatnonzero(~between)
    at = np.arange(len(joints))
    after = np.minimum(np.searchsorted(samples, at), len(samples) - 1)
    before = np.maximum(after - 1, 0)
    gap = np.maximum(samples[after] - samples[before], 1)
    share = ((at - samples[before]) / gap).astype(np.float32)[:, None, None]
    return np.asarray(joints[samples[before]] * (1 - share) + joints[samples[after]] * share, np.float32)


class Texture:
    """What one person's recordings look like at close range: where a bridge takes its pace, its noise and its clock from."""

    def __init__(self, recordings: list[Floats]) -> None:
        half = FINE // 2
        enough = FINE + SHORTEST + 2
        to_and_fro = (np.concatenate([poses, poses[::-1], poses]) for poses in recordings)
        long = [poses for poses in recordings if len(poses) > enough] or list(to_and_fro)
        between = [between_samples(poses) for poses in long]
        self._between = np.concatenate([one[half:-half] for one in between])
        self._fine = np.concatenate([fine_structure(*both) for both in zip(long, between, strict=True)])
        self._paces = np.maximum(np.concatenate([paces(poses) for poses in long]), 1e-4)
        self._left = np.concatenate([np.arange(len(poses) - 2 * half, 0, -1) for poses in long])
        starts = np.flatnonzero(~self._between & (self._left > SHORTEST + 2))
        self._starts = starts[np.argsort(self._left[starts], kind="stable")]
        self._starts_left = self._left[self._starts]

    def pace(self, rng: Generator) -> float:
        """Metres a frame, as some recorded moment has it."""
        return float(self._paces[rng.integers(len(self._paces))])

    def sample(self, frames: int, pace: float, rng: Generator) -> tuple[Floats, Flags]:
        """Fine structure of a recorded stretch, (n + 2, 16, 3), n about `frames`, and which of its frames are `between`
        samples: neither the first nor the last. Of a few stretches drawn, the one whose pace is nearest."""
        first = min(int(np.searchsorted(self._starts_left, frames + 3)), len(self._starts) - 1)
        drawn = self._starts[rng.integers(first, len(self._starts), size=_STRETCHES)]
        middle = np.minimum(drawn + frames // 2, len(self._paces) - 1)
        start = int(drawn[np.abs(np.log(self._paces[middle] / pace)).argmin()])
        end = start + min(frames + 2, int(self._left[start]))
        while self._between[end - 1]:
            end -= 1
        return self._fine[start:end], self._between[start:end]


class Joiner:
    """Pieces of one person, of eight frames or more, and all that it takes to lay them one after another."""

    def __init__(self, pieces: list[Piece]) -> None:
        self.pieces = pieces
        self._heads = [End.of(poses, last=False) for poses, _ in pieces]
        self._tails = [End.of(poses, last=True) for poses, _ in pieces]
        heads, tails = (np.stack([e.joints - e.joints[:1] for e in ends]) for ends in (self._heads, self._tails))
        self._reach = np.stack([np.linalg.norm(heads - tail, axis=-1).mean(axis=1) for tail in tails])
        self._texture = Texture([poses for poses, _ in pieces])

    def nearest_first(self, drawn: Iterable[int]) -> Iterator[int]:
        """The pieces drawn, a few at a time put into an order in which each begins near to where the one before ended.

        All are used before more are drawn, so pieces that begin far from the others come as often as they.
        """
        supply, last = iter(drawn), None
        while hand := list(islice(supply, _HAND)):
            while hand:
                one = hand[0] if last is None else min(hand, key=self._reach[last].__getitem__)
                hand.remove(one)
                yield one
                last = one

    def bridge(self, last: int, to: int, rng: Generator) -> tuple[Floats, Floats]:
        """From the end of piece `last` to the beginning of piece `to`: poses (n, 16, 4), and (2,) by how much `to` must
        be moved horizontally to lie where they lead, both where `last` was recorded."""
        before, after = self.pieces[last][0][-1], self.pieces[to][0][0]
        reach = float(self._reach[last, to])
        frames = int(np.clip(round(reach / self._texture.pace(rng)), SHORTEST, LONGEST))
        fine, between = self._texture.sample(frames, reach / frames, rng)
        # What is added at both ends is taken away before, so that noise goes on without a jump.
        start = End(before[:, :3] - fine[0], self._tails[last].velocity)
        end = End(after[:, :3] - fine[-1], self._heads[to].velocity)
        frames = len(fine) - 2
        joints = np.concatenate([start.joints[None], path(start, end, frames)])
        joints[~between] += fine[~between]
        joints = interpolated(joints, between)
        joints[between] += fine[between]
        share = (np.arange(1, frames + 1, dtype=np.float32) / (frames + 1))[:, None]
        confidence = before[:, 3] * (1 - share) + after[:, 3] * share
        out = np.concatenate([joints[1:-1], confidence[..., None]], axis=-1).astype(np.float32)
        return out, joints[-1, 0, _HORIZONTAL] - after[0, _HORIZONTAL]

    def stream(self, order: Iterable[int], rng: Generator) -> Iterator[Piece]:
        """The pieces in that order, and after each but the last the bridge to the next, which is background."""
        offset, last = np.zeros(2, np.float32), None
        for one in order:
            if last is not None:
                bridge, shift = self.bridge(last, one, rng)
                bridge[:, :, _HORIZONTAL] += offset
                offset = offset + shift
                yield bridge, np.zeros(len(bridge), np.int64)
            poses, labels = self.pieces[one]
            poses = poses.copy()
            poses[:, :, _HORIZONTAL] += offset
            yield poses, labels
            last = one
