"""`poseline pick`: from what servers captured to tasks for Label Studio, the most informative stretches first.

Captures and a bundle enter. What leaves is a folder: `tasks.json` with the bundle's own predictions to be corrected,
`labels.xml` for the labelling interface, and `poses/`, a capture for each stretch, which `poseline corpus build` joins with
the corrected labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from rich.progress import track

from poseline.bundle import ModelBundle
from poseline.errors import InputError
from poseline.formats import labelstudio
from poseline.formats.captures import Capture, encode, read_capture
from poseline.online import localize
from poseline.picking import cut, uncertainty
from poseline.picking import pick as informative
from poseline.segments import SegmentEvent
from poseline.skeleton import BODY16, Floats
from poseline.stepping import StepScorer
from poseline.timeline import Timeline, TimelineSegment, ranked
from poseline.translation import model_info
from poseline_training.runtime import open_scorer

_OVERLAP = 0.1
"""Seconds by which two segments of one person may overlap in a corpus (`labelling.SLACK`)."""


class By(StrEnum):
    diversity = "diversity"
    both = "both"
    uncertainty = "uncertainty"
    random = "random"


@dataclass(frozen=True)
class Stretch:
    """Frames [first, stop) of a capture. place (D,): the mean of their vectors; unsure: mean entropy of their scores."""

    file: Path
    first: int
    stop: int
    place: Floats
    unsure: float

    @property
    def name(self) -> str:
        return f"{self.file.stem}-{self.first}"


def stretches(bundle: ModelBundle, scorer: StepScorer, file: Path, seconds: float) -> list[Stretch]:
    """What the bundle makes of a capture, in stretches of at most so many seconds. Raises InputError."""
    manifest, capture = bundle.manifest, read_capture(file)
    if capture.layout != manifest.layout:
        raise InputError(f"{file} holds poses in {capture.layout}, model {manifest.name} takes {manifest.layout}")
    held = np.repeat(
        capture.poses[-1:], manifest.look_ahead, axis=0
    )  # so that what is said of the last frames is heard
    said = scorer.replay(np.concatenate([capture.poses, held])[None])
    scores, vectors = said.scores[0, manifest.look_ahead :], said.vectors[0, manifest.look_ahead :]
    return [
        Stretch(file, first, stop, vectors[first:stop].mean(axis=0), uncertainty(scores[first:stop]))
        for first, stop in cut(len(capture.times), max(1, round(seconds * manifest.fps)))
    ]


def pick(
    captures: Annotated[Path, typer.Argument(help="Folder of captures, a server's POSELINE_CAPTURE.", exists=True)],
    bundle: Annotated[Path, typer.Option(help="Bundle whose predictions are to be corrected.", exists=True)],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for tasks.json, labels.xml and poses/.")],
    count: Annotated[int, typer.Option(help="Stretches to pick.", min=1)] = 20,
    seconds: Annotated[float, typer.Option(help="Longest stretch.", min=1)] = 10.0,
    by: Annotated[
        By, typer.Option(help="What makes a stretch informative (docs/loop.md compares them).")
    ] = By.diversity,
    done: Annotated[
        list[Path] | None, typer.Option(help="A tasks.json picked before: not again, nor what is like it.", exists=True)
    ] = None,
    seed: Annotated[int, typer.Option(help="Of --by random.")] = 0,
) -> None:
    """Pick the most informative stretches of what was captured, as tasks for Label Studio with the bundle's predictions."""
    opened = ModelBundle.open(bundle)
    scorer, files = open_scorer(opened, 1), sorted(captures.glob("*.npz"))
    if not files:
        raise InputError(f"{captures} holds no captures")
    every = [
        one for file in track(files, "looking", transient=True) for one in stretches(opened, scorer, file, seconds)
    ]
    known = {one.source for file in done or () for one in labelstudio.read_all(file.read_bytes(), lambda _: None)}
    taken = [n for n, one in enumerate(every) if one.name in known]
    places, unsure = np.stack([one.place for one in every]), [one.unsure for one in every]
    picked = [every[n] for n in informative(by.value, places, unsure, count, taken, seed)]
    write_tasks(opened, scorer, picked, output)
    minutes = sum(one.stop - one.first for one in picked) / opened.manifest.fps / 60
    typer.echo(f"{output}: {len(picked)} of {len(every)} stretches, {minutes:.1f} minutes")


