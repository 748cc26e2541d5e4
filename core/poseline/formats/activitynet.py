"""ActivityNet's results form, which its evaluation code and many others read.

    {"version", "results": {video: [{"label", "score", "segment": [start, end], …}]}, "external_data": {…}}

Seconds, unrounded. `track_id`, `segment_id`, `label_id` and `repetitions` are fields of ours, which evaluations pass over;
what is known of the recording stands in `external_data`. Read are results and ground truth (`database` … `annotations`).
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from poseline.errors import InputError
from poseline.formats.native import About, about, assemble
from poseline.timeline import Timeline, TimelineSegment

_VERSION = "VERSION 1.3"


class _Found(Struct, frozen=True, omit_defaults=True):
    label: str
    segment: tuple[float, float]
    score: float | None = None
    track_id: str = ""
    segment_id: str = ""
    label_id: int | None = None
    repetitions: int | None = None


class _Video(Struct, frozen=True):
    annotations: list[_Found]
    duration: float | None = None


class _External(Struct, frozen=True, omit_defaults=True):
    used: bool = False
    details: str = ""
    poseline: About | None = None


class _Document(Struct, frozen=True, omit_defaults=True):
    version: Any = _VERSION
    results: dict[str, list[_Found]] | None = None
    database: dict[str, _Video] | None = None
    external_data: _External = _External()


def write(timeline: Timeline) -> bytes:
    found = [
        _Found(one.label, (one.start, one.end), one.score, one.track_id, one.segment_id, one.label_id, one.repetitions)
        for one in timeline.segments
    ]
    model = timeline.model
    details = "" if model is None else f"{model.name} {model.version} ({model.digest})"
    external = {"used": model is not None, "details": details, "poseline": about(timeline)}
    document = {"version": _VERSION, "results": {timeline.source: found}, "external_data": external}
    return msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"


def read(data: bytes) -> Timeline:
    """The file's one video."""
    found = read_all(data)
    if len(found) != 1:
        raise InputError(f"the file is of {len(found)} videos, expected one")
    return found[0]


def read_all(data: bytes) -> list[Timeline]:
    """Every video of the file. What is known of the recording by `external_data` is known of one alone."""
    try:
        document = msgspec.json.decode(data, type=_Document)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"this is no file of ActivityNet's form: {error}") from None
    if document.results is not None:
        videos = {name: _Video(found) for name, found in document.results.items()}
    elif document.database is not None:
        videos = document.database
    else:
        raise InputError("this is no file of ActivityNet's form: neither results nor database")
    remark = document.external_data.poseline if len(videos) == 1 else None
    return [
        assemble(remark or About(source=name, duration=one.duration), _segments(one)) for name, one in videos.items()
    ]


def _segments(video: _Video) -> tuple[TimelineSegment, ...]:
    return tuple(
        TimelineSegment(
            one.segment_id or f"s{n}",
            one.track_id,
            one.label,
            *one.segment,
            1.0 if one.score is None else one.score,
            one.label_id,
            one.repetitions,
        )
        for n, one in enumerate(video.annotations, 1)
    )
