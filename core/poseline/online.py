"""The online path: grid frames in, scores and segment events out, for many people side by side.

    FrameGrid (one a track)  →  OnlineLocalizer.step  →  scores, events

`OnlineLocalizer` is the network's step and the decoder behind it (`spans`), by slot: the server's engine drives one with
whoever has a frame, a robot's own program and the evaluation drive one with a single slot (`StreamLocalizer`). It knows
neither time nor sockets. A track's whole memory is its slot and its grid; `snapshot` writes both down.

Finals are sent once, in order of decision, and never change; any split of a sequence into pushes gives the same events, and
nobody's events depend on who else is in the batch. Not thread-safe but for one thing: slots are independent, so one thread
may open and close slots that are in no other thread's step; and finish them, where the network does not look ahead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType

import numpy as np
from msgspec import DecodeError, Struct, msgpack

from poseline.decoding import DecoderState, DecodingOptions
from poseline.enrolment import Vocabulary
from poseline.errors import EngineFailure, StateError, UnitUnknown
from poseline.manifest import ModelManifest
from poseline.pose import NATIVE, Coordinates, PoseConverter, PoseFrame, PoseSequence
from poseline.resampling import FrameGrid, GridFrame, GridState
from poseline.sealing import seal, unseal
from poseline.segments import Forced, SegmentEvent
from poseline.skeleton import BODY16, Flags, Floats, SkeletonLayout
from poseline.spans import SpanDecoder, Step
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


class SlotState(Struct, frozen=True, omit_defaults=True):
    """All that a slot holds of its track, to travel: state rows and their clock, start of the span, decoder. And, where the
    network looks ahead: how many of its answers are to be silent, and the last pose."""

    rows: bytes
    clock: int
    origin: float
    decoder: DecoderState
    silent: int = 0
    pose: bytes = b""


class OnlineLocalizer:
    """Many tracks, scored and decoded side by side. `scorer` belongs to it from here on. vocabulary: the classes that
    answer, where there are others than the model's own."""

    def __init__(self, manifest: ModelManifest, scorer: StepScorer, vocabulary: Vocabulary | None = None) -> None:
        self.manifest = manifest
        self.scorer = scorer
        slots = scorer.pool.slots
        self._look_ahead = manifest.look_ahead
        self.vocabulary = vocabulary or Vocabulary(manifest)
        self._spans = SpanDecoder(self.vocabulary, slots, manifest.look_ahead)
        self._poses = np.zeros((slots if manifest.look_ahead else 0, len(manifest.native.joints), 4), np.float32)
        """The newest pose of each slot, where one may have to be held."""

    def open(self, options: DecodingOptions | None = None, allowed: Flags | None = None) -> int:
        """A slot for a new track. Raises Overloaded when all are taken."""
        slot = self.scorer.open()
        self._spans.open(slot, options or self.manifest.decoding, allowed)
        return slot

    def adjust(self, slot: int, options: DecodingOptions, allowed: Flags | None = None) -> None:
        """Other options for the slot's track from the next frame on that is decided."""
        self._spans.adjust(slot, options, allowed)

    def close(self, slot: int) -> None:
        self.scorer.close(slot)

    def step(self, slots: Slots, frames: Sequence[GridFrame]) -> Step:
        """One grid frame of each of the (distinct) slots. Raises EngineFailure."""
        ended: list[tuple[int, Step]] = []
        for row, frame in enumerate(frames):
            if frame.first:
                slot = int(slots[row])
                ended.append((row, self.finish(slot, "track_end")))
                self.scorer.restart(slot)
                self._spans.begin(slot, frame.t)
        poses = np.concatenate([frame.pose for frame in frames]).reshape(len(frames), -1, 4)
        scores, boundaries, vectors = self.scorer.step(slots, poses)
        scores = self.vocabulary.answer(scores, vectors)
        if self._look_ahead:
            self._poses[slots] = poses
        step = self._spans.push(slots, [frame.t for frame in frames], scores, boundaries)
        return _joined(ended, step) if ended else step

    def finish(self, slot: int, forced: Forced = "close") -> Step:
        """Close what is open, once the last frames have their scores too; the slot may be stepped on afterwards, as if
        nothing had been. All that is told has row 0. Raises EngineFailure."""
        unheard = self._spans.unheard(slot)
        held = self.scorer.hold(slot, self._poses[slot], self._look_ahead) if unheard else None
        if held is None:
            return self._spans.finish(slot, None, forced)
        scores = self.vocabulary.answer(held.scores, held.vectors)
        return self._spans.finish(slot, (scores, held.boundaries), forced)

    def save(self, slot: int) -> SlotState:
        """Everything that the slot holds of its track; options are its owner's affair."""
        rows, clock = self.scorer.save(slot)
        origin, silent, decoder = self._spans.save(slot)
        pose = self._poses[slot].astype("<f4").tobytes() if self._look_ahead else b""
        return SlotState(rows.astype("<f4").tobytes(), clock, origin, decoder, silent, pose)

    def load(self, slot: int, state: SlotState) -> None:
        """Continue a saved track in an open slot. Raises StateError."""
        spec, shape = self.manifest.state, self._poses.shape[1:]
        if len(state.rows) != spec.bytes_per_stream:
            raise StateError(f"the state holds {len(state.rows)} bytes of rows, the model {spec.bytes_per_stream}")
        pose = np.frombuffer(state.pose, "<f4") if len(state.pose) % 4 == 0 else np.zeros(0, np.float32)
        if self._look_ahead and not (len(pose) == shape[0] * shape[1] and np.isfinite(pose).all()):
            raise StateError("the state lacks the last pose")
        self.scorer.load(slot, np.frombuffer(state.rows, "<f4").reshape(spec.rows, spec.width), state.clock)
        self._spans.load(slot, state.origin, state.silent, state.decoder)
        if self._look_ahead:
            self._poses[slot] = pose.reshape(shape)


