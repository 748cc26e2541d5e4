"""Continuous batching: grid frames of all tracks in, scores out, in order for each track.

A track's queue is a `Lane`. One batcher task on the event loop takes the lanes that have waited longest, a few frames
of each, and has the engine's single thread step them side by side; what arrives meanwhile makes the next batch. So a
batch grows only while the engine is busy, and no timer is needed.

Concurrency: the event loop owns lanes, queues and the pool's free list; the engine thread touches state rows and
counters of the slots in its job only. At most one job is in flight. A lane closed during its job keeps its slot until
the job has ended, so no newcomer can meet the old owner's writes. A failed job fails exactly the lanes that were in it;
scores that are not finite fail exactly the lane whose they are.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from time import perf_counter
from typing import Protocol

import numpy as np

from poseline.errors import EngineFailure
from poseline.resampling import GridFrame
from poseline.skeleton import Floats
from poseline.stepping import StepScorer
from poseline_service.logging import log
from poseline_service.metrics import Metrics


class ScoreSink(Protocol):
    """Who gets a lane's scores. Called on the event loop; must not raise."""

    def scored(self, frames: Sequence[GridFrame], scores: Floats, boundaries: Floats) -> None:
        """Frames in order with scores (n, 1 + K) and boundaries (n, 2)."""
        ...

    def failed(self, error: EngineFailure) -> None:
        """The engine could not run this lane's frames; the lane is dead."""
        ...


class Lane:
    """One track's frames on their way to the network, in order."""

    def __init__(self, slot: int, sink: ScoreSink) -> None:
        self.slot = slot
        self.sink = sink
        self.waiting: deque[tuple[GridFrame, float]] = deque()
        self.running = 0
        self.closed = False

    @property
    def pending(self) -> int:
        """Frames that have no scores yet."""
        return len(self.waiting) + self.running


@dataclass(frozen=True)
class _Share:
    """What one lane has in a job: frames, and when each arrived."""

    lane: Lane
    frames: list[GridFrame]
    arrived: list[float]


@dataclass(frozen=True)
class _Result:
    scores: list[list[Floats]]
    boundaries: list[list[Floats]]
    step_seconds: list[float]


