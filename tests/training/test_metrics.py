"""Each figure by hand on cases small enough to count."""

import numpy as np
import pytest

from poseline_training.metrics.frames import frame_accuracy, frame_ap, frame_f1
from poseline_training.metrics.operating import operating_point
from poseline_training.metrics.segmental import segmental_f1
from poseline_training.metrics.segments import interpolated_ap, segment_ap
from poseline_training.metrics.starts import match_starts

SCORES = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.7, 0.3]], np.float32)
LABELS = np.array([0, 0, 1, 1])


def test_frame_figures() -> None:
    assert frame_accuracy(SCORES, LABELS) == 0.5
    assert frame_f1(SCORES, LABELS, 1) == 0.5
    # ranked .8 (right), .6 (wrong), .3 (right), .1: precision at the right ones 1 and 2/3
    assert frame_ap(SCORES, LABELS, 1) == pytest.approx((1 + 2 / 3) / 2)


def test_interpolated_ap() -> None:
    assert interpolated_ap([True, False, True], 2) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert interpolated_ap([False, True, True], 2) == pytest.approx(2 / 3)
    assert interpolated_ap([], 2) == 0
    assert np.isnan(interpolated_ap([], 0))


def test_segment_ap_counts_a_truth_once() -> None:
    truths = [[(0.0, 10.0, 1), (20.0, 30.0, 1), (40.0, 50.0, 2)]]
    twice = [[(0.0, 10.0, 1, 0.9), (1.0, 10.0, 1, 0.8), (20.0, 30.0, 1, 0.7)]]
    assert segment_ap(twice, truths, 1, 0.5) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert segment_ap(twice, truths, 2, 0.5) == 0


@pytest.mark.parametrize(("threshold", "expected"), [(0.5, 1.0), (0.51, 0.0)])
def test_segment_ap_at_the_threshold_itself(threshold: float, expected: float) -> None:
    assert segment_ap([[(0.0, 5.0, 1, 1.0)]], [[(0.0, 10.0, 1)]], 1, threshold) == expected


def test_a_segment_of_another_sequence_is_no_match() -> None:
    assert segment_ap([[(0.0, 1.0, 1, 1.0)], []], [[], [(0.0, 1.0, 1)]], 1, 0.1) == 0


def test_segmental_f1_counts_foreign_classes_as_wrong() -> None:
    truths = [[(0.0, 10.0, 1)]]
    assert segmental_f1([[(0.0, 10.0, 1, 1.0)]], truths, 0.5) == 1
    assert segmental_f1([[(0.0, 10.0, 1, 1.0), (0.0, 10.0, 7, 0.1)]], truths, 0.5) == pytest.approx(2 / 3)
    assert segmental_f1([[]], truths, 0.5) == 0


def test_starts_match_the_nearest_free_one() -> None:
    true = [[(1.0, 1), (1.4, 1), (9.0, 2)]]
    found = [[(1.5, 1, 0.9), (1.6, 1, 0.8), (5.0, 1, 0.7)]]
    ap, delays = match_starts(found, true, 1, 1.0)
    assert ap == 1
    assert delays == pytest.approx([0.1, 0.6])
    ap, delays = match_starts(found, true, 1, 0.3)
    assert ap == pytest.approx(0.5)
    assert delays == pytest.approx([0.1])


def test_an_early_start_has_negative_delay() -> None:
    assert match_starts([[(0.5, 1, 1.0)]], [[(1.0, 1)]], 1, 1.0)[1] == [-0.5]


def test_the_operating_point_by_hand() -> None:
    truths = [[(0.0, 10.0, 1), (20.0, 30.0, 2)]]
    finals = [[(1.0, 10.5, 1, 10.6), (1.0, 9.0, 1, 10.7), (40.0, 41.0, 2, 41.5)]]
    found = operating_point(finals, truths, started=4, retracted=1, minutes=2.0)
    assert found["found"] == 0.5
    assert (found["start_error"], found["end_error"]) == (1.0, 0.5)
    assert found["final_delay"] == pytest.approx(0.6)
    assert found["false_per_minute"] == 0.5, "a second detection of the same action is no false alarm, only wrong"
    assert found["retracted"] == 0.25
