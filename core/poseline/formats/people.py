"""Who is in which recording: a CSV table for those who make a corpus of their own.

Columns `recording` (a file's name, with or without its suffix) and `person`; and, where they are needed, `track` (who is who
in a recording of several people), `view` (from where it was seen: what one view shows of one person may be joined anew in
training) and `split` (train, val or test; for everybody or for nobody).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

from poseline.errors import CorpusError
from poseline.formats.reading import read_bytes

SPLITS = ("train", "val", "test")
_NEEDED, _KNOWN = ("recording", "person"), ("recording", "person", "track", "view", "split")


class Who(NamedTuple):
    """view, split: empty where the table does not say."""

    person: str
    view: str
    split: str


def read_people(path: Path, recordings: Mapping[str, Path]) -> dict[tuple[str, str], Who]:
    """Recording and track (empty: whoever is in it) → who it is. recordings: files by the names they go by.

    Raises CorpusError for a table that contradicts itself or names what is not there; a person has one split.
    """
    known = {file.name: name for name, file in recordings.items()} | {name: name for name in recordings}
    found: dict[tuple[str, str], Who] = {}
    split_of: dict[str, str] = {}
    for n, row in enumerate(_rows(path), 1):
        recording, person, track, view, split = ((row.get(name) or "").strip() for name in _KNOWN)
        where = f"{path}, row {n}"
        if recording not in known:
            raise CorpusError(f"{where}: {recording!r} is none of the {len(recordings)} recordings")
        if not person:
            raise CorpusError(f"{where}: no person")
        if split not in (*SPLITS, ""):
            raise CorpusError(f"{where}: split is {split!r}, expected {', '.join(SPLITS)}")
        if split_of.setdefault(person, split) != split:
            first, second = sorted((split_of[person] or "none", split or "none"))
            raise CorpusError(
                f"{where}: person {person!r} is in {first} and in {second}; whom a model has learnt from cannot judge it"
            )
        place = known[recording], track
        if place in found:
            raise CorpusError(f"{where}: {' '.join((recording, track)).strip()} stands in the table twice")
        found[place] = Who(person, view, split)
    _check_splits(path, split_of.values())
    return found


def _check_splits(path: Path, splits: Collection[str]) -> None:
    if any(splits) and not all(splits):
        raise CorpusError(f"{path}: some people have a split and others none; say it of everybody or of nobody")


def _rows(path: Path) -> list[dict[str, str | None]]:
    try:
        rows = csv.DictReader(io.StringIO(read_bytes(path).decode("utf-8-sig"), newline=""), strict=True)
        names = rows.fieldnames or ()
        if lacking := [name for name in _NEEDED if name not in names]:
            raise CorpusError(f"{path} lacks the column {', '.join(lacking)}")
        return list(rows)
    except (csv.Error, UnicodeDecodeError) as error:
        raise CorpusError(f"{path} is no CSV in UTF-8: {error}") from None
