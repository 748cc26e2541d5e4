"""A finished recording through the stream's own objects: what answers `POST /v1/localize`, and every job.

The body's bytes enter, a `LocalizeResponse` leaves. Bodies are read in a thread, one at a time, so that large
ones do not add up; then the tracks play into the scheduler side by side, as many as a stream may have, in slices and with
a stream's bound on pending frames, so that live streams keep their turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from time import perf_counter

import numpy as np
from msgspec import UNSET

from poseline.errors import EngineFailure, Overloaded
from poseline.online import class_mask
from poseline.pose import PoseSequence
from poseline.protocol import FoundSegment, FrameScores, LocalizeResponse
from poseline.resampling import TOLERANCE, GridFrame
from poseline.segments import SegmentEvent
from poseline.skeleton import Floats
from poseline.timeline import recording_length
from poseline.translation import decoding_options, rounded
from poseline_service.metrics import Metrics
from poseline_service.recordings import Recording, read_recording
from poseline_service.scheduler import Top
from poseline_service.settings import ServiceSettings
from poseline_service.tracks import Changes, LoadedModel, Track, TrackOptions

_SLICE = 64
"""Frames pushed between two looks at the backlog."""


class RecordingLocalizer:
    """Answers requests, as many at a time as come, but reads one body at a time."""

    def __init__(self, settings: ServiceSettings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._reading, self._playing = asyncio.Semaphore(1), asyncio.Semaphore(1)

    async def localize(self, body: bytes, encoding: str, model: LoadedModel, request_id: str) -> LocalizeResponse:
        """Raises whatever is wrong with the request, Overloaded, EngineFailure."""
        came = perf_counter()
        async with self._reading:
            begun = perf_counter()
            recording = await asyncio.to_thread(read_recording, body, encoding, model, self._settings)
        return await self.play(recording, model, request_id, (came, begun))

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
            playback = _Playback(recording, model, self._settings, self._metrics, told)
            await playback.play()
        marks.append(perf_counter())
        stages = zip(("queue", "preprocess", "infer"), pairwise(marks), strict=True)
        timing_ms = {name: round((end - begin) * 1000, 3) for name, (begin, end) in stages}
        return _response(recording, playback.heard, model, request_id, timing_ms)


@dataclass
class _Heard:
    """What was said about one track."""

    finals: list[SegmentEvent] = field(default_factory=list[SegmentEvent])
    t: list[float] = field(default_factory=list[float])
    top: list[list[tuple[int, float]]] = field(default_factory=list[list[tuple[int, float]]])


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
        decoding, allowed = decoding_options(options, manifest.decoding), class_mask(manifest, options.classes)
        self._wanted = TrackOptions(decoding, allowed, options.gap_reset, scores_hz, live=False)
        self._alive = asyncio.Semaphore(settings.tracks_per_session)
        self._hearing: dict[Track, _Heard] = {}
        self.heard = [_Heard() for _ in recording.tracks]

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

    async def _play_one(self, sequence: PoseSequence, poses: Floats, heard: _Heard) -> None:
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
        self._hear(track, track.finish("close"))

    async def _until_pending_below(self, track: Track, bound: int) -> None:
        await self._changes.until(lambda: self._failure is not None or track.pending < bound)
        if self._failure is not None:
            raise self._failure

    def absorbed(self, track: Track, frame: GridFrame, top: Top, events: Sequence[SegmentEvent]) -> None:
        if top:
            heard = self._hearing[track]
            heard.t.append(round(frame.t, 6))
            heard.top.append(top)
        self._hear(track, events)

    def settled(self, track: Track) -> None:
        self._changes.notify()

    def failed(self, track: Track, error: EngineFailure) -> None:
        self._failure = error
        self._changes.notify()

    def _hear(self, track: Track, events: Sequence[SegmentEvent]) -> None:
        for event in events:
            self._metrics.segments.labels(self._model.bundle.manifest.name, event.label, event.phase).inc()
            if event.phase == "final":
                self._hearing[track].finals.append(event)


def _found(recording: Recording, heard: Sequence[_Heard]) -> list[FoundSegment]:
    """The finals of all tracks: the best `max_segments` of them, in the order that the contract asks for."""
    every = [(one, event) for one, said in enumerate(heard) for event in said.finals]
    every.sort(key=lambda item: -item[1].score)
    kept = every[: recording.request.options.max_segments]
    kept.sort(key=lambda item: (item[1].start, recording.tracks[item[0]].name, item[1].label))
    return [_segment(f"s{n}", recording, one, event) for n, (one, event) in enumerate(kept, 1)]


def _segment(name: str, recording: Recording, one: int, event: SegmentEvent) -> FoundSegment:
    if recording.clock is not None:
        times, offset = recording.clock, 0
    else:
        times, offset = recording.tracks[one].timestamps, recording.request.tracks[one].start_frame
    # The first of the client's frames at or after a border; its clock may be rounded, as the grid allows.
    first, stop = np.searchsorted(times, [event.start - TOLERANCE, event.end - TOLERANCE])
    start, end, score = rounded(event)
    return FoundSegment(
        name,
        recording.tracks[one].name,
        event.label,
        event.label_id,
        start,
        end,
        offset + int(first),
        offset + int(stop),
        score,
    )


def _response(
    recording: Recording, heard: list[_Heard], model: LoadedModel, request_id: str, timing_ms: dict[str, float]
) -> LocalizeResponse:
    request, fps = recording.request, model.bundle.manifest.fps
    scores = [FrameScores(one.name, said.t, said.top) for one, said in zip(recording.tracks, heard, strict=True)]
    return LocalizeResponse(
        id=UNSET if request.id is None else request.id,
        request_id=request_id,
        duration=recording_length(recording.clocks, fps),
        fps_used=fps,
        model=model.info(),
        segments=_found(recording, heard),
        scores=scores if "scores" in request.options.returns else UNSET,
        warnings=recording.warnings,
        timing_ms=timing_ms,
    )
