"""A real server process for tests: started on free ports, waited for on /readyz, ended with SIGTERM."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

PATIENCE = 30.0
"""Seconds after which something that should happen counts as not happening."""


def free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:  # both held open, or the same could be had twice
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


class ServerProcess:
    """`poseline serve` with settings from keyword arguments: `ServerProcess(models, max_sessions=2)`."""

    def __init__(self, models: Path, **settings: object) -> None:
        self.port, self.metrics_port = free_ports()
        self.url = f"http://127.0.0.1:{self.port}"
        self.ws = f"ws://127.0.0.1:{self.port}/v1/stream"
        # Admission by measured load is tested where it is meant: elsewhere a busy machine must not refuse anybody.
        easy = {"load_limit": 1e6, "late_limit": 1e6}
        given = {"models": models, "port": self.port, "metrics_port": self.metrics_port, **easy, **settings}
        clean = {name: value for name, value in os.environ.items() if not name.startswith("POSELINE_")}
        roots = [path for path in sys.path if path]
        # A file, not a pipe: nobody reads while the server runs, and a full pipe would stop it in the middle of a line.
        self._written = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as the process)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "poseline_cli", "serve"],
            env=clean
            | {f"POSELINE_{name.upper()}": str(value) for name, value in given.items()}
            | {"PYTHONPATH": os.pathsep.join(roots)},
            stderr=self._written,
        )
        self.log: str | None = None

    def wait_for(self, path: str, status: int = 200) -> httpx.Response:
        """Ask until the answer has that status."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                answer = httpx.get(self.url + path)
            except httpx.TransportError:
                answer = None
            if answer is not None and answer.status_code == status:
                return answer
            time.sleep(0.02)
        raise AssertionError(f"{path} never answered {status}; the server said: {self.stop()}")

    def ready(self) -> ServerProcess:
        self.wait_for("/readyz")
        return self

    def metrics(self) -> dict[str, float]:
        """Every sample as `name{labels}` → value."""
        text = httpx.get(f"http://127.0.0.1:{self.metrics_port}/metrics").text
        lines = (line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, value in lines}

    def wait_for_metric(self, name: str, value: float) -> None:
        deadline = time.monotonic() + PATIENCE
        while (found := self.metrics().get(name)) != value:
            assert time.monotonic() < deadline, f"{name} stays {found}, expected {value}"
            time.sleep(0.02)

    def signal(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def stop(self) -> str:
        """End the process; its log."""
        if self.log is None:
            self.signal()
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise AssertionError(f"the server did not stop: {self._read_log()}") from None
            self._read_log()
        return self.log or ""

    def _read_log(self) -> str:
        with self._written:
            self._written.seek(0)
            self.log = self._written.read().decode()
        return self.log
