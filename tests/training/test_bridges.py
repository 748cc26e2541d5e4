"""Bridges and streams composed anew: nothing jumps, bones keep their lengths, clips stay as they are; what tells them."""

from itertools import count, islice

import numpy as np
import pytest

from poseline.formats.corpus import LabelledSequence
from poseline.pose import NATIVE, PoseSequence
from poseline.skeleton import BODY16
from poseline_training.bridges import SHORTEST, End, Joiner, Texture, between_samples, interpolated, path
from poseline_training.compose import composed_anew, join
from poseline_training.giveaways import STATISTICS, Detector, Frames, auc, bridge_detector, speed_only, statistics
from poseline_training.streams import Stitched

PARENTS = np.array(BODY16.parents[1:])
REST = np.cumsum(np.random.default_rng(0).normal(scale=0.2, size=(16, 3)), axis=0)


def motion(frames: int, seed: int, noise: float = 0.002) -> np.ndarray:
    """A body of rigid bones that sways, walks along x and is seen with noise: (T, 16, 4)."""
    rng = np.random.default_rng(seed)
    angle = np.cumsum(np.cumsum(rng.normal(scale=0.004, size=(frames, 16)), axis=0) * 0.9, axis=0) + rng.normal()
    made = np.ones((frames, 16, 4))
    made[:, 0, :3] = np.arange(frames)[:, None] * [0.01, 0, 0] + [0, 0.9, 2]
    bones = REST[1:] - REST[PARENTS]
    for joint, (parent, (x, y, z)) in enumerate(zip(PARENTS, bones, strict=True), start=1):
        c, s = np.cos(angle[:, joint]), np.sin(angle[:, joint])
        made[:, joint, :3] = made[:, parent, :3] + np.stack([c * x + s * z, np.full(frames, y), c * z - s * x], axis=1)
    made[..., :3] += rng.normal(scale=noise, size=(frames, 16, 3))
    return made.astype(np.float32)


def slow(poses: np.ndarray) -> np.ndarray:
    """As a sensor of half the rate would have seen it, filled in."""
    poses = poses.copy()
    poses[1:-1:2] = (poses[:-2:2] + poses[2::2]) / 2
    return poses


def lengths(joints: np.ndarray) -> np.ndarray:
    return np.linalg.norm(joints[:, 1:, :3] - joints[:, PARENTS, :3], axis=-1)


def test_a_path_leaves_and_arrives_with_the_velocities_of_its_ends() -> None:
    before = End.of(motion(40, 1, noise=0), last=True)
    after = End.of(motion(40, 2, noise=0), last=False)
    way = path(before, after, 400)
    for step, wanted in ((way[0] - before.joints, before.velocity), (way[-1] - way[-2], after.velocity)):
        assert np.abs(step - wanted).max() < 0.05 * np.abs(wanted).max()
    moved = way[-1] - after.joints
    np.testing.assert_allclose(moved, np.broadcast_to(moved[0] * [1, 0, 1], moved.shape), atol=1e-5)


def test_bones_keep_their_length_on_the_way() -> None:
    before, after = End.of(motion(40, 1, noise=0), last=True), End.of(motion(40, 2, noise=0), last=False)
    np.testing.assert_allclose(
        lengths(path(before, after, 20)), np.broadcast_to(lengths(REST[None]), (21, 15)), rtol=0.01
    )


def test_a_walk_goes_on_at_its_pace() -> None:
    walk = motion(40, 1, noise=0)
    way = path(End.of(walk, last=True), End.of(walk, last=False), 20)
    np.testing.assert_allclose(np.diff(way[:, 0, 0]), 0.01, atol=1e-4)


def test_the_end_of_a_piece_is_fitted_through_the_noise() -> None:
    line = np.zeros((12, 16, 4), np.float32)
    line[..., 0] = 0.03 * np.arange(12)[:, None]
    end = End.of(line, last=True)
    np.testing.assert_allclose(end.joints[:, 0], 0.33, atol=1e-6)
    np.testing.assert_allclose(end.velocity, np.broadcast_to([0.03, 0, 0], (16, 3)), atol=1e-6)
    assert (
        np.abs(End.of(motion(12, 3), last=False).velocity - End.of(motion(12, 3, 0), last=False).velocity).max() < 0.004
    )


def test_frames_that_were_filled_in_are_found_and_filled_in_again() -> None:
    poses = slow(motion(41, 1))
    between = between_samples(poses)
    assert between[1:-1:2].mean() > 0.95
    assert not between[::2].any()
    np.testing.assert_allclose(interpolated(poses[..., :3], np.arange(41) % 2 == 1), poses[..., :3], atol=1e-6)
    assert between_samples(motion(200, 1)).mean() < 0.05


