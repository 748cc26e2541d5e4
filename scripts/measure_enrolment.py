"""What classes from a few examples are worth: classes and a set that the network has never been taught, beside dynamic time
warping on raw joints. Writes docs/results/enrolment.json, from which docs/enrolment.md has its table.

    python scripts/measure_enrolment.py runs/without-utkinect utkinect untrimmed runs/left-out-classes utd_mhad stitched …

Each run with a set: the set's classes that the run lacks, or all of a set that it has not seen, are enrolled, one at a time,
from 1, 3 and 5 stretches of the people in train and val, drawn anew three times, and looked for in test. Frame AP is of the
class alone among all frames; segments come from the shipped decoder at the shipped thresholds, false alarms are its finals
an hour in recordings of the same set that hold none of the class, and in motion capture of other classes in styles that no
training saw. What enrolling costs the classes that the run knows need not be measured: nothing, to the last bit.

Dynamic time warping is given every advantage: subsequences by SPRING's recursion (Sakurai et al., ICDE 2007) on joints about
the pelvis, by torso length, at 10 frames a second, distances per template frame; each frame scores as the best match that
covers it, which is not known online.
"""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track

from poseline.decoding import DecodingOptions, SegmentDecoder
from poseline.enrolment import EnrolledClass, Example, answer, enrol
from poseline.errors import InputError
from poseline.formats.corpus import FPS, LabelledSequence, read_corpus, runs
from poseline_training.bank import draw_bank
from poseline_training.config import FinetuneSettings
from poseline_training.corpus import common_labels, native
from poseline_training.finetune import finetuned
from poseline_training.metrics.segments import segment_ap
from poseline_training.network.localizer import Localizer
from poseline_training.running import RESOLVED

COUNTS, DRAWS, LABEL = (1, 3, 5), 3, 1
_LEAST = 12
"""Frames of a stretch that may be an example."""


class Seen:
    """A sequence as the network sees it: vectors (T, D), scores (T, 1 + K), borders (T, 2), poses for warping."""

    def __init__(self, network: Localizer, one: LabelledSequence, label_map: Path) -> None:
        poses = native(one)
        with torch.no_grad():
            vectors = network.encode(torch.from_numpy(poses)[None])
            logits, borders = network.heads_of(vectors)[0]
        self.vectors = vectors[0].numpy()
        self.scores, self.borders = logits[0].softmax(-1).numpy(), borders[0].sigmoid().numpy()
        self.names = common_labels(one, label_map)
        self.labels = one.labels[: len(poses)]
        about = poses[:, :, :3] - poses[:, :1, :3]
        torso = np.median(np.linalg.norm(about[:, 2], axis=-1)) or 1.0
        self.slow = (about / torso).reshape(len(poses), -1)[::3].astype(np.float32)


def average_precision(scores: np.ndarray, truth: np.ndarray) -> float:
    order = np.argsort(-scores, kind="stable")
    hits = truth[order]
    return float((np.cumsum(hits) / np.arange(1, len(hits) + 1))[hits].mean())


def warped(stream: np.ndarray, templates: list[np.ndarray]) -> np.ndarray:
    """(T,) minus the least distance of a subsequence that covers each frame, per frame of its template."""
    best = np.full(len(stream), np.inf)
    for template in templates:
        distance = np.linalg.norm(stream[:, None] - template[None], axis=-1)
        cost, start = np.full(len(template), np.inf), np.zeros(len(template), int)
        for t, row in enumerate(distance):
            fresh, began = np.empty_like(cost), np.empty_like(start)
            fresh[0], began[0] = row[0], t
            for i in range(1, len(template)):
                options = (fresh[i - 1], cost[i], cost[i - 1])
                which = int(np.argmin(options))
                fresh[i] = row[i] + options[which]
                began[i] = (began[i - 1], start[i], start[i - 1])[which]
            cost, start = fresh, began
            np.minimum(best[start[-1] : t + 1], cost[-1] / len(template), out=best[start[-1] : t + 1])
    return -best


def finals(tracks: list[np.ndarray], borders: list[np.ndarray]) -> list[list[tuple[float, float, int, float]]]:
    """What the shipped decoder tells of one class's scores (T,)."""
    told: list[list[tuple[float, float, int, float]]] = []
    for scores, ends in zip(tracks, borders, strict=True):
        if scores.max() < DecodingOptions().min_score:  # nothing opens
            told.append([])
            continue
        decoder, alone = SegmentDecoder(1, 1), np.array([0])
        decoder.open(0, DecodingOptions())
        both = np.stack([1 - scores, scores], 1).astype(np.float32)
        decided = [one for t in range(len(scores)) for _, one in decoder.push(alone, both[t : t + 1], ends[t : t + 1])]
        decided += decoder.flush(0, "close")
        told.append([(e.start / FPS, e.end / FPS, LABEL, e.score) for e in decided if e.phase == "final"])
    return told


def answers(one: EnrolledClass, seen: Seen) -> np.ndarray:
    """The class' scores (T,), alone beside those that the network knows."""
    return answer(seen.scores, seen.vectors, np.array(one.weights)[:, None], np.array([one.bias]))[:, -1]