def _joined(ended: Sequence[tuple[int, Step]], step: Step) -> Step:
    """What the ends of some rows' spans and then a step led to."""
    return Step(
        [row for row, end in ended for _ in end.rows] + list(step.rows),
        [t for _, end in ended for t in end.times] + list(step.times),
        _stacked([*(end.scores for _, end in ended), step.scores]),
        [(row, event) for row, end in ended for _, event in end.events] + step.events,
        [row for row, end in ended if end.spoilt] + step.spoilt,
    )


def _stacked(scores: Sequence[Floats]) -> Floats:
    """One below the other; of a class that has been enrolled between two of them, the former say nothing."""
    widest = max(one.shape[1] for one in scores)
    return np.concatenate([np.pad(one, ((0, 0), (0, widest - one.shape[1]))) for one in scores])


# --- to travel -------------------------------------------------------------------------------------------------------

_KIND = "track 3"
"""`sealing`'s kind and version of a `_Snapshot` in MessagePack."""


class _Snapshot(Struct, frozen=True):
    fingerprint: str
    grid: GridState
    slot: SlotState


def write_snapshot(localizer: OnlineLocalizer, slot: int, grid: FrameGrid) -> bytes:
    """A track's whole memory; under 32 KiB for the default network."""
    content = msgpack.encode(_Snapshot(localizer.manifest.fingerprint, grid.save(), localizer.save(slot)))
    return seal(_KIND, content)


def read_snapshot(snapshot: bytes, localizer: OnlineLocalizer, slot: int, grid: FrameGrid) -> None:
    """Continue it in an open slot and a grid of the same options.

    Raises StateError for what is damaged, of another version, or of another network: close the slot then.
    """
    try:
        read = msgpack.decode(unseal(_KIND, snapshot), type=_Snapshot)
    except DecodeError as error:
        raise StateError(f"the snapshot cannot be read: {error}") from None
    if read.fingerprint != localizer.manifest.fingerprint:
        raise StateError(f"the snapshot is of another network than {localizer.manifest.name}")
    grid.load(read.grid)
    localizer.load(slot, read.slot)


class StreamLocalizer:
    """One person's stream, localized in this process. `on_scores` is told the media time of every grid frame and its scores
    (1 + K,); a network that looks ahead tells them that much later, the last ones in `finish`.

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
        on_scores: Callable[[float, Floats], None] | None = None,
        vocabulary: Vocabulary | None = None,
    ) -> None:
        self._convert = open_converter(manifest, layout, coordinates)
        self.grid = FrameGrid(manifest.fps, gap_reset, manifest.native)
        self.localizer = OnlineLocalizer(manifest, scorer, vocabulary)
        self.slot = self.localizer.open(options, self.localizer.vocabulary.mask(classes))
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
            events += self._tell(self.localizer.step(self._slots, [grid_frame]))
        return events

    def finish(self) -> list[SegmentEvent]:
        """What is left to decide. Raises EngineFailure."""
        return self._tell(self.localizer.finish(self.slot, "close"))

    def _tell(self, step: Step) -> list[SegmentEvent]:
        if step.spoilt:
            raise EngineFailure("the network's scores are not finite")
        if self._on_scores:
            for t, scores in zip(step.times, step.scores, strict=True):
                self._on_scores(t, scores.copy())
        return [event for _, event in step.events]

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
