"""The table of docs/loop.md: stretches picked by each method, against picking at random.

    python scripts/study_picking.py ../shared/data runs        (needs runs/without-SET, as training/configs/ has them)

Each set is one that the run has never seen. Its training people's recordings are the pool; stretches worth so many minutes
are picked from it, a logistic regression learns the set's own classes from their labels, on the run's frozen vectors, and
frame mAP is measured on the set's validation people. No method sees a label. Five seeds: where the cuts fall, and chance.
"""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from poseline.formats.corpus import read_corpus
from poseline.picking import Method, pick, uncertainty
from poseline_training.corpus import native
from poseline_training.finetune import finetuned
from poseline_training.metrics.frames import frame_ap

SETS = {"precog": "untrimmed", "utkinect": "untrimmed", "utd_mhad": "stitched", "nw_ucla": "stitched"}
METHODS: tuple[Method, ...] = ("random", "uncertainty", "diversity", "both")
MINUTES, SECONDS, FPS, SEEDS = (2, 5, 10), 10, 30, 5
_MOST = 0.75
"""Share of the pool beyond which all methods pick the same."""


class Seen(NamedTuple):
    """vectors (T, D), scores (T, 1 + K) of the run's own classes, labels (T,) of the set's."""

    vectors: np.ndarray
    scores: np.ndarray
    labels: np.ndarray


@torch.no_grad()
def seen(data: Path, run: Path, name: str, split: str) -> tuple[list[Seen], int]:
    network, _ = finetuned(run)
    sequences = read_corpus(data / name / f"{SETS[name]}_{split}.npz")
    found: list[Seen] = []
    for one in sequences:
        vectors = network.encode(torch.from_numpy(native(one))[None])
        scores = network.classify(vectors)[0].softmax(-1)
        found.append(Seen(vectors[0].numpy(), scores.numpy(), one.labels))
    return found, len(sequences[0].classes)


def stretches(pool: list[Seen], seed: int) -> list[Seen]:
    rng, longest, cut = np.random.default_rng(seed), SECONDS * FPS, list[Seen]()
    for one in pool:
        borders = np.unique([0, *range(int(rng.integers(longest)), len(one.labels), longest), len(one.labels)])
        for first, stop in pairwise(borders.tolist()):
            if stop - first >= longest / 2 or len(borders) == 2:
                cut.append(Seen(*(part[first:stop] for part in one)))
    return cut


def taught(parts: list[Seen], classes: int, val: list[Seen]) -> float:
    """Frame mAP on `val` of a logistic regression on the parts' labels."""
    vectors, labels = (np.concatenate([getattr(one, name) for one in parts]) for name in ("vectors", "labels"))
    known = np.flatnonzero(labels >= 0)[::2]
    mean, spread = vectors[known].mean(0), vectors[known].std(0) + 1e-3
    x, y = torch.from_numpy((vectors[known] - mean) / spread), torch.from_numpy(labels[known])
    weights = torch.zeros(x.shape[1] + 1, classes, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=60, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        error = torch.nn.functional.cross_entropy(x @ weights[:-1] + weights[-1], y) + 1e-3 * (weights[:-1] ** 2).sum()
        error.backward()
        return error

    optimizer.step(loss)
    truth = np.concatenate([one.labels for one in val])
    asked = torch.from_numpy((np.concatenate([one.vectors for one in val])[truth >= 0] - mean) / spread)
    scores = (asked @ weights[:-1] + weights[-1]).softmax(-1).detach().numpy()
    truth = truth[truth >= 0]
    return float(np.mean([frame_ap(scores, truth, c) for c in np.unique(truth).tolist() if c > 0]))


def main(data: Path, runs: Path) -> None:
    torch.set_num_threads(1)
    columns: list[str] = []
    rows: dict[str, list[float]] = {method: [] for method in METHODS}
    for name in SETS:
        pool, classes = seen(data, runs / f"without-{name}", name, "train")
        val, _ = seen(data, runs / f"without-{name}", name, "val")
        for minutes in MINUTES:
            count, cuts = round(minutes * 60 / SECONDS), [stretches(pool, seed) for seed in range(1, SEEDS + 1)]
            if count > _MOST * min(map(len, cuts)):
                continue
            columns.append(f"{name} {minutes}")
            for method in METHODS:
                found: list[float] = []
                for seed, cut in enumerate(cuts):
                    places, unsure = np.stack([c.vectors.mean(0) for c in cut]), [uncertainty(c.scores) for c in cut]
                    chosen = pick(method, places, unsure, count, seed=seed)
                    found.append(taught([cut[n] for n in chosen], classes, val))
                rows[method].append(100 * float(np.mean(found)))
    print("| | " + " | ".join([*columns, "mean"]) + " |")
    for method, values in rows.items():
        print(f"| {method} | " + " | ".join(f"{value:.1f}" for value in [*values, np.mean(values)]) + " |", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
