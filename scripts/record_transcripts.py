"""Records docs/transcripts again, with the default model: what a client does stands here, what the server says is heard.

    PYTHONPATH=tests python scripts/record_transcripts.py

After each step the recorder waits until the server has nothing more to say, so let the machine be idle.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from poseline.actor import perform
from poseline.bundle import find_bundle
from poseline.codec import JSON
from poseline.keypoints import pack_keypoints, write_keypoints
from poseline.pose import PoseSequence
from poseline.translation import model_info
from servers import ServerProcess
from transcripts import FOLDER, Line, Message, Wire, save

MODELS = Path(__file__).parents[1] / "models"
FPS = 15
QUIET = 0.5
"""Seconds of silence after which the server has said all that it has to say."""
NATIVE = {"space": "world_m", "y_axis": "up", "facing": "+z"}

Scene = Callable[[], Iterator[Line]]


# --- what clients do ---------------------------------------------------------------------------------------------


def say(type: str, **fields: Any) -> Line:
    return {"from": "client", "message": {"type": type, **fields}}


def lost(line: Line) -> Line:
    return line | {"lost": True}


CONNECT: Line = {"from": "client", "connect": True}


def cut(forget: int = 0) -> Line:
    """forget: the newest so many messages were never heard."""
    return {"from": "client", "cut": True, "forget": forget}


def start(**fields: Any) -> Line:
    return say("session.start", **{"layout": "body16", "coordinates": NATIVE} | fields)


def acted(*script: str, seed: int = 3) -> PoseSequence:
    return perform(seed, fps=FPS, script=script).poses


def packed(poses: PoseSequence) -> list[Any]:
    return [b64encode(kp).decode() for kp in pack_keypoints(poses.joints, poses.confidence)]


def frames(
    people: dict[str | None, list[Any]], begin: int = 0, end: int | None = None, chunk: int = 10, since: float = 0.0
) -> Iterator[Line]:
    """Frames begin to end of people, each frame's number being its place; who has no more poses is not seen."""
    longest = max(map(len, people.values()))
    end = longest if end is None else min(end, longest)
    for first in range(begin, end, chunk):
        yield say("frames", seq=first, frames=[_frame(people, i, since) for i in range(first, min(first + chunk, end))])


def _frame(people: dict[str | None, list[Any]], i: int, since: float) -> dict[str, Any]:
    seen = [({"id": name} if name else {}) | {"kp": poses[i]} for name, poses in people.items() if i < len(poses)]
    return {"t": round(since + i / FPS, 6), "people": [one for one in seen if one["kp"] is not None]}


def segments() -> Iterator[Line]:
    """One person waves and kicks; two score messages a second; the session is closed."""
    yield CONNECT
    yield start(options={"scores_hz": 2}, fps=FPS, client={"name": "transcript", "version": "1"})
    yield from frames({"p1": packed(acted("wave_two_hands", "kick"))})
    yield say("session.close")


def flat() -> Iterator[Line]:
    """Two-dimensional joints of a layout of one's own, as lists, some of them missing; two classes are asked for."""
    poses = acted("squat", seed=5)
    joints, names = poses.joints[..., :2] * (1, -1), list(poses.layout.joints)
    seen = poses.confidence.copy()
    seen[5:25, names.index("left_wrist")] = 0
    yield CONNECT
    yield start(
        layout={"name": "custom", "joints": [f"my_{name}" if name == "head" else name for name in names]},
        coordinates={"space": "camera_m", "dims": 2, "y_axis": "down", "facing": "-z"},
        options={"classes": ["squat", "lunge"], "scores_hz": 1},
    )
    kp = write_keypoints(joints.astype("f4").round(3), seen)
    yield from frames({"p1": [[joint and [round(n, 3) for n in joint[:2]] for joint in pose] for pose in kp]})
    yield say("session.close")


