"""Frame metrics, by hand on cases small enough to count and against the definition written out anew."""

import numpy as np
import pytest

from poseline.formats.corpus import runs
from poseline_training.metrics.calibration import class_error, reliability, selective, top_reliability
from poseline_training.metrics.early import early_accuracy, recognition_accuracy
from poseline_training.metrics.frames import calibrated_ap, frame_accuracy, frame_ap, frame_f1

SCORES = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.7, 0.3]], np.float32)
LABELS = np.array([0, 0, 1, 1])


def test_frame_figures() -> None:
    assert frame_accuracy(SCORES, LABELS) == 0.5
    assert frame_f1(SCORES, LABELS, 1) == 0.5
    # ranked .8 (right), .6 (wrong), .3 (right), .1: precision at the right ones 1 and 2/3
    assert frame_ap(SCORES, LABELS, 1) == pytest.approx((1 + 2 / 3) / 2)
    assert np.isnan(frame_ap(SCORES, np.zeros(4, np.int64), 1))


def test_calibrated_precision_weighs_the_wrong_ones_by_their_number() -> None:
    scores = np.array([[0, 0.9], [0, 0.8], [0, 0.7], [0, 0.6]], np.float32)
    labels = np.array([0, 1, 0, 0])  # three wrong ones to a right one: w = 3; above the right one stands one wrong one
    assert frame_ap(scores, labels, 1) == 0.5
    assert calibrated_ap(scores, labels, 1) == pytest.approx(1 / (1 + 1 / 3))
    assert calibrated_ap(scores, np.ones(4, np.int64), 1) == 1
    assert np.isnan(calibrated_ap(scores, np.zeros(4, np.int64), 1))


def test_a_random_ranking_has_half_the_calibrated_ap_however_rare_the_class() -> None:
    rng = np.random.default_rng(0)
    scores = rng.random((200_000, 2))
    for share in (0.02, 0.5):
        labels = (rng.random(len(scores)) < share).astype(np.int64)
        assert frame_ap(scores, labels, 1) == pytest.approx(share, abs=0.01)
        assert calibrated_ap(scores, labels, 1) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("levels", [5, 10_000])
