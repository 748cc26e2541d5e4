"""One running server: the loaded network, the door, and the open streams.

`start` opens the bundle and replays its golden samples before anything is let in; a bundle that fails them leaves a server
that lives, says why in its log, and is never ready. `admit` is the one door: it refuses new work while the network loads,
while there is no headroom for it, and while the server drains. `drain` lets every open stream finish what it has accepted.
A heartbeat keeps time for all streams and measures the load. Everything but the engines' jobs runs on the event loop.
"""

from __future__ import annotations

import asyncio
import gc
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from math import ceil
from statistics import median
from time import monotonic, thread_time
from typing import Protocol

import numpy as np

from poseline.bundle import ModelBundle, find_bundle
from poseline.errors import Draining, Overloaded, PoselineError
from poseline.online import OnlineLocalizer
from poseline.stepping import StepScorer, check_golden
from poseline.whole import WholeScorer, check_whole
from poseline_service.access import Access
from poseline_service.engine import PROVIDERS, open_scorer, open_whole
from poseline_service.errors import ModelLoading
from poseline_service.held_bodies import HeldBodies
from poseline_service.intake import Intake
from poseline_service.jobs import JobBoard
from poseline_service.keeping import Keeper
from poseline_service.load import LoadMonitor
from poseline_service.logging import log
from poseline_service.metrics import Metrics
from poseline_service.outbox import Outlet
from poseline_service.playback import RecordingLocalizer
from poseline_service.scheduler import BatchScheduler
from poseline_service.settings import ServiceSettings
from poseline_service.states import open_store
from poseline_service.tracks import Changes, LoadedModel
from poseline_service.turns import Turns
from poseline_service.webhooks import Webhooks
from poseline_service.workers import InlineExecutor

_COLLECTING = (20_000, 10, 5)
"""Messages make no cycles: looking for them after every seven hundred objects, as is the default, is a waste."""
_TRIAL_STEPS = 24
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
        self._model: LoadedModel | None = None
        self._streams: set[OpenStream] = set()
        self._left = Changes()
        self._executors: list[Executor] = []
        self._heart: asyncio.Task[None] | None = None
        self.load = LoadMonitor(limit=settings.load_limit, late=settings.late_limit)
        self.metrics.sessions_active.set_function(lambda: len(self._streams))

    @property
    def draining(self) -> bool:
        return self._drain is not None

    @property
    def ready(self) -> bool:
        """The network has proved itself, and new work is welcome."""
        return self._model is not None and not self.draining

    async def start(self) -> None:
        """Load the network. Raises nothing: a damaged bundle is logged, and the server stays not ready."""
        settings, self._loop = self.settings, asyncio.get_running_loop()
        self._heart = asyncio.create_task(self._beat(), name="heart")
        await self.webhooks.start()
        try:
            bundle, localizers, whole, worst, cost = await asyncio.to_thread(self._load)
        except PoselineError as error:
            log.error("model_refused", code=error.code, detail=error.detail)
            return
        for n in range(settings.workers):
            self._executors.append(ThreadPoolExecutor(1, thread_name_prefix=f"engine-{n}"))
        engines = zip(localizers, self._executors or [InlineExecutor()], strict=True)
        outlet = Outlet()
        scheduler = BatchScheduler(
            list(engines), self.metrics, outlet.flush, max_batch=settings.max_batch, max_steps=settings.max_steps
        )
        intake = Intake(self.metrics.frames_received.labels(bundle.manifest.name).inc, scheduler.score)
        self._model = LoadedModel(bundle, scheduler, intake, outlet, whole)
        self.load.expect(cost)
        self._watch(self._model)
        gc.freeze()  # what is here now stays: no collection need look at it again
        gc.collect()  # or the next whole one would wait until a quarter as much as was frozen has come on top
        gc.set_threshold(*_COLLECTING)
        manifest = bundle.manifest
        log.info("model_ready", model=manifest.name, version=manifest.version, golden_difference=worst)

    def _load(self) -> tuple[ModelBundle, list[OnlineLocalizer], WholeScorer | None, float, float]:
        """The bundle, a network for each worker, the one that sees the whole, what the golden samples differ by at the most,
        and what a frame costs."""
        settings = self.settings
        bundle, workers = find_bundle(settings.models, settings.model), max(1, settings.workers)
        scorers = [open_scorer(bundle, ceil(settings.slots / workers), settings.device) for _ in range(workers)]
        worst = max(check_golden(bundle, scorer) for scorer in scorers)
        whole = open_whole(bundle, settings.device)
        if whole is not None:
            worst = max(worst, check_whole(bundle, whole))
        cost = _engine_cost(scorers[0], len(bundle.manifest.native.joints), settings.max_batch)
        return bundle, [OnlineLocalizer(bundle.manifest, scorer) for scorer in scorers], whole, worst, cost

    async def _beat(self) -> None:
        """The heartbeat; for ever, also of a server without a model: keys are withdrawn there, too."""
        while True:
            model, due = self._model, monotonic() + _BEAT
            await asyncio.sleep(_BEAT)
            now = monotonic()
            self.access.tick(now)
            if model is not None:  # from before: how late its loading made this heartbeat says nothing
                scheduler = model.scheduler
                self.load.beat(max(0.0, now - due), scheduler.accepted_live, scheduler.scored, scheduler.jobs)
            self.keeper.tidy()
            self._tick_streams(now)

    def _tick_streams(self, now: float) -> None:
        for stream in list(self._streams):
            try:
                stream.tick(now)
            except Exception:  # one stream's fault must not stop the heart of all
                log.exception("tick_failed")
                stream.abandon()

    def _watch(self, model: LoadedModel) -> None:
        manifest, scheduler, metrics = model.bundle.manifest, model.scheduler, self.metrics
        metrics.model_info.labels(
            manifest.name, manifest.version, manifest.layout, PROVIDERS[self.settings.device]
        ).set(1)
        metrics.queue_depth.labels(manifest.name).set_function(lambda: scheduler.pending)
        metrics.state_bytes.set_function(lambda: scheduler.state_bytes)
        metrics.load.set_function(lambda: self.load.busy)
        metrics.lag.set_function(lambda: self.load.lag)
        loop = asyncio.get_running_loop()
        metrics.tasks.set_function(lambda: len(asyncio.all_tasks(loop)))

    def model(self) -> LoadedModel:
        """Raises ModelLoading."""
        if self._model is None:
            raise ModelLoading("no model is ready yet", retry_after=self.settings.retry_after)
        return self._model

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
        elif model.scheduler.pending >= settings.max_pending:
            full = f"{model.scheduler.pending} frames are waiting, the limit is {settings.max_pending}"
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
        if self._loop is None:
            raise ModelLoading("the server only begins", retry_after=self.settings.retry_after)
        self._loop.call_soon_threadsafe(self.drain)
        return len(self._streams)

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
        if self._model is not None:
            await self._model.scheduler.stop()
        for executor in self._executors:
            executor.shutdown()


def _engine_cost(scorer: StepScorer, joints: int, batch: int) -> float:
    """Seconds of CPU per frame of a full batch, measured for a moment."""
    slots = np.array([scorer.open() for _ in range(min(batch, scorer.pool.slots))])
    poses = np.zeros((len(slots), joints, 4), np.float32)
    taken: list[float] = []
    for _ in range(_TRIAL_STEPS):
        begin = thread_time()
        scorer.step(slots, poses)
        taken.append(thread_time() - begin)
    for slot in slots.tolist():
        scorer.close(slot)
    return median(taken) / len(slots)