def control() -> Iterator[Line]:
    """flush, session.update that is good and that is not, an unknown message, keepalive; every partial is told."""
    kp = packed(acted("wave_one_hand", "clap", seed=8))
    half = len(kp) * 2 // 5
    yield CONNECT
    yield start(options={"partials": "all"})
    yield from frames({"p1": kp}, 0, half)
    yield say("flush")
    yield say("keepalive")
    yield say("session.update", options={"classes": ["clap"], "min_duration": 0.2, "partials": "none"})
    yield say("session.update", options={"min_score": 7})
    yield say("session.update", options={"gap_reset": 1.0})
    yield say("hello", name="from a later version")
    yield from frames({"p1": kp}, half)
    yield say("flush", track_id="p1")
    yield say("flush", track_id="nobody")
    yield say("session.close")


def times() -> Iterator[Line]:
    """A frame that comes late and one that comes twice, nobody for a while, somebody gone for longer than gap_reset."""
    kp = packed(acted("bend", seed=2))
    half = len(kp) // 2
    yield CONNECT
    yield start(options={"gap_reset": 1.5})
    yield from frames({"p1": kp}, 0, half)
    newest = (half - 1) / FPS
    yield say("frames", seq=half, frames=[{"t": round(newest - 0.5, 6), "people": [{"id": "p1", "kp": kp[0]}]}])
    yield say("frames", seq=half + 1, frames=[{"t": round(newest, 6), "people": [{"id": "p1", "kp": kp[0]}]}])
    yield say("frames", seq=half + 2, frames=[{"t": round(newest + n / FPS, 6), "people": []} for n in (1, 5, 9)])
    later = [
        {"t": round(newest + 3 + n / FPS, 6), "people": [{"id": "p1", "kp": pose}]} for n, pose in enumerate(kp[half:])
    ]
    for first in range(0, len(later), 10):
        yield say("frames", seq=half + 5 + first, frames=later[first : first + 10])
    yield say("session.close")


def people() -> Iterator[Line]:
    """Two people at a time; one leaves, and is told to have left when the time is over."""
    first, second = packed(acted("kick", "wave_two_hands", seed=4)), packed(acted("sit_down", seed=6))
    yield CONNECT
    yield start(options={"gap_reset": 1.0})
    yield from frames({"left": first, "right": second})
    yield say("session.close")


def nameless() -> Iterator[Line]:
    """Nobody is named: the server follows who is who, through two people who change places in the message."""
    first, second = acted("wave_one_hand", seed=1), acted("clap", seed=9)
    apart = PoseSequence(second.joints + np.array([1.5, 0, 0], np.float32), second.confidence, second.timestamps)
    one, other = packed(first), packed(apart)
    both = min(len(one), len(other), 60)
    listed = [[one[i], other[i]] if i < 25 else [other[i], one[i]] for i in range(both)]
    yield CONNECT
    yield start()
    for first_frame in range(0, both, 10):
        part = [
            {"t": round(i / FPS, 6), "people": [{"kp": kp} for kp in listed[i]]}
            for i in range(first_frame, min(first_frame + 10, both))
        ]
        yield say("frames", seq=first_frame, frames=part)
    yield say("session.close")


def refused_shape() -> Iterator[Line]:
    """In the middle of an action a pose comes with a joint too many: the segment ends, then the session."""
    kp = packed(acted("wave_two_hands"))
    yield CONNECT
    yield start()
    yield from frames({"p1": kp}, 0, 40)
    yield say("frames", seq=40, frames=[{"t": 10.0, "people": [{"id": "p1", "kp": [[0.0, 1.0, 0.0]] * 17}]}])


def refused_start() -> Iterator[Line]:
    """Sessions that cannot begin: an unknown layout, an unknown model, a frame before session.start, a stranger's resume."""
    for wrong in (
        start(layout="octopus"),
        start(model="gpt"),
        say("frames", seq=0, frames=[{"t": 0.0, "people": []}]),
        say("session.start", resume={"session_id": "nobody's", "token": "none", "last_server_seq": -1}),
    ):
        yield CONNECT
        yield wrong


