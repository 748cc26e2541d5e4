"""What the extracting process and its parent say to each other: MessagePack, each message behind its length.

One `Request` goes in; `Opened`, any number of `Frame` and one of `End` or `Failure` come out. Numbers and bytes only:
nothing that is read here can run anything, whoever wrote it. A message longer than `LONGEST` is none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec

JOINTS = 33
"""Of blazepose33; each landmark is four numbers: x, y, z, visibility."""
LONGEST = 1 << 16
"""Bytes: four people take 4.3 KiB."""
_PREFIX = 4

Kind = Literal["file", "url", "webcam"]


@dataclass(frozen=True, kw_only=True)
class ExtractionLimits:
    """What one video may cost. All are checked against what is decoded; what a header claims is checked besides.

    bytes: read from the file. seconds, frames: of pictures decoded. pixels: (long, short) side of a picture, either way
    up. cpu_seconds, memory_bytes: of the extracting process, held by the kernel; memory is address space, of which
    MediaPipe alone takes 1.3 GB. wall_seconds: from its start to its end. silence_seconds: between two signs of life.
    """

    bytes: int = 2 << 30
    seconds: float = 2 * 3600.0
    frames: int = 2 * 3600 * 120
    pixels: tuple[int, int] = (4096, 2304)
    cpu_seconds: float = 12 * 3600.0
    wall_seconds: float = 6 * 3600.0
    silence_seconds: float = 60.0
    memory_bytes: int = 4 << 30


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """source: an absolute path, a URL, or a webcam's number. live: as it happens, dropping what comes too fast."""

    kind: Kind
    source: str
    model: str
    people: int
    limits: ExtractionLimits
    egress: bool = False
    live: bool = False


class Opened(msgspec.Struct, frozen=True, tag="opened"):
    """The first picture has been decoded. fps, duration and frames are what the container claims, if anything."""

    width: int
    height: int
    fps: float | None
    duration: float | None
    frames: int | None


class Seen(msgspec.Struct, frozen=True):
    """One person in one picture: world and image landmarks, each float32 (33, 4), little-endian."""

    id: str
    world: bytes
    image: bytes


class Frame(msgspec.Struct, frozen=True, tag="frame"):
    t: float
    people: list[Seen]


class End(msgspec.Struct, frozen=True, tag="end"):
    """Every picture was looked at."""


class Failure(msgspec.Struct, frozen=True, tag="error"):
    """`code` is that of an error of `poseline.errors`."""

    code: str
    detail: str


Message = Opened | Frame | End | Failure

_messages = msgspec.msgpack.Decoder(Message)


def encode(message: Request | Message) -> bytes:
    body = msgspec.msgpack.encode(message)
    return len(body).to_bytes(_PREFIX, "little") + body


def take(buffer: bytearray) -> Message | None:
    """Take one message from the front of what has been read, None if it is not whole yet. Raises ValueError."""
    length = int.from_bytes(buffer[:_PREFIX], "little")
    if length > LONGEST:
        raise ValueError(f"a message of {length} bytes is announced, the longest has {LONGEST}")
    if len(buffer) < _PREFIX + length or len(buffer) < _PREFIX:
        return None
    body = bytes(buffer[_PREFIX : _PREFIX + length])
    del buffer[: _PREFIX + length]
    return _messages.decode(body)  # msgspec.DecodeError is a ValueError


def decode_request(data: bytes) -> Request:
    """Raises msgspec.DecodeError."""
    return msgspec.msgpack.decode(data[_PREFIX:], type=Request)
