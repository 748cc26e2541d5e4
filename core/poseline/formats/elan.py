"""ELAN's `.eaf`: one tier a track, for annotators who correct by hand.

Labels are annotations of a tier `<track>`; as annotations of one tier may not overlap, what does goes to a second tier
`<track> (2)` of the same participant. Scores are annotations of a dependent tier (`… score`). What is known of the
recording is the property `poseline` of the header, as JSON. Times are whole milliseconds, segments at least one of them
long. Lost: `segment_id`, `label_id` and `repetitions`.

Written after the schema EAFv3.0. A file with a document type is not read: entities are how XML attacks its readers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from itertools import chain
from typing import NamedTuple
from urllib.parse import unquote
from xml.etree import ElementTree
from xml.sax.saxutils import escape, quoteattr

import msgspec

from poseline.errors import InputError
from poseline.formats.native import About, about, assemble, read_about
from poseline.formats.videos import MEDIA_TYPES
from poseline.timeline import Timeline, TimelineSegment, ranked

_SCHEMA = "http://www.mpi.nl/tools/elan/EAFv3.0.xsd"
_OPENING = f"""<?xml version="1.0" encoding="UTF-8"?>
<ANNOTATION_DOCUMENT AUTHOR="Poseline" DATE="{{date}}" FORMAT="3.0" VERSION="3.0"
 xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:noNamespaceSchemaLocation="{_SCHEMA}">"""
_CLOSING = """\
<LINGUISTIC_TYPE GRAPHIC_REFERENCES="false" LINGUISTIC_TYPE_ID="action" TIME_ALIGNABLE="true"/>
<LINGUISTIC_TYPE CONSTRAINTS="Symbolic_Association" GRAPHIC_REFERENCES="false" LINGUISTIC_TYPE_ID="score"
 TIME_ALIGNABLE="false"/>
<CONSTRAINT DESCRIPTION="1-1 association with a parent annotation" STEREOTYPE="Symbolic_Association"/>
</ANNOTATION_DOCUMENT>
"""
_PROPERTY = "poseline"
_KEPT = {"\n": "&#10;", "\r": "&#13;", "\t": "&#9;"}
_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write(timeline: Timeline) -> bytes:
    """Raises InputError for times before zero, and for control characters, which XML cannot hold."""
    tiers = _tiers(timeline.segments)
    borders = sorted(border for one in chain(*tiers.values()) for border in one.borders())
    slots = {(number, side): f"ts{n}" for n, (_, number, side) in enumerate(borders, 1)}
    now = datetime.now(UTC).isoformat(timespec="seconds")
    lines = [
        _OPENING.format(date=now),
        *_header(timeline),
        "<TIME_ORDER>",
        *(f'<TIME_SLOT TIME_SLOT_ID="ts{n}" TIME_VALUE="{time}"/>' for n, (time, _, _) in enumerate(borders, 1)),
        "</TIME_ORDER>",
        *_tier_lines(tiers, slots),
        _CLOSING,
    ]
    text = "\n".join(lines)
    if bad := _FORBIDDEN.search(text):
        raise InputError(f"ELAN's XML cannot hold the character U+{ord(bad[0]):04X} of a name")
    return text.encode()


class _Annotation(NamedTuple):
    """A segment with its number in the file, and its span in milliseconds."""

    segment: TimelineSegment
    number: int
    start: int
    end: int

    def borders(self) -> tuple[tuple[int, int, int], ...]:
        """(time, number, side): each border has a slot of its own, so that moving one moves no other."""
        return (self.start, self.number, 1), (self.end, self.number, 2)


_Tiers = dict[tuple[str, int], list[_Annotation]]
"""By track and lane: annotations that do not overlap."""


def _tiers(segments: Iterable[TimelineSegment]) -> _Tiers:
    """Raises InputError."""
    tiers: _Tiers = {}
    for number, one in enumerate(sorted(segments, key=lambda one: one.start), 1):
        start = round(one.start * 1000)
        if start < 0:
            raise InputError(f"segment {one.segment_id} begins at {one.start:g} s: ELAN has no time before zero")
        lane = 1
        while (others := tiers.setdefault((one.track_id, lane), [])) and others[-1].end > start:
            lane += 1
        others.append(_Annotation(one, number, start, max(round(one.end * 1000), start + 1)))
    return tiers


def _header(timeline: Timeline) -> Iterable[str]:
    yield '<HEADER MEDIA_FILE="" TIME_UNITS="milliseconds">'
    suffix = "." + timeline.source.rpartition(".")[2].lower()
    if suffix in MEDIA_TYPES:
        url = _attribute("./" + timeline.source)
        yield f'<MEDIA_DESCRIPTOR MEDIA_URL={url} MIME_TYPE="{MEDIA_TYPES[suffix]}" RELATIVE_MEDIA_URL={url}/>'
    yield f'<PROPERTY NAME="{_PROPERTY}">{_text(msgspec.json.encode(about(timeline)).decode())}</PROPERTY>'
    yield "</HEADER>"


def _tier_lines(tiers: _Tiers, slots: Mapping[tuple[int, int], str]) -> Iterable[str]:
    used: set[str] = set()
    for (track, lane), found in tiers.items():
        name = _unused(track or "track" if lane == 1 else f"{track} ({lane})", used)
        score = _unused(f"{name} score", used)
        who = f"PARTICIPANT={_attribute(track)}"
        yield f'<TIER LINGUISTIC_TYPE_REF="action" {who} TIER_ID={_attribute(name)}>'
        for one, number, _, _ in found:
            yield (
                f'<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a{number}" TIME_SLOT_REF1="{slots[number, 1]}"'
                f' TIME_SLOT_REF2="{slots[number, 2]}"><ANNOTATION_VALUE>{_text(one.label)}</ANNOTATION_VALUE>'
                "</ALIGNABLE_ANNOTATION></ANNOTATION>"
            )
        yield "</TIER>"
        yield f'<TIER LINGUISTIC_TYPE_REF="score" PARENT_REF={_attribute(name)} {who} TIER_ID={_attribute(score)}>'
        for one, number, _, _ in found:
            yield (
                f'<ANNOTATION><REF_ANNOTATION ANNOTATION_ID="r{number}" ANNOTATION_REF="a{number}">'
                f"<ANNOTATION_VALUE>{one.score!r}</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION>"
            )
        yield "</TIER>"


def _unused(name: str, used: set[str]) -> str:
    """A tier's name that no other tier has."""
    while name in used:
        name += "'"
    used.add(name)
    return name


