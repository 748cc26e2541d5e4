"""The project's own corpus on disk: poses with segments, many sequences in one file.

    skeletons.json                    in the corpus folder or its parent: joint names, facing, body16 indices
    meta.json                         classes (background first), joints, licence …
    <kind>_<split>.npz                joints (frames, V, 3), seq_ptr (n + 1), seq_id, subject, view, frame_label,
                                      confidence (frames, V) where not every joint was seen
    <kind>_<split>_segments.csv       the same labels as intervals, for people

`frame_label` is the truth for training and scoring: 0 is background, -1 is to be ignored. The format is described for
users in docs/corpus.md. Raises CorpusError for whatever contradicts itself.
"""

from __future__ import annotations

import csv
import json
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from poseline.errors import CorpusError
from poseline.formats.arrays import BROKEN, unpacked
from poseline.pose import NATIVE, Coordinates, PoseSequence
from poseline.skeleton import BODY16, Floats, SkeletonLayout, layout

FPS = 30.0
_LAYOUTS = {"kinect20": "kinect_v1_20", "common16": "body16"}
"""Skeletons of `skeletons.json` that are registered layouts under another name."""


@dataclass(frozen=True)
class LabelledSequence:
    """One sequence with its truth.

    labels: (T,) class names' index in `classes`; 0 background, -1 ignore. subject, view, style: who, seen from where, in
    what manner; empty where the corpus does not tell.
    """

    poses: PoseSequence
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    corpus: str
    subject: str
    view: str
    style: str = ""

    @property
    def name(self) -> str:
        return self.poses.name


def read_corpus(path: Path, sequence: str | None = None) -> list[LabelledSequence]:
    """Every sequence of `<folder>/<kind>_<split>.npz`, or the one called `sequence`."""
    arrays = _read_arrays(path)
    meta = _read_json(path.parent / "meta.json")
    joints, pointers = arrays["joints"], arrays["seq_ptr"]
    classes = tuple(str(name) for name in meta["classes"])
    skeleton_layout, coordinates, columns = _skeleton(path.parent, str(meta.get("name", path.parent.name)))
    if columns is not None:
        joints = joints[:, columns]
    seen = arrays.get("confidence", np.ones(joints.shape[:2], np.float32))
    labels = arrays["frame_label"].astype(np.int64)
    if len(pointers) != len(arrays["seq_id"]) + 1 or pointers[-1] != len(joints) or len(labels) != len(joints):
        raise CorpusError(f"{path}: seq_ptr, seq_id, frame_label and joints do not fit one another")
    if seen.shape != joints.shape[:2]:
        raise CorpusError(
            f"{path}: confidence is {seen.shape}, expected {joints.shape[:2]}: one number for each joint read"
        )
    if labels.max(initial=0) >= len(classes):
        raise CorpusError(f"{path}: frame_label {labels.max()} but meta.json names {len(classes)} classes")
    found: list[LabelledSequence] = []
    for k, name in enumerate(arrays["seq_id"]):
        if sequence is not None and str(name) != sequence:
            continue
        span = slice(int(pointers[k]), int(pointers[k + 1]))
        part: Floats = joints[span].astype(np.float32)
        poses = PoseSequence(
            part,
            seen[span].astype(np.float32),
            np.arange(len(part)) / FPS,
            skeleton_layout,
            coordinates,
            str(name),
            f"{path.name}, sequence {name}",
        )
        told = (str(arrays[key][k]) if key in arrays else "" for key in ("subject", "view", "style"))
        found.append(LabelledSequence(poses, labels[span], classes, path.parent.name, *told))
    if not found:
        names = ", ".join(str(name) for name in arrays["seq_id"][:8])
        raise CorpusError(f"{path} has no sequence {sequence!r}; it has {names} …", param="sequence")
    return found


