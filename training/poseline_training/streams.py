"""Stitched streams taken apart, and composed anew.

A stitched stream of the corpus is made of trimmed clips: `stitched_<split>_clips.json` names them, `trimmed_<split>.npz`
holds them, and in the stream they are moved horizontally and otherwise the same. So it is known exactly which frames were
recorded, and the stream's labels tell in which part of a clip the action happens.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from poseline.errors import CorpusError
from poseline.formats.corpus import FPS, LabelledSequence, read_corpus
from poseline.pose import NATIVE, PoseSequence
from poseline.skeleton import BODY16, Flags, Floats
from poseline_training.bridges import Joiner
from poseline_training.corpus import native

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


def recomposed(folder: Path, split: str, seed: int) -> list[LabelledSequence]:
    """As many streams of the same clips, in native poses: each clip once, with its idle margins, in another order and
    between other bridges (`bridges`). Raises CorpusError."""
    return [one.stream for one in composed_anew(taken_apart(folder, split), seed)]


def composed_anew(shipped: list[Stitched], seed: int) -> list[Stitched]:
    """Every person's clips in other streams: as many, of as many clips each."""
    rng = np.random.default_rng(seed)
    people: dict[tuple[str, str], list[Stitched]] = {}
    for one in shipped:
        people.setdefault((one.stream.subject, one.stream.view), []).append(one)
    return [made for streams in people.values() for made in _person(streams, rng)]


def _person(streams: list[Stitched], rng: Generator) -> Iterator[Stitched]:
    clips = [clip for one in streams for clip in one.clips]
    joiner = Joiner([(native(clip), clip.labels) for clip in clips])
    order = joiner.nearest_first(rng.permutation(len(clips)).tolist())
    for one in streams:
        chosen = list(islice(order, len(one.clips)))
        poses, labels = zip(*joiner.stream(chosen, rng), strict=True)
        ends = np.cumsum([0, *map(len, labels)])
        stream = _sequence(one.stream, np.concatenate(poses), np.concatenate(labels))
        # Every second part is a bridge.
        yield Stitched(stream, tuple(clips[i] for i in chosen), tuple(int(start) for start in ends[:-1:2]))


def _sequence(like: LabelledSequence, poses: Floats, labels: NDArray[np.int64]) -> LabelledSequence:
    clock = np.arange(len(poses)) / FPS
    where = f"{like.corpus}, composed anew"
    sequence = PoseSequence(poses[..., :3], poses[..., 3], clock, BODY16, NATIVE, f"{like.name}_recomposed", where)
    return replace(like, poses=sequence, labels=labels)
