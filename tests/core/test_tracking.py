"""Who is who: two actors in each other's path, seen in a room and in a picture, and what a follower must bear."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import linear_sum_assignment

from crossing import crossing, follow, swapped
from poseline.actor import perform
from poseline.errors import StateError
from poseline.skeleton import BODY16
from poseline.tracking import Tracker, TrackerState, areas, assign, in_one_place, oks

SEEDS = range(8)
STANDING = np.concatenate(
    [perform(0, seconds=1).poses.joints[0], np.ones((16, 1), np.float32)], axis=-1, dtype=np.float32
)
seen_crossing = cache(crossing)


def person(x: float = 0.0, z: float = 0.0, size: float = 1.0) -> np.ndarray:
    return (STANDING * size + (x, 0, z, 0)).astype(np.float32) * (1, 1, 1, 0) + STANDING * (0, 0, 0, 1)


@pytest.mark.parametrize("view", ["world", "image"])
@pytest.mark.parametrize("fps", [30, 15])
def test_who_cross_each_others_path_stay_who_they_are(view: str, fps: float) -> None:
    for seed in SEEDS:
        seen = seen_crossing(seed, fps=fps, view=view)
        assert not seen.there.all(), "one of them is hidden for a while"
        assert swapped(follow(seen), seen) == (False, False), f"seed {seed}"


def test_a_swap_would_be_noticed() -> None:
    seen = seen_crossing(0, fps=30, view="world")
    kept = [[i + 1 for i in who] for _, who, _ in seen.frames()]
    bad = [[2 - i if at >= seen.met + 10 else i + 1 for i in who] for at, (_, who, _) in enumerate(seen.frames())]
    new = [[i + 3 if at >= seen.met + 10 else i + 1 for i in who] for at, (_, who, _) in enumerate(seen.frames())]
    assert [swapped(one, seen) for one in (kept, bad, new)] == [(False, False), (True, True), (False, True)]


@pytest.mark.parametrize("scale", [0.01, 1000])
def test_the_unit_changes_nothing(scale: float) -> None:
    seen = seen_crossing(1, fps=15, view="world")
    scaled = replace(seen, poses=seen.poses * np.array((scale, scale, scale, 1), np.float32))
    assert follow(scaled) == follow(seen)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 3), st.floats(0, 1))
def test_a_saved_tracker_goes_on_exactly(seed: int, at: float) -> None:
    seen = seen_crossing(seed, fps=15, view="image")
    frames, whole = seen.frames(), follow(seen)
    stop, first, second = int(at * len(frames)), Tracker(2.0, 32), Tracker(2.0, 32)
    told = [first.update(poses, t) for t, _, poses in frames[:stop]]
    second.load(first.save())
    assert told + [second.update(poses, t) for t, _, poses in frames[stop:]] == whole
    assert second.save() == state_after(frames)


def state_after(frames: list[tuple[float, list[int], np.ndarray]]) -> TrackerState:
    tracker = Tracker(2.0, 32)
    for t, _, poses in frames:
        tracker.update(poses, t)
    return tracker.save()


def test_a_damaged_state_is_refused() -> None:
    tracker = Tracker(2.0, 32)
    tracker.update(person()[None], 0.0)
    state = tracker.save()
    with pytest.raises(StateError):
        tracker.load(TrackerState(state.numbers, 1, state.seen_at, state.joints[:-4], state.known, state.speed))


def test_who_comes_back_in_time_is_the_same_and_later_somebody_else() -> None:
    tracker = Tracker(2.0, 32)
    assert tracker.update(person()[None], 0.0) == [1]
    assert tracker.update(person(0.3)[None], 2.0) == [1]
    assert tracker.update(person(0.3)[None], 4.1) == [2]
    assert list(tracker.numbers) == [2]


def test_who_stands_elsewhere_is_somebody_else() -> None:
    tracker = Tracker(2.0, 32)
    assert tracker.update(person()[None], 0.0) == [1]
    assert tracker.update(person(2.0)[None], 0.1) == [2]


def test_a_child_beside_a_grown_up_is_nobody_again() -> None:
    tracker = Tracker(2.0, 32)
    assert tracker.update(np.stack([person(), person(0.4, size=0.6)]), 0.0) == [1, 2]
    assert tracker.update(np.stack([person(0.42, size=0.6), person(0.02)]), 0.1) == [2, 1]


def test_who_is_half_hidden_is_followed() -> None:
    tracker, legs = (
        Tracker(2.0, 32),
        [i for i, joint in enumerate(BODY16.joints) if "knee" in joint or "ankle" in joint],
    )
    tracker.update(person()[None], 0.0)
    hidden = person(0.05)
    hidden[legs] = 0
    assert tracker.update(hidden[None], 0.1) == [1]
    assert tracker.update(person(0.1)[None], 0.2) == [1]


def test_who_shows_no_joint_is_nobody() -> None:
    tracker = Tracker(2.0, 1)
    assert tracker.update(np.zeros((2, 16, 4), np.float32), 0.0) == [None, None]
    assert tracker.update(person()[None], 0.1) == [1]


def test_times_that_hardly_differ_are_borne() -> None:
    tracker = Tracker(2.0, 32)
    assert [tracker.update(person(x)[None], t) for x, t in ((0, 0.0), (0.1, 1e-300), (0.1, 0.1))] == [[1]] * 3


def test_there_is_a_limit() -> None:
    tracker = Tracker(2.0, 2)
    three = np.stack([person(3 * i) for i in range(3)])
    assert tracker.update(three, 0.0) == [1, 2, None]
    assert tracker.update(three[[2, 1]], 1.0) == [None, 2]
    assert tracker.update(three[[2]], 2.5) == [3]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.lists(st.tuples(st.floats(-3, 3), st.floats(-3, 3), st.floats(0.1, 3)), max_size=5), min_size=1, max_size=15
    ),
    st.floats(0.005, 3),
)
def test_nobody_has_two_numbers_and_no_number_is_two_people(
    frames: list[list[tuple[float, float, float]]], every: float
) -> None:
    tracker, given = Tracker(2.0, 4), 0
    for i, people in enumerate(frames):
        poses = np.stack([np.zeros((16, 4), np.float32), *(person(*one) for one in people)])[1:]
        told = [number for number in tracker.update(poses, i * every) if number is not None]
        assert len(told) == len(set(told))
        assert set(told) <= set(tracker.numbers)
        assert len(tracker.numbers) <= 4
        given, before = max([given, *told]), given
        assert given - before <= len(people)


def test_hip_centred_people_stand_in_one_place() -> None:
    centred = [STANDING - (*STANDING[BODY16.joints.index("pelvis"), :3], 0) for _ in range(2)]
    assert in_one_place(np.stack(centred).astype(np.float32))
    assert not in_one_place(np.stack([person(), person(0.3)]))
    assert not in_one_place(centred[0][None].astype(np.float32))


def test_similarity_is_the_formula() -> None:
    sigmas = {"shoulder": 0.079, "elbow": 0.072, "wrist": 0.062, "hip": 0.107, "knee": 0.087, "ankle": 0.089}
    sigmas |= {"head": 0.035, "neck": 0.079, "spine": 0.107, "pelvis": 0.107}
    area = areas(STANDING[None, :, :3], STANDING[None, :, 3] > 0)
    assert area[0] == pytest.approx(0.14 * (np.ptp(STANDING[:, :3], axis=0) ** 2).sum(), rel=1e-5)
    apart = np.full((1, 16), 0.01, np.float32)
    common = np.ones((1, 16), bool)
    found = [np.exp(-0.01 / (2 * area[0] * (2 * sigmas[name.split("_")[-1]]) ** 2)) for name in BODY16.joints]
    assert oks(apart, area, common)[0] == pytest.approx(np.mean(found), rel=1e-4)
    assert oks(apart, area, ~common)[0] == 0


@given(arrays(np.float32, st.tuples(st.integers(1, 7), st.integers(1, 7)), elements=st.sampled_from([0, 0.25, 0.5, 1])))
def test_the_assignment_is_the_best_there_is(gain: np.ndarray) -> None:
    found = assign(gain)
    taken = [column for column in found if column >= 0]
    assert len(taken) == len(set(taken))
    assert all(gain[row, column] > 0 for row, column in enumerate(found) if column >= 0)
    best = gain[linear_sum_assignment(gain, maximize=True)].sum()
    assert sum(gain[row, column] for row, column in enumerate(found) if column >= 0) == pytest.approx(best)
