"""One running server: the loaded network, the door, and the open streams.

`start` opens the bundle and replays its golden samples before anything is let in; a bundle that fails them leaves a server
that lives, says why in its log, and is not ready. `swap` lets another bundle answer. `admit` is the one door: it refuses
new work while the network loads, while there is no headroom for it, and while the server drains. `drain` lets every open
stream finish what it has accepted. A heartbeat keeps time for all streams and measures the load. Everything but the engines'
jobs runs on the event loop.
"""

from __future__ import annotations

import asyncio
import gc
from concurrent.futures import Future
from contextlib import suppress
from time import monotonic
from typing import Protocol

from poseline.errors import Draining, Overloaded, PoselineError
from poseline_service.access import Access
from poseline_service.capturing import Captures
from poseline_service.errors import ModelLoading
from poseline_service.held_bodies import HeldBodies
from poseline_service.jobs import JobBoard
from poseline_service.keeping import Keeper
from poseline_service.load import LoadMonitor
from poseline_service.logging import log
from poseline_service.metrics import Metrics
from poseline_service.models import Models
from poseline_service.playback import RecordingLocalizer
from poseline_service.remembering import Remembrance
from poseline_service.settings import ServiceSettings
from poseline_service.states import open_store
from poseline_service.tracks import Changes, LoadedModel
from poseline_service.turns import Turns
from poseline_service.webhooks import Webhooks

_COLLECTING = (20_000, 10, 5)
"""Messages make no cycles: looking for them after every seven hundred objects, as is the default, is a waste."""
_KEPT_HERE, _KEPT_ELSEWHERE = 60.0, 600.0
"""Seconds for which a session can be resumed, in memory and through a store."""
_BEAT = 0.25
"""Seconds between two heartbeats: silence, acknowledgements and load are looked after so often."""


class OpenStream(Protocol):
    """What the runtime must know of a stream to end it politely."""

    def drain(self, error: Draining) -> None:
        """Finish what was accepted, and leave."""
        ...

    def abandon(self) -> None:
        """Leave at once, whatever is still to be sent."""
        ...

    def tick(self, now: float) -> None:
        """A heartbeat, by the monotonic clock."""
        ...


