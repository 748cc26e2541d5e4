"""Leave people out: a recipe trained once a fold without some of the people, and judged on them.

People of each own set are sorted by number, person i is held out in fold i % folds, and so are the styles of foreign sets,
which hold no class of the model. Held-out recordings go through the online path's grid and decoder; the network's scores are
kept beside each fold's run, and every figure is made from those, so decoder options are compared without training.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from poseline.decoding import DecodingOptions
from poseline.errors import InputError
from poseline.formats.corpus import LabelledSequence, read_corpus
from poseline.manifest import ModelManifest
from poseline.skeleton import Floats
from poseline.whole import WholeScorer
from poseline_training.config import FinetuneSettings, SetSettings
from poseline_training.corpus import common_labels, in_classes, is_foreign, load_training_data
from poseline_training.finetune import finetune, finetuned
from poseline_training.results.figures import figures_of, negative_figures
from poseline_training.results.measure import cpu_minutes
from poseline_training.results.networks import manifest_of, open_head
from poseline_training.running import RESOLVED
from poseline_training.streaming import StreamedSequence, stream

SCORES = "scores.npz"
REAL = "untrimmed_"
"""How files of real untrimmed recordings are called."""


@dataclass(frozen=True)
class Fold:
    """settings: without those who are held out. people, styles: corpus → who is, and which manners are."""

    number: int
    folder: Path
    settings: FinetuneSettings
    people: Mapping[str, tuple[str, ...]]
    styles: Mapping[str, tuple[str, ...]]

    def held_out(self, classes: tuple[str, ...]) -> Iterator[tuple[bool, LabelledSequence]]:
        """(whether it holds none of the classes, recording) of everything that is held out."""
        data = self.settings.data
        for one in data.sets:
            for recording in _recordings(data.root, one):
                if one.classes == "own" and recording.subject in self.people[one.corpus]:
                    yield False, recording
                elif one.classes == "foreign" and recording.style in self.styles[one.corpus]:
                    labels = in_classes(recording.labels, common_labels(recording, data.label_map), classes)
                    if is_foreign(labels):
                        yield True, recording


def plan(settings: FinetuneSettings, output: Path, folds: int, teachers: Sequence[Path] = ()) -> list[Fold]:
    """Every fold of the recipe, in `output`/<number>. teachers: folders of folds of the same number: a fold's teachers are
    theirs, who have not seen its people either. Raises InputError for teachers of the recipe's own, who have."""
    if settings.teachers and not teachers:
        raise InputError(
            "the experiment's teachers have seen the people who are held out: name the teachers' folds",
            param="teachers",
        )
    everyone, manners = _everyone(settings)
    made: list[Fold] = []
    for number in range(folds):
        people = {corpus: _held(them, number, folds) for corpus, them in everyone.items()}
        styles = {corpus: _held(them, number, folds) for corpus, them in manners.items()}
        sets: list[SetSettings] = []
        for one in settings.data.sets:
            if one.classes == "own":
                one = one.model_copy(update={"without": one.without + people[one.corpus]})
            elif one.classes == "foreign":
                kept = sorted(manners[one.corpus] - set(styles[one.corpus]))
                one = one.model_copy(update={"styles": tuple(kept)})
            sets.append(one)
        own = settings.model_copy(
            update={
                "data": settings.data.model_copy(update={"sets": tuple(sets)}),
                "teachers": tuple(teacher / str(number) for teacher in teachers),
            }
        )
        made.append(Fold(number, output / str(number), own, people, styles))
    return made


def _everyone(settings: FinetuneSettings) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """Corpus → people of own sets; corpus → styles of foreign sets: those that the recipe trains on."""
    people: dict[str, set[str]] = {}
    styles: dict[str, set[str]] = {}
    for one in settings.data.sets:
        for r in _recordings(settings.data.root, one):
            if one.classes == "own" and r.subject not in one.without:
                people.setdefault(one.corpus, set()).add(r.subject)
            elif one.classes == "foreign" and (one.styles is None or r.style in one.styles):
                styles.setdefault(one.corpus, set()).add(r.style)
    return people, styles


def _held(everyone: set[str], number: int, folds: int) -> tuple[str, ...]:
    """Sorted by number where they have one."""
    dealt = sorted(everyone, key=lambda one: (int(one) if one.isdigit() else 0, one))
    return tuple(dealt[number::folds])


def _recordings(root: Path, one: SetSettings) -> list[LabelledSequence]:
    return [recording for file in one.files for recording in read_corpus(root / one.corpus / f"{file}.npz")]


