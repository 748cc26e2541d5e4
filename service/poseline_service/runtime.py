"""One running server: the loaded network, the door, and the open streams.

`start` opens the bundle in the engine's thread and replays its golden samples before anything is let in; a bundle that
fails them leaves a server that lives, says why in its log, and is never ready. `admit` is the one door: it refuses new
work while the network loads, while too much work waits, and while the server drains. `drain` lets every open stream
finish what it has accepted. Everything but the engine's jobs runs on the event loop.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Protocol

from poseline.bundle import find_bundle
from poseline.errors import Draining, Overloaded, PoselineError
from poseline.stepping import check_golden
from poseline_service.engine import PROVIDER, open_scorer
from poseline_service.errors import ModelLoading
from poseline_service.logging import log
from poseline_service.metrics import Metrics
from poseline_service.playback import RecordingLocalizer
from poseline_service.scheduler import BatchScheduler
from poseline_service.settings import ServiceSettings
from poseline_service.tracks import Changes, LoadedModel


class OpenStream(Protocol):
    """What the runtime must know of a stream to end it politely."""

    def interrupt(self, error: PoselineError) -> None: ...

    def abandon(self) -> None:
        """Leave at once, whatever is still to be sent."""
        ...


class Runtime:
    """Everything one server process holds."""

    def __init__(self, settings: ServiceSettings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.recordings = RecordingLocalizer(settings, self.metrics)
        self.draining = False
        self._model: LoadedModel | None = None
        self._streams: set[OpenStream] = set()
        self._left = Changes()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._batcher: asyncio.Task[None] | None = None
        self.metrics.sessions_active.set_function(lambda: len(self._streams))

    @property
    def ready(self) -> bool:
        """The network has proved itself, and new work is welcome."""
        return self._model is not None and not self.draining

    async def start(self) -> None:
        """Load the network. Raises nothing: a damaged bundle is logged, and the server stays not ready."""
        try:
            model, worst = await asyncio.get_running_loop().run_in_executor(self._executor, self._load)
        except PoselineError as error:
            log.error("model_refused", code=error.code, detail=error.detail)
            return
        self._batcher = asyncio.create_task(model.scheduler.run(), name="batcher")
        self._watch(model)
        self._model = model
        manifest = model.bundle.manifest
        log.info("model_ready", model=manifest.name, version=manifest.version, golden_difference=worst)

    def _load(self) -> tuple[LoadedModel, float]:
        settings = self.settings
        bundle = find_bundle(settings.models, settings.model)
        scorer = open_scorer(bundle, settings.slots)
        worst = check_golden(bundle, scorer)
        scheduler = BatchScheduler(
            scorer,
            self._executor,
            self.metrics,
            bundle.manifest.name,
            fps=bundle.manifest.fps,
            max_batch=settings.max_batch,
            max_steps=settings.max_steps,
        )
        return LoadedModel(bundle, scheduler), worst

    def _watch(self, model: LoadedModel) -> None:
        manifest, scheduler = model.bundle.manifest, model.scheduler
        self.metrics.model_info.labels(manifest.name, manifest.version, manifest.layout, PROVIDER).set(1)
        self.metrics.queue_depth.labels(manifest.name).set_function(lambda: scheduler.pending)
        self.metrics.state_bytes.set_function(lambda: scheduler.state_bytes)

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
        elif not model.scheduler.free_lanes:
            full = f"{model.scheduler.lanes} tracks are alive, the limit is {settings.slots}"
        elif model.scheduler.pending >= settings.max_pending:
            full = f"{model.scheduler.pending} frames are waiting, the limit is {settings.max_pending}"
        if full:
            raise Overloaded(full, retry_after=settings.retry_after)
        return model

    def enter(self, stream: OpenStream) -> None:
        self._streams.add(stream)

    def leave(self, stream: OpenStream) -> None:
        self._streams.discard(stream)
        self._left.notify()

    async def drain(self) -> None:
        """Close the door and let every open stream finish; give up after `drain_seconds`."""
        self.draining = True
        log.info("draining", streams=len(self._streams))
        for stream in self._streams:
            stream.interrupt(Draining("this server is shutting down", retry_after=self.settings.retry_after))
        try:
            async with asyncio.timeout(self.settings.drain_seconds):
                await self._left.until(lambda: not self._streams)
        except TimeoutError:
            log.warning("drain_incomplete", streams=len(self._streams))
            for stream in self._streams:
                stream.abandon()

    async def stop(self) -> None:
        """End the batcher and its thread."""
        if self._batcher is not None:
            self._batcher.cancel()
            with suppress(asyncio.CancelledError):
                await self._batcher
        self._executor.shutdown()
