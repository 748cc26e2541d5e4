"""The cases of Triton's sequence batcher (qa/L0_sequence_batcher, L0_implicit_state) by their names: what they mean here.

A sequence is a track, its correlation id the track's name, its slot a slot of the pool, its start and end those of the lane.
Cases that mean nothing here:

- `queue_delay_no_min_util`, `_half_min_util`, `_full_min_util`: no batch waits for company, there is no timer and no least
  utilisation; what holds instead is `test_queue_delay`.
- `request_timeout`, `request_after_timeout`: a frame that was accepted is scored; nothing waits for longer than the queue's
  bound, at which the client is not read (`queue_frames`).
- `backlog_same_correlation_id_no_end`: as with an end, for a lane is told apart by itself, not by a name.
- `no_preserve_ordering`, `decoupled`: a track's answers have one order, that of its frames.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect

from made_up import NATIVE, frames_of
from poseline.codec import encode
from poseline.errors import EngineFailure, Overloaded
from poseline.protocol import Flush, Frame, Frames, Person, SessionClose, SessionStart
from servers import ServerProcess
from told_engine import Sink, add_up, batching, frame, opened


class Widths:
    """A network that notes how many it was run for."""

    def __init__(self) -> None:
        self.widths: list[int] = []

    def __call__(self, level: str, feeds: dict[str, Any]) -> Sequence[Any]:
        self.widths.append(len(feeds["joints"]))
        return add_up(level, feeds)


# --- sequences and their batches -----------------------------------------------------------------------------------


async def test_simple() -> None:
    """Sequences that come interleaved each keep their own state."""
    async with batching() as (scheduler, engine):
        sinks = [Sink() for _ in range(3)]
        lanes = [opened(scheduler, sink) for sink in sinks]
        for step in range(3):
            for n, lane in enumerate(lanes):
                scheduler.submit(lane, [frame(10**n, first=step == 0)])
            await engine.answer()
        assert [sink.scores for sink in sinks] == [[1, 2, 3], [10, 20, 30], [100, 200, 300]]


async def test_length_one() -> None:
    """A sequence whose first frame is its last: it is scored, ended, and its slot is free."""
    async with batching(slots=1) as (scheduler, engine):
        for value in (5, 7):
            sink = Sink()
            lane = opened(scheduler, sink)
            scheduler.submit(lane, [frame(value, first=True)])
            await engine.answer()
            scheduler.finish(lane, "close")
            scheduler.close(lane)
            assert sink.scores == [value]
        assert (scheduler.lanes, scheduler.pending) == (0, 0)


async def test_half_batch() -> None:
    """Half of the slots have frames: the step is as wide as that, and not padded."""
    network = Widths()
    async with batching(run=network) as (scheduler, engine):
        lanes = [opened(scheduler, Sink()) for _ in range(4)]
        for lane in lanes[:2]:
            scheduler.submit(lane, [frame(1), frame(1)])
        await engine.answer()
        assert network.widths == [2, 2]


async def test_skip_batch() -> None:
    """Who has no frame in a step is not in it, and finds its state as it was."""
    async with batching() as (scheduler, engine):
        steady, skipping = Sink(), Sink()
        lanes = opened(scheduler, steady), opened(scheduler, skipping)
        for step in range(4):
            scheduler.submit(lanes[0], [frame(1)])
            if step in (0, 3):
                scheduler.submit(lanes[1], [frame(10)])
            await engine.answer()
        assert (steady.scores, skipping.scores) == ([1, 2, 3, 4], [10, 20])


async def test_full_batch() -> None:
    """As many as a batch holds go in one step; one more goes in the next."""
    network = Widths()
    async with batching(run=network, max_batch=3) as (scheduler, engine):
        sinks = [Sink() for _ in range(4)]
        for sink in sinks:
            scheduler.submit(opened(scheduler, sink), [frame(2)])
        await engine.answer()
        await engine.answer()
        assert network.widths == [3, 1]
        assert [sink.scores for sink in sinks] == [[2]] * 4


async def test_ragged_batch() -> None:
    """Shapes are all the same once the poses are native; ragged are the lengths of what waits: the steps get narrower."""
    network = Widths()
    async with batching(run=network) as (scheduler, engine):
        sinks = [Sink() for _ in range(3)]
        for n, sink in enumerate(sinks):
            scheduler.submit(opened(scheduler, sink), [frame(1)] * (n + 1))
        await engine.answer()
        assert network.widths == [3, 2, 1]
        assert [sink.scores for sink in sinks] == [[1], [1, 2], [1, 2, 3]]


async def test_preserve_ordering() -> None:
    """However its frames are cut into jobs, a track hears of them in their order."""
    async with batching(max_batch=2, max_steps=1) as (scheduler, engine):
        sinks = [Sink() for _ in range(3)]
        lanes = [opened(scheduler, sink) for sink in sinks]
        for _ in range(4):
            for lane in lanes:
                scheduler.submit(lane, [frame(1)])
        while scheduler.pending:
            await engine.answer()
        assert [sink.scores for sink in sinks] == [[1, 2, 3, 4]] * 3


async def test_queue_delay() -> None:
    """A frame that is alone does not wait for others, though there would be room for them."""
    network = Widths()
    async with batching(run=network) as (scheduler, engine):
        scheduler.submit(opened(scheduler, Sink()), [frame(1)])
        await engine.started()
        await engine.answer()
        assert network.widths == [1]


# --- starts and ends that are missing --------------------------------------------------------------------------------


async def test_no_sequence_end() -> None:
    """A sequence begins anew without an end: the first frame of a span forgets what was before."""
    async with batching() as (scheduler, engine):
        sink = Sink()
        lane = opened(scheduler, sink)
        scheduler.submit(lane, [frame(1, first=True), frame(1), frame(5, first=True), frame(1)])
        await engine.answer()
        assert sink.scores == [1, 2, 5, 6]


async def test_no_sequence_start2() -> None:
    """Frames of a sequence that is over go nowhere, and disturb nobody who has its slot."""
    async with batching(slots=1) as (scheduler, engine):
        old, young = Sink(), Sink()
        lane = opened(scheduler, old)
        scheduler.close(lane)
        other = opened(scheduler, young)
        scheduler.submit(lane, [frame(100)])
        scheduler.submit(other, [frame(1)])
        await engine.answer()
        assert (old.scores, young.scores, scheduler.pending) == ([], [1], 0)


START = encode(SessionStart(layout="body16", coordinates=NATIVE)).decode()


@asynccontextmanager
async def talking(server: ServerProcess) -> AsyncIterator[ClientConnection]:
    async with connect(server.ws, compression=None) as socket:
        yield socket


async def heard(socket: ClientConnection) -> list[dict[str, Any]]:
    return [json.loads(data) async for data in socket]


async def test_no_sequence_start(server: ServerProcess) -> None:
    """Frames before `session.start` are refused."""
    async with talking(server) as socket:
        await socket.send(encode(Frames(0, frames_of(1, 2))).decode())
        error = json.loads(await socket.recv())
        await socket.wait_closed()
    assert (error["code"], error["fatal"], socket.close_code) == ("out_of_order", True, 4400)


async def test_no_correlation_id(server: ServerProcess) -> None:
    """A person without an id is followed by the server, which says whom it took it for."""
    frames = [Frame(one.t, [Person(kp=one.people[0].kp)]) for one in frames_of(1, 30)]
    async with talking(server) as socket:
        for said in (START, encode(Frames(0, frames)).decode(), encode(SessionClose()).decode()):
            await socket.send(said)
        answers = await heard(socket)
    tracks = [one["track_id"] for one in answers if one["type"] == "track.started"]
    assert len(tracks) == 1
    assert tracks[0]


# --- more sequences than slots: nobody waits in a backlog, whoever finds no slot is told so -----------------------------


async def test_backlog() -> None:
    """One more than there are slots is refused, and changes nothing for those who are in."""
    async with batching(slots=2) as (scheduler, engine):
        sinks = [Sink(), Sink()]
        lanes = [opened(scheduler, sink) for sink in sinks]
        with pytest.raises(Overloaded, match="2 stream slots"):
            opened(scheduler, Sink())
        for lane in lanes:
            scheduler.submit(lane, [frame(3)])
        await engine.answer()
        assert [sink.scores for sink in sinks] == [[3], [3]]


@pytest.mark.parametrize("ended", [True, False], ids=["backlog_fill", "backlog_fill_no_end"])
async def test_backlog_fill(ended: bool) -> None:
    """A slot that is given back is there for the next, clean, whether its sequence was ended or just left."""
    async with batching(slots=2) as (scheduler, engine):
        lanes = [opened(scheduler, Sink()) for _ in range(2)]
        scheduler.submit(lanes[0], [frame(50)])
        await engine.answer()
        if ended:
            scheduler.finish(lanes[0], "close")
        scheduler.close(lanes[0])
        young = Sink()
        scheduler.submit(opened(scheduler, young), [frame(1)])
        await engine.answer()
        assert young.scores == [1]


async def test_backlog_same_correlation_id(server: ServerProcess) -> None:
    """The same name in two sessions is two people; in one session it is one, who comes back as somebody new."""
    frames = frames_of(5, 60)
    back = frames_of(5, 30, start=10.0)
    async with talking(server) as one, talking(server) as other:
        for socket in (one, other):
            await socket.send(START)
            await socket.send(encode(Frames(0, frames)).decode())
        await one.send(encode(Frames(60, back)).decode())
        for socket in (one, other):
            await socket.send(encode(SessionClose()).decode())
        first, second = await heard(one), await heard(other)
    kinds = [[o["type"] for o in answers if o["type"].startswith("track.")] for answers in (first, second)]
    assert kinds == [["track.started", "track.ended"] * 2, ["track.started", "track.ended"]]


async def test_backlog_sequence_timeout(serve: Callable[..., ServerProcess]) -> None:
    """Who is unseen for `gap_reset` gives up the slot, and who had found none gets it."""
    server = serve(slots=3).ready()  # as many as the golden samples need
    kp = frames_of(1, 1)[0].people[0].kp
    crowd = [Person(id=name, kp=kp) for name in "abcd"]
    said = [Frame(0.0, crowd), Frame(0.1, crowd[3:]), Frame(5.0, crowd[3:])]
    async with talking(server) as socket:
        await socket.send(START)
        await socket.send(encode(Frames(0, said)).decode())
        await socket.send(encode(SessionClose()).decode())
        answers = await heard(socket)
    told = [(one["type"], one.get("track_id")) for one in answers if one["type"] in ("track.started", "track.ended")]
    assert told[:3] == [("track.started", name) for name in "abc"]
    assert told[3:7] == [*(("track.ended", name) for name in "abc"), ("track.started", "d")]


# --- L0_implicit_state: what is left of a sequence ----------------------------------------------------------------------


async def test_cleanup_after_an_engine_error() -> None:
    """The lanes of a job that fails are gone, with their slots and what they had waiting."""

    def broken(level: str, feeds: dict[str, Any]) -> Sequence[Any]:
        raise EngineFailure("out of order")

    async with batching(run=broken) as (scheduler, engine):
        sinks = [Sink(), Sink()]
        for sink in sinks:
            scheduler.submit(opened(scheduler, sink), [frame(1)] * 20)
        await engine.answer()
        assert all(sink.error for sink in sinks)
        await engine.answer()  # their rest was on its way when the first job failed
        assert (scheduler.lanes, scheduler.pending, scheduler.state_bytes) == (0, 0, 0)


async def test_cleanup_after_success_error_timeout_cancel_and_shutdown(serve: Callable[..., ServerProcess]) -> None:
    """However a stream ends, no slot, no state and no task of it is left."""
    server = serve(idle_seconds=0.3, resume_seconds=0.2).ready()
    tasks = server.metrics()["poseline_asyncio_tasks"]

    async def stream(last: str | None) -> ClientConnection:
        socket = await connect(server.ws, compression=None, max_queue=None)  # nobody reads, and closes are to be heard
        await socket.send(START)
        await socket.send(encode(Frames(0, frames_of(3, 60))).decode())
        if last:
            await socket.send(last)
        return socket

    success, error, timeout = [await stream(last) for last in (encode(SessionClose()).decode(), "{", None)]
    for socket in (success, error, timeout):
        await socket.wait_closed()
    assert [socket.close_code for socket in (success, error, timeout)] == [1000, 4400, 4408]
    cancelled = await stream(encode(Flush()).decode())
    cancelled.transport.abort()
    for name in ("poseline_sessions_active", "poseline_state_bytes", 'poseline_queue_depth{model="tiny"}'):
        await asyncio.to_thread(server.wait_for_metric, name, 0)
    await asyncio.to_thread(server.wait_for_metric, "poseline_asyncio_tasks", tasks)
    open_ = await stream(None)
    log = await asyncio.to_thread(server.stop)
    await open_.wait_closed()
    assert open_.close_code == 1012
    assert "drain_incomplete" not in log
    assert "Traceback" not in log
