"""Messages to bytes and back.

What passes is well-typed; what does not raises MalformedMessage, UnknownMessage or BadNumber and says where. There are two
encodings of the same structs: JSON, in which bytes (packed keypoints) are base64, and MessagePack. A stream's is named by
the WebSocket's subprotocol, a body's by its media type. Files are JSON.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import msgspec

from poseline.errors import BadNumber, InputError, MalformedMessage, UnknownMessage
from poseline.protocol import (
    ClientMessage,
    EnrolRequest,
    Keypoints,
    LocalizeRequest,
    LocalizeResponse,
    ServerMessage,
    VideoRequest,
)

Bytes = bytes | bytearray | msgspec.Raw
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class _Decoder(Protocol[T_co]):
    def decode(self, buf: Bytes, /) -> T_co: ...


class Codec:
    """One encoding, of a stream's messages and of HTTP bodies."""

    def __init__(self, name: str, library: Any, *, text: bool) -> None:
        self.subprotocol = f"poseline.v1.{name}"
        self.media_type = f"application/{name}"
        self.text = text
        """Messages travel as WebSocket text, not binary."""
        self._malformed = f"invalid_{name}"
        self.encode: Callable[[Any], bytes] = library.Encoder().encode
        self._client: _Decoder[ClientMessage] = library.Decoder(ClientMessage)
        self._server: _Decoder[ServerMessage] = library.Decoder(ServerMessage)
        self._request: _Decoder[LocalizeRequest] = library.Decoder(LocalizeRequest)
        self._enrolment: _Decoder[EnrolRequest] = library.Decoder(EnrolRequest)
        self._response: _Decoder[LocalizeResponse] = library.Decoder(LocalizeResponse)
        self._keypoints: _Decoder[list[Keypoints]] = library.Decoder(list[Keypoints])
        self._fields: _Decoder[dict[str, msgspec.Raw]] = library.Decoder(dict[str, msgspec.Raw])
        self._values: _Decoder[list[msgspec.Raw]] = library.Decoder(list[msgspec.Raw])

    def decode_client(self, data: bytes) -> ClientMessage:
        """A message from a client. Raises MalformedMessage, UnknownMessage, BadNumber."""
        return _decode(self._client, data, malformed=self._malformed)

    def decode_server(self, data: bytes) -> ServerMessage | None:
        """A message from the server; None for a type that this client does not know, as the compatibility policy asks."""
        try:
            return _decode(self._server, data, malformed=self._malformed)
        except UnknownMessage:
            return None

    def decode_request(self, data: Bytes) -> LocalizeRequest:
        """The body of `POST /v1/localize`. Raises MalformedMessage, BadNumber."""
        return _decode(self._request, data, malformed=self._malformed)

    def decode_enrolment(self, data: Bytes) -> EnrolRequest:
        """The body of `POST /v1/models/{name}/prototypes`. Raises MalformedMessage, BadNumber."""
        return _decode(self._enrolment, data, malformed=self._malformed)

    def decode_response(self, data: bytes) -> LocalizeResponse:
        """Its answer. Raises MalformedMessage, BadNumber."""
        return _decode(self._response, data, malformed=self._malformed)

    def decode_fields(self, data: msgspec.Raw) -> dict[str, msgspec.Raw]:
        """A map, its values unread. Raises MalformedMessage."""
        return _decode(self._fields, data, malformed=self._malformed)

    def decode_values(self, data: msgspec.Raw) -> list[msgspec.Raw]:
        """A list, its values unread. Raises MalformedMessage."""
        return _decode(self._values, data, malformed=self._malformed)

    def decode_keypoints(self, frames: Sequence[msgspec.Raw], where: str) -> list[Keypoints]:
        """Unread frames of a `TrackSpec`; `where` ends the message of what it raises: MalformedMessage, BadNumber."""
        return _decode(self._keypoints, self.encode(frames), where, self._malformed)

    def encode_keypoints(self, frames: Iterable[Keypoints]) -> list[msgspec.Raw]:
        return [msgspec.Raw(self.encode(frame)) for frame in frames]


