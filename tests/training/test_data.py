"""What training sees: crops, joined streams, bent clips; the same batch for the same number."""

import numpy as np
import pytest
import torch

from poseline.skeleton import BODY16
from poseline_training.augment import augment, resample, slow_source
from poseline_training.compose import Cropper, cut, join
from poseline_training.config import ActorSettings, AugmentSettings, DataSettings, FinetuneSettings
from poseline_training.corpus import TrainingData, TrainingSequence, TrainingSet, load_training_data
from poseline_training.sampling import LabelledBatches, TwoViews

NOTHING = AugmentSettings(
    yaw=0,
    any_yaw=0,
    tilt=0,
    scale=0,
    stretch=0,
    bones=0,
    noise=0,
    freeze=0,
    missing=0,
    doubt=0,
    hip_centred=0,
    extractor=0,
    flat=0,
    slow_source=0,
)


@pytest.fixture(scope="module")
def data() -> TrainingData:
    return load_training_data(DataSettings(actor=ActorSettings(weight=1.0, streams=3, seconds=20)))


def poses(frames: int = 90) -> np.ndarray:
    rng = np.random.default_rng(0)
    made = np.ones((frames, 16, 4), np.float32)
    made[..., :3] = rng.normal(size=(1, 16, 3)) + np.cumsum(rng.normal(scale=0.01, size=(frames, 16, 3)), axis=0)
    return made


def test_a_batch_is_a_function_of_its_number(data: TrainingData) -> None:
    settings = FinetuneSettings(batch=3, frames=64)
    one, other = LabelledBatches(data, settings), LabelledBatches(data, settings)
    for n in (0, 5):
        assert all(torch.equal(a, b) for a, b in zip(one[n], other[n], strict=True))
    assert not torch.equal(one[0][0], one[1][0])
    assert one[0][0].shape == (3, 64, 16, 4)
    assert one[0][0].dtype == torch.float32


def test_two_views_differ_but_show_the_same_clip(data: TrainingData) -> None:
    strong, weak, real = TwoViews(data, FinetuneSettings(batch=2, frames=64))[0]
    assert strong.shape == weak.shape == (2, 64, 16, 4)
    assert not torch.equal(strong, weak)
    assert real.shape == (2, 64)
    assert real.any()


def test_pieces_are_cut_in_background_gaps_and_lose_no_action() -> None:
    labels = np.r_[np.zeros(20), np.ones(30), np.zeros(20), np.full(30, 2), np.zeros(20)].astype(np.int64)
    (pieces,) = cut((TrainingSequence(poses(120), labels, "p"),))
    assert [len(y) for _, y in pieces] == [60, 60]
    assert [set(y.tolist()) for _, y in pieces] == [{0, 1}, {0, 2}]


def test_joined_streams_have_no_jumps_at_the_root() -> None:
    labels = np.r_[np.zeros(20), np.ones(30), np.zeros(20), np.full(30, 2), np.zeros(20)].astype(np.int64)
    (pieces,) = cut((TrainingSequence(poses(120), labels, "p"),))
    made, y = join(pieces, 500, np.random.default_rng(1))
    assert len(made) == len(y) == 500
    steps = np.abs(np.diff(made[:, 0, [0, 2]], axis=0))
    assert steps.max() < 0.1
    assert {0, 1, 2} == set(y.tolist())


def test_a_crop_of_a_short_recording_is_the_recording() -> None:
    one = TrainingSequence(poses(40), np.zeros(40, np.int64), "p")
    cropped, labels, from_start = Cropper(TrainingSet("s", (one,), 1.0, 0.0)).crop(100, np.random.default_rng(0))
    assert len(cropped) == len(labels) == 40
    assert from_start


@pytest.mark.parametrize("restitch", [0.0, 1.0])
def test_balance_shows_the_rare_class_as_often_as_its_frequency_to_that_power(restitch: float) -> None:
    """Class 1 has 15 recordings, class 2 has 1, of 30 action frames each."""

    def recording(label: int) -> TrainingSequence:
        return TrainingSequence(poses(60), np.r_[np.zeros(15), np.full(30, label), np.zeros(15)].astype(np.int64), "p")

    one = TrainingSet("s", tuple(recording(label) for label in [1] * 15 + [2]), 1.0, restitch)
    data = TrainingData(("background", "often", "rare"), (one,))

    def rare_share(balance: float) -> float:
        cropper, rng = Cropper(one, data.draw_weights(balance)), np.random.default_rng(0)
        labels = np.concatenate([cropper.crop(240, rng)[1] for _ in range(400)])
        return float((labels == 2).sum() / (labels > 0).sum())

    assert rare_share(0.0) == pytest.approx(1 / 16, abs=0.03)
    assert rare_share(0.5) == pytest.approx(15**0.5 / (15 + 15**0.5), abs=0.05)
    assert rare_share(1.0) == pytest.approx(1 / 2, abs=0.06)
    assert data.draw_weights(0.0) is None


def test_resampling_keeps_labels_beside_their_poses() -> None:
    labels = np.r_[np.zeros(30), np.ones(60)].astype(np.int64)
    out, y = resample(poses(90), labels, 120, 0.5)
    assert (y[:59] == 0).all()
    assert (y[61:] == 1).all()
    np.testing.assert_allclose(out[10], poses(90)[5], atol=1e-6)
    _, y = resample(poses(90), labels, 100, 1.0)
    assert (y[90:] == -1).all(), "beyond the end there is nothing to learn"


def test_doing_nothing_does_nothing_but_mirror() -> None:
    x = poses()
    mirrored = x[:, list(BODY16.mirror)] * np.array([-1, 1, 1, 1], np.float32)
    seen = set()
    for seed in range(10):
        out = augment(x, NOTHING, np.random.default_rng(seed))
        plain, twin = np.allclose(out, x, atol=1e-5), np.allclose(out, mirrored, atol=1e-5)
        assert plain or twin
        seen.add(bool(plain))
    assert seen == {True, False}


def test_augmentation_never_touches_its_input() -> None:
    x = poses()
    before = x.copy()
    for seed in range(20):
        augment(x, AugmentSettings(missing=1, freeze=1, doubt=1, hip_centred=0.5), np.random.default_rng(seed))
    np.testing.assert_array_equal(x, before)


def test_lost_joints_have_no_confidence_and_stay_finite() -> None:
    out = augment(poses(), NOTHING.model_copy(update={"missing": 1.0}), np.random.default_rng(3))
    assert (out[..., 3] == 0).any()
    assert (out[:, 0, 3] == 1).all(), "the root is never taken away"
    assert np.isfinite(out).all()


def test_hip_centred_clips_have_no_root_motion() -> None:
    out = augment(poses(), NOTHING.model_copy(update={"hip_centred": 1.0}), np.random.default_rng(0))
    assert np.abs(out[:, 0, :3]).max() == 0


def test_a_slow_source_is_the_same_motion_in_steps() -> None:
    x = np.zeros((60, 16, 4), np.float32)
    x[..., 0] = np.arange(60)[:, None]
    out = slow_source(x, np.random.default_rng(0))
    assert len(out) == 60
    assert np.abs(out[:-4, 0, 0] - np.arange(56)).max() < 1.5
