"""A network with look-ahead L says at frame t what was done at frame t - L: what streams and recordings make of that.

The rule does not depend on what a network has learnt, so the small one is taken to look ahead by L frames, for each L.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poseline.decoding import Decision, DecodingOptions, SegmentDecoder
from poseline.errors import InputError, StateError
from poseline.manifest import ModelManifest
from poseline.online import OnlineLocalizer, StreamLocalizer
from poseline.pose import PoseFrame, PoseSequence
from poseline.resampling import GridFrame
from poseline.segments import SegmentEvent
from poseline.whole import localize_whole
from poseline_service.engine import open_scorer
from small_network import CLASSES, Truth, exported, made, motion, said

EXACT = 1e-5
LAGS = (0, 4, 15)
OPTIONS = DecodingOptions(min_score=0.4, off_score=0.3, min_duration=2 / 30)

Told = list[tuple[float, np.ndarray]]


def walks(truth: Truth) -> np.ndarray:
    """Everybody's joints are all seen, so that the grid hands poses on as they are."""
    poses = truth.poses.copy()
    poses[..., 3] = 1
    return poses


def late(truth: Truth, look_ahead: int) -> ModelManifest:
    return truth.bundle.manifest.model_copy(update={"look_ahead": look_ahead, "decoding": OPTIONS})


def opened(truth: Truth, look_ahead: int, told: Told) -> StreamLocalizer:
    return StreamLocalizer(
        late(truth, look_ahead), open_scorer(truth.bundle, 1), on_scores=lambda t, scores: told.append((t, scores))
    )


def recording(poses: np.ndarray, times: np.ndarray | None = None) -> PoseSequence:
    return PoseSequence(poses[..., :3], poses[..., 3], np.arange(len(poses)) / 30 if times is None else times)


def pushed(stream: StreamLocalizer, frames: Iterable[PoseFrame]) -> list[SegmentEvent]:
    return [event for frame in frames for event in stream.push(frame)]


def held(poses: np.ndarray, look_ahead: int) -> np.ndarray:
    return np.concatenate([poses, poses[-1:].repeat(look_ahead, 0)])


def decided(scores: np.ndarray, boundaries: np.ndarray) -> list[Decision]:
    """What the decoder says of a span: everything by the frames that the scores are about."""
    decoder = SegmentDecoder(1, len(CLASSES) - 1)
    decoder.open(0, OPTIONS)
    found: list[Decision] = []
    for t in range(len(scores)):
        found += [one for _, one in decoder.push(np.array([0]), scores[t : t + 1], boundaries[t : t + 1])]
    return found + decoder.flush(0, "close")


@pytest.mark.parametrize("look_ahead", LAGS)
@pytest.mark.parametrize("frames", [1, 3, 15, 16, 200])
def test_every_frame_has_the_scores_that_are_about_it(truth: Truth, look_ahead: int, frames: int) -> None:
    """Said by the plain meaning: the full sequence, its last pose held; answer t + L is about frame t."""
    poses = walks(truth)[0, :frames]
    scores, _ = said(truth.network, held(poses, look_ahead))
    told: Told = []
    with opened(truth, look_ahead, told) as stream:
        pushed(stream, recording(poses).frames())
        assert len(told) == max(0, frames - look_ahead), "nothing is told before it is known"
        stream.finish()
    assert [t for t, _ in told] == [n / 30 for n in range(frames)]
    assert np.abs(np.array([one for _, one in told]) - scores[look_ahead:]).max() < EXACT


@pytest.mark.parametrize("look_ahead", LAGS)
def test_events_are_of_the_frames_they_are_about_and_of_the_moment_they_were_known(
    truth: Truth, look_ahead: int
) -> None:
    found = 0
    for poses in walks(truth):
        scores, boundaries, _ = open_scorer(truth.bundle, 1).replay(held(poses, look_ahead)[None])
        expected = decided(scores[0, look_ahead:], boundaries[0, look_ahead:])
        with opened(truth, look_ahead, []) as stream:
            events = pushed(stream, recording(poses).frames()) + stream.finish()
        assert [(e.phase, e.label_id, e.start, e.end, e.score, e.forced) for e in events] == [
            (one.phase, one.label, one.start / 30, one.end / 30, one.score, one.forced) for one in expected
        ]
        newest = len(poses) - 1
        assert [e.decided for e in events] == [min(one.decided + look_ahead, newest) / 30 for one in expected]
        found += len(events)
    assert found > 20, "it must have had something to say"


