"""The actor's body: how it steps, and from control channels to joint positions, all frames at once.

In: channels (T, 22) in the frame of a *station* (x, z, yaw: where the actor stands, facing its own +z), named by
`CHANNELS`: trunk and arm angles in degrees, arm reach in arm lengths, pelvis and feet in leg lengths relative to
upright standing. Out: body16 joints (T, 16, 3), metres, +y up, the floor at y = 0.

Arms and legs are solved by two-bone inverse kinematics, so every bone keeps its length whatever the channels ask;
a pelvis too high for a foot on the floor comes down, for people do not stretch either.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

CHANNELS: dict[str, slice] = {
    "pelvis": slice(0, 3),  # left, up, forward
    "turn": slice(3, 4),  # of the pelvis, to the left
    "trunk": slice(4, 7),  # lean forward, lean to the left, twist to the left
    "nod": slice(7, 8),
    "left_arm": slice(8, 12),  # flexion (0 hanging, 90 forward, 180 up), abduction, elbow outwards, reach
    "right_arm": slice(12, 16),
    "left_foot": slice(16, 19),  # outward, up, forward
    "right_foot": slice(19, 22),
}
_SIZE = 22
_SWAP = [*range(8), *range(12, 16), *range(8, 12), *range(19, 22), *range(16, 19)]
_SIGN = np.ones(_SIZE)
_SIGN[[0, 3, 5, 6]] = -1
_HANGING = (7, 5, 15, 0.975)


def pose(**groups: ArrayLike) -> Array:
    """Channels (22,): upright with hanging arms, but for the named groups."""
    channels = np.zeros(_SIZE)
    channels[CHANNELS["left_arm"]] = channels[CHANNELS["right_arm"]] = _HANGING
    for name, values in groups.items():
        channels[CHANNELS[name]] = values
    return channels


def mirror(channels: Array) -> Array:
    """The same movement (..., 22) with left and right exchanged."""
    return channels[..., _SWAP] * _SIGN


def reach_for(outward: float, up: float, forward: float, elbow: float) -> tuple[float, float, float, float]:
    """Arm channels that bring the wrist to a point relative to the shoulder, in arm lengths."""
    reach = float(np.linalg.norm((outward, up, forward)))
    return np.degrees(np.arctan2(forward, -up)), np.degrees(np.arcsin(outward / reach)), elbow, reach


def min_jerk(u: Array) -> Array:
    """0 to 1 over u in 0..1 with velocity and acceleration 0 at both ends (Flash & Hogan 1985)."""
    u = np.clip(u, 0, 1)
    return u**3 * (10 - 15 * u + 6 * u**2)


def blend(times: Array, keys: Array, t: Array) -> Array:
    """Keys (K, C) at `times` (K,) -> channels at `t` (T, C).

    A quintic through the keys that stops only where a channel turns round (slopes: Fritsch & Carlson 1980), so a
    movement between two turning points is one min-jerk stroke and not a row of halts.
    """
    dt, slope = np.diff(times)[:, None], np.diff(keys, axis=0) / np.diff(times)[:, None]
    speed = np.zeros_like(keys)
    same = slope[:-1] * slope[1:] > 0
    mean = 2 * slope[:-1] * slope[1:] / np.where(same, slope[:-1] + slope[1:], 1)
    speed[1:-1] = np.where(same, mean, 0)
    i = np.clip(np.searchsorted(times, t, "right") - 1, 0, len(times) - 2)
    u, dt = np.clip((t - times[i])[:, None] / dt[i], 0, 1), dt[i]
    a, b, va, vb = keys[i], keys[i + 1], speed[i] * dt, speed[i + 1] * dt
    return a + va * u + (b - a - va) * min_jerk(u) + (vb - va) * u**3 * (-4 + 7 * u - 3 * u**2)


def smooth_noise(rng: np.random.Generator, frames: int, width: int, sd: float, frame_sd: float) -> Array:
    """Slowly varying noise (frames, width) of deviation `sd`: white noise under a Gaussian `frame_sd` frames wide."""
    radius = int(np.ceil(3 * frame_sd))
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / frame_sd) ** 2)
    kernel /= np.linalg.norm(kernel)
    white = rng.standard_normal((width, frames + 2 * radius))
    return sd * np.stack([np.convolve(row, kernel, "valid") for row in white], axis=1)


@dataclass(frozen=True)
class Body:
    """Bone lengths in metres. The defaults are the medians of Kinect v1 skeletons, for a height of 1.75 m."""

    spine: float = 0.07  # pelvis to spine
    chest: float = 0.345  # spine to neck
    head: float = 0.19
    shoulder: tuple[float, float] = (0.168, -0.105)  # outward and up from the neck
    hip: tuple[float, float] = (0.076, -0.075)  # outward and up from the pelvis
    upper_arm: float = 0.265
    forearm: float = 0.24
    thigh: float = 0.475
    shank: float = 0.385
    ankle: float = 0.09  # above the floor
    stance: float = 0.1  # half the distance of the feet

    @property
    def arm(self) -> float:
        return self.upper_arm + self.forearm

    @property
    def leg(self) -> float:
        return self.thigh + self.shank

    @staticmethod
    def sample(rng: np.random.Generator) -> Body:
        """An adult of 1.5 to 1.9 m, each proportion within a few percent of the mean."""
        size = float(np.clip(rng.normal(1.7, 0.1), 1.5, 1.9)) / 1.75
        k = size * np.clip(rng.normal(1, 0.035, 11), 0.92, 1.08)
        arm, leg = k[5], k[6]  # the two bones of a limb vary together
        return Body(
            0.07 * k[0], 0.345 * k[1], 0.19 * k[2], (0.168 * k[3], -0.105 * k[3]), (0.076 * k[4], -0.075 * k[4]),
            0.265 * arm, 0.24 * arm, 0.475 * leg, 0.385 * leg, 0.09 * k[7], float(rng.uniform(0.07, 0.15)) * k[8],
        )  # fmt: skip


def gait(
    body: Body, beat: Array, count: int, length: float, turn: float, lead: int, gain: float, run: bool
) -> tuple[Array, Array]:
    """`count` steps from standing to standing, along an arc of `length` metres that turns by `turn` radians.

    beat: (T,) time in steps. lead: 1 where the left foot goes first, else -1. gain: how lively.
    Returns channels (T, 22) and the place (left, forward) in metres where the steps end.
    """
    speed = min_jerk(beat + 0.15) * min_jerk(count - 0.5 - beat)
    speed /= speed.sum()
    yaw = turn * np.cumsum(speed)
    path = length * np.cumsum(np.stack([np.sin(yaw), np.cos(yaw)], axis=1) * speed[:, None], axis=0)
    effort = min_jerk(beat) * min_jerk(count - beat)
    swing = -lead * effort * np.cos(np.pi * beat)  # 1: left foot in front
    bounce = np.cos(2 * np.pi * (beat - 0.1))
    stride = length / count / body.leg
    travels = stride > 0.1 or run

    channels = np.tile(pose(), (len(beat), 1))
    part = {name: channels[:, where] for name, where in CHANNELS.items()}
    part["pelvis"][:] = np.insert(path, 1, 0, axis=1) / body.leg
    part["pelvis"][:, 0] -= lead * 0.025 * effort * np.sin(np.pi * beat)  # over the foot that stands
    part["pelvis"][:, 1] -= effort * (0.05 + 0.035 * bounce if run else 0.01 + 0.012 * bounce)
    part["turn"][:, 0] = np.degrees(yaw) - 6 * travels * swing
    part["trunk"][:, 0] = (9 if run else 3) * effort
    part["trunk"][:, 2] = 10 * swing  # shoulders against hips
    for name, sign in (("left", 1), ("right", -1)):
        arm = part[f"{name}_arm"]
        arm[:, 0] += travels * gain * (30 if run else 12 + 28 * stride) * (0.15 - sign * swing)
        if run:
            arm += effort[:, None] * (32, -6, 10, -0.26)
            arm[:, 3] += 0.05 * sign * swing
        part[f"{name}_foot"][:] = _steps(body, sign, range(sign != lead, count, 2), beat, path, yaw, gain, run)
    return channels, path[-1]


def _steps(body: Body, sign: int, steps: range, beat: Array, path: Array, yaw: Array, gain: float, run: bool) -> Array:
    """Foot channels (T, 3) of one side: still on the floor but for its `steps`, each to where the pelvis will be."""
    begin, until = (-0.15, 1.15) if run else (0.06, 0.96)  # of the swing, in steps: running overlaps, walking does not
    spot = np.array([sign * body.stance, 0.0])
    foot, lift = np.tile(spot, (len(beat), 1)), np.zeros(len(beat))
    for step in steps:
        middle = min(int(np.searchsorted(beat, step + 1.4)), len(beat) - 1)  # of the stance to come
        target = path[middle] + sign * body.stance * np.array([np.cos(yaw[middle]), -np.sin(yaw[middle])])
        start, heel, land = max(step + begin, 0), max(step + begin - 0.2, 0), min(step + until, steps.stop)
        foot += min_jerk((beat - start) / (land - start))[:, None] * (target - spot)
        u = np.clip((beat - heel) / (land - heel), 0, 1)  # the heel comes up before the toes leave
        lift += gain * (0.26 if run else 0.1) * u**2 * (1 - u) ** 3 / 0.03456
        spot = target
    return np.stack([(sign * foot[:, 0] - body.stance) / body.leg, lift, foot[:, 1] / body.leg], axis=1)


def joints(body: Body, channels: Array, station: Array) -> Array:
    """Joints (T, 16, 3) of channels (T, 22) at stations (T, 3): x, z in metres, yaw in radians."""
    part = {name: channels[:, where] for name, where in CHANNELS.items()}
    lean, side, twist = np.radians(part["trunk"]).T
    yaw = station[:, 2]
    heading = yaw + np.radians(part["turn"][:, 0])
    hips = _rotation(heading, 0.45 * lean, 0.3 * side)  # the lumbar spine bends: the pelvis takes part of the lean
    chest = _rotation(heading + twist, lean, side)
    neckline = _rotation(heading + twist, 0.6 * lean + np.radians(part["nod"][:, 0]), 0.7 * side)
    origin = np.stack([station[:, 0], np.zeros(len(yaw)), station[:, 1]], axis=1)
    room, facing = _rotation(yaw), _rotation(heading)

    ankles: dict[str, Array] = {}
    offsets: dict[str, Array] = {}
    for name, sign in (("left", 1), ("right", -1)):
        foot = part[f"{name}_foot"] * body.leg * (sign, 1, 1) + (sign * body.stance, body.ankle, 0)
        ankles[name] = origin + _apply(room, foot)
        offsets[name] = _apply(hips, np.array([sign * body.hip[0], body.hip[1], 0.0]))
    standing = body.ankle + 0.992 * body.leg - body.hip[1]
    pelvis = origin + _apply(room, part["pelvis"] * body.leg + (0, standing, 0))
    pelvis[:, 1] -= np.maximum.reduce(
        [_excess(ankles[name] - pelvis - offsets[name], body, part[f"{name}_foot"][:, 1]) for name in ankles]
    )

    spine = pelvis + _apply(hips, np.array([0, body.spine, 0.0]))
    neck = spine + _apply(chest, np.array([0, body.chest, 0.0]))
    head = neck + _apply(neckline, np.array([0, body.head, 0.0]))
    out: list[Array] = [pelvis, spine, neck, head]
    for name, sign in (("left", 1), ("right", -1)):
        out += _arm(body, sign, part[f"{name}_arm"], neck, chest, _rotation(heading + 0.5 * twist))
    for name in ("left", "right"):
        hip = pelvis + offsets[name]
        line = ankles[name] - hip
        # Knees bend forward of the line from hip to ankle; the straight-ahead share decides where the leg is sideways.
        knee = _cross(line, facing[:, :, 0]) + 0.35 * body.leg * facing[:, :, 2]
        out += [hip, *_two_bones(hip, line, knee, body.thigh, body.shank)]
    return np.stack(out, axis=1)


def _arm(body: Body, sign: int, arm: Array, neck: Array, chest: Array, facing: Array) -> list[Array]:
    """Shoulder, elbow and wrist. Flexion and abduction are seen from the facing, not from the leaning trunk."""
    f, a, elbow = np.radians(arm[:, :3]).T
    reach = arm[:, 3]
    down, out, zero = np.cos(a), np.sin(a), np.zeros(len(f))
    direction = np.stack([sign * out, -down * np.cos(f), down * np.sin(f)], axis=1)
    behind = np.stack([zero, -np.sin(f), -np.cos(f)], axis=1)  # where the elbow points as the arm flexes
    aside = np.stack([sign * down, out * np.cos(f), -out * np.sin(f)], axis=1)
    bend = np.cos(elbow)[:, None] * behind + np.sin(elbow)[:, None] * aside
    # The shoulder blade follows the arm: up as it rises above the horizontal, forward as it reaches out.
    raised = 0.35 * min_jerk((direction[:, 1] + 0.4) / 1.4)
    forward = 0.3 * direction[:, 2] * np.clip(reach, 0, 1)
    x, y = sign * body.shoulder[0], body.shoulder[1]
    lifted = np.stack(
        [x * np.cos(raised) + sign * -y * np.sin(raised), y * np.cos(raised) + abs(x) * np.sin(raised), zero], 1
    )
    blade = np.stack([lifted[:, 0] * np.cos(forward), lifted[:, 1], abs(lifted[:, 0]) * np.sin(forward)], axis=1)
    shoulder = neck + _apply(chest, blade)
    line = _apply(facing, direction) * (reach * body.arm)[:, None]
    return [shoulder, *_two_bones(shoulder, line, _apply(facing, bend), body.upper_arm, body.forearm)]


def _two_bones(root: Array, line: Array, bend: Array, first: float, second: float) -> list[Array]:
    """Middle and end joint of two bones from `root` along `line` (T, 3), the middle one towards `bend`."""
    length = np.linalg.norm(line, axis=1, keepdims=True)
    d = np.clip(length, abs(first - second) + 1e-3, 0.9995 * (first + second))
    axis = line / np.maximum(length, 1e-9)
    bend = bend - axis * np.sum(axis * bend, axis=1, keepdims=True)
    bend /= np.maximum(np.linalg.norm(bend, axis=1, keepdims=True), 1e-9)
    along = (d**2 + first**2 - second**2) / (2 * d)
    middle = root + along * axis + np.sqrt(first**2 - along**2) * bend
    return [middle, root + d * axis]


def _excess(line: Array, body: Body, lift: Array) -> Array:
    """How far the pelvis is too high for this foot (T,), from hip to ankle (T, 3); a lifted foot binds less."""
    level2 = line[:, 0] ** 2 + line[:, 2] ** 2
    highest = np.sqrt(np.maximum((0.994 * body.leg) ** 2 - level2, (0.3 * body.leg) ** 2))
    return np.maximum(-line[:, 1] - highest, 0) * np.clip(1 - lift / 0.15, 0, 1)


def _rotation(yaw: Array, lean: Array | None = None, side: Array | None = None) -> Array:
    """(T, 3, 3): lean to the left, then forward, then turn to the left."""
    zero = np.zeros_like(yaw)
    a, b, c = yaw, zero if lean is None else lean, zero if side is None else -side
    ca, sa, cb, sb, cc, sc = np.cos(a), np.sin(a), np.cos(b), np.sin(b), np.cos(c), np.sin(c)
    rows = [
        [ca * cc + sa * sb * sc, -ca * sc + sa * sb * cc, sa * cb],
        [cb * sc, cb * cc, -sb],
        [-sa * cc + ca * sb * sc, sa * sc + ca * sb * cc, ca * cb],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def _apply(rotation: Array, vectors: Array) -> Array:
    return np.einsum("tij,j->ti" if vectors.ndim == 1 else "tij,tj->ti", rotation, vectors)


def _cross(a: Array, b: Array) -> Array:
    return a[:, [1, 2, 0]] * b[:, [2, 0, 1]] - a[:, [2, 0, 1]] * b[:, [1, 2, 0]]
