"""A scripted person who performs labelled actions: a stream with exact truth that needs no download.

In: a seed, and a length or a script of action names. Out: a `Performance`: poses (T, 16) in native coordinates, and the
segment of every action, from the first frame of its movement to the frame at which the body rests again.

An action in place is a table of keyframes, (seconds since the last one, pose), written for a right-handed person of
average size and tempo who starts and ends at rest; walking, running and turning are made of steps. What differs between
performances (body, tempo, amplitude, side, posture, sway) is put on top in one place. The same seed gives the same
performance; bones keep their lengths until the sensor noise, which comes last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from poseline._kinematics import CHANNELS, Array, Body, blend, gait, joints, mirror, pose, reach_for, smooth_noise
from poseline.pose import PoseSequence, sequence_from_rate
from poseline.segments import Segment

Rng = np.random.Generator
Keys = list[tuple[float, Array]]

STANDING = pose()
SEATED = pose(pelvis=(0, -0.47, -0.4), trunk=(2, 0, 0), left_arm=(33, 4, 20, 0.86), right_arm=(33, 4, 20, 0.86))
_GUARD = pose(left_arm=(85, -8, 10, 0.5), right_arm=(80, -5, 10, 0.42), trunk=(4, 0, -8), pelvis=(0, -0.02, 0))
# Deviation of the slow unrest of a body that stands still.
_ARM_SWAY = (2, 1, 4, 0.006)
_SWAY = pose(pelvis=(0.006, 0.001, 0.006), turn=1, trunk=(0.8, 0.6, 1), nod=2, left_arm=_ARM_SWAY, right_arm=_ARM_SWAY)
_ROOM = 1.8  # metres from the middle of the stage that a walk stays within, where it can


@dataclass(frozen=True)
class Performance:
    """poses: body16, native coordinates, confidence 1. segments: exact, in order, not overlapping, score 1."""

    poses: PoseSequence
    segments: tuple[Segment, ...]


def wave_one_hand(rng: Rng) -> Keys:
    up, reach, out = rng.uniform(105, 150), rng.uniform(0.65, 0.9), rng.uniform(0, 12)
    swing, beat = rng.uniform(12, 22), rng.uniform(0.18, 0.3)
    sides = [pose(right_arm=(up, out + s * swing, 25, reach), trunk=(0, -2, 0)) for s in (1, -1)]
    waves = [(beat, sides[i % 2]) for i in range(1, int(rng.integers(4, 9)))]
    return [(0.65, sides[0]), *waves, (0.7, STANDING)]


def wave_two_hands(rng: Rng) -> Keys:
    up, reach, beat = rng.uniform(125, 165), rng.uniform(0.75, 0.95), rng.uniform(0.22, 0.34)
    arms = [(up, a, 25, reach) for a in (rng.uniform(25, 55), rng.uniform(0, 10))]
    sides = [pose(left_arm=arm, right_arm=arm) for arm in arms]
    waves = [(beat, sides[i % 2]) for i in range(1, int(rng.integers(4, 8)))]
    return [(0.75, sides[0]), *waves, (0.75, STANDING)]


def clap(rng: Rng) -> Keys:
    lift, beat = rng.uniform(62, 85), rng.uniform(0.13, 0.22)
    apart, together = ((lift, a, 30, 0.68) for a in (rng.uniform(-8, 22), -25))
    beats = [(beat, pose(left_arm=a, right_arm=a)) for a in [together, apart] * int(rng.integers(3, 8))]
    return [(0.55, pose(left_arm=apart, right_arm=apart)), *beats[:-1], (0.6, STANDING)]


def punch(rng: Rng) -> Keys:
    hit = pose(left_arm=(85, -8, 10, 0.45), right_arm=(rng.uniform(85, 100), -10, 35, 0.985),
               trunk=(9, 0, 24), turn=14, pelvis=(0.02, -0.04, 0.06))  # fmt: skip
    return [(0.34, _GUARD), (0.17, hit), (0.2, _GUARD), (0.38, STANDING)]


def kick(rng: Rng) -> Keys:
    arms = {"left_arm": (70, 0, 20, 0.55), "right_arm": (50, 5, 20, 0.6)}
    lift = pose(**arms, right_foot=(0, 0.42, 0.16), pelvis=(0.12, 0, -0.02), trunk=(-6, 3, 0))
    foot, trunk = (0, rng.uniform(0.4, 0.95), 0.82), (-16, 6, 12)
    if rng.random() < 0.35:  # to the side
        foot, trunk = (0.72, rng.uniform(0.35, 0.75), 0.1), (0, 20, 8)
    hit = pose(**arms, right_foot=foot, pelvis=(0.12, 0, 0.05), trunk=trunk)
    return [(0.4, lift), (0.17, hit), (0.2, lift), (0.42, STANDING)]


def squat(rng: Rng) -> Keys:
    arms = (rng.uniform(70, 90), 2, 15, 0.92)
    if rng.random() < 0.3:
        arms = (60, 0, 30, 0.55)
    low = pose(pelvis=(0, -rng.uniform(0.38, 0.56), -0.12), trunk=(rng.uniform(18, 34), 0, 0), nod=-15,
               left_arm=arms, right_arm=arms)  # fmt: skip
    return [(0.95, low), (rng.uniform(0.1, 0.5), low), (0.95, STANDING)]


def lunge(rng: Rng) -> Keys:
    far, low = rng.uniform(0.65, 0.88), rng.uniform(0.3, 0.46)
    arms = {side: (rng.uniform(0, 15), 10, 15, 0.95) for side in ("left_arm", "right_arm")}
    step = pose(pelvis=(0, -0.03, 0.2), right_foot=(0, 0.13, 0.45 * far), left_foot=(0, 0.03, 0))
    down = pose(pelvis=(0, -low, 0.55 * far), right_foot=(0, 0, far), left_foot=(0, 0.1, 0.06), trunk=(5, 0, 0), **arms)
    return [(0.42, step), (0.48, down), (rng.uniform(0.15, 0.6), down), (0.5, step), (0.4, STANDING)]


def bend(rng: Rng) -> Keys:
    arms = (rng.uniform(10, 35), 2, 10, 0.96)
    down = pose(pelvis=(0, -0.03, -0.16), trunk=(rng.uniform(60, 90), 0, 0), nod=10, left_arm=arms, right_arm=arms)
    return [(1.0, down), (rng.uniform(0.1, 0.5), down), (1.0, STANDING)]


def pick_up(rng: Rng) -> Keys:
    low = rng.uniform(0.25, 0.5)  # between bending over and crouching down
    arm, other = (rng.uniform(15, 35), -3, 15, 0.96), (55, -3, 20, 0.75)
    both = rng.random() < 0.4
    down = pose(pelvis=(0, -low, -0.16), trunk=(95 - 90 * low, 0, 0 if both else 12), nod=-10,
                right_arm=arm, left_arm=arm if both else other)  # fmt: skip
    holding = (rng.uniform(35, 55), -5, 15, 0.72)
    up = pose(right_arm=holding, left_arm=holding if both else (8, 8, 15, 0.95), nod=12)
    return [(0.85, down), (rng.uniform(0.1, 0.4), down), (0.8, up), (0.55, STANDING)]


def throw(rng: Rng) -> Keys:
    stride = rng.uniform(0, 0.4) * (rng.random() < 0.6)
    foot = {"left_foot": (0, 0, stride)}
    back = pose(right_arm=(100, 55, 50, 0.6), left_arm=(45, 8, 15, 0.85), trunk=(-4, -4, -20), turn=-12)
    cocked = pose(right_arm=(175, 40, 60, 0.62), left_arm=(60, 5, 15, 0.85), trunk=(-8, -3, -26), turn=-14,
                  pelvis=(-0.03, 0, 0.15 * stride), left_foot=(0, 0.12 * (stride > 0), 0.6 * stride))  # fmt: skip
    release = pose(right_arm=(110, 0, 30, 0.95), left_arm=(15, 10, 20, 0.8), trunk=(10, 3, 18), turn=14,
                   pelvis=(0.02, -0.03, 0.45 * stride + 0.03), **foot)  # fmt: skip
    after = pose(
        right_arm=(48, -14, 20, 0.92), trunk=(16, 3, 24), turn=16, pelvis=(0.02, -0.04, 0.5 * stride + 0.04), **foot
    )
    home = [(0.25, pose(pelvis=(0, 0, 0.2 * stride), left_foot=(0, 0.1, 0.5 * stride)))] if stride else []
    return [(0.3, back), (0.24, cocked), (0.22, release), (0.18, after), *home, (0.25 if stride else 0.4, STANDING)]


def push(rng: Rng) -> Keys:
    ready = pose(**dict.fromkeys(("left_arm", "right_arm"), (68, 4, 45, 0.42)), trunk=(-2, 0, 0), pelvis=(0, 0, -0.03))
    arms = dict.fromkeys(("left_arm", "right_arm"), (rng.uniform(82, 95), 0, 30, 0.97))
    out = pose(**arms, trunk=(rng.uniform(3, 14), 0, 0), pelvis=(0, -0.02, 0.06))
    return [(0.38, ready), (0.28, out), (rng.uniform(0.08, 0.3), out), (0.42, STANDING)]


def draw_circle(rng: Rng) -> Keys:
    radius, way, first = rng.uniform(0.42, 0.58), rng.choice((-1, 1)), rng.uniform(-0.6, 0.6)
    angles = first + way * np.linspace(0, 2 * np.pi, 13)
    circle = [pose(right_arm=reach_for(radius * np.sin(a) - 0.12, radius * np.cos(a) + 0.08, 0.68, 25)) for a in angles]
    beat = rng.uniform(0.08, 0.11)
    return [(0.55, circle[0]), *((beat, key) for key in circle[1:]), (0.55, STANDING)]


def sit_down(rng: Rng) -> Keys:
    lean = rng.uniform(24, 48)
    start = pose(pelvis=(0, -0.06, -0.1), trunk=(0.6 * lean, 0, 0), nod=8)
    landing = pose(pelvis=(0, -0.44, -0.36), trunk=(lean, 0, 0), left_arm=(22, 5, 20, 0.9), right_arm=(22, 5, 20, 0.9))
    return [(0.5, start), (0.6, landing), (0.55, SEATED)]


def stand_up(rng: Rng) -> Keys:
    lean = rng.uniform(28, 50)
    off = pose(pelvis=(0, -0.42, -0.27), trunk=(lean, 0, 0), left_arm=(20, 5, 20, 0.9), right_arm=(20, 5, 20, 0.9))
    rise = pose(pelvis=(0, -0.12, -0.1), trunk=(0.55 * lean, 0, 0))
    return [(0.55, off), (0.5, rise), (0.5, STANDING)]


def scratch_head(rng: Rng) -> Keys:
    near, rub = (pose(right_arm=(f, -8, 75, 0.6), nod=8, trunk=(2, 2, 0)) for f in (158, 146))
    return [(0.6, near), *[(0.16, key) for key in [rub, near] * int(rng.integers(1, 4))], (0.6, STANDING)]


def shift_weight(rng: Rng) -> Keys:
    side = pose(pelvis=(rng.uniform(0.05, 0.1), -0.01, 0), trunk=(0, -3, 4), right_foot=(0, 0.02, 0))
    return [(0.6, side), (rng.uniform(0.3, 1.5), side), (0.6, STANDING)]


def look_around(rng: Rng) -> Keys:
    left, right = (pose(trunk=(0, 0, sign * rng.uniform(10, 35)), turn=sign * rng.uniform(0, 12)) for sign in (1, -1))
    return [(0.6, left), (rng.uniform(0.2, 0.6), left), (0.8, right), (0.3, right), (0.6, STANDING)]


def hands_on_hips(rng: Rng) -> Keys:
    rest = pose(**dict.fromkeys(("left_arm", "right_arm"), (12, -8, 70, 0.72)))
    return [(0.7, rest), (rng.uniform(0.5, 2), rest), (0.7, STANDING)]


def cross_arms(rng: Rng) -> Keys:
    crossed = pose(left_arm=(52, -42, 35, 0.55), right_arm=(60, -45, 35, 0.6))
    return [(0.8, crossed), (rng.uniform(0.5, 2), crossed), (0.7, STANDING)]


Table = Callable[[Rng], Keys]
_TABLES: dict[str, Table] = {
    table.__name__: table
    for table in (sit_down, stand_up, wave_one_hand, wave_two_hands, clap, punch, kick, squat, lunge, bend, pick_up,
                  throw, push, draw_circle)
}  # fmt: skip
_FIDGETS: dict[str, Table] = {
    table.__name__: table for table in (scratch_head, shift_weight, look_around, hands_on_hips, cross_arms)
}
ACTIONS: tuple[str, ...] = ("walk", "run", *_TABLES)
FIDGETS: tuple[str, ...] = tuple(_FIDGETS)
"""What comes between actions, and no training of ours has a name for; who asks for one by name gets it as an action."""


@dataclass
class _Clip:
    """A stretch of channels (n, 22) at one station; `end` is the station (x, z, yaw) it leaves the actor at."""

    label: str | None
    channels: Array
    station: Array
    end: Array


@dataclass
class _Actor:
    """One person's body and manner, and where this person is."""

    rng: Rng
    fps: float
    body: Body = field(init=False)
    station: Array = field(init=False)
    seated: bool = False
    asked: Sequence[str] = ACTIONS
    """Actions among which a fidget is none by chance."""

    def __post_init__(self) -> None:
        rng = self.rng
        self.body = Body.sample(rng)
        self.tempo = float(np.clip(rng.normal(1, 0.12), 0.75, 1.3))
        self.gain = float(np.clip(rng.normal(1, 0.1), 0.8, 1.2))
        self.handedness = 0.85 if rng.random() < 0.9 else 0.15
        self.lag = rng.uniform(0, 0.06)  # seconds that arms and head trail the trunk
        self.station = np.array([*rng.uniform(-0.5, 0.5, 2), np.radians(rng.uniform(-40, 40))])
        stoop, abduction = rng.normal(0, 3), rng.normal(0, 3)
        arms = {side: rng.normal((0, abduction, 0, 0), (4, 1.5, 8, 0.01)) for side in ("left_arm", "right_arm")}
        self.posture = pose(trunk=(stoop, *rng.normal(0, 1, 2)), nod=rng.normal(5, 5)) - STANDING
        for side, offset in arms.items():
            self.posture[CHANNELS[side]] = offset

    def frames(self, seconds: float) -> int:
        return max(1, round(seconds * self.fps))

    def rest(self, frames: int) -> _Clip:
        channels = np.tile(SEATED if self.seated else STANDING, (frames, 1))
        return _Clip(None, channels, self.station, self.station)

    def play(self, table: Table, label: str | None = None) -> _Clip:
        """Keyframes made this person's own: tempo, amplitude, side, and a little of chance in each of them."""
        rng, keys = self.rng, table(self.rng)
        home = SEATED if table is stand_up else STANDING
        times = np.cumsum([0, *(s * rng.normal(self.tempo, 0.06) for s, _ in keys)])
        poses = np.stack([home, *(key for _, key in keys)])
        gain = self.gain * np.clip(rng.normal(1, 0.04, poses.shape), 0.9, 1.1)
        gain[:, CHANNELS["left_arm"].stop - 1] = gain[:, CHANNELS["right_arm"].stop - 1] = 1
        if table not in (sit_down, stand_up):  # the chair has one height
            poses[1:-1] = (STANDING + gain * (poses - STANDING))[1:-1]
        t = np.arange(self.frames(times[-1] + self.lag)) / self.fps
        channels = blend(times, poses, t)
        arms = slice(CHANNELS["nod"].start, CHANNELS["right_arm"].stop)
        channels[:, arms] = blend(times, poses[:, arms], t - self.lag)
        if rng.random() > self.handedness:
            channels = mirror(channels)
        return _Clip(label, channels, self.station, self.station)

    def steps(self, label: str | None, length: float, turn: float, pace: float, count: int, run: bool = False) -> _Clip:
        """`count` steps of `pace` seconds along an arc of `length` metres that turns by `turn` radians to the left."""
        beat = np.arange(self.frames(count * pace)) / (self.fps * pace)
        lead = 1 if self.rng.random() < 0.5 else -1
        channels, (across, ahead) = gait(self.body, beat, count, length, turn, lead, self.gain, run)
        x, z, yaw = self.station
        c, s = np.cos(yaw), np.sin(yaw)
        end = np.array([x + c * across + s * ahead, z - s * across + c * ahead, yaw + turn])
        return _Clip(label, channels, self.station, end)

    def turn(self, angle: float) -> _Clip:
        return self.steps(None, 0, angle, 0.5 * self.tempo, 2 + int(abs(angle) / 0.9))

    def face_front(self) -> Iterator[_Clip]:
        """Turn to the front again, unless seated or near enough."""
        yaw = _wrapped(self.station[2])
        if not self.seated and abs(yaw) > np.radians(40):
            yield self.moved(self.turn(np.radians(self.rng.uniform(-40, 40)) - yaw))

    def moved(self, clip: _Clip) -> _Clip:
        self.station = clip.end
        return clip

    def travel(self, label: str) -> Iterator[_Clip]:
        """Walk or run an arc that stays in the room, after a turn towards it if need be."""
        rng, run = self.rng, label == "run"
        pace = self.tempo * (rng.uniform(0.32, 0.4) if run else rng.uniform(0.5, 0.68))
        count = round(rng.uniform(2.5, 4.5 if run else 6) / pace)
        length = self.body.leg * (rng.uniform(0.5, 0.85) if run else rng.uniform(0.45, 0.72)) * (count - 1.3)
        if run and rng.random() < 0.3:  # on the spot
            length = 0.0

        def outside(aim: float, arc: float) -> float:
            heading = self.station[2] + aim + arc * np.linspace(0, 1, 20)
            way = np.cumsum(np.stack([np.sin(heading), np.cos(heading)], axis=1), axis=0) * length / 20
            return float(np.maximum(np.linalg.norm(way + self.station[:2], axis=1) - _ROOM, 0).max()) + 0.02 * abs(aim)

        aims, arcs = rng.uniform(-3, 3, 16) * (rng.random(16) < 0.7), rng.normal(0, 0.6 * length, 16)
        turns: list[tuple[float, float]] = list(zip(aims.tolist(), arcs.tolist(), strict=True))
        aim, arc = min(turns, key=lambda turn: outside(*turn)) if length else (0.0, 0.0)
        if abs(aim) > 0.5:
            yield self.moved(self.turn(aim))
        else:
            arc += aim
        yield self.moved(self.steps(label, length, arc, pace, count, run))

    def act(self, action: str) -> list[_Clip]:
        """One action of a script with what it needs around it; raises ValueError where the body is not ready."""
        if action not in (*ACTIONS, *FIDGETS):
            raise ValueError(f"unknown action {action!r}; known: {', '.join((*ACTIONS, *FIDGETS))}")
        if self.seated != (action == "stand_up"):
            now = "seated" if self.seated else "standing"
            raise ValueError(f"{action} while {now}: sit_down and stand_up come in turn")
        clips = [self.rest(self.frames(self.rng.uniform(0.6, 2)))]
        if not self.seated and self.rng.random() < 0.25:
            fidgets = [table for name, table in _FIDGETS.items() if name not in self.asked]
            if fidgets:
                fidget = fidgets[self.rng.integers(len(fidgets))]
                clips += [self.play(fidget), self.rest(self.frames(self.rng.uniform(0.3, 1)))]
        if action in ("walk", "run"):
            return [*clips, *self.travel(action)]
        clips += self.face_front()
        clips.append(self.play((_TABLES | _FIDGETS)[action], action))
        self.seated = action == "sit_down"
        return clips


