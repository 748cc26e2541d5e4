"""Admission by measured headroom: a clock and a processor that go as the test says."""

from __future__ import annotations

import json

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from made_up import NATIVE
from poseline.client import StreamClient
from poseline_service.load import AROUND, LoadMonitor
from servers import ServerProcess


class Machine:
    """Time passes as told; frames cost what they are said to, and jobs hold as many as they are said to."""

    def __init__(self, **settings: float) -> None:
        self.now = self.used = 0.0
        self.streamed = self.frames = self.jobs = 0
        self.monitor = LoadMonitor(clock=lambda: self.now, cpu=lambda: self.used, **settings)
        self.monitor.expect(engine=10e-6)

    def run(
        self,
        seconds: float,
        *,
        streams: int = 0,
        recordings: int = 0,
        cost: float = 50e-6,
        batch: float = 40.0,
        lag: float = 0,
    ) -> None:
        """So many streams and (as busy) recordings, at 30 frames a second each and `cost` seconds a frame."""
        for _ in range(round(seconds / 0.25)):
            self.now += 0.25
            frames = round(0.25 * 30 * streams), round(0.25 * 30 * recordings)
            self.streamed += frames[0]
            self.frames += sum(frames)
            self.used += sum(frames) * cost
            self.jobs += round(sum(frames) / batch)
            self.monitor.beat(lag, self.streamed, self.frames, self.jobs)

    def welcome_all(self) -> int:
        """Let in whoever fits."""
        count = 0
        while self.monitor.full is None:
            self.monitor.welcome()
            count += 1
        return count


def test_an_idle_server_has_room() -> None:
    machine = Machine()
    machine.run(2)
    assert machine.monitor.full is None
    assert machine.monitor.busy == 0


def test_streams_fill_it_by_what_they_cost() -> None:
    machine = Machine(limit=0.85)
    machine.run(5, streams=500, cost=50e-6)
    assert machine.monitor.busy == pytest.approx(0.75, abs=0.01)
    assert machine.monitor.full is None
    machine.run(5, streams=580, cost=50e-6)
    assert machine.monitor.full == "streams need 87% of a core, the limit is 85%"
    machine.run(5, streams=300, cost=50e-6)
    assert machine.monitor.full is None


def test_a_rush_is_not_let_in_for_free() -> None:
    """Nobody of them has sent a frame yet: each counts as what it is taken to send, at what a frame is taken to cost."""
    machine = Machine(limit=0.85)
    machine.run(1)
    assert machine.welcome_all() == int(0.85 / (30 * (AROUND + 10e-6)))
    machine.run(2)  # and none of them ever sent anything
    assert machine.monitor.full is None


def test_what_a_frame_costs_is_learned_from_full_batches() -> None:
    machine = Machine(limit=0.85)
    machine.run(10, streams=100, cost=150e-6, batch=50)
    assert machine.welcome_all() == pytest.approx((0.85 - 0.45) / (30 * 150e-6), abs=2)


def test_frames_that_had_a_turn_of_their_own_say_nothing() -> None:
    """With few streams each frame is dear, and would not be with more: the server is not full because it is idle."""
    machine = Machine(limit=0.85)
    machine.run(10, streams=100, cost=250e-6, batch=3)  # three quarters of a core in use
    assert machine.monitor.busy == pytest.approx(100 * 30 * (AROUND + 10e-6), abs=0.01)
    assert machine.monitor.full is None


def test_recordings_do_not_count_against_streams() -> None:
    machine = Machine()
    machine.run(5, streams=100, recordings=500, cost=20e-6)
    assert machine.monitor.busy == pytest.approx(100 * 30 * (AROUND + 10e-6), abs=0.01)
    assert machine.monitor.full is None


def test_a_late_loop_is_full_however_little_it_does() -> None:
    machine = Machine(late=0.05)
    machine.run(3, streams=10, lag=0.08)
    assert machine.monitor.full == "this server is 79 ms behind, the limit is 50 ms"
    machine.run(3, streams=10)
    assert machine.monitor.full is None


async def test_the_door_names_the_load(serve) -> None:
    server: ServerProcess = serve(load_limit=1e-9).ready()
    with pytest.raises(InvalidStatus) as refused:
        await connect(server.ws)
    response = refused.value.response
    problem = json.loads(response.body or b"")
    assert (response.status_code, problem["code"]) == (503, "overloaded")
    assert "of a core, the limit is" in problem["detail"]
    assert int(response.headers["Retry-After"]) >= 1
    assert server.metrics()['poseline_session_rejections_total{reason="capacity"}'] == 1


async def test_load_and_lag_are_among_the_metrics(server: ServerProcess) -> None:
    async with StreamClient(server.ws, coordinates=NATIVE):
        metrics = server.metrics()
    assert 0 <= metrics["poseline_load_ratio"] < 1
    assert metrics["poseline_loop_lag_seconds"] >= 0
    assert metrics["poseline_asyncio_tasks"] >= 1