def write_corpus(folder: Path, splits: Mapping[str, Sequence[LabelledSequence]], meta: Mapping[str, Any]) -> None:
    """A folder of `untrimmed_<split>.npz` that `read_corpus` reads: sequences in native poses on the grid, all of the same
    classes. It comes to its place whole, instead of a former corpus there. meta: what `meta.json` shall hold besides.

    Raises CorpusError where the folder is there and is no corpus.
    """
    if folder.exists() and not (folder / "meta.json").exists():
        raise CorpusError(f"{folder} is there already and is no corpus; name another folder")
    folder = folder.resolve()
    beside = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    classes = next(one.classes for many in splits.values() for one in many)
    for split, sequences in splits.items():
        _write_split(beside / f"untrimmed_{split}", sequences)
    _write_json(beside / "meta.json", {"name": folder.name, "classes": classes, "fps": FPS, **meta})
    skeleton = {"joints": BODY16.joints, "facing": NATIVE.facing, "used_by": [folder.name]}
    _write_json(beside / "skeletons.json", {"common16": skeleton})
    shutil.rmtree(folder, ignore_errors=True)
    beside.rename(folder)


def _write_split(path: Path, sequences: Sequence[LabelledSequence]) -> None:
    poses, labels = [one.poses for one in sequences], [one.labels for one in sequences]
    np.savez_compressed(
        path.with_suffix(".npz"),
        joints=np.concatenate([one.joints for one in poses]),
        confidence=np.concatenate([one.confidence for one in poses]),
        seq_ptr=np.cumsum([0, *map(len, poses)]),
        seq_id=np.array([one.name for one in poses]),
        subject=np.array([one.subject for one in sequences]),
        view=np.array([one.view for one in sequences]),
        frame_label=np.concatenate(labels).astype(np.int16),
    )
    with path.with_name(f"{path.name}_segments.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("seq_id", "subject", "start_frame", "end_frame_exclusive", "label"))
        writer.writerows((one.name, one.subject, *run) for one in sequences for run in runs(one.labels))


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")


def read_label_map(path: Path, corpus: str) -> dict[str, str]:
    """`unified_labels.json`: corpus → class → the common label. Classes that are not listed keep their own name."""
    return {str(k): str(v) for k, v in _read_json(path).get(corpus, {}).items()}


def runs(labels: NDArray[np.int64]) -> list[tuple[int, int, int]]:
    """(start, end, label) of every run of one action label, in frames, half-open."""
    if len(labels) == 0:
        return []
    borders = np.r_[0, np.flatnonzero(np.diff(labels)) + 1, len(labels)]
    return [(int(a), int(b), int(labels[a])) for a, b in pairwise(borders) if labels[a] > 0]


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise CorpusError(f"{path} is missing") from None
    except (ValueError, RecursionError) as error:
        raise CorpusError(f"{path} is not JSON: {error}") from None


def _read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with zipfile.ZipFile(path) as archive:
            arrays = dict(unpacked(archive))
    except FileNotFoundError:
        raise CorpusError(f"{path} is missing") from None
    except BROKEN as error:
        raise CorpusError(f"{path} is not a numpy archive: {error}") from None
    if lacking := {"joints", "seq_ptr", "seq_id", "frame_label"} - set(arrays):
        raise CorpusError(f"{path} lacks {', '.join(sorted(lacking))}")
    return arrays


def _skeleton(folder: Path, corpus: str) -> tuple[SkeletonLayout, Coordinates, list[int] | None]:
    """Layout and facing of a corpus, and the columns to pick where its own skeleton is not a registered layout."""
    for candidate in (folder / "skeletons.json", folder.parent / "skeletons.json"):
        if candidate.exists():
            table = _read_json(candidate)
            break
    else:
        raise CorpusError(f"no skeletons.json in {folder} or its parent")
    for name, one in table.items():
        if corpus in one.get("used_by", ()):
            facing = "-z" if str(one.get("facing", "+z")).startswith("-z") else "+z"
            coordinates = Coordinates("world_m", 3, "up", facing) if facing == "-z" else NATIVE
            if name in _LAYOUTS:
                return layout(_LAYOUTS[name]), coordinates, None
            if "common16" in one:
                return BODY16, coordinates, [int(i) for i in one["common16"]]
    raise CorpusError(f"skeletons.json says for no full-body skeleton that corpus {corpus!r} uses it")
