"""Whether a score means what it says. scores (N, 1 + K) probabilities, background first; labels (N,).

Bins are (a, b], of equal width (Guo et al., ICML 2017).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from poseline.skeleton import Floats
from poseline_training.metrics.frames import Labels

BINS = 15


@dataclass(frozen=True)
class Reliability:
    """Each (BINS,): mean score and share of right ones in a bin, NaN where it is empty; number of frames."""

    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    frames: NDArray[np.int64]

    def error(self) -> float:
        """Expected calibration error: |accuracy - confidence|, averaged over frames."""
        return float(np.nansum(abs(self.accuracy - self.confidence) * self.frames) / self.frames.sum())


def reliability(confidence: Floats, right: NDArray[np.bool_], bins: int = BINS) -> Reliability:
    """A reliability diagram: (N,) scores, and whether each came true."""
    place = np.clip(np.ceil(confidence.astype(np.float64) * bins).astype(np.int64) - 1, 0, bins - 1)
    frames = np.bincount(place, minlength=bins)
    filled = np.where(frames > 0, frames, np.nan)
    return Reliability(np.bincount(place, confidence, bins) / filled, np.bincount(place, right, bins) / filled, frames)


def top_reliability(scores: Floats, labels: Labels) -> Reliability:
    """Of each frame's highest score: the usual diagram, and with `error()` the usual ECE."""
    return reliability(scores.max(1), scores.argmax(1) == labels)


def class_error(scores: Floats, labels: Labels, label: int) -> float:
    """ECE of one class's score over all frames (class-wise: Kull et al., NeurIPS 2019)."""
    return reliability(scores[:, label], labels == label).error()


def selective(scores: Floats, labels: Labels, threshold: float) -> tuple[float, float]:
    """Coverage and accuracy where "unknown" is the answer below the threshold (El-Yaniv & Wiener, JMLR 2010)."""
    answered = scores.max(1) >= threshold
    right = scores.argmax(1) == labels
    return float(answered.mean()), float(right[answered].mean()) if answered.any() else float("nan")
