"""Bent recordings are bent as they say, adversaries keep within their radius, and figures come from the online path."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from poseline.actor import perform
from poseline.bundle import ModelBundle
from poseline.errors import UnitUnknown
from poseline.formats.corpus import LabelledSequence
from poseline.pose import SPACES, PoseConverter, PoseSequence
from poseline.skeleton import BODY16, Floats
from poseline_training.network.localizer import Localizer
from poseline_training.robustness import CONDITIONS, measure, robustness
from poseline_training.robustness.adversary import HOLD, MOVES, RADII, attack, chance, metric, moved_by
from poseline_training.robustness.conditions import CURVES, ONCE, mirror
from poseline_training.robustness.figures import AS_RECORDED, BY_NETWORK, ONCE_ONLY, stream_side_by_side
from poseline_training.robustness.plot import plot
from poseline_training.runtime import open_scorer
from poseline_training.streaming import stream_all
from tiny_bundle import CLASSES, motion, write_bundle


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def acted() -> PoseSequence:
    return perform(5, seconds=60).poses


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    """One that takes pictures, too."""
    made = write_bundle(tmp_path_factory.mktemp("models"))
    return replace(made, manifest=made.manifest.model_copy(update={"dims": (2, 3), "spaces": SPACES}))


@pytest.fixture(scope="module")
def network() -> Localizer:
    torch.manual_seed(0)
    return Localizer(BODY16, len(CLASSES), width=96).eval()


def labelled(seed: int, frames: int) -> LabelledSequence:
    poses = motion(np.random.default_rng(seed), frames)
    times = np.arange(frames) / 30
    labels = np.arange(frames) // 20 % len(CLASSES)
    there = PoseSequence(poses[..., :3], poses[..., 3], times, name=f"made up {seed}")
    return LabelledSequence(there, labels, CLASSES, "made_up", "1", "1")


def native(poses: PoseSequence) -> Floats:
    return PoseConverter(poses.layout, poses.coordinates)(poses.joints, poses.confidence)


# --- conditions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CURVES)
def test_a_curve_begins_with_the_recording_itself(name: str, acted: PoseSequence, rng: np.random.Generator) -> None:
    curve = CURVES[name]
    bent = curve.bend(acted, curve.clean, rng)
    np.testing.assert_allclose(bent.joints, acted.joints, atol=1e-5)
    np.testing.assert_array_equal(bent.confidence, acted.confidence)
    np.testing.assert_allclose(bent.timestamps, acted.timestamps)
    labels = np.arange(len(acted))
    np.testing.assert_array_equal(curve.labels(labels, curve.clean), labels)


@pytest.mark.parametrize("name", CURVES)
def test_bending_is_pure_and_does_something(name: str, acted: PoseSequence) -> None:
    before = acted.joints.copy(), acted.confidence.copy(), acted.timestamps.copy()
    for severity in CURVES[name].severities:
        one, other = (CURVES[name].bend(acted, severity, np.random.default_rng(1)) for _ in range(2))
        changed = False
        for key in ("joints", "confidence", "timestamps"):
            np.testing.assert_array_equal(getattr(one, key), getattr(other, key))
            changed |= not np.array_equal(getattr(one, key), getattr(acted, key))
        assert changed
    for then, now in zip(before, (acted.joints, acted.confidence, acted.timestamps), strict=True):
        np.testing.assert_array_equal(then, now)


@pytest.mark.parametrize("share", CURVES["joints unseen, share of time"].severities)
def test_joints_are_unseen_for_their_share_of_the_time(share: float, rng: np.random.Generator) -> None:
    long = perform(1, seconds=300).poses
    unseen = CURVES["joints unseen, share of time"].bend(long, share, rng).confidence == 0
    assert not unseen[:, 0].any()
    assert unseen[:, 1:].mean() == pytest.approx(share, abs=0.02)


def test_a_limb_is_unseen_from_its_joint_on_and_nothing_else_is(acted: PoseSequence, rng: np.random.Generator) -> None:
    unseen = CURVES["left leg unseen, share of time"].bend(acted, 1.0, rng).confidence == 0
    limb = [i for i, name in enumerate(acted.layout.joints) if name in ("left_knee", "left_ankle", "left_foot")]
    assert limb
    assert unseen[:, limb].all()
    assert not np.delete(unseen, limb, axis=1).any()


def test_a_limb_is_unseen_two_seconds_at_a_stretch(rng: np.random.Generator) -> None:
    long = perform(1, seconds=600).poses
    unseen = CURVES["right arm unseen, share of time"].bend(long, 0.25, rng).confidence == 0
    wrist = unseen[:, long.layout.joints.index("right_wrist")]
    assert wrist.mean() == pytest.approx(0.25, abs=0.06)
    borders = np.flatnonzero(np.diff(wrist.astype(int)))
    assert set(np.diff(borders) % 60) == {0}


def test_noise_is_of_its_size(acted: PoseSequence, rng: np.random.Generator) -> None:
    assert (CURVES["joint noise, mm"].bend(acted, 20, rng).joints - acted.joints).std() == pytest.approx(0.02, rel=0.02)


def test_dropped_frames_leave_the_others_their_times(acted: PoseSequence, rng: np.random.Generator) -> None:
    left = CURVES["frames dropped, %"].bend(acted, 50, rng)
    assert len(left) / len(acted) == pytest.approx(0.5, abs=0.05)
    assert left.timestamps[0] == acted.timestamps[0]
    at = np.searchsorted(acted.timestamps, left.timestamps)
    np.testing.assert_array_equal(acted.timestamps[at], left.timestamps)
    np.testing.assert_array_equal(acted.joints[at], left.joints)


def test_labels_go_along_with_a_wrong_clock() -> None:
    fast = CURVES["claimed speed over true speed"]
    labels = np.repeat([0, 1, 0], [30, 60, 31])
    np.testing.assert_array_equal(fast.labels(labels, 2), np.repeat([0, 1, 0], [15, 30, 16]))
    slow = fast.labels(labels, 0.8)
    assert len(slow) == 151
    assert (slow == 1).sum() == 75
    assert fast.bend(labelled(0, 121).poses, 2, np.random.default_rng(0)).duration == pytest.approx(2)


@pytest.mark.parametrize("degrees", [45, 180])
def test_a_turn_keeps_heights_and_distances(degrees: float, acted: PoseSequence, rng: np.random.Generator) -> None:
    turned = CURVES["turned, degrees"].bend(acted, degrees, rng).joints
    np.testing.assert_allclose(turned[..., 1], acted.joints[..., 1], atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(turned, axis=-1), np.linalg.norm(acted.joints, axis=-1), rtol=1e-4)


def test_a_mirrored_picture_that_is_declared_is_put_right(acted: PoseSequence) -> None:
    np.testing.assert_allclose(native(mirror(acted, declared=True)), native(acted), atol=1e-6)
    sides = native(acted)[:, list(BODY16.mirror)] * [-1, 1, 1, 1]
    np.testing.assert_allclose(native(mirror(acted, declared=False)), sides, atol=1e-6)


# --- the adversary ---------------------------------------------------------------------------------------------------


def true_score(network: Localizer, one: LabelledSequence, poses: Floats) -> float:
    with torch.no_grad():
        scores = network(torch.from_numpy(poses)[None])[0][0].softmax(-1).numpy()
    return float(scores[np.arange(len(scores)), one.labels].mean())


@pytest.mark.parametrize("hold", [1, HOLD])
def test_an_adversary_does_more_harm_than_chance_of_the_same_size(
    hold: int, network: Localizer, rng: np.random.Generator
) -> None:
    one, radius = labelled(2, 150), 0.02
    poses = metric(one)
    against, by_chance = (
        attack(network, poses, one.labels, radius, rng, hold),
        chance(network, poses, one.labels, radius, rng, hold),
    )
    assert np.linalg.norm(against, axis=-1).max() <= radius * (1 + 1e-5)
    np.testing.assert_allclose(np.linalg.norm(by_chance, axis=-1), radius, rtol=1e-5)
    clean = true_score(network, one, poses)
    harm, control = (
        clean - true_score(network, one, native(moved_by(one, poses, x).poses)) for x in (against, by_chance)
    )
    assert harm > 3 * abs(control)
    for shift in (against, by_chance):
        np.testing.assert_array_equal(shift, np.repeat(shift[::hold], hold, axis=0)[:150])


def test_an_adversary_moves_no_joint_that_is_not_seen(network: Localizer, rng: np.random.Generator) -> None:
    one = labelled(3, 40)
    poses = metric(one)
    poses[10:, 6, 3] = 0
    shift = attack(network, poses, one.labels, 0.01, rng)
    assert not shift[10:, 6].any()
    assert shift[:10, 6].any()
    assert not chance(network, poses, one.labels, 0.01, rng)[10:, 6].any()


def test_what_was_left_out_is_not_attacked(network: Localizer, rng: np.random.Generator) -> None:
    """Without any label there is nowhere to go: the random start is all."""
    poses = metric(labelled(3, 40))
    nothing = np.full(40, -1)
    shift = attack(network, poses, nothing, 0.01, rng)
    same_start = attack(network, poses, np.zeros(40, np.int64), 0.01, np.random.default_rng(0))
    assert np.linalg.norm(shift, axis=-1).mean() == pytest.approx(0.005, rel=0.1)
    assert np.linalg.norm(same_start, axis=-1).mean() > 0.008


def test_a_picture_has_no_centimetres() -> None:
    one = labelled(4, 30)
    flat = replace(one, poses=ONCE["a picture, no depth (2D)"](one.poses, np.random.default_rng(0)))
    with pytest.raises(UnitUnknown, match="moved by metres, but made up 4 is in pixel"):
        metric(flat)


# --- figures ---------------------------------------------------------------------------------------------------------


def test_side_by_side_says_what_one_after_another_says(bundle: ModelBundle) -> None:
    """Also where there are more recordings than slots, of other lengths, and one with a gap that begins it anew."""
    sequences = [labelled(seed, 90 + 37 * seed) for seed in range(5)]
    times = sequences[1].poses.timestamps
    broken = replace(sequences[1].poses, timestamps=np.where(times > 2, times + 3, times))
    sequences[1] = replace(sequences[1], poses=broken)
    alone = stream_all(bundle.manifest, open_scorer(bundle), sequences, None)
    together = stream_side_by_side(bundle.manifest, open_scorer(bundle, slots=3), sequences, None)
    assert any(one.events for one in alone)
    for one, other in zip(alone, together, strict=True):
        assert one.name == other.name
        np.testing.assert_array_equal(one.labels, other.labels)
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)
        assert [(e.phase, e.label, e.start, e.end, e.decided) for e in one.events] == [
            (e.phase, e.label, e.start, e.end, e.decided) for e in other.events
        ]


def test_the_cards_conditions(bundle: ModelBundle) -> None:
    found = robustness(bundle.manifest, open_scorer(bundle), [labelled(seed, 120) for seed in (1, 2)], None)
    assert set(found) == set(CONDITIONS)
    assert found["mirrored, declared"] == found[AS_RECORDED]
    assert found["joint noise of 1 cm"] != found[AS_RECORDED]


def test_measure_and_plot(bundle: ModelBundle, network: Localizer, tmp_path: Path) -> None:
    sets = {"one": [labelled(1, 100)], "other": [labelled(2, 90), labelled(3, 80)]}
    results = measure(bundle.manifest, open_scorer(bundle), network, sets, None)
    assert set(results) == {*CURVES, *MOVES, ONCE_ONLY}
    for name, curve in CURVES.items():
        assert [float(severity) for severity in results[name]] == sorted({curve.clean, *curve.severities})
        assert results[name][f"{curve.clean:g}"] == results[ONCE_ONLY][AS_RECORDED]
    for name in MOVES:
        assert [int(severity) for severity in results[name]] == [0, *RADII]
        assert results[name]["0"] == results[ONCE_ONLY][BY_NETWORK]
    against, clean = results["adversary, mm"]["20"]["mean"], results[ONCE_ONLY][BY_NETWORK]["mean"]
    assert against["frame_map"] < clean["frame_map"]
    for severities in results.values():
        for found in severities.values():
            assert found["mean"]["frame_map"] == pytest.approx(
                (found["one"]["frame_map"] + found["other"]["frame_map"]) / 2
            )
    plot(json.loads(json.dumps(results)), tmp_path / "robustness.png")
    assert (tmp_path / "robustness.png").read_bytes().startswith(b"\x89PNG")


def test_without_a_network_there_is_no_adversary(bundle: ModelBundle) -> None:
    results = measure(bundle.manifest, open_scorer(bundle), None, {"one": [labelled(1, 60)]}, None)
    assert set(results) == set(CURVES) | {ONCE_ONLY}
