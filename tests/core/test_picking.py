"""Which stretches are picked: far from one another, or unsure, and never twice."""

from __future__ import annotations

import numpy as np
import pytest

from poseline.picking import cut, pick, uncertainty

PLACES = np.array([[0, 0], [0.1, 0], [0, 0.1], [10, 0], [10, 0.1], [0, 20], [4, 5]], np.float32)
UNSURE = [0.1, 0.2, 0.9, 0.3, 0.8, 0.4, 0.5]


@pytest.mark.parametrize(("frames", "longest"), [(1, 300), (300, 300), (301, 300), (899, 300), (7, 2)])
def test_stretches_cover_a_recording_and_none_is_too_long(frames: int, longest: int) -> None:
    found = cut(frames, longest)
    assert [n for first, stop in found for n in range(first, stop)] == list(range(frames))
    lengths = [stop - first for first, stop in found]
    assert max(lengths) <= longest
    assert max(lengths) - min(lengths) <= 1


def test_who_says_nothing_is_unsure() -> None:
    assert uncertainty(np.full((5, 4), 0.25)) == pytest.approx(1)
    assert uncertainty(np.eye(4)) == pytest.approx(0, abs=1e-6)
    assert 0 < uncertainty(np.array([[0.9, 0.1, 0, 0]])) < uncertainty(np.array([[0.5, 0.5, 0, 0]])) < 1


def test_each_is_the_farthest_from_those_before() -> None:
    picked = pick("diversity", PLACES, UNSURE, 4)
    assert picked[0] == 6, "the one in the middle"
    assert picked[1:3] == [5, 4] or picked[1:3] == [5, 3]
    assert len({0, 1, 2} & set(picked)) == 1, "neighbours are worth one"
    assert len({3, 4} & set(pick("both", PLACES, UNSURE, 3))) == 1
    assert pick("both", PLACES, UNSURE, 3, taken=[6, 5])[0] == 4, "of two neighbours the less sure one"


def test_what_is_labelled_is_not_picked_again_nor_what_is_like_it() -> None:
    for method in ("diversity", "both", "uncertainty", "random"):
        assert sorted(pick(method, PLACES, UNSURE, 99, taken=[5, 0])) == [1, 2, 3, 4, 6]
        assert pick(method, PLACES, UNSURE, 0) == []
        assert len(pick(method, PLACES, UNSURE, 3)) == 3
    assert pick("diversity", PLACES, UNSURE, 1, taken=[5, 0])[0] in (3, 4)
    assert pick("uncertainty", PLACES, UNSURE, 3) == [2, 4, 6]
    assert pick("random", PLACES, UNSURE, 5, seed=1) != pick("random", PLACES, UNSURE, 5, seed=2)
