"""Two people who walk through each other's path, as a camera sees them: for whoever follows people.

`python tests/crossing.py 300` (with core/ on PYTHONPATH) counts how often the tracker takes them for each other.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np

from poseline.actor import perform
from poseline.skeleton import BODY16
from poseline.tracking import Tracker

FOCAL, HEIGHT, AWAY = 900.0, 1.4, 4.5
"""The camera: focal length in pixels of 1280 x 720, metres above the floor, metres before the place where they meet."""
_PELVIS = BODY16.joints.index("pelvis")


@dataclass(frozen=True)
class Crossing:
    """times (T,) in seconds; poses (T, 2, 16, 4), native, in metres or in pixels; there (T, 2): who is seen.

    order (T, 2): in which order they come; met: index of the frame in which they meet.
    """

    times: np.ndarray
    poses: np.ndarray
    there: np.ndarray
    order: np.ndarray
    met: int

    def frames(self) -> list[tuple[float, list[int], np.ndarray]]:
        """Of each frame its time, who is in it, and their poses (N, 16, 4) in the same order."""
        found = []
        for t, poses, there, order in zip(self.times, self.poses, self.there, self.order, strict=True):
            who = [int(i) for i in order if there[i]]
            found.append((float(t), who, poses[who]))
        return found


def crossing(seed: int, *, fps: float, view: str, occluded: float = 0.4) -> Crossing:
    """view: `world`, metres with 2 cm of error; `image`, pixels of a camera with 3 pixels of error and no depth. occluded:
    seconds around their meeting for which the one who is farther away is unseen."""
    rng = np.random.default_rng(seed)
    heading = rng.uniform(-0.5, 0.5)
    ways = [_walk(2 * seed, fps, heading), _walk(2 * seed + 1, fps, heading + np.pi + rng.uniform(-1.0, 1.0))]
    before, after = (min(part) for part in zip(*((at, len(way) - at) for way, at in ways), strict=True))
    before, after = min(before, round(4 * fps)), min(after, round(4 * fps))
    people = np.stack([way[at - before : at + after] for way, at in ways], axis=1)
    apart = rng.uniform(0.25, 0.45)  # they pass each other with that much between each and the middle, in depth
    people[:, 0, :, 2] += apart
    people[:, 1, :, 2] -= apart
    times = np.arange(len(people)) / fps
    there = np.ones((len(people), 2), bool)
    far = 1  # the camera looks from +z
    there[np.abs(times - times[before]) <= occluded / 2, far] = False
    poses = np.ones((*people.shape[:3], 4), np.float32)
    if view == "world":
        poses[..., :3] = people + rng.normal(0, 0.02, people.shape)
    else:
        depth = AWAY - people[..., 2]
        poses[..., 0] = FOCAL * people[..., 0] / depth
        poses[..., 1] = FOCAL * (people[..., 1] - HEIGHT) / depth
        poses[..., :2] += rng.normal(0, 3, poses[..., :2].shape)
        poses[..., 2] = 0
    order = np.stack([rng.permutation(2) for _ in times])
    return Crossing(times, poses, there, order, before)


def _walk(seed: int, fps: float, heading: float) -> tuple[np.ndarray, int]:
    """Somebody's joints (T, 16, 3) who walks through the origin in that direction (0: along +x), and the frame of it."""
    for attempt in range(100):
        played = perform(1000 * seed + attempt, fps=fps, script=["walk"])
        begin, end = (round(at * fps) for at in (played.segments[0].start, played.segments[0].end))
        at = (begin + end) // 2
        joints = played.poses.joints.astype(np.float64)
        near = max(1, round(0.5 * fps))
        way = joints[at + near, _PELVIS] - joints[at - near, _PELVIS]
        if np.hypot(way[0], way[2]) > 0.6:
            break
    turn = heading - np.arctan2(-way[2], way[0])
    c, s = np.cos(turn), np.sin(turn)
    x, z = joints[..., 0] - joints[at, _PELVIS, 0], joints[..., 2] - joints[at, _PELVIS, 2]
    joints[..., 0], joints[..., 2] = c * x + s * z, -s * x + c * z
    return joints, at


def swapped(names: list[list[object]], seen: Crossing) -> tuple[bool, bool]:
    """names: what each person of each frame was called, in the order of `Crossing.frames`.

    → whether somebody ever got the other's name, and whether anybody had more than one.
    """
    before: list[set[object]] = [set(), set()]
    after: list[set[object]] = [set(), set()]
    for i, ((_, who, _), called) in enumerate(zip(seen.frames(), names, strict=True)):
        for person, name in zip(who, called, strict=True):
            (before if i < seen.met else after)[person].add(name)
    swap = bool(after[0] & before[1] or after[1] & before[0] or before[0] & before[1] or after[0] & after[1])
    return swap, before != after or any(len(one) != 1 for one in before)


def follow(seen: Crossing) -> list[list[int | None]]:
    """What a tracker of its own calls everybody in every frame."""
    tracker = Tracker(2.0, 32)
    return [tracker.update(poses, t) for t, _, poses in seen.frames()]


def main(pairs: int) -> None:
    print("view   fps  hidden (s)  swapped  renamed")
    for view in ("world", "image"):
        for fps in (30, 15, 5):
            for hidden in (0.0, 0.4, 0.8):
                found = [crossing(seed, fps=fps, view=view, occluded=hidden) for seed in range(pairs)]
                swaps, renamed = np.sum([swapped(follow(seen), seen) for seen in found], axis=0)
                print(f"{view}  {fps:3}  {hidden:10}  {swaps:7}  {renamed:7}")


if __name__ == "__main__":
    main(int(sys.argv[1]))
