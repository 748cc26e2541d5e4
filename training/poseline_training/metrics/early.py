"""Early recognition (Ryoo, ICCV 2011): whether the class is known so many seconds into an action.

It bounds what any decoder can say of starts: before the class leads, there is nothing to announce.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from poseline.formats.corpus import FPS, runs
from poseline.skeleton import Floats

SECONDS = (0.1, 0.2, 0.3, 0.5, 0.75, 1.0)


def early_accuracy(scores: Sequence[Floats], labels: Sequence[NDArray[np.int64]], seconds: float) -> float:
    """Share of the instances that last so long whose class has the highest score `seconds` after their start; NaN if none.

    scores (T, 1 + K), labels (T,) of every sequence. Background counts as an answer, and as a wrong one.
    """
    at = round(seconds * FPS)
    right = [
        bool(scored[start + at].argmax() == label)
        for scored, labelled in zip(scores, labels, strict=True)
        for start, end, label in runs(labelled)
        if label > 0 and start + at < end
    ]
    return float(np.mean(right)) if right else math.nan