class Case:
    """One run and one set: who shows, who is looked at, and what else there is."""

    def __init__(self, run: Path, root: Path, corpus: str, kind: str) -> None:
        self.network, self.classes = finetuned(run)
        settings = FinetuneSettings.load(run / RESOLVED)
        data = settings.data.model_copy(update={"root": root, "label_map": root / "unified_labels.json"})
        self.bank = draw_bank(self.network, settings.model_copy(update={"data": data}))
        self.new = corpus not in [one.corpus for one in settings.data.sets]
        self._root, self._map = root, root / "unified_labels.json"
        self.shown = [one for split in ("train", "val") for one in self._seen(corpus, f"{kind}_{split}")]
        self.tested = self._seen(corpus, f"{kind}_test")
        styles = {style for one in settings.data.sets for style in one.styles or ()}
        mocap = [
            one
            for file in ("trimmed_train_dataset1", "trimmed_train_dataset2")
            for one in read_corpus(root / "bandai_namco" / f"{file}.npz")[::3]
            if one.style not in styles
        ]
        self.foreign = [Seen(self.network, one, self._map) for one in mocap]

    def _seen(self, corpus: str, file: str) -> list[Seen]:
        read = read_corpus(self._root / corpus / f"{file}.npz")
        return [Seen(self.network, one, self._map) for one in track(read, file, transient=True)]

    def unknown(self) -> list[int]:
        """The set's classes that the run lacks; all of them where it has seen nothing of the set."""
        return [k for k, name in enumerate(self.tested[0].names) if k and (self.new or name not in self.classes)]

    def examples(self, label: int, count: int, rng: np.random.Generator) -> list[tuple[Example, np.ndarray]]:
        """Stretches, and their poses for warping."""
        found = [
            (one, first, stop)
            for one in self.shown
            for first, stop, k in runs(one.labels)
            if k == label and stop - first >= _LEAST
        ]
        if len(found) < count:
            raise InputError(f"{len(found)} stretches show class {label}")
        some = [found[i] for i in rng.permutation(len(found))[:count]]
        return [(Example(one.vectors, a, b), one.slow[a // 3 : max(b // 3, a // 3 + 2)]) for one, a, b in some]


def judged(case: Case, label: int, count: int, rng: np.random.Generator) -> dict[str, float]:
    drawn = case.examples(label, count, rng)
    name = case.tested[0].names[label]
    one = enrol("it", "", [example for example, _ in drawn], case.bank, datetime.now(UTC))
    tested = case.tested
    known = np.concatenate([seen.labels for seen in tested]) >= 0
    truth = np.concatenate([seen.labels == label for seen in tested])[known]
    scores = [answers(one, seen) for seen in tested]
    told = finals(scores, [seen.borders for seen in tested])
    truths = [[(a / FPS, b / FPS, LABEL) for a, b, k in runs(seen.labels) if k == label] for seen in tested]
    elsewhere = [seen for seen in case.foreign if name not in seen.names[seen.labels.max()]]
    away = finals([answers(one, seen) for seen in elsewhere], [seen.borders for seen in elsewhere])
    without = [n for n, seen in enumerate(tested) if not (seen.labels == label).any()]
    hours = sum(len(tested[n].labels) for n in without) / FPS / 3600
    by_warping = np.concatenate(
        [warped(seen.slow, [slow for _, slow in drawn]).repeat(3)[: len(seen.labels)] for seen in tested]
    )
    return {
        "frame_ap": average_precision(np.concatenate(scores)[known], truth),
        "segment_ap": segment_ap(told, truths, LABEL, 0.5),
        "segment_ap_at_.3": segment_ap(told, truths, LABEL, 0.3),
        "false_an_hour_same_set": sum(len(told[n]) for n in without) / hours if hours else float("nan"),
        "false_an_hour_motion_capture": sum(map(len, away))
        / (sum(len(seen.labels) for seen in elsewhere) / FPS / 3600),
        "warping_frame_ap": average_precision(by_warping[known], truth),
        "chance": float(truth.mean()),
    }


def measure(run: Path, root: Path, corpus: str, kind: str) -> dict[str, Any]:
    case = Case(run, root, corpus, kind)
    unknown, found = case.unknown(), dict[str, Any]()
    for count in COUNTS:
        each = list[dict[str, float]]()
        for label in track(unknown, f"{corpus}: {count} examples", transient=True):
            for draw in range(DRAWS):
                each.append(judged(case, label, count, np.random.default_rng((label, draw))))
        found[str(count)] = {name: round(float(np.nanmean([one[name] for one in each])), 4) for name in each[0]}
    names = [case.tested[0].names[k] for k in unknown]
    return {"run": run.name, "corpus": corpus, "classes": names, "examples": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--output", type=Path, default=Path("docs/results/enrolment.json"))
    parser.add_argument("cases", nargs="+", help="run corpus kind, three words each")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    cases = [asked.cases[i : i + 3] for i in range(0, len(asked.cases), 3)]
    found = [measure(Path(run), asked.data, corpus, kind) for run, corpus, kind in cases]
    text = json.dumps(found, indent=2).replace("NaN", "null")  # no recording of the set lacks the class
    asked.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
