"""The nine promises, by number. Where one is proved elsewhere `PROVED` names the test, and that it is there is tested; the
others are proved here, by real processes."""

from __future__ import annotations

import ast
import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from made_up import NATIVE, frames_of
from poseline.client import StreamClient
from poseline.codec import MSGPACK
from poseline.protocol import Ack, Resume, SessionClosed, SessionStart, SessionStarted
from poseline_bench import disturbance
from poseline_bench.processes import Server
from poseline_bench.wire import JSON, Script
from servers import PATIENCE, ServerProcess, free_ports

_BOUND = 20.0
"""Seconds for forty refusals: many times what they take, for machines that are busy."""
TESTS = Path(__file__).parents[1]

PROVED = {
    "1. A final is sent exactly once, never changed, and survives a resume": [
        "service/test_stream.py::test_numbering_has_no_gaps_and_finals_are_final",
        "service/test_resume.py::test_broken_lines_lose_no_final_and_double_none",
        "service/test_outbox.py::test_why_a_connection_ends_is_told_under_the_number_of_what_has_left",
    ],
    "2. Splitting frames into messages in any way gives the same finals": [
        "service/test_stream.py::test_any_chunking_gives_the_finals_of_localize"
    ],
    "3. Online replay of a recording equals POST /v1/localize on the same frames": [
        "service/test_stream.py::test_any_chunking_gives_the_finals_of_localize"
    ],
    "4. Other sessions in the same batch change scores by less than 1e-5": [
        "parity/test_streams.py::test_whatever_happens_around_a_stream_its_scores_are_the_full_sequence_s",
        "service/test_stream.py::test_people_do_not_disturb_one_another",
    ],
    "5. SIGTERM loses no accepted frame of a session": [
        "service/test_resume.py::test_a_server_that_goes_hands_its_sessions_over",
        "service/test_lifecycle.py::test_sigterm_lets_open_streams_finish",
    ],
    "6. kill -9 loses at most the frames after the last acknowledged state; the client knows which": [
        "service/test_resume.py::test_another_server_goes_on_where_one_was_killed",
        "service/test_promises.py::test_promise_6_what_was_acknowledged_is_not_asked_for_again",
    ],
    "7. Memory after N sessions returns to the warm baseline": [
        "service/test_promises.py::test_promise_7_sessions_leave_nothing_behind"
    ],
    "8. No network access is needed to start; no telemetry leaves the host": [
        "service/test_promises.py::test_promise_8_a_server_without_any_network_starts_and_calls_nobody"
    ],
    "9. Overload is answered with 503 or 1013 within a bound, never with silent latency": [
        "service/test_promises.py::test_promise_9_who_is_one_too_many_is_told_at_once",
        "service/test_load.py::test_a_rush_is_not_let_in_for_free",
        "service/test_load.py::test_a_late_loop_is_full_however_little_it_does",
    ],
}


@pytest.mark.parametrize("promise", PROVED)
def test_every_promise_has_its_tests(promise: str) -> None:
    for one in PROVED[promise]:
        file, _, name = one.partition("::")
        tree = ast.parse((TESTS / file).read_text())
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


async def test_promise_6_what_was_acknowledged_is_not_asked_for_again(
    serve: Callable[..., ServerProcess], redis: str
) -> None:
    """The server dies without a word. Its successor says which frames it has: all that were acknowledged, none that were not
    sent; so the client knows exactly what to send again."""
    first, second = (serve(state_url=redis, ack_frames=16).ready() for _ in range(2))
    frames = frames_of(5, 100)
    async with StreamClient(first.ws, coordinates=NATIVE, resume=False) as client:
        acknowledged, sent = -1, 0
        while acknowledged < 60:
            await client.send(frames[sent : sent + 10])
            sent += 10
            while (message := await client.receive()) is not None:
                if isinstance(message, Ack):
                    acknowledged = message.client_seq
                    break
        started = client.started
        first.process.kill()
    resume = Resume(started.session_id, started.resume_token, -1)
    async with connect(second.ws, subprotocols=[MSGPACK.subprotocol], compression=None) as socket:  # type: ignore[list-item]
        await socket.send(MSGPACK.encode(SessionStart(resume=resume)))
        again = MSGPACK.decode_server(await socket.recv(decode=False))
    assert isinstance(again, SessionStarted)
    assert again.resumed
    assert acknowledged < again.next_client_seq <= sent


