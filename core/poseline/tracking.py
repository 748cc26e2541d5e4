"""Who of this frame is who of the last: people followed by their poses alone.

Poses are compared by object keypoint similarity (OKS), the measure of the COCO keypoint evaluation (cocodataset.org,
"Keypoint Evaluation"): the mean over joints of exp(-d² / (2 s² k²)), d the distance, s² the person's area, k twice the
joint's standard deviation among annotators. A track expects its person where it was last seen, moved on at its last
speed; the longer unseen, the wider it looks. Expectation and sight are assigned to each other so that the sum of
similarities, each divided by how wide was looked for it, is the largest (the Hungarian method).

All of it is a function of the poses and their times: the same frames give the same numbers, wherever they are followed.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from math import dist
from typing import cast

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from poseline.errors import StateError
from poseline.pose import TORSO
from poseline.skeleton import BODY16, Flags, Floats

Doubles = NDArray[np.float64]

SAME = 0.15
"""Least OKS for the person that a track expects."""
_WIDENING = 4.0
"""How many times its size a person may look larger after a second unseen: 1.1 m for a grown-up."""
_WIDEST = 2.0
"""Seconds after which nobody is looked for any wider."""
_SETTLING = 0.1
"""Seconds in which a track's speed follows a change (time constant)."""
_SHORTEST = 1e-3
"""Seconds between two frames from which a speed is taken: clocks are not finer."""
_COASTING = 0.3
"""Seconds for which somebody unseen is expected to go on."""
_SHARE = 0.14
"""A person's area as a share of the squared diagonal of the box around the joints: of who stands, half of 0.5 · 1.7 m² in
3.1 m². A diagonal stays long whichever way somebody is turned."""
_ONE_PLACE = 0.03
"""Share of the trunk's length within which another's pelvis is in the same place, which two bodies never are."""

# Standard deviations of the COCO key points, as its evaluation has them; the trunk's are those of what is nearest.
_LIMBS = {"shoulder": 0.079, "elbow": 0.072, "wrist": 0.062, "hip": 0.107, "knee": 0.087, "ankle": 0.089}
_TRUNK = {"head": 0.035, "neck": 0.079, "spine": 0.107, "pelvis": 0.107}
_K2 = np.array([2 * (_LIMBS | _TRUNK)[name.rpartition("_")[2]] for name in BODY16.joints], np.float32) ** 2
_TORSO = [BODY16.joints.index(name) for name in TORSO]


def oks(distance: Floats, area: Floats, common: Flags) -> Floats:
    """Squared distances (…, 16) between joints, the person's area (…,) in the same unit, and which joints both have (…, 16)
    → (…,) in 0..1; 0 where they have none in common."""
    alike = np.exp(-distance / (2 * area[..., None] * _K2 + np.float32(1e-12)))
    return (alike * common).sum(axis=-1) / np.maximum(common.sum(axis=-1), 1)


def areas(joints: Floats, seen: Flags) -> Floats:
    """joints (N, 16, 3), which of them are seen (N, 16) → (N,)."""
    if seen.all():
        box = joints.max(axis=1) - joints.min(axis=1)
    else:
        low, high = np.float32(-np.inf), np.float32(np.inf)
        box = np.where(seen[..., None], joints, low).max(axis=1) - np.where(seen[..., None], joints, high).min(axis=1)
    return np.float32(_SHARE) * (box * box).sum(axis=-1)


def in_one_place(poses: Floats) -> bool:
    """Whether two of these people (N, 16, 4) share their pelvis: hip-centred poses, say, which have no place to follow."""
    for (pelvis, neck), (other, _) in combinations(poses[:, _TORSO].tolist(), 2):
        trunk = dist(pelvis[:3], neck[:3]) if neck[3] > 0 else 0.0
        if pelvis[3] > 0 and other[3] > 0 and dist(pelvis[:3], other[:3]) <= _ONE_PLACE * trunk:
            return True
    return False


