"""The one number that makes a network's scores mean what they say: temperature scaling (Guo et al., ICML 2017).

Fitted on people held out, never on those that the network learnt from: there it is right more often than elsewhere. It
changes no ranking of a frame's classes, and `export` folds it into the network's weights.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from poseline.errors import InputError
from poseline.skeleton import Floats
from poseline_training.metrics.frames import Labels

Logits = NDArray[np.float64]

COLDEST, HOTTEST = 0.05, 20.0
_STEPS, _CLOSE = 60, 1e-6


def tempered(scores: Floats, temperature: float) -> Floats:
    """Scores (N, 1 + K) as they are when the logits are divided by the temperature: p^(1/T), renormalised."""
    return np.exp(_log_softmax(_logits(scores) / temperature)).astype(np.float32)


def fit_temperature(scores: Floats, labels: Labels) -> float:
    """The temperature at which scores (N, 1 + K) have the least negative log likelihood of labels (N,), none ignored.

    The likelihood's negative logarithm is convex in 1/T. Its slope there is the labels' mean logit short of the scores' own,
    and the slope's slope the logits' variance: Newton's steps, halving the bracket where one leaves it. Raises InputError
    where no temperature from .05 to 20 is best, as for scores that are never wrong.
    """
    logits = _logits(scores)
    true = logits[np.arange(len(labels)), labels]
    low, high = 1 / HOTTEST, 1 / COLDEST
    if not _slope(logits, true, low)[0] < 0 < _slope(logits, true, high)[0]:
        raise InputError(f"no temperature from {COLDEST:g} to {HOTTEST:g} fits the {len(labels)} scores best")
    sharpness = 1.0
    for _ in range(_STEPS):
        slope, bend = _slope(logits, true, sharpness)
        low, high = (sharpness, high) if slope < 0 else (low, sharpness)
        step = sharpness - slope / bend
        step = step if low < step < high else (low + high) / 2
        if abs(step - sharpness) < _CLOSE * sharpness:
            break
        sharpness = step
    return float(1 / sharpness)


def _slope(logits: Logits, true: Logits, sharpness: float) -> tuple[float, float]:
    """First and second derivative of the mean negative log likelihood by 1/T = sharpness."""
    p = np.exp(_log_softmax(logits * sharpness))
    mean = (p * logits).sum(1)
    return float((mean - true).mean()), float((p * (logits - mean[:, None]) ** 2).sum(1).mean())


def _logits(scores: Floats) -> Logits:
    """Up to a constant of each row; a score that float32 holds no more is taken for the least that it holds."""
    return np.log(np.maximum(scores, np.finfo(np.float32).tiny), dtype=np.float64)


def _log_softmax(logits: Logits) -> Logits:
    shifted = logits - logits.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
