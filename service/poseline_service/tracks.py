"""One person on the way through the server: an `OnlineLocalizer` and a lane of the scheduler.

Native poses enter, scores come back from the engine in order, events leave to the listener: a stream's session or a
finished recording, which so share every object. Everything happens on the event loop; who waits for something to
change waits on `Changes`. A closed track gives its lane back, whatever state it was in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from poseline.bundle import ModelBundle
from poseline.errors import EngineFailure, MalformedMessage, UnknownModel
from poseline.online import OnlineLocalizer
from poseline.protocol import ModelInfo
from poseline.resampling import GridFrame, GridPush
from poseline.segments import SegmentEvent
from poseline.skeleton import Floats
from poseline.translation import model_info
from poseline_service.scheduler import BatchScheduler


@dataclass(frozen=True)
class LoadedModel:
    """A bundle that answers, and the scheduler that runs it."""

    bundle: ModelBundle
    scheduler: BatchScheduler

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


def approximation(source: str, target: str) -> str:
    """What a client should know whose joints are not the model's own."""
    return f"{source} to {target}: some joints are means of others or missing"


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


class TrackListener(Protocol):
    """Who hears about a track. Called on the event loop."""

    def absorbed(self, track: Track, frame: GridFrame, scores: Floats, events: Sequence[SegmentEvent]) -> None: ...

    def settled(self, track: Track) -> None:
        """Every score that came with the last job is absorbed."""
        ...

    def failed(self, track: Track, error: EngineFailure) -> None: ...


class Track:
    """One person: frames in, scored by the network in order, events out to the listener."""

    def __init__(
        self, name: str, localizer: OnlineLocalizer, scheduler: BatchScheduler, listener: TrackListener
    ) -> None:
        self.name = name
        self.localizer = localizer
        self._scheduler = scheduler
        self._listener = listener
        self._lane = scheduler.open(self)

    @property
    def pending(self) -> int:
        """Grid frames that have no scores yet."""
        return self._lane.pending

    def push(self, t: float, pose: Floats) -> GridPush:
        """A native pose (16, 4) at media time t."""
        push = self.localizer.push(t, pose)
        self._scheduler.submit(self._lane, push.frames)
        return push

    def scored(self, frames: Sequence[GridFrame], scores: Floats, boundaries: Floats) -> None:
        for frame, p, b in zip(frames, scores, boundaries, strict=True):
            self._listener.absorbed(self, frame, p, self.localizer.absorb(frame, p, b))
        self._listener.settled(self)

    def failed(self, error: EngineFailure) -> None:
        self._listener.failed(self, error)

    def close(self) -> None:
        self._scheduler.close(self._lane)