@pytest.mark.parametrize("look_ahead", LAGS)
def test_a_gap_ends_a_span_and_loses_nothing(truth: Truth, look_ahead: int) -> None:
    first, second = walks(truth)[1, :70], walks(truth)[2, :90]
    times = np.concatenate([np.arange(70) / 30, 10 + np.arange(90) / 30])
    told: Told = []
    with opened(truth, look_ahead, told) as stream:
        events = pushed(stream, recording(np.concatenate([first, second]), times).frames()) + stream.finish()
    apart: Told = []
    alone: list[SegmentEvent] = []
    for poses, begin in ((first, 0.0), (second, 10.0)):
        with opened(truth, look_ahead, apart) as stream:
            alone += pushed(stream, recording(poses, begin + np.arange(len(poses)) / 30).frames()) + stream.finish()
    assert [t for t, _ in told] == pytest.approx([t for t, _ in apart])
    assert np.abs(np.array([one for _, one in told]) - np.array([one for _, one in apart])).max() < EXACT
    spans = [(e.phase, e.label, e.start, e.end, e.decided) for e in events]
    assert spans == [(e.phase, e.label, e.start, e.end, e.decided) for e in alone]
    assert {e.forced for e in events if e.decided < 5} <= {"none", "track_end"}


@pytest.mark.parametrize("look_ahead", LAGS)
def test_a_recording_scored_at_once_says_the_same(truth: Truth, look_ahead: int) -> None:
    times = np.concatenate([np.arange(80) / 30, 10 + np.arange(120) / 30])
    for poses in walks(truth):
        told: Told = []
        whole: Told = []
        with opened(truth, look_ahead, told) as stream:
            events = pushed(stream, recording(poses, times).frames()) + stream.finish()
        at_once = localize_whole(
            late(truth, look_ahead),
            lambda some: said(truth.network, some),
            recording(poses, times),
            look_ahead=look_ahead,
            on_scores=lambda t, scores, whole=whole: whole.append((t, scores)),
        )
        assert [t for t, _ in told] == [t for t, _ in whole]
        assert np.abs(np.array([one for _, one in told]) - np.array([one for _, one in whole])).max() < EXACT
        assert [(e.phase, e.label, e.start, e.end, e.decided, e.forced) for e in at_once] == [
            (e.phase, e.label, e.start, e.end, e.decided, e.forced) for e in events
        ]


@settings(max_examples=25, deadline=None)
@given(data=st.data(), look_ahead=st.sampled_from(LAGS))
def test_a_flush_tells_everything_once_and_leaves_the_stream_as_it_was(
    truth: Truth, data: st.DataObject, look_ahead: int
) -> None:
    poses = walks(truth)[data.draw(st.integers(0, 5)), :120]
    cuts = sorted(data.draw(st.lists(st.integers(0, 120), min_size=1, max_size=4)))
    plain: Told = []
    told: Told = []
    with opened(truth, look_ahead, plain) as stream:
        pushed(stream, recording(poses).frames())
        stream.finish()
    with opened(truth, look_ahead, told) as stream:
        for n, frame in enumerate(recording(poses).frames()):
            for _ in range(cuts.count(n)):
                stream.finish()
            stream.push(frame)
        stream.finish()
    assert [t for t, _ in told] == [t for t, _ in plain]
    for n, ((_, one), (_, other)) in enumerate(zip(told, plain, strict=True)):
        before = [cut for cut in cuts if n < cut <= n + look_ahead and cut < len(poses)]
        if not before:  # frames that were not yet known at a flush were told of with a held pose
            assert np.abs(one - other).max() < EXACT, n
        else:
            scores, _ = said(truth.network, held(poses[: before[0]], look_ahead))
            assert np.abs(one - scores[n + look_ahead]).max() < EXACT, n