def refused_limits() -> Iterator[Line]:
    """More frames in a message than are allowed, and more people in a frame."""
    yield CONNECT
    yield start()
    yield say("frames", seq=0, frames=[{"t": n / 30, "people": []} for n in range(65)])
    yield CONNECT
    yield start()
    crowd = [{"id": f"p{n}", "kp": [None] * 16} for n in range(17)]
    yield say("frames", seq=0, frames=[{"t": 0.0, "people": crowd}])


def resume() -> Iterator[Line]:
    """The line breaks twice: once with messages of the server unheard, once within a message of the client."""
    kp = packed(acted("wave_two_hands", "kick", seed=3))
    parts = list(frames({"p1": kp}))
    yield CONNECT
    yield start(options={"scores_hz": 3})
    yield from parts[:2]
    yield cut(forget=2)
    yield CONNECT
    yield say("session.start", resume=None)
    yield from parts[2:6]
    yield lost(parts[6])
    yield cut()
    yield CONNECT
    yield say("session.start", resume=None)
    yield from parts[6:]
    yield say("session.close")


SCENES: dict[str, Scene] = {
    "segments": segments,
    "flat": flat,
    "control": control,
    "times": times,
    "people": people,
    "nameless": nameless,
    "refused-shape": refused_shape,
    "refused-start": refused_start,
    "refused-limits": refused_limits,
    "resume": resume,
}


# --- what the server says ----------------------------------------------------------------------------------------


def record(url: str, scene: Scene) -> list[Line]:
    """A scene's lines, and between them what was heard."""
    lines: list[Line] = []
    wire: Wire | None = None
    for line in scene():
        if line.get("connect"):
            if wire is not None:
                wire.close()
            wire = Wire(url, JSON)
            lines.append(line)
            continue
        assert wire is not None
        if line.get("cut"):
            wire.cut()
            _forget(lines, line.pop("forget"))
        elif not line.get("lost"):
            if "resume" in line["message"] and line["message"]["resume"] is None:
                line["message"]["resume"] = _resume(lines)
            wire.send(line["message"])
        lines.append(line)
        if line.get("cut") or line.get("lost"):
            continue
        lines += _heard(wire)
    assert "close" in lines[-1], lines[-1]
    return lines


def _heard(wire: Wire) -> list[Line]:
    """Until the server is quiet."""
    found: list[Line] = []
    while (heard := wire.hear(QUIET)) is not None:
        found.append({"from": "server", "close" if isinstance(heard, int) else "message": heard})
        if isinstance(heard, int):
            break
    return found


def _forget(lines: list[Line], count: int) -> None:
    """The newest so many messages were never heard. What was heard last is no acknowledgement, which comes when it will."""
    told = [i for i, line in enumerate(lines) if line["from"] == "server" and line["message"]["type"] != "ack"]
    for line in lines[told[-count - 1] + 1 :]:
        if line["from"] == "server":
            line["lost"] = True


def _resume(lines: list[Line]) -> Message:
    said: list[Message] = [line["message"] for line in lines if line["from"] == "server" and not line.get("lost")]
    started = next(one for one in reversed(said) if one["type"] == "session.started")
    newest = next(one for one in reversed(said) if one["type"] != "session.started")
    return {
        "session_id": started["session_id"],
        "token": started["resume_token"],
        "last_server_seq": newest["seq"],
    }


def main() -> None:
    bundle = find_bundle(MODELS)
    model = msgspec.to_builtins(model_info(bundle.manifest, bundle.digest))
    server = ServerProcess(MODELS).ready()
    FOLDER.mkdir(exist_ok=True)
    try:
        for name, scene in SCENES.items():
            about = " ".join((scene.__doc__ or "").split())
            lines = record(server.ws, scene)
            save(FOLDER / f"{name}.jsonl", {"about": about, "model": model}, lines)
            heard = [
                line.get("message", {}).get("type", line.get("close")) for line in lines if line["from"] == "server"
            ]
            print(f"{name}: {len(lines)} lines, {dict.fromkeys(heard)}")
    finally:
        server.stop()


if __name__ == "__main__":
    main()
