from itertools import pairwise
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poseline.resampling import HOLD, TOLERANCE, FrameGrid, GridFrame
from poseline.skeleton import BODY16


def pose(x: float = 0.0, confidence: float = 1.0) -> np.ndarray:
    made = np.zeros((16, 4), np.float32)
    made[:, 0] = x
    made[:, 3] = confidence
    return made


def run(times: list[float], **settings: float) -> list[GridFrame]:
    grid = FrameGrid(**settings)  # type: ignore[arg-type]
    return [frame for t in times for frame in grid.push(t, pose(t)).frames]


def test_a_source_on_the_grid_is_never_delayed() -> None:
    grid = FrameGrid()
    for k in range(200):
        frames = grid.push(k / 30, pose(k)).frames
        assert len(frames) == 1
        assert frames[0].pose[0, 0] == k
        assert frames[0].first == (k == 0)


def test_milliseconds_are_on_the_grid() -> None:
    grid = FrameGrid()
    assert [len(grid.push(round(k / 30, 3), pose()).frames) for k in range(300)] == [1] * 300


@pytest.mark.parametrize("fps", [10, 12.5, 15, 24, 25, 29.97, 50, 60])
def test_any_rate_becomes_an_even_grid_of_the_same_motion(fps: float) -> None:
    frames = run([k / fps for k in range(int(10 * fps))])
    times = np.array([f.t for f in frames])
    np.testing.assert_allclose(np.diff(times), 1 / 30, atol=1e-9)
    np.testing.assert_allclose([f.pose[0, 0] for f in frames], times, atol=4e-3)
    assert abs(len(frames) - 300) <= 4


def test_late_and_duplicate_frames_are_named_and_change_nothing() -> None:
    grid = FrameGrid()
    grid.push(0.0, pose())
    grid.push(1.0, pose())
    assert grid.push(1.0, pose()).dropped == "duplicate_frame"
    assert grid.push(0.5, pose()).dropped == "late_frame"
    assert grid.last_t == 1.0


def test_a_long_gap_starts_a_new_span_and_invents_nothing() -> None:
    frames = run([0.0, 1 / 30, 5.0, 5.0 + 1 / 30], gap_reset=2.0)
    assert [f.first for f in frames] == [True, False, True, False]
    assert frames[2].t == 5.0


def test_a_short_gap_is_interpolated() -> None:
    frames = run([0.0, 1.0], gap_reset=2.0)
    assert len(frames) == 31
    np.testing.assert_allclose([f.pose[0, 0] for f in frames], np.arange(31) / 30, atol=1e-6)


def test_a_missing_joint_is_held_then_stands_at_its_parent() -> None:
    grid = FrameGrid()
    wrist, elbow = BODY16.joints.index("left_wrist"), BODY16.joints.index("left_elbow")
    seen = pose(1.0)
    seen[wrist, 0] = 7.0
    grid.push(0.0, seen)
    for k in range(1, 40):
        lost = pose(2.0)
        lost[wrist] = [99, 99, 99, 0]
        (frame,) = grid.push(k / 30, lost).frames
        assert frame.pose[wrist, 3] == 0
        expected = 7.0 if k / 30 <= HOLD else 2.0
        assert frame.pose[wrist, 0] == expected
        assert frame.pose[elbow, 0] == 2.0


def test_nothing_seen_at_all_is_still_a_number() -> None:
    (frame,) = FrameGrid().push(0.0, pose(5.0, confidence=0.0)).frames
    assert np.isfinite(frame.pose).all()


@given(st.floats(5, 120), st.floats(0, 0.45), st.randoms(use_true_random=False))
def test_any_rate_and_jitter_give_the_same_motion(fps: float, jitter: float, random: Random) -> None:
    times = [(k + random.uniform(-jitter, jitter)) / fps for k in range(int(3 * fps))]
    frames = run(times)
    found = np.array([f.t for f in frames])
    np.testing.assert_allclose(np.diff(found), 1 / 30, atol=1e-9)
    # A pose may come up to TOLERANCE after its own time, and then is taken as it is; all else is interpolated.
    np.testing.assert_allclose([f.pose[0, 0] for f in frames], found, atol=TOLERANCE + 1e-5)
    assert times[-1] - found[-1] < 1 / 30


@given(st.lists(st.floats(0, 10).map(lambda t: round(t, 1)), min_size=1, max_size=60))
def test_what_is_late_or_twice_there_changes_nothing(times: list[float]) -> None:
    rising = [t for i, t in enumerate(times) if t > max(times[:i], default=-1.0)]
    grid = FrameGrid()
    pushes = [grid.push(t, pose(t)) for t in times]
    assert sum(push.dropped is None for push in pushes) == len(rising)
    found = [frame for push in pushes for frame in push.frames]
    alone = run(rising)
    assert [(f.t, f.first) for f in found] == [(f.t, f.first) for f in alone]
    assert all((a.pose == b.pose).all() for a, b in zip(found, alone, strict=True))


@given(st.floats(0.1, 10), st.floats(0.1, 20), st.integers(-1000, 1000))
def test_a_gap_begins_anew_only_if_it_is_longer_than_gap_reset(gap_reset: float, gap: float, begin: int) -> None:
    frames = run([begin, begin + gap], gap_reset=gap_reset)
    anew = begin + gap - begin > gap_reset
    assert [f.first for f in frames[1:]] == ([True] if anew else [False] * (len(frames) - 1))
    assert anew or len(frames) == pytest.approx(1 + gap * 30, abs=1.1)


@given(st.lists(st.floats(0.001, 3.0), min_size=1, max_size=60))
def test_any_rising_times_give_an_even_grid_within_each_span(steps: list[float]) -> None:
    frames = run(np.cumsum([0.0, *steps]).tolist(), gap_reset=2.0)
    assert frames[0].first
    for before, after in pairwise(frames):
        if after.first:
            assert after.t > before.t
        else:
            assert after.t - before.t == pytest.approx(1 / 30, abs=1e-6)