def write_tasks(bundle: ModelBundle, scorer: StepScorer, picked: Sequence[Stretch], output: Path) -> None:
    """The folder that is described above, for these stretches in their order."""
    (output / "poses").mkdir(parents=True, exist_ok=True)
    found = {file: list(_finals(bundle, scorer, file)) for file in {one.file for one in picked}}
    tasks: list[tuple[Timeline, dict[str, list[float]]]] = []
    for one in picked:
        capture = read_capture(one.file)
        part = _part(capture, one)
        (output / "poses" / f"{one.name}.npz").write_bytes(encode(part))
        tasks.append((_timeline(bundle, one, capture, found[one.file]), curves(part.poses, part.times)))
    (output / "tasks.json").write_bytes(labelstudio.write_tasks(tasks))
    (output / "labels.xml").write_bytes(labelstudio.series_config(bundle.manifest.classes[1:], CURVES))


def _finals(bundle: ModelBundle, scorer: StepScorer, file: Path) -> Iterable[SegmentEvent]:
    events = localize(bundle.manifest, scorer, read_capture(file).sequence(file.stem))
    return (event for event in events if event.phase == "final")


def _part(capture: Capture, one: Stretch) -> Capture:
    """A stretch as a capture of its own, whose clock begins at 0."""
    span = slice(one.first, one.stop)
    origin = float(capture.times[one.first])
    return replace(
        capture,
        poses=capture.poses[span],
        times=capture.times[span] - origin,
        labels=capture.labels[span],
        scores=capture.scores[span],
        segments=(),
    )


def _timeline(bundle: ModelBundle, one: Stretch, capture: Capture, finals: Iterable[SegmentEvent]) -> Timeline:
    """What the bundle finds in a stretch, on the stretch's clock, cut at its ends."""
    fps, origin = bundle.manifest.fps, float(capture.times[one.first])
    duration = (one.stop - one.first) / fps
    found = [
        TimelineSegment("", "", e.label, max(e.start - origin, 0.0), min(e.end - origin, duration), e.score, e.label_id)
        for e in finals
        if e.end - origin > _OVERLAP and e.start - origin < duration - _OVERLAP
    ]
    return Timeline(
        source=one.name,
        segments=ranked(_apart(found)),
        duration=duration,
        fps=fps,
        layout=bundle.manifest.layout,
        model=model_info(bundle.manifest, bundle.digest),
    )


def _apart(segments: Sequence[TimelineSegment]) -> list[TimelineSegment]:
    """The surest that do not overlap: a person does one thing at a time, and so say the labels of a corpus."""
    kept: list[TimelineSegment] = []
    for one in sorted(segments, key=lambda one: -one.score):
        if all(min(one.end, other.end) - max(one.start, other.start) <= _OVERLAP for other in kept):
            kept.append(one)
    return kept


_HEIGHTS = ("left_wrist", "right_wrist", "pelvis", "left_ankle", "right_ankle")
_REACH, _SPEED = "hands apart", "hips' speed"
CURVES = (*(name.replace("_", " ") for name in _HEIGHTS), _REACH, _SPEED)


def curves(poses: Floats, times: NDArray[np.float64]) -> dict[str, list[float]]:
    """What a person can read of native poses (T, 16, 4) at so many seconds (T,): `CURVES` by name, lengths in torsos, and
    the clock. Heights are above where the hips are on average."""
    joint = {name: poses[:, n, :3].astype(np.float64) for n, name in enumerate(BODY16.joints)}
    torso = float(np.median(np.linalg.norm(joint["neck"] - joint["pelvis"], axis=1))) or 1.0
    heights = [(joint[name][:, 1] - joint["pelvis"][:, 1].mean()) / torso for name in _HEIGHTS]
    apart = np.linalg.norm(joint["left_wrist"] - joint["right_wrist"], axis=1) / torso
    steps = np.linalg.norm(np.diff(joint["pelvis"], axis=0, prepend=joint["pelvis"][:1]), axis=1)
    speed = steps / np.diff(times, prepend=times[0] - 1) / torso
    shown = dict(zip(CURVES, [*heights, apart, speed], strict=True))
    return {labelstudio.CLOCK: times.round(6).tolist()} | {name: one.round(4).tolist() for name, one in shown.items()}
