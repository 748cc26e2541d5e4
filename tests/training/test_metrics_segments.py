"""Metrics of segments and starts: by hand, and against each protocol's definition written out anew."""

import math
from functools import cache
from itertools import pairwise

import numpy as np
import pytest

from poseline_training.metrics.borders import border_scores
from poseline_training.metrics.line import line_ap, proposals
from poseline_training.metrics.native import native_recall
from poseline_training.metrics.ontal import online_ap
from poseline_training.metrics.pku import pku_action_ap, pku_ap, pku_video_map
from poseline_training.metrics.segmental import edit_score, segmental_f1
from poseline_training.metrics.segments import Detection, Truth, interpolated_ap, segment_ap
from poseline_training.metrics.starts import match_starts

Case = tuple[list[list[Detection]], list[list[Truth]]]


def made_up(seed: int, sequences: int = 3, classes: int = 2) -> Case:
    """Truths side by side, and detections near them, twice, elsewhere, or not at all."""
    rng = np.random.default_rng(seed)
    truths: list[list[Truth]] = []
    found: list[list[Detection]] = []
    for _ in range(sequences):
        borders = np.sort(rng.uniform(0, 30, 12))
        true = [(a, b, int(rng.integers(1, classes + 1))) for a, b in borders.reshape(6, 2).tolist()]
        near = [(a + rng.normal(0, 0.6), b + rng.normal(0, 0.6), c) for a, b, c in true for _ in range(rng.integers(3))]
        stray = [(a, a + 2, int(rng.integers(1, classes + 1))) for a in rng.uniform(0, 30, 2)]
        truths.append(true)
        found.append([(a, max(b, a + 0.1), c, float(rng.random())) for a, b, c in near + stray])
    return found, truths


