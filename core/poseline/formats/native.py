"""Poseline's own timeline: one JSON object, lossless.

{"format": "poseline.timeline", "version": 1, "source", "duration", "fps", "layout", "model", "thresholds", "segments"}
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import Struct, structs

from poseline.errors import InputError
from poseline.protocol import DecodingChoice, ModelInfo
from poseline.timeline import Timeline, TimelineSegment


class About(Struct, frozen=True, kw_only=True):
    """All of a timeline but its segments: what goes, as one JSON object, wherever a format has a place for remarks."""

    source: str
    duration: float | None = None
    fps: float | None = None
    layout: str | None = None
    model: ModelInfo | None = None
    thresholds: DecodingChoice | None = None


class _Document(Timeline, frozen=True, kw_only=True):
    format: Literal["poseline.timeline"]
    version: Literal[1]


def about(timeline: Timeline) -> About:
    return About(**{name: getattr(timeline, name) for name in About.__struct_fields__})


def assemble(about: About, segments: tuple[TimelineSegment, ...]) -> Timeline:
    return Timeline(segments=segments, **structs.asdict(about))


def read_about(text: str | bytes) -> About:
    """Raises InputError."""
    try:
        return msgspec.json.decode(text, type=About)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"Poseline's remark on the timeline cannot be read: {error}") from None


def write(timeline: Timeline) -> bytes:
    document = _Document(format="poseline.timeline", version=1, **structs.asdict(timeline))
    fields = msgspec.to_builtins(document)
    head = {name: fields.pop(name) for name in ("format", "version")}
    last = {"segments": fields.pop("segments")}
    return msgspec.json.format(msgspec.json.encode(head | fields | last), indent=1) + b"\n"


def read(data: bytes) -> Timeline:
    try:
        document = msgspec.json.decode(data, type=_Document)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"this is no timeline of Poseline: {error}") from None
    return Timeline(**{name: getattr(document, name) for name in Timeline.__struct_fields__})
