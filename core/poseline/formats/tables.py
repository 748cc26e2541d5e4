"""Timelines as tables, CSV and Parquet: one row a segment, times in seconds.

Every row repeats what is known of the recording, so that tables of many recordings can be put together; `thresholds` is
a JSON object. A CSV without segments is its header alone and says nothing else; Parquet keeps it all in its metadata.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from typing import Any

import msgspec

from poseline.errors import InputError, MissingExtra
from poseline.formats.native import About, about, assemble, read_about
from poseline.protocol import DecodingChoice, ModelInfo
from poseline.timeline import Timeline, TimelineSegment

_SEGMENT = ("segment_id", "track_id", "label", "label_id", "start", "end", "score", "repetitions")
_RECORDING = ("duration", "fps", "layout")
_MODEL = {"model": "name", "version": "version", "digest": "digest", "model_layout": "layout", "license": "license",
          "research_only": "research_only"}  # fmt: skip
COLUMNS = ("source", *_SEGMENT, *_RECORDING, *_MODEL, "thresholds")
_NEEDED = {"label", "start", "end"}
_METADATA = b"poseline"


def write_csv(timeline: Timeline) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    writer.writerows(_rows(timeline))
    return text.getvalue().encode()


def read_csv(data: bytes) -> Timeline:
    """Columns may come in any order; only label, start and end are needed."""
    return _of_one(_csv(data))


def read_csvs(data: bytes) -> list[Timeline]:
    """The same, of many recordings: a timeline for each `source`."""
    return _of_each(_csv(data))


def _csv(data: bytes) -> Iterator[Mapping[str, Any]]:
    try:
        rows = csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        _check_columns(rows.fieldnames or ())
        yield from rows
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"this is no CSV in UTF-8: {error}") from None


def write_parquet(timeline: Timeline) -> bytes:
    pa, parquet = _pyarrow()
    types = {"label_id": pa.int64(), "repetitions": pa.int64(), "research_only": pa.bool_()}
    types |= dict.fromkeys(("start", "end", "score", "duration", "fps"), pa.float64())
    schema = pa.schema(
        [(name, types.get(name, pa.string())) for name in COLUMNS],
        metadata={_METADATA: msgspec.json.encode(about(timeline))},
    )
    file = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(list(_rows(timeline)), schema), file)
    return file.getvalue()


def read_parquet(data: bytes) -> Timeline:
    rows, remark = _parquet(data)
    found = _of_one(rows)
    return found if remark is None else assemble(remark, found.segments)


def read_parquets(data: bytes) -> list[Timeline]:
    """A timeline for each `source`."""
    rows, remark = _parquet(data)
    return _of_each(rows) if rows or remark is None else [assemble(remark, ())]


def _parquet(data: bytes) -> tuple[list[dict[str, Any]], About | None]:
    """Rows, and what the metadata say of the recording."""
    pa, parquet = _pyarrow()
    try:
        table = parquet.read_table(io.BytesIO(data))
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"this is no Parquet file: {error}") from None
    _check_columns(table.column_names)
    metadata: Mapping[bytes, bytes] = table.schema.metadata or {}
    remark = metadata.get(_METADATA)
    return table.to_pylist(), None if remark is None else read_about(remark)


def _pyarrow() -> tuple[Any, Any]:
    """Both modules of the one library that reads and writes Parquet. Raises MissingExtra."""
    try:
        return import_module("pyarrow"), import_module("pyarrow.parquet")
    except ModuleNotFoundError:
        raise MissingExtra("Parquet", "pyarrow", "bulk") from None


def _rows(timeline: Timeline) -> Iterable[dict[str, Any]]:
    whole = {"source": timeline.source} | {name: getattr(timeline, name) for name in _RECORDING}
    if timeline.model is not None:
        whole |= {column: getattr(timeline.model, name) for column, name in _MODEL.items()}
    if timeline.thresholds is not None:
        whole["thresholds"] = msgspec.json.encode(timeline.thresholds).decode()
    for segment in timeline.segments:
        yield whole | {name: getattr(segment, name) for name in _SEGMENT}


def _check_columns(names: Iterable[str]) -> None:
    if lacking := _NEEDED - set(names):
        raise InputError(f"the table lacks the column {', '.join(sorted(lacking))}")


def _of_one(rows: Iterable[Mapping[str, Any]]) -> Timeline:
    found: list[TimelineSegment] = []
    remark: About | None = None
    for n, said, segment in _read(rows):
        if remark is not None and said != remark:
            raise InputError(f"row {n} is of another recording than those before it ({said.source!r})")
        remark = said
        found.append(segment)
    return assemble(remark or About(source=""), tuple(found))


def _of_each(rows: Iterable[Mapping[str, Any]]) -> list[Timeline]:
    """By source, in order of their first rows, which say what is known of them."""
    found: dict[str, tuple[About, list[TimelineSegment]]] = {}
    for _, said, segment in _read(rows):
        found.setdefault(said.source, (said, []))[1].append(segment)
    return [assemble(said, tuple(segments)) for said, segments in found.values()]


def _read(rows: Iterable[Mapping[str, Any]]) -> Iterator[tuple[int, About, TimelineSegment]]:
    """Rows in words (CSV) or typed (Parquet), counted from 1: an empty cell is an absent one."""
    for n, row in enumerate(rows, 1):
        cells = {name: cell for name, cell in row.items() if cell is not None and cell != ""}
        try:
            said = _about(cells)
            numbered = {"segment_id": f"s{n}", "track_id": "", "label": ""} | cells
            segment = msgspec.convert(numbered, TimelineSegment, strict=False)
        except msgspec.ValidationError as error:
            raise InputError(f"row {n}: {error}") from None
        yield n, said, segment


def _about(cells: Mapping[str, Any]) -> About:
    fields: dict[str, Any] = {name: cells.get(name) for name in _RECORDING} | {"source": cells.get("source", "")}
    if "model" in cells:
        model = {name: cells.get(column, "") for column, name in _MODEL.items()}
        fields["model"] = msgspec.convert(
            model | {"research_only": cells.get("research_only", False)}, ModelInfo, strict=False
        )
    if "thresholds" in cells:
        fields["thresholds"] = msgspec.json.decode(cells["thresholds"], type=DecodingChoice)
    return msgspec.convert(fields, About, strict=False)
