"""A finished recording scored all at once: by networks that see the future, and by those that have no step graphs.

The grid before it and the decoder behind it are the online path's; only the scores come from elsewhere. So a network whose
scores are the same either way gives the same events. Classes that were enrolled are read from the vectors of the online
network, which alone they were learnt from (`step_vectors`).

A long recording is scored in chunks (`chunked`), each with as much context on both sides as the network sees, so what the
network needs does not grow with its length. Chunks are what the recording would be all at once but for one thing: the twin's
torso length is the mean over the frames that it is given, so over a chunk and its context and not over everything. Where the
skeleton does not change, nothing differs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from poseline.bundle import GOLDEN_TOLERANCE, ModelBundle
from poseline.decoding import DecodingOptions
from poseline.enrolment import Vocabulary
from poseline.errors import BundleError, EngineFailure
from poseline.manifest import ModelManifest, WholeSpec
from poseline.online import open_converter
from poseline.pose import PoseSequence
from poseline.resampling import FrameGrid, GridFrame
from poseline.segments import SegmentEvent
from poseline.skeleton import Flags, Floats
from poseline.spans import SpanDecoder, Step
from poseline.stepping import StepScorer

_SLICE = 64
"""Frames of the online network in one go."""


class WholeScorer(Protocol):
    """Native poses (T, V, 4), a grid frame each → scores (T, 1 + K), boundaries (T, 2)."""

    def __call__(self, poses: Floats) -> tuple[Floats, Floats]: ...


def score_chunks(
    spec: WholeSpec, scorer: WholeScorer, poses: Floats | Sequence[Floats]
) -> Iterator[tuple[Floats, Floats]]:
    """The scores and boundaries of poses (T, V, 4), `spec.chunk` frames at a time."""
    for begin in range(0, len(poses), spec.chunk):
        first = max(0, begin - spec.reach)
        scores, boundaries = scorer(np.asarray(poses[first : begin + spec.chunk + spec.reach], np.float32))
        own = slice(begin - first, begin - first + spec.chunk)
        yield scores[own], boundaries[own]


def chunked(spec: WholeSpec, scorer: WholeScorer) -> WholeScorer:
    """The same scorer for recordings of any length, in memory that their length does not change."""

    def score(poses: Floats) -> tuple[Floats, Floats]:
        scores, boundaries = zip(*score_chunks(spec, scorer, poses), strict=True)
        return np.concatenate(scores), np.concatenate(boundaries)

    return score


def step_vectors(scorer: StepScorer, poses: Floats, look_ahead: int) -> Iterator[Floats]:
    """The online network's vectors of poses (T, V, 4), some (n, D) at a time."""
    held = np.concatenate([poses, np.repeat(poses[-1:], look_ahead, axis=0)])
    slot = scorer.open()
    late = look_ahead
    try:
        for begin in range(0, len(held), _SLICE):
            some = [scorer.step(np.array([slot]), pose[None]).vectors for pose in held[begin : begin + _SLICE]]
            yield np.concatenate(some)[late:]
            late = max(0, late - len(some))
    finally:
        scorer.close(slot)


def check_whole(bundle: ModelBundle, scorer: WholeScorer, tolerance: float = GOLDEN_TOLERANCE) -> float:
    """Run the bundle's golden samples through its twin; the largest difference found. Raises BundleError above it."""
    golden = bundle.golden()
    if golden.whole_scores is None or golden.whole_boundaries is None:
        raise BundleError(f"{bundle.path}: there are no golden samples of the network that sees the whole")
    worst = 0.0
    for poses, *expected in zip(golden.poses, golden.whole_scores, golden.whole_boundaries, strict=True):
        for one, other in zip(scorer(poses), expected, strict=True):
            worst = max(worst, float(np.abs(one - other).max()))
    if not worst <= tolerance:
        raise BundleError(
            f"{bundle.path}: golden samples of the whole differ by {worst:.2e}, more than {tolerance:.0e}"
        )
    return worst


