"""A worker: one engine, the lanes that live on it, and the jobs that it is given.

A lane is one track's frames on their way to the network, in order, and is in one job at most. A job is made of the lanes
that have waited longest, one to a few frames of each, and steps them side by side. When, is the scheduler's affair; a job
touches its own engine's state and nothing else.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Executor, Future
from math import ceil
from time import perf_counter
from typing import Any, Protocol

import numpy as np
from msgspec import Struct

from poseline.errors import EngineFailure
from poseline.online import OnlineLocalizer
from poseline.resampling import GridFrame
from poseline.segments import SegmentEvent
from poseline.skeleton import Floats
from poseline.spans import Step

_BESIDE_LIVE = 2
"""Frames of a recording in a job that live lanes wait for."""
TOP = 5
"""Classes named where scores are told."""
Top = list[tuple[int, float]]
"""The best classes of a frame, best first: (label_id, score)."""
Told = Sequence[tuple[float, Top, bool]]
"""Scores that are told: the media time of each frame, its best classes, and whether the answer is "unknown"."""


class ScoreSink(Protocol):
    """Who hears about a lane. Called on the event loop; must not raise."""

    wants_scores: bool
    live: bool
    """Somebody waits for the scores; a recording does not mind."""

    def scored(self, told: Told, events: Sequence[SegmentEvent]) -> None:
        """The next frame is through the network; `told` is empty unless `wants_scores`. Where the network looks ahead, it is
        about an earlier frame, or about none or several."""
        ...

    def settled(self) -> None:
        """Every frame of the lane's last job has been told."""
        ...

    def failed(self, error: EngineFailure) -> None:
        """The engine could not run this lane's frames; the lane is dead."""
        ...


class Nobody:
    """Whom a closed lane tells: who has left must neither hear anything nor be kept alive by a job that still runs."""

    wants_scores = live = False

    def scored(self, told: Told, events: Sequence[SegmentEvent]) -> None: ...
    def settled(self) -> None: ...
    def failed(self, error: EngineFailure) -> None: ...


class InlineExecutor(Executor):
    """Runs what it is given at once, in the caller's thread."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future


class Lane:
    """One track's frames on their way to the network, in order."""

    __slots__ = ("closed", "running", "sink", "slot", "waiting", "worker")

    def __init__(self, worker: Worker, slot: int, sink: ScoreSink) -> None:
        self.worker = worker
        self.slot = slot
        self.sink: ScoreSink = sink
        self.waiting: deque[tuple[GridFrame, float]] = deque()
        self.running = 0
        self.closed = False

    @property
    def pending(self) -> int:
        """Frames that have no scores yet."""
        return len(self.waiting) + self.running


class Share(Struct, eq=False, gc=False):
    """What one lane has in a job: its frames, and, once they are scored, what is to be told of each."""

    lane: Lane
    frames: list[GridFrame]
    told: list[tuple[Told, list[SegmentEvent]]] = []
    spoilt: bool = False


class Job(Struct, eq=False):
    shares: list[Share] = []
    arrived: list[float] = []
    widths: list[int] = []
    seconds: list[float] = []


_UNTOLD: Told = ()


def best_answers(times: Sequence[float], scores: Floats, unknown_below: float) -> Told:
    """What is told of each row of scores (B, 1 + K), each about one of B media times.

    Compared with `unknown_below` is the score as it is told, so that whoever hears it can come to the same answer.
    """
    best = scores.argsort(axis=1)[:, : -TOP - 1 : -1]
    values = scores[np.arange(len(scores))[:, None], best].astype(np.float64).round(4)
    tops = [list(zip(k, p, strict=True)) for k, p in zip(best.tolist(), values.tolist(), strict=True)]
    return list(zip(times, tops, (values[:, 0] < unknown_below).tolist(), strict=True))


class Worker:
    """One engine and the lanes that live on it."""

    def __init__(self, localizer: OnlineLocalizer, executor: Executor, max_batch: int, max_steps: int) -> None:
        self.localizer = localizer
        self.executor = executor
        self.inline = isinstance(executor, InlineExecutor)
        self.ready: deque[Lane] = deque()
        """Live lanes that have frames."""
        self.patient: deque[Lane] = deque()
        """Recordings' lanes that have frames."""
        self.busy = False
        self.max_batch = max_batch
        self._max_steps = max_steps

    @property
    def turns(self) -> int:
        """Jobs in which everybody who is ready has one."""
        return ceil((len(self.ready) + len(self.patient)) / self.max_batch)

    def add(self, lane: Lane) -> None:
        """It has frames."""
        (self.ready if lane.sink.live else self.patient).append(lane)

    @property
    def free(self) -> int:
        pool = self.localizer.scorer.pool
        return pool.slots - pool.used

    def take(self) -> Job | None:
        """The next job: the lanes that have waited longest, a few frames of each.

        Live ones first, and not kept waiting for a recording's many frames; an eighth of a job is for recordings.
        """
        job = Job()
        live, rest = self.ready, self.patient
        steps = _BESIDE_LIVE if live else self._max_steps
        while (live or rest) and len(job.shares) < self.max_batch:
            a_turn_for_rest = rest and (not live or len(job.shares) % 8 == 7)
            lane = rest.popleft() if a_turn_for_rest else live.popleft()
            if lane.closed:
                continue
            lane.running = min(len(lane.waiting), self._max_steps if lane.sink.live else steps)
            frames: list[GridFrame] = []
            for _ in range(lane.running):
                frame, arrived = lane.waiting.popleft()
                frames.append(frame)
                job.arrived.append(arrived)
            job.shares.append(Share(lane, frames))
        job.shares.sort(key=lambda share: len(share.frames), reverse=True)
        return job if job.shares else None

    def step(self, job: Job) -> None:
        """The s-th frames of all lanes that have one, side by side, for every s."""
        shares = job.shares
        slots = np.array([share.lane.slot for share in shares], np.int64)
        for s in range(len(shares[0].frames)):
            # Those who have an s-th frame are a prefix: the longest come first.
            live = shares if s == 0 else [share for share in shares if len(share.frames) > s]
            frames = [share.frames[s] for share in live]
            begin = perf_counter()
            step = self.localizer.step(slots[: len(live)], frames)
            job.seconds.append(perf_counter() - begin)
            job.widths.append(len(live))
            _note(step, live, self.localizer.manifest.unknown_below)


def _note(step: Step, live: list[Share], unknown_below: float) -> None:
    """Add to everybody's share what is to be told of this frame."""
    told = answers_to(step, [share.lane.sink.wants_scores for share in live], unknown_below)
    for share, scores in zip(live, told, strict=True):
        share.told.append((scores, []))
    for row, event in step.events:
        live[row].told[-1][1].append(event)
    for row in step.spoilt:
        live[row].spoilt = True


def answers_to(step: Step, curious: Sequence[bool], unknown_below: float) -> list[Told]:
    """What each row that is curious is told of scores."""
    told = [_UNTOLD] * len(curious)
    wanted = [n for n, row in enumerate(step.rows) if curious[row]]
    if wanted:
        scores = step.scores if len(wanted) == len(step.scores) else step.scores[wanted]
        for n, answer in zip(wanted, best_answers([step.times[n] for n in wanted], scores, unknown_below), strict=True):
            row = step.rows[n]
            told[row] = (*told[row], answer)
    return told
