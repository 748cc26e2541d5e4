"""Continuous batching with an engine that answers when it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from poseline.errors import EngineFailure, Overloaded
from poseline.resampling import GridFrame
from poseline.segments import SegmentEvent
from poseline_service.workers import InlineExecutor, Told
from told_engine import Sink, add_up, batching, frame, opened


async def test_frames_of_a_track_are_scored_in_order() -> None:
    async with batching() as (scheduler, engine):
        sink = Sink()
        lane = opened(scheduler, sink)
        scheduler.submit(lane, [frame(1, first=True), frame(2)])
        await engine.started()
        scheduler.submit(lane, [frame(3)])
        await engine.answer()
        assert sink.scores == [1, 3]
        assert lane.pending == 1
        await engine.answer()
        assert sink.scores == [1, 3, 6]
        assert scheduler.pending == 0


async def test_what_arrives_while_the_engine_is_busy_makes_one_batch() -> None:
    widths: list[int] = []

    def run(level: str, feeds: dict[str, Any]) -> Sequence[Any]:
        widths.append(len(feeds["joints"]))
        return add_up(level, feeds)

    async with batching(run=run) as (scheduler, engine):
        lanes = [opened(scheduler, Sink()) for _ in range(4)]
        scheduler.submit(lanes[0], [frame(1)])
        await engine.started()
        for lane in lanes[1:]:
            scheduler.submit(lane, [frame(1)])
        await engine.answer()
        await engine.answer()
        assert widths == [1, 3]


async def test_tracks_with_unequal_backlogs_share_steps() -> None:
    async with batching() as (scheduler, engine):
        sinks = [Sink() for _ in range(3)]
        lanes = [opened(scheduler, sink) for sink in sinks]
        for lane, count in zip(lanes, (1, 3, 2), strict=True):
            scheduler.submit(lane, [frame(10 * count) for _ in range(count)])
        await engine.answer()
        assert [sink.scores for sink in sinks] == [[10], [30, 60, 90], [20, 40]]


async def test_a_long_backlog_gives_others_their_turn() -> None:
    async with batching(max_batch=1, max_steps=2) as (scheduler, engine):
        long, short = Sink(), Sink()
        lanes = opened(scheduler, long), opened(scheduler, short)
        scheduler.submit(lanes[0], [frame(1)] * 4)
        scheduler.submit(lanes[1], [frame(1)])
        await engine.answer()
        await engine.answer()
        assert (len(long.scores), len(short.scores)) == (2, 1)
        await engine.answer()
        assert len(long.scores) == 4


async def test_first_frame_of_a_span_forgets_the_past() -> None:
    async with batching() as (scheduler, engine):
        sink = Sink()
        lane = opened(scheduler, sink)
        scheduler.submit(lane, [frame(1), frame(1), frame(5, first=True), frame(1)])
        await engine.answer()
        assert sink.scores == [1, 2, 5, 6]


async def test_slot_of_a_lane_closed_during_its_job_is_not_reused_before_the_job_ends() -> None:
    async with batching(slots=1) as (scheduler, engine):
        old = Sink()
        lane = opened(scheduler, old)
        scheduler.submit(lane, [frame(7)])
        await engine.started()
        scheduler.close(lane)
        with pytest.raises(Overloaded, match="1 stream slots"):
            opened(scheduler, Sink())
        await engine.answer()
        assert old.scores == []
        young = Sink()
        scheduler.submit(opened(scheduler, young), [frame(1)])
        await engine.answer()
        assert young.scores == [1]


async def test_closing_twice_frees_a_slot_once() -> None:
    async with batching(slots=2) as (scheduler, _):
        lane = opened(scheduler, Sink())
        scheduler.close(lane)
        scheduler.close(lane)
        assert scheduler.lanes == 0
        assert {opened(scheduler, Sink()).slot, opened(scheduler, Sink()).slot} == {0, 1}


async def test_waiting_frames_of_a_closed_lane_are_forgotten() -> None:
    async with batching() as (scheduler, engine):
        sink, other = Sink(), Sink()
        lane = opened(scheduler, sink)
        scheduler.submit(lane, [frame(1)] * 3)
        scheduler.close(lane)
        assert scheduler.pending == 0
        scheduler.submit(opened(scheduler, other), [frame(2)])
        await engine.answer()
        assert (sink.scores, other.scores) == ([], [2])


async def test_engine_failure_reaches_every_track_of_the_job_and_no_other() -> None:
    broken = True

    def run(level: str, feeds: dict[str, Any]) -> Sequence[Any]:
        if broken:
            raise EngineFailure("out of order")
        return add_up(level, feeds)

    async with batching(run=run) as (scheduler, engine):
        hit, spared = [Sink(), Sink()], Sink()
        for sink in hit:
            scheduler.submit(opened(scheduler, sink), [frame(1), frame(2)])
        await engine.started()
        scheduler.submit(opened(scheduler, spared), [frame(4)])
        await engine.answer()
        assert [sink.error and sink.error.detail for sink in hit] == ["out of order"] * 2
        broken = False
        await engine.answer()
        assert (spared.error, spared.scores) == (None, [4])
        assert (scheduler.pending, scheduler.lanes) == (0, 1)


async def test_any_exception_of_the_engine_is_an_engine_failure() -> None:
    def run(level: str, feeds: dict[str, Any]) -> Sequence[Any]:
        raise RuntimeError("boom")

    async with batching(run=run) as (scheduler, engine):
        sink = Sink()
        scheduler.submit(opened(scheduler, sink), [frame(1)])
        await engine.answer()
        assert sink.error is not None
        assert "boom" in sink.error.detail


async def test_a_sink_that_raises_loses_its_lane_and_stops_nobody() -> None:
    class Faulty(Sink):
        def scored(self, told: Told, events: Sequence[SegmentEvent]) -> None:
            raise ValueError("a bug")

    async with batching() as (scheduler, engine):
        faulty, good = Faulty(), Sink()
        for sink in (faulty, good):
            scheduler.submit(opened(scheduler, sink), [frame(1)])
        await engine.answer()
        assert faulty.error is not None
        assert (good.scores, scheduler.lanes) == ([1], 1)


@pytest.mark.parametrize("which", ["scores", "boundaries"])
async def test_what_is_not_finite_fails_its_own_lane_and_reaches_nobody(which: str) -> None:
    def run(level: str, feeds: dict[str, Any]) -> Sequence[Any]:
        scores, boundaries, *rest = add_up(level, feeds)
        spoilt = scores if which == "scores" else boundaries
        spoilt[feeds["joints"][:, 0, 0] == 7] = np.nan
        return scores, boundaries, *rest

    async with batching(run=run) as (scheduler, engine):
        sick, well = Sink(), Sink()
        scheduler.submit(opened(scheduler, sick), [frame(1), frame(7)])
        scheduler.submit(opened(scheduler, well), [frame(1), frame(2)])
        await engine.answer()
        assert sick.error is not None
        assert "not finite" in sick.error.detail
        assert (sick.scores, well.scores) == ([], [1, 3])
        assert (well.error, scheduler.lanes) == (None, 1)


# --- look-ahead ---------------------------------------------------------------------------------------------------


class Listener(Sink):
    """Notes what is told, and when everything that was sent is settled."""

    def __init__(self, frames: int) -> None:
        super().__init__()
        self.told: list[tuple[float, float]] = []
        self.unknown: list[bool] = []
        self.left = frames
        self.done = asyncio.Event()

    def scored(self, told: Told, events: Sequence[SegmentEvent]) -> None:
        self.told += [(t, dict(top)[0]) for t, top, _ in told]
        self.unknown += [unknown for *_, unknown in told]
        self.left -= 1

    def settled(self) -> None:
        if not self.left:
            self.done.set()


def timed(values: Sequence[float], begin: float = 0.0) -> list[GridFrame]:
    return [
        GridFrame(begin + n / 30, np.full((16, 4), value, np.float32), n == 0 and begin == 0.0)
        for n, value in enumerate(values)
    ]


@pytest.mark.parametrize("executor", [InlineExecutor, lambda: ThreadPoolExecutor(1)], ids=["loop", "thread"])
async def test_the_last_frames_are_told_of_at_an_end_and_the_sum_goes_on_without_it(executor: Any) -> None:
    """Answers are sums so far, about two frames earlier; an end holds the last pose for two frames and forgets that."""
    async with batching(look_ahead=2, executor=executor()) as (scheduler, _):
        sink = Listener(3)
        lane = opened(scheduler, sink)
        scheduler.submit(lane, timed([1, 2, 3]))
        await sink.done.wait()
        assert sink.told == [(0.0, 6.0)]
        told, _ = scheduler.finish(lane, "flush")
        assert [(t, dict(top)[0]) for t, top, _ in told] == [(1 / 30, 9.0), (2 / 30, 12.0)]
        assert scheduler.finish(lane, "flush") == ((), [])
        sink.left, sink.told, sink.done = 3, [], asyncio.Event()
        scheduler.submit(lane, timed([4, 5, 6], 3 / 30))
        await sink.done.wait()
        assert sink.told == [(3 / 30, 21.0)]
        told, _ = scheduler.finish(lane, "close")
        assert [(t, dict(top)[0]) for t, top, _ in told] == [(4 / 30, 27.0), (5 / 30, 33.0)]


@pytest.mark.parametrize(
    ("unknown_below", "unknown"), [(0.5, [True, False, False]), (0.6, [True] * 2 + [False]), (0.0, [False] * 3)]
)
async def test_the_answer_is_unknown_where_the_best_score_as_it_is_told_is_low(
    unknown_below: float, unknown: list[bool]
) -> None:
    async with batching(unknown_below=unknown_below, executor=InlineExecutor()) as (scheduler, _):
        sink, sure = Listener(3), Listener(3)
        scheduler.submit(opened(scheduler, sink), timed([0.2, 0.29996, 0.3]))
        scheduler.submit(opened(scheduler, sure), timed([0.7, 0.1, -0.3]))
        await sink.done.wait()
        assert [score for _, score in sink.told] == [0.2, 0.5, 0.8]
        assert sink.unknown == unknown
        assert sure.unknown == [False, False, unknown_below > 0.5]


async def test_a_network_that_fails_at_an_end_says_so() -> None:
    def bounded(level: str, feeds: dict[str, Any]) -> Sequence[Any]:
        scores, boundaries, vectors, total = add_up(level, feeds)
        return np.where(total > 6, np.nan, scores), boundaries, vectors, total

    async with batching(look_ahead=2, run=bounded, executor=InlineExecutor()) as (scheduler, _):
        sink = Listener(3)
        lane = opened(scheduler, sink)
        scheduler.submit(lane, timed([1, 2, 3]))
        await sink.done.wait()
        with pytest.raises(EngineFailure, match="not finite"):
            scheduler.finish(lane, "close")
