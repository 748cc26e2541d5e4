"""The one kind of WebSocket frame of which there are thousands a second: a whole data message.

Everything else of RFC 6455 (handshakes, fragments, pings, closes, whatever is wrong) is left to `websockets`, whose parser
goes frame by frame through generators and enumerations. These few lines save a tenth of what a message costs the server
(docs/performance.md); the tests hold them against the library's own parser.
"""

from __future__ import annotations

try:
    from websockets.speedups import apply_mask
except ImportError:  # a platform for which nobody has compiled it
    from websockets.utils import apply_mask

TEXT, BINARY = 0x81, 0x82
"""First byte of a final frame with opcode 1 or 2 and no extension."""
_SHORT, _MEDIUM = 125, 126


def take_messages(data: bytes, limit: int) -> tuple[list[tuple[int, bytes]], bytes]:
    """The whole masked data messages at the beginning of `data`, of at most `limit` bytes each: first byte and payload. And
    what is left: something else, or the beginning of something."""
    messages: list[tuple[int, bytes]] = []
    at, end = 0, len(data)
    while end - at >= 6:
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
