"""A person's stream written down in the middle and continued elsewhere, as if nothing had happened."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from made_up import recording
from poseline.bundle import ModelBundle, find_bundle
from poseline.errors import StateError
from poseline.online import StreamLocalizer
from poseline.pose import PoseFrame
from poseline.segments import SegmentEvent
from poseline_service.engine import open_scorer
from tiny_bundle import write_bundle

DEFAULT = Path(__file__).parents[2] / "models"


def frames(seed: int, count: int = 300) -> list[PoseFrame]:
    """Somebody whose joints are missing now and then, at an uneven pace."""
    rng = np.random.default_rng(seed)
    poses = recording(seed, count).frames()
    late = np.cumsum(rng.uniform(0.02, 0.05, count))
    hidden = rng.random((count, 16)) < 0.03
    return [
        PoseFrame(float(t), one.joints, np.where(gone, 0, one.confidence))
        for t, one, gone in zip(late, poses, hidden, strict=True)
    ]


def heard(stream: StreamLocalizer, some: list[PoseFrame], scores: list[np.ndarray]) -> list[SegmentEvent]:
    stream._on_scores = lambda frame, p: scores.append(p)
    return [event for frame in some for event in stream.push(frame)]


@pytest.fixture(scope="module")
def bundle(models: Path) -> ModelBundle:
    return find_bundle(models)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 50), shift=st.integers(-(10**6), 10**6), data=st.data())
def test_results_are_on_the_clients_clock(bundle: ModelBundle, seed: int, shift: int, data: st.DataObject) -> None:
    """Another zero moves every time by as much and nothing else; frames that are late or there twice change nothing."""
    motion = frames(seed, 150)
    moved = [PoseFrame(one.t + shift, one.joints, one.confidence) for one in motion]
    for at in sorted(data.draw(st.lists(st.integers(1, 149), max_size=10)), reverse=True):
        back = data.draw(st.integers(0, at - 1))
        moved.insert(at, moved[back])
    with StreamLocalizer(bundle.manifest, open_scorer(bundle, 1)) as stream:
        expected = heard(stream, motion, []) + stream.finish()
    with StreamLocalizer(bundle.manifest, open_scorer(bundle, 1)) as stream:
        found = heard(stream, moved, []) + stream.finish()
    assert [(one.phase, one.label) for one in found] == [(one.phase, one.label) for one in expected]
    times = np.array([(one.start, one.end) for one in found]) - shift
    np.testing.assert_allclose(times, [(one.start, one.end) for one in expected], atol=1e-6)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 50), cut=st.integers(0, 300), dirt=st.integers(0, 40))
def test_it_goes_on_exactly(bundle: ModelBundle, seed: int, cut: int, dirt: int) -> None:
    motion = frames(seed)
    whole: list[np.ndarray] = []
    parts: list[np.ndarray] = []
    with StreamLocalizer(bundle.manifest, open_scorer(bundle, 1)) as stream:
        expected = heard(stream, motion, whole) + stream.finish()
    with StreamLocalizer(bundle.manifest, open_scorer(bundle, 1)) as before:
        events = heard(before, motion[:cut], parts)
        snapshot = before.save()
    scorer = open_scorer(bundle, 3)
    with StreamLocalizer(bundle.manifest, scorer) as other, StreamLocalizer(bundle.manifest, scorer) as after:
        heard(other, frames(99)[:dirt], [])
        heard(after, frames(98)[:dirt], [])  # the slot is not clean when the snapshot comes
        after.load(snapshot)
        events += heard(after, motion[cut:], parts) + after.finish()
    assert events == expected
    np.testing.assert_array_equal(np.array(parts), np.array(whole))


def test_the_default_models_snapshot_is_small() -> None:
    bundle = find_bundle(DEFAULT)
    with StreamLocalizer(bundle.manifest, open_scorer(bundle, 1)) as stream:
        heard(stream, frames(1), [])
        assert len(stream.save()) <= 32 * 1024


def test_what_is_damaged_or_of_another_network_is_refused(bundle: ModelBundle, tmp_path: Path) -> None:
    with StreamLocalizer(bundle.manifest, open_scorer(bundle, 1)) as stream:
        heard(stream, frames(1)[:40], [])
        snapshot = stream.save()
        for damaged, match in (
            (b"", "no saved track"),
            (snapshot[:5], "no saved track"),
            (snapshot.replace(b"track 3", b"track 9", 1), "another version"),
            (snapshot[:-1], "damaged"),
            (snapshot[:100] + bytes([snapshot[100] ^ 1]) + snapshot[101:], "damaged"),
            (snapshot + b"x", "damaged"),
        ):
            with pytest.raises(StateError, match=match):
                stream.load(damaged)
    other = write_bundle(tmp_path)
    manifest = other.manifest.model_copy(update={"fps": 15.0})
    with (
        StreamLocalizer(manifest, open_scorer(other, 1)) as stranger,
        pytest.raises(StateError, match="of another network"),
    ):
        stranger.load(snapshot)
