"""What many tests share: a tiny bundle, and one real server that runs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from poseline_bench.processes import storing
from servers import ServerProcess
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


@pytest.fixture(scope="session")
def redis() -> Iterator[str]:
    """The address of a real Redis, empty and without a file."""
    with storing() as url:
        yield url
