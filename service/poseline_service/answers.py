"""From what was said about a recording's tracks to the answer that goes on the wire, whichever network said it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from msgspec import UNSET

from poseline.protocol import FoundSegment, FrameScores, LocalizeResponse
from poseline.resampling import TOLERANCE
from poseline.segments import SegmentEvent
from poseline.timeline import recording_length
from poseline.translation import counted, rounded
from poseline_service.metrics import Metrics
from poseline_service.recordings import Recording
from poseline_service.tracks import LoadedModel
from poseline_service.workers import Told


@dataclass
class Heard:
    """What was said about one track."""

    finals: list[SegmentEvent] = field(default_factory=list[SegmentEvent])
    t: list[float] = field(default_factory=list[float])
    top: list[list[tuple[int, float]]] = field(default_factory=list[list[tuple[int, float]]])
    unknown: list[bool] = field(default_factory=list[bool])

    def hear(self, told: Told, events: Sequence[SegmentEvent], metrics: Metrics, model: str) -> None:
        """Take down scores and finals; every event is counted."""
        for t, top, unknown in told:
            self.t.append(round(t, 6))
            self.top.append(top)
            self.unknown.append(unknown)
        for event in events:
            metrics.segments.labels(model, event.label, event.phase).inc()
            if event.phase == "final":
                self.finals.append(event)

    def scores(self, track: str) -> FrameScores:
        return FrameScores(track, self.t, self.top, self.unknown if any(self.unknown) else UNSET)


def _found(recording: Recording, heard: Sequence[Heard]) -> list[FoundSegment]:
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
        counted(event),
    )


def answer(
    recording: Recording, heard: list[Heard], model: LoadedModel, request_id: str, timing_ms: dict[str, float]
) -> LocalizeResponse:
    """timing_ms: stage → milliseconds."""
    request, fps = recording.request, model.bundle.manifest.fps
    scores = [said.scores(one.name) for one, said in zip(recording.tracks, heard, strict=True)]
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
