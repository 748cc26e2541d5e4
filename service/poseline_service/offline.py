"""A finished recording through the network that sees the whole: `mode: offline`.

The network runs in a thread, a chunk at a time, and takes its turn with nobody; the grid before it and the decoder behind it
run on the event loop in slices, so that live streams keep their turn, as they do beside any recording. Classes that were
enrolled are learnt from the online network's vectors, so it plays the recording, too, in the thread. Whoever is cancelled
ends between two chunks. As for any recording, what it costs is not counted as load: it takes what is left over.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np

from poseline.pose import PoseSequence
from poseline.resampling import GridFrame
from poseline.skeleton import Floats
from poseline.spans import Step
from poseline.stepping import StepScorer
from poseline.translation import decoding_options
from poseline.whole import WholeDecoder, grid_frames, score_chunks, spans_of, step_vectors
from poseline_service.answers import Heard
from poseline_service.engine import open_scorer
from poseline_service.metrics import Metrics
from poseline_service.recordings import Recording
from poseline_service.tracks import LoadedModel, Pace
from poseline_service.workers import Told, best_answers

T = TypeVar("T")
_SLICE = 32
"""Frames between two turns of the loop: well below a millisecond."""


class OfflinePlayback:
    """A recording's tracks, one after the other. told: hears which share of the poses has been scored."""

    def __init__(
        self, recording: Recording, model: LoadedModel, metrics: Metrics, told: Callable[[float], None]
    ) -> None:
        manifest, options = model.bundle.manifest, recording.request.options
        # A mode that the model lacks was refused with the request.
        assert manifest.whole is not None
        assert model.whole is not None
        self._spec, self._scorer = manifest.whole, model.whole
        self._recording, self._manifest, self._metrics, self._told = recording, manifest, metrics, told
        self._bundle, self._vocabulary = model.bundle, model.vocabulary
        self._steps: StepScorer | None = None
        """The online network, once an enrolled class needs it."""
        self._decoding = decoding_options(options, manifest.decoding)
        self._allowed = model.vocabulary.mask(options.classes)
        self._done, self._total = 0, sum(map(len, recording.tracks))
        self.heard = [Heard() for _ in recording.tracks]

    async def play(self) -> None:
        """Everything scored and decided. Raises EngineFailure."""
        for track, poses, heard in zip(self._recording.tracks, self._recording.poses, self.heard, strict=True):
            self._metrics.frames_received.labels(self._manifest.name).inc(len(poses))
            await self._play_track(track, poses, heard)
            self._done += len(poses)

    async def _play_track(self, track: PoseSequence, poses: Floats, heard: Heard) -> None:
        manifest, options = self._manifest, self._recording.request.options
        grid = grid_frames(manifest, track.timestamps, poses, options.gap_reset)
        spans = spans_of([frame async for frame in _in_turns(grid)])
        share, scored = len(poses) / sum(map(len, spans)), 0

        def advance(frames: int) -> None:
            nonlocal scored
            scored += frames
            self._told((self._done + share * scored) / self._total)

        pace = Pace(options.frame_scores_hz if "scores" in options.returns else 0.0, manifest.fps)
        decoder = WholeDecoder(self._vocabulary, self._decoding, self._allowed)
        for span in spans:
            scores, boundaries = await self._score(span, advance)
            self._metrics.media_seconds.labels(manifest.name).inc(len(span) / manifest.fps)
            async for step in _in_turns(decoder.decide(span, scores, boundaries, last=span is spans[-1])):
                events = [event for _, event in step.events]
                heard.hear(_told(step, pace, manifest.unknown_below), events, self._metrics, manifest.name)

    async def _score(self, span: Sequence[GridFrame], advance: Callable[[int], None]) -> tuple[Floats, Floats]:
        poses = np.stack([frame.pose for frame in span])
        found: list[tuple[Floats, Floats]] = []
        async for one in _in_thread(score_chunks(self._spec, self._scorer, poses)):
            found.append(one)
            advance(len(one[0]))
        scores, boundaries = map(np.concatenate, zip(*found, strict=True))
        if self._vocabulary.enrolled:
            if self._steps is None:
                self._steps = await asyncio.to_thread(open_scorer, self._bundle, 1)
            vectors = [one async for one in _in_thread(step_vectors(self._steps, poses, self._manifest.look_ahead))]
            scores = self._vocabulary.answer(scores, np.concatenate(vectors))
        return scores, boundaries


def _told(step: Step, pace: Pace, unknown_below: float) -> Told:
    wanted = [n for n, t in enumerate(step.times) if pace.takes(t)]
    if not wanted:
        return ()
    return best_answers([step.times[n] for n in wanted], step.scores[wanted], unknown_below)


async def _in_thread(items: Iterator[T]) -> AsyncGenerator[T]:
    """Items that are made in a thread, one after the other."""
    while (item := await asyncio.to_thread(next, items, None)) is not None:
        yield item


async def _in_turns(items: Iterable[T]) -> AsyncGenerator[T]:
    """The items, and a turn of the event loop for the others now and then."""
    for n, item in enumerate(items):
        if n % _SLICE == 0:
            await asyncio.sleep(0)
        yield item