def iou(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """By the sum of lengths, not by the hull."""
    common = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    return common / ((a[1] - a[0]) + (b[1] - b[0]) - common)


def area(hits: list[bool], positives: int) -> float:
    """Interpolated AP from its definition: for each truth, the best precision at or beyond its recall."""
    precisions = [(sum(hits[: n + 1]), sum(hits[: n + 1]) / (n + 1)) for n in range(len(hits))]
    best = [max((p for count, p in precisions if count >= j), default=0.0) for j in range(1, positives + 1)]
    return sum(best) / positives


def test_interpolated_ap() -> None:
    assert interpolated_ap([True, False, True], 2) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert interpolated_ap([False, True, True], 2) == pytest.approx(2 / 3)
    assert interpolated_ap([], 2) == 0
    assert np.isnan(interpolated_ap([], 0))


# --- ActivityNet, On-TAL ----------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.75])
def test_segment_ap_as_activitynet_describes_it(seed: int, threshold: float) -> None:
    found, truths = made_up(seed)
    for label in (1, 2):
        pool = [(score, k, (a, b)) for k, one in enumerate(found) for a, b, c, score in one if c == label]
        locked: set[tuple[int, Truth]] = set()
        hits: list[bool] = []
        for _, k, span in sorted(pool, reverse=True):
            inclined = sorted((t for t in truths[k] if t[2] == label), key=lambda t, span=span: -iou(span, t))
            free = [t for t in inclined if iou(span, t) >= threshold and (k, t) not in locked]
            hits.append(bool(free))
            locked.update((k, t) for t in free[:1])
        expected = area(hits, sum(t[2] == label for one in truths for t in one))
        assert segment_ap(found, truths, label, threshold) == pytest.approx(expected)


def test_on_tal_is_segment_ap_with_the_delay_of_the_right_ones() -> None:
    truths = [[(0.0, 10.0, 1)], [(5.0, 9.0, 1), (20.0, 24.0, 2)]]
    found = [[(0.0, 10.0, 1, 0.9), (30.0, 40.0, 1, 0.8)], [(5.0, 8.0, 1, 0.7), (20.0, 24.0, 2, 0.6)]]
    decided = [[10.5, 41.0], [8.7, 24.4]]
    ap, delays = online_ap(found, decided, truths, 1, 0.5)
    assert ap == segment_ap(found, truths, 1, 0.5) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert delays == pytest.approx([0.5, -0.3]), "a stray detection has no delay; an early end is before the truth's"
    assert online_ap(found, decided, truths, 1, 0.9)[1] == pytest.approx([0.5])


# --- PKU-MMD ----------------------------------------------------------------------------------------------------------


def test_pku_reads_precision_after_a_right_proposal_is_taken_away() -> None:
    truths = [[(0.0, 10.0, 1), (20.0, 30.0, 1)]]
    first, second, stray = (0.0, 10.0, 1, 0.9), (20.0, 30.0, 1, 0.5), (50.0, 60.0, 1, 0.7)
    assert pku_ap([[first, second]], truths, 0.5) == 1
    # all three: 2/3 precise; without the last right one 1 of 2: both losses count with 2/3. ActivityNet: .5 * 1 + .5 * 2/3
    assert pku_ap([[first, stray, second]], truths, 0.5) == pytest.approx(2 / 3)
    assert segment_ap([[first, stray, second]], truths, 1, 0.5) == pytest.approx(5 / 6)
    assert pku_ap([[]], truths, 0.5) == 0
    assert np.isnan(pku_ap([[first]], [[]], 0.5))


def test_pku_counts_two_on_one_truth_once_and_moves_none_to_the_next() -> None:
    truths = [[(0.0, 10.0, 1), (8.0, 18.0, 1)]]
    both_on_the_first = [[(0.0, 10.0, 1, 0.9), (1.0, 12.0, 1, 0.8)]]
    assert segment_ap(both_on_the_first, truths, 1, 0.2) == 1
    assert pku_action_ap(both_on_the_first, truths, 1, 0.2) == pytest.approx(0.5)


def test_pku_video_map_pools_classes_within_a_sequence() -> None:
    truths: list[list[Truth]] = [[(0.0, 10.0, 1), (20.0, 30.0, 2)], [(0.0, 10.0, 1)], []]
    found: list[list[Detection]] = [[(0.0, 10.0, 1, 0.9), (20.0, 30.0, 2, 0.8)], [(0.0, 10.0, 2, 0.9)], []]
    assert pku_video_map(found, truths, 0.5) == pytest.approx((1 + 0) / 2)
    assert np.isnan(pku_video_map([[]], [[]], 0.5))


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("theta", [0.1, 0.5])
def test_pku_by_counting_every_cut_anew(seed: int, theta: float) -> None:
    found, truths = made_up(seed)
    everything = sorted(((k, one) for k, many in enumerate(found) for one in many), key=lambda one: one[1][3])
    positives = sum(map(len, truths))

    def owner(k: int, one: Detection) -> tuple[int, Truth] | None:
        best = max((t for t in truths[k] if t[2] == one[2]), key=lambda t: iou(one, t), default=None)
        return (k, best) if best and iou(one, best) >= theta else None

    def counted(cut: int) -> tuple[float, float]:
        left = everything[cut:]
        right = {owner(*one) for one in left} - {None}
        return (len(right) / len(left) if left else 0.0), len(right) / positives

    best, recall = counted(0)
    total = 0.0
    for cut, one in enumerate(everything, 1):
        if owner(*one):
            precision, remaining = counted(cut)
            best = max(best, precision)
            total += best * (recall - remaining)
            recall = remaining
    assert pku_ap(found, truths, theta) == pytest.approx(total)


# --- LINE -------------------------------------------------------------------------------------------------------------


def test_line_proposals_by_hand() -> None:
    scores = np.zeros(40, np.float32)
    scores[10:18] = 0.5
    scores[18:20] = 0.04  # above the lower thresholds only
    made = proposals(scores)
    # Above .03 and .035 ten frames, 10 to 19; the other thresholds (.04 itself is not above .04) eight. Ends are one late.
    # Eight: nine frames' mean (one beyond the end) less .6 of the flanks: two frames before, frame 19 after (18 is within).
    eight = (8 * 0.5 + 0.04) / 9 - 0.6 * (0 + 0 + 0.04 + 0) / 4
    assert len(made) == 1, "what covers it by more than a fifth of its length is suppressed"
    assert made[0][:2] == (10, 19)
    assert made[0][2] == pytest.approx(eight, rel=1e-5)


def test_line_forgets_two_frames_and_keeps_what_lies_apart() -> None:
    scores = np.zeros(60, np.float32)
    scores[5:7] = 0.9
    scores[20:30] = 0.9
    scores[40:50] = 0.6
    assert [(a, b) for a, b, _ in proposals(scores)] == [(20, 31), (40, 51)]


def test_line_truths_lose_their_last_frame() -> None:
    labels = np.zeros(60, np.int64)
    labels[20:30] = 1  # as 20 to 28: nine frames
    assert line_ap([[(20, 31, 1.0)]], [labels], 1, 9 / 11) == 1
    assert line_ap([[(20, 31, 1.0)]], [labels], 1, 9 / 11 + 1e-6) == 0
    assert np.isnan(line_ap([[]], [labels], 2, 0.5))


@pytest.mark.parametrize("seed", range(6))
def test_line_with_sets_of_frames(seed: int) -> None:
    """Proposals, suppression and matching with the protocol's own means: frames one by one, in sets."""
    rng = np.random.default_rng(seed)
    columns = [np.clip(np.convolve(rng.normal(0, 0.12, 200), np.ones(7) / 7, "same"), 0, 1) for _ in range(3)]
    labels = [np.repeat(rng.integers(2, size=20), 10) for _ in columns]

    def run(p: list[float], threshold: float) -> list[tuple[int, int]]:
        above = [-1, *(i for i, x in enumerate(p) if x <= threshold), len(p)]
        return [(a + 1, b) for a, b in pairwise(above) if b - a - 1 >= 3]

    found, truths = [], []
    for column, true in zip(columns, labels, strict=True):
        p = column.tolist()
        made = []
        for start, end in [span for t in (0.03, 0.035, 0.04, 0.045, 0.05) for span in run(p, t)]:
            inside = [p[i] for i in range(start, end + 1) if i < len(p)]
            reach = 0.25 * (end - start)
            outside = [p[i] for i in range(max(0, int(start - reach)), start)]
            outside += [p[i] for i in range(end + 1, min(len(p) - 1, int(end + reach + 1)))]
            score = sum(inside) / len(inside) - 0.6 * (sum(outside) / len(outside) if outside else 0)
            made.append((score, start, end + 1))
        kept: list[tuple[float, int, int]] = []
        for one in sorted(made, key=lambda one: -one[0]):
            mine = set(range(one[1], one[2] + 1))
            if all(len(mine & set(range(k[1], k[2] + 1))) / len(mine) <= 0.2 for k in kept):
                kept.append(one)
        assert [(a, b) for a, b, _ in proposals(column)] == [(a, b) for _, a, b in kept]
        found.append(kept)
        frames = np.flatnonzero(np.diff(np.r_[0, true == 1, 0]))
        truths.append([set(range(a, b - 1)) for a, b in frames.reshape(-1, 2)])

    positives = sum(map(len, truths))
    hits: list[bool] = []
    for _, k, a, b in sorted(((score, k, a, b) for k, one in enumerate(found) for score, a, b in one), reverse=True):
        said = set(range(a, b))
        fit = [(len(said & t) / len(said | t), i) for i, t in enumerate(truths[k])]
        best, place = max(fit, default=(0.0, -1))
        hits.append(best >= 0.3)
        if hits[-1]:
            del truths[k][place]
    assert any(hits)
    assert line_ap([proposals(one) for one in columns], labels, 1, 0.3) == pytest.approx(area(hits, positives))


# --- order and number -------------------------------------------------------------------------------------------------


def test_segmental_f1_counts_foreign_classes_as_wrong() -> None:
    truths = [[(0.0, 10.0, 1)]]
    assert segmental_f1([[(0.0, 10.0, 1, 1.0)]], truths, 0.5) == 1
    assert segmental_f1([[(0.0, 10.0, 1, 1.0), (0.0, 10.0, 7, 0.1)]], truths, 0.5) == pytest.approx(2 / 3)
    assert segmental_f1([[]], truths, 0.5) == 0
    assert np.isnan(segmental_f1([[(0.0, 10.0, 1, 1.0)]], [[]], 0.5)), "nothing is true: there is no recall"


@pytest.mark.parametrize(
    ("found", "true", "expected"),
    [
        ([], [], 1.0),
        ([1], [], 0.0),
        ([1, 2, 3], [1, 2, 3], 1.0),
        ([1, 3], [1, 2, 3], 2 / 3),
        ([1, 2, 2, 3], [1, 2, 3], 3 / 4),
        ([ord(c) for c in "kitten"], [ord(c) for c in "sitting"], 1 - 3 / 7),  # Levenshtein's own example
        ([ord(c) for c in "saturday"], [ord(c) for c in "sunday"], 1 - 3 / 8),
    ],
)
def test_edit_score(found: list[int], true: list[int], expected: float) -> None:
    assert edit_score(found, true) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(10))
