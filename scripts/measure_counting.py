"""How well repetitions are counted, by the shipped network and its counter and by other ways: docs/results/counting.json.

    PYTHONPATH=tests python scripts/measure_counting.py --data ../shared/data

Repetitions are composed: a person's executions of one class, in random order, each whole or cut to where something moves, at
one tempo a stream and its own a little beside it, joined by bridges (`bridges`), between two other actions. The counter is
given the frames from the first execution's first to the last one's last; `as told` is what a stream would have been told,
the sum over all finals of the class in there. Real segments have no truth but this: a sitting down is one. And the video,
whose raises are counted in the curve of the wrists' height.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from poseline.bundle import ModelBundle, find_bundle
from poseline.counting import RepetitionCounter, distances, repetitions, there_and_back
from poseline.enrolment import Vocabulary
from poseline.formats.corpus import FPS, LabelledSequence, read_corpus, runs
from poseline.pose import PoseConverter
from poseline.skeleton import Floats
from poseline.spans import SpanDecoder
from poseline.stepping import StepScorer
from poseline.whole import grid_frames
from poseline_service.engine import open_scorer
from poseline_training.bridges import Joiner
from poseline_training.corpus import common_labels, native
from poseline_training.results.figures import rounded
from poseline_video import MODEL
from poseline_video.extraction import extract_people

TIMES = (1, 2, 3, 4, 5, 6, 8, 10)
MANY_IN_ONE = {"wave", "clap", "boxing", "knock", "jog", "walk"}
"""Classes of which one clip already holds several: what is true of a stream of them is not known."""
ONE_WAY = {"sit_to_stand", "stand_to_sit"}
"""Classes that cannot follow themselves: once each."""
TEMPO, WAVERING = (0.8, 1.5), (0.9, 1.1)
SIDE_BY_SIDE = 64
SHORTEST = 9
REAL = (("utkinect", "untrimmed_test"), ("precog", "untrimmed_test"), ("nw_ucla", "trimmed_test"))
VIDEO, RAISES = "lateral_raise_single.mp4", 4
RAISED = 0.3
"""Metres of the wrists above the pelvis, on average: higher is up."""
EVERY, LONGEST = 4, 6.0
"""For the other ways: frames between samples, and seconds of the longest period."""

Stretch = tuple[int, int]
Way = Callable[[Floats], int]


@dataclass(frozen=True)
class Stream:
    """poses (T, 16, 4) native; stretch: half-open, of the `times` executions of class `name` (common: the model's name)."""

    poses: Floats
    stretch: Stretch
    times: int
    name: str
    common: str


def moving(poses: Floats) -> Floats:
    """From a little before anything moves to a little after."""
    kernel = np.full(5, 0.2)
    flat = poses[..., :3].reshape(len(poses), -1)
    smooth = np.stack([np.convolve(one, kernel, "same") for one in flat.T], axis=1).reshape(len(poses), -1, 3)
    speed = np.linalg.norm(np.diff(smooth, axis=0), axis=-1).max(axis=1)
    speed[:5], speed[-5:] = 0, 0  # the mean has its edges there
    found = np.flatnonzero(speed > 0.2 * np.quantile(speed, 0.95))
    return poses[max(0, found[0] - 4) : found[-1] + 6]


def at_tempo(poses: Floats, tempo: float) -> Floats:
    at = np.linspace(0, len(poses) - 1, max(10, round(len(poses) / tempo)))
    before = np.minimum(at.astype(np.int64), len(poses) - 2)
    share = (at - before)[:, None, None]
    return (poses[before] * (1 - share) + poses[before + 1] * share).astype(np.float32)


def composed(clips: Sequence[LabelledSequence], label_map: Path, seed: int = 0) -> Iterator[Stream]:
    rng = np.random.default_rng(seed)
    people: dict[str, dict[str, list[LabelledSequence]]] = {}
    for one in clips:
        people.setdefault(one.subject, {}).setdefault(one.classes[one.labels.max()], []).append(one)
    for classes in people.values():
        for name, executions in classes.items():
            others = [native(one) for other, some in classes.items() if other != name for one in some]
            common = common_labels(executions[0], label_map)[executions[0].labels.max()]
            for times in TIMES if name not in ONE_WAY else (1,):
                for whole in (True, False):
                    order = np.concatenate([rng.permutation(len(executions)) for _ in range(times)])[:times]
                    poses = [native(executions[i]) for i in order]
                    tempo = rng.uniform(*TEMPO)
                    cut = poses if whole else [moving(one) for one in poses]
                    done = [at_tempo(one, tempo * rng.uniform(*WAVERING)) for one in cut]
                    yield joined([others[rng.integers(len(others))], *done, others[rng.integers(len(others))]],
                                 times, name, common, rng)  # fmt: skip


def joined(pieces: list[Floats], times: int, name: str, common: str, rng: np.random.Generator) -> Stream:
    joiner = Joiner([(one, np.zeros(len(one), np.int64)) for one in pieces])
    parts = [one for one, _ in joiner.stream(range(len(pieces)), rng)]  # every second one is a bridge
    ends = np.cumsum([len(one) for one in parts])
    return Stream(np.concatenate(parts), (int(ends[1]), int(ends[2 * times])), times, name, common)


def answers(scorer: StepScorer, poses: Sequence[Floats]) -> list[list[Floats]]:
    """Scores, boundaries and vectors of every frame of each sequence, scored side by side."""
    found: list[list[Floats]] = []
    for first in range(0, len(poses), SIDE_BY_SIDE):
        some = poses[first : first + SIDE_BY_SIDE]
        slots, steps = np.array([scorer.open() for _ in some]), [list[tuple[Floats, ...]]() for _ in some]
        for t in range(max(map(len, some))):
            on = [n for n, one in enumerate(some) if t < len(one)]
            answer = scorer.step(slots[on], np.stack([some[n][t] for n in on]))
            for row, n in enumerate(on):
                steps[n].append(tuple(one[row] for one in answer))
        for slot in slots:
            scorer.close(int(slot))
        found += [[np.stack(one) for one in zip(*of, strict=True)] for of in steps]
    return found


# --- ways to count -----------------------------------------------------------------------------------------------


def shipped(vectors: Floats) -> int:
    counter, slot = RepetitionCounter(1), np.zeros(1, np.int64)
    for t, one in enumerate(vectors):
        counter.push(slot, np.array([t]), one[None])
    return counter.count(0, len(vectors), 0, len(vectors))


def _centred(vectors: Floats) -> Floats:
    sampled = vectors[::EVERY].astype(np.float64)
    return sampled - sampled.mean(axis=0)


def crossings(vectors: Floats) -> int:
    """There and back along the first principal component, whether or not anything comes back."""
    return max(1, there_and_back(_centred(vectors)))


def _period(centred: Floats) -> float | None:
    """The least lag, in samples, at which the distance is a dip, near the deepest one and below .8; YIN."""
    last = min(int(LONGEST * FPS / EVERY), len(centred) // 2)
    d = np.array(distances(centred, range(1, last + 2))) if last > 2 else np.ones(0)
    dips = [i for i in range(1, len(d) - 1) if d[i - 1] >= d[i] < d[i + 1] and d[i] < 0.8]
    return next((i + 1.0 for i in dips if d[i] <= min(d[dips]) + 0.1), None)


def period(vectors: Floats) -> int:
    """Duration by period."""
    centred = _centred(vectors)
    found = _period(centred)
    return 1 if found is None else max(1, round(len(centred) / found))


def winding(vectors: Floats) -> int:
    """Turns about the middle, in the plane of the period's first harmonic."""
    centred = _centred(vectors)
    found = _period(centred)
    if found is None:
        return 1
    harmonic = np.exp(-2j * np.pi * np.arange(len(centred)) / found) @ centred
    width = max(1, int(found / 4))
    phase = np.unwrap(np.angle(np.convolve(centred @ harmonic.conj(), np.full(width, 1 / width), "same")))
    return max(1, round(abs(phase[-1] - phase[0]) / 2 / np.pi))


def plain(poses: Floats) -> Floats:
    """(T, 48): joints about the pelvis, and its height."""
    joints = poses[..., :3] - poses[:, :1, :3]
    joints[:, 0, 1] = poses[:, 0, 1]
    return joints.reshape(len(poses), -1)


VECTORS: dict[str, Way] = {
    "there and back, and like itself (shipped)": shipped,
    "there and back alone": crossings,
    "duration by period": period,
    "turns about the first harmonic": winding,
}
JOINTS: dict[str, Way] = {
    "raw joints: there and back, and like itself": lambda one: repetitions(one[::EVERY]),
    "raw joints: there and back alone": crossings,
    "raw joints: duration by period": period,
}


# --- figures -----------------------------------------------------------------------------------------------------


def told(bundle: ModelBundle, stream: Stream, answer: Sequence[Floats]) -> int:
    """What the finals of the class in the stretch say, together."""
    slot, manifest = np.zeros(1, np.int64), bundle.manifest
    decoder = SpanDecoder(Vocabulary(manifest), 1, manifest.look_ahead, counting=True)
    decoder.open(0, manifest.decoding)
    decoder.begin(0, 0.0)
    events = [
        event
        for t in range(len(stream.poses))
        for _, event in decoder.push(slot, [t / FPS], *(one[t : t + 1] for one in answer)).events
    ]
    start, end = (one / FPS for one in stream.stretch)
    return sum(
        event.repetitions or 0
        for event in events
        if event.phase == "final" and event.label == stream.common and event.start < end and event.end > start
    )


def figures(true: Sequence[int], counted: Sequence[int]) -> dict[str, Any]:
    n, off = np.array(true), np.abs(np.array(counted) - np.array(true))
    many = n > 1
    by = {f"{a} to {b}": off[(n >= a) & (n <= b)] for a, b in ((2, 3), (4, 6), (8, 10))}
    return {
        "streams": int(many.sum()),
        "mean_error": float(off[many].mean()),
        "by_times": {name: float(some.mean()) for name, some in by.items()},
        "within_one": float((off[many] <= 1).mean()),
        "largest_error": int(off.max()),
        "single_wrong": float((off[n == 1] > 0).mean()),
    }


def real(bundle: ModelBundle, scorer: StepScorer, data: Path) -> dict[str, Any]:
    """Of every class of real segments: how many, their seconds, and how often they count as so many."""
    found: dict[str, Any] = {}
    for corpus, split in REAL:
        sequences = read_corpus(data / corpus / f"{split}.npz")
        for one, answer in zip(sequences, answers(scorer, [native(one) for one in sequences]), strict=True):
            for start, end, *_ in runs(one.labels):
                if end - start >= SHORTEST:
                    of = found.setdefault(f"{corpus}: {one.classes[one.labels[start]]}", {"seconds": [], "counts": {}})
                    times = str(shipped(answer[2][start:end]))
                    of["counts"][times] = of["counts"].get(times, 0) + 1
                    of["seconds"].append((end - start) / FPS)
    for one in found.values():
        one["seconds"] = float(np.median(one["seconds"]))
    return found


def video(bundle: ModelBundle, scorer: StepScorer, path: Path, model: Path) -> dict[str, Any]:
    """The stretch from the first raise to the last, counted in the wrists' height, and what each way says of it."""
    (seen,) = extract_people(path, model=model, people=1).people.values()
    manifest = bundle.manifest
    poses = PoseConverter(seen.layout, seen.coordinates, manifest.native)(seen.joints, seen.confidence)
    poses = np.stack([frame.pose for frame in grid_frames(manifest, seen.timestamps, poses)])
    wrists = [manifest.native.joints.index(name) for name in ("left_wrist", "right_wrist")]
    up = (poses[:, wrists, 1] - poses[:, :1, 1]).mean(axis=1) > RAISED
    raises = runs(up.astype(np.int64))
    lead = raises[0][1] - raises[0][0]
    stretch = slice(max(0, raises[0][0] - lead // 2), raises[-1][1] + lead // 2)
    (answer,) = answers(scorer, [poses])
    ways = {name: way(answer[2][stretch]) for name, way in VECTORS.items()}
    ways |= {name: way(plain(poses)[stretch]) for name, way in JOINTS.items()}
    return {"file": path.name, "true": len(raises), "counted": ways}


def main(
    data: Annotated[Path, typer.Option(help="Folder of corpora, and of the video in it.", exists=True)],
    pose: Annotated[Path, typer.Option(help="Folder of the pose extractor.")] = Path("pose"),
    models: Annotated[Path, typer.Option(help="Folder of model bundles.")] = Path("models"),
    splits: Annotated[list[str], typer.Option("--split", help="People.")] = ["train", "val", "test"],  # noqa: B006
    output: Annotated[Path, typer.Option(help="JSON file of the figures.")] = Path("docs/results/counting.json"),
) -> None:
    bundle = find_bundle(models)
    scorer = open_scorer(bundle, SIDE_BY_SIDE)
    found: dict[str, Any] = {"model": f"{bundle.manifest.name} {bundle.manifest.version}", "composed": {}}
    for split in splits:
        clips = read_corpus(data / "utd_mhad" / f"trimmed_{split}.npz")
        clips = [one for one in clips if one.classes[one.labels.max()] not in MANY_IN_ONE]
        counts: dict[str, list[int]] = {}
        true: list[int] = []
        streams = list(composed(clips, data / "unified_labels.json"))
        for first in range(0, len(streams), SIDE_BY_SIDE):
            some = streams[first : first + SIDE_BY_SIDE]
            for one, answer in zip(some, answers(scorer, [one.poses for one in some]), strict=True):
                stretch = slice(*one.stretch)
                true.append(one.times)
                for name, way in VECTORS.items():
                    counts.setdefault(name, []).append(way(answer[2][stretch]))
                for name, way in JOINTS.items():
                    counts.setdefault(name, []).append(way(plain(one.poses)[stretch]))
                counts.setdefault("as told, all finals together", []).append(told(bundle, one, answer))
        found["composed"][split] = {name: figures(true, some) for name, some in counts.items()}
        typer.echo(f"{split}: {len(streams)} streams")
    found["real"] = real(bundle, scorer, data)
    found["video"] = video(bundle, scorer, data / "video" / VIDEO, pose / MODEL)
    output.write_text(json.dumps(rounded(found), indent=1) + "\n")
    typer.echo(str(output))


if __name__ == "__main__":
    typer.run(main)