def grid_frames(
    manifest: ModelManifest, timestamps: NDArray[np.float64], poses: Floats, gap_reset: float = 2.0
) -> Iterator[GridFrame]:
    """Native poses (T, V, 4) at their timestamps (T,) on the model's grid."""
    grid = FrameGrid(manifest.fps, gap_reset, manifest.native)
    for t, pose in zip(timestamps.tolist(), poses, strict=True):
        yield from grid.push(t, pose).frames


def spans_of(frames: Iterable[GridFrame]) -> list[list[GridFrame]]:
    """Stretches of unbroken time."""
    spans: list[list[GridFrame]] = []
    for frame in frames:
        if frame.first:
            spans.append([])
        spans[-1].append(frame)
    return spans


class WholeDecoder:
    """One track's spans, once they are scored, to scores and events. look_ahead: frames by which the scores lag behind."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        options: DecodingOptions | None = None,
        allowed: Flags | None = None,
        look_ahead: int = 0,
    ) -> None:
        self._look_ahead = look_ahead
        self._spans = SpanDecoder(vocabulary, 1, look_ahead)
        self._spans.open(0, options or vocabulary.manifest.decoding, allowed)

    def poses(self, span: Sequence[GridFrame]) -> Floats:
        """What of a span's T frames must be scored: poses (T + look_ahead, V, 4), the last one held."""
        return np.stack([frame.pose for frame in span] + [span[-1].pose] * self._look_ahead)

    def decide(self, span: Sequence[GridFrame], scores: Floats, boundaries: Floats, *, last: bool) -> Iterator[Step]:
        """What each frame of a span led to, and then its end. scores, boundaries: of `poses(span)`; last: no span follows.

        Raises EngineFailure for scores that are not finite.
        """
        if not (np.isfinite(scores).all() and np.isfinite(boundaries).all()):
            raise EngineFailure("the network's scores are not finite")
        slot = np.zeros(1, np.int64)
        self._spans.begin(0, span[0].t)
        for n, frame in enumerate(span):
            yield self._spans.push(slot, [frame.t], scores[n : n + 1], boundaries[n : n + 1])
        held = scores[len(span) :], boundaries[len(span) :]
        yield self._spans.finish(0, held, "close" if last else "track_end")


def localize_whole(
    manifest: ModelManifest,
    scorer: WholeScorer,
    poses: PoseSequence,
    options: DecodingOptions | None = None,
    *,
    classes: Sequence[str] | None = None,
    gap_reset: float = 2.0,
    look_ahead: int = 0,
    on_scores: Callable[[float, Floats], None] | None = None,
    vocabulary: Vocabulary | None = None,
    steps: StepScorer | None = None,
) -> list[SegmentEvent]:
    """Every event, in order, as `online.localize` gives them.

    look_ahead: frames by which the scorer's answers lag behind its poses: `manifest.look_ahead` where it is the bundle's own
    causal network, 0 where it sees the whole. on_scores, vocabulary: as for `online.StreamLocalizer`; steps: the online
    network, for the classes that were enrolled. Raises EngineFailure for scores that are not finite.
    """
    convert = open_converter(manifest, poses.layout, poses.coordinates)
    native = convert(poses.joints, poses.confidence)
    spans = spans_of(grid_frames(manifest, poses.timestamps, native, gap_reset))
    vocabulary = vocabulary or Vocabulary(manifest)
    decoder = WholeDecoder(vocabulary, options, vocabulary.mask(classes), look_ahead)
    events: list[SegmentEvent] = []
    for span in spans:
        seen = decoder.poses(span)
        scores, boundaries = scorer(seen)
        if steps is not None and vocabulary.enrolled:
            vectors = np.concatenate(list(step_vectors(steps, seen, manifest.look_ahead)))
            scores = vocabulary.answer(scores, vectors)
        for step in decoder.decide(span, scores, boundaries, last=span is spans[-1]):
            if on_scores:
                for t, one in zip(step.times, step.scores, strict=True):
                    on_scores(t, one)
            events += [event for _, event in step.events]
    return events
