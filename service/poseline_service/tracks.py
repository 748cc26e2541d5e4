"""One person on the way through the server: a frame grid and a lane of the scheduler.

Native poses enter, scores and events come back from the engine in order and go to the listener: a stream's session or a
finished recording, which so share every object. Everything happens on the event loop. A closed track gives its lane back,
whatever state it was in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any, Protocol

from msgspec import Struct

from poseline.bundle import ModelBundle
from poseline.decoding import DecodingOptions
from poseline.enrolment import Vocabulary
from poseline.errors import EngineFailure, MalformedMessage, StateError, UnknownModel
from poseline.online import SlotState, open_converter
from poseline.pose import Coordinates, PoseConverter, has_scale
from poseline.protocol import ModelInfo, Notice
from poseline.resampling import FrameGrid, GridFrame, GridPush, GridState
from poseline.segments import Forced, SegmentEvent
from poseline.skeleton import Flags, Floats, SkeletonLayout, unknown_joints
from poseline.translation import model_info
from poseline.whole import WholeScorer
from poseline_service.enrolling import Enroller
from poseline_service.intake import Intake
from poseline_service.outbox import Outlet
from poseline_service.remembering import Memory
from poseline_service.scheduler import BatchScheduler
from poseline_service.workers import Told

_NAMED = 8
"""Joints of a client's that a warning names."""
_CONVERTERS = 256
"""Ways to the model's poses kept for the next who sends the same."""
SCALE_SECONDS = 2.0
"""Media time after which somebody whose poses have had no scale is told of: hips and shoulders may only be late."""


@dataclass(frozen=True)
class LoadedModel:
    """A bundle that answers, the classes with which it does, and the scheduler that runs it. whole: its network for mode
    `offline`, where it has one."""

    bundle: ModelBundle
    vocabulary: Vocabulary
    scheduler: BatchScheduler
    intake: Intake
    outlet: Outlet
    whole: WholeScorer | None
    enroller: Enroller
    _converters: dict[tuple[str, Coordinates], PoseConverter] = field(default_factory=dict[Any, Any])

    def converter(self, layout: SkeletonLayout, coordinates: Coordinates) -> PoseConverter:
        """The way to the model's poses; one object for all who send the same. Raises UnitUnknown, LayoutMismatch."""
        known = self._converters.get((layout.name, coordinates))
        if known is None:
            known = open_converter(self.bundle.manifest, layout, coordinates)
            if layout.name != "custom":
                if len(self._converters) == _CONVERTERS:  # sizes of images are anybody's: not to be kept for ever
                    self._converters.pop(next(iter(self._converters)))
                self._converters[layout.name, coordinates] = known
        return known

    def named(self, name: str) -> LoadedModel:
        """Itself, if that is what `name` asks for. Raises UnknownModel."""
        known = self.bundle.manifest.name
        if name not in ("default", known, self.bundle.path.name):
            raise UnknownModel(f"unknown model {name!r}; this server runs {known!r}", param="model")
        return self

    def info(self) -> ModelInfo:
        return model_info(self.bundle.manifest, self.bundle.digest)


LATEST = 1e12
"""Seconds of media time, either way: beyond it a double no longer tells neighbouring frames apart well."""
LONGEST_NAME = 128
"""Characters of a client's name for a track or a request, which every answer repeats."""


def check_name(name: str, param: str) -> None:
    """Raises MalformedMessage."""
    if not 0 < len(name) <= LONGEST_NAME:
        what = f"{param} has {len(name)} characters, expected 1 to {LONGEST_NAME}"
        raise MalformedMessage(what, param=param, code="invalid_message")


def notices(converter: PoseConverter, native: str) -> list[Notice]:
    """What a client should know whose poses lack what the model's own have."""
    found: list[Notice] = []
    if converter.approximate:
        what = f"{converter.layout.name} to {native}: some joints are means of others or missing"
        if unknown := unknown_joints(converter.layout):
            more = ", …" if len(unknown) > _NAMED else ""
            what += f"; not known are {', '.join(unknown[:_NAMED])}{more}"
        found.append(Notice("layout_approximate", what))
    if converter.coordinates.dims == 2:
        found.append(Notice("two_dimensions", "depth is missing: expect lower accuracy, see the model card"))
    return found


def no_scale(track: str) -> Notice:
    """What a client should know of somebody whose neck or pelvis was not seen for long."""
    what = f"track {track}: neck or pelvis (shoulders or hips) unseen in the first {SCALE_SECONDS:g} seconds"
    return Notice("no_scale", f"{what}; nothing can be found until both are seen")


class Changes:
    """Something that others wait for has changed."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def notify(self) -> None:
        self._event.set()

    async def until(self, ready: Callable[[], bool]) -> None:
        while not ready():
            self._event.clear()
            await self._event.wait()


class TrackTap(Protocol):
    """Who hears of every grid frame and of every score, whatever the client wants to hear. Must not raise."""

    def pushed(self, frames: Sequence[GridFrame]) -> None: ...

    def scored(self, told: Told, events: Sequence[SegmentEvent]) -> None: ...

    def close(self) -> None:
        """The track gives its lane back."""
        ...


class TrackListener(Protocol):
    """Who hears about a track. Called on the event loop."""

    def absorbed(self, track: Track, told: Told, events: Sequence[SegmentEvent]) -> None:
        """The next grid frame is through the network; `told`: the scores that are to be told."""
        ...

    def settled(self, track: Track) -> None:
        """Everything that came with the last job is absorbed."""
        ...

    def failed(self, track: Track, error: EngineFailure) -> None: ...


@dataclass(frozen=True)
class TrackOptions:
    """How somebody's tracks are localized. scores_hz: `Pace`. live: somebody waits for the scores. remember: seconds for
    which a track's `Memory` holds its poses."""

    decoding: DecodingOptions
    allowed: Flags | None
    gap_reset: float
    scores_hz: float
    live: bool
    remember: float = 0.0


