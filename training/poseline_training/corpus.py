"""Everything to train on, in one space: native poses and labels in the model's own classes.

Corpora come through the domain's reader and converter, the very ones that the server uses; the scripted actor is one
corpus more. A class that the model lacks becomes -1: neither action nor background.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from poseline.actor import ACTIONS, perform
from poseline.errors import CorpusError
from poseline.formats.corpus import FPS, LabelledSequence, read_corpus, read_label_map
from poseline.pose import PoseConverter
from poseline.skeleton import Floats
from poseline_training.config import ActorSettings, DataSettings, SetSettings


@dataclass(frozen=True)
class TrainingSequence:
    """poses (T, 16, 4) native; labels (T,) in the model's classes, 0 background, -1 ignore; person: subject and view."""

    poses: Floats
    labels: NDArray[np.int64]
    person: str


@dataclass(frozen=True)
class TrainingSet:
    name: str
    sequences: tuple[TrainingSequence, ...]
    weight: float
    restitch: float


@dataclass(frozen=True)
class TrainingData:
    classes: tuple[str, ...]
    sets: tuple[TrainingSet, ...]

    def class_shares(self) -> NDArray[np.float64]:
        """(1 + K,) share of each class among the labelled frames that training will see."""
        shares = np.zeros(len(self.classes))
        for one in self.sets:
            labels = np.concatenate([s.labels for s in one.sequences])
            counts = np.bincount(labels[labels >= 0], minlength=len(shares))
            shares += one.weight * counts / max(1, counts.sum())
        return shares / shares.sum()

    def draw_weights(self, balance: float) -> NDArray[np.float64] | None:
        """(1 + K,) class share^-balance, of mean 1 over action frames; None where all are alike.

        Background is in every recording: it weighs nothing, neither way.
        """
        if not balance:
            return None
        shares = np.clip(self.class_shares(), 1e-4, None)
        shares[0] = 0
        weights = np.zeros(len(shares))
        weights[1:] = shares[1:] ** -balance
        return weights * (shares.sum() / (weights @ shares))


def common_labels(sequence: LabelledSequence, label_map: Path | None) -> tuple[str, ...]:
    """The sequence's own class names, as the common ones."""
    names = read_label_map(label_map, sequence.corpus) if label_map else {}
    return tuple(names.get(name, name) for name in sequence.classes)


def in_classes(labels: NDArray[np.int64], names: tuple[str, ...], classes: tuple[str, ...]) -> NDArray[np.int64]:
    """Labels of classes `names` as labels of `classes`; -1 for those that `classes` lacks."""
    index = {name: i for i, name in enumerate(classes)}
    table = np.array([index.get(name, -1) for name in names] + [-1])
    return table[labels]


def is_foreign(labels: NDArray[np.int64]) -> bool:
    """Whether the sequence holds none of the classes: all that it shows is of other ones."""
    return bool((labels <= 0).all() and (labels < 0).any())


def native(sequence: LabelledSequence) -> Floats:
    """(T, 16, 4) in the model's own space."""
    poses = sequence.poses
    return PoseConverter(poses.layout, poses.coordinates)(poses.joints, poses.confidence)


def load_training_data(settings: DataSettings) -> TrainingData:
    read = [(one, _read(settings, one)) for one in settings.sets]
    own = [sequences for one, sequences in read if one.classes == "own"]
    classes = settings.classes or _all_classes(settings, own)
    sets = [_training_set(settings, one, sequences, classes) for one, sequences in read]
    if settings.actor:
        sets.append(_actor_set(settings.actor, classes))
    if not sets:
        raise ValueError("data names neither sets nor an actor: there is nothing to train on")
    return TrainingData(classes, tuple(sets))


def _read(settings: DataSettings, one: SetSettings) -> list[LabelledSequence]:
    sequences = [s for file in one.files for s in read_corpus(settings.root / one.corpus / f"{file}.npz")]
    return [
        s
        for s in sequences
        if len(s.labels) >= one.min_seconds * FPS
        and s.subject not in one.without
        and (one.styles is None or s.style in one.styles)
    ]


def _all_classes(settings: DataSettings, read: list[list[LabelledSequence]]) -> tuple[str, ...]:
    names = ["background"]
    for sequences in read:
        names += common_labels(sequences[0], settings.label_map)[1:]
    if settings.actor:
        names += ACTIONS
    return tuple(dict.fromkeys(names))


def _training_set(
    settings: DataSettings, one: SetSettings, sequences: list[LabelledSequence], classes: tuple[str, ...]
) -> TrainingSet:
    made: list[TrainingSequence] = []
    for s in sequences:
        labels = in_classes(s.labels, common_labels(s, settings.label_map), classes)
        if one.classes == "shared" and not (labels > 0).any():
            continue
        if one.classes == "foreign":
            if not is_foreign(labels):
                continue
            labels = np.zeros_like(labels)
        made.append(TrainingSequence(native(s), labels, f"{s.subject}/{s.view}"))
    if not made:
        raise CorpusError(f"nothing is left of {one.corpus} to train on")
    return TrainingSet(one.corpus, tuple(made), one.weight, one.restitch)


def _actor_set(settings: ActorSettings, classes: tuple[str, ...]) -> TrainingSet:
    made: list[TrainingSequence] = []
    for seed in range(settings.seed, settings.seed + settings.streams):
        performance = perform(seed, seconds=settings.seconds, fps=FPS)
        poses = performance.poses
        labels = np.zeros(len(poses), np.int64)
        for segment in performance.segments:
            label = classes.index(segment.label) if segment.label in classes else -1
            labels[round(segment.start * FPS) : round(segment.end * FPS)] = label
        joints = PoseConverter(poses.layout, poses.coordinates)(poses.joints, poses.confidence)
        made.append(TrainingSequence(joints, labels, str(seed)))
    return TrainingSet("actor", tuple(made), settings.weight, 0.0)
