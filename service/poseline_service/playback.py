"""A finished recording through the stream's own objects: what answers `POST /v1/localize`, and every job.

The body's bytes enter, a `LocalizeResponse` leaves. Bodies are read in a thread, one at a time, so that large
ones do not add up; then the tracks play into the scheduler side by side, as many as a stream may have, in slices and with
a stream's bound on pending frames, so that live streams keep their turn. (In mode `offline` the tracks go elsewhere.)
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from itertools import pairwise
from time import perf_counter
from typing import TypeVar

from poseline.errors import EngineFailure, Overloaded
from poseline.pose import PoseSequence
from poseline.protocol import LocalizeResponse
from poseline.segments import SegmentEvent
from poseline.skeleton import Floats
from poseline.translation import decoding_options
from poseline_service.answers import Heard, answer
from poseline_service.bodies import BodyFormat
from poseline_service.metrics import Metrics
from poseline_service.offline import OfflinePlayback
from poseline_service.recordings import Recording, read_recording
from poseline_service.settings import ServiceSettings
from poseline_service.tracks import Changes, LoadedModel, Track, TrackOptions
from poseline_service.workers import Told

T = TypeVar("T")
_SLICE = 64
"""Frames pushed between two looks at the backlog."""


class RecordingLocalizer:
    """Answers requests, as many at a time as come, but reads one body at a time, in a thread of its own."""

    def __init__(self, settings: ServiceSettings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._playing = asyncio.Semaphore(1)
        self._grown = asyncio.Semaphore(2)
        """Recordings that are read: one plays, another waits; a body may be a thousandth of what it becomes."""
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="reader")
        """One: the allocator keeps what a thread has freed for that thread, so many that take turns would keep many times
        what one needs."""

    async def localize(
        self, body: bytes, form: BodyFormat, model: LoadedModel, request_id: str, spend: Callable[[int], None]
    ) -> LocalizeResponse:
        """spend: hears how many frames there are, and may raise. Raises that, whatever is wrong with the request,
        Overloaded, EngineFailure."""
        came = perf_counter()
        async with self.grown(partial(read_recording, body, form, model, self._settings)) as (recording, begun):
            spend(sum(map(len, recording.tracks)))
            return await self.play(recording, model, request_id, (came, begun))

    @asynccontextmanager
    async def grown(self, read: Callable[[], T]) -> AsyncGenerator[tuple[T, float]]:
        """What a body becomes, by `read` in a thread, and when its turn came (`perf_counter`). Whoever reads bodies of poses
        does so here. Raises what `read` does."""

        def timed() -> tuple[T, float]:
            begun = perf_counter()
            return read(), begun

        async with self._grown:
            yield await asyncio.get_running_loop().run_in_executor(self._reader, timed)

    async def play(
        self,
        recording: Recording,
        model: LoadedModel,
        request_id: str,
        since: tuple[float, float],
        told: Callable[[float], None] = lambda share: None,
    ) -> LocalizeResponse:
        """The answer to a recording that is read. since: when it came, and when its turn came (`perf_counter`).

        told: hears now and then which share of the poses is played. Raises Overloaded, EngineFailure.
        """
        marks = [*since, perf_counter()]
        async with self._playing:
            if recording.request.options.mode == "offline":
                playback = OfflinePlayback(recording, model, self._metrics, told)
            else:
                playback = _Playback(recording, model, self._settings, self._metrics, told)
            await playback.play()
        marks.append(perf_counter())
        stages = zip(("queue", "preprocess", "infer"), pairwise(marks), strict=True)
        timing_ms = {name: round((end - begin) * 1000, 3) for name, (begin, end) in stages}
        return answer(recording, playback.heard, model, request_id, timing_ms)


class _Playback:
    """A recording while it plays; listens to its tracks."""

    def __init__(
        self,
        recording: Recording,
        model: LoadedModel,
        settings: ServiceSettings,
        metrics: Metrics,
        told: Callable[[float], None],
    ) -> None:
        manifest, options = model.bundle.manifest, recording.request.options
        self._recording = recording
        self._told = told
        self._played, self._whole = 0, sum(map(len, recording.tracks))
        self._settings = settings
        self._metrics = metrics
        self._model = model
        self._received = metrics.frames_received.labels(manifest.name)
        self._changes = Changes()
        self._failure: EngineFailure | None = None
        scores_hz = options.frame_scores_hz if "scores" in options.returns else 0.0
        decoding, allowed = decoding_options(options, manifest.decoding), model.vocabulary.mask(options.classes)
        self._wanted = TrackOptions(decoding, allowed, options.gap_reset, scores_hz, live=False)
        self._alive = asyncio.Semaphore(settings.tracks_per_session)
        self._hearing: dict[Track, Heard] = {}
        self.heard = [Heard() for _ in recording.tracks]

    async def play(self) -> None:
        """Everything pushed, scored and finished. Raises Overloaded, EngineFailure."""
        try:
            async with asyncio.TaskGroup() as group:
                for sequence, poses, heard in zip(
                    self._recording.tracks, self._recording.poses, self.heard, strict=True
                ):
                    group.create_task(self._play_one(sequence, poses, heard))
        except* (Overloaded, EngineFailure) as failures:
            raise failures.exceptions[0] from None

    async def _play_one(self, sequence: PoseSequence, poses: Floats, heard: Heard) -> None:
        async with self._alive:
            track = Track(sequence.name, self._model, self._wanted, self)
            self._hearing[track] = heard
            try:
                await self._play_track(track, sequence, poses)
            finally:
                track.close()
                del self._hearing[track]

    async def _play_track(self, track: Track, sequence: PoseSequence, poses: Floats) -> None:
        for begin in range(0, len(poses), _SLICE):
            part = slice(begin, begin + _SLICE)
            for t, pose in zip(sequence.timestamps[part], poses[part], strict=True):
                track.push(float(t), pose)
            self._received.inc(len(poses[part]))
            await self._until_pending_below(track, self._settings.queue_frames)
            self._played += len(poses[part])
            self._told(self._played / self._whole)
        await self._until_pending_below(track, 1)
        self._hear(track, *track.finish("close"))

    async def _until_pending_below(self, track: Track, bound: int) -> None:
        await self._changes.until(lambda: self._failure is not None or track.pending < bound)
        if self._failure is not None:
            raise self._failure

    def absorbed(self, track: Track, told: Told, events: Sequence[SegmentEvent]) -> None:
        if told or events:
            self._hear(track, told, events)

    def settled(self, track: Track) -> None:
        self._changes.notify()

    def failed(self, track: Track, error: EngineFailure) -> None:
        self._failure = error
        self._changes.notify()

    def _hear(self, track: Track, told: Told, events: Sequence[SegmentEvent]) -> None:
        self._hearing[track].hear(told, events, self._metrics, self._model.bundle.manifest.name)
