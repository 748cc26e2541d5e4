"""Admission by measured headroom: a clock and a processor that go as the test says."""

from __future__ import annotations

import json

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from made_up import NATIVE
from poseline.client import StreamClient
from poseline_service.load import FRAME_COST, LoadMonitor
from servers import ServerProcess


class Machine:
    """Time passes as told; frames cost what they are said to."""

    def __init__(self, **settings: float) -> None:
        self.now = self.used = 0.0
        self.live = self.all = 0
        self.monitor = LoadMonitor(clock=lambda: self.now, cpu=lambda: self.used, **settings)

    def run(
        self, seconds: float, *, streams: int = 0, recordings: int = 0, cost: float = 50e-6, lag: float = 0
    ) -> None:
        """So many streams and (as busy) recordings, at 30 frames a second each and `cost` seconds a frame."""
        for _ in range(round(seconds / 0.25)):
            self.now += 0.25
            frames = round(0.25 * 30 * streams), round(0.25 * 30 * recordings)
            self.live += frames[0]
            self.all += sum(frames)
            self.used += sum(frames) * cost
            self.monitor.beat(lag, self.live, self.all)


def test_an_idle_server_has_room() -> None:
    machine = Machine()
    machine.run(2)
    assert machine.monitor.full is None
    assert machine.monitor.busy == 0


def test_streams_fill_it_by_what_they_cost() -> None:
    machine = Machine(limit=0.85)
    machine.run(5, streams=500)  # 0.75 of a core
    assert machine.monitor.busy == pytest.approx(0.75, abs=0.01)
    assert machine.monitor.full is None
    machine.run(5, streams=580)
    assert machine.monitor.full == "87% of a core is in use, the limit is 85%"
    machine.run(5, streams=300)
    assert machine.monitor.full is None


def test_a_rush_is_not_let_in_for_free() -> None:
    """Nobody of them has sent a frame yet: each counts as what a frame is taken to cost."""
    machine = Machine(limit=0.85)
    machine.run(1)
    welcomed = 0
    while machine.monitor.full is None:
        machine.monitor.welcome()
        welcomed += 1
    assert welcomed == int(0.85 / (30 * FRAME_COST))
    machine.run(2)  # and none of them ever sent anything
    assert machine.monitor.full is None


def test_newcomers_count_at_the_measured_cost() -> None:
    machine = Machine(limit=0.85)
    machine.run(10, streams=100, cost=200e-6)  # dear frames: 0.6 of a core
    welcomed = 0
    while machine.monitor.full is None:
        machine.monitor.welcome()
        welcomed += 1
    assert welcomed == pytest.approx(0.25 / (30 * 200e-6), abs=2)


def test_recordings_do_not_count_against_streams() -> None:
    machine = Machine()
    machine.run(5, streams=100, recordings=500, cost=50e-6)
    assert machine.monitor.busy == pytest.approx(0.15, abs=0.01)
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
    assert "of a core is in use" in problem["detail"]
    assert int(response.headers["Retry-After"]) >= 1
    assert server.metrics()['poseline_session_rejections_total{reason="capacity"}'] == 1


async def test_load_and_lag_are_among_the_metrics(server: ServerProcess) -> None:
    async with StreamClient(server.ws, coordinates=NATIVE):
        metrics = server.metrics()
    assert 0 <= metrics["poseline_load_ratio"] < 1
    assert metrics["poseline_loop_lag_seconds"] >= 0
    assert metrics["poseline_asyncio_tasks"] >= 1
