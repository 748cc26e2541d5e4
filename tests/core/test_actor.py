"""The scripted actor: same seed same film, exact labels, and a body that moves as bodies can."""

from __future__ import annotations

import numpy as np
import pytest

from poseline.actor import ACTIONS, Performance, perform
from poseline.skeleton import BODY16

JOINT = {name: i for i, name in enumerate(BODY16.joints)}
SEEDS = range(6)


def during(performance: Performance, label: str) -> list[np.ndarray]:
    """Joints of every segment of that label, with the frame before and the frame after."""
    poses, fps = performance.poses, 30.0
    return [
        poses.joints[max(round(s.start * fps) - 1, 0) : round(s.end * fps) + 1]
        for s in performance.segments
        if s.label == label
    ]


@pytest.fixture(scope="module")
def still() -> list[Performance]:
    """Improvised performances without sensor noise."""
    return [perform(seed, noise=0) for seed in SEEDS]


def test_a_seed_is_a_performance() -> None:
    one, again, other = perform(3, seconds=20), perform(3, seconds=20), perform(4, seconds=20)
    np.testing.assert_array_equal(one.poses.joints, again.poses.joints)
    assert one.segments == again.segments
    assert np.abs(one.poses.joints - other.poses.joints).max() > 0.05
    assert one.segments != other.segments


@pytest.mark.parametrize(("seconds", "fps"), [(0.5, 30.0), (20.0, 30.0), (13.0, 25.0), (10.0, 60.0)])
def test_length_is_exact(seconds: float, fps: float) -> None:
    poses = perform(0, seconds=seconds, fps=fps).poses
    assert len(poses) == round(seconds * fps)
    np.testing.assert_allclose(np.diff(poses.timestamps), 1 / fps)
    assert (poses.confidence == 1).all()


def test_labels_are_known_in_order_and_inside(still: list[Performance]) -> None:
    for performance in still:
        edges = [edge for s in performance.segments for edge in (s.start, s.end)]
        assert edges == sorted(edges)
        assert edges[0] > 0
        assert edges[-1] <= len(performance.poses) / 30
        assert {s.score for s in performance.segments} == {1.0}
    assert {s.label for performance in still for s in performance.segments} == set(ACTIONS)


def test_a_script_is_followed() -> None:
    script = ["walk", "sit_down", "stand_up", "clap", "clap"]
    assert [s.label for s in perform(1, script=script).segments] == script
    assert perform(1, script=[]).segments == ()


@pytest.mark.parametrize(
    ("script", "why"),
    [
        (["stand_up"], "stand_up while standing"),
        (["sit_down", "sit_down"], "sit_down while seated"),
        (["sit_down", "walk"], "walk while seated"),
        (["fly"], "unknown action 'fly'"),
    ],
)
def test_an_impossible_script_is_refused(script: list[str], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        perform(0, script=script)


def test_bones_keep_their_lengths(still: list[Performance]) -> None:
    child, parent = np.array(BODY16.bones).T
    for performance in still:
        bones = np.linalg.norm(performance.poses.joints[:, child] - performance.poses.joints[:, parent], axis=-1)
        assert np.ptp(bones, axis=0).max() < 1e-4


def test_nothing_teleports(still: list[Performance]) -> None:
    for performance in still:
        speed = np.linalg.norm(np.diff(performance.poses.joints, axis=0), axis=-1) * 30
        assert speed.max() < 12
        assert speed[:, JOINT["pelvis"]].max() < 4


def test_sensor_noise_is_small_and_can_be_switched_off() -> None:
    clean, noisy = (perform(5, seconds=20, noise=noise).poses.joints for noise in (0, 0.003))
    assert np.std(noisy - clean) == pytest.approx(0.003, rel=0.1)


def test_feet_stay_on_the_floor(still: list[Performance]) -> None:
    feet = [JOINT["left_ankle"], JOINT["right_ankle"]]
    for performance in still:
        ankles = performance.poses.joints[:, feet]
        height, lowest = ankles[..., 1], ankles[..., 1].min()
        assert 0.05 < lowest < 0.13
        in_place = np.ones(len(ankles), bool)
        for s in performance.segments:
            if s.label == "run":  # which has phases of flight
                in_place[round(s.start * 30) : round(s.end * 30)] = False
        assert (height.min(axis=1) - lowest)[in_place].max() < 0.12
        planted = height[1:] < lowest + 0.015
        slide = np.linalg.norm(np.diff(ankles[..., [0, 2]], axis=0), axis=-1) * 30
        assert np.percentile(slide[planted], 95) < 0.15


def test_movements_are_what_their_labels_say() -> None:
    performance = perform(2, script=[*ACTIONS], noise=0)
    pelvis, neck = JOINT["pelvis"], JOINT["neck"]
    film = {label: during(performance, label)[0] for label in ACTIONS}
    height = {label: clip[:, pelvis, 1] for label, clip in film.items()}

    assert height["sit_down"][-1] < height["sit_down"][0] - 0.25
    assert height["stand_up"][-1] > height["stand_up"][0] + 0.25
    assert np.linalg.norm(np.ptp(film["walk"][:, pelvis][:, [0, 2]], axis=0)) > 0.8
    for label in ("squat", "lunge", "pick_up"):
        assert height[label].min() < height[label][0] - 0.15
    for label in ("wave_one_hand", "wave_two_hands"):
        above = [
            (film[label][:, JOINT[f"{s}_wrist"], 1] - film[label][:, JOINT[f"{s}_shoulder"], 1]).max()
            for s in ("left", "right")
        ]
        assert sum(a > 0.1 for a in above) == (1 if label == "wave_one_hand" else 2)
    wrists = np.linalg.norm(film["clap"][:, JOINT["left_wrist"]] - film["clap"][:, JOINT["right_wrist"]], axis=1)
    assert wrists.min() < 0.15
    ankles = film["kick"][:, [JOINT["left_ankle"], JOINT["right_ankle"]], 1]
    assert ankles.max() > 0.35
    assert (film["bend"][:, neck, 1]).min() < film["bend"][0, neck, 1] - 0.15


def test_the_typical_person_stands_upright_facing_front() -> None:
    first = np.stack([perform(seed, seconds=1, noise=0).poses.joints[0] for seed in range(40)])
    across = first[:, JOINT["left_shoulder"]] - first[:, JOINT["right_shoulder"]]
    assert (across[:, 0] > 0).all()  # facing +z, the left is +x
    assert (first[:, JOINT["left_knee"], 1] < first[:, JOINT["left_hip"], 1] - 0.3).all()
    assert 1.25 < first[:, JOINT["head"], 1].min() < first[:, JOINT["head"], 1].max() < 1.85
