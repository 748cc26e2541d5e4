"""A finished recording scored all at once: for networks that see the future, and for those that have no step graphs.

The grid before it and the decoder behind it are the online path's; only the scores come from elsewhere. So a network whose
scores are the same either way gives the same events.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from poseline.decoding import Decision, DecodingOptions, SegmentDecoder
from poseline.errors import EngineFailure
from poseline.manifest import ModelManifest
from poseline.online import class_mask, open_converter, segment_event
from poseline.pose import PoseSequence
from poseline.resampling import FrameGrid, GridFrame
from poseline.segments import SegmentEvent
from poseline.skeleton import Floats


class WholeScorer(Protocol):
    """Native poses (T, V, 4), a grid frame each → scores (T, 1 + K), boundaries (T, 2)."""

    def __call__(self, poses: Floats) -> tuple[Floats, Floats]: ...


def localize_whole(
    manifest: ModelManifest,
    scorer: WholeScorer,
    poses: PoseSequence,
    options: DecodingOptions | None = None,
    *,
    classes: Sequence[str] | None = None,
    gap_reset: float = 2.0,
    on_scores: Callable[[GridFrame, Floats], None] | None = None,
) -> list[SegmentEvent]:
    """Every event, in order, as `online.localize` gives them. Raises EngineFailure for scores that are not finite."""
    convert = open_converter(manifest, poses.layout, poses.coordinates)
    grid = FrameGrid(manifest.fps, gap_reset, manifest.native)
    frames = [
        one for frame in poses.frames() for one in grid.push(frame.t, convert(frame.joints, frame.confidence)).frames
    ]
    decoder = SegmentDecoder(1, len(manifest.classes) - 1, manifest.fps)
    slot = np.zeros(1, np.int64)
    decoder.open(0, options or manifest.decoding, class_mask(manifest, classes))
    events: list[SegmentEvent] = []
    for span in _spans(frames):
        scores, boundaries = scorer(np.stack([frame.pose for frame in span]))
        if not (np.isfinite(scores).all() and np.isfinite(boundaries).all()):
            raise EngineFailure("the network's scores are not finite")

        def said(decided: Sequence[Decision], origin: float = span[0].t) -> None:
            events.extend(segment_event(manifest, one, origin) for one in decided)

        for t, frame in enumerate(span):
            if on_scores:
                on_scores(frame, scores[t])
            said([one for _, one in decoder.push(slot, scores[t : t + 1], boundaries[t : t + 1])])
        said(decoder.flush(0, "close" if span[-1] is frames[-1] else "track_end"))
        decoder.restart(0)
    return events


def _spans(frames: Sequence[GridFrame]) -> list[list[GridFrame]]:
    """Between two of which the time is broken."""
    spans: list[list[GridFrame]] = []
    for frame in frames:
        if frame.first:
            spans.append([])
        spans[-1].append(frame)
    return spans
