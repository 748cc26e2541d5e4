"""What many tests share: a tiny bundle, and one real server that runs it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from servers import ServerProcess, free_ports
from tiny_bundle import write_bundle


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of bundles with the tiny one as default."""
    folder = tmp_path_factory.mktemp("models")
    write_bundle(folder)
    return folder


@pytest.fixture(scope="session")
def server(models: Path) -> Iterator[ServerProcess]:
    """A server that every test may use; it must survive all of them."""
    process = ServerProcess(models)
    try:
        yield process.ready()
        assert process.process.poll() is None
    finally:
        process.stop()


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Redis, empty at first and without a file; its address."""
    port, _ = free_ports()
    folder = tmp_path_factory.mktemp("redis")
    command = ["redis-server", "--port", str(port), "--save", "", "--appendonly", "no", "--dir", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    yield f"redis://127.0.0.1:{port}/0"
    process.terminate()
    process.wait()


@pytest.fixture
def serve(models: Path) -> Iterator[Callable[..., ServerProcess]]:
    """Start a server of one's own, with settings."""
    started: list[ServerProcess] = []

    def start(folder: Path = models, **settings: object) -> ServerProcess:
        started.append(ServerProcess(folder, **settings))
        return started[-1]

    yield start
    for process in started:
        process.stop()
