"""The online path: grid frames in, scores and segment events out, for many people side by side.

    FrameGrid (one a track)  →  OnlineLocalizer.step  →  scores, events

`OnlineLocalizer` is the network's step and the decoder behind it, by slot: the server's engine drives one with whoever has a
frame, a robot's own program and the evaluation drive one with a single slot (`StreamLocalizer`). It knows neither time nor
sockets. A track's whole memory is its slot and its grid; `snapshot` writes both down.

Finals are sent once, in order of decision, and never change; any split of a sequence into pushes gives the same events, and
nobody's events depend on who else is in the batch. Not thread-safe but for one thing: slots are independent, so one thread
may open, finish and close slots that are in no other thread's step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256
from math import isfinite
from types import TracebackType

import numpy as np
from msgspec import DecodeError, Struct, msgpack

from poseline.decoding import Decision, DecoderState, DecodingOptions, SegmentDecoder
from poseline.errors import EngineFailure, InputError, StateError, UnitUnknown
from poseline.manifest import ModelManifest
from poseline.pose import NATIVE, Coordinates, PoseConverter, PoseFrame, PoseSequence
from poseline.resampling import FrameGrid, GridFrame, GridState
from poseline.segments import Forced, SegmentEvent
from poseline.skeleton import BODY16, Flags, Floats, SkeletonLayout
from poseline.stepping import Slots, StepScorer


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


def class_mask(manifest: ModelManifest, classes: Sequence[str] | None) -> Flags | None:
    """(K,) which classes may be decided. Raises InputError for a class that the model lacks."""
    if classes is None:
        return None
    if unknown := set(classes) - set(manifest.classes[1:]):
        raise InputError(f"model {manifest.name} has no class {', '.join(sorted(unknown))}", param="options.classes")
    return np.array([name in classes for name in manifest.classes[1:]])


def segment_event(manifest: ModelManifest, one: Decision, origin: float) -> SegmentEvent:
    """A decision in frames, as an event in seconds. origin: when the span's first frame was."""
    fps = manifest.fps
    return SegmentEvent(
        one.phase,
        one.key,
        manifest.classes[one.label],
        one.label,
        origin + one.start / fps,
        origin + one.end / fps,
        one.score,
        origin + one.decided / fps,
        one.forced,
    )


class SlotState(Struct, frozen=True):
    """All that a slot holds of its track, to travel: state rows and their clock, start of the span, decoder."""

    rows: bytes
    clock: int
    origin: float
    decoder: DecoderState


class Step(Struct, frozen=True):
    """What one frame of each of some tracks led to.

    scores: (B, 1 + K). events: each with its row; those of one row in order. spoilt: rows whose scores are not finite (told
    as zeros), so that nothing which their slots say from here on can be trusted.
    """

    scores: Floats
    events: list[tuple[int, SegmentEvent]]
    spoilt: list[int]


class OnlineLocalizer:
    """Many tracks, scored and decoded side by side. `scorer` belongs to it from here on."""

    def __init__(self, manifest: ModelManifest, scorer: StepScorer) -> None:
        self.manifest = manifest
        self.scorer = scorer
        slots = scorer.pool.slots
        self._decoder = SegmentDecoder(slots, len(manifest.classes) - 1, manifest.fps)
        self._origin = np.zeros(slots, np.float64)

    def open(self, options: DecodingOptions | None = None, allowed: Flags | None = None) -> int:
        """A slot for a new track. Raises Overloaded when all are taken."""
        slot = self.scorer.open()
        self._decoder.open(slot, options or self.manifest.decoding, allowed)
        return slot

    def adjust(self, slot: int, options: DecodingOptions, allowed: Flags | None = None) -> None:
        """Other options for the slot's track from its next frame on."""
        self._decoder.adjust(slot, options, allowed)

    def close(self, slot: int) -> None:
        self.scorer.close(slot)

    def step(self, slots: Slots, frames: Sequence[GridFrame]) -> Step:
        """One grid frame of each of the (distinct) slots."""
        events: list[tuple[int, SegmentEvent]] = []
        for row, frame in enumerate(frames):
            if frame.first:
                events += [(row, event) for event in self._begin_span(int(slots[row]), frame.t)]
        scores, boundaries = self.scorer.step(
            slots, np.concatenate([frame.pose for frame in frames]).reshape(len(frames), -1, 4)
        )
        spoilt: list[int] = []
        if not isfinite(scores.sum() + boundaries.sum()):
            spoilt = np.flatnonzero(~np.isfinite(scores).all(axis=1) | ~np.isfinite(boundaries).all(axis=1)).tolist()
            scores, boundaries = scores.copy(), boundaries.copy()
            scores[spoilt], boundaries[spoilt] = 0, 0
        decided = self._decoder.push(slots, scores, boundaries)
        return Step(scores, events + [(row, self._event(int(slots[row]), one)) for row, one in decided], spoilt)

    def _begin_span(self, slot: int, t: float) -> list[SegmentEvent]:
        """What was open ended with the old span; nothing that was seen before it counts."""
        events = self.finish(slot, "track_end")
        self.scorer.restart(slot)
        self._decoder.restart(slot)
        self._origin[slot] = t
        return events

    def finish(self, slot: int, forced: Forced = "close") -> list[SegmentEvent]:
        """Close what is open; the slot may be stepped on afterwards."""
        return [self._event(slot, one) for one in self._decoder.flush(slot, forced)]

    def _event(self, slot: int, one: Decision) -> SegmentEvent:
        return segment_event(self.manifest, one, float(self._origin[slot]))

    def save(self, slot: int) -> SlotState:
        """Everything that the slot holds of its track; options are its owner's affair."""
        rows, clock = self.scorer.save(slot)
        return SlotState(rows.astype("<f4").tobytes(), clock, float(self._origin[slot]), self._decoder.save(slot))

    def load(self, slot: int, state: SlotState) -> None:
        """Continue a saved track in an open slot. Raises StateError."""
        spec = self.manifest.state
        if not isfinite(state.origin):
            raise StateError(f"the span begins at {state.origin}")
        if len(state.rows) != spec.bytes_per_stream:
            raise StateError(f"the state holds {len(state.rows)} bytes of rows, the model {spec.bytes_per_stream}")
        self.scorer.load(slot, np.frombuffer(state.rows, "<f4").reshape(spec.rows, spec.width), state.clock)
        self._decoder.load(slot, state.decoder)
        self._origin[slot] = state.origin