class BatchScheduler:
    """The batcher and its engine thread. `scorer` belongs to it from here on."""

    def __init__(
        self,
        scorer: StepScorer,
        executor: Executor,
        metrics: Metrics,
        model: str,
        *,
        fps: float = 30.0,
        max_batch: int = 64,
        max_steps: int = 16,
    ) -> None:
        self._scorer = scorer
        self._executor = executor
        self._max_batch = max_batch
        self._max_steps = max_steps
        self._ready: deque[Lane] = deque()
        self._in_job: set[Lane] = set()
        self._wake = asyncio.Event()
        self._stage_queue = metrics.stage.labels("queue")
        self._stage_infer = metrics.stage.labels("infer")
        self._latency = metrics.frame_latency.labels(model)
        self._batch_size = metrics.batch_size.labels(model)
        self._media_seconds = metrics.media_seconds.labels(model)
        self._frame_seconds = 1 / fps
        self.pending = 0
        """Frames of all lanes that have no scores yet."""

    @property
    def lanes(self) -> int:
        return self._scorer.pool.used

    @property
    def free_lanes(self) -> int:
        return self._scorer.pool.slots - self._scorer.pool.used

    @property
    def state_bytes(self) -> int:
        return self._scorer.pool.used * self._scorer.pool.spec.bytes_per_stream

    def open(self, sink: ScoreSink) -> Lane:
        """A lane for a new track. Raises Overloaded when all slots are taken."""
        return Lane(self._scorer.open(), sink)

    def submit(self, lane: Lane, frames: Sequence[GridFrame]) -> None:
        """Queue frames; their scores come to the lane's sink, in this order."""
        if lane.closed or not frames:
            return
        now = perf_counter()
        if not lane.waiting and lane not in self._in_job:
            self._ready.append(lane)
        lane.waiting.extend((frame, now) for frame in frames)
        self.pending += len(frames)
        self._wake.set()

    def close(self, lane: Lane) -> None:
        """Forget the lane and what waits in it. Its slot is free at once, or when the running job has ended."""
        if lane.closed:
            return
        lane.closed = True
        self.pending -= len(lane.waiting)
        lane.waiting.clear()
        if lane not in self._in_job:
            self._scorer.close(lane.slot)

    async def run(self) -> None:
        """Batch for ever; cancel to stop."""
        loop = asyncio.get_running_loop()
        while True:
            job = self._take()
            if not job:
                self._wake.clear()
                await self._wake.wait()
                continue
            running = loop.run_in_executor(self._executor, self._step, job)
            try:
                result = await asyncio.shield(running)
            except asyncio.CancelledError:
                await asyncio.wait([running])
                self._end(job)
                raise
            except Exception as error:
                self._fail(job, error)
            else:
                self._deliver(job, result)

    def _take(self) -> list[_Share]:
        """The next job: the lanes that have waited longest, a few frames of each."""
        now = perf_counter()
        job: list[_Share] = []
        while self._ready and len(job) < self._max_batch:
            lane = self._ready.popleft()
            if lane.closed:
                continue
            count = min(len(lane.waiting), self._max_steps)
            taken = [lane.waiting.popleft() for _ in range(count)]
            lane.running = count
            self._in_job.add(lane)
            job.append(_Share(lane, [frame for frame, _ in taken], [arrived for _, arrived in taken]))
            self._stage_queue.observe(now - taken[0][1])
        job.sort(key=lambda share: len(share.frames), reverse=True)
        return job

    def _step(self, job: list[_Share]) -> _Result:
        """In the engine's thread: the s-th frames of all lanes that have one, side by side, for every s."""
        result = _Result([[] for _ in job], [[] for _ in job], [])
        slots = np.array([share.lane.slot for share in job], np.int64)
        for s in range(len(job[0].frames)):
            live = [share.frames[s] for share in job if len(share.frames) > s]  # a prefix: the longest come first
            for share, frame in zip(job, live, strict=False):
                if frame.first:
                    self._scorer.restart(share.lane.slot)
            begin = perf_counter()
            scores, boundaries = self._scorer.step(slots[: len(live)], np.stack([frame.pose for frame in live]))
            result.step_seconds.append(perf_counter() - begin)
            for i in range(len(live)):
                result.scores[i].append(scores[i])
                result.boundaries[i].append(boundaries[i])
        return result

    def _deliver(self, job: list[_Share], result: _Result) -> None:
        now = perf_counter()
        self._end(job)
        for seconds in result.step_seconds:
            self._stage_infer.observe(seconds)
        for s in range(len(result.step_seconds)):
            self._batch_size.observe(sum(len(share.frames) > s for share in job))
        for share, scores, boundaries in zip(job, result.scores, result.boundaries, strict=True):
            self._media_seconds.inc(len(share.frames) * self._frame_seconds)
            for arrived in share.arrived:
                self._latency.observe(now - arrived)
            if share.lane.closed:
                continue
            told, edges = np.stack(scores), np.stack(boundaries)
            if not (np.isfinite(told).all() and np.isfinite(edges).all()):  # its state is spoilt for good
                log.error("scores_not_finite")
                self._lose(share.lane, EngineFailure("the network's scores are not finite"))
                continue
            try:
                share.lane.sink.scored(share.frames, told, edges)
            except Exception as error:  # one track's fault must not stop the batcher, and with it everybody else
                log.exception("scores_not_taken")
                self._lose(share.lane, EngineFailure(f"scores could not be taken: {error!r}"))

    def _fail(self, job: list[_Share], error: Exception) -> None:
        failure = error if isinstance(error, EngineFailure) else EngineFailure(f"the engine failed: {error!r}")
        log.error("engine_failed", detail=failure.detail, lanes=len(job))
        self._end(job)
        for share in job:
            if not share.lane.closed:
                self._lose(share.lane, failure)

    def _lose(self, lane: Lane, failure: EngineFailure) -> None:
        self.close(lane)
        lane.sink.failed(failure)

    def _end(self, job: list[_Share]) -> None:
        """The job is over: slots of lanes closed meanwhile are free now, lanes with more frames are ready again."""
        for share in job:
            lane = share.lane
            self.pending -= len(share.frames)
            lane.running = 0
            self._in_job.discard(lane)
            if lane.closed:
                self._scorer.close(lane.slot)
            elif lane.waiting:
                self._ready.append(lane)