def run_fold(fold: Fold) -> None:
    """Train it, from where it stopped, and keep its scores of those who are held out; nothing if it has them already.

    Raises InputError where the folder holds a fold of other settings.
    """
    resolved = fold.folder / RESOLVED
    if resolved.exists() and FinetuneSettings.load(resolved) != fold.settings:
        raise InputError(f"{fold.folder} is a fold of other settings; name another folder", param="output")
    if (fold.folder / SCORES).exists():
        return
    finetune(fold.settings, fold.folder, resume=True)
    _, classes = finetuned(fold.folder)
    kept: dict[str, NDArray16] = {}
    for look_ahead in fold.settings.network.look_aheads:
        manifest, scorer = open_head(fold.folder, look_ahead)
        for _, recording in fold.held_out(classes):
            kept[_key(recording, look_ahead)] = _scored(manifest, scorer, recording, look_ahead)
    beside = fold.folder / f".{SCORES}"
    with beside.open("wb") as file:
        np.savez_compressed(file, **kept)  # pyright: ignore[reportArgumentType]
    beside.rename(fold.folder / SCORES)


NDArray16 = np.ndarray[Any, np.dtype[np.float16]]


def _key(recording: LabelledSequence, look_ahead: int) -> str:
    return f"{recording.corpus}/{recording.subject}/{recording.style}/{recording.name}/{look_ahead}"


def _scored(manifest: ModelManifest, scorer: WholeScorer, recording: LabelledSequence, look_ahead: int) -> NDArray16:
    """(T + look_ahead, 1 + K + 2) scores and boundaries, side by side, of every frame that the grid makes of a recording."""
    answers: list[Floats] = []

    def keep(poses: Floats) -> tuple[Floats, Floats]:
        scores, boundaries = scorer(poses)
        answers.append(np.concatenate([scores, boundaries], axis=1))
        return scores, boundaries

    stream(manifest, keep, recording, None, look_ahead)
    return np.concatenate(answers).astype(np.float16)


def _replayed(kept: NDArray16) -> WholeScorer:
    """The scores that were kept, a stretch of unbroken time after another."""
    rest = kept.astype(np.float32)

    def score(poses: Floats) -> tuple[Floats, Floats]:
        nonlocal rest
        now, rest = rest[: len(poses)], rest[len(poses) :]
        return now[:, :-2], now[:, -2:]

    return score


def figures(folds: Sequence[Fold], decoding: DecodingOptions, draws: int) -> dict[str, Any]:
    """Events and figures of all finished folds, pooled by set. Raises InputError where none is finished."""
    finished = [fold for fold in folds if (fold.folder / SCORES).exists()]
    if not finished:
        raise InputError("none of the folds is finished")
    first = finished[0].settings
    _, classes = finetuned(finished[0].folder)
    real = {one.corpus for one in first.data.sets if all(file.startswith(REAL) for file in one.files)}
    minutes = [cpu_minutes(fold.folder, fold.settings.steps) for fold in finished]
    found: dict[str, Any] = {}
    for look_ahead in first.network.look_aheads:
        manifest = manifest_of("folds", classes, look_ahead).model_copy(update={"decoding": decoding})
        sets, quiet = _streamed(finished, manifest)
        found[str(look_ahead)] = figures_of(sets, classes, real, draws) | {
            "negatives": negative_figures(quiet, classes) if quiet else None
        }
    return {
        "folds": [fold.number for fold in finished],
        "of": len(folds),
        "held_out": {str(fold.number): {**fold.people, **fold.styles} for fold in finished},
        "body": first.network.body,
        "seed": first.seed,
        "steps": first.steps,
        "cpu_minutes": None if None in minutes else round(sum(one for one in minutes if one is not None), 1),
        "init": None if first.init is None else first.init.name,
        "class_shares": _class_shares(first, classes),
        "teachers": [teacher.parent.name for teacher in first.teachers],
        "decoding": decoding.model_dump(),
        "look_aheads": found,
    }


def _class_shares(settings: FinetuneSettings, classes: tuple[str, ...]) -> dict[str, float]:
    """Of the frames that a fold trains on."""
    shares = load_training_data(settings.data).class_shares()
    return {name: round(float(share), 6) for name, share in zip(classes, shares, strict=True)}


def _streamed(
    folds: Sequence[Fold], manifest: ModelManifest
) -> tuple[dict[str, list[StreamedSequence]], list[StreamedSequence]]:
    """Corpus → what was said of its held-out people, and what of recordings without any class."""
    sets: dict[str, list[StreamedSequence]] = {}
    quiet: list[StreamedSequence] = []
    for fold in folds:
        with np.load(fold.folder / SCORES) as kept:
            for foreign, recording in fold.held_out(manifest.classes):
                scorer = _replayed(kept[_key(recording, manifest.look_ahead)])
                said = stream(manifest, scorer, recording, fold.settings.data.label_map, manifest.look_ahead)
                (quiet if foreign else sets.setdefault(recording.corpus, [])).append(said)
    return sets, quiet


def decoding_of(text: str) -> DecodingOptions:
    """`min_score=0.5,off_score=0.25` on top of the defaults. Raises InputError."""
    try:
        return DecodingOptions.model_validate(dict(one.split("=", 1) for one in text.split(",") if one))
    except ValueError as error:
        raise InputError(f"decode {text!r}: {error}", param="decode") from None


def write(found: dict[str, Any], path: Path) -> None:
    path.write_text(json.dumps(found, indent=1, allow_nan=False) + "\n")
