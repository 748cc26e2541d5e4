"""A finished recording through the stream's own objects: what answers `POST /v1/localize`.

The body's bytes enter, a `LocalizeResponse` leaves. Bodies are read in a thread, one at a time, so that large
ones do not add up; then the tracks play into the scheduler side by side, in slices and with a stream's bound on pending
frames, so that live streams keep their turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from time import perf_counter

import numpy as np
from msgspec import UNSET

from poseline.errors import EngineFailure
from poseline.online import class_mask
from poseline.pose import PoseSequence
from poseline.protocol import FoundSegment, FrameScores, LocalizeResponse
from poseline.resampling import TOLERANCE, GridFrame
from poseline.segments import SegmentEvent
from poseline.skeleton import Floats
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
        marks = [perf_counter()]
        async with self._reading:
            marks.append(perf_counter())
            recording = await asyncio.to_thread(read_recording, body, encoding, model, self._settings)
        marks.append(perf_counter())
        async with self._playing:
            playback = _Playback(recording, model, self._settings, self._metrics)
            await playback.play()
        marks.append(perf_counter())
        stages = zip(("queue", "preprocess", "infer"), pairwise(marks), strict=True)
        return _response(
            recording,
            playback.heard,
            model,
            request_id,
            {name: round((end - begin) * 1000, 3) for name, (begin, end) in stages},
        )


@dataclass
class _Heard:
    """What was said about one track."""

    finals: list[SegmentEvent] = field(default_factory=list[SegmentEvent])
    t: list[float] = field(default_factory=list[float])
    top: list[list[tuple[int, float]]] = field(default_factory=list[list[tuple[int, float]]])


class _Playback:
    """A recording while it plays; listens to its tracks."""

    def __init__(self, recording: Recording, model: LoadedModel, settings: ServiceSettings, metrics: Metrics) -> None:
        manifest, options = model.bundle.manifest, recording.request.options
        self._recording = recording
        self._settings = settings
        self._metrics = metrics
        self._model = manifest.name
        self._changes = Changes()
        self._failure: EngineFailure | None = None
        scores_hz = options.frame_scores_hz if "scores" in options.returns else 0.0
        decoding, allowed = decoding_options(options, manifest.decoding), class_mask(manifest, options.classes)
        wanted = TrackOptions(decoding, allowed, options.gap_reset, scores_hz, live=False)
        self._tracks: list[Track] = []
        self.heard: dict[Track, _Heard] = {}
        try:
            for sequence in recording.tracks:
                track = Track(sequence.name, model, wanted, self)
                self._tracks.append(track)
                self.heard[track] = _Heard()
        except BaseException:
            self._close()
            raise

    async def play(self) -> None:
        """Everything pushed, scored and finished. Raises EngineFailure."""
        try:
            async with asyncio.TaskGroup() as group:
                for track, sequence, poses in zip(
                    self._tracks, self._recording.tracks, self._recording.poses, strict=True
                ):
                    group.create_task(self._play_track(track, sequence, poses))
        except* EngineFailure as failures:
            raise failures.exceptions[0] from None
        finally:
            self._close()

    async def _play_track(self, track: Track, sequence: PoseSequence, poses: Floats) -> None:
        for begin in range(0, len(poses), _SLICE):
            part = slice(begin, begin + _SLICE)
            for t, pose in zip(sequence.timestamps[part], poses[part], strict=True):
                track.push(float(t), pose)
            self._metrics.frames_received.labels(self._model).inc(len(poses[part]))
            await self._until_pending_below(track, self._settings.queue_frames)
        await self._until_pending_below(track, 1)
        self._hear(track, track.finish("close"))

    async def _until_pending_below(self, track: Track, bound: int) -> None:
        await self._changes.until(lambda: self._failure is not None or track.pending < bound)
        if self._failure is not None:
            raise self._failure

    def _close(self) -> None:
        for track in self._tracks:
            track.close()

    def absorbed(self, track: Track, frame: GridFrame, top: Top, events: Sequence[SegmentEvent]) -> None:
        if top:
            heard = self.heard[track]
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
            self._metrics.segments.labels(self._model, event.label, event.phase).inc()
            if event.phase == "final":
                self.heard[track].finals.append(event)


def _found(recording: Recording, heard: Sequence[_Heard]) -> list[FoundSegment]:
    """The finals of all tracks: the best `max_segments` of them, in the order that the contract asks for."""
    every = [(one, event) for one, said in enumerate(heard) for event in said.finals]
    every.sort(key=lambda item: -item[1].score)
    kept = every[: recording.request.options.max_segments]
    kept.sort(key=lambda item: (item[1].start, recording.tracks[item[0]].name, item[1].label))
    return [_segment(f"s{n}", recording, one, event) for n, (one, event) in enumerate(kept, 1)]


def _segment(name: str, recording: Recording, one: int, event: SegmentEvent) -> FoundSegment:
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


def _duration(tracks: Sequence[PoseSequence], fps: float) -> float:
    """Seconds from the first frame to the end of the last one, which lasts as long as frames do on average."""
    first = min(float(one.timestamps[0]) for one in tracks)
    last = max(float(one.timestamps[-1]) for one in tracks)
    longest = max(tracks, key=len)
    return last - first + (longest.duration / (len(longest) - 1) if len(longest) > 1 else 1 / fps)


def _response(
    recording: Recording, heard: dict[Track, _Heard], model: LoadedModel, request_id: str, timing_ms: dict[str, float]
) -> LocalizeResponse:
    request, fps = recording.request, model.bundle.manifest.fps
    scores = [FrameScores(track.name, said.t, said.top) for track, said in heard.items()]
    return LocalizeResponse(
        id=UNSET if request.id is None else request.id,
        request_id=request_id,
        duration=round(_duration(recording.tracks, fps), 6),
        fps_used=fps,
        model=model.info(),
        segments=_found(recording, list(heard.values())),
        scores=scores if "scores" in request.options.returns else UNSET,
        warnings=recording.warnings,
        timing_ms=timing_ms,
    )
