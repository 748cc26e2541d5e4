"""Continuous batching: grid frames of all tracks in, scores and events out, in order for each track.

A track's queue is a `Lane`, and a lane lives on one `Worker`: an executor with an `OnlineLocalizer` of its own, so workers
share nothing. A worker that is free takes the next job; what arrives meanwhile makes the one after it. So a batch grows only
while the engine is busy, and no timer is needed.

Concurrency: the event loop owns lanes, queues and slots. A worker's job touches its own engine's state and nothing else, be
it in a thread of its own or, as is best where Python is the bottleneck (docs/performance.md), right on the event loop. A
lane closed during its job keeps its slot until the job has ended, so no newcomer can meet the old owner's writes. A failed
job fails exactly the lanes that were in it; scores that are not finite fail exactly the lane whose they are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from time import perf_counter
from typing import Any, TypeVar

from poseline.decoding import DecodingOptions
from poseline.errors import EngineFailure, Overloaded
from poseline.online import OnlineLocalizer, SlotState
from poseline.resampling import GridFrame
from poseline.segments import Forced, SegmentEvent
from poseline.skeleton import Flags
from poseline_service.logging import log
from poseline_service.metrics import Metrics
from poseline_service.workers import Job, Lane, Nobody, ScoreSink, Told, Worker, answers_to

T = TypeVar("T")


class BatchScheduler:
    """Lanes, and the workers that step them. Lives on one event loop. told: called when all of a job has been."""

    def __init__(
        self,
        engines: Sequence[tuple[OnlineLocalizer, Executor]],
        metrics: Metrics,
        told: Callable[[], None],
        *,
        max_batch: int = 64,
        max_steps: int = 16,
    ) -> None:
        self._workers = [Worker(localizer, executor, max_batch, max_steps) for localizer, executor in engines]
        manifest = engines[0][0].manifest
        self._state = manifest.state
        self._looks_ahead = manifest.look_ahead > 0
        self._stage_queue = metrics.stage.labels("queue")
        self._stage_infer = metrics.stage.labels("infer")
        self._latency = metrics.frame_latency.labels(manifest.name)
        self._batch_size = metrics.batch_size.labels(manifest.name)
        self._media_seconds = metrics.media_seconds.labels(manifest.name)
        self._frame_seconds = 1 / manifest.fps
        self._told = told
        self._loop = asyncio.get_running_loop()
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False
        self.pending = 0
        """Frames of all lanes that have no scores yet."""
        self.scored = 0
        """Frames scored since the beginning."""
        self.accepted_live = 0
        """Frames that somebody waits for, since the beginning, scored or not."""
        self.jobs = 0

    @property
    def lanes(self) -> int:
        return sum(worker.localizer.scorer.pool.used for worker in self._workers)

    @property
    def slots(self) -> int:
        return sum(worker.localizer.scorer.pool.slots for worker in self._workers)

    @property
    def state_bytes(self) -> int:
        return self.lanes * self._state.bytes_per_stream

    def open(self, sink: ScoreSink, options: DecodingOptions, allowed: Flags | None = None) -> Lane:
        """A lane for a new track, on the emptiest worker. Raises Overloaded when all slots are taken."""
        worker = max(self._workers, key=lambda worker: worker.free)
        if not worker.free:
            raise Overloaded(f"all {self.slots} stream slots are taken")
        return Lane(worker, worker.localizer.open(options, allowed), sink)

    def submit(self, lane: Lane, frames: Sequence[GridFrame]) -> None:
        """Queue frames; what they lead to comes to the lane's sink, in this order."""
        if lane.closed or not frames:
            return
        now = perf_counter()
        if not lane.waiting and not lane.running:
            self._get_ready(lane)
        for frame in frames:
            lane.waiting.append((frame, now))
        self.pending += len(frames)
        if lane.sink.live:
            self.accepted_live += len(frames)

    def score(self, full: bool) -> None:
        """Run what is ready now, or of that only full batches; engines in threads see to themselves."""
        for worker in self._workers:
            if worker.inline:
                self._take_turns(worker, len(worker.ready) // worker.max_batch if full else worker.turns)

    def _take_turns(self, worker: Worker, turns: int) -> None:
        """A turn for everybody who is ready, and then one for the sockets: to read more than is scored would only make all
        wait longer."""
        for _ in range(turns):
            if not self._start_job(worker):
                return

    def adjust(self, lane: Lane, options: DecodingOptions, allowed: Flags | None) -> None:
        """Other options for a lane that has nothing pending, from its next frame on."""
        assert not lane.pending, "a frame is decided by the options under which it came"
        lane.worker.localizer.adjust(lane.slot, options, allowed)

    def finish(self, lane: Lane, forced: Forced) -> tuple[Told, list[SegmentEvent]]:
        """Close what is open in a lane that has nothing pending; it may go on afterwards. Raises EngineFailure.

        A network that looks ahead is asked once more, where it always runs: the loop waits for that, and in a thread for the
        job before it; milliseconds, and only when something ends.
        """
        assert not lane.pending, "a lane's segments end when its frames are scored"
        worker = lane.worker
        if self._looks_ahead:
            end = self._with_engine(lane, worker.localizer.finish, lane.slot, forced)
        else:
            end = worker.localizer.finish(lane.slot, forced)
        if end.spoilt:
            raise EngineFailure("the network's scores are not finite")
        (told,) = answers_to(end, [lane.sink.wants_scores], worker.localizer.manifest.unknown_below)
        return told, [event for _, event in end.events]

    def save(self, lane: Lane) -> SlotState:
        """What the network and the decoder remember of a lane that has nothing pending."""
        assert not lane.pending, "what is pending is in no state yet"
        return self._with_engine(lane, lane.worker.localizer.save, lane.slot)

    def load(self, lane: Lane, state: SlotState) -> None:
        """Go on in a new lane where another was saved. Raises StateError."""
        self._with_engine(lane, lane.worker.localizer.load, lane.slot, state)

    def _with_engine(self, lane: Lane, do: Callable[..., T], *args: Any) -> T:
        """Where the engine always runs: what touches its pool must not meet a job in a thread. The loop waits."""
        return lane.worker.executor.submit(do, *args).result()

    def close(self, lane: Lane) -> None:
        """Forget the lane and what waits in it. Its slot is free at once, or when the running job has ended."""
        if lane.closed:
            return
        lane.closed = True
        lane.sink = Nobody()
        self.pending -= len(lane.waiting)
        lane.waiting.clear()
        if not lane.running:
            lane.worker.localizer.close(lane.slot)

    async def stop(self) -> None:
        """Take no further job; returns when the running ones have ended."""
        self._closed = True
        await self._idle.wait()

    # --- jobs -----------------------------------------------------------------------------------------------------

    def _get_ready(self, lane: Lane) -> None:
        worker = lane.worker
        worker.add(lane)
        if not worker.busy:  # at the end of this turn of the loop, so that what arrived in it goes side by side
            worker.busy = True
            self._loop.call_soon(self._start, worker)

    def _start(self, worker: Worker) -> None:
        """On the loop: a turn for all, again and again. In a thread: one job, whose end starts the next."""
        if not worker.inline:
            self._start_job(worker)
        elif worker.turns and not self._closed:
            self._loop.call_soon(self._start, worker)  # first: whatever happens in these turns, others follow
            self._take_turns(worker, worker.turns)
        else:
            self._rest(worker)

    def _start_job(self, worker: Worker) -> bool:
        job = None if self._closed else worker.take()
        if job is None:
            if not worker.inline:
                self._rest(worker)
            return False
        self._idle.clear()
        self._stage_queue.observe([perf_counter() - min(job.arrived)])
        future = worker.executor.submit(worker.step, job)
        if worker.inline:
            self._end(worker, job, future)
        else:
            future.add_done_callback(lambda done: self._loop.call_soon_threadsafe(self._end, worker, job, done))
        return True

    def _rest(self, worker: Worker) -> None:
        worker.busy = False
        if not any(one.busy for one in self._workers):
            self._idle.set()

    def _end(self, worker: Worker, job: Job, future: Future[None]) -> None:
        """Lanes closed meanwhile free their slots, lanes with more frames are ready again, everybody is told."""
        for share in job.shares:
            lane = share.lane
            lane.running = 0
            self.pending -= len(share.frames)
            if lane.closed:
                worker.localizer.close(lane.slot)
            elif lane.waiting:
                worker.add(lane)
        if not worker.inline:
            self._start(worker)
        error = future.exception()
        if error is None:
            self._measure(job)
            self._deliver(job)
            self._told()
        else:
            self._fail(job, error)

    def _measure(self, job: Job) -> None:
        now = perf_counter()
        self._latency.observe([now - arrived for arrived in job.arrived])
        self._stage_infer.observe(job.seconds)
        self._batch_size.observe(job.widths)
        self._media_seconds.inc(len(job.arrived) * self._frame_seconds)
        self.scored += len(job.arrived)
        self.jobs += len(job.widths)

    def _deliver(self, job: Job) -> None:
        for share in job.shares:
            lane = share.lane
            if lane.closed:
                continue
            if share.spoilt:
                log.error("scores_not_finite")
                self._lose(lane, EngineFailure("the network's scores are not finite"))
                continue
            try:
                for told, events in share.told:
                    lane.sink.scored(told, events)
                lane.sink.settled()
            except Exception as error:  # one track's fault must not stop the engine, and with it everybody else
                log.exception("scores_not_taken")
                self._lose(lane, EngineFailure(f"scores could not be taken: {error!r}"))

    def _fail(self, job: Job, error: BaseException) -> None:
        failure = error if isinstance(error, EngineFailure) else EngineFailure(f"the engine failed: {error!r}")
        log.error("engine_failed", detail=failure.detail, lanes=len(job.shares))
        for share in job.shares:
            if not share.lane.closed:
                self._lose(share.lane, failure)

    def _lose(self, lane: Lane, failure: EngineFailure) -> None:
        sink = lane.sink
        self.close(lane)
        sink.failed(failure)