# --- to travel -------------------------------------------------------------------------------------------------------

_MAGIC = b"poseline track 1\n"
"""The format's name and version. Then 32 bytes of sha256 over the rest, and the rest: a `_Snapshot` in MessagePack."""


class _Snapshot(Struct, frozen=True):
    fingerprint: str
    grid: GridState
    slot: SlotState


def write_snapshot(localizer: OnlineLocalizer, slot: int, grid: FrameGrid) -> bytes:
    """A track's whole memory; under 32 KiB for the default network."""
    content = msgpack.encode(_Snapshot(localizer.manifest.fingerprint, grid.save(), localizer.save(slot)))
    return _MAGIC + sha256(content).digest() + content


def read_snapshot(snapshot: bytes, localizer: OnlineLocalizer, slot: int, grid: FrameGrid) -> None:
    """Continue it in an open slot and a grid of the same options.

    Raises StateError for what is damaged, of another version, or of another network: close the slot then.
    """
    head, content = snapshot[: len(_MAGIC) + 32], snapshot[len(_MAGIC) + 32 :]
    if head[: len(_MAGIC)] != _MAGIC:
        raise StateError("this is no snapshot of a track, or one of another version")
    if head[len(_MAGIC) :] != sha256(content).digest():
        raise StateError("the snapshot is damaged: its digest is not that of its content")
    try:
        read = msgpack.decode(content, type=_Snapshot)
    except DecodeError as error:
        raise StateError(f"the snapshot cannot be read: {error}") from None
    if read.fingerprint != localizer.manifest.fingerprint:
        raise StateError(f"the snapshot is of another network than {localizer.manifest.name}")
    grid.load(read.grid)
    localizer.load(slot, read.slot)


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
        self.grid = FrameGrid(manifest.fps, gap_reset, manifest.native)
        self.localizer = OnlineLocalizer(manifest, scorer)
        self.slot = self.localizer.open(options, class_mask(manifest, classes))
        self._slots = np.array([self.slot])
        self._on_scores = on_scores

    def __enter__(self) -> StreamLocalizer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.localizer.close(self.slot)

    def push(self, frame: PoseFrame) -> list[SegmentEvent]:
        """Everything that was decided at this frame. Raises EngineFailure."""
        events: list[SegmentEvent] = []
        for grid_frame in self.grid.push(frame.t, self._convert(frame.joints, frame.confidence)).frames:
            step = self.localizer.step(self._slots, [grid_frame])
            if step.spoilt:
                raise EngineFailure("the network's scores are not finite")
            if self._on_scores:
                self._on_scores(grid_frame, step.scores[0].copy())
            events += [event for _, event in step.events]
        return events

    def finish(self) -> list[SegmentEvent]:
        return self.localizer.finish(self.slot, "close")

    def save(self) -> bytes:
        """All that is known of the person so far; `load` continues exactly, in whatever process."""
        return write_snapshot(self.localizer, self.slot, self.grid)

    def load(self, snapshot: bytes) -> None:
        """Continue a saved stream, opened with the same options. Raises StateError."""
        read_snapshot(snapshot, self.localizer, self.slot, self.grid)


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
