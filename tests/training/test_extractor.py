"""The simulated extractor: errors of the size that was measured, and none where none are asked for."""

from dataclasses import replace

import numpy as np
import pytest

from poseline.actor import perform
from poseline.pose import NATIVE, Coordinates, PoseConverter, PoseSequence
from poseline.skeleton import BODY16, Floats
from poseline_training.extractor import MEDIAPIPE, ExtractorNoise, estimate, extract, flatten

NOTHING = ExtractorNoise(jitter=0, bursts=0, wander=0, wander_seconds=0.5, depth=(1, 1), hidden=0, lost=0)
# Means of five clips, docs/extractors.md.
CLIPS = {"jitter": 0.0021, "jitter_depth": 0.0032, "burst": 6.0, "bones": 0.078, "hidden": 0.146}


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def acted() -> PoseSequence:
    return perform(5, seconds=120).poses


def native(poses: PoseSequence) -> Floats:
    return PoseConverter(poses.layout, poses.coordinates)(poses.joints, poses.confidence)


def sequence(native_poses: Floats) -> PoseSequence:
    times = np.arange(len(native_poses)) / 30
    return PoseSequence(native_poses[..., :3], native_poses[..., 3], times, BODY16, NATIVE)


def test_estimate_finds_the_jitter_that_was_put_in(rng: np.random.Generator) -> None:
    still = np.repeat(native(perform(1, seconds=2).poses)[:1], 3000, axis=0)
    shaken = still.copy()
    shaken[..., :3] += rng.standard_normal(still[..., :3].shape) * [0.004, 0.004, 0.009]
    found = estimate(sequence(shaken))
    assert found["jitter"] == pytest.approx(0.004, rel=0.05)
    assert found["jitter_depth"] == pytest.approx(0.009, rel=0.05)
    assert found["burst"] == pytest.approx(1, rel=0.05)


def test_estimate_finds_stretched_limbs(rng: np.random.Generator) -> None:
    still = np.repeat(native(perform(1, seconds=2).poses)[:1], 4000, axis=0)
    stretched = still.copy()
    stretched[..., :3] *= 1 + 0.08 * rng.standard_normal((len(still), 1, 1))
    assert estimate(sequence(still))["bones"] == pytest.approx(0, abs=1e-5)
    assert estimate(sequence(stretched))["bones"] == pytest.approx(0.08, rel=0.1)


def test_the_simulated_extractor_errs_as_the_real_one_did(acted: PoseSequence, rng: np.random.Generator) -> None:
    clean, told = estimate(acted), estimate(sequence(extract(native(acted), MEDIAPIPE, rng)))
    for name, measured in CLIPS.items():
        assert 0.6 * measured < told[name] < 2 * measured, name
        assert clean[name] < told[name] or name == "burst"


def test_without_errors_only_place_and_trunk_differ(acted: PoseSequence, rng: np.random.Generator) -> None:
    poses = native(acted)
    told = extract(poses, NOTHING, rng)
    limbs = [i for i, name in enumerate(BODY16.joints) if "_" in name]
    hips = poses[:, [10, 13], :3].mean(axis=1, keepdims=True)
    np.testing.assert_allclose(told[:, limbs, :3], poses[:, limbs, :3] - hips, atol=1e-5)
    np.testing.assert_array_equal(told[:, 0, :3], 0)
    np.testing.assert_array_equal(told[..., 3], poses[..., 3])


def test_the_same_dice_give_the_same_errors(acted: PoseSequence) -> None:
    poses = native(acted)
    one, other = (extract(poses, MEDIAPIPE, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(one, other)
    assert (one != extract(poses, MEDIAPIPE, np.random.default_rng(4))).any()


def test_a_hidden_limb_is_a_guess_of_low_confidence(acted: PoseSequence, rng: np.random.Generator) -> None:
    told = extract(native(acted), replace(NOTHING, hidden=0.3), rng)
    doubted = told[..., 3] < 0.5
    assert 0.1 < doubted[:, 6].mean() < 0.5
    assert not doubted[:, [0, 1, 2, 3]].any()


def test_a_picture_is_what_a_lens_sees(acted: PoseSequence) -> None:
    """Up to place and scale, which the network takes out, the same as pixels that came in through the converter."""
    poses = native(acted)[:300]
    distance, height = 3.0, 0.2
    middle = poses[:, 0, :3].mean(axis=0)
    away = poses[..., :3] - middle - [0, height, distance]
    pixels = np.stack([320 + 525 * away[..., 0] / -away[..., 2], 240 - 525 * away[..., 1] / -away[..., 2]], axis=-1)
    seen = PoseConverter(BODY16, Coordinates("pixel", 2, "down"))(pixels.astype(np.float32), poses[..., 3])
    flat = flatten(poses, distance, height)
    np.testing.assert_array_equal(flat[..., 2], 0)
    np.testing.assert_allclose(about_pelvis(seen) * distance / 525, about_pelvis(flat), atol=1e-4)


def about_pelvis(poses: Floats) -> Floats:
    return poses[..., :2] - poses[:, :1, :2]
