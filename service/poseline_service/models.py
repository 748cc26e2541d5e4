"""The model that answers, and the former ones that somebody still uses.

`load` opens a bundle in a thread, where its golden samples are replayed, and only then lets it answer: at the start, and
whenever an operator swaps it. What fails them changes nothing. Whoever has begun with a model (a stream, a request, a job)
goes on with it; it lives exactly as long as somebody refers to it, and its engines and its memory go with the last of them.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from math import ceil, inf
from statistics import median
from time import thread_time
from typing import NamedTuple
from weakref import finalize, ref

import numpy as np

from poseline.bundle import ModelBundle, find_bundle
from poseline.enrolment import Vocabulary
from poseline.online import OnlineLocalizer
from poseline.stepping import StepScorer, check_golden
from poseline.whole import WholeScorer, check_whole
from poseline_service.engine import PROVIDERS, open_scorer, open_whole
from poseline_service.enrolling import Enroller
from poseline_service.intake import Intake
from poseline_service.logging import log
from poseline_service.metrics import Metrics
from poseline_service.outbox import Outlet
from poseline_service.scheduler import BatchScheduler
from poseline_service.settings import ServiceSettings
from poseline_service.tracks import LoadedModel
from poseline_service.workers import InlineExecutor

_TRIAL_STEPS = 24
_FOLLOW_SECONDS = 2.0
"""Between two looks at the folder of enrolled classes."""


class Proved(NamedTuple):
    """A bundle whose golden samples agree: a network for each worker, the one that sees the whole, what the samples differ
    by at the most, and the seconds of CPU that a frame of a full batch costs."""

    bundle: ModelBundle
    vocabulary: Vocabulary
    localizers: list[OnlineLocalizer]
    whole: WholeScorer | None
    worst: float
    cost: float


class Counts(NamedTuple):
    """Of all models since the beginning: frames accepted that somebody waits for, frames scored, jobs."""

    accepted_live: int
    scored: int
    jobs: int


class Models:
    """Lives on one event loop."""

    def __init__(self, settings: ServiceSettings, metrics: Metrics) -> None:
        self._settings, self._metrics = settings, metrics
        self.current: LoadedModel | None = None
        self._alive: list[ref[LoadedModel]] = []
        self._gone = Counts(0, 0, 0)
        self._loading = asyncio.Lock()
        self._followed_at = -inf
        self._following: asyncio.Task[None] | None = None
        metrics.models_loaded.set_function(lambda: len(self._schedulers()))
        metrics.state_bytes.set_function(lambda: sum(one.state_bytes for one in self._schedulers()))

    async def load(self, name: str | None) -> tuple[LoadedModel, Proved]:
        """Let the bundle of that name under `settings.models` answer, or its default one. Raises UnknownModel, BundleError,
        EngineFailure, and changes nothing then."""
        async with self._loading:
            proved = await asyncio.to_thread(_prove, self._settings, name)
            model = self._let_answer(proved)
            await model.enroller.follow()
            return model, proved

    def tick(self, now: float) -> None:
        """To be called now and then, with the monotonic clock: other servers may have enrolled a class."""
        busy = self._following is not None and not self._following.done()
        if self.current is not None and not busy and now - self._followed_at > _FOLLOW_SECONDS:
            self._followed_at = now
            self._following = asyncio.create_task(self.current.enroller.follow())

    def _let_answer(self, proved: Proved) -> LoadedModel:
        settings, metrics, manifest = self._settings, self._metrics, proved.bundle.manifest
        threads = [ThreadPoolExecutor(1, thread_name_prefix=f"engine-{n}") for n in range(settings.workers)]
        engines = zip(proved.localizers, threads or [InlineExecutor()], strict=True)
        outlet = Outlet()
        scheduler = BatchScheduler(
            list(engines), metrics, outlet.flush, max_batch=settings.max_batch, max_steps=settings.max_steps
        )
        intake = Intake(metrics.frames_received.labels(manifest.name).inc, scheduler.score)
        model = LoadedModel(
            proved.bundle,
            proved.vocabulary,
            scheduler,
            intake,
            outlet,
            proved.whole,
            Enroller(proved.bundle, proved.vocabulary),
        )
        self._alive = [one for one in self._alive if one() is not None] + [ref(model)]
        finalize(model, self._release, scheduler, threads, manifest.name).atexit = False
        self.current = model
        metrics.model_info.clear()
        metrics.model_info.labels(manifest.name, manifest.version, manifest.layout, PROVIDERS[settings.device]).set(1)
        metrics.queue_depth.labels(manifest.name).set_function(lambda: self._pending(manifest.name))
        log.info("model_ready", model=manifest.name, version=manifest.version, golden_difference=proved.worst)
        return model

    def _release(self, scheduler: BatchScheduler, threads: list[ThreadPoolExecutor], name: str) -> None:
        """Nobody refers to the model any more; perhaps in a thread that was the last to."""
        self._gone = _sum([self._gone, _counts(scheduler)])
        for thread in threads:
            thread.shutdown(wait=False)
        log.info("model_released", model=name)

    # --- of all that are alive ------------------------------------------------------------------------------------

    def _models(self) -> list[LoadedModel]:
        """Also for the thread of a scrape."""
        return [model for one in self._alive if (model := one()) is not None]

    def _schedulers(self) -> list[BatchScheduler]:
        return [model.scheduler for model in self._models()]

    @property
    def pending(self) -> int:
        """Frames that have no scores yet."""
        return sum(one.pending for one in self._schedulers())

    def _pending(self, name: str) -> int:
        models = [model for model in self._models() if model.bundle.manifest.name == name]
        return sum(model.scheduler.pending for model in models)

    def counts(self) -> Counts:
        return _sum([self._gone, *map(_counts, self._schedulers())])

    async def stop(self) -> None:
        """No engine runs any more, and nothing answers."""
        for scheduler in self._schedulers():
            await scheduler.stop()
        self.current = None


def _counts(scheduler: BatchScheduler) -> Counts:
    return Counts(scheduler.accepted_live, scheduler.scored, scheduler.jobs)


def _sum(counts: list[Counts]) -> Counts:
    return Counts(*map(sum, zip(*counts, strict=True)))


def _prove(settings: ServiceSettings, name: str | None) -> Proved:
    bundle, workers = find_bundle(settings.models, name), max(1, settings.workers)
    scorers = [open_scorer(bundle, ceil(settings.slots / workers), settings.device) for _ in range(workers)]
    worst = max(check_golden(bundle, scorer) for scorer in scorers)
    whole = open_whole(bundle, settings.device)
    if whole is not None:
        worst = max(worst, check_whole(bundle, whole))
    cost = _engine_cost(scorers[0], len(bundle.manifest.native.joints), settings.max_batch)
    vocabulary = Vocabulary(bundle.manifest)  # filled from its folder, which others may write to (`Enroller.follow`)
    localizers = [OnlineLocalizer(bundle.manifest, scorer, vocabulary) for scorer in scorers]
    return Proved(bundle, vocabulary, localizers, whole, worst, cost)


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