@settings(max_examples=20, deadline=None)
@given(data=st.data(), look_ahead=st.sampled_from(LAGS))
def test_a_stream_travels_whatever_is_still_to_be_told(truth: Truth, data: st.DataObject, look_ahead: int) -> None:
    frames = recording(walks(truth)[data.draw(st.integers(0, 5)), :90]).frames()
    cut, flush = data.draw(st.integers(0, 90)), data.draw(st.integers(-1, 89))

    def played(stream: StreamLocalizer, first: int, stop: int) -> list[SegmentEvent]:
        events: list[SegmentEvent] = []
        for n in range(first, stop):
            events += stream.push(some[n])
            if n == flush:
                events += stream.finish()
        return events

    some = list(frames)
    stays: Told = []
    moves: Told = []
    with opened(truth, look_ahead, stays) as stream:
        expected = played(stream, 0, 90) + stream.finish()
    with opened(truth, look_ahead, moves) as before:
        events = played(before, 0, cut)
        snapshot = before.save()
    with opened(truth, look_ahead, moves) as after:
        after._on_scores = None
        pushed(after, recording(walks(truth)[3, :40]).frames())  # the slot is not clean when the snapshot comes
        after._on_scores = lambda t, scores: moves.append((t, scores))
        after.load(snapshot)
        events += played(after, cut, 90) + after.finish()
    assert events == expected
    assert [t for t, _ in moves] == [t for t, _ in stays]
    np.testing.assert_array_equal([one for _, one in moves], [one for _, one in stays])


def test_a_state_that_cannot_be_held_is_refused(truth: Truth) -> None:
    with opened(truth, 4, []) as stream:
        pushed(stream, recording(walks(truth)[0, :9]).frames())
        state = stream.localizer.save(stream.slot)
        for change, match in (
            ({"pose": b""}, "lacks the last pose"),
            ({"pose": state.pose[1:]}, "lacks the last pose"),
            ({"pose": np.full(64, np.nan, "<f4").tobytes()}, "lacks the last pose"),
            ({"silent": 5}, "5 answers are to be silent, of a look-ahead of 4"),
            ({"silent": -1}, "-1 answers"),
        ):
            with pytest.raises(StateError, match=match):
                stream.localizer.load(stream.slot, msgspec.structs.replace(state, **change))
    with opened(truth, 15, []) as other, opened(truth, 4, []) as stream, pytest.raises(StateError, match="another net"):
        other.load(stream.save())


@settings(max_examples=15, deadline=None)
@given(data=st.data(), look_ahead=st.sampled_from(LAGS))
def test_neighbours_change_nothing(truth: Truth, data: st.DataObject, look_ahead: int) -> None:
    """Tracks side by side in one localizer, each begun, broken off and gone on when it pleases."""
    count = len(walks(truth))
    starts = [data.draw(st.integers(0, 30)) for _ in range(count)]
    breaks = [data.draw(st.integers(1, 60)) for _ in range(count)]
    alone: list[Told] = []
    for one in range(count):
        alone.append([])
        with opened(truth, look_ahead, alone[-1]) as stream:
            for n, pose in enumerate(walks(truth)[one, :60]):
                t = n / 30 + 10 * (n >= breaks[one])
                stream.push(PoseFrame(t, pose[:, :3], pose[:, 3]))
            stream.finish()
    localizer = OnlineLocalizer(late(truth, look_ahead), open_scorer(truth.bundle, count))
    slots = np.array([localizer.open() for _ in range(count)])
    together: list[Told] = [[] for _ in range(count)]
    for moment in range(91):
        some = [one for one in range(count) if 0 <= moment - starts[one] < 60]
        if not some:
            continue
        frames: list[GridFrame] = []
        for one in some:
            n = moment - starts[one]
            first = n in (0, breaks[one])
            frames.append(GridFrame(n / 30 + 10 * (n >= breaks[one]), walks(truth)[one, n], first))
        step = localizer.step(slots[some], frames)
        for row, t, scores in zip(step.rows, step.times, step.scores, strict=True):
            together[some[row]].append((t, scores))
    for one in range(count):
        step = localizer.finish(int(slots[one]))
        together[one] += list(zip(step.times, step.scores, strict=True))
        assert [t for t, _ in together[one]] == pytest.approx([t for t, _ in alone[one]])
        pairs = zip(together[one], alone[one], strict=True)
        assert max(float(np.abs(a - b).max()) for (_, a), (_, b) in pairs) < EXACT


def test_the_head_that_is_exported(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    network = made(rng, look_aheads=(0, 4))
    poses = motion(rng, 1, 60)[0]
    first = said(network, poses)
    bundle = exported(tmp_path / "late", network, look_ahead=4)
    assert bundle.manifest.look_ahead == 4
    scores, boundaries, _ = open_scorer(bundle, 1).replay(poses[None])
    for one, other in zip((scores[0], boundaries[0]), said(network, poses), strict=True):
        assert np.abs(one - other).max() < EXACT
    assert np.abs(scores[0] - first[0]).max() > 1e-2, "the heads must differ"
    with pytest.raises(InputError, match="trained for look-ahead 4, not 8"):
        exported(tmp_path / "other", network, look_ahead=8)