class TrackState(Struct, frozen=True):
    """All that is known of one person, to travel. due: of the pace."""

    name: str
    number: int
    grid: GridState
    slot: SlotState
    last_t: float
    first_t: float
    unmeasured: bool
    due: float | None


class Track:
    """One person: native poses in, scored by the network in order, events out to the listener, and all of it to the tap.
    number: among all whom the listener has had. memory: what holds its newest poses, where somebody may ask for them."""

    def __init__(
        self,
        name: str,
        model: LoadedModel,
        options: TrackOptions,
        listener: TrackListener,
        number: int = 0,
        tap: TrackTap | None = None,
        memory: Memory | None = None,
    ) -> None:
        manifest = model.bundle.manifest
        self.name = name
        self.number = number
        self.pace = Pace(options.scores_hz, manifest.fps)
        self._tap = tap
        self.memory = memory
        if memory is not None:
            memory.keep(options.remember)
        self.wants_scores = options.scores_hz > 0 or tap is not None
        self.live = options.live
        self._grid = FrameGrid(manifest.fps, options.gap_reset, manifest.native)
        self._scheduler = model.scheduler
        self._listener = listener
        self.last_t = -inf
        """Media time of the newest frame."""
        self._native = manifest.native
        self._first_t = inf
        self._unmeasured = True
        """No pose of it had a scale so far, and nobody has been told."""
        self._lane = self._scheduler.open(self, options.decoding, options.allowed)

    @classmethod
    def restored(
        cls,
        state: TrackState,
        model: LoadedModel,
        options: TrackOptions,
        listener: TrackListener,
        tap: TrackTap | None = None,
        memory: Memory | None = None,
    ) -> Track:
        """One that was saved, exactly as it was. Raises Overloaded, StateError."""
        track = cls(state.name, model, options, listener, state.number, tap, memory)
        try:
            track._grid.load(state.grid)
            track._scheduler.load(track._lane, state.slot)
        except StateError:
            track.close()
            raise
        track.last_t, track._first_t, track._unmeasured = state.last_t, state.first_t, state.unmeasured
        track.pace.due = state.due
        return track

    def save(self) -> TrackState:
        """Once nothing is pending."""
        return TrackState(
            self.name,
            self.number,
            self._grid.save(),
            self._scheduler.save(self._lane),
            self.last_t,
            self._first_t,
            self._unmeasured,
            self.pace.due,
        )

    @property
    def pending(self) -> int:
        """Grid frames that have no scores yet."""
        return self._lane.pending

    def adjust(self, options: TrackOptions) -> None:
        """Decode and tell by these options from the next frame on; nothing is pending. The grid stays what it is."""
        self._scheduler.adjust(self._lane, options.decoding, options.allowed)
        if self.memory is not None:
            self.memory.keep(options.remember)
        if options.scores_hz != self.pace.hz:
            self.pace = Pace(options.scores_hz, self.pace.fps)
            self.wants_scores = options.scores_hz > 0 or self._tap is not None

    def push(self, t: float, pose: Floats, whole: bool | None = None) -> GridPush:
        """A native pose (16, 4) at media time t; whole: no joint is missing, if that is known."""
        push = self._grid.push(t, pose, whole)
        self.last_t = max(self.last_t, t)
        if self._unmeasured:
            self._first_t = min(self._first_t, t)
            self._unmeasured = not any(has_scale(frame.pose, self._native) for frame in push.frames)
        if self._tap is not None:
            self._tap.pushed(push.frames)
        if self.memory is not None:
            self.memory.pushed(push.frames)
        self._scheduler.submit(self._lane, push.frames)
        return push

    def lacks_scale(self) -> bool:
        """Whether it has lasted `SCALE_SECONDS` and no pose had a scale: said once."""
        if not self._unmeasured or self.last_t - self._first_t < SCALE_SECONDS:
            return False
        self._unmeasured = False
        return True

    def finish(self, forced: Forced) -> tuple[Told, list[SegmentEvent]]:
        """Close what is open, once nothing is pending: the scores that are to be told, and the events. The track may go on
        afterwards. Raises EngineFailure."""
        told, events = self._scheduler.finish(self._lane, forced)
        if self._tap is not None:
            self._tap.scored(told, events)
        return self._paced(told), events

    def scored(self, told: Told, events: Sequence[SegmentEvent]) -> None:
        if self._tap is not None:
            self._tap.scored(told, events)
        self._listener.absorbed(self, self._paced(told) if told else told, events)

    def _paced(self, told: Told) -> Told:
        return [one for one in told if self.pace.takes(one[0])]

    def settled(self) -> None:
        self._listener.settled(self)

    def failed(self, error: EngineFailure) -> None:
        self._listener.failed(self, error)

    def close(self) -> None:
        self._scheduler.close(self._lane)
        if self._tap is not None:
            self._tap.close()
        if self.memory is not None:
            self.memory.clear()


class Pace:
    """Which of a track's frames scores are told of: `hz` a second of media time on average, none for 0; fps: the grid's."""

    def __init__(self, hz: float, fps: float) -> None:
        self.hz, self.fps = hz, fps
        self._always = hz >= fps
        self.due: float | None = None
        """Media time of the next frame that is told of, once there was one."""

    def takes(self, t: float) -> bool:
        """To be asked once of every frame, in order."""
        if self._always:
            return True
        if self.hz <= 0:
            return False
        due, every = t if self.due is None else self.due, 1 / self.hz
        if t < due - 1e-6:
            return False
        # Counted from when they were due, or rates that do not divide the grid's would come out lower.
        self.due = due + every if t < due + every else t + every
        return True
