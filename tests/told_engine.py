"""An engine that answers when it is told to: for tests of what happens while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Executor, Future
from contextlib import asynccontextmanager
from typing import Any

import numpy as np

from poseline.errors import EngineFailure
from poseline.manifest import LevelSpec, ModelManifest, RingSpec, StateSpec, TapSpec
from poseline.online import OnlineLocalizer
from poseline.resampling import GridFrame
from poseline.segments import SegmentEvent
from poseline.stepping import StepScorer
from poseline_service.metrics import Metrics
from poseline_service.scheduler import BatchScheduler
from poseline_service.workers import Lane, Told

SPEC = StateSpec(
    width=1,
    rings=(RingSpec(name="sum", length=1),),
    levels=(LevelSpec(name="only", graph="", every=1, reads=(TapSpec(ring="sum", age=1),), writes=("sum",)),),
)


MANIFEST = ModelManifest(
    name="test", version="1", license="none", research_only=False, classes=("background", "wave"), state=SPEC
)


def add_up(level: str, feeds: dict[str, Any]) -> Sequence[Any]:
    """A network whose state is the sum of all that it saw, and whose scores are that sum."""
    total = feeds["rows"] + feeds["joints"][:, :1, 0]
    return np.concatenate([total, -total], axis=1), np.zeros((len(total), 2), np.float32), total, total


class ToldExecutor(Executor):
    """Runs a job when told to, in the caller's thread; so a test decides what happens while one runs."""

    def __init__(self) -> None:
        self.jobs: list[tuple[Callable[[], Any], Future[Any]]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()
        self.jobs.append((lambda: fn(*args, **kwargs), future))
        return future

    async def started(self) -> None:
        """Until a job is waiting."""
        while not self.jobs:
            await asyncio.sleep(0)

    async def answer(self) -> None:
        """Run the job that waits, and let its results be delivered."""
        await self.started()
        job, future = self.jobs.pop(0)
        try:
            future.set_result(job())
        except Exception as error:
            future.set_exception(error)
        for _ in range(5):  # future → loop → batcher → sinks
            await asyncio.sleep(0)


class Sink:
    wants_scores = live = True

    def __init__(self) -> None:
        self.scores: list[float] = []
        self.settlings = 0
        self.error: EngineFailure | None = None

    def scored(self, told: Told, events: Sequence[SegmentEvent]) -> None:
        self.scores += [dict(top)[0] for _, top, _ in told]

    def settled(self) -> None:
        self.settlings += 1

    def failed(self, error: EngineFailure) -> None:
        self.error = error


def frame(value: float, first: bool = False) -> GridFrame:
    return GridFrame(0.0, np.full((16, 4), value, np.float32), first)


@asynccontextmanager
async def batching(
    slots: int = 4,
    run: Any = add_up,
    look_ahead: int = 0,
    unknown_below: float = 0.0,
    executor: Any = None,
    **limits: int,
) -> AsyncIterator[tuple[BatchScheduler, Any]]:
    executor = executor or ToldExecutor()
    manifest = MANIFEST.model_copy(update={"look_ahead": look_ahead, "unknown_below": unknown_below})
    localizer = OnlineLocalizer(manifest, StepScorer(SPEC, run, slots))
    scheduler = BatchScheduler([(localizer, executor)], Metrics(), lambda: None, **limits)
    try:
        yield scheduler, executor
    finally:
        stopping = asyncio.create_task(scheduler.stop())
        while getattr(executor, "jobs", None):
            await executor.answer()
        await stopping
        executor.shutdown()


def opened(scheduler: BatchScheduler, sink: Sink) -> Lane:
    return scheduler.open(sink, MANIFEST.decoding)
