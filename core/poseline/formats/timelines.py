"""The formats in which a timeline leaves and comes back, by the name that `--format` gives them.

A writer answers with the whole file as bytes; a reader takes them and raises InputError where they are not the format.
Round trips keep times within half a frame; what else each format loses is told in docs/files.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from poseline.errors import InputError
from poseline.formats import activitynet, elan, labelstudio, native, tables, webvtt
from poseline.formats.reading import read_bytes
from poseline.timeline import Timeline

Rate = Callable[[str], float | None]
"""Frames a second of a source, by which some formats count; None where only the file can know them."""


class TimelineFormat(NamedTuple):
    """media_type: for HTTP. suffix: of a file, with its dot. read_all: where a file may be of many recordings. All functions
    may raise InputError."""

    media_type: str
    suffix: str
    write: Callable[[Timeline], bytes]
    read: Callable[[bytes], Timeline]
    read_all: Callable[[bytes, Rate], list[Timeline]] | None = None


def _clockless(read: Callable[[bytes], list[Timeline]]) -> Callable[[bytes, Rate], list[Timeline]]:
    """The reader of a format that counts no frames."""
    return lambda data, rate: read(data)


FORMATS: dict[str, TimelineFormat] = {
    "json": TimelineFormat("application/json", ".json", native.write, native.read),
    "csv": TimelineFormat(
        "text/csv; charset=utf-8", ".csv", tables.write_csv, tables.read_csv, _clockless(tables.read_csvs)
    ),
    "parquet": TimelineFormat(
        "application/vnd.apache.parquet",
        ".parquet",
        tables.write_parquet,
        tables.read_parquet,
        _clockless(tables.read_parquets),
    ),
    "webvtt": TimelineFormat("text/vtt; charset=utf-8", ".vtt", webvtt.write, webvtt.read),
    "elan": TimelineFormat("application/xml", ".eaf", elan.write, elan.read),
    "activitynet": TimelineFormat(
        "application/json", ".json", activitynet.write, activitynet.read, _clockless(activitynet.read_all)
    ),
    "labelstudio": TimelineFormat(
        "application/json", ".json", labelstudio.write, labelstudio.read, labelstudio.read_all
    ),
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


_JSON = {
    "labelstudio": rb'\A\s*\[\s*\{.*"(annotations|predictions)"\s*:',
    "json": rb'"format"\s*:\s*"poseline\.timeline"',
    "activitynet": rb'"(results|database)"\s*:\s*\{',
}
"""What tells apart the formats that share a suffix."""


def format_within(path: Path) -> str | None:
    """The format that a file is of by its suffix and, where several have it, by what it holds; None where it is no timeline.

    Raises InputError where it cannot be read."""
    of_suffix = [name for name, one in FORMATS.items() if path.suffix.lower() == one.suffix]
    if len(of_suffix) < 2:
        return of_suffix[0] if of_suffix else None
    data = read_bytes(path)
    return next((name for name, pattern in _JSON.items() if re.search(pattern, data, re.DOTALL)), None)


def read_timelines(path: Path, rate: Rate) -> list[Timeline]:
    """Every recording's timeline that a file holds. Raises InputError, which names the file."""
    name = format_within(path)
    if name is None:
        raise InputError(f"{path} is in none of the formats of timelines: {', '.join(FORMATS)}")
    one, data = FORMATS[name], read_bytes(path)
    try:
        return [one.read(data)] if one.read_all is None else one.read_all(data, rate)
    except InputError as error:
        raise InputError(f"{path}: {error.detail}") from None