def test_edit_distance_by_recursion(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = (tuple(rng.integers(1, 4, rng.integers(1, 9)).tolist()) for _ in range(2))

    @cache
    def distance(a: tuple[int, ...], b: tuple[int, ...]) -> int:
        if not a or not b:
            return len(a) + len(b)
        return min(distance(a[1:], b) + 1, distance(a, b[1:]) + 1, distance(a[1:], b[1:]) + (0 if a[0] == b[0] else 1))

    assert edit_score(a, b) == pytest.approx(1 - distance(a, b) / max(len(a), len(b)))


# --- starts and borders -----------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("within", [0.1, 0.5, 3.0])
def test_start_ap_as_simon_describes_it(seed: int, within: float) -> None:
    detections, truths = made_up(seed)
    found = [[(a, c, score) for a, _, c, score in one] for one in detections]
    moments = [(k, a) for k, one in enumerate(truths) for a, _, c in one if c == 1]
    positives = len(moments)
    hits: list[bool] = []
    for _, k, t in sorted(((s, k, t) for k, one in enumerate(found) for t, c, s in one if c == 1), reverse=True):
        near = sorted((abs(t - m), m) for j, m in moments if j == k)
        hits.append(bool(near) and near[0][0] <= within)
        if hits[-1]:
            moments.remove((k, near[0][1]))
    true = [[(a, c) for a, _, c in one] for one in truths]
    assert match_starts(found, true, 1, within)[0] == pytest.approx(area(hits, positives))


def test_border_scores_by_hand() -> None:
    truths = [[(10.0, 14.0, 1), (30.0, 32.0, 1), (40.0, 41.0, 2)]]
    found = [[(10.5, 13.0, 1, 0.9), (28.5, 32.0, 1, 0.8)]]
    start, end = border_scores(found, truths, 1)
    assert start == pytest.approx((math.exp(-0.5 / 4) + 0) / 2), "1.5 s away is out of reach"
    assert end == pytest.approx((math.exp(-1 / 4) + 1) / 2), "a second away is just within it"
    assert border_scores(found, truths, 2) == (0, 0)
    assert all(np.isnan(border_scores(found, truths, 3)))


def test_what_merging_hides_is_told_by_the_sets_own_names() -> None:
    found = [[(0.0, 10.0, 1, 0.9), (30.0, 40.0, 2, 0.9)]]
    truths = [[(0.0, 9.0, 1, "left punch"), (20.0, 29.0, 1, "right punch"), (30.0, 40.0, 1, "right punch")]]
    told = native_recall(found, truths, ("background", "punch", "kick"))
    assert told == {
        "left punch": {"class": "punch", "instances": 1, "found": 1.0},
        "right punch": {"class": "punch", "instances": 2, "found": 0.0},
    }
