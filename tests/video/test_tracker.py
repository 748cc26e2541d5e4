"""Who is who, with made-up people: a standing figure that is moved about."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from poseline_video.tracker import HITS, UNSEEN, Tracker

RATE = 30.0
_FIGURE = np.array(
    [(0, -0.95)]
    + [(x, -0.97) for x in (0.01, 0.02, 0.03, -0.01, -0.02, -0.03)]
    + [(0.04, -0.95), (-0.04, -0.95), (0.01, -0.92), (-0.01, -0.92)]
    + [(0.1, -0.8), (-0.1, -0.8), (0.13, -0.6), (-0.13, -0.6), (0.14, -0.45), (-0.14, -0.45)]
    + [(x, -0.42) for x in (0.15, -0.15, 0.14, -0.14, 0.13, -0.13)]
    + [(0.06, -0.5), (-0.06, -0.5), (0.06, -0.25), (-0.06, -0.25), (0.06, 0), (-0.06, 0)]
    + [(0.06, 0.02), (-0.06, 0.02), (0.08, 0.02), (-0.08, 0.02)]
)


def person(x: float, y: float = 0.9, size: float = 0.6, sure: float = 0.9) -> np.ndarray:
    """(33, 4) landmarks; x, y of the feet, size: height, as shares of the picture."""
    pose = np.zeros((33, 4), np.float32)
    pose[:, :2] = _FIGURE * size + (x, y)
    pose[:, 3] = sure
    return pose


def follow(tracker: Tracker, frames: list[list[np.ndarray]], begin: float = 0.0) -> list[dict[int, str]]:
    """Index of a pose → its name, picture by picture."""
    return [{index: name for name, index in tracker.update(poses, begin + i / RATE)} for i, poses in enumerate(frames)]


def test_people_are_told_when_they_are_sure_to_be_there() -> None:
    found = follow(Tracker(), [[person(0.3)]] * 5)
    assert [bool(one) for one in found] == [False] * (HITS - 1) + [True] * (6 - HITS)
    assert found[-1] == {0: "p1"}


def test_two_who_pass_each_other_keep_their_names() -> None:
    frames = []
    for i in range(90):
        left, right = person(0.1 + 0.8 * i / 90, 0.9), person(0.9 - 0.8 * i / 90, 0.8, 0.5)
        frames.append([left, right] if i % 2 else [right, left])
    found = follow(Tracker(), frames)
    names = [(one[0], one[1]) if i % 2 else (one[1], one[0]) for i, one in enumerate(found) if len(one) == 2]
    assert len(names) > 80
    assert set(names) == {names[0]}


def test_who_is_hidden_in_passing_is_known_again() -> None:
    frames = []
    for i in range(90):
        walker, stander = person(0.1 + 0.8 * i / 90), person(0.5, 0.85, 0.5)
        frames.append([stander] if 36 < i < 54 else [walker, stander])
    found = follow(Tracker(), frames)
    assert found[30] == found[80]
    assert set(found[45].values()) == {found[30][1]}


def test_a_track_ends_and_its_name_is_never_given_again() -> None:
    tracker = Tracker()
    assert follow(tracker, [[person(0.5)]] * 10)[-1] == {0: "p1"}
    assert follow(tracker, [[person(0.5)]] * 10, begin=0.3 + UNSEEN * 0.8)[-1] == {0: "p1"}
    assert follow(tracker, [[person(0.5)]] * 10, begin=10.0)[-1] == {0: "p2"}


def test_somebody_elsewhere_is_somebody_else() -> None:
    tracker = Tracker()
    follow(tracker, [[person(0.2, size=0.3)]] * 10)
    assert follow(tracker, [[person(0.8, size=0.3)]] * 10, begin=0.34)[-1] == {0: "p2"}


def test_two_skeletons_of_one_person_are_one() -> None:
    surer = person(0.5, sure=0.9)
    again = person(0.505, sure=0.6)
    assert follow(Tracker(), [[again, surer]] * 6)[-1] == {1: "p1"}


def test_names_come_in_order_whatever_the_order_of_poses() -> None:
    found = Tracker()
    for i in range(6):
        told = found.update([person(0.8, size=0.3), person(0.2, size=0.3), person(0.5, size=0.3)], i / RATE)
    assert [name for name, _ in told] == ["p1", "p2", "p3"]


@given(
    st.lists(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=4), min_size=1, max_size=30),
    st.floats(0.2, 3),
)
def test_every_pose_has_at_most_one_name_and_every_name_one_pose(
    places: list[list[tuple[float, float]]], aspect: float
) -> None:
    tracker = Tracker()
    for i, people in enumerate(places):
        told = tracker.update([person(x, y) for x, y in people], i / RATE, aspect)
        assert len({name for name, _ in told}) == len({index for _, index in told}) == len(told)
        assert all(0 <= index < len(people) for _, index in told)


def test_degenerate_poses_are_borne() -> None:
    flat = np.zeros((33, 4), np.float32)
    assert follow(Tracker(), [[flat, flat]] * 4)[-1] == {0: "p1"}