def test_promise_7_sessions_leave_nothing_behind(
    serve: Callable[..., ServerProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hundreds that come and go, half of them without a word; what is kept for their return is gone, too, when that time is
    over."""
    monkeypatch.setattr(disturbance, "WARM_UP", 200)
    server = serve(resume_seconds=0.1).ready()
    measured = Server(server.port, server.metrics_port, psutil.Process(server.process.pid))
    found = disturbance.churn(measured, Script(JSON, seconds=10), 400, 5 * 8 * 4)
    assert found["left_over"] == 0, found
    assert found["rss_growth_mb"] < 10


_ALONE = """
import json, socket, struct, subprocess, sys, time
from fcntl import ioctl

import httpx

from made_up import recording, request_of
from poseline.remote import localize, stream_recording

def unreachable():
    # Packets and connections for which the kernel found no way out (RFC 1213, ipOutNoRoutes), and the same for IPv6.
    four = [line.split() for line in open("/proc/net/snmp") if line.startswith("Ip:")]
    six = dict(line.split() for line in open("/proc/net/snmp6"))
    return int(dict(zip(*four))["OutNoRoutes"]) + int(six["Ip6OutNoRoutes"])

with socket.socket() as any_socket:  # loopback is down in a new namespace
    ioctl(any_socket, 0x8914, struct.pack("16sh", b"lo", 0x1 | 0x40))
port = int(sys.argv[1])
server = subprocess.Popen([sys.executable, "-m", "poseline_cli", "serve"])
url = f"http://127.0.0.1:{port}"
try:
    for _ in range(1500):
        try:
            if httpx.get(url + "/readyz").status_code == 200:
                break
        except httpx.TransportError:
            pass
        time.sleep(0.02)
    heard = stream_recording(f"ws://127.0.0.1:{port}/v1/stream", {"p1": recording(5, 300)})
    answer = localize(url + "/v1/localize", request_of(5, 300))
    called = unreachable()
finally:
    server.terminate()
    ended = server.wait(30)
try:
    socket.create_connection(("192.0.2.1", 80), 1)
except OSError:
    pass
print(json.dumps({"heard": len(heard), "segments": len(answer.segments), "called": called, "control": unreachable()}))
"""


def test_promise_8_a_server_without_any_network_starts_and_calls_nobody(models: Path) -> None:
    """In a network namespace that has a loopback and nothing else, the kernel counts who tries to reach anything."""
    alone = ["unshare", "--map-root-user", "--net"]
    if shutil.which("unshare") is None or subprocess.run([*alone, "true"], check=False).returncode:
        pytest.skip("this system makes no network namespaces")
    port, metrics_port = free_ports()
    settings = {"MODELS": models, "PORT": port, "METRICS_PORT": metrics_port, "LOAD_LIMIT": 1e6, "LATE_LIMIT": 1e6}
    clean = {name: value for name, value in os.environ.items() if not name.startswith("POSELINE_")}
    environment = clean | {f"POSELINE_{name}": str(value) for name, value in settings.items()}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    command = [*alone, sys.executable, "-c", _ALONE, str(port)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=4 * PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["heard"] > 10
    assert found["segments"] > 3
    assert found["called"] == 0
    assert found["control"] > 0, "or this test would see nobody"


async def test_promise_9_who_is_one_too_many_is_told_at_once(serve: Callable[..., ServerProcess]) -> None:
    """While two streams are served, all others hear a 503 and when to come back; the two notice nothing."""
    server = serve(max_sessions=2).ready()
    frames = frames_of(5, 300)
    async with StreamClient(server.ws, coordinates=NATIVE) as one, StreamClient(server.ws, coordinates=NATIVE) as other:
        await one.send(frames[:60])
        async with asyncio.timeout(_BOUND):
            refusals = await asyncio.gather(*(_refused(server) for _ in range(40)))
        assert all(status == 503 and after >= 1 for status, after in refusals)
        for client in (one, other):
            begin = 60 if client is one else 0
            for at in range(begin, 300, 60):
                await client.send(frames[at : at + 60])
            await client.close()
        ends = [[message async for message in client][-1] for client in (one, other)]
    assert [end.frames_processed for end in ends if isinstance(end, SessionClosed)] == [300, 300]


async def _refused(server: ServerProcess) -> tuple[int, int]:
    with pytest.raises(InvalidStatus) as refused:
        await connect(server.ws)
    response = refused.value.response
    return response.status_code, int(response.headers["Retry-After"])
