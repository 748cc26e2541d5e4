"""Conversations that go wrong, at every level: values, messages, their order, bytes, WebSocket frames.

`write(seed, number)` is a pure function: the same script for the same numbers. It begins with a conversation that is
right (`_conversation`) and spoils none to four things of it; so what is wrong stands among what is right, and the server
is reached as deep as a client can get.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

import numpy as np

from poseline.actor import perform
from poseline.skeleton import Floats
from poseline_bench.wire import BINARY, BINARY_DATA, CLOSE, JSON, PING, PONG, TEXT, Encoding, client_frame

Message = dict[str, Any]
End = Literal["wait", "cut", "half", "deaf"]
"""What a client does when it has said all: hear the server out; break the line; close its half; never read at all."""
Token = Literal["right", "old", "wrong"]


@dataclass
class Script:
    """What one client does. sends: bytes for the socket, a message each. come_back: how it resumes after its line broke,
    each time with which token, and by how much it lies about what it heard. kinds: what is wrong."""

    number: int
    encoding: Encoding
    sends: list[bytes]
    end: End
    come_back: list[tuple[Token, int]] = field(default_factory=list[tuple[Token, int]])
    kinds: list[str] = field(default_factory=list[str])


def write(seed: int, number: int) -> Script:
    dice = random.Random(f"{seed}/{number}")
    encoding = dice.choice((BINARY, JSON))
    messages = _conversation(dice, encoding)
    kinds: list[str] = []
    for _ in range(dice.choice((0, 1, 1, 1, 2, 2, 4))):
        spoil = dice.choice(_OF_MESSAGES)
        kinds.append(spoil.__name__.strip("_"))
        spoil(dice, messages)
    payloads = [encoding.encode(message) for message in messages]
    sends = [client_frame(payload, encoding.opcode) for payload in payloads]
    for _ in range(dice.choice((0, 0, 0, 1, 1, 2))):
        at, spoil_bytes = dice.randrange(len(sends)), dice.choice(_OF_BYTES)
        kinds.append(spoil_bytes.__name__.strip("_"))
        sends[at] = spoil_bytes(dice, payloads[at], encoding.opcode)
    ends: tuple[End, ...] = ("wait", "cut", "half", "deaf")
    script = Script(number, encoding, sends, dice.choices(ends, (12, 6, 1, 1))[0], kinds=kinds)
    end = script.end
    if end == "cut":
        for _ in range(dice.choice((0, 1, 1, 2, 3))):
            script.come_back.append(
                (dice.choice(("right", "right", "old", "wrong")), dice.choice((0, 0, -3, 5, 2**40)))
            )
    return script


# --- a conversation that is right -------------------------------------------------------------------------------------


@cache
def _motion() -> Floats:
    """(T, 16, 4)"""
    poses = perform(3, seconds=20).poses
    return np.concatenate([poses.joints, poses.confidence[..., None]], axis=-1).astype(np.float32)


def _conversation(dice: random.Random, encoding: Encoding) -> list[Message]:
    options: Message = {"scores_hz": dice.choice((0, 0, 2, 30)), "partials": dice.choice(("none", "changes", "all"))}
    if dice.random() < 0.3:
        options |= {"min_score": dice.choice((0.2, 0.5, 0.9)), "off_score": 0.1, "gap_reset": dice.choice((0.1, 2, 10))}
    where = {"space": "world_m", "dims": 3, "y_axis": "up", "facing": "+z"}
    start = {"type": "session.start", "layout": "body16", "coordinates": where, "fps": 30.0, "options": options}
    said: list[Message] = [start | {"client": {"name": "fuzz", "version": "1"}}]
    at, people = dice.randrange(500), dice.choice((1, 1, 1, 2, 4))
    seq, t = 0, dice.choice((0.0, 1e6, -50.0))
    for _ in range(dice.randrange(1, 20)):
        count = dice.choice((1, 1, 1, 2, 8))
        said.append({"type": "frames", "seq": seq, "frames": _frames(dice, encoding, at + seq, t, count, people)})
        seq, t = seq + count, t + count * dice.choice((1 / 30, 1 / 30, 1 / 30, 0.2, 2.5))
        if dice.random() < 0.25:
            said.append(_aside(dice))
    if dice.random() < 0.8:
        said.append({"type": "session.close"})
    return said


def _frames(dice: random.Random, encoding: Encoding, at: int, t: float, count: int, people: int) -> list[Message]:
    motion, packed = _motion(), dice.random() < 0.5

    def person(n: int, k: int) -> Message:
        pose = motion[(at + k + 90 * n) % len(motion)]
        return {
            "id": f"p{n}",
            "kp": pose.tobytes() if packed else encoding.pose(pose) if encoding is JSON else pose.tolist(),
        }

    return [{"t": t + k / 30, "people": [person(n, k) for n in range(people)]} for k in range(count)]


def _aside(dice: random.Random) -> Message:
    return dice.choice(
        (
            {"type": "flush"},
            {"type": "flush", "track_id": dice.choice(("p0", "ghost"))},
            {"type": "keepalive"},
            {"type": "session.update", "options": {"min_score": dice.choice((0.3, None, 0.6)), "scores_hz": 5}},
            {"type": "session.update", "options": {"classes": None, "partials": "all"}},
        )
    )


# --- what goes wrong in messages -----------------------------------------------------------------------------------------

_ODD: tuple[Any, ...] = (
    *(None, True, False, "", "x", "NaN", "\0", "p\u202e0", "💃" * 40, "y" * 200, "z" * 70_000),
    *([], {}, [[]], [{}], [None] * 70),
    *(0, -1, 1, 65, 10**6, 2**31, 2**53, 2**53 + 1, 2**63 - 1, 2**64 - 1, -(2**63)),
    *(0.5, -0.0, 1e-320, 1e13, 1e39, -1e308, float("nan"), float("inf"), float("-inf")),
    *(b"", b"\0" * 7, b"\xff" * 256, b"\0\0\xc0\x7f" * 64, b"\0" * 260),
)  # fmt: skip


def _place(dice: random.Random, messages: list[Message]) -> tuple[Any, Any]:
    """Somewhere in a message: a container and a key of it; near the top more often than deep inside."""
    at: Any = dice.choice(messages)
    while True:
        keys = list(at) if isinstance(at, dict) else range(len(at))
        key = dice.choice(keys)
        inside = at[key]
        if not isinstance(inside, dict | list) or not inside or dice.random() < 0.3:
            return at, key
        at = inside


def _value_dropped(dice: random.Random, messages: list[Message]) -> None:
    at, key = _place(dice, messages)
    del at[key]
    messages[:] = [message for message in messages if message] or [{"type": "keepalive"}]


def _value_replaced(dice: random.Random, messages: list[Message]) -> None:
    at, key = _place(dice, messages)
    at[key] = deepcopy(dice.choice(_ODD))


def _value_wrapped(dice: random.Random, messages: list[Message]) -> None:
    at, key = _place(dice, messages)
    at[key] = dice.choice((lambda x: [x], lambda x: {"x": x}, lambda x: [x, deepcopy(x)], str))(at[key])


def _field_added(dice: random.Random, messages: list[Message]) -> None:
    dice.choice(messages)[dice.choice(("extra", "seq", "options", "resume", "type", "track_id"))] = deepcopy(
        dice.choice(_ODD)
    )


def _numbers_wrong(dice: random.Random, messages: list[Message]) -> None:
    """`seq` jumps, stands or goes back."""
    by = dice.choice((-1, 1, -5, 100, 2**40))
    for message in messages[dice.randrange(len(messages)) :]:
        if isinstance(message.get("seq"), int):
            message["seq"] = min(max(0, message["seq"] + by), 2**64 - 1)  # what MessagePack can say


def _clock_wrong(dice: random.Random, messages: list[Message]) -> None:
    by = dice.choice((-1.0, -1e5, 0.01, 3.0, 1e9, 1e12))
    for message in messages[dice.randrange(len(messages)) :]:
        frames = message.get("frames")
        for frame in frames if isinstance(frames, list) else ():
            if isinstance(frame, dict) and isinstance(frame.get("t"), float):
                frame["t"] += by


def _order_wrong(dice: random.Random, messages: list[Message]) -> None:
    i, j = dice.randrange(len(messages)), dice.randrange(len(messages))
    messages[i], messages[j] = messages[j], messages[i]


def _said_twice(dice: random.Random, messages: list[Message]) -> None:
    at = dice.randrange(len(messages))
    messages[at:at] = [deepcopy(messages[at]) for _ in range(dice.choice((1, 1, 1, 1, 30)))]


def _left_out(dice: random.Random, messages: list[Message]) -> None:
    del messages[dice.randrange(len(messages)) : dice.choice((None, -1))]
    messages[:] = messages or [{"type": "keepalive"}]


def _type_unknown(dice: random.Random, messages: list[Message]) -> None:
    kind = dice.choice(("session.dance", "", "frames ", "session.started", "ack", "Frames"))
    messages.insert(dice.randrange(len(messages) + 1), {"type": kind, "seq": 1})


def _storm(dice: random.Random, messages: list[Message]) -> None:
    at = dice.randrange(1, len(messages) + 1)
    messages[at:at] = [_aside(dice) for _ in range(dice.choice((20, 20, 60, 150)))]


def _crowd(dice: random.Random, messages: list[Message]) -> None:
    """More people, or more frames, than are taken; or new ones all the time."""
    poses = _motion()
    people, frames = dice.choice(((16, 1), (17, 1), (16, 4), (1, 64), (1, 65), (3, 40)))
    fresh = dice.random() < 0.5
    crowd = [
        {
            "t": 5000.0 + k / 30,
            "people": [{"id": f"c{n}.{k if fresh else 0}", "kp": poses[k].tobytes()} for n in range(people)],
        }
        for k in range(frames)
    ]
    messages.insert(dice.randrange(1, len(messages) + 1), {"type": "frames", "seq": 10_000, "frames": crowd})


_OF_MESSAGES: tuple[Callable[[random.Random, list[Message]], None], ...] = (
    *(_value_dropped, _value_replaced, _value_replaced, _value_wrapped, _field_added, _numbers_wrong, _clock_wrong),
    *(_order_wrong, _said_twice, _left_out, _type_unknown, _storm, _crowd),
)  # fmt: skip


# --- what goes wrong in bytes and WebSocket frames -----------------------------------------------------------------------


def _cut_short(dice: random.Random, payload: bytes, opcode: int) -> bytes:
    return client_frame(payload[: dice.randrange(len(payload) + 1)], opcode)


def _run_together(dice: random.Random, payload: bytes, opcode: int) -> bytes:
    return client_frame(payload + dice.choice((b" ", b"\0", payload)), opcode)


def _bits_flipped(dice: random.Random, payload: bytes, opcode: int) -> bytes:
    bent = bytearray(payload)
    for _ in range(dice.choice((1, 1, 8))):
        bent[dice.randrange(len(bent))] ^= 1 << dice.randrange(8)
    return client_frame(bytes(bent), opcode)


def _noise(dice: random.Random, payload: bytes, opcode: int) -> bytes:
    return client_frame(dice.randbytes(dice.choice((0, 1, 5, 300))), opcode)


def _not_a_number(dice: random.Random, payload: bytes, opcode: int) -> bytes:
    """As some languages write it into JSON; and a whole number that no machine holds."""
    said = dice.choice((b"NaN", b"-Infinity", b"9" * 400, b"1e999"))
    return client_frame(payload.replace(b"0.", said + b",0.", 1).replace(b'"seq":0', b'"seq":' + said, 1), opcode)


def _deeply_nested(dice: random.Random, payload: bytes, opcode: int) -> bytes:
    depth = dice.choice((50, 2000, 100_000))
    return client_frame(b"[" * depth if opcode == TEXT else b"\x91" * depth, opcode)


def _other_kind(dice: random.Random, payload: bytes, opcode: int) -> bytes:
    return client_frame(payload, BINARY_DATA if opcode == TEXT else TEXT)


def _too_large(dice: random.Random, payload: bytes, opcode: int) -> bytes:
    return client_frame(payload + b" " * (256 * 1024 + dice.choice((0, 1, 200_000)) - len(payload)), opcode)


def _in_fragments(dice: random.Random, payload: bytes, opcode: int) -> bytes:
    """With pings between them: no fault at all."""
    cuts = sorted(dice.randrange(len(payload) + 1) for _ in range(dice.choice((1, 2, 6))))
    parts = [payload[i:j] for i, j in zip([0, *cuts], [*cuts, len(payload)], strict=True)]
    told = b""
    for n, fragment in enumerate(parts):
        last = n == len(parts) - 1
        frame = bytearray(client_frame(fragment, opcode if n == 0 else 0))
        frame[0] = (0x80 if last else 0) | (opcode if n == 0 else 0)
        told += bytes(frame) + (client_frame(b"between", PING) if dice.random() < 0.5 else b"")
    return told


def _fragments_mixed(dice: random.Random, payload: bytes, opcode: int) -> bytes:
    """A message begins inside another, or a continuation without a beginning."""
    begun = bytearray(client_frame(payload[:5], opcode))
    begun[0] = opcode
    return dice.choice((bytes(begun) + client_frame(payload, opcode), client_frame(payload, 0)))


def _frame_wrong(dice: random.Random, payload: bytes, opcode: int) -> bytes:
    """Not masked, reserved bits or opcodes, a ping that is too long, a length that is a lie, or no frame at all."""
    frame = bytearray(client_frame(payload, opcode))
    return dice.choice(
        (
            struct.pack("!BB", 0x80 | opcode, min(len(payload), 125)) + payload[:125],
            bytes([frame[0] | dice.choice((0x40, 0x20, 0x10))]) + bytes(frame[1:]),
            client_frame(payload, dice.choice((3, 7, 11, 15))),
            client_frame(b"p" * 126, PING),
            b"\x82\xff" + b"\x7f" + b"\xff" * 7 + b"mask",
            b"\x82\xff" + b"\xff" * 8 + b"mask",
            dice.randbytes(40),
            b"GET / HTTP/1.1\r\n\r\n",
        )
    )


def _pings(dice: random.Random, payload: bytes, opcode: int) -> bytes:
    """No fault either."""
    return b"".join(client_frame(b"x" * (n % 126), PING if n % 3 else PONG) for n in range(40)) + client_frame(
        payload, opcode
    )


CLOSE_CODES = (1000, 1001, 3000, 4999)
"""Codes that a client may close with."""


def _closed(dice: random.Random, payload: bytes, opcode: int) -> bytes:
    """A close frame with a code that is one, is none, or is none's; and a message after it."""
    code = dice.choice((*CLOSE_CODES, 0, 999, 1005, 1006, 1015, 5000, 65535))
    reason = dice.choice((b"", b"bye", b"\xff\xfe", b"r" * 123))
    said = dice.choice((struct.pack("!H", code) + reason, b"", b"\x03"))
    return client_frame(said, CLOSE) + client_frame(payload, opcode)


_OF_BYTES: tuple[Callable[[random.Random, bytes, int], bytes], ...] = (
    *(_cut_short, _run_together, _bits_flipped, _bits_flipped, _noise, _not_a_number, _deeply_nested, _other_kind),
    *(_too_large, _in_fragments, _in_fragments, _fragments_mixed, _frame_wrong, _pings, _closed),
)  # fmt: skip