def test_a_stretch_of_noise_begins_and_ends_with_a_sample() -> None:
    texture = Texture([slow(motion(61, seed)) for seed in range(4)])
    rng = np.random.default_rng(0)
    for wanted in (8, 13, 20, 300):
        fine, between = texture.sample(wanted, 0.01, rng)
        assert len(fine) == len(between)
        assert wanted == 300 or wanted <= len(fine) <= wanted + 2
        assert not between[0]
        assert not between[-1]
        assert 0.001 < fine[~between].std() < 0.01


def test_short_pieces_have_a_texture_too() -> None:
    fine, _ = Texture([motion(9, 1), motion(10, 2)]).sample(10, 0.01, np.random.default_rng(0))
    assert len(fine) >= SHORTEST


@pytest.fixture
def joiner() -> Joiner:
    return Joiner([(motion(60 + seed, seed), np.full(60 + seed, seed + 1)) for seed in range(7)])


def test_nothing_jumps_where_a_bridge_begins_or_ends(joiner: Joiner) -> None:
    rng = np.random.default_rng(0)
    parts = list(joiner.stream([0, 3, 2, 5], rng))
    assert [len(y) for _, y in parts[::2]] == [60, 63, 62, 65]
    assert all((y == 0).all() for _, y in parts[1::2])
    poses = np.concatenate([x for x, _ in parts])
    speed = np.linalg.norm(np.diff(poses[..., :3], axis=0), axis=-1).mean(axis=1)
    seams = np.cumsum([len(y) for _, y in parts])[:-1] - 1
    assert speed[seams].max() < 2 * np.quantile(speed, 0.95)
    for (poses, _), one in zip(parts[::2], [0, 3, 2, 5], strict=True):
        shift = poses[0, 0, :3] - joiner.pieces[one][0][0, 0, :3]
        assert shift[1] == 0
        np.testing.assert_allclose(poses[..., :3], joiner.pieces[one][0][..., :3] + shift, atol=1e-5)


def test_a_bridge_between_near_poses_is_short() -> None:
    near = [motion(60, 1), motion(60, 1)]
    turned = motion(60, 1)
    turned[..., :3] = turned[..., [2, 1, 0]] * [1, 1, -1]

    def mean_frames(pieces: list[np.ndarray], to: int) -> float:
        joiner = Joiner([(x, np.ones(60, np.int64)) for x in [*pieces, turned]])
        return float(np.mean([len(joiner.bridge(0, to, np.random.default_rng(seed))[0]) for seed in range(30)]))

    loop = [motion(60, 1)[:30], motion(60, 1)[30:]]
    assert mean_frames(loop, 1) < mean_frames(near, 2)


def test_a_bridge_is_as_noisy_as_the_recording(joiner: Joiner) -> None:
    def flicker(poses: np.ndarray) -> float:
        return float(np.median(np.abs(np.diff(poses[..., :3], 2, axis=0))))

    bridges = [joiner.bridge(a, b, np.random.default_rng(a))[0] for a in range(7) for b in range(7) if a != b]
    recorded = float(np.mean([flicker(poses) for poses, _ in joiner.pieces]))
    assert np.mean([flicker(one) for one in bridges]) == pytest.approx(recorded, rel=0.2)


def test_pieces_are_drawn_evenly_and_laid_by_nearness(joiner: Joiner) -> None:
    rng = np.random.default_rng(0)
    drawn = (int(rng.integers(7)) for _ in count())
    dealt = np.bincount(list(islice(joiner.nearest_first(drawn), 2100)), minlength=7)
    assert dealt.min() > 230
    assert sorted(joiner.nearest_first(range(7))) == list(range(7))

    def way(order: list[int]) -> int:
        return sum(len(x) for x, _ in list(joiner.stream(order, np.random.default_rng(1)))[1::2])

    orders = [np.random.default_rng(seed).permutation(7).tolist() for seed in range(40)]
    assert sum(way(list(joiner.nearest_first(one))) for one in orders) < sum(way(one) for one in orders)