def _wrapped(angle: float) -> float:
    """The same direction within -pi..pi."""
    return (angle + np.pi) % (2 * np.pi) - np.pi


def _improvise(actor: _Actor, frames: int) -> list[_Clip]:
    """All that are asked for in random order until `frames` are full; what does not fit any more gives way to idling."""
    clips: list[_Clip] = []
    deck: list[str] = []
    misses = 0
    while misses < 3:
        deck = deck or [str(a) for a in actor.rng.permutation([a for a in actor.asked if a != "stand_up"])]
        action, before = deck.pop(), actor.station
        more = actor.act(action)
        if action == "sit_down":
            more += actor.act("stand_up")
        size = sum(len(clip.channels) for clip in more)
        if size < frames:
            clips, frames = clips + more, frames - size
        else:
            actor.station, misses = before, misses + 1
    return [*clips, actor.rest(frames)]


def perform(
    seed: int,
    *,
    seconds: float = 60.0,
    fps: float = 30.0,
    script: Sequence[str] | None = None,
    actions: Sequence[str] = ACTIONS,
    noise: float = 0.003,
) -> Performance:
    """A person who performs `script`, or, without one, `actions` at random for exactly `seconds`.

    Both may name fidgets, which are then labelled and done by no chance; stand_up follows sit_down by itself. noise:
    deviation of the sensor noise in metres. Raises ValueError for an unknown action, and where a script asks to stand up
    while standing or to do anything else while seated.
    """
    rng = np.random.default_rng(seed)
    actor = _Actor(rng, fps, asked=actions if script is None else script)
    if script is None:
        clips = _improvise(actor, actor.frames(seconds))
    else:
        clips = [clip for action in script for clip in actor.act(action)]
        clips.append(actor.rest(actor.frames(rng.uniform(0.6, 2))))

    channels = np.concatenate([clip.channels for clip in clips]) + actor.posture
    stations = np.concatenate([np.tile(clip.station, (len(clip.channels), 1)) for clip in clips])
    frames = len(channels)
    sway = smooth_noise(rng, frames, len(_SWAY), 1, 0.7 * fps) * _SWAY
    x, z, c, s = sway[:, 0], sway[:, 2], np.cos(stations[:, 2]), np.sin(stations[:, 2])
    sway[:, 0], sway[:, 2] = c * x - s * z, s * x + c * z  # a change of station must not throw the sway about
    channels += sway
    poses = joints(actor.body, channels, stations)
    poses += smooth_noise(rng, frames, poses[0].size, noise, 0.08 * fps).reshape(poses.shape)

    ends = np.cumsum([len(clip.channels) for clip in clips])
    segments = tuple(
        Segment(clip.label, (end - len(clip.channels)) / fps, end / fps, 1.0)
        for clip, end in zip(clips, ends.tolist(), strict=True)
        if clip.label
    )
    return Performance(sequence_from_rate(poses, fps, name=f"actor-{seed}"), segments)