class Runtime:
    """Everything one server process holds."""

    def __init__(self, settings: ServiceSettings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.recordings = RecordingLocalizer(settings, self.metrics)
        self.bodies = HeldBodies(settings)
        self.turns = Turns()
        self.jobs = JobBoard(settings.for_jobs(), self.metrics)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._drain: asyncio.Task[None] | None = None
        seconds = settings.resume_seconds or (_KEPT_ELSEWHERE if settings.state_url else _KEPT_HERE)
        store = open_store(settings)
        self.webhooks = Webhooks(settings, self.metrics)
        self.keeper = Keeper(store, seconds, self.metrics, self.webhooks.stored)
        self.access = Access(settings, store, self.metrics)
        self.models = Models(settings, self.metrics)
        self.remembrance = Remembrance(settings.remember_bytes)
        self.captures = None if settings.capture is None else Captures(settings.capture, settings, self.metrics)
        self._streams: set[OpenStream] = set()
        self._left = Changes()
        self._heart: asyncio.Task[None] | None = None
        self.load = LoadMonitor(limit=settings.load_limit, late=settings.late_limit)
        self.metrics.sessions_active.set_function(lambda: len(self._streams))

    @property
    def draining(self) -> bool:
        return self._drain is not None

    @property
    def ready(self) -> bool:
        """The network has proved itself, and new work is welcome."""
        return self.models.current is not None and not self.draining

    async def start(self) -> None:
        """Load the network. Raises nothing: a damaged bundle is logged, and the server stays not ready."""
        settings, self._loop = self.settings, asyncio.get_running_loop()
        self._heart = asyncio.create_task(self._beat(), name="heart")
        await self.webhooks.start()
        self._watch()
        try:
            await self._load(settings.model)
        except PoselineError as error:
            log.error("model_refused", code=error.code, detail=error.detail)
            return
        gc.freeze()  # what is here now stays: no collection need look at it again
        gc.collect()  # or the next whole one would wait until a quarter as much as was frozen has come on top
        gc.set_threshold(*_COLLECTING)

    async def _load(self, name: str | None) -> LoadedModel:
        model, proved = await self.models.load(name)
        self.load.expect(proved.cost)
        return model

    async def swap(self, name: str) -> LoadedModel:
        """Let another bundle of `settings.models` answer: what begins from now on begins with it, what has begun keeps its
        own. Raises Draining, UnknownModel, BundleError, EngineFailure, and then nothing has changed."""
        if self.draining:
            raise Draining("this server is shutting down", retry_after=self.settings.retry_after)
        try:
            return await self._load(name)
        except PoselineError as error:
            log.error("model_refused", code=error.code, detail=error.detail)
            raise

    def swap_from_outside(self, name: str) -> Future[LoadedModel]:
        """The same from another thread. Raises ModelLoading."""
        return asyncio.run_coroutine_threadsafe(self.swap(name), self._begun())

    async def _beat(self) -> None:
        """The heartbeat; for ever, also of a server without a model: keys are withdrawn there, too."""
        while True:
            known, due = self.models.current is not None, monotonic() + _BEAT
            await asyncio.sleep(_BEAT)
            now = monotonic()
            self.access.tick(now)
            self.models.tick(now)
            if known:  # from before: how late its loading made this heartbeat says nothing
                self.load.beat(max(0.0, now - due), *self.models.counts())
            self.keeper.tidy()
            if self.captures is not None:
                self.captures.tick(now)
            self._tick_streams(now)

    def _tick_streams(self, now: float) -> None:
        for stream in list(self._streams):
            try:
                stream.tick(now)
            except Exception:  # one stream's fault must not stop the heart of all
                log.exception("tick_failed")
                stream.abandon()

    def _watch(self) -> None:
        metrics, loop = self.metrics, asyncio.get_running_loop()
        metrics.load.set_function(lambda: self.load.busy)
        metrics.lag.set_function(lambda: self.load.lag)
        metrics.tasks.set_function(lambda: len(asyncio.all_tasks(loop)))

    def model(self) -> LoadedModel:
        """Raises ModelLoading."""
        if self.models.current is None:
            raise ModelLoading("no model is ready yet", retry_after=self.settings.retry_after)
        return self.models.current

    def admit(self, *, stream: bool = False) -> LoadedModel:
        """Let new work in. Raises Draining, ModelLoading, Overloaded; each refusal is counted."""
        try:
            return self._admit(stream)
        except Overloaded as error:
            self.metrics.rejections.labels("capacity" if error.code == "overloaded" else error.code).inc()
            raise

    def _admit(self, stream: bool) -> LoadedModel:
        settings = self.settings
        if self.draining:
            raise Draining("this server is shutting down", retry_after=settings.retry_after)
        model = self.model()
        full = None
        if stream and len(self._streams) >= settings.max_sessions:
            full = f"{len(self._streams)} streams are open, the limit is {settings.max_sessions}"
        elif model.scheduler.lanes >= model.scheduler.slots:
            full = f"{model.scheduler.lanes} tracks are alive, the limit is {model.scheduler.slots}"
        elif self.models.pending >= settings.max_pending:
            full = f"{self.models.pending} frames are waiting, the limit is {settings.max_pending}"
        elif stream:
            full = self.load.full
        if full:
            raise Overloaded(full, retry_after=settings.retry_after)
        return model

    def enter(self, stream: OpenStream) -> None:
        self._streams.add(stream)
        self.load.welcome()

    def leave(self, stream: OpenStream) -> None:
        self._streams.discard(stream)
        self._left.notify()

    def drain(self) -> asyncio.Task[None]:
        """Close the door and let every open stream and running job finish; give up after `drain_seconds`. Once for all."""
        if self._drain is None:
            self._drain = asyncio.create_task(self._drain_all(), name="drain")
        return self._drain

    def drain_from_outside(self) -> int:
        """The same from another thread, without waiting; streams that are open. Raises ModelLoading."""
        self._begun().call_soon_threadsafe(self.drain)
        return len(self._streams)

    def _begun(self) -> asyncio.AbstractEventLoop:
        """Raises ModelLoading."""
        if self._loop is None:
            raise ModelLoading("the server only begins", retry_after=self.settings.retry_after)
        return self._loop

    async def _drain_all(self) -> None:
        log.info("draining", streams=len(self._streams))
        why = Draining("this server is shutting down", retry_after=self.settings.retry_after)
        deadline = monotonic() + self.settings.drain_seconds
        await asyncio.gather(self._drain_streams(why), self.jobs.drain(why, self.settings.drain_seconds))
        await self.webhooks.drain(max(1.0, deadline - monotonic()))

    async def _drain_streams(self, why: Draining) -> None:
        for stream in list(self._streams):
            stream.drain(why)
        try:
            async with asyncio.timeout(self.settings.drain_seconds):
                await self._left.until(lambda: not self._streams)
        except TimeoutError:
            log.warning("drain_incomplete", streams=len(self._streams))
            for stream in list(self._streams):
                stream.abandon()

    async def stop(self) -> None:
        """End the heartbeat, the jobs and the engines."""
        if self._heart is not None:
            self._heart.cancel()
            with suppress(asyncio.CancelledError):
                await self._heart
        await self.jobs.stop()
        await self.keeper.stop()
        await self.webhooks.stop()
        await self.models.stop()
        if self.captures is not None:
            await self.captures.stop()
