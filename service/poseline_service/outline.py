"""How much a JSON body lists, told before it is decoded.

Gzip makes millions of empty frames of a few kilobytes, and each would be an object by the time at which frames are counted;
so what would become objects is counted in the text, by numpy, which lets the event loop have the interpreter meanwhile.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from poseline.errors import TooLarge

_FRAMES = 4
"""Depth of frames: request, tracks, track, keypoints. What is deeper stays unread until frames have been counted."""
_BESIDE = 10_000
"""Values that are neither frames nor timestamps: options, names of joints and classes, what nobody asks for."""
_SLICE = 1024**2
_STEPS = np.zeros(256, np.int8)
_STEPS[list(b"[{")], _STEPS[list(b"]}")] = 1, -1


def check_outline(body: bytes, max_frames: int) -> None:
    """Raises TooLarge where a body lists more than a request of so many frames, with a timestamp each, can need.

    What is no JSON is let through or refused: a decoder that follows finds the words for it.
    """
    most = 2 * max_frames + _BESIDE
    if len(body) <= most:
        return
    if max(_count(body, b'"'), _count(body, b"\\")) > 2 * most:
        raise _too_much(most)
    found, depth = 1, 0
    text = np.frombuffer(_without_strings(body), np.uint8)
    for begin in range(0, len(text), _SLICE):
        part = text[begin : begin + _SLICE]
        depths = np.cumsum(_STEPS[part], dtype=np.int32)
        depths += depth
        depth = int(depths[-1])
        found += int(np.count_nonzero((part == ord(",")) & (depths <= _FRAMES)))
        if found > most:
            raise _too_much(most)


def _count(body: bytes, char: bytes) -> int:
    marks: NDArray[np.bool_] = np.frombuffer(body, np.uint8) == ord(char)
    return int(np.count_nonzero(marks))


def _without_strings(body: bytes) -> bytes:
    """A backslash stands in strings alone, where pairs of them are counted from the left."""
    plain = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    return b"".join(plain.split(b'"')[::2])


def _too_much(most: int) -> TooLarge:
    return TooLarge(f"the request lists more than {most} values beside joints", param="tracks", code="too_many_frames")