def test_average_precision_is_the_sum_over_thresholds(seed: int, levels: int) -> None:
    """Each distinct score as a threshold, everything counted anew: how scikit-learn defines it. Five levels: many ties."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(3, size=60)
    column = rng.integers(levels, size=60) / levels
    scores = np.stack([1 - column, column, column], 1).astype(np.float32)
    weight = (labels != 1).sum() / (labels == 1).sum()
    plain = calibrated = 0.0
    found = 0
    for threshold in sorted(set(scores[:, 1].tolist()), reverse=True):
        said = {i for i, score in enumerate(scores[:, 1].tolist()) if score >= threshold}
        right = sum(labels[i] == 1 for i in said)
        wrong = len(said) - right
        plain += (right - found) * right / len(said)
        calibrated += (right - found) * right / (right + wrong / weight)
        found = right
    assert frame_ap(scores, labels, 1) == pytest.approx(plain / found)
    assert calibrated_ap(scores, labels, 1) == pytest.approx(calibrated / found)


def test_equal_scores_are_one_step_whatever_their_order() -> None:
    scores = np.full((4, 2), 0.5, np.float32)
    for labels in ([1, 0, 0, 0], [0, 0, 0, 1]):
        assert frame_ap(scores, np.array(labels), 1) == 0.25


# --- calibration ------------------------------------------------------------------------------------------------------


def test_calibration_by_hand() -> None:
    confidence = np.array([0.95, 0.95, 0.95, 0.95, 0.35, 0.35])
    right = np.array([True, True, True, False, True, False])
    made = reliability(confidence, right, bins=10)
    assert made.frames.tolist() == [0, 0, 0, 2, 0, 0, 0, 0, 0, 4]
    assert made.confidence[[3, 9]] == pytest.approx([0.35, 0.95])
    assert made.accuracy[[3, 9]] == pytest.approx([0.5, 0.75])
    assert made.error() == pytest.approx((2 * 0.15 + 4 * 0.20) / 6)
    assert np.isnan(made.accuracy[0])


def test_a_bin_holds_its_upper_border() -> None:
    assert reliability(np.array([0.0, 0.5, 0.500001, 1.0]), np.ones(4, bool), bins=2).frames.tolist() == [2, 2]


def test_honest_scores_have_no_calibration_error_and_boasting_has_its_excess() -> None:
    rng = np.random.default_rng(1)
    top = rng.uniform(0.5, 1, 100_000)
    labels = (rng.random(len(top)) < top).astype(np.int64)
    assert top_reliability(np.stack([1 - top, top], 1), labels).error() < 0.01
    boast = np.full((1000, 2), [0.0, 1.0])
    assert top_reliability(boast, (np.arange(1000) < 700).astype(np.int64)).error() == pytest.approx(0.3)


@pytest.mark.parametrize("seed", range(4))
def test_calibration_error_is_what_a_loop_over_bins_finds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.dirichlet(np.full(4, 0.3), 300)
    labels = rng.integers(4, size=300)

    def loop(said: list[float], true: list[bool]) -> float:
        error = 0.0
        for i in range(15):
            held = [k for k, p in enumerate(said) if i / 15 < p <= (i + 1) / 15 or (i == 0 and p == 0)]
            if held:
                error += abs(sum(said[k] for k in held) - sum(true[k] for k in held))
        return error / len(said)

    top = [max(row) for row in scores.tolist()]
    right = [row.index(max(row)) == label for row, label in zip(scores.tolist(), labels, strict=True)]
    assert top_reliability(scores, labels).error() == pytest.approx(loop(top, right))
    assert class_error(scores, labels, 2) == pytest.approx(loop(scores[:, 2].tolist(), (labels == 2).tolist()))


def test_unknown_below_a_threshold() -> None:
    assert selective(SCORES, LABELS, 0.0) == (1.0, 0.5)
    assert selective(SCORES, LABELS, 0.75) == (0.5, 1.0)
    assert selective(SCORES, LABELS, 0.65) == (0.75, pytest.approx(2 / 3))
    share, accuracy = selective(SCORES, LABELS, 0.95)
    assert share == 0
    assert np.isnan(accuracy)


def test_early_accuracy_by_hand() -> None:
    """Class 1 lasts from 0 to 12 and is known from 3 on; class 2 from 20 to 26 is known at once, another never."""
    labels = np.zeros(60, np.int64)
    labels[:12], labels[20:26], labels[40:60] = 1, 2, 1
    scores = np.eye(3)[labels]
    scores[:3] = scores[40:] = [1, 0, 0]
    asked = [scores.astype(np.float32)], [[(start / 30, end / 30, label) for start, end, label in runs(labels)]]
    assert early_accuracy(*asked, 0.0) == pytest.approx(1 / 3)
    assert early_accuracy(*asked, 0.1) == pytest.approx(2 / 3)
    assert early_accuracy(*asked, 0.2) == pytest.approx(1 / 2), "class 2 has ended"
    assert np.isnan(early_accuracy(*asked, 2.0))


def test_recognition_of_clips_by_hand() -> None:
    """Ten frames each. The first is taken for another from 3 to 5 and known on average till then and from 8 on; background
    leads throughout the second, which is known all the same; the third never is."""
    labels = [np.full(10, 1), np.r_[np.zeros(5), np.full(5, 2)].astype(np.int64), np.full(10, 2)]
    first = np.array([[0, 0.6, 0.4]] * 3 + [[0, 0.1, 0.9]] * 2 + [[0, 0.8, 0.2]] * 5, np.float32)
    second, third = np.tile(np.float32([0.9, 0.0, 0.1]), (10, 1)), np.tile(np.float32([0, 1, 0]), (10, 1))
    found = [recognition_accuracy([first, second, third], labels, share) for share in (0.1, 0.3, 0.5, 1.0)]
    assert found == pytest.approx([2 / 3, 2 / 3, 1 / 3, 2 / 3])