JSON = Codec("json", msgspec.json, text=True)
MSGPACK = Codec("msgpack", msgspec.msgpack, text=False)
CODECS = {codec.subprotocol: codec for codec in (JSON, MSGPACK)}
"""By subprotocol; a client that offers none speaks JSON."""
MEDIA_TYPES = {codec.media_type: codec for codec in (JSON, MSGPACK)}

encode, decode_request, decode_response = JSON.encode, JSON.decode_request, JSON.decode_response
_video_request = msgspec.json.Decoder(VideoRequest)


def decode_video_request(data: bytes) -> VideoRequest:
    """What a form of `POST /v1/jobs` says beside its file. Raises MalformedMessage, BadNumber."""
    return _decode(_video_request, data)


def _decode(decoder: _Decoder[T], data: Bytes, where: str = "", malformed: str = "invalid_json") -> T:
    try:
        return decoder.decode(data)
    except msgspec.ValidationError as error:
        raise _invalid(str(error), where) from None
    except msgspec.DecodeError as error:
        raise _broken(str(error), bytes(data), malformed) from None
    except UnicodeDecodeError:
        raise MalformedMessage("a text is not valid UTF-8", code=malformed) from None
    except RecursionError:
        raise MalformedMessage("the message is nested too deeply", code=malformed) from None


def _invalid(problem: str, where: str) -> InputError:
    """Well-formed, but not the message that it should be; msgspec says what it expected and at which path."""
    what, _, path = problem.rstrip("`").partition(" - at `$")
    param = path.removeprefix(".") or None
    if what.startswith("Number out of range"):
        return BadNumber(f"a number is too large to be held, at {path}{where}", param=param)
    if what.startswith("Invalid value") and param == "type":
        return UnknownMessage(f"unknown message type {what.removeprefix('Invalid value ')}", param="type")
    return MalformedMessage(problem + where, param=param, code="invalid_message")


_NOT_JSON = re.compile(rb"""(?<!["\w])-?(nan|inf)""", re.IGNORECASE)


def _broken(problem: str, data: bytes, code: str) -> InputError:
    """Malformed bytes; a NaN or an infinity written out gets its own name, for it is the commonest way to break JSON."""
    place = problem.rpartition("JSON is malformed")[2].rpartition("(byte ")[2].rstrip(")")
    if place.isdigit():
        at = int(place)  # where reading stopped: up to four characters into what it took for a null
        if _NOT_JSON.search(data, max(0, at - 5), at + 4):
            return BadNumber(f"NaN and infinity are not JSON numbers (byte {at}); send null for a missing joint")
    return MalformedMessage(problem, code=code)


def schemas(read: Mapping[str, Any], written: Mapping[str, Any], ref_template: str) -> dict[str, Any]:
    """JSON Schemas by name of wire types, and of all that they refer to.

    read: what may come, where a field with a default may be left out. written: what is sent, always with all of its fields
    but those that are UNSET where there is nothing to say. The first paragraph of a docstring is a type's description.
    """
    components = _components(written, ref_template)
    for schema in components.values():
        fields: dict[str, Any] = schema.get("properties", {})
        if fields:
            asked: list[str] = schema["required"]
            schema["required"] = [name for name, field in fields.items() if name in asked or "default" in field]
            for field in fields.values():
                field.pop("default", None)
    return components | _components(read, ref_template)


def _components(types: Mapping[str, Any], ref_template: str) -> dict[str, Any]:
    found, components = msgspec.json.schema_components(types.values(), ref_template=ref_template)
    for name, schema in zip(types, found, strict=True):
        components.setdefault(name, {"title": name, **schema})
    for schema in components.values():
        if "description" in schema:
            schema["description"] = " ".join(schema["description"].partition("\n\n")[0].split())
    return components
