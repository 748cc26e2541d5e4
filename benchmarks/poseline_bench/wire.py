"""WebSocket bytes, written and read as cheaply as Python can: for the load generator, which shares the server's cores.

A `Script` is all that a stream says, encoded and masked once for all streams: message number n is the same bytes for
everybody. What comes back is split into frames, and only what counts is looked at. It knows the wire from
docs/protocol.md alone, not from the server's own code: a server that changes both ends together would be found out.

The client's mask is one fixed key (RFC 6455 asks for a fresh one per frame, against proxies; the server unmasks all the
same), and a server's frames are taken to be whole messages: no server of ours fragments.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from poseline.actor import perform
from poseline.skeleton import Floats

FPS = 30.0
TEXT, BINARY_DATA, CLOSE, PING, PONG = 1, 2, 8, 9, 10
_MASK = b"\x37\xfa\x21\x3d"
_MOTION = 20.0
"""Seconds of the actor's motion, played round and round."""


class Encoding(NamedTuple):
    """One of the stream's subprotocols; `scores` is what the bytes of every `scores` message hold, and no others."""

    name: str
    subprotocol: str
    opcode: int
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]
    pose: Callable[[Floats], object]
    scores: bytes


def _numbers(pose: Floats) -> object:
    return pose.astype(np.float64).round(6).tolist()


def _bytes(pose: Floats) -> object:
    return pose.astype("<f4").tobytes()


BINARY = Encoding(
    "binary",
    "poseline.v1.msgpack",
    BINARY_DATA,
    msgspec.msgpack.encode,
    msgspec.msgpack.decode,
    _bytes,
    b"\xa4type\xa6scores",
)
JSON = Encoding(
    "json", "poseline.v1.json", TEXT, msgspec.json.encode, msgspec.json.decode, _numbers, b'"type":"scores"'
)


class Script:
    """What every stream sends: `people` persons at 30 frames a second, `frames` of these in a message, for `seconds`.

    start, close: messages around it. answers: `scores` messages that one message is answered with. A message leaves
    when its last frame has been seen, so it is due every `interval` seconds.
    """

    path = "/v1/stream"

    def __init__(self, encoding: Encoding, *, people: int = 1, frames: int = 1, seconds: float = 60.0) -> None:
        self.encoding = encoding
        self.scores = encoding.scores
        self.interval = frames / FPS
        self.answers = people * frames
        self._people, self._frames = people, frames
        actor = perform(1, seconds=_MOTION).poses
        where = actor.coordinates
        coordinates = {"space": where.space, "dims": where.dims, "y_axis": where.y_axis, "facing": where.facing}
        options = {"scores_hz": FPS}
        start = {"type": "session.start", "layout": actor.layout.name, "coordinates": coordinates, "options": options}
        self.start: bytes | None = self._say(start)
        self.close = self._say({"type": "session.close"})
        self._motion = np.concatenate([actor.joints, actor.confidence[..., None]], axis=-1)
        self.messages = [self._say(self._message(n)) for n in range(round(seconds / self.interval))]

    def handshake(self, port: int) -> bytes:
        """The request that asks for the upgrade."""
        lines = (
            f"GET {self.path} HTTP/1.1",
            f"Host: 127.0.0.1:{port}",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            f"Sec-WebSocket-Protocol: {self.encoding.subprotocol}",
        )
        return "\r\n".join((*lines, "", "")).encode()

    def check(self, payload: bytes, heard: Counter[str]) -> None:
        """Raises ValueError unless this `scores` message is about the next frame of its person; `heard` counts them."""
        message = self.encoding.decode(payload)
        who, t = message["track_id"], message["t"]
        expected = heard[who] / FPS
        heard[who] += 1
        if abs(t - expected) > 0.5 / FPS:
            raise ValueError(f"scores message {heard[who]} of {who} is about t = {t:.3f}, expected {expected:.3f}")

    def _say(self, message: object) -> bytes:
        return client_frame(self.encoding.encode(message), self.encoding.opcode)

    def _message(self, n: int) -> object:
        first = n * self._frames
        frames = [self._frame(k) for k in range(first, first + self._frames)]
        return {"type": "frames", "seq": first, "frames": frames}

    def _frame(self, k: int) -> object:
        poses = [self._motion[(k + 17 * i) % len(self._motion)] for i in range(self._people)]
        people = [{"id": f"p{i}", "kp": self.encoding.pose(pose)} for i, pose in enumerate(poses, 1)]
        return {"t": round(k / FPS, 6), "people": people}


class EchoScript(Script):
    """The same messages for a server that only sends them back: every message that comes is an answer."""

    path = "/"

    def __init__(self, encoding: Encoding, *, seconds: float = 60.0) -> None:
        super().__init__(encoding, seconds=seconds)
        self.start, self.scores = None, b""

    def check(self, payload: bytes, heard: Counter[str]) -> None:
        """Raises ValueError unless this is the next message that was sent."""
        heard["echo"] += 1
        if self.messages[heard["echo"] - 1] != client_frame(payload, self.encoding.opcode):
            raise ValueError(f"echo {heard['echo']} differs from what was sent")


def client_frame(payload: bytes, opcode: int) -> bytes:
    """One whole masked frame."""
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", 0x80 | opcode, 0x80 | size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, 0x80 | 127, size)
    key: NDArray[np.uint8] = np.resize(np.frombuffer(_MASK, np.uint8), size)
    return head + _MASK + (np.frombuffer(payload, np.uint8) ^ key).tobytes()


def server_frames(data: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """The whole unmasked frames at the head of `data`, each (opcode, payload), and the bytes of one still to come."""
    frames: list[tuple[int, bytes]] = []
    at, have = 0, len(data)
    while have - at >= 2:
        size, begin = data[at + 1], at + 2
        if size == 126:  # a length that has not wholly come puts `begin` past what there is
            begin = at + 4
            size = int.from_bytes(data[at + 2 : begin], "big")
        elif size == 127:
            begin = at + 10
            size = int.from_bytes(data[at + 2 : begin], "big")
        if begin + size > have:
            break
        frames.append((data[at] & 0x0F, data[begin : begin + size]))
        at = begin + size
    return frames, data[at:]
