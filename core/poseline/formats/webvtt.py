"""WebVTT: subtitles that any player shows under the video, one cue a segment.

    WEBVTT - what a timeline is of

    NOTE poseline {"source": …, "model": …, "thresholds": …}

    s1
    00:00:01.200 --> 00:00:02.867
    <v p1>wave_one_hand 0.9134

Times are rounded to milliseconds. The track is the cue's voice, the score ends its text (only in files with our note). Lost:
`label_id` and `repetitions`.
"""

from __future__ import annotations

import html
import re
from urllib.parse import quote, unquote

import msgspec

from poseline.errors import InputError
from poseline.formats.native import About, about, assemble, read_about
from poseline.timeline import Timeline, TimelineSegment

_NOTE = "NOTE poseline "
_TIMES = re.compile(r"^((?:\d{2,}:)?\d\d:\d\d\.\d{3})[ \t]+-->[ \t]+((?:\d{2,}:)?\d\d:\d\d\.\d{3})(?:[ \t].*)?$")
_VOICE = re.compile(r"<v(?:\.[^\s>]*)?[ \t]([^>]*)>")
_TAG = re.compile(r"<[^>]*>")
_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "\n": "&#10;", "\r": "&#13;"}
_SAFE = "!#$'()*+,/:;=?@[]^`{|}~"


def write(timeline: Timeline) -> bytes:
    """Raises InputError for times before zero, which WebVTT cannot say."""
    remark = msgspec.json.encode(about(timeline)).decode().replace("-->", "--\\u003e")
    blocks = ["WEBVTT - actions found by Poseline", _NOTE + remark]
    for one in timeline.segments:
        if one.start < 0:
            raise InputError(f"segment {one.segment_id} begins at {one.start:g} s: WebVTT has no time before zero")
        times = f"{_clock(one.start)} --> {_clock(one.end)}"
        cue = [times, f"<v {_escape(one.track_id)}>{_escape(one.label)} {one.score!r}"]
        blocks.append("\n".join([quote(one.segment_id, _SAFE), *cue] if one.segment_id else cue))
    return ("\n\n".join(blocks) + "\n").encode()


def read(data: bytes) -> Timeline:
    """Cues in order; styles, regions and comments of others are passed over."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError("this is no WebVTT: not text in UTF-8") from None
    lines = re.split(r"\r\n|\n|\r", text)
    if not re.match(r"WEBVTT([ \t]|$)", lines[0]):
        raise InputError("this is no WebVTT: it does not begin with WEBVTT")
    remark: About | None = None
    segments: list[TimelineSegment] = []
    for block in re.split(r"\n{2,}", "\n".join(lines[1:])):
        if block.strip("\n").startswith(_NOTE):
            remark = read_about(block.strip("\n")[len(_NOTE) :])
        elif segment := _cue(block.strip("\n").split("\n"), scored=remark is not None, number=len(segments) + 1):
            segments.append(segment)
    return assemble(remark or About(source=""), tuple(segments))


def _cue(lines: list[str], *, scored: bool, number: int) -> TimelineSegment | None:
    """One block; None where it is no cue. Raises InputError."""
    at = next((i for i, line in enumerate(lines[:2]) if "-->" in line), None)
    if at is None:
        return None
    times = _TIMES.match(lines[at])
    if times is None:
        raise InputError(f"cue {number}: {lines[at]!r} are no two times")
    text = "\n".join(lines[at + 1 :])
    voice = _VOICE.search(text)
    label, score = html.unescape(_TAG.sub("", text)), 1.0
    if scored:
        label, _, last = label.rpartition(" ")
        try:
            score = float(last)
        except ValueError:
            raise InputError(f"cue {number}: {last!r} where the score should stand") from None
    name = unquote(lines[0]) if at else f"s{number}"
    track = html.unescape(voice[1]) if voice else ""
    return TimelineSegment(name, track, label, _seconds(times[1]), _seconds(times[2]), score)


def _escape(text: str) -> str:
    return "".join(_ESCAPES.get(character, character) for character in text)


def _clock(seconds: float) -> str:
    minutes, milliseconds = divmod(round(seconds * 1000), 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{milliseconds // 1000:02}.{milliseconds % 1000:03}"


def _seconds(clock: str) -> float:
    hours, minutes, seconds = clock.rjust(12, "0").rsplit(":", 2) if clock.count(":") == 2 else ("0", *clock.split(":"))
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
