"""The online path of one person: frames in, segment events out.

`OnlineLocalizer` is sans-IO: `push` answers with the grid frames to score, `absorb` takes their scores (in order) and
answers with events, `finish` closes what is open. It knows neither network nor sockets; the server, the evaluation and
a robot's own program drive the very same object. `StreamLocalizer` drives it in one process, scoring at once.

Finals are sent once, in order of decision, and never change; any split of a sequence into pushes gives the same events.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from poseline.decoding import Decision, DecodingOptions, SegmentDecoder
from poseline.errors import InputError, UnitUnknown
from poseline.manifest import ModelManifest
from poseline.pose import NATIVE, Coordinates, PoseConverter, PoseFrame, PoseSequence
from poseline.resampling import FrameGrid, GridFrame, GridPush
from poseline.segments import Forced, SegmentEvent
from poseline.skeleton import BODY16, Floats, SkeletonLayout
from poseline.stepping import StepScorer


def open_converter(manifest: ModelManifest, layout: SkeletonLayout, coordinates: Coordinates) -> PoseConverter:
    """The way from a client's poses to the model's. Raises UnitUnknown, LayoutMismatch."""
    if coordinates.space not in manifest.spaces:
        raise UnitUnknown(
            f"model {manifest.name} takes {', '.join(manifest.spaces)}, not {coordinates.space!r}",
            param="coordinates.space",
        )
    if coordinates.dims not in manifest.dims:
        takes = " or ".join(map(str, manifest.dims))
        raise UnitUnknown(
            f"model {manifest.name} takes {takes} dimensions, not {coordinates.dims}",
            param="coordinates.dims",
        )
    return PoseConverter(layout, coordinates, manifest.native)


def class_mask(manifest: ModelManifest, classes: Sequence[str] | None) -> NDArray[np.bool_] | None:
    """(K,) which classes may be decided. Raises InputError for a class that the model lacks."""
    if classes is None:
        return None
    if unknown := set(classes) - set(manifest.classes[1:]):
        raise InputError(f"model {manifest.name} has no class {', '.join(sorted(unknown))}", param="options.classes")
    return np.array([name in classes for name in manifest.classes[1:]])


class OnlineLocalizer:
    """One track: grid and decoder, and the clock between them."""

    def __init__(
        self,
        manifest: ModelManifest,
        options: DecodingOptions | None = None,
        *,
        allowed: NDArray[np.bool_] | None = None,
        gap_reset: float = 2.0,
    ) -> None:
        self.manifest = manifest
        self.options = options or manifest.decoding
        self._allowed = allowed
        self._grid = FrameGrid(manifest.fps, gap_reset, manifest.native)
        self._decoder = self._new_decoder()
        self._origin = 0.0
        self._now = 0.0
        self._keys_before = 0
        self._keys = 0

    def _new_decoder(self) -> SegmentDecoder:
        return SegmentDecoder(len(self.manifest.classes) - 1, self.manifest.fps, self.options, self._allowed)

    @property
    def last_t(self) -> float | None:
        """Media time of the newest accepted frame."""
        return self._grid.last_t

    def push(self, t: float, pose: Floats) -> GridPush:
        """A native pose (16, 4) at media time t → the grid frames that it completes."""
        return self._grid.push(t, pose)

    def absorb(self, frame: GridFrame, scores: Floats, boundaries: Floats) -> list[SegmentEvent]:
        """The scores (1 + K,) and boundaries (2,) of a grid frame → events. Frames come in the order of `push`."""
        events: list[SegmentEvent] = []
        if frame.first:  # a new span: what was open ended with the old one
            events = self.finish("track_end")
            self._decoder = self._new_decoder()
            self._origin, self._keys_before = frame.t, self._keys
        self._now = frame.t
        return events + [self._event(one) for one in self._decoder.push(scores, boundaries)]

    def finish(self, forced: Forced = "close") -> list[SegmentEvent]:
        """Close what is open; the localizer may be pushed on afterwards."""
        return [self._event(one) for one in self._decoder.flush(forced)]

    def _event(self, decision: Decision) -> SegmentEvent:
        key = self._keys_before + decision.key
        self._keys = max(self._keys, key + 1)
        fps = self.manifest.fps
        return SegmentEvent(
            decision.phase,
            key,
            self.manifest.classes[decision.label],
            decision.label,
            self._origin + decision.start / fps,
            self._origin + decision.end / fps,
            decision.score,
            self._now,
            decision.forced,
        )


class StreamLocalizer:
    """One person's stream, localized in this process. `on_scores` sees every grid frame's scores (1 + K,).

    ```
    with StreamLocalizer(manifest, scorer) as stream:
        for frame in camera:
            for event in stream.push(frame): ...
        events = stream.finish()
    ```
    """

    def __init__(
        self,
        manifest: ModelManifest,
        scorer: StepScorer,
        options: DecodingOptions | None = None,
        *,
        layout: SkeletonLayout = BODY16,
        coordinates: Coordinates = NATIVE,
        classes: Sequence[str] | None = None,
        gap_reset: float = 2.0,
        on_scores: Callable[[GridFrame, Floats], None] | None = None,
    ) -> None:
        self._convert = open_converter(manifest, layout, coordinates)
        self._localizer = OnlineLocalizer(manifest, options, allowed=class_mask(manifest, classes), gap_reset=gap_reset)
        self._scorer = scorer
        self._slot = scorer.open()
        self._on_scores = on_scores

    def __enter__(self) -> StreamLocalizer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._scorer.close(self._slot)

    def push(self, frame: PoseFrame) -> list[SegmentEvent]:
        events: list[SegmentEvent] = []
        for grid_frame in self._localizer.push(frame.t, self._convert(frame.joints, frame.confidence)).frames:
            if grid_frame.first:
                self._scorer.restart(self._slot)
            scores, boundaries = self._scorer.step(np.array([self._slot]), grid_frame.pose[None])
            if self._on_scores:
                self._on_scores(grid_frame, scores[0])
            events += self._localizer.absorb(grid_frame, scores[0], boundaries[0])
        return events

    def finish(self) -> list[SegmentEvent]:
        return self._localizer.finish("close")


def localize(
    manifest: ModelManifest,
    scorer: StepScorer,
    poses: PoseSequence,
    options: DecodingOptions | None = None,
    *,
    classes: Sequence[str] | None = None,
    gap_reset: float = 2.0,
) -> list[SegmentEvent]:
    """A finished sequence through the online path: every event, in order."""
    with StreamLocalizer(
        manifest,
        scorer,
        options,
        layout=poses.layout,
        coordinates=poses.coordinates,
        classes=classes,
        gap_reset=gap_reset,
    ) as stream:
        events = [event for frame in poses.frames() for event in stream.push(frame)]
        return events + stream.finish()
