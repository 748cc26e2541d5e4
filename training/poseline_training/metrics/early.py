"""Early recognition (Ryoo, ICCV 2011): whether the class is known so many seconds into an action, or so far into a clip."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from poseline.formats.corpus import FPS
from poseline.skeleton import Floats
from poseline_training.metrics.segments import Truth

SECONDS = (0.1, 0.2, 0.3, 0.5, 0.75, 1.0)
SHARES = (0.1, 0.25, 0.5, 0.75, 1.0)


def early_accuracy(scores: Sequence[Floats], truths: Sequence[Sequence[Truth]], seconds: float) -> float:
    """Share of the instances that last so long whose class has the highest score `seconds` after their start; NaN if none.

    scores (T, 1 + K) and truths of every sequence. Background counts as an answer, and as a wrong one. This bounds what
    any decoder can say of starts: before the class leads, there is nothing to announce.
    """
    right = [
        bool(scored[round((start + seconds) * FPS)].argmax() == label)
        for scored, true in zip(scores, truths, strict=True)
        for start, end, label in true
        if round((start + seconds) * FPS) < round(end * FPS)
    ]
    return float(np.mean(right)) if right else math.nan


def recognition_accuracy(scores: Sequence[Floats], labels: Sequence[NDArray[np.int64]], share: float) -> float:
    """Of trimmed clips, the share that is recognised when so much of the clip is over: by the highest mean score so far of
    any action, since that one of them takes place is given.

    scores (T, 1 + K), labels (T,) of every clip, each of one action and perhaps idle margins. NaN without clips.
    """
    right: list[bool] = []
    for scored, labelled in zip(scores, labels, strict=True):
        seen = max(1, round(share * len(scored)))
        right.append(bool(1 + scored[:seen, 1:].mean(axis=0).argmax() == labelled.max()))
    return float(np.mean(right)) if right else math.nan
