"""The server's benchmark counts right and says all that it promises; how fast is not a test's business."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

from poseline_bench import clock, disturbance, holding, server, verdicts
from poseline_bench.load import Crowd, Refused
from poseline_bench.processes import Server, serving
from poseline_bench.wire import BINARY, JSON, Encoding, Script, client_frame, server_frames
from servers import ServerProcess

ENCODINGS = (BINARY, JSON)
SIZES = st.sampled_from([0, 1, 125, 126, 127, 128, 65535, 65536]) | st.integers(0, 300)
DATA = st.sampled_from([Opcode.TEXT, Opcode.BINARY])
CONTROL = st.sampled_from([Opcode.CLOSE, Opcode.PING, Opcode.PONG])
FRAMES = st.lists(st.tuples(DATA, SIZES) | st.tuples(CONTROL, st.integers(0, 125)), max_size=5)


@pytest.fixture(autouse=True)
def miniature(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "ROUNDS", 1)
    monkeypatch.setattr(clock, "BURST", 1e-4)
    monkeypatch.setattr(holding, "LADDER", (1, 3))
    monkeypatch.setattr(holding, "WARM_UP", 0.1)
    monkeypatch.setattr(holding, "HOLD", 0.3)
    monkeypatch.setattr(holding, "PATIENCE_MS", 5e3)
    monkeypatch.setattr(holding, "_SETTLING", 10.0)
    monkeypatch.setattr(disturbance, "ARRIVING", 0.2)
    monkeypatch.setattr(disturbance, "STAYING", 1.0)
    monkeypatch.setattr(disturbance, "_SETTLING", 10.0)
    monkeypatch.setattr(disturbance, "WARM_UP", 5)
    monkeypatch.setattr(server, "CHURN", 20)
    monkeypatch.setattr(server, "ECHOES", 2)


def measured(process: ServerProcess) -> Server:
    """The tests' own server, as the benchmark sees one."""
    return Server(process.port, process.metrics_port, psutil.Process(process.process.pid))


@given(frames=FRAMES, cuts=st.lists(st.integers(0, 1 << 17), max_size=4), fill=st.binary(min_size=1, max_size=8))
def test_frames_come_out_whole_wherever_the_bytes_were_cut(
    frames: list[tuple[Opcode, int]], cuts: list[int], fill: bytes
) -> None:
    sent = [(opcode, (fill * size)[:size]) for opcode, size in frames]
    data = b"".join(Frame(opcode, payload).serialize(mask=False) for opcode, payload in sent)
    ends = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    found, rest = [], b""
    for begin, end in pairwise(ends):
        some, rest = server_frames(rest + data[begin:end])
        found += some
    assert found == sent
    assert rest == b""


@given(opcode=DATA, size=SIZES, fill=st.binary(min_size=1, max_size=8))
def test_what_is_written_is_what_a_server_reads(opcode: Opcode, size: int, fill: bytes) -> None:
    payload = (fill * size)[:size]
    reader = StreamReader()
    reader.feed_data(client_frame(payload, opcode))
    parsing = Frame.parse(reader.read_exact, mask=True)
    with pytest.raises(StopIteration) as done:
        next(parsing)
    assert done.value.value == Frame(opcode, payload)


@pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda one: one.name)
@pytest.mark.parametrize("batch", [{}, {"people": 3}, {"frames": 3}], ids=str)
def test_every_frame_is_scored_and_the_witness_agrees(
    server: ServerProcess, encoding: Encoding, batch: dict[str, int]
) -> None:
    held = holding.hold(measured(server), Script(encoding, seconds=30, **batch), 3)
    assert held is not None
    assert held.good
    assert held.p99_ms >= held.p50_ms > 0
    server.wait_for_metric("poseline_sessions_active", 0)


def test_a_witness_that_hears_of_another_frame_says_so(server: ServerProcess) -> None:
    script = Script(JSON, seconds=30)
    del script.messages[0]
    with Crowd(server.port, script) as crowd:
        crowd.gather(1, 10)
        with pytest.raises(ValueError, match=r"message 1 of p1 is about t = 0\.033, expected 0"):
            crowd.run(10)


def test_what_is_not_answered_counts_as_late(server: ServerProcess) -> None:
    script = Script(JSON, seconds=30)
    script.scores = b"never"
    with Crowd(server.port, script) as crowd:
        crowd.gather(2, 10)
        crowd.watch(0, float("inf"))
        crowd.run(0.2)
        assert crowd.settle(0.2) > 0
        late = crowd.latencies()
        assert len(late) >= 2
        assert late.max() >= 0.2


def test_refusals_are_counted_and_come_back(serve: Callable[..., ServerProcess]) -> None:
    process = serve(max_sessions=2).ready()
    found = disturbance.overload(measured(process), Script(JSON), 5)
    assert (found["offered"], found["admitted"], found["lost"], found["unanswered"]) == (5, 2, 0, 0)
    assert found["refused"] >= 3
    assert found["refusal_p99_ms"] > 0
    process.wait_for_metric("poseline_sessions_active", 0)
    with pytest.raises(Refused, match="the server refused a stream"):
        holding.hold(measured(process), Script(JSON, seconds=30), 3)


def test_a_request_that_is_wrong_is_no_overload(server: ServerProcess) -> None:
    script = Script(JSON._replace(subprotocol="poseline.v9"), seconds=1)
    with Crowd(server.port, script) as crowd, pytest.raises(Refused, match="unsupported_subprotocol"):
        crowd.gather(1, 10)


def test_a_search_ends_between_the_best_and_the_worst(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []

    class Made(holding.Search):
        def holds(self, streams: int) -> bool:
            tried.append(streams)
            return streams <= 130

    monkeypatch.setattr(holding, "LADDER", (10, 50, 150, 300))
    best = Made(None, None, lambda what: None).most_held()  # type: ignore[arg-type]
    assert 130 / holding.RESOLUTION <= best <= 130
    assert tried[:3] == [10, 50, 150]
    assert tried.count(150) == 2  # what would end the climb is not believed at once
    assert 300 not in tried


@pytest.mark.slow
def test_figures_are_complete(models: Path, tmp_path: Path) -> None:
    server.run(models, None, tmp_path / "out.json", tmp_path / "plots")
    figures: dict[str, Any] = json.loads((tmp_path / "out.json").read_text())
    for name in ("binary", "json"):
        assert figures[name]["streams_at_p99_50ms"] == 3
        keys = ("cpu_us_per_stream_frame", "server_over_engine", "p50_ms", "p99_ms")
        assert min(figures[name][key] for key in keys) >= 0  # CPU time comes in hundredths of a second
        assert {held["streams"] for held in figures[name]["curve"]} == {1, 2, 3}
    assert set(figures["binary_16_per_message"]) == {"people", "frames"}
    assert figures["overload"]["admitted"] == figures["overload"]["offered"] == 6
    assert figures["churn"]["opened"] == 20
    assert figures["churn"]["left_over"] == 0
    assert figures["echo_cpu_us_per_message"] >= 0
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {"server-cost.png", "server-latency.png"}
    assert [verdicts.row(target, figures)[2] for target in verdicts.TARGETS[-2:]] == ["met", "met"]


def test_a_bundle_that_cannot_be_served_says_why(tmp_path: Path) -> None:
    from poseline_bench.processes import DidNotStart

    with pytest.raises(DidNotStart, match="no such setting"), serving(tmp_path, unheard_of=1):
        pass
