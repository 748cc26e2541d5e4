"""Servers under measurement: real processes on free ports of loopback, and what the operating system says of them.

CPU time is the system's own count for the whole process, user and system, all threads: what serving costs, not what a
profiler would like to attribute. The echo server is the yardstick: uvicorn with nothing behind it.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import IO

import httpx
import psutil

_PATIENCE = 30.0
UNLIMITED: dict[str, object] = {
    "connections": 100_000,
    "connections_per_address": 0,
    "max_sessions": 100_000,
    "slots": 16_384,
    "max_pending": 10_000_000,
    "load_limit": 1e6,
    "late_limit": 1e6,
}
"""Settings with which the door never closes: where it is not what is measured, it must not be what is found."""
_ECHO = """
import sys, uvicorn

async def echo(scope, receive, send):
    while (event := await receive())["type"] != "websocket.disconnect":
        if event["type"] == "websocket.connect":
            await send({"type": "websocket.accept", "subprotocol": scope["subprotocols"][0]})
        else:
            await send({"type": "websocket.send", "text": event.get("text"), "bytes": event.get("bytes")})

uvicorn.run(echo, port=int(sys.argv[1]), lifespan="off", log_level="error", ws_per_message_deflate=False)
"""


class DidNotStart(Exception):
    """The server ended, or was not ready in time; what it wrote follows."""


@dataclass(frozen=True)
class Server:
    """A running server."""

    port: int
    metrics_port: int
    process: psutil.Process
    written: IO[bytes] | None = None
    """All that it wrote, log and all; None where somebody else started it."""

    @property
    def ws(self) -> str:
        return f"ws://127.0.0.1:{self.port}/v1/stream"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def log(self) -> str:
        """What it wrote so far."""
        assert self.written is not None
        file = self.written.fileno()  # never sought: the process writes where that would stand
        return os.pread(file, os.fstat(file).st_size, 0).decode(errors="replace")

    def cpu(self) -> float:
        """Seconds of CPU that it has used so far."""
        times = self.process.cpu_times()
        return times.user + times.system

    def metrics(self) -> dict[str, float]:
        """Every sample as `name{labels}` → value."""
        text = httpx.get(f"http://127.0.0.1:{self.metrics_port}/metrics").text
        lines = (line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, value in lines}

    def emptied(self, patience: float = _PATIENCE) -> dict[str, float]:
        """The metrics as soon as no stream is open, or as they are after `patience` seconds."""
        deadline = monotonic() + patience
        while (found := self.metrics())["poseline_sessions_active"] and monotonic() < deadline:
            sleep(0.05)
        return found


@contextmanager
def serving(models: Path, model: str | None = None, **settings: object) -> Iterator[Server]:
    """`poseline serve` with settings by name, ready. Raises DidNotStart."""
    ports = _free_ports()
    given = {"models": models, "port": ports[0], "metrics_port": ports[1], **settings}
    given |= {"model": model} if model else {}
    clean = {name: value for name, value in os.environ.items() if not name.startswith("POSELINE_")}
    environment = clean | {f"POSELINE_{name.upper()}": str(value) for name, value in given.items()}
    with _started(["-m", "poseline_cli", "serve"], environment, ports, "/readyz") as server:
        yield server


@contextmanager
def storing() -> Iterator[str]:
    """The address of a Redis, empty and without a file. Raises DidNotStart."""
    port, _ = _free_ports()
    with tempfile.TemporaryDirectory() as folder:
        command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        try:
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        except FileNotFoundError:
            raise DidNotStart("redis-server is not installed") from None
        try:
            if not _answers(process, port, None):
                raise DidNotStart("redis-server did not start")
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.terminate()
            process.wait()


@contextmanager
def echoing() -> Iterator[Server]:
    """A bare WebSocket echo. Raises DidNotStart."""
    ports = _free_ports()
    with _started(["-c", _ECHO, str(ports[0])], dict(os.environ), ports, None) as server:
        yield server


@contextmanager
def _started(
    arguments: list[str], environment: dict[str, str], ports: tuple[int, int], probe: str | None
) -> Iterator[Server]:
    environment = environment | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with tempfile.TemporaryFile() as written:  # not a pipe, which nobody would read
        process = subprocess.Popen([sys.executable, *arguments], env=environment, stdout=written, stderr=written)
        try:
            if not _answers(process, ports[0], probe):
                written.seek(0)
                raise DidNotStart(written.read().decode(errors="replace"))
            yield Server(*ports, psutil.Process(process.pid), written)
        finally:
            process.send_signal(signal.SIGTERM)  # does nothing where it has ended by itself
            try:
                process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _answers(process: subprocess.Popen[bytes], port: int, probe: str | None) -> bool:
    """It accepts connections, and says 200 on `probe`."""
    deadline = monotonic() + _PATIENCE
    while monotonic() < deadline and process.poll() is None:
        try:
            if probe is None:
                socket.create_connection(("127.0.0.1", port)).close()
                return True
            if httpx.get(f"http://127.0.0.1:{port}{probe}").status_code == 200:
                return True
        except (OSError, httpx.TransportError):
            pass
        sleep(0.02)
    return False


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:  # both held open, or the same could be had twice
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]
