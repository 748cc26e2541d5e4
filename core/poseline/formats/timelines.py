"""The formats in which a timeline leaves and comes back, by the name that `--format` gives them.

A writer answers with the whole file as bytes; a reader takes them and raises InputError where they are not the format.
Round trips keep times within half a frame; what else each format loses is told in docs/files.md.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from poseline.errors import InputError
from poseline.formats import activitynet, elan, labelstudio, native, tables, webvtt
from poseline.timeline import Timeline


class TimelineFormat(NamedTuple):
    """media_type: for HTTP. suffix: of a file, with its dot. Both functions may raise InputError."""

    media_type: str
    suffix: str
    write: Callable[[Timeline], bytes]
    read: Callable[[bytes], Timeline]


FORMATS: dict[str, TimelineFormat] = {
    "json": TimelineFormat("application/json", ".json", native.write, native.read),
    "csv": TimelineFormat("text/csv; charset=utf-8", ".csv", tables.write_csv, tables.read_csv),
    "parquet": TimelineFormat("application/vnd.apache.parquet", ".parquet", tables.write_parquet, tables.read_parquet),
    "webvtt": TimelineFormat("text/vtt; charset=utf-8", ".vtt", webvtt.write, webvtt.read),
    "elan": TimelineFormat("application/xml", ".eaf", elan.write, elan.read),
    "activitynet": TimelineFormat("application/json", ".json", activitynet.write, activitynet.read),
    "labelstudio": TimelineFormat("application/json", ".json", labelstudio.write, labelstudio.read),
}


def timeline_format(name: str) -> TimelineFormat:
    """The format of that name. Raises InputError."""
    try:
        return FORMATS[name]
    except KeyError:
        raise InputError(f"unknown format {name!r}; known: {', '.join(FORMATS)}", param="format") from None


def format_of(path: Path) -> str:
    """The format that a file's suffix names; `.json` is our own. Raises InputError."""
    for name, one in FORMATS.items():
        if path.suffix.lower() == one.suffix:
            return name
    known = ", ".join(dict.fromkeys(one.suffix for one in FORMATS.values()))
    raise InputError(f"{path}: no format has the suffix {path.suffix!r}; known: {known}; or name one with --format")
