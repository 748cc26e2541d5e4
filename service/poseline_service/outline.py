"""How much a body lists, told before it is decoded.

Compression makes millions of empty frames of a few kilobytes, and each would be an object by the time at which frames are
counted. So what would become objects is counted before: in JSON's text by numpy, which lets the event loop have the
interpreter meanwhile; in MessagePack by the lengths that lists announce.
"""

from __future__ import annotations

import numpy as np
from msgspec import Raw
from numpy.typing import NDArray

from poseline.codec import JSON, MSGPACK, Codec
from poseline.errors import MalformedMessage, TooLarge

_FRAMES = 4
"""Depth of frames: request, tracks, track, keypoints. What is deeper stays unread until frames have been counted."""
_BESIDE = 10_000
"""Values that are neither frames nor timestamps: options, names of joints and classes, what nobody asks for."""
_SLICE = 1024**2
_STEPS = np.zeros(256, np.int8)
_STEPS[list(b"[{")], _STEPS[list(b"]}")] = 1, -1


def check_outline(body: bytes | bytearray, codec: Codec, max_frames: int, within: int = 0) -> None:
    """Raises TooLarge where a body lists more than a request of so many frames, with a timestamp each, can need; or than
    such requests can need that lie so many lists and maps deep `within` it.

    What is malformed is let through, for a decoder that follows to find the words, or refused with MalformedMessage.
    """
    most = 2 * max_frames + _BESIDE
    if len(body) <= most:
        return
    if codec is JSON:
        _check_text(body, most, _FRAMES + within)
    elif _left(Raw(body), 1 - within, most) < 0:
        raise _too_much(most)


def _check_text(body: bytes | bytearray, most: int, deepest: int) -> None:
    if max(_count(body, b'"'), _count(body, b"\\")) > 2 * most:
        raise _too_much(most)
    found, depth = 1, 0
    text = np.frombuffer(_without_strings(body), np.uint8)
    for begin in range(0, len(text), _SLICE):
        part = text[begin : begin + _SLICE]
        depths = np.cumsum(_STEPS[part], dtype=np.int32)
        depths += depth
        depth = int(depths[-1])
        found += int(np.count_nonzero((part == ord(",")) & (depths <= deepest)))
        if found > most:
            raise _too_much(most)


def _count(body: bytes | bytearray, char: bytes) -> int:
    marks: NDArray[np.bool_] = np.frombuffer(body, np.uint8) == ord(char)
    return int(np.count_nonzero(marks))


def _without_strings(body: bytes | bytearray) -> bytes:
    """A backslash stands in strings alone, where pairs of them are counted from the left."""
    plain = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    return b"".join(plain.split(b'"')[::2])


def _left(value: Raw, depth: int, most: int) -> int:
    """How many of `most` values remain after those in `value`, down to frames; below 0, what is over is unread.

    Raises MalformedMessage.
    """
    length, is_map = _announced(memoryview(value))
    left = most - length
    if left < 0 or not length or depth == _FRAMES:
        return left
    if is_map:
        fields = MSGPACK.decode_fields(value)
        if len(fields) < length:  # each of them would be decoded, and the last one alone be seen here
            raise MalformedMessage("a field comes twice in one map", code="invalid_message")
        inner = list(fields.values())
    else:
        inner = MSGPACK.decode_values(value)
    for one in inner:
        left = _left(one, depth + 1, left)
        if left < 0:
            break
    return left


def _announced(value: memoryview) -> tuple[int, bool]:
    """Length of a list or map as its head says it, and whether it is a map; 0 of whatever is neither."""
    kind = value[0] if value else 0
    if kind >> 4 in (0x8, 0x9):
        return kind & 0x0F, kind >> 4 == 0x8
    if kind in (0xDC, 0xDD, 0xDE, 0xDF):
        return int.from_bytes(value[1 : 3 if kind in (0xDC, 0xDE) else 5]), kind >= 0xDE
    return 0, False


def _too_much(most: int) -> TooLarge:
    return TooLarge(f"the request lists more than {most} values beside joints", param="tracks", code="too_many_frames")
