"""Temperature scaling on made-up scores whose right temperature is known."""

import numpy as np
import pytest

from poseline.errors import InputError
from poseline_training.metrics.calibration import top_reliability
from poseline_training.temperature import fit_temperature, tempered


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return (powers / powers.sum(1, keepdims=True)).astype(np.float32)


def drawn(seed: int, frames: int, spread: float) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels that come true as often as these say."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, spread, (frames, 7))
    return logits, (logits + rng.gumbel(size=logits.shape)).argmax(1)


def surprise(scores: np.ndarray, labels: np.ndarray) -> float:
    return float(-np.log(scores[np.arange(len(labels)), labels].astype(np.float64)).mean())


@pytest.mark.parametrize("temperature", [0.4, 1.0, 1.7, 6.0])
def test_the_temperature_that_was_taken_away_is_found(temperature: float) -> None:
    logits, labels = drawn(0, 60_000, 2.0)
    told = softmax(logits * temperature)
    found = fit_temperature(told, labels)
    assert found == pytest.approx(temperature, rel=0.02)
    assert np.abs(tempered(told, temperature) - softmax(logits)).max() < 1e-5
    assert top_reliability(tempered(told, found), labels).error() < 0.01


def test_no_other_temperature_is_likelier() -> None:
    logits, labels = drawn(1, 500, 3.0)
    told = softmax(logits)
    found = fit_temperature(told, labels)
    best = surprise(tempered(told, found), labels)
    others = [surprise(tempered(told, other), labels) for other in np.geomspace(0.05, 20, 400)]
    assert best <= min(others) + 1e-7
    assert surprise(tempered(told, found * 1.01), labels) > best < surprise(tempered(told, found / 1.01), labels)


def test_scores_that_are_sure_of_what_is_wrong_are_borne() -> None:
    """Of a network so sure that its scores are 0 and 1, and wrong in a fifth: still a finite temperature."""
    logits, labels = drawn(2, 4000, 8.0)
    told = softmax(logits * 40)
    assert (told == 0).any()
    wrong = told.argmax(1) != labels
    assert 0.05 < wrong.mean() < 0.5
    found = fit_temperature(told, labels)
    assert surprise(tempered(told, found), labels) < surprise(np.maximum(told, 1e-38), labels)


@pytest.mark.parametrize("right", [True, False])
def test_scores_that_are_never_wrong_or_never_right_have_none(right: bool) -> None:
    logits, _ = drawn(3, 100, 2.0)
    told = softmax(logits)
    labels = told.argmax(1) if right else told.argmin(1)
    with pytest.raises(InputError, match="no temperature"):
        fit_temperature(told, labels)
