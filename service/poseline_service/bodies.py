"""How a request's body is written: its media type, and its content coding.

A body is decompressed piece by piece, into no more than a stated number of bytes: what would become more is refused by
then, whatever it would have become.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from poseline.codec import JSON, MEDIA_TYPES, MSGPACK, Codec
from poseline.errors import MalformedMessage, TooLarge
from poseline_service.errors import UnsupportedEncoding, UnsupportedMedia

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_SLICE, _PIECE = 64 * 1024, 1024**2
"""Bytes that are read, and that are written, in one go."""
_ZSTD_WINDOW: dict[int, int] = {zstd.DecompressionParameter.window_log_max: 23}
"""8 MiB: as much as a zstd body may ask its reader to keep beside what it becomes (RFC 9659)."""
_INFLATE: dict[str, Callable[[], Any]] = {
    "gzip": lambda: zlib.decompressobj(wbits=zlib.MAX_WBITS | 16),
    "zstd": lambda: zstd.ZstdDecompressor(options=_ZSTD_WINDOW),
}


@dataclass(frozen=True)
class BodyFormat:
    """Of a `LocalizeRequest`. coding: `gzip`, `zstd` or `identity`."""

    codec: Codec = JSON
    coding: str = "identity"

    @classmethod
    def of(cls, request: Request) -> BodyFormat:
        """As the headers say. Raises UnsupportedMedia, UnsupportedEncoding."""
        kind, coding = media_type(request), content_coding(request)
        if kind not in MEDIA_TYPES:
            raise UnsupportedMedia(f"content type is {kind or 'missing'}, expected {' or '.join(MEDIA_TYPES)}")
        if coding not in (*_INFLATE, "identity"):
            raise UnsupportedEncoding(f"content encoding is {coding}, expected {', '.join(_INFLATE)} or none")
        return cls(MEDIA_TYPES[kind], coding)

    def decompress(self, body: bytes, limit: int) -> bytes | bytearray:
        """Raises TooLarge, MalformedMessage."""
        if self.coding == "identity":
            return body
        inflate, text, read = _INFLATE[self.coding](), bytearray(), 0
        try:
            while read < len(body) and not inflate.eof:
                data, read = body[read : read + _SLICE], read + _SLICE
                full = True
                while (data or full) and not inflate.eof:
                    piece: bytes = inflate.decompress(data, _PIECE)
                    text += piece
                    if len(text) > limit:
                        what = f"the body decompresses to more than {limit} bytes"
                        raise TooLarge(what, code="decompressed_too_large")
                    # gzip gives back what it did not read yet, zstd keeps it
                    data, full = getattr(inflate, "unconsumed_tail", b""), len(piece) == _PIECE
        except (zlib.error, zstd.ZstdError) as error:
            raise MalformedMessage(f"the body is not {self.coding}: {error}", code="invalid_encoding") from None
        if not inflate.eof or inflate.unused_data or read < len(body):
            what = f"the {self.coding} body is cut off or followed by more data"
            raise MalformedMessage(what, code="invalid_encoding")
        return text


def media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def content_coding(request: Request) -> str:
    return request.headers.get("content-encoding", "identity").strip().lower()


def answer_codec(request: Request) -> Codec:
    """MessagePack for who accepts it by name, and JSON not rather."""
    shares = dict(_accepted(part) for part in request.headers.get("accept", "").split(","))
    wanted = shares.get(MSGPACK.media_type, 0.0)
    return MSGPACK if wanted > 0 and wanted >= shares.get(JSON.media_type, 0.0) else JSON


def _accepted(part: str) -> tuple[str, float]:
    """One entry of an `Accept` header: a media type and its quality (RFC 9110, 12.4.2)."""
    kind, *parameters = (one.strip().lower() for one in part.split(";"))
    quality = next((one.removeprefix("q=") for one in parameters if one.startswith("q=")), "1")
    try:
        return kind, float(quality)
    except ValueError:
        return kind, 0.0
