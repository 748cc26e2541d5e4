"""The formats in which poses come, by the name that `--input-format` gives them, and how a file is told to be one.

A reader gives people by name, checked, each on the frames at which they were seen. Formats, units and what each loses:
docs/files.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from poseline.codec import decode_request
from poseline.errors import InputError
from poseline.formats import arrays, captures, kinect, mediapipe, mmpose, openpose, stream, trc
from poseline.formats.corpus import read_corpus
from poseline.formats.reading import ReadOptions, read_bytes
from poseline.keypoints import read_tracks
from poseline.pose import PoseSequence

People = dict[str, PoseSequence]
_HEAD = 1 << 16
"""Bytes by which JSON files are told apart."""


class PoseFormat(NamedTuple):
    """suffixes: of files that may be it. seems: whether a file of such a suffix is; None where the suffix says it all."""

    read: Callable[[Path, ReadOptions], People]
    suffixes: tuple[str, ...]
    seems: Callable[[Path], bool] | None = None


def _read_request(path: Path, options: ReadOptions) -> People:
    """A request of `POST /v1/localize`, which says everything itself."""
    return {poses.name: poses for poses in read_tracks(decode_request(read_bytes(path)))}


def _read_corpus(path: Path, options: ReadOptions) -> People:
    found = read_corpus(path, options.sequence)
    if len(found) > 1:
        some = ", ".join(one.name for one in found[:4])
        raise InputError(f"{path} holds {len(found)} sequences; choose one with --sequence: {some} …")
    return {found[0].name: found[0].poses}


def _holds(*words: str) -> Callable[[Path], bool]:
    """Whether one of the words stands in a file's head."""
    pattern = re.compile("|".join(words).encode(), re.DOTALL)

    def seems(path: Path) -> bool:
        with path.open("rb") as file:
            return pattern.search(file.read(_HEAD)) is not None

    return seems


def _has(*names: str) -> Callable[[Path], bool]:
    """Whether an archive has one of the arrays."""
    return lambda path: not arrays.names_in(path).isdisjoint(names)


POSE_FORMATS: dict[str, PoseFormat] = {
    "json": PoseFormat(_read_request, (".json",), _holds(r'"tracks"\s*:', r'"layout"\s*:')),
    "corpus": PoseFormat(_read_corpus, (".npz",), _has("seq_ptr")),
    "capture": PoseFormat(captures.read, (".npz",), _has("capture")),
    "npz": PoseFormat(arrays.read, (".npz",), _has("joints", "keypoints")),
    "ndjson": PoseFormat(stream.read, (".ndjson", ".jsonl")),
    "openpose": PoseFormat(openpose.read, ("", ".json"), openpose.seems),
    "mmpose": PoseFormat(
        mmpose.read, (".json",), _holds('"instance_info"', '"keypoint_scores"', '"keypoints".*"scores"')
    ),
    "mediapipe": PoseFormat(
        mediapipe.read, (".json",), _holds(r"[lL]andmarks?\"\s*:", r'"visibility"\s*:', r"^\s*\[\s*\[")
    ),
    "ntu": PoseFormat(kinect.read_ntu, (".skeleton",)),
    "pku": PoseFormat(kinect.read_pku, (".txt",)),
    "trc": PoseFormat(trc.read, (".trc",)),
}


def read_poses(path: Path, name: str | None = None, options: ReadOptions = ReadOptions()) -> People:  # noqa: B008
    """The people of a recording, in the named format or in the one that the file seems to be. Raises InputError."""
    name = name or format_of(path)
    if name not in POSE_FORMATS:
        raise InputError(f"unknown input format {name!r}; known: {', '.join(POSE_FORMATS)}", param="input_format")
    return POSE_FORMATS[name].read(path, options)


def format_of(path: Path) -> str:
    """The first format that a file seems to be, by its suffix and then by what it holds. Raises InputError."""
    if not path.exists():
        raise InputError(f"{path} is missing")
    suffix = "" if path.is_dir() else path.suffix.lower()
    candidates = [name for name, one in POSE_FORMATS.items() if suffix in one.suffixes]
    for name in candidates:
        seems = POSE_FORMATS[name].seems
        if seems is None or (path.is_dir() == (suffix == "") and seems(path)):
            return name
    if candidates:
        what = f"{path} could be {', '.join(candidates)}, but does not look like any of them"
    else:
        what = f"{path}: no format of poses has the suffix {suffix!r}; known: {', '.join(_suffixes())}"
    raise InputError(f"{what}; name one with --input-format: {', '.join(POSE_FORMATS)}")


def _suffixes() -> list[str]:
    every = [suffix or "a folder" for one in POSE_FORMATS.values() for suffix in one.suffixes]
    return list(dict.fromkeys(every))