def _text(text: str) -> str:
    return escape(text, _KEPT)


def _attribute(text: str) -> str:
    return quoteattr(text, _KEPT)


def read(data: bytes) -> Timeline:
    """Every time-aligned annotation with a text; a tier's participant, else its name, is the track."""
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise InputError("an .eaf with a document type is not read")
    try:
        root = ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise InputError(f"this is no .eaf: {error}") from None
    if root.tag != "ANNOTATION_DOCUMENT":
        raise InputError(f"this is no .eaf: its root is {root.tag}")
    scores = _scores(root)
    times = {one.get("TIME_SLOT_ID"): one.get("TIME_VALUE") for one in root.iter("TIME_SLOT")}
    segments: list[TimelineSegment] = []
    for tier in root.iter("TIER"):
        track = tier.get("PARTICIPANT", tier.get("TIER_ID", ""))
        for one in tier.iter("ALIGNABLE_ANNOTATION"):
            if label := one.findtext("ANNOTATION_VALUE"):
                score = scores.get(one.get("ANNOTATION_ID"), 1.0)
                segments.append(TimelineSegment("", track, label, _at(times, one, 1), _at(times, one, 2), score))
    remark = next((one.text for one in root.iter("PROPERTY") if one.get("NAME") == _PROPERTY), None)
    return assemble(read_about(remark) if remark else About(source=_medium(root)), ranked(segments))


def _medium(root: ElementTree.Element) -> str:
    """The name of the file that was annotated, where the header links one."""
    linked = next((one.get("MEDIA_URL", "") for one in root.iter("MEDIA_DESCRIPTOR")), "")
    return unquote(linked).rpartition("/")[2]


def _at(times: Mapping[str | None, str | None], one: ElementTree.Element, side: int) -> float:
    """Seconds of a slot. Raises InputError for one without time: interpolating it is ELAN's affair."""
    value = times.get(one.get(f"TIME_SLOT_REF{side}"))
    if value is None or not value.isdecimal():
        raise InputError(f"annotation {one.get('ANNOTATION_ID')}: its time slot {side} has no time in milliseconds")
    return int(value) / 1000


def _scores(root: ElementTree.Element) -> dict[str | None, float]:
    """By the annotation that they are of: what stands on our own tiers of scores."""
    found: dict[str | None, float] = {}
    for tier in root.iter("TIER"):
        if tier.get("LINGUISTIC_TYPE_REF") == "score":
            for one in tier.iter("REF_ANNOTATION"):
                try:
                    found[one.get("ANNOTATION_REF")] = float(one.findtext("ANNOTATION_VALUE") or "")
                except ValueError:
                    raise InputError(f"annotation {one.get('ANNOTATION_ID')} is no score") from None
    return found