class TrackerState(Struct, frozen=True):
    """All that a tracker knows, to travel. numbers: of who is followed; given: numbers so far."""

    numbers: list[int]
    given: int
    seen_at: list[float]
    joints: bytes
    known: bytes
    speed: bytes


class Tracker:
    """Numbers people 1, 2, … in the order in which they first appear; no number is given twice.

    unseen: seconds after which a track ends. most: people followed at a time. depth: the third coordinate tells people
    apart; where it is none, or relative to the person, it does not.
    """

    def __init__(self, unseen: float, most: int, *, depth: bool = True) -> None:
        self._unseen, self._most, self._depth = unseen, most, depth
        self._given = 0
        self.forget()

    def forget(self) -> None:
        """Nobody is followed any more."""
        V = len(BODY16.joints)
        self._numbers: list[int] = []
        self._seen_at = np.zeros(0)
        self._joints = np.zeros((0, V, 3), np.float32)
        self._known = np.zeros((0, V), bool)
        self._speed = np.zeros((0, 3), np.float32)
        self._areas = np.zeros(0, np.float32)

    @property
    def numbers(self) -> Sequence[int]:
        """Of those who are followed."""
        return self._numbers

    def update(self, poses: Floats, t: float) -> list[int | None]:
        """Native poses (N, 16, 4) of one frame, later than the last one → the number of each, in their order; None for
        who shows no joint, and for newcomers beyond `most`."""
        rows = np.flatnonzero(t - self._seen_at <= self._unseen)
        if len(rows) < len(self._numbers):
            self._keep(rows)
        joints, seen = poses[..., :3], poses[..., 3] > 0
        if not self._depth:
            joints = joints * np.array((1, 1, 0), np.float32)
        found = self._assign(joints, seen, t)
        if known := [i for i, row in enumerate(found) if row >= 0]:
            self._see([found[i] for i in known], joints[known], seen[known], t)
        for i, row in enumerate(found):
            if row < 0 and len(self._numbers) < self._most and seen[i].any():
                found[i] = self._begin(joints[i : i + 1], seen[i : i + 1], t)
        return [self._numbers[row] if row >= 0 else None for row in found]

    def _keep(self, rows: NDArray[np.intp]) -> None:
        self._numbers = [self._numbers[row] for row in rows.tolist()]
        self._seen_at, self._joints, self._known = self._seen_at[rows], self._joints[rows], self._known[rows]
        self._speed, self._areas = self._speed[rows], self._areas[rows]

    def _assign(self, joints: Floats, seen: Flags, t: float) -> list[int]:
        """Of each pose the track that expected it, or -1."""
        if not self._numbers or not len(joints):
            return [-1] * len(joints)
        waited = (t - self._seen_at).astype(np.float32)
        expected = self._joints + (self._speed * np.minimum(waited, np.float32(_COASTING))[:, None])[:, None]
        width = 1 + np.float32(_WIDENING) * np.minimum(waited, np.float32(_WIDEST))
        apart = joints[:, None] - expected
        alike = oks((apart * apart).sum(axis=-1), self._areas * width * width, seen[:, None] & self._known)
        return assign(np.where(alike >= SAME, alike / width, 0))

    def _see(self, rows: list[int], joints: Floats, seen: Flags, t: float) -> None:
        """Each of these tracks (n) has found its person: joints (n, 16, 3), which of them are seen (n, 16)."""
        before, known = self._joints[rows], self._known[rows]
        waited = np.maximum(t - self._seen_at[rows], _SHORTEST).astype(np.float32)[:, None]
        both = seen & known
        step = ((joints - before) * both[..., None]).sum(axis=1) / both.sum(axis=1)[:, None].astype(np.float32)
        speed = self._speed[rows]
        self._speed[rows] = speed + (1 - np.exp(-waited / np.float32(_SETTLING))) * (step / waited - speed)
        if not seen.all():
            joints, known = np.where(seen[..., None], joints, before + step[:, None]), seen | known
        else:
            known = seen
        self._joints[rows], self._known[rows], self._seen_at[rows] = joints, known, t
        self._areas[rows] = areas(joints, known)

    def _begin(self, joints: Floats, seen: Flags, t: float) -> int:
        """A track for joints (1, 16, 3): its row."""
        self._given += 1
        self._numbers.append(self._given)
        self._seen_at = np.append(self._seen_at, t)
        self._joints, self._known = np.concatenate([self._joints, joints]), np.concatenate([self._known, seen])
        self._speed = np.concatenate([self._speed, np.zeros((1, 3), np.float32)])
        self._areas = np.concatenate([self._areas, areas(joints, seen)])
        return len(self._numbers) - 1

    def save(self) -> TrackerState:
        return TrackerState(
            list(self._numbers),
            self._given,
            self._seen_at.tolist(),
            self._joints.astype("<f4").tobytes(),
            self._known.tobytes(),
            self._speed.astype("<f4").tobytes(),
        )

    def load(self, state: TrackerState) -> None:
        """Go on exactly as the one that was saved would have. Raises StateError."""
        N, V = len(state.numbers), len(BODY16.joints)
        lengths = len(state.seen_at), len(state.joints), len(state.known), len(state.speed)
        if lengths != (N, N * V * 12, N * V, N * 12):
            raise StateError(f"the tracker's part does not hold {N} people")
        self._numbers, self._given = list(state.numbers), state.given
        self._seen_at = np.array(state.seen_at, np.float64)
        self._joints = np.frombuffer(state.joints, "<f4").reshape(N, V, 3).astype(np.float32)
        self._known = np.frombuffer(state.known, np.bool_).reshape(N, V).copy()
        self._speed = np.frombuffer(state.speed, "<f4").reshape(N, 3).astype(np.float32)
        self._areas = areas(self._joints, self._known) if N else np.zeros(0, np.float32)