def test_joining_is_a_function_of_pieces_and_rng(joiner: Joiner) -> None:
    one, other = (join(joiner.pieces, 300, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(one[0], other[0])
    np.testing.assert_array_equal(one[1], other[1])
    assert one[0].shape == (300, 16, 4)
    assert one[0].dtype == np.float32
    assert np.isfinite(one[0]).all()


def sequence(poses: np.ndarray, labels: np.ndarray, name: str) -> LabelledSequence:
    clock = np.arange(len(poses)) / 30
    made = PoseSequence(poses[..., :3], poses[..., 3], clock, BODY16, NATIVE, name)
    return LabelledSequence(made, labels, ("background", "one", "other"), "set", "s1", "v1")


def stitched(seed: int, gap: int = 30) -> Stitched:
    """Clips with straight bridges between them, as clean as no sensor sees."""
    clips = [
        sequence(motion(50, 10 * seed + k), np.r_[np.zeros(10), np.ones(40)].astype(np.int64), f"{seed}.{k}")
        for k in range(6)
    ]
    poses, labels, starts = [], [], []
    for clip in clips:
        x = np.concatenate([clip.poses.joints, clip.poses.confidence[..., None]], axis=-1)
        if poses:
            share = (np.arange(1, gap + 1) / (gap + 1))[:, None, None]
            poses.append((poses[-1][-1] * (1 - share) + x[0] * share).astype(np.float32))
            labels.append(np.zeros(gap, np.int64))
        starts.append(sum(map(len, poses)))
        poses.append(x)
        labels.append(clip.labels)
    stream = sequence(np.concatenate(poses), np.concatenate(labels), f"stream{seed}")
    return Stitched(stream, tuple(clips), tuple(starts))


def test_streams_composed_anew_hold_every_clip_once_as_it_was() -> None:
    shipped = [stitched(1), stitched(2)]
    anew = composed_anew(shipped, seed=3)
    assert [len(one.clips) for one in anew] == [6, 6]
    assert sorted(c.name for one in anew for c in one.clips) == sorted(c.name for one in shipped for c in one.clips)
    assert [c.name for c in anew[0].clips] != [c.name for c in shipped[0].clips]
    for one in anew:
        joints = one.stream.poses.joints
        for clip, start in zip(one.clips, one.starts, strict=True):
            span = slice(start, start + 50)
            own = clip.poses.joints
            np.testing.assert_allclose(joints[span] - joints[start, 0], own - own[0, 0], atol=1e-5)
            np.testing.assert_array_equal(one.stream.labels[span], clip.labels)
        assert one.bridges().sum() == len(joints) - 300
        assert (one.stream.labels[one.bridges()] == 0).all()
    again = composed_anew(shipped, seed=3)
    np.testing.assert_array_equal(again[0].stream.poses.joints, anew[0].stream.poses.joints)


def test_statistics_are_causal_and_what_they_say() -> None:
    poses = motion(80, 1)
    changed = poses.copy()
    changed[50:] += 1
    np.testing.assert_array_equal(statistics(poses)[:50], statistics(changed)[:50])
    moving = np.ones((40, 16, 4), np.float32)
    moving[:, 1:, 0] += 0.02 * np.arange(40)[:, None]  # 0.6 m/s about a pelvis that stands
    told = dict(zip(STATISTICS, statistics(moving)[-1], strict=True))
    assert told["speed"] == pytest.approx(0.6 * 15 / 16, rel=1e-3)
    assert told["acceleration"] == pytest.approx(0, abs=1e-3)
    assert told["travel"] == 0
    assert statistics(slow(motion(81, 1)))[20:, -1].min() > 3 > np.median(statistics(motion(81, 1))[20:, -1])


def test_auc_counts_pairs() -> None:
    scores, true = np.array([0.1, 0.4, 0.4, 0.8]), np.array([False, True, False, True])
    assert auc(scores, true) == (1 + 0.5 + 1 + 1) / 4
    assert auc(-scores, true) == pytest.approx(1 - auc(scores, true))


def test_a_detector_finds_what_no_single_statistic_tells() -> None:
    features = np.exp(np.random.default_rng(0).normal(size=(4000, 2)))
    true = features[:, 0] * features[:, 1] > 1
    assert auc(Detector(features[:2000], true[:2000])(features[2000:]), true[2000:]) > 0.99
    assert auc(Detector(features[:2000, :1], true[:2000])(features[2000:, :1]), true[2000:]) < 0.9


def test_straight_clean_bridges_give_themselves_away_and_new_ones_less() -> None:
    train, test = [stitched(seed) for seed in range(6)], [stitched(seed) for seed in range(6, 10)]
    shipped = bridge_detector(Frames.of(train), Frames.of(test))
    anew = bridge_detector(Frames.of(composed_anew(train, 1)), Frames.of(composed_anew(test, 1)))
    assert shipped["detector"] > 0.95
    assert anew["detector"] < shipped["detector"] - 0.15


def test_speed_alone_tells_moving_from_standing() -> None:
    poses = np.concatenate([np.repeat(motion(1, 1), 60, axis=0), motion(60, 1, noise=0)])
    told = speed_only([sequence(poses, np.r_[np.zeros(60), np.ones(60)].astype(np.int64), "s")])
    assert told["auc"] > 0.99
    assert told["action"] == 0.5
