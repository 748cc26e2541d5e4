"""Stitched streams taken apart (`compose` puts their clips together anew).

A stitched stream of the corpus is made of trimmed clips: `stitched_<split>_clips.json` names them, `trimmed_<split>.npz`
holds them, and in the stream they are moved horizontally and otherwise the same. So it is known exactly which frames were
recorded, and the stream's labels tell in which part of a clip the action happens.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from poseline.errors import CorpusError
from poseline.formats.corpus import LabelledSequence, read_corpus
from poseline.skeleton import Flags, Floats

_SAME = 1e-3
"""Metres. Copies of a clip differ by the corpus' grid of 0.12 mm."""


@dataclass(frozen=True)
class Stitched:
    """A stream, and the clips that it is made of: clip k, with the stream's own labels, is its frames `starts[k]` on."""

    stream: LabelledSequence
    clips: tuple[LabelledSequence, ...]
    starts: tuple[int, ...]

    def bridges(self) -> Flags:
        """(T,) which frames belong to no clip."""
        made_up = np.ones(len(self.stream.labels), np.bool_)
        for clip, start in zip(self.clips, self.starts, strict=True):
            made_up[start : start + len(clip.labels)] = False
        return made_up

    def last_frames(self, frames: int) -> Flags:
        """(T,) which frames are among so many last ones of a clip."""
        last = np.zeros(len(self.stream.labels), np.bool_)
        for clip, start in zip(self.clips, self.starts, strict=True):
            end = start + len(clip.labels)
            last[max(start, end - frames) : end] = True
        return last


def taken_apart(folder: Path, split: str) -> list[Stitched]:
    """The stitched streams of `split` (train, val, test), as they were shipped. Raises CorpusError."""
    clips = {clip.name: clip for clip in read_corpus(folder / f"trimmed_{split}.npz")}
    path = folder / f"stitched_{split}_clips.json"
    try:
        names: dict[str, list[str]] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise CorpusError(f"{path} cannot be read: {error}") from None
    found: list[Stitched] = []
    for stream in read_corpus(folder / f"stitched_{split}.npz"):
        used: list[LabelledSequence] = []
        starts: list[int] = []
        end = 0
        for name in names.get(stream.name, ()):
            if name not in clips:
                raise CorpusError(f"{path} names clip {name!r}, which trimmed_{split}.npz lacks")
            start = _find(clips[name].poses.joints, stream.poses.joints, end)
            if start is None:
                raise CorpusError(f"stream {stream.name} of {folder.name} does not show clip {name!r} where it should")
            end = start + len(clips[name].labels)
            used.append(replace(clips[name], labels=stream.labels[start:end]))
            starts.append(start)
        if not used:
            raise CorpusError(f"{path} names no clips of stream {stream.name}")
        found.append(Stitched(stream, tuple(used), tuple(starts)))
    return found


def _find(clip: Floats, stream: Floats, after: int) -> int | None:
    """The first frame from `after` on at which the stream shows the clip, wherever it stands there."""
    own = clip - clip[0, 0]
    for at in range(after, len(stream) - len(clip) + 1):
        if np.abs(stream[at] - stream[at, 0] - own[0]).max() > _SAME:
            continue
        if np.abs(stream[at : at + len(clip)] - stream[at, 0] - own).max() <= _SAME:
            return at
    return None


def moving_clips(folder: Path, split: str) -> list[LabelledSequence]:
    """The clips of the stitched streams. Labelled is only the part that moves, as in the streams; idle margins are
    background. Raises CorpusError."""
    return [clip for one in taken_apart(folder, split) for clip in one.clips]