def assign(gain: Floats) -> list[int]:
    """gain (N, M), none negative → the column of each row, or -1 where that would gain nothing; their sum is the largest.

    The Hungarian method with potentials (Kuhn 1955, Munkres 1957; by shortest augmenting paths, Jonker and Volgenant
    1987), O(n³). Here, and not scipy's: that costs a server 48 MB and a third of a second, for a matrix of a few people.
    """
    best = gain.argmax(axis=1)
    if len(set(best.tolist())) == len(gain):  # nobody disputes anybody's best
        return [int(j) if gain[i, j] > 0 else -1 for i, j in enumerate(best)]
    n = max(gain.shape)
    cost = np.zeros((n + 1, n + 1))
    cost[1 : len(gain) + 1, 1 : gain.shape[1] + 1] = -gain
    of_row, of_column = np.zeros(n + 1), np.zeros(n + 1)
    row_at = np.zeros(n + 1, int)  # row 0 and column 0 are where a path begins
    for row in range(1, n + 1):
        row_at[0], column = row, 0
        nearest, before, done = np.full(n + 1, np.inf), np.zeros(n + 1, int), np.zeros(n + 1, bool)
        while row_at[column]:
            done[column] = True
            reach = cost[row_at[column]] - of_row[row_at[column]] - of_column
            shorter = ~done & (reach < nearest)
            nearest[shorter], before[shorter] = reach[shorter], column
            following = int(np.where(done, np.inf, nearest).argmin())
            step = nearest[following]
            of_row[row_at[done]] += step
            of_column[done] -= step
            nearest[~done] -= step
            column = following
        while column:
            row_at[column] = row_at[before[column]]
            column = int(before[column])
    found = [-1] * len(gain)
    for column, row in enumerate(cast(list[int], row_at.tolist())):
        if 0 < row <= len(gain) and 0 < column <= gain.shape[1] and gain[row - 1, column - 1] > 0:
            found[row - 1] = column - 1
    return found
