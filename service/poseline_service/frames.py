"""The one kind of WebSocket frame of which there are thousands a second: a whole data message.

Everything else of RFC 6455 (handshakes, fragments, pings, closes, whatever is wrong) is left to `websockets`, whose parser
goes frame by frame through generators and enumerations. These few lines save a tenth of what a message costs the server
(docs/performance.md); the tests hold them against the library's own parser.

What is left to the library costs so much more that it is rationed (`RationedProtocol`).
"""

from __future__ import annotations

from collections.abc import Sequence

from websockets.exceptions import ProtocolError
from websockets.frames import CloseCode, Frame
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from poseline.codec import CODECS

try:
    from websockets.speedups import apply_mask
except ImportError:  # a platform for which nobody has compiled it
    from websockets.utils import apply_mask

RATION, _SMALL = 256, 1024
"""Control frames and fragments below so many bytes that may come in one ration: no client sends a tenth of it."""
TEXT, BINARY = 0x81, 0x82
"""First byte of a final frame with opcode 1 or 2 and no extension."""
_SHORT, _MEDIUM = 125, 126
HEAD = 14
"""Bytes before a client's payload, at most."""


class RationedProtocol(ServerProtocol):
    """The library's, which closes with 1008 where more than `RATION` small frames come before `small_frames` is set to 0.

    One read may hold 40 000 pings, and would stop the event loop for a second.
    """

    small_frames = 0

    def select_subprotocol(self, subprotocols: Sequence[Subprotocol]) -> Subprotocol | None:
        """The first offered one that we speak."""
        return next((name for name in subprotocols if name in CODECS), None)

    def recv_frame(self, frame: Frame) -> None:
        whole = frame.fin and frame.opcode.name in ("TEXT", "BINARY")
        if not whole and len(frame.data) < _SMALL:
            self.small_frames += 1
            if self.small_frames > RATION:
                self.fail(CloseCode.POLICY_VIOLATION, "too many small frames")
                raise ProtocolError("too many small frames")  # ends the parsing of what has come
        super().recv_frame(frame)


def frame_size(data: bytes) -> int:
    """Bytes of the frame at the beginning of `data`, its head included; more than there are where that has not all come."""
    if len(data) < 2:
        return 2
    masked, size = data[1] >> 7, data[1] & 0x7F
    begin = 2 + 4 * masked
    if size == _MEDIUM:
        return begin + 2 + int.from_bytes(data[2:4]) if len(data) >= 4 else 4
    if size > _SHORT:
        return begin + 8 + int.from_bytes(data[2:10]) if len(data) >= 10 else 10
    return begin + size


def take_messages(data: bytes, limit: int, most: int) -> tuple[list[tuple[int, bytes]], bytes]:
    """The whole masked data messages at the beginning of `data`, of at most `limit` bytes each and `most` in all: first byte
    and payload. And what is left: something else, or the beginning of something."""
    messages: list[tuple[int, bytes]] = []
    at, end = 0, len(data)
    while end - at >= 6 and len(messages) < most:
        first, size, begin = data[at], data[at + 1] - 0x80, at + 6
        if size == _MEDIUM and end - at >= 8:
            size, begin = data[at + 2] << 8 | data[at + 3], at + 8
        elif size > _SHORT:
            break
        stop = begin + size
        if first not in (BINARY, TEXT) or not 0 <= size <= limit or stop > end:
            break
        messages.append((first, apply_mask(data[begin:stop], data[begin - 4 : begin])))
        at = stop
    return messages, data[at:]


def framed(payload: bytes, first: int) -> bytes:
    """A server's whole data message."""
    size = len(payload)
    if size <= _SHORT:
        return bytes((first, size)) + payload
    if size < 1 << 16:
        return bytes((first, _MEDIUM, size >> 8, size & 0xFF)) + payload
    return bytes((first, 127)) + size.to_bytes(8) + payload


def is_utf8(data: bytes) -> bool:
    """What RFC 6455 asks of every text message, also where nobody reads it; our own text is ASCII but for names."""
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
